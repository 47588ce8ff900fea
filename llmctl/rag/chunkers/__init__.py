"""Chunkers: text -> spans."""
