"""Distributed batch denoising of images with diffusion models, on Ray."""

__version__ = "0.1.0"
