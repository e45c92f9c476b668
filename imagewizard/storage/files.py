"""Local folders and s3:// prefixes behind one interface, addressed by URI."""

import functools
import io
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa
from pyarrow import fs

from imagewizard.errors import UserError
from imagewizard.storage import s3
from imagewizard.storage.s3_client import NoSuchBucketError, endpoint
from imagewizard.storage.s3_file import ObjectFile

# Of a file in S3, each time that something is read beyond what is held: 4 MiB, so that a request is worth its 50 ms.
READ_AHEAD_BYTES = 4 << 20


def resolve(uri: str) -> tuple[fs.FileSystem, str]:
    """(pyarrow's filesystem, path in it) of a local path, a file:// or an s3:// URI, for datasets and Ray Train.

    S3 goes by the standard AWS chain and `AWS_ENDPOINT_URL`. Raises UserError for other schemes, and if the bucket's
    region cannot be found out.
    """
    path = _local_path(uri)
    if path is not None:
        return fs.LocalFileSystem(), str(path)
    bucket, _ = s3.split(uri)
    return _s3_filesystem(bucket, endpoint()), uri.removeprefix("s3://").rstrip("/")


def _local_path(uri: str) -> Path | None:
    """None for s3://. Raises UserError for other schemes."""
    scheme, sign, rest = uri.partition("://")
    if not sign:
        return Path(uri).expanduser().absolute()
    if scheme == "file":
        return Path(rest)
    if scheme == "s3":
        return None
    raise UserError(f"{uri}: {scheme}:// is not supported; give a local path or s3://bucket/prefix")


# Kept, because a client looks up credentials and opens connections of its own.
@functools.cache
def _s3_filesystem(bucket: str, address: str | None) -> fs.FileSystem:
    options = {
        # The AWS SDK's "standard" strategy has a quota that a bad minute uses up; this one has not. 25 ms, doubled
        # nine times, outlast 25 s of outage.
        "retry_strategy": fs.AwsDefaultS3RetryStrategy(max_attempts=10),
        "connect_timeout": 10,
        "request_timeout": 60,
    }
    if address:
        return fs.S3FileSystem(endpoint_override=address, **options)
    try:
        return fs.S3FileSystem(region=fs.resolve_s3_region(bucket), **options)
    except (OSError, pa.ArrowInvalid) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"s3://{bucket}: {reason}; check the bucket's name, or set AWS_ENDPOINT_URL") from None


def check_bucket(uri: str) -> None:
    """Raises UserError, within seconds, if the bucket of an s3:// URI cannot be reached or listed; local ones pass."""
    if _local_path(uri) is None:
        s3.check_bucket(uri)


def absolute(uri: str) -> str:
    """A local path made absolute, or a URI, without a slash at its end."""
    return uri.rstrip("/") if "://" in uri else str(Path(uri).expanduser().absolute())


def check_address(uri: str) -> None:
    """Raises UserError if there can be no file of that name: another scheme, a bucket alone, a NUL in it."""
    if "\0" in uri:
        raise UserError(f"{uri!r}: a name has no NUL")
    if _local_path(uri) is None and not s3.split(uri)[1]:
        raise UserError(f"{uri}: a bucket and no key")


def join(uri: str, *parts: str) -> str:
    """`uri` with path segments below it."""
    return "/".join([uri.rstrip("/"), *parts])


def exists(uri: str) -> bool:
    """Whether there is such a file, or a folder that holds something. Raises OSError if that cannot be told."""
    path = _local_path(uri)
    if path is not None:
        return path.exists()
    try:
        if s3.split(uri)[1] and not uri.endswith("/"):
            s3.head(uri)
            return True
    except FileNotFoundError:
        pass
    try:
        return s3.has_below(uri)
    except NoSuchBucketError:
        return False


def size(uri: str) -> int:
    """Bytes of a file. Raises OSError (FileNotFoundError among them)."""
    path = _local_path(uri)
    return s3.head(uri)[0] if path is None else path.stat().st_size


def read_bytes(uri: str, max_bytes: int | None = None) -> bytes:
    """The whole file, on S3 in one request. Raises OSError (FileNotFoundError, PermissionError among them).

    Also if it has more than `max_bytes`, before they are read.
    """
    path = _local_path(uri)
    if path is None:
        return s3.get(uri, max_bytes).data
    with path.open("rb") as stream:
        there = os.fstat(stream.fileno()).st_size
        if max_bytes is not None and there > max_bytes:
            raise OSError(f"{uri}: {there} bytes, more than the {max_bytes} that are allowed")
        return stream.read()


def read_range(uri: str, offset: int, length: int) -> bytes:
    """`length` bytes of a file from `offset` on. Raises OSError, also if the file ends before."""
    if length == 0:
        return b""
    path = _local_path(uri)
    if path is None:
        return s3.get(uri, span=(offset, length)).data
    with path.open("rb") as stream:
        stream.seek(offset)
        data = stream.read(length)
    if len(data) != length:
        raise OSError(f"{uri}: {len(data)} bytes where {length} from byte {offset} on were asked for")
    return data


def open_file(uri: str) -> BinaryIO:
    """The file, to be read from anywhere; on S3 with READ_AHEAD_BYTES. Raises OSError, now or on reading."""
    path = _local_path(uri)
    return cast(BinaryIO, io.BufferedReader(ObjectFile(uri), READ_AHEAD_BYTES)) if path is None else path.open("rb")


def list_files(uri: str, suffix: str = "") -> list[str]:
    """Names, sorted, of the files directly in a folder that end in `suffix`; [] if there is no such folder."""
    path = _local_path(uri)
    try:
        found = s3.names(uri) if path is None else (entry.name for entry in path.iterdir() if entry.is_file())
        return sorted(name for name in found if name.endswith(suffix))
    except (FileNotFoundError, NoSuchBucketError):
        return []


def write_whole(uri: str, data: bytes | pa.Buffer, scratch: str) -> None:
    """Writes a file that is there as a whole or not at all. Raises OSError.

    Locally through a file in the folder `scratch` (same disk) and a rename. On S3 in one PUT, which is atomic: a
    pyarrow stream that is interrupted commits what it holds when it is closed, be it by the garbage collector.
    """
    path = _local_path(uri)
    if path is None:
        s3.put(uri, _bytes(data))
    else:
        with _partial(path, data, scratch) as partial:
            partial.replace(path)


def write_new(uri: str, data: bytes | pa.Buffer, scratch: str) -> bool:
    """As `write_whole`, but only if there is no such file: False if there is. Of several callers one wins."""
    path = _local_path(uri)
    if path is None:
        return s3.put(uri, _bytes(data), IfNoneMatch="*") is not None
    with _partial(path, data, scratch) as partial:
        try:
            os.link(partial, path)
        except FileExistsError:
            return False
        return True


def _bytes(data: bytes | pa.Buffer) -> bytes:
    return data if isinstance(data, bytes) else memoryview(data).tobytes()


@contextmanager
def _partial(path: Path, data: bytes | pa.Buffer, scratch: str) -> Iterator[Path]:
    """`data` in a file in `scratch`, on disk; gone afterwards, whatever happens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = _local_path(scratch)
    assert folder is not None, "a local file's scratch folder is local"
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{path.name}.{uuid.uuid4().hex}"
    try:
        with partial.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def delete_files(uris: list[str]) -> None:
    """Deletes files, of which some may not be there. Raises OSError; of the rest some may be left then."""
    remote = []
    for uri in uris:
        path = _local_path(uri)
        if path is None:
            remote.append(uri)
        else:
            path.unlink(missing_ok=True)
    s3.delete(remote)


def is_writable(folder: Path) -> bool:
    """Whether files can be made in a local folder. Tried: permissions do not bind root, and a disk may be read-only."""
    probe = folder / f".imagewizard-{uuid.uuid4().hex}"
    try:
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True
