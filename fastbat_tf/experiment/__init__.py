"""The program: a run, from its config to its results."""
