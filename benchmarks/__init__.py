"""What measures speed; ratios within one run, never a test."""
