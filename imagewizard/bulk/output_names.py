"""The name under which a denoised image is stored, as a file or as a member of a tar shard."""

import base64
import hashlib
import re
import unicodedata

from imagewizard.images.formats import OUTPUT_FORMATS

# A file name may have 255 bytes; a partial file being written needs some of them for a suffix of its own. S3 keys have
# at most 1024 bytes, part of which is the output prefix.
_MAX_NAME_BYTES = 200
_MAX_PATH_BYTES = 700

# Reserved on Windows; and #, which parts a shard from its member where a row says where an image is. % and ~ are what
# this module escapes and marks with.
_RESERVED_CHARACTERS = '<>:"|?*\\#'
_EMPTY_OR_TRAILING = re.compile(r"(?<![^/])/|/\Z|[. ]+(?=/|\Z)")  # empty segments, . and .., "x." and "x " (Windows)
_RESERVED_NAMES = re.compile(
    r"(?<![^/])(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³])(?= *(?:[./]|\Z))", re.IGNORECASE
)


def output_name(image_id: str, format: str) -> str:
    """Where the denoised image of `image_id` lies below the output folder: a relative POSIX path, `dogs/a.jpg.png`.

    Different ids never share a name, not even on a disk that takes names of different case or Unicode normalisation
    for one, no name is a folder of another, and none leaves the folder or is unlawful on Windows. What is unsafe is
    percent-encoded (`50%.jpg` → `50%25.jpg.png`). An id with a possible twin (capitals, not in NFC) carries a digest
    of itself, `IMG_1.JPG~mzxw6ytboi2dqnbx.png`, and one that is too long is its first characters and the digest.
    """
    suffix = OUTPUT_FORMATS[format].suffix
    escaped = "".join(
        c if c.isprintable() and c not in _RESERVED_CHARACTERS and c not in "%~" else _percent(c) for c in image_id
    )
    escaped = _EMPTY_OR_TRAILING.sub(lambda match: _percent(match[0]), escaped)
    escaped = _RESERVED_NAMES.sub(lambda match: _percent(match[0][0]) + match[0][1:], escaped)
    # a folder a.png/ would stand where the image of the id "a" goes
    escaped = re.sub(rf"\.(?={suffix[1:]}/)", "%2e", escaped, flags=re.IGNORECASE)
    digest = hashlib.blake2b(image_id.encode("utf-8", "surrogatepass"), digest_size=10).digest()
    mark = "~" + base64.b32encode(digest).decode().lower()
    has_twin = escaped.casefold() != escaped or unicodedata.normalize("NFC", escaped) != escaped
    name = f"{escaped}{mark if has_twin else ''}{suffix}"
    if len(name.encode()) > _MAX_PATH_BYTES or any(len(part.encode()) > _MAX_NAME_BYTES for part in name.split("/")):
        return f"{escaped.rpartition('/')[2][:32]}{mark}{suffix}"
    return name


def webdataset_name(path: str) -> str:
    """`dogs/a.jpg.png` → `dogs/a%2ejpg.png`: a name with one dot, before the extension.

    WebDataset cuts a name at the first dot of its last part, and takes members of one key for parts of one sample: it
    would make one of a.b.png and a.c.png. Escaped as in `output_name`, so that different names stay different.
    """
    folder, slash, name = path.rpartition("/")
    stem, dot, extension = name.rpartition(".")
    return f"{folder}{slash}{stem.replace('.', '%2e')}{dot}{extension}"


def _percent(text: str) -> str:
    # lower-case digits: an escape must not look like a capital
    return "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "surrogatepass"))
