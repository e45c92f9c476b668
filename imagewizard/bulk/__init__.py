"""What one block of a bulk job goes through: noise, denoise, score, write. Knows no Ray."""
