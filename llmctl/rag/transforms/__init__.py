"""Transforms: what happens to a question before it is searched."""
