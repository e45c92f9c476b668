"""Objects in S3: reading, writing, listing and deleting, with retries (s3_client.py)."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO

from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
from urllib3.exceptions import HTTPError

from imagewizard.errors import UserError
from imagewizard.storage import s3_settings
from imagewizard.storage.refusal import RefusedError
from imagewizard.storage.s3_client import (
    BRISK_TRIES,
    TRANSIENT_CODES,
    TRANSIENT_STATUS,
    TRIES,
    backoff,
    client,
    errors,
    one_line,
)

# What a server should answer to a request, or to a condition, that it does not know; some say 400 or 405.
NOT_IMPLEMENTED = 501
# Of the client's errors, those that say something else: who we are, what is there, or to try again.
_OTHER_REFUSALS = {401, 403, 404, 409, 412} | TRANSIENT_STATUS
_OTHER_CODES = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired"} | TRANSIENT_CODES
PIECE_BYTES = 16 << 20  # more than most images have


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


def get(
    uri: str,
    max_bytes: int | None = None,
    span: tuple[int, int] | None = None,
    etag: str | None = None,
    brisk: bool = False,
) -> Object:
    """An object, or the `span` (first byte, number of bytes, not 0) of it. Raises OSError.

    FileNotFoundError, PermissionError and NoSuchBucketError among them; also if it has more than `max_bytes` (no more
    are read, whatever the answer's length says), ends before the span does, or is no longer the one of `etag`.
    """
    bucket, key = split(uri)
    request: dict[str, Any] = {"Bucket": bucket, "Key": key}
    if span is not None:
        max_bytes = span[1]  # some servers ignore a Range
        request["Range"] = f"bytes={span[0]}-{span[0] + span[1] - 1}"
    if etag is not None:
        request["IfMatch"] = etag
    tries = BRISK_TRIES if brisk else TRIES
    for attempts in range(1, tries + 1):
        try:
            with errors(uri):
                found = _receive(uri, request, max_bytes, brisk)
            break
        except _BrokenOffError as error:
            if attempts == tries:
                raise OSError(f"{uri}: broke off {tries} times, at last with: {error}") from None
            time.sleep(backoff(attempts))
    if span is not None and len(found.data) != span[1]:
        raise OSError(f"{uri}: {len(found.data)} bytes where {span[1]} from byte {span[0]} on were asked for")
    return found


def _receive(uri: str, request: dict[str, Any], max_bytes: int | None, brisk: bool) -> Object:
    try:
        answer = client(brisk).get_object(**request)
    except HTTPError as error:  # from the body of an error, which botocore reads on its own
        raise _BrokenOffError(one_line(error)) from None
    length = answer.get("ContentLength", 0)  # an answer in chunks has none
    try:
        data = b"" if max_bytes is not None and length > max_bytes else _body(answer["Body"], max_bytes)
    except (BotoCoreError, HTTPError) as error:
        raise _BrokenOffError(one_line(error)) from None
    if max_bytes is not None and (held := max(length, len(data))) > max_bytes:
        answer["Body"].close()
        raise RefusedError(f"{uri}: {held} bytes, more than the {max_bytes} that are allowed")
    # Not every server heeds the condition of a read.
    if "IfMatch" in request and answer["ETag"].strip('"') != request["IfMatch"].strip('"'):
        raise OSError(f"{uri}: changed while it was read")
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    now = parsedate_to_datetime(date).timestamp() if date else time.time()
    return Object(data, answer["ETag"], now - answer["LastModified"].timestamp())


def _body(stream: Any, max_bytes: int | None) -> bytes:
    """All of it, but no more than a byte beyond the limit."""
    if max_bytes is None:
        return bytes(stream.read())
    pieces, room = [], max_bytes + 1
    # Up to an empty piece, which is when the stream complains of an answer that broke off.
    while room and (piece := stream.read(min(room, PIECE_BYTES))):
        pieces.append(piece)
        room -= len(piece)
    return b"".join(pieces)


def head(uri: str, brisk: bool = False) -> tuple[int, str]:
    """(bytes, ETag) of an object. Raises OSError as `get` does, but knows a missing bucket as a missing object."""
    bucket, key = split(uri)
    with errors(uri):
        answer = client(brisk).head_object(Bucket=bucket, Key=key)
    return answer["ContentLength"], answer["ETag"]


def put(uri: str, data: bytes, brisk: bool = False, **condition: str) -> str | None:
    """Writes an object in one request, which is atomic; its ETag. Raises OSError.

    `condition`: IfMatch or IfNoneMatch; None if it does not hold. It does hold if an earlier try of this same request
    has written the object and its answer was lost. A server that refuses conditions is asked beforehand whether it
    would hold.
    """
    with errors(uri):
        try:
            return put_if(uri, data, brisk, **condition)
        except ClientError as error:
            if not condition or not is_refused(error):
                raise
    return put(uri, data, brisk) if is_version(uri, condition.get("IfMatch"), brisk) else None


def put_if(uri: str, data: bytes, brisk: bool = False, **condition: str) -> str | None:
    """As `put`, but raises boto3's own errors, also where the server refuses conditions."""
    bucket, key = split(uri)
    try:
        return str(client(brisk).put_object(Bucket=bucket, Key=key, Body=data, **condition)["ETag"])
    except ClientError as error:
        about = error.response["ResponseMetadata"]
        is_gone = "IfMatch" in condition and error.response["Error"]["Code"] == "NoSuchKey"
        if about["HTTPStatusCode"] != 412 and not is_gone:
            raise
    if is_gone or not about["RetryAttempts"]:
        return None
    there = get(uri, brisk=brisk)
    return there.etag if there.data == data else None


def is_refused(error: ClientError) -> bool:
    """Whether a server answers so because it does not take conditions, and not because one does not hold."""
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    is_other = status in _OTHER_REFUSALS or error.response["Error"]["Code"] in _OTHER_CODES
    return status == NOT_IMPLEMENTED or (400 <= status < 500 and not is_other)


def is_version(uri: str, etag: str | None, brisk: bool = False) -> bool:
    """Whether the object has this ETag now; None: whether there is no such object. Raises OSError."""
    try:
        return head(uri, brisk)[1] == etag
    except FileNotFoundError:
        return etag is None


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


def delete_if(uri: str, etag: str) -> None:
    """Deletes an object if it still has this ETag. Raises OSError."""
    bucket, key = split(uri)
    with errors(uri):
        try:
            client().delete_object(Bucket=bucket, Key=key, IfMatch=etag)
        except ClientError as error:
            if is_refused(error):
                if is_version(uri, etag):
                    client().delete_object(Bucket=bucket, Key=key)
            elif error.response["ResponseMetadata"]["HTTPStatusCode"] not in (404, 412):
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
    except ParamValidationError as error:
        raise UserError(f"{where}: {one_line(error)}", "write s3://bucket/prefix") from None
    except (BotoCoreError, ValueError) as error:  # ValueError: a malformed address
        raise UserError(f"{uri}: {one_line(error).rstrip('.')}", s3_settings.advice(error)) from None
