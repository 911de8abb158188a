"""Reads the weights of published PyTorch networks into those of the zoo."""
