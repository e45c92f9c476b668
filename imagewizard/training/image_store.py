"""Reads and decodes training images, caches them in memory, and refuses images of the benchmark."""

import time
from collections import OrderedDict
from typing import NamedTuple

import numpy as np

from imagewizard import storage
from imagewizard.config.train import TrainImage
from imagewizard.datasets import cbsd68
from imagewizard.errors import UserError, one_line
from imagewizard.images.errors import ImageError
from imagewizard.images.picture import decode_rgb
from imagewizard.sources.reading import byte_limit
from imagewizard.training import versions
from imagewizard.training.versions import Version

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
    """Decoded images by URI, and their noisy versions; the most recently used ones stay in memory."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()
        self._versions: OrderedDict[tuple[str, str | None, int, int], Version] = OrderedDict()
        self._unusable: dict[str, str] = {}
        self._room = self._versions_room = kept_bytes

    def load(self, uri: str) -> np.ndarray:
        """uint8 (H, W, 3). Raises UnusableImageError, and BenchmarkImageError for an image of CBSD68."""
        if uri in self._kept:
            self._kept.move_to_end(uri)
            return self._kept[uri]
        image = self._read(uri)
        self._kept[uri] = image
        self._room -= image.nbytes
        while self._room < 0:
            self._room += self._kept.popitem(last=False)[1].nbytes
        return image

    def version(self, image: TrainImage, clean: np.ndarray, number: int, seed: int) -> Version:
        """Noisy version `number` of an image, of which `clean` are the pixels. Raises as `load` does."""
        key = (image.uri, image.noisy_uri, number, seed)
        if key in self._versions:
            self._versions.move_to_end(key)
            return self._versions[key]
        if image.noisy_uri is None:
            found = versions.photographed(clean, image.image_id, number, seed)
        else:
            noisy = self._read(image.noisy_uri)
            if noisy.shape != clean.shape:
                sizes = " and ".join(f"{each.shape[1]} x {each.shape[0]}" for each in (noisy, clean))
                self._unusable[image.noisy_uri] = f"its noisy and its clean image differ in size ({sizes})"
                raise UnusableImageError(self._unusable[image.noisy_uri])
            found = versions.version(noisy, clean)
        self._versions[key] = found
        self._versions_room -= found.pixels.nbytes
        while self._versions_room < 0:
            self._versions_room += self._versions.popitem(last=False)[1].pixels.nbytes
        return found

    def _read(self, uri: str) -> np.ndarray:
        if uri in self._unusable:
            raise UnusableImageError(self._unusable[uri])
        try:
            image = decode_rgb(_read(uri), MAX_TRAINING_PIXELS)
        except (ImageError, OSError) as error:
            self._unusable[uri] = one_line(error)
            raise UnusableImageError(self._unusable[uri]) from None
        if name := cbsd68.match(image):
            raise BenchmarkImageError(name)
        return image


class LoadedImage(NamedTuple):
    """A training image and its noisy versions."""

    clean: np.ndarray
    """uint8 (H, W, 3)."""
    versions: list[Version]


def load(image: TrainImage, key: str, smallest: int = 0, camera: float = 0.0, seed: int = 0) -> LoadedImage | str:
    """An image, or the reason why it cannot be used: a side below `smallest`, for example.

    It has photographs if `camera`, the config's share, is above 0. Raises UserError with `key` for an image of the
    benchmark.
    """
    store = ImageStore(kept_bytes=0)
    try:
        clean = store.load(image.uri)
        if min(clean.shape[:2]) < smallest:
            return f"smaller than the crop of {smallest}"
        numbers = range(versions.count(image, camera))
        return LoadedImage(clean, [store.version(image, clean, number, seed) for number in numbers])
    except UnusableImageError as error:
        return str(error)
    except BenchmarkImageError as error:
        raise UserError(f"{image.image_id} is CBSD68's {error}, of the benchmark", "take it out", key) from None


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
