"""SQL over the rows of runs."""
