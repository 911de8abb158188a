"""What the program runs on: processor, GPU, terminal."""
