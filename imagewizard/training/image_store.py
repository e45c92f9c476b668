"""Reads and decodes training images, caches them in memory, and refuses images of the benchmark."""

import time
from collections import OrderedDict

import numpy as np

from imagewizard import storage
from imagewizard.datasets import cbsd68
from imagewizard.errors import UserError, one_line
from imagewizard.images.errors import ImageError
from imagewizard.images.picture import decode_rgb
from imagewizard.sources.reading import byte_limit

MAX_TRAINING_PIXELS = 100_000_000
MAX_BYTES = byte_limit(MAX_TRAINING_PIXELS)
# Decoded pixels that a process keeps: about 300 photographs of 0.25 megapixels, so that a small set is decoded once.
KEPT_BYTES = 256 << 20
READ_THREADS = 8
# Pauses between attempts to read. Each attempt includes the retries of boto or pyarrow.
RETRY_SECONDS = (1.0, 5.0, 15.0)


class UnusableImageError(Exception):
    """An image that training skips; the message is the reason."""


class BenchmarkImageError(Exception):
    """An image of the benchmark. A model measured on the benchmark must never train on it."""


class ImageStore:
    """Decoded images by URI; the most recently used ones stay in memory."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()
        self._unusable: dict[str, str] = {}
        self._room = kept_bytes

    def load(self, uri: str) -> np.ndarray:
        """uint8 (H, W, 3). Raises UnusableImageError, and BenchmarkImageError for an image of CBSD68."""
        if uri in self._unusable:
            raise UnusableImageError(self._unusable[uri])
        if uri in self._kept:
            self._kept.move_to_end(uri)
            return self._kept[uri]
        try:
            image = decode_rgb(_read(uri), MAX_TRAINING_PIXELS)
        except (ImageError, OSError) as error:
            self._unusable[uri] = one_line(error)
            raise UnusableImageError(self._unusable[uri]) from None
        if name := cbsd68.match(image):
            raise BenchmarkImageError(name)
        self._kept[uri] = image
        self._room -= image.nbytes
        while self._room < 0:
            self._room += self._kept.popitem(last=False)[1].nbytes
        return image


def load(image: tuple[str, str], key: str, smallest: int = 0) -> np.ndarray | str:
    """The pixels of an image (id, URI), or the reason why it cannot be used: a side below `smallest`, for example.

    Raises UserError with `key` for an image of the benchmark.
    """
    image_id, uri = image
    try:
        pixels = ImageStore(kept_bytes=0).load(uri)
    except UnusableImageError as error:
        return str(error)
    except BenchmarkImageError as error:
        raise UserError(f"{image_id} is CBSD68's {error}, of the benchmark", "take it out", key) from None
    return f"smaller than the crop of {smallest}" if min(pixels.shape[:2]) < smallest else pixels


def _read(uri: str) -> bytes:
    """Reads a file. A failing storage gets some seconds to recover, because an outage must not change the samples."""
    for pause in RETRY_SECONDS:
        try:
            return storage.read_bytes(uri, MAX_BYTES)
        except (FileNotFoundError, PermissionError, IsADirectoryError, storage.RefusedError):
            raise
        except OSError:
            time.sleep(pause)
    return storage.read_bytes(uri, MAX_BYTES)
