"""Quantizers: weights -> fewer bits."""
