"""The bytes of images: files of their own, members of tar shards or rows of Parquet files."""

from collections import defaultdict
from contextlib import closing
from typing import Any

from imagewizard import storage
from imagewizard.errors import UserError
from imagewizard.schema import BYTES, IMAGE_ID, MEMBER, OFFSET, ROW, URI
from imagewizard.sources import addresses, parquet, tar

# No image within the pixel limit needs more than this a pixel on disk (16-bit RGBA, uncompressed) …
MAX_BYTES_PER_PIXEL = 8
# … plus this for headers and profiles.
MAX_HEADER_BYTES = 16 << 20


class ImageReader:
    """Reads the encoded images of manifest rows. Keep one for a process: it goes on in a Parquet file where it was."""

    def __init__(self) -> None:
        self._rows = parquet.RowReader()

    def read(self, images: list[dict[str, Any]], max_bytes: int) -> list[bytes | OSError]:
        """The encoded contents of images (rows by MANIFEST_SCHEMA), in order; why not, where one cannot be read.

        One after the other; several threads may call it at once.

        Files and members of more than `max_bytes` are not read. The size of a row is not known before: such a row is
        read and given up.
        """
        found: list[bytes | OSError] = [OSError()] * len(images)
        tars, tables, files = defaultdict(list), defaultdict(list), []
        for index, image in enumerate(images):
            if (refusal := _refusal(image, max_bytes)) is not None:
                found[index] = refusal
            elif image[MEMBER] is not None:
                tars[image[URI]].append(index)
            elif image[ROW] is not None:
                tables[image[URI]].append(index)
            else:
                files.append(index)
        for index in files:
            found[index] = _read_file(images[index][URI], max_bytes)
        for uri, wanted in tars.items():
            ranges = [(images[index][OFFSET], images[index][BYTES]) for index in wanted]
            for index, content in zip(wanted, tar.read(uri, ranges), strict=True):
                found[index] = content
        for uri, wanted in tables.items():
            rows = [images[index][ROW] for index in wanted]
            for index, content in zip(wanted, self._rows.read(uri, rows), strict=True):
                found[index] = _within(content, max_bytes)
        return found


def byte_limit(max_pixels: int) -> int:
    """More than an image of so many pixels has on disk."""
    return max_pixels * MAX_BYTES_PER_PIXEL + MAX_HEADER_BYTES


def _refusal(image: dict[str, Any], max_bytes: int) -> OSError | None:
    """Why an image is not even tried; None if it is."""
    try:
        storage.check_address(image[URI])
    except UserError as error:
        return OSError(str(error))
    if image[MEMBER] is not None and min(image[BYTES] or 0, image[OFFSET] or 0) < 0:
        return OSError(f"{image[BYTES]} bytes from byte {image[OFFSET]} on: the manifest is wrong")
    return _too_large(image[BYTES] or 0, max_bytes) if image[MEMBER] is not None else None


def _too_large(size: int, max_bytes: int) -> OSError | None:
    if size <= max_bytes:
        return None
    return storage.RefusedError(f"{size} bytes, more than the {max_bytes} that are allowed")


def _within(content: bytes | OSError, max_bytes: int) -> bytes | OSError:
    return content if isinstance(content, OSError) else _too_large(len(content), max_bytes) or content


def _read_file(uri: str, max_bytes: int) -> bytes | OSError:
    try:
        return storage.read_bytes(uri, max_bytes)
    except FileNotFoundError:
        return FileNotFoundError("no such file: it vanished since it was listed")
    except storage.RefusedError as error:
        return storage.RefusedError(str(error).removeprefix(f"{uri}: "))  # a row has its URI, and errors are counted
    except OSError as error:
        return error


def origin(image: dict[str, Any]) -> str:
    """Where the image of a manifest row is, in one text: the path of its own file, or its address within a shard.

    The second member of a name in a tar is `member#offset`, as at the end of its id.
    """
    if image[MEMBER] is None:
        return image[URI] if image[ROW] is None else addresses.join(image[URI], image[ROW])
    numbered = tar.numbered(image[MEMBER], image[OFFSET])
    return addresses.join(image[URI], numbered if image[IMAGE_ID].endswith(f"#{numbered}") else image[MEMBER])


def read_origin(origin: str, max_bytes: int | None = None) -> bytes:
    """What `origin`, or a row's `uri` or `output_uri`, points to. Raises OSError, also for more than `max_bytes`."""
    places = list(addresses.places(origin))
    try:
        return storage.read_bytes(origin, max_bytes)
    except storage.RefusedError:
        raise
    except OSError:  # no such file, or a name that can be none, as one that is too long
        if not places:
            raise
    failure: OSError | None = None
    for file, packed in places:
        try:
            return _read_packed(file, packed, max_bytes)
        except OSError as error:
            failure = failure or error
    assert failure is not None, "there was a place"
    raise failure


def _read_packed(file: str, packed: str, max_bytes: int | None) -> bytes:
    if file.lower().endswith(tar.SUFFIX):
        return tar.read_member(file, packed, max_bytes)
    if not packed.isdecimal():
        raise FileNotFoundError(f"{file} has no row {packed}")
    with closing(parquet.RowReader()) as rows:
        [content] = rows.read(file, [int(packed)])
    if max_bytes is not None:
        content = _within(content, max_bytes)
    if isinstance(content, OSError):
        raise content
    return content
