"""The mathematics of a DDPM as a denoiser. Knows no storage and no run."""
