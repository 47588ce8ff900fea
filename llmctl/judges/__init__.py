"""Judges: an answer -> a score with its reason, two answers -> which one is better."""
