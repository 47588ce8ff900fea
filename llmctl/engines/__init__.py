"""Engines: messages -> text and log-probabilities; build-dataset, eval and serve share them."""
