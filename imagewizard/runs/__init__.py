"""The files of a run: job, results, summary, status."""
