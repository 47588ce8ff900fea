"""Rows that can be trained on: built, filtered, deduplicated."""
