"""The manifest: the images of a run, listed once."""
