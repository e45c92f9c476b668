"""XMP packets, changed as little as their image has been: it is upright now, and its thumbnail shows what it was."""

import re

_NAMESPACES = {
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpNote": "http://ns.adobe.com/xmp/note/",
    "mwg-rs": "http://www.metadataworkinggroup.com/schemas/regions/",
    "MP": "http://ns.microsoft.com/photo/1.2/",
}
_MOST_PREFIXES = 8
"""Of a namespace: each is looked for at every place of the packet, and one is usual."""
_SIDES = (("tiff", "ImageWidth", "ImageLength"), ("exif", "PixelXDimension", "PixelYDimension"))

_NOT_ABOUT_IT = (("xmp", "Thumbnails"), ("xmpNote", "HasExtendedXMP"))
_PLACES = (("exif", "SubjectArea"), ("exif", "SubjectLocation"), ("mwg-rs", "Regions"), ("MP", "RegionInfo"))
"""Places in the image: of its subject, and of faces."""


def orientation(packet: bytes) -> int:
    """How the image is to be turned, 1 to 8 as in EXIF; 1 if the packet does not say."""
    try:
        text = packet.decode(_encoding(packet))
    except UnicodeDecodeError:
        return 1
    found = re.search(_orientation(text), text)
    return int(found[2]) if found and found[2] in "12345678" else 1


def upright(packet: bytes, width: int, height: int, orientation: int = 1) -> bytes | None:
    """The packet for an upright image of this size, without thumbnails; None for what is no XMP.

    `orientation`: what of 1 to 8 has been applied to its pixels. If they were turned, it says of no place in them.
    It no longer points to extended XMP, which lies elsewhere in a JPEG. All else stays, byte for byte.
    """
    encoding = _encoding(packet)
    try:
        text = packet.decode(encoding).rstrip("\0")
    except UnicodeDecodeError:
        return None
    if "<" not in text:
        return None
    text = re.sub(_orientation(text), r"\g<1>1", text)
    for space, across, down in _SIDES:
        text = _with(_with(text, space, across, str(width)), space, down, str(height))
    if orientation >= 5:
        text = _across_and_down(_across_and_down(text, "tiff"), "exif")
    for space, name in (*_NOT_ABOUT_IT, *(_PLACES if orientation > 1 else ())):
        text = _without(text, space, name)
    return text.encode(encoding)


def _encoding(packet: bytes) -> str:
    # The names and values that are changed are ASCII, which all encodings of one byte share with UTF-8.
    return "utf-16" if b"\0" in packet[:2] or packet[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin-1"


def _orientation(text: str) -> str:
    """A regular expression for the orientation, which finds all that Pillow's does, in a broken packet too."""
    return rf"({_prefix(text, 'tiff')}:Orientation\s*(?:=\s*[\"']|>)\s*)([0-9])"


def _prefix(text: str, space: str) -> str:
    """A regular expression for the prefixes that stand for a namespace: the usual one, and those that are declared."""
    declared = re.findall(rf"xmlns:([\w.-]{{1,64}})\s*=\s*[\"']{re.escape(_NAMESPACES[space])}[\"']", text)
    prefixes = list(dict.fromkeys([space, *declared]))[:_MOST_PREFIXES]
    return rf"(?:{'|'.join(map(re.escape, prefixes))})"


def _with(text: str, space: str, name: str, value: str) -> str:
    """The text with another value of a property, wherever it has one."""
    if name not in text:
        return text
    start = rf"{_prefix(text, space)}:{name}"
    text = re.sub(rf"({start}\s*=\s*)(?:\"[^\"<]*\"|'[^'<]*')", rf'\g<1>"{value}"', text)
    return re.sub(rf"(<{start}(?:\s[^<>]*)?(?<!/)>)[^<]*", rf"\g<1>{value}", text)


def _across_and_down(text: str, space: str) -> str:
    """The text with the resolution across in the place of that down."""
    name = rf"({_prefix(text, space)}:(?:FocalPlane)?)([XY])(?=Resolution\b)"
    return re.sub(name, lambda found: found[1] + {"X": "Y", "Y": "X"}[found[2]], text)


def _without(text: str, space: str, name: str) -> str:
    """The text without a property."""
    if name not in text:
        return text
    start = rf"{_prefix(text, space)}:{name}"
    # A search that began anew at each space of a packet's padding would take hours.
    text = re.sub(rf"(?<!\s)\s+{start}\s*=\s*(?:\"[^\"<]*\"|'[^'<]*')", "", text)
    kept, end, opened = list[str](), 0, None
    for tag in re.finditer(rf"<(/?){start}(?:\s[^<>]*?)?(/?)>", text):
        closes, is_empty = map(bool, tag.groups())
        if opened is None and not closes:
            opened, closes = tag.start(), is_empty
        if closes and opened is not None:
            kept.append(text[end:opened])
            end, opened = tag.end(), None
    return "".join([*kept, text[end:]])
