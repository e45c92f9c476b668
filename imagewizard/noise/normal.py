"""Random bits to standard normal values by operations that every processor rounds alike.

The inverse of the normal distribution is a table with linear interpolation between its entries, in integers: no
library's sin or log, which differ between machines, and no product and sum that a compiler may fuse into one rounding.
"""

import functools
from statistics import NormalDist

import numpy as np

# The table has so many entries (2^BITS) for each power of two of the tail's probability. The interpolation's error is
# below 1e-5 everywhere.
BITS = 8
# Values are integers of 2^-SCALE_BITS.
SCALE_BITS = 24
_OCTAVES = 32
_MANTISSA_BITS = 23  # of a float32
FRACTION_BITS = _MANTISSA_BITS - BITS
FIRST = 127 << BITS
"""What the table's first entry has as the upper bits of a float32: those of 1.0."""


@functools.cache
def table() -> tuple[np.ndarray, np.ndarray]:
    """(values, differences to the next value), int32, each of length 8193.

    Entry i is the z >= 0 that a normal variable exceeds with the probability f / 2^33, where f is the float32 with the
    upper bits FIRST + i.
    """
    inverse = NormalDist().inv_cdf
    entries = np.arange((_OCTAVES << BITS) + 1)
    exceeding = np.ldexp(1.0 + (entries & ((1 << BITS) - 1)) / (1 << BITS), (entries >> BITS) - 33)
    values = np.array([round(-inverse(p) * (1 << SCALE_BITS)) for p in exceeding.tolist()], np.int32)
    return values, np.diff(values, append=values[-1:])


def standard_normal(words: np.ndarray) -> np.ndarray:
    """Two float32 values for each random uint64, shape (2n,): from its low 32 bits, then from its high ones.

    The top bit is the sign, the others the probability of exceeding the value. Greatest absolute value: 6.3.
    """
    bits = words.astype("<u8").view("<u4")
    tail = ((bits.astype(np.int64) & 0x7FFFFFFF) << 1 | 1).astype(np.float32).view(np.int32)
    index = (tail >> FRACTION_BITS) - FIRST
    values, differences = table()
    fixed = values[index] + ((differences[index] * (tail & ((1 << FRACTION_BITS) - 1))) >> FRACTION_BITS)
    return np.where(bits >> 31, -fixed, fixed).astype(np.float32) * np.float32(2.0**-SCALE_BITS)
