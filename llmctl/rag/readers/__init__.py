"""Readers: file -> text, title and meta."""
