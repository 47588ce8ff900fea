"""Streams: where events about documents come from."""
