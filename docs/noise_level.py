"""Compares estimates of the noise level with scikit-image's, on the demo's photographs: docs/models.md has the table.

scikit-image's estimate wants PyWavelets, which this project does not: `pip install PyWavelets` first, then

python -m docs.noise_level
"""

import numpy as np
from PIL import Image
from skimage.restoration import estimate_sigma

import imagewizard as iw
from jobs.demo import photos

SIGMAS = (0, 5, 10, 15, 25, 50)


def main() -> None:
    """Prints mean absolute errors, on the 0-255 scale, of noise added to 8-bit photographs and clipped to 8 bits."""
    images = {path: np.asarray(Image.open(path).convert("RGB")) for path in photos()}
    print("| σ | here | scikit-image |\n|---|---|---|")
    for sigma in SIGMAS:
        errors = []
        for path, clean in images.items():
            noisy = iw.add_noise(clean, sigma=sigma, key=path.rpartition("/")[2]).clip(0, 255).round().astype(np.uint8)
            found = iw.estimate_sigma(noisy), float(estimate_sigma(noisy, channel_axis=-1, average_sigmas=True))
            errors.append([abs(level - sigma) for level in found])
        here, theirs = np.mean(errors, axis=0)
        print(f"| {sigma} | {here:.2f} | {theirs:.2f} |")


if __name__ == "__main__":
    main()
