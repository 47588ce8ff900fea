"""What is in a dataset: figures, topics, repeats and examples, for a person to look at."""
