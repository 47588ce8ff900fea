"""Selectors: all rows -> the ones that are worth training on, and why the others leave."""
