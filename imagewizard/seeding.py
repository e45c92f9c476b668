"""Random generators that hang on names, not on the order in which work happens to be done."""

import hashlib
import json

import numpy as np


def generator(*key: str | int | float) -> np.random.Generator:
    """A generator whose stream is a function of `key` alone.

    The key (run seed, image id, sigma, …) is hashed as canonical JSON into the 128-bit key of a counter-based
    Philox generator, so neither batch size, order, worker nor retry changes what is drawn. 25 and 25.0 are one key.
    """
    normalised = [float(part) if isinstance(part, int | float) else part for part in key]
    digest = hashlib.blake2b(json.dumps(normalised).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
