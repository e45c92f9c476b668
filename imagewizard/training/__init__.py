"""Training: samples, losses, steps, validation, checkpoints and export. Does not import Ray."""
