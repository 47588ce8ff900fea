"""Compressors: found passages -> what fits into a prompt."""
