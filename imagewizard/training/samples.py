"""Training samples are a function of (seed, epoch, image id) alone, whatever the device, resume or number of workers.

An image's key (`key`) and an epoch give random words. Words of the stream PLACE decide the crop's position, turn,
noise level and noisy version; words of the stream NOISE are its white noise.
"""

import functools

import numpy as np

from imagewizard import seeding
from imagewizard.diffusion.schedule import NoiseSchedule

PLACE, NOISE = 0, 1
# Noise levels are drawn from a table of this size, so that no device has to compute a schedule. Between 2 and 75 the
# table has steps of 0.02 grey levels, far below any visible difference.
LEVELS = 4096


def key(seed: int, image_id: str) -> int:
    """The 128-bit key from which all samples of an image are drawn."""
    return seeding.key(seed, image_id, "sample")


def places(seed: int, images: int, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(epochs, image indices), int64 (count,) each, of the endless sample stream from position `first` on.

    Every epoch draws each of the `images` images once, in its own order.
    """
    epochs, offsets = np.divmod(np.arange(first, first + count), images)
    indices = np.empty(count, np.int64)
    for epoch in np.unique(epochs):
        indices[epochs == epoch] = _order(seed, images, int(epoch))[offsets[epochs == epoch]]
    return epochs, indices


@functools.lru_cache(maxsize=2)  # a batch may lie across two epochs
def _order(seed: int, images: int, epoch: int) -> np.ndarray:
    return seeding.generator(seed, epoch, "order").permutation(images)


def padded(image: np.ndarray, size: int) -> np.ndarray:
    """`image` (H, W, 3), with sides shorter than `size` reflect-padded at the bottom or right."""
    height, width = image.shape[:2]
    if height >= size and width >= size:
        return image
    return np.pad(image, ((0, max(0, size - height)), (0, max(0, size - width)), (0, 0)), mode="reflect")


def crop(image: np.ndarray, size: int, key: int, epoch: int) -> np.ndarray:
    """A random `size` x `size` crop of `image` (uint8, (H, W, 3)), turned and flipped at random."""
    image = padded(image, size)
    place, turn = (int(word) for word in seeding.words(key, 2, PLACE, epoch))
    top = ((place & 0xFFFFFFFF) * (image.shape[0] - size + 1)) >> 32
    left = ((place >> 32) * (image.shape[1] - size + 1)) >> 32
    patch = np.rot90(image[top : top + size, left : left + size], k=turn & 3)
    return patch[:, ::-1] if turn & 4 else patch


def version(share: float, count: int, key: int, epoch: int) -> int | None:
    """Which of an image's `count` noisy versions a crop takes; None: it gets white noise, as all but `share` do."""
    word = int(seeding.words(key, 4, PLACE, epoch)[3])
    return ((word >> 32) * count) >> 32 if (word & 0xFFFFFFFF) < round(share * 2**32) else None


def levels(sigma: tuple[float, float], timesteps_of: NoiseSchedule | None = None) -> np.ndarray:
    """The LEVELS noise levels from which one is drawn, rising, float64, 0-255 scale, within the two of `sigma`.

    Evenly spaced, or in the timestep of a given schedule.
    """
    share = (np.arange(LEVELS) + 0.5) / LEVELS
    if timesteps_of is None:
        return sigma[0] + share * (sigma[1] - sigma[0])
    first, last = (timesteps_of.timestep(level) for level in sigma)
    alpha_bar = np.array([timesteps_of.alpha_bar(t) for t in first + share * (last - first)])
    # Clipped, because the conversion to timesteps and back rounds, and stops at the schedule's lowest level.
    return np.clip(127.5 * np.sqrt((1.0 - alpha_bar) / alpha_bar), *sigma)
