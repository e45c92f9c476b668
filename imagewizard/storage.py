"""Local folders and s3:// prefixes behind one interface: pyarrow's filesystems, addressed by URI."""

import functools
import os
import uuid
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
from botocore.exceptions import BotoCoreError, ClientError
from pyarrow import fs

from imagewizard.errors import UserError


def resolve(uri: str) -> tuple[fs.FileSystem, str]:
    """(filesystem, path in it) of a local path, a file:// or an s3:// URI. Raises UserError for other schemes.

    S3 goes by the standard AWS chain and `AWS_ENDPOINT_URL`. UserError too if the bucket's region cannot be found out.
    """
    scheme, sign, rest = uri.partition("://")
    if not sign:
        return fs.LocalFileSystem(), str(Path(uri).expanduser().absolute())
    if scheme == "file":
        return fs.LocalFileSystem(), rest
    if scheme == "s3":
        path = rest.rstrip("/")
        bucket = path.split("/")[0]
        if not bucket:
            raise UserError(f"{uri}: names no bucket; write s3://bucket/prefix")
        return _s3_filesystem(bucket, _s3_endpoint()), path
    raise UserError(f"{uri}: {scheme}:// is not supported; give a local path or s3://bucket/prefix")


def _s3_endpoint() -> str | None:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None


# Kept, because a client looks up credentials and opens connections of its own.
@functools.cache
def _s3_filesystem(bucket: str, endpoint: str | None) -> fs.FileSystem:
    if endpoint:
        return fs.S3FileSystem(endpoint_override=endpoint)
    try:
        return fs.S3FileSystem(region=fs.resolve_s3_region(bucket))
    except (OSError, pa.ArrowInvalid) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"s3://{bucket}: {reason}; check the bucket's name, or set AWS_ENDPOINT_URL") from None


def s3_client() -> Any:
    """boto3's client, for what pyarrow has no call for."""
    return _s3_client(_s3_endpoint())


@functools.cache
def _s3_client(endpoint: str | None) -> Any:
    return boto3.client("s3", endpoint_url=endpoint)


def join(uri: str, *parts: str) -> str:
    """`uri` with path segments below it."""
    return "/".join([uri.rstrip("/"), *parts])


def exists(uri: str) -> bool:
    filesystem, path = resolve(uri)
    return filesystem.get_file_info(path).type != fs.FileType.NotFound


def read_bytes(uri: str) -> bytes:
    """The whole file. Raises OSError (FileNotFoundError among them)."""
    filesystem, path = resolve(uri)
    with filesystem.open_input_stream(path) as stream:
        return bytes(stream.read())


def list_files(uri: str, suffix: str = "") -> list[str]:
    """Names, sorted, of the files directly in a folder that end in `suffix`; [] if there is no such folder."""
    filesystem, path = resolve(uri)
    selector = fs.FileSelector(path, allow_not_found=True)
    infos = filesystem.get_file_info(selector)
    return sorted(info.base_name for info in infos if info.type == fs.FileType.File and info.base_name.endswith(suffix))


def write_whole(uri: str, data: bytes | pa.Buffer, scratch: str) -> None:
    """Writes a file that is there as a whole or not at all. Raises OSError.

    Locally through a file in the folder `scratch` (same disk) and a rename. On S3 in one PUT, which is atomic: a
    pyarrow stream that is interrupted commits what it holds when it is closed, be it by the garbage collector.
    """
    filesystem, path = resolve(uri)
    if isinstance(filesystem, fs.LocalFileSystem):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        folder = Path(resolve(scratch)[1])
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f"{Path(path).name}.{uuid.uuid4().hex}"
        with partial.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    else:
        bucket, _, key = path.partition("/")
        try:
            s3_client().put_object(Bucket=bucket, Key=key, Body=memoryview(data).tobytes())
        except (BotoCoreError, ClientError) as error:
            raise OSError(f"{uri}: {error}") from error


def is_writable(folder: Path) -> bool:
    """Whether files can be made in a local folder. Tried: permissions do not bind root, and a disk may be read-only."""
    probe = folder / f".imagewizard-{uuid.uuid4().hex}"
    try:
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True
