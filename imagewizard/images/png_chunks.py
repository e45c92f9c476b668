"""The chunks of a PNG: those that its pixels need, and what is said beside them.

Pillow and libpng have limits on text and profiles, and refuse an image for them; so they get to see the pixels alone.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CRITICAL = 0x20
"""The bit of a chunk's first letter that says, where it is unset, that the image cannot be decoded without it."""
MOST_INFLATED = 1 << 24
"""Bytes that a compressed profile or text may have: the largest profiles are about 4 MB."""


class Chunk(NamedTuple):
    """A chunk whose checksum is right."""

    kind: bytes
    body: bytes


@dataclass(frozen=True)
class Chunks:
    """What a PNG consists of."""

    pixels: bytes
    """A PNG with the same pixels, and nothing but: header, palette, transparency, pixel data."""
    ancillary: tuple[Chunk, ...]
    """All others, in order. Those of an animation and those whose checksum is wrong are left out."""
    damaged: tuple[bytes, ...]
    """The kinds of those whose checksum is wrong."""

    @classmethod
    def read(cls, data: bytes) -> "Chunks":
        """The chunks of a PNG. What follows IEND does not count; IEND itself may be missing.

        Raises ValueError for a cut or broken chunk that the pixels need, and for pixel data that others interrupt.
        """
        needed: list[bytes | memoryview] = [SIGNATURE]
        ancillary, damaged, last = list[Chunk](), list[bytes](), b""
        for kind, body, chunk, is_sound in _chunks(data):
            if kind == b"IDAT" != last and len(needed) > 1 and needed[-1][4:8] == b"IDAT":
                raise ValueError("broken PNG file (its pixel data is interrupted)")
            last = kind
            is_critical = not kind[0] & _CRITICAL
            if is_critical and not is_sound:
                raise ValueError(f"broken PNG file (wrong checksum in {kind.decode()})")
            if (is_critical or kind == b"tRNS") and is_sound:
                needed.append(chunk)
            elif is_sound and kind not in (b"acTL", b"fcTL", b"fdAT"):
                ancillary.append(Chunk(kind, bytes(body)))
            elif not is_sound:
                damaged.append(kind)
        return cls(b"".join([*needed, _END]), tuple(ancillary), tuple(damaged))

    def info(self) -> dict[str | tuple[int, int], bytes]:
        """Profile and EXIF, as Pillow names them in `Image.info`: the first of each.

        A profile that is broken or over MOST_INFLATED is left out.
        """
        first, found = dict(reversed(self.ancillary)), dict[str | tuple[int, int], bytes]()
        profile = inflated(first[b"iCCP"].partition(b"\0")[2][1:]) if b"iCCP" in first else None
        if profile and len(profile) <= MOST_INFLATED:
            found["icc_profile"] = profile
        if b"eXIf" in first:
            found["exif"] = b"Exif\0\0" + first[b"eXIf"]
        return found


_END = struct.pack(">I4sI", 0, b"IEND", zlib.crc32(b"IEND"))


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, memoryview, bool]]:
    """Kind, body and whole bytes of each chunk before IEND, and whether its checksum is right."""
    view, start = memoryview(data), len(SIGNATURE)
    while start + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, start)
        end = start + 12 + length
        if kind == b"IEND":
            return
        if not kind.isalpha():
            raise ValueError(f"broken PNG file (chunk {kind!r})")
        if end > len(data):
            if kind[0] & _CRITICAL:
                return  # pixel data lies in front of it, or is missing, which the decoder finds
            raise ValueError("truncated PNG file")
        body = view[start + 8 : end - 4]
        yield kind, body, view[start:end], zlib.crc32(view[start + 4 : end - 4]) == int.from_bytes(view[end - 4 : end])
        start = end


def text_of(kind: bytes, body: bytes, most: int = MOST_INFLATED) -> bytes | None:
    """The text of a tEXt, zTXt or iTXt chunk (PNG, third edition, 11.3.3); None if it is damaged.

    Of a compressed one no more than `most` + 1 bytes.
    """
    rest = body.partition(b"\0")[2]
    if kind == b"tEXt":
        return rest
    if kind == b"zTXt":
        return inflated(rest[1:], most) if rest[:1] == b"\0" else None
    if rest[:2] not in (b"\0\0", b"\0\1", b"\1\0"):
        return None  # libpng and Pillow do not agree on what that is
    is_compressed, parts = rest[:1] == b"\1", rest[2:].split(b"\0", 2)  # language, translated keyword, text
    if len(parts) < 3:
        return None
    return inflated(parts[-1], most) if is_compressed else parts[-1]


def inflated(data: bytes, most: int = MOST_INFLATED) -> bytes | None:
    """What was deflated, or its first `most` + 1 bytes; None if it is broken or cut off."""
    stream = zlib.decompressobj()
    try:
        inflated = stream.decompress(data, most + 1)
    except zlib.error:
        return None
    return inflated if stream.eof or len(inflated) > most else None
