"""Random numbers that depend on names, not on the order in which work happens to be done."""

import hashlib
import json

import numpy as np


def key(*parts: str | int | float) -> int:
    """128 bits that depend on `parts` alone (run seed, image id, sigma, …). 25 and 25.0 are one part."""
    normalised = [float(part) if isinstance(part, int | float) else part for part in parts]
    digest = hashlib.blake2b(json.dumps(normalised).encode(), digest_size=16).digest()
    return int.from_bytes(digest, "little")


def generator(*parts: str | int | float) -> np.random.Generator:
    """A generator whose stream is a function of `parts` alone.

    Their key is that of a counter-based Philox generator, so neither batch size, order, worker nor retry changes what
    is drawn.
    """
    return np.random.Generator(np.random.Philox(key=key(*parts)))


def words(key: int, count: int, stream: int = 0, epoch: int = 0) -> np.ndarray:
    """`count` random uint64 by Philox 4×64-10 (Salmon et al. 2011), in numpy's C.

    Word 4j + i is word i of the block with the counter (j + 1, stream, epoch, 0), least significant first, so that any
    of them can be drawn without the others. noise.device draws the same with torch.
    """
    return np.random.Philox(key=key, counter=[0, stream, epoch, 0]).random_raw(count)
