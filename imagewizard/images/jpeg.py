"""JPEGs that Pillow refuses: samples of more or fewer than 8 bits, and files that lack nothing but their end marker.

imagecodecs (libjpeg-turbo) is imported where it is used: most images are read without it.
"""

import re
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from imagewizard.images import deep_colour

_END = b"\xff\xd9"
_START_OF_SCAN = 0xDA
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # SOF markers; the others among them are DHT, JPG and DAC
_KINDS = {5: "hierarchical", 6: "hierarchical", 7: "hierarchical", 11: "arithmetic-coded lossless"}
_KINDS |= {13: "hierarchical", 14: "hierarchical", 15: "hierarchical"}
"""What libjpeg-turbo does not decode, by the process, the marker's last four bits."""
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # within a scan: neither a stuffed zero nor a restart
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")


class Frame(NamedTuple):
    """The frame header (ITU-T T.81, B.2.2)."""

    process: int
    """0 baseline, 1 extended, 2 progressive, 3 lossless, …"""
    bits: int
    height: int
    width: int
    components: bytes
    """Their names."""
    place: int
    """Where the number of bits stands in the file."""

    def unsupported(self) -> str | None:
        """What makes it a kind that is not decoded; None if it is decoded."""
        if self.process in _KINDS:
            return f"{_KINDS[self.process]} JPEG"
        if self.height == 0:
            return "JPEG that gives its height after its pixels"
        return None if len(self.components) in (1, 3, 4) else f"JPEG with {len(self.components)} channels"


def frame(data: bytes) -> Frame:
    """The first frame header. Raises ValueError where there is none."""
    for marker, body, place in segments(data):
        if marker in _FRAMES and len(body) >= 6:
            bits, height, width, count = struct.unpack_from(">BHHB", body)
            return Frame(marker & 15, bits, height, width, body[6::3][:count], place)
    raise ValueError("truncated JPEG: it ends before its frame")


def with_bits(data: bytes, header: Frame, bits: int) -> bytes:
    """The file with another number of bits in its header, for a decoder that shall read what is beside the pixels."""
    return data[: header.place] + bytes([bits]) + data[header.place + 1 :]


def without_what_stops_pillow(data: bytes) -> bytes:
    """The file without the segments that Pillow refuses an image for if they are damaged.

    They are JFIF's (APP0), Photoshop's (APP13), and Adobe's (APP14) where it is cut short.
    """
    kept, start = list[bytes](), 0
    for marker, body, place in segments(data):
        if marker in (0xE0, 0xED) or (marker == 0xEE and len(body) < 12):
            kept.append(data[start : place - 4])
            start = place + len(body)
        elif marker == _START_OF_SCAN:
            break
    return b"".join([*kept, data[start:]])


def read(data: bytes, header: Frame) -> np.ndarray:
    """The samples of a JPEG of 2-7 or 9-16 bits as uint8 or uint16, (H, W, 1, 3 or 4), full range.

    RGB, grey or CMYK (as stored: inverted where Adobe's programs wrote it). Orientation as stored.
    Raises ValueError for what libjpeg refuses, and for a file that is cut off.
    """
    if (whole := with_end(data, _decoded)) is None:
        raise ValueError("truncated JPEG")
    return np.atleast_3d(deep_colour.spread(_decoded(whole), header.bits))


def _decoded(data: bytes) -> np.ndarray:
    import imagecodecs

    try:
        return imagecodecs.jpeg8_decode(data)
    except imagecodecs.Jpeg8Error as error:
        raise ValueError(f"libjpeg: {error}") from error


def with_end(data: bytes, decoded: Callable[[bytes], np.ndarray]) -> bytes | None:
    """The file as it is if it has its end marker, or with one if that is all it lacks; None if pixels are missing.

    `decoded` gives the pixels of a file with an end marker. It fills up what is missing, so it decodes the file with
    three different ends: the pixels are the same only if it needed none of them.
    """
    if _is_ended(data):
        return data
    if not _has_all_scans(data):
        return None
    data = data.rstrip(b"\xff")  # half of a marker
    restarts = _RESTART.findall(data)
    number = restarts[-1][1] + 1 if restarts else 0
    ended = data + _END
    pixels = decoded(ended)
    for noise in (b"\x5a\xa5\x33\xcc" * 64, b"\xe1\x07\x9c\x70" * 64):
        # A decoder that waits for a restart skips all else, so they follow, in order.
        intervals = [b"\xff" + bytes([0xD0 + (number + index) % 8]) + noise for index in range(16)]
        if not np.array_equal(pixels, decoded(data + noise + b"".join(intervals) + _END)):
            return None
    return ended


def segments(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Marker, body and the body's place of each segment; the coded pixels behind a scan's header are passed over."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD7:  # fill, and markers without a body
            place += 1 if marker == 0xFF else 2
            continue
        if marker == _END[1]:
            return
        (length,) = struct.unpack_from(">H", data, place + 2)
        yield marker, data[place + 4 : place + 2 + length], place + 4
        place += 2 + length
        if marker == _START_OF_SCAN:
            found = _MARKER.search(data, place)
            place = len(data) if found is None else found.start()


def _is_ended(data: bytes) -> bool:
    """Whether an end marker stands behind the last scan."""
    last = None
    for marker, body, place in segments(data):
        last = place + len(body) if marker == _START_OF_SCAN else last
    found = None if last is None else _MARKER.search(data, last)
    return found is not None and _END in data[found.start() :]


def _has_all_scans(data: bytes) -> bool:
    """Whether the scans begun give each component all coefficients to their last bit (T.81, B.2.3)."""
    header, given = frame(data), dict[int, set[int]]()
    for marker, body, _ in segments(data):
        if marker == _START_OF_SCAN and body and len(body) >= 4 + 2 * body[0]:
            names, (first, last, approximation) = body[1 : 1 + 2 * body[0] : 2], body[1 + 2 * body[0] :][:3]
            if header.process == 3:  # lossless: no coefficients
                first, last, approximation = 0, 63, 0
            for name in names if approximation & 15 == 0 else b"":
                given.setdefault(name, set()).update(range(first, last + 1))
    return all(len(given.get(name, ())) == 64 for name in header.components)
