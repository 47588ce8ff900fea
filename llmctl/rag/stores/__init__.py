"""Stores: vectors kept and found."""
