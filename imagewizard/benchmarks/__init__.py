"""What the pipeline makes of a machine."""
