"""Embedders: texts -> vectors."""
