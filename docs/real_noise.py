"""Scores blind restoration of real photographs against the best fixed level of each.

python -m docs.real_noise FOLDER

FOLDER holds pairs, `NAME_real.*` and `NAME_mean.*`. A camera is the part of NAME before the first underscore.
"""

import sys
from collections import defaultdict

import numpy as np
from PIL import Image

import imagewizard as iw
from imagewizard.manifest import pairs
from imagewizard.noise import level

SIGMAS = (3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 17, 20, 25)


def main(folder: str) -> None:
    """Prints a line an image, then means by camera and of all."""
    denoiser = iw.Denoiser.from_pretrained()
    rows: dict[str, list[tuple[float, float, float, float]]] = defaultdict(list)
    print("| image | noisy | level found | restored | best level | restored |\n|---|---|---|---|---|---|")
    for pair in pairs.match(folder, folder, ("FOLDER", "FOLDER")):
        noisy, clean = (np.asarray(Image.open(uri).convert("RGB")) for uri in (pair.noisy, pair.clean))
        found = level.find(noisy).level or 0.0
        restored = [denoiser(noisy), *denoiser([noisy] * len(SIGMAS), list(SIGMAS))]
        blind, *others = (iw.psnr(image, clean) for image in restored)
        before, best = iw.psnr(noisy, clean), int(np.argmax(others))
        values = f"{before:.2f} | {found:.1f} | {blind:.2f} | {SIGMAS[best]} | {others[best]:.2f}"
        print(f"| {pair.name} | {values} |", flush=True)
        for group in (pair.name.partition("_")[0], "all"):
            rows[group].append((before, blind, others[best], blind - before))
    for group, scores in sorted(rows.items()):
        before, blind, best, _ = np.mean(scores, axis=0)
        worst = min(gain for *_, gain in scores)
        print(
            f"| **{group}, {len(scores)}** | {before:.2f} | | {blind:.2f} | | {best:.2f} | worst gain {worst:+.2f} dB"
        )


if __name__ == "__main__":
    main(sys.argv[1])
