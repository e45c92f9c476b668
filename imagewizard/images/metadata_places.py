"""Where each format that is read keeps its metadata."""

import struct
from collections.abc import Iterable
from itertools import takewhile
from typing import Any

from imagewizard.images import avif, bmp, iptc, jpeg, jpeg_xl, png_text
from imagewizard.images.colour import CHUNKS, IS_SRGB
from imagewizard.images.decoding import Stored
from imagewizard.images.exif import IMAGE_RESOURCES, IPTC, LONG, XMP, Tags
from imagewizard.images.icc import Chromaticities
from imagewizard.images.metadata import Metadata, named, without
from imagewizard.images.png_chunks import SIGNATURE, Chunk
from imagewizard.images.resolution import Resolution
from imagewizard.images.stacks import without_stack

_APP0, _APP1, _APP13, _COMMENT, _START_OF_SCAN = 0xE0, 0xE1, 0xED, 0xFE, 0xDA
_EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_Fields = dict[str, Any]
"""Of Metadata."""


def found(data: bytes, stored: Stored) -> tuple[Metadata, list[str]]:
    """The metadata in a file's bytes, as it stands there, and what of it cannot come along."""
    notes = list[str]()
    said: _Fields = {"exif": stored.tags} | _said(data, stored, notes)
    if isinstance(stored.icc, bytes):
        said["icc"] = stored.icc
    if stored.is_srgb:
        said["colour"] = (IS_SRGB,)
    return Metadata(**said), notes


def _said(data: bytes, stored: Stored, notes: list[str]) -> _Fields:
    info = stored.info
    if data.startswith(SIGNATURE):
        return _of_png(info, notes)
    if data.startswith(b"\xff\xd8"):
        return {"xmp": info.get("xmp")} | _of_jpeg(data, notes)
    if data[:2] in (b"II", b"MM"):
        return _of_tiff(data, stored.orientation >= 5, notes)
    if jpeg_xl.is_one(data):
        return _of_jpeg_xl(data, notes)
    said = _of_info(info, notes)
    if data.startswith(b"BM"):
        said |= _colours_of_bmp(data, notes)
    elif data.startswith(b"GIF"):
        said["icc"] = _profile_of_gif(data)
    elif data[4:8] == b"ftyp" and "icc_profile" not in info:  # which counts before them; in a PNG it would not
        said["colour"] = _coded(avif.coding_points(data))
    return said


def _of_png(info: dict[Any, Any], notes: list[str]) -> _Fields:
    chunks: tuple[Chunk, ...] = info.get("chunks", ())
    first = dict(reversed(chunks))
    damaged = [
        kind for kind, length in (CHUNKS | {b"pHYs": 9}).items() if len(first.get(kind, bytes(length))) != length
    ]
    if damaged := sorted({*damaged, *info.get("damaged", ())}):
        notes.append(without(f"PNG's {named(kind.decode() for kind in damaged)}", "it is damaged"))
    texts: png_text.Texts = info["texts"]
    if texts.left_out:
        notes.append(without(f"PNG text {named(texts.left_out)}", "it is damaged or too long"))
    hidden = texts.profiles
    if b"iCCP" in first and not {"icc", "icm"} & hidden.keys() and "icc_profile" not in info:
        notes.append(without("ICC profile", "it is damaged or too long"))
    records = hidden.get("iptc", hidden.get("8bim"))
    return {
        "icc": hidden.get("icc", hidden.get("icm")),
        "xmp": texts.xmp,
        "iptc": records and iptc.from_text(records),
        "resolution": Resolution.of_phys(first.get(b"pHYs", b"")),
        "colour": tuple(Chunk(kind, first[kind]) for kind in CHUNKS if kind in first and kind not in damaged),
        "texts": texts.kept,
    }


def _of_jpeg(data: bytes, notes: list[str]) -> _Fields:
    resources, comments = list[bytes](), list[bytes]()
    said: _Fields = {}
    extended = list[str]()
    for marker, body, _ in takewhile(lambda segment: segment[0] != _START_OF_SCAN, jpeg.segments(data)):
        if marker == _APP0 and body.startswith(b"JFIF\0") and len(body) >= 12:
            density = (int.from_bytes(body[8:10], "big"), int.from_bytes(body[10:12], "big"))
            said.setdefault("resolution", Resolution.of_jfif(body[7], density))
        elif marker == _APP1 and body.startswith(_EXTENDED_XMP):
            extended = [without("extended XMP", "only the main packet comes along")]
        elif marker == _APP13:
            resources.append(body)
        elif marker == _COMMENT:
            comments.append(body)
    notes += extended
    return said | {"iptc": iptc.from_segments(resources), "texts": _comments(comments, notes)}


def _of_tiff(data: bytes, is_turned: bool, notes: list[str]) -> _Fields:
    tags = Tags.read(data)
    of_one = without_stack(data, tags, is_turned)
    if of_one is not None:
        notes.append(without("description of a stack", "it is not of this image alone, or of how it lay before"))
    records, resources = tags.bytes_of(IPTC), tags.bytes_of(IMAGE_RESOURCES)
    if records is not None and tags.main[IPTC].type == LONG:
        records = iptc.without_padding(records)
    return {
        "exif": data if of_one is None else of_one.exif(),
        "xmp": tags.bytes_of(XMP),
        "iptc": records or (resources and iptc.from_resources(resources)),
    }


def _of_jpeg_xl(data: bytes, notes: list[str]) -> _Fields:
    header = jpeg_xl.header(data)
    if header.has_profile:
        notes.append(without("ICC profile", "the decoder of JPEG XL does not give it"))
    colours = _coded(header.coding_points) if header.measured is None else _measured(*header.measured, notes)
    return {"xmp": jpeg_xl.beside(data, b"xml "), "colour": colours}


def _measured(exponent: float | None, colours: Chromaticities, notes: list[str]) -> tuple[Chunk, ...]:
    """The same as a PNG says it."""
    chunks = () if exponent is None else (Chunk(b"gAMA", struct.pack(">I", round(100_000 * exponent))),)
    values = [round(100_000 * value) for point in colours for value in point]
    if min(values) < 0:
        notes.append(without("primaries", "some are below zero"))
        return chunks
    return (*chunks, Chunk(b"cHRM", struct.pack(">8I", *values)))


def _coded(points: tuple[int, int] | None) -> tuple[Chunk, ...]:
    """Primaries and transfer characteristics as a PNG says them: of RGB, full range. 2 stands for nothing known."""
    return () if points is None or points == (2, 2) else (Chunk(b"cICP", bytes([*points, 0, 1])),)


def _of_info(info: dict[Any, Any], notes: list[str]) -> _Fields:
    """Of what Pillow has found: in WebP, GIF, BMP and others."""
    said: _Fields = {"texts": _comments([info.get("comment")], notes)}
    if isinstance(info.get("xmp"), bytes):
        said["xmp"] = info["xmp"]
    if "dpi" in info:
        across, down = info["dpi"]
        said["resolution"] = Resolution.known(across, down, "inch")
    return said


def _colours_of_bmp(data: bytes, notes: list[str]) -> _Fields:
    found = bmp.colours(data)
    if found.lost is not None:
        notes.append(without("ICC profile", found.lost))
    return {"icc": found.icc, "colour": (IS_SRGB,) if found.is_srgb else ()}


def _profile_of_gif(data: bytes) -> bytes | None:
    """What stands in blocks of up to 255 bytes behind the application extension that the ICC has registered."""
    name = b"\x21\xff\x0bICCRGBG1012"
    parts, at = list[bytes](), data.find(name) + len(name)
    while at > len(name) and at < len(data) and data[at]:
        parts.append(data[at + 1 : at + 1 + data[at]])
        at += 1 + data[at]
    return b"".join(parts) or None


def _comments(found: Iterable[object], notes: list[str]) -> tuple[Chunk, ...]:
    chunks = [png_text.comment(each) for each in found if isinstance(each, bytes) and each.strip(b"\0")]
    texts = png_text.read(chunk for chunk in chunks if chunk)
    if None in chunks or texts.left_out:
        notes.append(without("a comment", "it is damaged or too long"))
    return texts.kept
