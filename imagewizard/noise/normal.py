"""Turns random bits into standard normal values, with operations that give the same bits on every processor.

The inverse of the normal distribution is a table with linear interpolation in integers. Drawing uses no library's sin
or log, which differ between machines, and no float product plus sum, which a compiler may fuse into one rounding. The
table's values are rounded to 2^-24, far coarser than a log's last bit; a test holds its hash.
"""

import functools
from statistics import NormalDist

import numpy as np

# The table has 2^BITS entries for each power of two of the tail probability. The interpolation error is below 1e-5
# everywhere.
BITS = 8
# Values are integers in units of 2^-SCALE_BITS.
SCALE_BITS = 24
_OCTAVES = 32
_MANTISSA_BITS = 23  # of a float32
FRACTION_BITS = _MANTISSA_BITS - BITS
FIRST = 127 << BITS
"""Upper bits of the float32 1.0, to which the table's first entry belongs."""


@functools.cache
def table() -> tuple[np.ndarray, np.ndarray]:
    """(values, differences to the next value), int32, each of length 8193.

    Entry i is the z >= 0 that a standard normal variable exceeds with probability f / 2^33; f is the float32 with the
    upper bits FIRST + i.
    """
    inverse = NormalDist().inv_cdf
    entries = np.arange((_OCTAVES << BITS) + 1)
    exceeding = np.ldexp(1.0 + (entries & ((1 << BITS) - 1)) / (1 << BITS), (entries >> BITS) - 33)
    values = np.array([round(-inverse(p) * (1 << SCALE_BITS)) for p in exceeding.tolist()], np.int32)
    return values, np.diff(values, append=values[-1:])


def standard_normal(words: np.ndarray) -> np.ndarray:
    """Two float32 values per random uint64, shape (2n,): the first from its low 32 bits, the second from its high ones.

    The top bit of each half is the sign, the others are the tail probability. The greatest absolute value is 6.3.
    """
    bits = words.astype("<u8").view("<u4")
    tail = ((bits.astype(np.int64) & 0x7FFFFFFF) << 1 | 1).astype(np.float32).view(np.int32)
    index = (tail >> FRACTION_BITS) - FIRST
    values, differences = table()
    fixed = values[index] + ((differences[index] * (tail & ((1 << FRACTION_BITS) - 1))) >> FRACTION_BITS)
    return np.where(bits >> 31, -fixed, fixed).astype(np.float32) * np.float32(2.0**-SCALE_BITS)
