"""What of a picture's metadata a format can hold, so that all its readers take the file, and what it cannot."""

from dataclasses import replace
from typing import Any

from PIL import ExifTags

from imagewizard.images import colour, icc, iptc, png_text, resolution
from imagewizard.images.exif import Tags
from imagewizard.images.metadata import Metadata, named, without
from imagewizard.images.png_chunks import Chunk
from imagewizard.images.resolution import Resolution

_SEGMENT_BYTES = 65533
"""What a JPEG's marker segment holds: its length, which counts itself, has 16 bits."""
_LIMITS = {
    "png": {"icc": png_text.MOST_COMPRESSED, "xmp": png_text.LONGEST, "iptc": png_text.MOST_PROFILE},
    "jpg": {
        "icc": 255 * (_SEGMENT_BYTES - len(b"ICC_PROFILE\0__")),
        "xmp": _SEGMENT_BYTES - len(b"http://ns.adobe.com/xap/1.0/\0"),
        "iptc": _SEGMENT_BYTES - len(iptc.segment(b"")) - 1,
    },
}
"""Bytes that readers of a format take."""
_MOST_EXIF = {"png": 1 << 20, "jpg": _SEGMENT_BYTES, "webp": 1 << 20}
"""Bytes of it, with its prefix; libvips refuses an image for more than 2^20."""
_TITLES = {"icc": "ICC profile", "xmp": "XMP", "iptc": "IPTC"}


def fitted(metadata: Metadata, format: str, is_grey: bool, becomes_rgb: bool) -> tuple[Metadata, list[str]]:
    """The metadata of a grey or RGB picture as one of OUTPUT_FORMATS holds it, and a note on each part that it cannot.

    `becomes_rgb`: its grey is written as R = G = B.
    Of the chunks that say a PNG's colours, other formats get an ICC profile. A webp has its resolution in EXIF.
    """
    notes = list[str]()
    if format != "png":
        metadata = _with_profile(metadata, format, is_grey, becomes_rgb, notes)
        metadata = _with_texts(metadata, format, notes)
    metadata = _with_resolution(metadata, format, notes)
    if format == "webp":
        metadata = _as_webp(metadata, notes)
    if format in _MOST_EXIF:
        metadata = _with_short_exif(metadata, format, notes)
    for name, most in _LIMITS.get(format, {}).items():
        value = getattr(metadata, name)
        if value is not None and len(value) > most:
            metadata = replace(metadata, **_cut(name, value, most, format, notes))
    return metadata, notes


def _cut(name: str, value: bytes, most: int, format: str, notes: list[str]) -> dict[str, Any]:
    """The part as it is kept: not at all, or a profile without what is no more needed."""
    shorter = icc.shortened(value) if name == "icc" else value
    why = f"it has {len(value)} bytes, readers of {format} take {most}"
    if len(shorter) <= most:
        notes.append(f"ICC profile without what printing needs ({why})")
        return {name: shorter}
    notes.append(without(_TITLES[name], why))
    return {name: None}


def _with_profile(metadata: Metadata, format: str, is_grey: bool, becomes_rgb: bool, notes: list[str]) -> Metadata:
    """With an ICC profile alone to say the colours, one of RGB if grey becomes that."""
    profile, lost = colour.profile(metadata.colour, metadata.icc, is_grey)
    screens = [chunk.kind.decode() for chunk in metadata.colour if chunk.kind in (b"mDCV", b"cLLI")]
    if screens:
        notes.append(without(", ".join(screens), f"a {format} has no place for it"))
    if lost is not None:
        notes.append(without(*lost))
    if profile is not None and becomes_rgb:
        profile = icc.as_rgb(profile)
        if profile is None:
            notes.append(
                without("ICC profile", f"grey becomes RGB in a {format}, and the profile is more than a curve")
            )
    return replace(metadata, icc=profile, colour=())


def _with_texts(metadata: Metadata, format: str, notes: list[str]) -> Metadata:
    """With a comment alone, and that in a jpg."""
    kept = [chunk for chunk in metadata.texts if format == "jpg" and _is_comment(chunk)][:1]
    others = [png_text.keyword(chunk).decode("latin-1") for chunk in metadata.texts if chunk not in kept]
    if others:
        notes.append(without(f"text {named(others)}", f"a {format} has no place for it"))
    return replace(metadata, texts=tuple(kept))


def _is_comment(chunk: Chunk) -> bool:
    return png_text.keyword(chunk).lower() == png_text.COMMENT.lower() and len(png_text.text(chunk)) <= _SEGMENT_BYTES


def _with_short_exif(metadata: Metadata, format: str, notes: list[str]) -> Metadata:
    """With as much as readers take: the longest tags are left out."""
    most = _MOST_EXIF[format]
    if metadata.exif is None or len(metadata.exif) <= most:
        return metadata
    tags, left_out = Tags.read(metadata.exif).within(most)
    names = named(ExifTags.TAGS.get(number, str(number)) for number in left_out)
    notes.append(without(f"EXIF {names}", f"readers of {format} take {most} bytes of EXIF"))
    return replace(metadata, exif=tags.exif() if tags.main else None)


def _as_webp(metadata: Metadata, notes: list[str]) -> Metadata:
    if metadata.iptc is not None:
        notes.append(without("IPTC", "a webp has no place for it"))
    exif = metadata.exif
    if metadata.resolution is not None:
        tags = Tags() if exif is None else Tags.read(exif)
        exif = resolution.in_tags(metadata.resolution, tags).exif()
    return replace(metadata, iptc=None, exif=exif, resolution=None)


def _with_resolution(metadata: Metadata, format: str, notes: list[str]) -> Metadata:
    """Without one that the integers of the format cannot hold."""
    known = metadata.resolution
    said = {"png": Resolution.phys, "jpg": Resolution.jfif}.get(format, Resolution.rationals)
    if known is None or said(known):
        return metadata
    notes.append(without("resolution", f"{known.x:g} by {known.y:g} is beyond what a {format} can say"))
    return replace(metadata, resolution=None)
