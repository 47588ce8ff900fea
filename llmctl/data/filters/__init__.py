"""Filters: a row -> kept, or the reason why not."""
