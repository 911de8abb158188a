"""The report of runs: one page that answers eleven questions about them."""
