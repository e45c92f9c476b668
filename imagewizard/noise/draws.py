"""Draws standard normal values on the CPU: by numba, or by numpy where numba is missing, with the same bits."""

import functools
from collections.abc import Callable

import numpy as np

from imagewizard import seeding
from imagewizard.noise import normal


def standard_normal(key: int, count: int) -> np.ndarray:
    """The first `count` of normal.standard_normal's values for the words of `key`: float32."""
    return _version()(key, count)


@functools.cache
def _version() -> Callable[[int, int], np.ndarray]:
    """numba takes half a second to import: not before the first draw."""
    try:
        from imagewizard.noise import kernel
    except ImportError:
        return _by_numpy
    return kernel.standard_normal


def _by_numpy(key: int, count: int) -> np.ndarray:
    return normal.standard_normal(seeding.words(key, -(-count // 2)))[:count]
