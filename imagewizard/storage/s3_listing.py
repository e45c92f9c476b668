"""All keys below an S3 prefix, listed by several threads at once, however the keys are spread over folders.

S3 lists keys in order, a thousand a request, and each request waits for the last one's end. So the threads share the
key space: an idle thread takes over the second half of a busy thread's key range, cut at a key that need not exist.
Folders play no part: a million keys in one folder, or each in a folder of its own, are listed alike.
"""

import re
import threading
from collections.abc import Generator, Iterator
from itertools import takewhile
from typing import Any

from imagewizard.storage import s3, s3_client
from imagewizard.storage.interleave import interleave

THREADS = 16
# Pages of 1,000 keys, some 200 bytes each, that wait for the consumer: 6 MB at most.
WAITING_PAGES = 32

# Bounds for the characters of a cut: most keys are printable ASCII. For others the bound is the last character before
# UTF-16's surrogates, which are no characters.
_BELOW_ASCII, _ABOVE_ASCII, _LAST = 0x1F, 0x7F, 0xD7FF


def kind(uri: str) -> str | None:
    """file if there is such an object, folder if it is a bucket or any key lies below it, None if neither.

    What is both is a file, unless that is empty, or the URI ends in a slash.

    Raises UserError, within seconds, if there is no such bucket or it may not be listed.
    """
    s3.check_bucket(uri)
    bucket, key = s3.split(uri)
    # The least of all keys with a prefix is the prefix itself.
    first = _list(bucket, key, None, 1).get("Contents", []) if key and not key.endswith("/") else []
    is_there = bool(first) and first[0]["Key"] == key
    if is_there and first[0]["Size"]:
        return "file"
    # An empty object of the prefix's own name is the mark of a folder that some programs make.
    if s3.has_below(uri):
        return "folder"
    return "file" if is_there else None


def pages(uri: str, threads: int = THREADS) -> Iterator[list[tuple[str, int]]]:
    """The (key, bytes) of all objects below a prefix, in pages of up to a thousand; in order if one thread lists them.

    Raises OSError if the server fails for good.
    """
    bucket, key = s3.split(uri.rstrip("/"))
    prefix = f"{key}/" if key else ""
    ranges = _Ranges()
    yield from interleave([_work(bucket, prefix, ranges) for _ in range(threads)], WAITING_PAGES)


class _Ranges:
    """The ranges (after, until] of keys that no thread lists yet; None: without bound."""

    def __init__(self) -> None:
        self._open: list[tuple[str | None, str | None]] = [(None, None)]
        self._busy = self._waiting = 0
        self._changed = threading.Condition()

    def take(self) -> tuple[str | None, str | None] | None:
        """A range, once there is one; None when there will be none. Who takes one calls `done` in the end."""
        with self._changed:
            self._waiting += 1
            while not self._open and self._busy:
                self._changed.wait()
            self._waiting -= 1
            if not self._open:
                return None
            self._busy += 1
            return self._open.pop()

    def are_wanted(self) -> bool:
        """Whether there are more threads without a range than ranges."""
        return self._waiting > len(self._open)

    def give(self, after: str, until: str | None) -> None:
        with self._changed:
            self._open.append((after, until))
            self._changed.notify()

    def done(self) -> None:
        with self._changed:
            self._busy -= 1
            self._changed.notify_all()


def _work(bucket: str, prefix: str, ranges: _Ranges) -> Generator[list[tuple[str, int]], None, None]:
    """One thread's pages: lists range after range, and gives the second half of one away if a thread is idle.

    At most one cut a page, so that cuts into empty ranges cost no more requests than the listing itself.
    """
    while (taken := ranges.take()) is not None:
        after, until = taken
        try:
            more = True
            while more:
                page = _list(bucket, prefix, after, 1000)
                objects = page.get("Contents", [])
                keys = [(each["Key"], each["Size"]) for each in objects if until is None or each["Key"] <= until]
                more = page["IsTruncated"] and (until is None or objects[-1]["Key"] < until)
                yield keys
                if more:
                    after = keys[-1][0]
                    if ranges.are_wanted() and (middle := between(after, until, len(prefix))) is not None:
                        ranges.give(middle, until)
                        until = middle
        finally:
            ranges.done()


def between(low: str, high: str | None, start: int) -> str | None:
    """A text between two keys, near the middle of the possible ones; None if there is none.

    `start`: the number of characters that all keys share. S3 compares keys as UTF-8, which keeps the order of
    characters.
    """
    shared = start
    if high is not None:
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(low, high, strict=False)))
    for place in range(shared, len(low) + 1):
        least = ord(low[place]) if place < len(low) else _BELOW_ASCII
        most = _ABOVE_ASCII if least < _ABOVE_ASCII else _LAST
        if high is not None and place == shared:
            most = ord(high[place])
        middle = (least + most) // 2
        if least < middle <= _LAST:
            return low[:place] + chr(middle)
    return None


# Three quarters of the time that botocore takes for a page go into dates and other fields that nobody asked for.
_UNUSED = re.compile(rb"<(LastModified|ETag|StorageClass)>[^<]*</\1>")


def _leave_out_unused(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
    response_dict["body"] = _UNUSED.sub(b"", response_dict["body"])


def _list(bucket: str, prefix: str, after: str | None, keys: int) -> dict[str, Any]:
    request = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": keys} | ({} if after is None else {"StartAfter": after})
    with s3_client.errors(f"s3://{bucket}/{prefix}"):
        # A client of its own: other callers want the fields that the hook leaves out.
        return dict(s3_client.client(hook=_leave_out_unused).list_objects_v2(**request))
