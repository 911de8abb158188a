"""The machine: processor, GPU and terminal."""
