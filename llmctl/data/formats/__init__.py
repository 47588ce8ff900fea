"""Formats: rows as other tools write them <-> examples, pairs, texts and labelled answers."""
