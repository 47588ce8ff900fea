"""Ways to find benchmark items in training rows."""
