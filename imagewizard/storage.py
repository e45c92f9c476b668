"""Local folders and s3:// prefixes behind one interface: pyarrow's filesystems, addressed by URI."""

import os
import uuid
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from imagewizard.errors import UserError


def resolve(uri: str) -> tuple[fs.FileSystem, str]:
    """(filesystem, path in it) of a local path, a file:// or an s3:// URI. Raises UserError for other schemes.

    S3 goes by the standard AWS chain and `AWS_ENDPOINT_URL`, which pyarrow reads itself.
    """
    scheme, sign, rest = uri.partition("://")
    if not sign:
        return fs.LocalFileSystem(), str(Path(uri).expanduser().absolute())
    if scheme == "file":
        return fs.LocalFileSystem(), rest
    if scheme == "s3":
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        return fs.S3FileSystem(endpoint_override=endpoint), rest.rstrip("/")
    raise UserError(f"{uri}: {scheme}:// is not supported; give a local path or s3://bucket/prefix")


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
    """Writes a file that is there as a whole or not at all.

    Locally through a file in the folder `scratch` (same disk) and a rename; an S3 PUT is atomic by itself.
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
        with filesystem.open_output_stream(path) as stream:
            stream.write(data)
