"""Text in PNGs: what is kept of it, and in a form that all readers take; and the profiles that hide in it."""

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from PIL import PngImagePlugin

from imagewizard.images.png_chunks import Chunk, text_of

KINDS = (b"tEXt", b"zTXt", b"iTXt")
COMMENT, XMP = b"Comment", b"XML:com.adobe.xmp"
_PROFILE = b"Raw profile type "
_PROFILES = ("exif", "app1", "iptc", "8bim", "icc", "icm", "xmp")
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
"""What a JPEG's APP1 begins with."""
MOST_COMPRESSED = PngImagePlugin.MAX_TEXT_CHUNK - 1
"""What may come out of compressed text or a profile: Pillow refuses the image for more. Plain text may be longer."""
LONGEST = 7_900_000
"""Of a text that is not compressed: libpng leaves out chunks of over 8,000,000 bytes."""
MOST_PROFILE = MOST_COMPRESSED * 72 // 146 - 100
"""Of what is written as text in hexadecimal: two digits a byte, 72 on a line."""
_MOST_IN_ALL = PngImagePlugin.MAX_TEXT_MEMORY // 2
"""Pillow refuses the whole image for more."""
_DEFLATED = 1032
"""Bytes that a byte may become at most."""


class Texts(NamedTuple):
    """The text of a PNG."""

    kept: tuple[Chunk, ...]
    """Chunks that are read everywhere."""
    profiles: dict[str, bytes]
    """What is text in its outer form only: xmp, and what ImageMagick writes as exif, app1, iptc, 8bim, icc, icm."""
    left_out: tuple[str, ...]
    """Keywords of those that are damaged or too long."""

    @property
    def exif(self) -> bytes | None:
        app1 = self.profiles.get("app1", b"")
        return self.profiles.get("exif", app1 if app1.startswith(_EXIF) else None)

    @property
    def xmp(self) -> bytes | None:
        app1 = self.profiles.get("app1", b"")
        return self.profiles.get("xmp", app1.removeprefix(_XMP) if app1.startswith(_XMP) else None)


def read(chunks: Iterable[Chunk]) -> Texts:
    kept, profiles, left_out = list[Chunk](), dict[str, bytes](), list[str]()
    room = _MOST_IN_ALL
    for chunk in chunks:
        if chunk.kind not in KINDS:
            continue
        key, most = keyword(chunk), min(LONGEST, room)
        found = text_of(*chunk, most)
        unpacked = min(_DEFLATED * len(chunk.body), most) if found is None else len(found)
        name = key.removeprefix(_PROFILE).decode("latin-1").lower() if key.startswith(_PROFILE) else None
        if found is None or not 0 < len(key) < 80 or len(found) > most:
            left_out.append(key.decode("latin-1")[:80])
            if unpacked <= len(chunk.body):
                continue  # it has cost nothing
        elif key == XMP:
            profiles.setdefault("xmp", found)
        elif name in _PROFILES:
            profiles.setdefault(name, _unpacked(found))
            if not profiles[name]:
                left_out.append(key.decode("latin-1"))
        else:
            kept.append(chunk if len(found) <= MOST_COMPRESSED else _plain(chunk, key, found))
        room -= min(unpacked, room)
    return Texts(tuple(kept), {name: data for name, data in profiles.items() if data}, tuple(left_out))


def keyword(chunk: Chunk) -> bytes:
    return chunk.body.partition(b"\0")[0]


def text(chunk: Chunk) -> bytes:
    """The text of a chunk that is kept."""
    return text_of(*chunk) or b""


def _plain(chunk: Chunk, key: bytes, text: bytes) -> Chunk:
    """The chunk without compression."""
    if chunk.kind != b"iTXt":
        return Chunk(b"tEXt", key + b"\0" + text)
    language, translated, _ = chunk.body[len(key) + 3 :].split(b"\0", 2)
    return Chunk(b"iTXt", key + bytes(3) + language + b"\0" + translated + b"\0" + text)


def _unpacked(text: bytes) -> bytes:
    """What stands in hexadecimal behind a name and a length, each on a line; nothing if it is damaged."""
    try:
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return b""


def comment(text: bytes) -> Chunk | None:
    """A comment of another format as a PNG's text; None without one."""
    text = text.rstrip(b"\0")
    if not text or b"\0" in text or len(text) > LONGEST:
        return None
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return Chunk(b"tEXt", COMMENT + b"\0" + text)
    return Chunk(b"tEXt", COMMENT + b"\0" + text) if text.isascii() else _international(COMMENT, text)


def _international(key: bytes, text: bytes) -> Chunk:
    return Chunk(b"iTXt", key + bytes(5) + text)


def xmp(packet: bytes) -> Chunk:
    """The chunk of an XMP packet (XMP part 3, 1.1.5): not compressed."""
    return _international(XMP, packet)


def profile(name: str, data: bytes) -> Chunk:
    """Data as ImageMagick writes profiles that PNG has no chunk for."""
    digits = data.hex()
    lines = "\n".join(digits[start : start + 72] for start in range(0, len(digits), 72))
    text = f"\n{name}\n{len(data):8}\n{lines}\n".encode()
    return Chunk(b"zTXt", _PROFILE + name.encode() + b"\0\0" + zlib.compress(text))


def written(chunks: Iterable[Chunk]) -> Iterator[bytes]:
    """Each chunk as it stands in a file."""
    for kind, body in chunks:
        yield struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
