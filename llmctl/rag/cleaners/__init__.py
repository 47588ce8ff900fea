"""Cleaners: text -> text, with a count of what was removed."""
