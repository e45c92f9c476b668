"""Draws docs/picture.jpg, the README's picture: noisy | denoised, of scikit-image's astronaut (NASA, public domain).

python -m docs.picture
"""

from pathlib import Path

import numpy as np
from PIL import Image
from skimage.data import astronaut

import imagewizard as iw

PICTURE = Path(__file__).with_name("picture.jpg")
SIGMA = 50


def draw() -> Image.Image:
    """Half noisy, half denoised crops beside each other, and their PSNR on the terminal."""
    clean = astronaut()[:300, 60:440]
    noisy = iw.add_noise(clean, sigma=SIGMA, key="astronaut")
    denoised = iw.denoise(noisy, sigma=SIGMA)
    print(f"PSNR {iw.psnr(noisy, clean):.2f} → {iw.psnr(denoised, clean):.2f} dB at sigma {SIGMA}")
    gap = np.full((len(clean), 8, 3), 255, np.float32)
    sheet = np.concatenate([noisy, gap, denoised], axis=1)
    return Image.fromarray(sheet.clip(0, 255).round().astype(np.uint8))


if __name__ == "__main__":
    draw().save(PICTURE, quality=80)
    print(f"wrote {PICTURE}, {PICTURE.stat().st_size} bytes")
