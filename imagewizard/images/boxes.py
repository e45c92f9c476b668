"""The boxes of ISO/IEC 14496-12, which AVIF and JPEG XL files are made of."""

import struct
from collections.abc import Iterator
from typing import NamedTuple


class Box(NamedTuple):
    """A box at the top of a file."""

    kind: bytes
    body: bytes
    is_whole: bool
    """Whether the file does not end before the box does."""


def boxes(data: bytes) -> Iterator[Box]:
    """The boxes of a file that begins with one."""
    place = 0
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        start = place + 8
        if length == 1 and start + 8 <= len(data):
            (length,) = struct.unpack_from(">Q", data, start)
            start += 8
        end = len(data) if length == 0 else place + length
        if end < start:
            return
        yield Box(kind, data[start:end], end <= len(data))
        place = end


def are_cut(data: bytes) -> bool:
    """Whether the last box is not whole, or none is."""
    wholes = [box.is_whole for box in boxes(data)]
    return not wholes or not wholes[-1]
