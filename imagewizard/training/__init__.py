"""A training step and what surrounds it. Knows no Ray."""
