"""Kinds of task: what a model is asked and what counts as right."""
