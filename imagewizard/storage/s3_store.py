"""Objects in S3, and what speaks its language, as a store of files."""

import functools
import io
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from botocore.exceptions import BotoCoreError

from imagewizard.errors import UserError, one_line
from imagewizard.storage import s3, s3_client, s3_conditions, s3_deleting, s3_listing, s3_settings
from imagewizard.storage.local import Listed
from imagewizard.storage.lock_file import LockFile
from imagewizard.storage.s3_client import TRIES, NoSuchBucketError
from imagewizard.storage.s3_file import ObjectFile

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import fs

# A request costs about 50 ms, so 4 MiB are fetched at a time.
READ_AHEAD_BYTES = 4 << 20


class S3Store:
    """A `stores.Store` of s3://bucket/key. A write is one PUT, which is atomic: no scratch folder is needed."""

    def check_address(self, uri: str) -> None:
        if not s3.split(uri)[1]:
            raise UserError(f"{uri}: a bucket and no key", "write s3://bucket/key")

    def check_answers(self, uri: str) -> None:
        s3.check_bucket(uri)

    def check_writable(self, uri: str) -> None:
        s3.check_bucket(uri)

    def local_path(self, uri: str) -> None:
        return None

    def resolve(self, uri: str) -> "tuple[fs.FileSystem, str]":
        bucket, _ = s3.split(uri)
        try:
            options = s3_settings.filesystem_options(s3_client.client())
        except (BotoCoreError, ValueError) as error:
            raise UserError(f"{uri}: {s3_client.one_line(error).rstrip('.')}", s3_settings.advice(error)) from None
        return _filesystem(bucket, tuple(options.items())), uri.removeprefix("s3://").rstrip("/")

    def kind(self, uri: str) -> str | None:
        return s3_listing.kind(uri)

    def read(self, uri: str, max_bytes: int | None = None, version: str | None = None) -> bytes:
        return s3.get(uri, max_bytes, etag=version).data

    def read_range(self, uri: str, offset: int, length: int) -> bytes:
        return s3.get(uri, span=(offset, length)).data

    def open(self, uri: str) -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(ObjectFile(uri), READ_AHEAD_BYTES))

    def names(self, uri: str) -> Iterator[str]:
        try:
            yield from (name for name, _ in s3.entries(uri))
        except NoSuchBucketError:
            return

    def versions(self, uri: str) -> dict[str, str]:
        return {name: etag for name, etag in s3.entries(uri) if etag}

    def pages(self, uri: str, *, in_order: bool = False) -> Iterator[list[Listed]]:
        """In order of the keys, or in none."""
        _, prefix = s3.split(uri.rstrip("/"))
        below = len(prefix) + 1 if prefix else 0
        for page in s3_listing.pages(uri, threads=1 if in_order else s3_listing.THREADS):
            # A key that ends in a slash stands for a folder, as some programs make them.
            yield [(key[below:], size, None) for key, size in page if not key.endswith("/")]

    def write(self, uri: str, data: "bytes | pa.Buffer", scratch: str, *, new: bool = False) -> bool:
        whole = data if isinstance(data, bytes) else memoryview(data).tobytes()
        condition = {"IfNoneMatch": "*"} if new else {}
        with s3_client.errors(uri):
            may_ignore = new and not s3_settings.is_aws(s3_client.client().meta.endpoint_url)
        if may_ignore and not s3.is_version(uri, None):
            return False
        return s3.put(uri, whole, brisk=False, **condition) is not None

    @contextmanager
    def writer(self, uri: str) -> Iterator[BinaryIO]:
        """Through a temporary file: a stream to S3 itself would commit what it holds when an error closes it."""
        s3.check_bucket(uri)
        with tempfile.TemporaryFile() as stream:
            yield cast(BinaryIO, stream)
            stream.seek(0)
            s3.upload(uri, cast(BinaryIO, stream))

    def delete(self, uris: list[str]) -> None:
        s3_deleting.delete(uris)

    def lock_file(self, uri: str) -> LockFile:
        return _LockFile(uri)


# Kept, because a client looks up credentials and opens connections of its own.
@functools.cache
def _filesystem(bucket: str, found: tuple[tuple[str, Any], ...]) -> "fs.FileSystem":
    """pyarrow's own client of S3, for DuckDB, datasets and Ray, which want a filesystem."""
    import pyarrow as pa
    from pyarrow import fs

    options: dict[str, Any] = {
        # The AWS SDK's "standard" strategy has a quota that a bad minute uses up; this one has not. 25 ms, doubled
        # nine times, outlast 25 s of outage.
        "retry_strategy": fs.AwsDefaultS3RetryStrategy(max_attempts=TRIES),
        "connect_timeout": 10,
        "request_timeout": 60,
    }
    options |= dict(found)
    if "region" not in options:  # AWS's own: the bucket's, whatever that of the profile is
        try:
            options["region"] = fs.resolve_s3_region(bucket)
        except (OSError, pa.ArrowInvalid) as error:
            raise UserError(
                f"s3://{bucket}: {one_line(error)}", "check the bucket's name, or set AWS_ENDPOINT_URL"
            ) from None
    return fs.S3FileSystem(**options)


class _LockFile:
    """Replaced by conditional PUTs: If-Match its ETag, or If-None-Match."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._looks_first = False

    def weakness(self, probe: str) -> str | None:
        if s3_settings.is_aws(address := s3_client.client().meta.endpoint_url):
            return None
        ignored = s3_conditions.ignored(probe)
        # Then of two drivers only those that write within the same milliseconds both succeed.
        self._looks_first = bool(ignored)
        if not ignored:
            return None
        server = s3_settings.without_secrets(address)
        return f"{server} does not heed {' and '.join(ignored)}, so that two drivers that start at once may both go on"

    def read(self, brisk: bool = False) -> tuple[bytes, str] | None:
        try:
            found = s3.get(self._uri, brisk=brisk)
        except FileNotFoundError:
            return None
        return found.data, found.etag

    def age(self) -> float:
        try:
            return s3.get(self._uri).age_seconds
        except FileNotFoundError:
            return math.inf

    def replace(self, version: str | None, content: bytes, brisk: bool = False) -> str | None:
        if self._looks_first and not s3.is_version(self._uri, version, brisk):
            return None
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        return s3.put(self._uri, content, brisk, **condition)

    def free(self, version: str) -> None:
        # Whether a server heeds the condition of a DELETE does not follow from what it does with that of a PUT.
        if s3.is_version(self._uri, version):
            s3.delete_if(self._uri, version)
