"""What a model is tuned to do: to write or to find."""
