"""Writes the model card, the README.md beside an exported model."""
