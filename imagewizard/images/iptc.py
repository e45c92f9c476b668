"""IPTC records where files keep them: among Photoshop's image resources, or as text in a PNG."""

import struct

_PHOTOSHOP = b"Photoshop 3.0\0"
_IPTC_NAA = 0x0404
_TAG_MARKER = 0x1C
"""Every dataset begins with it (IPTC IIM 4.2)."""


def from_resources(data: bytes) -> bytes | None:
    """The records among image resources, as JPEG's APP13, TIFF's tag 34377 and PNG's text hold them; None without any.

    The layout: a signature, an id, a name with its length in front, a length, data; name and data padded to be even.
    """
    data = data.removeprefix(_PHOTOSHOP)
    at = 0
    while at + 12 <= len(data) and data[at : at + 4].isalnum():
        (number,) = struct.unpack_from(">H", data, at + 4)
        at += 6 + (data[at + 6] + 2) // 2 * 2
        if at + 4 > len(data):
            return None
        (size,) = struct.unpack_from(">I", data, at)
        if number == _IPTC_NAA:
            return data[at + 4 : at + 4 + size] or None
        at += 4 + (size + 1) // 2 * 2
    return None


def from_segments(segments: list[bytes]) -> bytes | None:
    """The records in a JPEG's APP13 segments, which continue each other; None without any."""
    return from_resources(b"".join(each[len(_PHOTOSHOP) :] for each in segments if each.startswith(_PHOTOSHOP)))


def from_text(data: bytes) -> bytes | None:
    """The records in what a PNG's text has in hexadecimal: they alone, or resources."""
    return data if data[:1] == bytes([_TAG_MARKER]) else from_resources(data)


def segment(iptc: bytes) -> bytes:
    """The contents of a JPEG's APP13."""
    return _PHOTOSHOP + struct.pack(">4sHHI", b"8BIM", _IPTC_NAA, 0, len(iptc)) + iptc + bytes(len(iptc) % 2)


def without_padding(iptc: bytes) -> bytes:
    """What a TIFF's tag of 32-bit numbers has, without the zeros that fill up the last one."""
    at = 0
    while at + 5 <= len(iptc) and iptc[at] == _TAG_MARKER:
        (size,) = struct.unpack_from(">H", iptc, at + 3)
        if size & 0x8000:  # the length of the length
            count = size & 0x7FFF
            size = int.from_bytes(iptc[at + 5 : at + 5 + count], "big") + count
        at += 5 + size
    return iptc[:at] if not iptc[at:].strip(b"\0") else iptc
