"""What a file says beside its pixels, and goes along with them into the file that is written."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from imagewizard.errors import one_line
from imagewizard.images import icc, xmp
from imagewizard.images.exif import Tags
from imagewizard.images.png_chunks import Chunk
from imagewizard.images.resolution import TAGS, Resolution

_NAMED = 5
"""Names in a note. A PNG may have a text of every prompt and setting that made it."""


@dataclass(frozen=True)
class Metadata:
    """What goes past the denoiser. In a Picture it is about an upright image, and its profile fits the pixels."""

    icc: bytes | None = None
    """The ICC profile."""
    exif: bytes | None = None
    """The EXIF structure with its prefix `Exif\\0\\0`."""
    xmp: bytes | None = None
    """The XMP packet."""
    iptc: bytes | None = None
    """The IPTC records."""
    resolution: Resolution | None = None
    colour: tuple[Chunk, ...] = ()
    """The chunks of a PNG that say what colours its samples are, those of colour.CHUNKS."""
    texts: tuple[Chunk, ...] = ()
    """The chunks of a PNG that hold text; a comment of another format as such."""

    @property
    def nbytes(self) -> int:
        """What it takes in memory, but for a few bytes."""
        parts = [self.icc, self.exif, self.xmp, self.iptc, *(chunk.body for chunk in self.colour + self.texts)]
        return sum(map(len, filter(None, parts)))

    def upright(self, width: int, height: int, orientation: int, is_grey: bool) -> tuple["Metadata", list[str]]:
        """This, as a file has it, about pixels that were set upright and have that size now; and what of it was lost.

        Orientation, which has been applied, and thumbnails, which show the image as it was, are taken out.
        Metadata that is damaged costs itself. `orientation`: what of 1 to 8 has been applied to the pixels.
        """
        notes = list[str]()
        exif, resolution = None, self.resolution
        try:
            tags = Tags() if self.exif is None else Tags.read(self.exif)
        except ValueError:
            notes.append(without("EXIF", "it is damaged"))
        else:
            if tags.is_in_part:
                notes.append(without("a part of EXIF", "it is damaged"))
            of_tags = Resolution.of_tags(tags)
            resolution = resolution.sharper(of_tags) if resolution else of_tags
            tags = tags.about_the_picture(width, height, orientation)
            if of_tags is None:
                tags = tags.without(*TAGS)
            exif = tags.exif() if tags.main else None
        packet = None if self.xmp is None else xmp.upright(self.xmp, width, height, orientation)
        if self.xmp is not None and packet is None:
            notes.append(without("XMP", "it is damaged"))
        profile, note = (None, None) if self.icc is None else _fitting(self.icc, is_grey)
        notes += [note] if note else []
        if resolution is not None and orientation >= 5:
            resolution = resolution.turned()
        kept = replace(self, icc=profile, exif=exif, xmp=packet, resolution=resolution)
        return kept, notes


def without(what: str, why: str) -> str:
    """How a row's notes say that something did not come along."""
    return f"without {what} ({why})"


def named(names: Iterable[str]) -> str:
    """Names that a file made up, for a note: the first few that differ, in printable characters, on one line."""
    distinct = list(dict.fromkeys(names))
    # `; ` stands between notes
    shown = ["".join(c if c.isprintable() and c != ";" else "?" for c in one_line(name)) for name in distinct[:_NAMED]]
    more = len(distinct) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _fitting(profile: bytes, is_grey: bool) -> tuple[bytes | None, str | None]:
    """The profile, or one of the same colours, for grey or RGB pixels; None and a note if there is none."""
    if not icc.is_sound(profile):
        return None, without("ICC profile", "it is damaged")
    found, wanted = icc.space(profile), icc.GREY if is_grey else icc.RGB
    if found == wanted:
        return profile, None
    made = icc.as_grey(profile) if is_grey and found == icc.RGB else None
    name = named([found.decode("latin-1")])
    return made, None if made else without(
        "ICC profile", f"it is of {name}, the pixels are {'grey' if is_grey else 'RGB'}"
    )
