"""Models in files: SavedModels, Keras files, weights."""
