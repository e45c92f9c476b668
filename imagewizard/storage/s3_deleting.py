"""Deleting objects in S3: a thousand in one request, or one by one where the server has no such request."""

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from imagewizard.storage import s3
from imagewizard.storage.s3_client import TRANSIENT_CODES, TRIES, backoff, client, errors

_KEYS_PER_DELETE = 1000  # S3's limit
# Of single deletes at once. A shard has some thousand block files, and a request takes 50 ms.
_THREADS = 16

# The clients whose servers have no request for many objects.
_one_by_one: set[Any] = set()


def delete(uris: list[str]) -> None:
    """Deletes objects; missing ones are no error. Raises OSError, which names the first that could not be deleted."""
    keys: dict[str, list[str]] = {}
    for uri in uris:
        bucket, key = s3.split(uri)
        keys.setdefault(bucket, []).append(key)
    for bucket, all_keys in keys.items():
        for start in range(0, len(all_keys), _KEYS_PER_DELETE):
            _delete_batch(bucket, all_keys[start : start + _KEYS_PER_DELETE])


def _delete_batch(bucket: str, keys: list[str]) -> None:
    left = keys
    for attempts in range(1, TRIES + 1):
        if client() in _one_by_one or (failed := _ask_for_all(bucket, left)) is None:
            _delete_singly(bucket, left)
            return
        if not failed:
            return
        first = failed[0]
        left = [each["Key"] for each in failed]
        if attempts == TRIES or any(each["Code"] not in TRANSIENT_CODES for each in failed):
            kind = PermissionError if first["Code"] == "AccessDenied" else OSError
            more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
            raise kind(f"s3://{bucket}/{first['Key']}: {first['Code']}: {first.get('Message', '')}{more}")
        time.sleep(backoff(attempts))


def _ask_for_all(bucket: str, keys: list[str]) -> list[dict[str, str]] | None:
    """What failed of a request for all; None if the server refuses the request as such."""
    with errors(f"s3://{bucket}/{keys[0]}"):
        try:
            answer = client().delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys]})
            return list(answer.get("Errors", []))
        except ClientError as error:
            status, code = error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
            # Servers say it in many ways: 501, 405, 400 for a checksum that they want otherwise. One that refuses us
            # altogether says so again, of the first object.
            if code == "NoSuchBucket" or (status >= 500 and status != s3.NOT_IMPLEMENTED):
                raise
            return None


def _delete_singly(bucket: str, keys: list[str]) -> None:
    with ThreadPoolExecutor(min(_THREADS, len(keys))) as pool:
        for _ in pool.map(partial(_delete_one, bucket), keys):
            pass
    _one_by_one.add(client())


def _delete_one(bucket: str, key: str) -> None:
    with errors(f"s3://{bucket}/{key}"):
        try:
            client().delete_object(Bucket=bucket, Key=key)
        except ClientError as error:
            # Some servers, unlike AWS, tell that there is none.
            if error.response["Error"]["Code"] not in ("NoSuchKey", "404"):
                raise
