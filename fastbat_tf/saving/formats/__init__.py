"""The formats in which a classifier can be exported, one module each."""
