"""Rows that models write: prompts, budgets, checked replies, one cache."""
