"""boto3's client for S3: requests that outlast short outages, and errors of one line that name the object.

botocore's own retries draw on a quota that one bad minute exhausts; then they give up at once. So they are off, and one
handler decides for every request of the client, including the pages of a listing.
"""

import math
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError
from urllib3.exceptions import HTTPError

from imagewizard.storage import s3_settings

# Ten tries with pauses that double from 0.4 to 20 s, each shortened at random, outlast 42 s of outage on average.
TRIES = 10
FIRST_PAUSE_SECONDS = 0.4
LONGEST_PAUSE_SECONDS = 20.0
# Where an answer is wanted within seconds, even a bad one: before a job starts, and in heartbeats. Ten seconds at most,
# of which the last try may take five.
BRISK_TRIES = 3
BRISK_SECONDS = 5.0

TRANSIENT_STATUS = {408, 429, 500, 502, 503, 504}
# Codes that come with other statuses, or in an answer about many objects: an upload timed out; two conditional writes
# came at once.
TRANSIENT_CODES = {"InternalError", "RequestTimeout", "SlowDown", "ConditionalRequestConflict", "OperationAborted"}


class NoSuchBucketError(OSError):
    """The bucket does not exist. Unlike a missing object, that is a mistake of the user's."""


# Changes an answer before botocore reads it (the event before-parse).
Hook = Callable[..., None]

_clients: dict[tuple[s3_settings.Variables, bool, Hook | None], Any] = {}
_clients_lock = threading.Lock()


def client(brisk: bool = False, hook: Hook | None = None) -> Any:
    """boto3's client by the standard AWS chain, one a process and kind. It retries errors that pass.

    `brisk`: for seconds only. `hook`: sees every answer of this client.
    """
    key = (s3_settings.variables(), brisk, hook)
    with _clients_lock:
        if key not in _clients:
            _clients[key] = _new_client(brisk, hook)
        return _clients[key]


def _new_client(brisk: bool, hook: Hook | None) -> Any:
    config = Config(
        max_pool_connections=64,  # more than the threads of any reader
        connect_timeout=3 if brisk else 10,
        read_timeout=BRISK_SECONDS if brisk else 60,
        tcp_keepalive=True,
        retries={"mode": "standard", "total_max_attempts": 1},
    )
    made = s3_settings.new_client(config)
    made.meta.events.register("before-parse.s3", _refuse_cut_off_body)
    if hook is not None:
        made.meta.events.register_last("before-parse.s3", hook)  # the other one needs the body as it came
    made.meta.events.register("before-call.s3", _note_start)
    limits = (BRISK_TRIES, BRISK_SECONDS) if brisk else (TRIES, math.inf)
    made.meta.events.register_last("needs-retry.s3", partial(_pause, *limits))
    return made


def _forget_clients() -> None:
    global _clients_lock
    _clients_lock = threading.Lock()
    _clients.clear()
    s3_settings.forget()


# A forked process must not use its parent's connections, nor wait for a lock that a thread of the parent held.
os.register_at_fork(after_in_child=_forget_clients)


def _refuse_cut_off_body(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
    """Turns a truncated answer into a failure (500). botocore would take an empty body for a valid, empty listing."""
    body, announced = response_dict["body"], response_dict["headers"].get("content-length")
    if not isinstance(body, bytes) or announced is None or operation_model.http["method"] == "HEAD":
        return
    if len(body) < int(announced):
        response_dict |= {"status_code": 500, "body": b""}


def _note_start(context: dict[str, Any], **_: Any) -> None:
    context["first_try"] = time.monotonic()


def _pause(
    tries: int,
    seconds: float,
    attempts: int,
    response: Any,
    caught_exception: Exception | None,
    request_dict: dict[str, Any],
    **_: Any,
) -> float | None:
    """Seconds to wait before the next try; None if there is none, because of the error or of one of the limits."""
    if caught_exception is not None:
        passes = isinstance(caught_exception, ConnectionError | HTTPClientError)
    else:
        answer = response[1]
        code = answer.get("Error", {}).get("Code")
        passes = answer["ResponseMetadata"]["HTTPStatusCode"] in TRANSIENT_STATUS or code in TRANSIENT_CODES
    late = time.monotonic() - request_dict["context"]["first_try"] > seconds
    return backoff(attempts) if passes and attempts < tries and not late else None


def backoff(attempts: int) -> float:
    """Seconds to wait after so many tries; random, so that many clients do not come back at once."""
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
    """One line without credentials: an address may hold them (user:password@), and a refused header does.

    Nor does it have the parameters of a request.
    """
    if type(error) is HTTPClientError:
        return f"the request cannot be sent ({type(error.kwargs['error']).__name__})"
    if isinstance(error, ClientError):
        text = f"{error.response['Error']['Code']}: {error.response['Error'].get('Message', '')}"
    else:
        text = str(error)
    return s3_settings.without_secrets(text)
