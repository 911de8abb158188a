"""The training step without TensorFlow: export, run anywhere, load back."""
