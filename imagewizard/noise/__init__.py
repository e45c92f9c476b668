"""Adds noise to clean images, and estimates the noise level of noisy ones."""
