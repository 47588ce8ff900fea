"""How the weights follow the gradients: one optimizer, one file."""
