"""Builders: documents and chunks -> examples or pairs."""
