"""What microscopes and their programs say in a TIFF of all its pages: it does not hold of one alone."""

import re
import struct

from imagewizard.images.exif import Tags

_DESCRIPTION = 270
_OF_A_STACK = {33628, 33629, 33630, 33631, 34361, 34362, 34412, 50838, 50839, 51123}
"""Tags of MetaMorph, FluoView, LSM, ImageJ and Micro-Manager."""
_LAYOUT = re.compile(rb"ImageJ=|\{\"shape\":|.*<(?:\w+:)?OME[\s>]", re.DOTALL)
"""How the descriptions of ImageJ, tifffile and OME begin."""
_IMAGES = re.compile(rb"^images=0*(?:[2-9]|1\d)", re.MULTILINE)
"""ImageJ's number of images, which may lie behind each other without a directory of their own."""


def without_stack(data: bytes, tags: Tags, is_turned: bool) -> Tags | None:
    """The tags of a TIFF for its first image alone; None if they say nothing of others, nor of how it lay before."""
    description = tags.bytes_of(_DESCRIPTION) or b""
    is_layout = _LAYOUT.match(description) is not None
    if not (_has_more_pages(data, tags.order) or (is_layout and (is_turned or _IMAGES.search(description)))):
        return None
    wrong = (_OF_A_STACK | ({_DESCRIPTION} if is_layout else set())) & tags.main.keys()
    return tags.without(*wrong) if wrong else None


def _has_more_pages(data: bytes, order: str) -> bool:
    """Whether the main directory names a next one."""
    is_big = struct.unpack_from(order + "H", data, 2) == (43,)
    place, count, entry = ("Q", "Q", 20) if is_big else ("I", "H", 12)
    (offset,) = struct.unpack_from(order + place, data, 8 if is_big else 4)
    (entries,) = struct.unpack_from(order + count, data, offset)
    at = offset + struct.calcsize(count) + entry * entries
    return at < len(data) and any(data[at : at + struct.calcsize(place)])
