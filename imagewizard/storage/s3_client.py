"""boto3's client for S3: requests that outlast what passes, and errors of one line that name the object.

botocore's own retries spend tokens from a bucket that a bad minute empties; after that they give up at once. So they
are off here, and one handler decides for every request of the client, the pages of a listing among them.
"""

import os
import random
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError
from urllib3.exceptions import HTTPError

# Ten tries with pauses that double from 0.4 to 20 s, each shortened at random, outlast 42 s of outage on average.
TRIES = 10
FIRST_PAUSE_SECONDS = 0.4
LONGEST_PAUSE_SECONDS = 20.0
# Where the answer, be it a bad one, is wanted within seconds: before a job starts, and in heartbeats.
BRISK_TRIES = 3

TRANSIENT_STATUS = {408, 429, 500, 502, 503, 504}
# Codes that come with other statuses, or in an answer about many objects: S3's clock ran out on an upload; two
# conditional writes came at once.
TRANSIENT_CODES = {"InternalError", "RequestTimeout", "SlowDown", "ConditionalRequestConflict", "OperationAborted"}


class NoSuchBucketError(OSError):
    """The bucket is not there: unlike a missing object, a mistake."""


def endpoint() -> str | None:
    """The address of an S3 server that is not AWS's."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None


# Changes an answer before botocore reads it (the event before-parse).
Hook = Callable[..., None]

_clients: dict[tuple[str | None, bool, Hook | None], Any] = {}
_clients_lock = threading.Lock()


def client(brisk: bool = False, hook: Hook | None = None) -> Any:
    """boto3's client by the standard AWS chain, one a process and kind. It retries errors that pass.

    `brisk`: for seconds only. `hook`: sees every answer of this client.
    """
    key = (endpoint(), brisk, hook)
    with _clients_lock:
        if key not in _clients:
            _clients[key] = _new_client(*key)
        return _clients[key]


def _new_client(endpoint_url: str | None, brisk: bool, hook: Hook | None) -> Any:
    config = Config(
        max_pool_connections=64,  # more than the threads of any reader
        connect_timeout=3 if brisk else 10,
        read_timeout=10 if brisk else 60,
        tcp_keepalive=True,
        retries={"mode": "standard", "total_max_attempts": 1},
    )
    made = boto3.session.Session().client("s3", endpoint_url=endpoint_url, config=config)
    made.meta.events.register("before-parse.s3", _refuse_cut_off_body)
    if hook is not None:
        made.meta.events.register_last("before-parse.s3", hook)  # the other one needs the body as it came
    made.meta.events.register_last("needs-retry.s3", partial(_pause, BRISK_TRIES if brisk else TRIES))
    return made


def _forget_clients() -> None:
    global _clients_lock
    _clients_lock = threading.Lock()
    _clients.clear()


# A forked process must not talk on its parent's connections, nor wait for a lock that a thread of the parent held.
os.register_at_fork(after_in_child=_forget_clients)


def _refuse_cut_off_body(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
    """Makes a cut off answer a failure (500), which botocore would not see: an empty listing is valid to it."""
    body, announced = response_dict["body"], response_dict["headers"].get("content-length")
    if not isinstance(body, bytes) or announced is None or operation_model.http["method"] == "HEAD":
        return
    if len(body) < int(announced):
        response_dict |= {"status_code": 500, "body": b""}


def _pause(tries: int, attempts: int, response: Any, caught_exception: Exception | None, **_: Any) -> float | None:
    """Seconds to wait before the request is made again; None if it is not to be."""
    if caught_exception is not None:
        passes = isinstance(caught_exception, ConnectionError | HTTPClientError)
    else:
        answer = response[1]
        code = answer.get("Error", {}).get("Code")
        passes = answer["ResponseMetadata"]["HTTPStatusCode"] in TRANSIENT_STATUS or code in TRANSIENT_CODES
    return backoff(attempts) if passes and attempts < tries else None


def backoff(attempts: int) -> float:
    """Seconds to wait after so many tries; at random, so that a crowd does not come back at once."""
    return random.uniform(0.0, min(FIRST_PAUSE_SECONDS * 2 ** (attempts - 1), LONGEST_PAUSE_SECONDS))  # noqa: S311


@contextmanager
def errors(uri: str) -> Iterator[None]:
    """Turns boto3's errors into OSErrors that name the object."""
    try:
        yield
    except (BotoCoreError, ClientError, HTTPError) as error:
        message = f"{uri}: {one_line(error)}"
        if isinstance(error, ClientError):
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if error.response["Error"]["Code"] == "NoSuchBucket":
                raise NoSuchBucketError(message) from None
            if status in (403, 404):
                raise (PermissionError if status == 403 else FileNotFoundError)(message) from None
            if status == 412:
                raise OSError(f"{uri}: changed while it was read") from None
        raise OSError(message) from None


def one_line(error: Any) -> str:
    """One line without credentials, which an address may hold (user:password@) and a header that was refused does."""
    if type(error) is HTTPClientError:
        return f"the request cannot be sent ({type(error.kwargs['error']).__name__})"
    if isinstance(error, ClientError):
        text = f"{error.response['Error']['Code']}: {error.response['Error'].get('Message', '')}"
    else:
        text = str(error)
    return re.sub(r"//[^/@\s]*@", "//", " ".join(text.split()))
