"""Reads and writes models: SavedModels, Keras files, weights."""
