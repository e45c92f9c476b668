"""The bytes of images: files of their own, members of tar shards or rows of Parquet files."""

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import PurePosixPath
from typing import Any

from imagewizard import storage
from imagewizard.errors import UserError
from imagewizard.schema import BYTES, MEMBER, OFFSET, ROW, URI
from imagewizard.sources import parquet, tar

# Reads wait for disks and servers, not for the CPU.
READ_THREADS = 16


class ImageReader:
    """Reads the encoded images of manifest rows. Keep one for a process: it goes on in a Parquet file where it was."""

    def __init__(self) -> None:
        self._rows = parquet.RowReader()

    def read(self, images: list[dict[str, Any]], max_bytes: int) -> list[bytes | OSError]:
        """The encoded contents of images (rows by MANIFEST_SCHEMA), in order; why not, where one cannot be read.

        Files of more than `max_bytes` are not read.
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
        with ThreadPoolExecutor(READ_THREADS) as pool:
            contents = pool.map(lambda index: _read_file(images[index][URI], max_bytes), files)
            for index, content in zip(files, contents, strict=True):
                found[index] = content
        for uri, wanted in tars.items():
            ranges = [(images[index][OFFSET], images[index][BYTES]) for index in wanted]
            for index, content in zip(wanted, tar.read(uri, ranges), strict=True):
                found[index] = content
        for uri, wanted in tables.items():
            rows = [images[index][ROW] for index in wanted]
            for index, content in zip(wanted, self._rows.read(uri, rows), strict=True):
                found[index] = content
        return found


def _refusal(image: dict[str, Any], max_bytes: int) -> OSError | None:
    """Why an image is not even tried; None if it is."""
    try:
        storage.check_address(image[URI])
    except UserError as error:
        return OSError(str(error))
    if image[MEMBER] is not None and (image[BYTES] or 0) > max_bytes:
        return OSError(f"{image[BYTES]} bytes, more than the {max_bytes} that are allowed")
    return None


def _read_file(uri: str, max_bytes: int) -> bytes | OSError:
    try:
        return storage.read_bytes(uri, max_bytes)
    except FileNotFoundError:
        return FileNotFoundError("no such file: it vanished since it was listed")
    except OSError as error:
        return error


def origin(image: dict[str, Any]) -> str:
    """Where the image of a manifest row is, in one text: its URI, `shard.tar#member` or `file.parquet#row`."""
    packed = image[MEMBER] if image[MEMBER] is not None else image[ROW]
    return image[URI] if packed is None else f"{image[URI]}#{packed}"


def read_origin(origin: str) -> bytes:
    """What `origin`, or a row's `uri` or `output_uri`, points to. Raises OSError."""
    uri, _, packed = origin.partition("#")
    suffix = PurePosixPath(uri).suffix.lower()
    if packed and suffix == ".tar":
        return tar.read_member(uri, packed)
    if packed and suffix == ".parquet":
        with closing(parquet.RowReader()) as rows:
            [content] = rows.read(uri, [int(packed)])
        if isinstance(content, OSError):
            raise content
        return content
    return storage.read_bytes(origin)
