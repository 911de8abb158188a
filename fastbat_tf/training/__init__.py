"""What trains a Keras model: `RobustClassifier` and its parts."""
