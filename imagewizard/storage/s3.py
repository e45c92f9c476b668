"""Objects in S3: reading, writing, listing and deleting, with retries (s3_client.py)."""

import io
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError
from urllib3.exceptions import HTTPError

from imagewizard.errors import UserError
from imagewizard.storage.s3_client import TRANSIENT_CODES, TRIES, backoff, client, endpoint, errors, one_line

_KEYS_PER_DELETE = 1000  # S3's limit


class _BrokenOffError(Exception):
    """The body of an answer ended early; the message says how."""


@dataclass(frozen=True)
class Object:
    data: bytes
    etag: str
    age_seconds: float
    """Since it was written, by the server's clock; by this machine's where the answer has no Date."""


def split(uri: str) -> tuple[str, str]:
    """(bucket, key) of an s3:// URI. Raises UserError if it names no bucket."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise UserError(f"{uri}: names no bucket", "write s3://bucket/prefix")
    return bucket, key


def get(uri: str, max_bytes: int | None = None, span: tuple[int, int] | None = None, etag: str | None = None) -> Object:
    """An object, or the `span` (first byte, number of bytes, not 0) of it. Raises OSError.

    FileNotFoundError, PermissionError and NoSuchBucketError among them; also if it has more than `max_bytes`, ends
    before the span does, or is no longer the one of `etag`.
    """
    bucket, key = split(uri)
    request: dict[str, Any] = {"Bucket": bucket, "Key": key}
    if span is not None:
        request["Range"] = f"bytes={span[0]}-{span[0] + span[1] - 1}"
    if etag is not None:
        request["IfMatch"] = etag
    for attempts in range(1, TRIES + 1):
        try:
            with errors(uri):
                found = _receive(uri, request, max_bytes)
            break
        except _BrokenOffError as error:
            if attempts == TRIES:
                raise OSError(f"{uri}: broke off {TRIES} times, at last with: {error}") from None
            time.sleep(backoff(attempts))
    if span is not None and len(found.data) != span[1]:
        raise OSError(f"{uri}: {len(found.data)} bytes where {span[1]} from byte {span[0]} on were asked for")
    return found


def _receive(uri: str, request: dict[str, Any], max_bytes: int | None) -> Object:
    try:
        answer = client().get_object(**request)
    except HTTPError as error:  # from the body of an error, which botocore reads on its own
        raise _BrokenOffError(one_line(error)) from None
    if max_bytes is not None and answer["ContentLength"] > max_bytes:
        answer["Body"].close()
        raise OSError(f"{uri}: {answer['ContentLength']} bytes, more than the {max_bytes} that are allowed")
    try:
        data = answer["Body"].read()
    except (BotoCoreError, HTTPError) as error:
        raise _BrokenOffError(one_line(error)) from None
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    now = parsedate_to_datetime(date).timestamp() if date else time.time()
    return Object(data, answer["ETag"], now - answer["LastModified"].timestamp())


def head(uri: str) -> tuple[int, str]:
    """(bytes, ETag) of an object. Raises OSError as `get` does, but knows a missing bucket as a missing object."""
    bucket, key = split(uri)
    with errors(uri):
        answer = client().head_object(Bucket=bucket, Key=key)
    return answer["ContentLength"], answer["ETag"]


def put(uri: str, data: bytes, brisk: bool = False, **condition: str) -> str | None:
    """Writes an object in one request, which is atomic; its ETag. Raises OSError.

    `condition`: IfMatch or IfNoneMatch; None if it does not hold. It does hold if an earlier try of this same request
    has written the object and its answer was lost.
    """
    bucket, key = split(uri)
    with errors(uri):
        try:
            return str(client(brisk).put_object(Bucket=bucket, Key=key, Body=data, **condition)["ETag"])
        except ClientError as error:
            about = error.response["ResponseMetadata"]
            is_gone = "IfMatch" in condition and error.response["Error"]["Code"] == "NoSuchKey"
            if about["HTTPStatusCode"] != 412 and not is_gone:
                raise
    if is_gone or not about["RetryAttempts"]:
        return None
    there = get(uri)
    return there.etag if there.data == data else None


def upload(uri: str, stream: BinaryIO) -> None:
    """Writes an object from a stream, whole or not at all, in several requests if it is large. Raises OSError."""
    bucket, key = split(uri)
    with errors(uri):
        client().upload_fileobj(stream, bucket, key)


def has_below(uri: str) -> bool:
    """Whether there is any object whose key starts with the URI's and a slash. Raises OSError."""
    bucket, key = split(uri.rstrip("/"))
    with errors(uri):
        answer = client().list_objects_v2(Bucket=bucket, Prefix=f"{key}/" if key else "", MaxKeys=1)
    return not key or bool(answer.get("Contents"))


def entries(uri: str) -> Iterator[tuple[str, str]]:
    """(name, ETag) of what lies right below a prefix; "folders" end in a slash and have "". Raises OSError."""
    bucket, key = split(uri.rstrip("/"))
    prefix = f"{key}/" if key else ""
    with errors(uri):
        for page in client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/"):
            yield from ((each["Prefix"][len(prefix) :], "") for each in page.get("CommonPrefixes", []))
            for each in page.get("Contents", []):
                if each["Key"] != prefix:  # which is some tools' mark of an empty folder
                    yield each["Key"][len(prefix) :], each["ETag"]


def delete(uris: list[str]) -> None:
    """Deletes objects; missing ones are no error. Raises OSError, which names the first that could not be deleted."""
    keys: dict[str, list[str]] = {}
    for uri in uris:
        bucket, key = split(uri)
        keys.setdefault(bucket, []).append(key)
    for bucket, all_keys in keys.items():
        for start in range(0, len(all_keys), _KEYS_PER_DELETE):
            _delete_batch(bucket, all_keys[start : start + _KEYS_PER_DELETE])


def _delete_batch(bucket: str, keys: list[str]) -> None:
    left = keys
    for attempts in range(1, TRIES + 1):
        with errors(f"s3://{bucket}/{left[0]}"):
            answer = client().delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in left]})
        failed = answer.get("Errors", [])
        if not failed:
            return
        first = failed[0]
        left = [each["Key"] for each in failed]
        if attempts == TRIES or any(each["Code"] not in TRANSIENT_CODES for each in failed):
            kind = PermissionError if first["Code"] == "AccessDenied" else OSError
            more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
            raise kind(f"s3://{bucket}/{first['Key']}: {first['Code']}: {first.get('Message', '')}{more}")
        time.sleep(backoff(attempts))


def delete_if(uri: str, etag: str) -> None:
    """Deletes an object if it still has this ETag. Raises OSError."""
    bucket, key = split(uri)
    with errors(uri):
        try:
            client().delete_object(Bucket=bucket, Key=key, IfMatch=etag)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] not in (404, 412):
                raise


def check_bucket(uri: str) -> None:
    """Raises UserError, within seconds, unless the server answers and lets us list what is below the URI."""
    bucket, key = split(uri)
    where = f"s3://{bucket}"
    try:
        client(brisk=True).list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if error.response["Error"]["Code"] == "NoSuchBucket":
            fix = "create it, or check its name and AWS_ENDPOINT_URL"
        elif status < 500:
            fix = "check AWS_ACCESS_KEY_ID, AWS_PROFILE or the role in use, and that it may list this bucket"
        else:
            fix = "try again later"
        raise UserError(f"{where}: {one_line(error)}", fix) from None
    except NoCredentialsError as error:
        raise UserError(
            f"{where}: {one_line(error)}", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        ) from None
    except ParamValidationError as error:
        raise UserError(f"{where}: {one_line(error)}", "write s3://bucket/prefix") from None
    except (BotoCoreError, ValueError) as error:  # ValueError: a malformed address
        address = endpoint()
        fix = "check AWS_DEFAULT_REGION, the credentials and the network (AWS_ENDPOINT_URL is not set)"
        if address:
            fix = f"check AWS_ENDPOINT_URL ({one_line(address)}) and the network"
        raise UserError(f"{uri}: {one_line(error)}", fix) from None


class ObjectFile(io.RawIOBase):
    """An object as a file that is read from anywhere, by ranged requests.

    Raises OSError on opening (FileNotFoundError among them), on reading, and if the object is replaced meanwhile.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._size, self._etag = head(uri)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise OSError(f"{self._uri}: byte {start + offset} is before the start")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self._read(len(view))
        view[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        """In one request; RawIOBase would make one for every few kilobytes."""
        return self._read(self._size - self._position)

    def _read(self, length: int) -> bytes:
        length = min(length, self._size - self._position)
        if length <= 0:
            return b""
        data = get(self._uri, span=(self._position, length), etag=self._etag).data
        self._position += length
        return data
