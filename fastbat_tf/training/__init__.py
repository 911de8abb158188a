"""Trains Keras classifiers: `RobustClassifier` and its parts."""
