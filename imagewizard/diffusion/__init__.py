"""The mathematics of a DDPM as a denoiser. Independent of storage and runs."""
