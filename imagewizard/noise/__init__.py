"""Noise: added to clean images, and its level estimated in noisy ones."""
