"""Rerankers: a second, slower look at the best candidates."""
