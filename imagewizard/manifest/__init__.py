"""What there is to do: the images of a run, listed once."""
