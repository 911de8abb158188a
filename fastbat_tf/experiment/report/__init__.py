"""The report of runs: one page that answers ten questions about them."""
