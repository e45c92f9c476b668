"""The images of the throughput benchmark: crops of photographs that come with scikit-image."""

from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image

PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
SIZES = (256, 192, 128, 96, 64)
MOST_SIZE = 300  # the height of chelsea.png
LEAST_SIZE = 16  # the structural similarity of a smaller image would mean little


def largest(rate: Callable[[int], float], count: int, seconds: float) -> int:
    """The largest of SIZES of which `count` images take the time given; the smallest if none does.

    `rate`: images a second of a size.
    """
    return next((size for size in SIZES if count <= rate(size) * seconds), SIZES[-1])


def write(folder: Path, count: int, size: int) -> list[Path]:
    """Writes `count` JPEG files of random crops of `size` x `size` pixels, the same on each call. 1 ms each."""
    folder.mkdir()
    photos = [np.asarray(Image.open(str(resources.files("skimage") / "data" / name)).convert("RGB")) for name in PHOTOS]
    rng = np.random.default_rng(0)
    paths = [folder / f"{index:05d}.jpg" for index in range(count)]
    for index, path in enumerate(paths):
        photo = photos[index % len(photos)]
        top, left = (int(rng.integers(side - size + 1)) for side in photo.shape[:2])
        crop = Image.fromarray(photo[top : top + size, left : left + size])
        crop.save(path, quality=95)
    return paths
