"""One file over HTTP, on disk as a whole or not at all. What was dropped is taken up where it ended."""

import http.client
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from imagewizard import __version__
from imagewizard.errors import UserError
from imagewizard.progress import LOG_SECONDS, TERMINAL_SECONDS, clock

# Without a word from the server: of connecting, and of each read.
TIMEOUT_SECONDS = 20.0
# In a row, without a byte more than there was. A minute, then, where nothing answers.
TRIES = 3
RETRY_SECONDS = 1.0
_CHUNK = 1 << 18
# Request timeout, too many requests, and what gateways say of a server that is away for a while.
_PASSING = {408, 429, 500, 502, 503, 504}


class _DroppedError(Exception):
    """A transfer that may go better at the next try; the message says what happened."""


@dataclass
class _Partial:
    path: Path
    validator: str | None = None
    """What makes sure that the rest is of the same file (RFC 9110, If-Range): a strong ETag or a date."""

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0


def fetch(url: str, path: Path) -> None:
    """Writes what an http(s) `url` holds to `path`, and prints how far it is. Raises UserError with the fix.

    The partial file beside `path` is this call's own: an older one is thrown away, for it may be of another file.
    """
    partial = _Partial(path.with_name(f"{path.name}.partial"))
    partial.path.unlink(missing_ok=True)
    reached = tries = 0
    while True:
        try:
            _receive(url, partial)
        except _DroppedError as error:
            tries = 1 if partial.size > reached else tries + 1
            reached = max(reached, partial.size)
            if tries == TRIES:
                raise _failed(url, str(error)) from None
            print(f"{error}; trying again", flush=True)
            time.sleep(RETRY_SECONDS * tries)
        else:
            partial.path.replace(path)
            return


def _receive(url: str, partial: _Partial) -> None:
    """Adds to the partial file what the server sends; returns once it is all there."""
    offset = partial.size if partial.validator else 0
    headers = {"User-Agent": f"imagewizard/{__version__}"}
    if offset and partial.validator:
        headers |= {"Range": f"bytes={offset}-", "If-Range": partial.validator}
    with _open(url, headers) as response:
        # 200: the server knows no ranges, or holds another file by now.
        offset = offset if response.status == 206 else 0
        etag = response.headers.get("ETag")
        partial.validator = etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")
        total = None if response.length is None else offset + response.length  # by Content-Length
        with partial.path.open("ab" if offset else "wb") as stream:
            for chunk in _printed(_chunks(response), offset, total):
                stream.write(chunk)
    if total is not None and partial.size != total:
        raise _DroppedError(f"the connection ended after {partial.size} of {total} bytes")


def _open(url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 (the caller gives http or https)
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)  # noqa: S310
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in _PASSING:
            raise _DroppedError(f"HTTP {error.code} {error.reason}") from None
        raise _failed(url, f"HTTP {error.code} {error.reason}") from None
    except ValueError as error:  # http.client.InvalidURL too: no host, a port that is no number
        raise _failed(url, str(error)) from None
    except (OSError, http.client.HTTPException) as error:
        raise _DroppedError(_reason(error)) from None
    return response


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            chunk = response.read(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _DroppedError(_reason(error)) from None
        if not chunk:
            return
        yield chunk


def _printed(chunks: Iterator[bytes], offset: int, total: int | None) -> Iterator[bytes]:
    """The same chunks; a line now and then, `12.3/70.2 MB  5.1 MB/s  ETA 0:11`, and one at the end."""
    start, end, every = ("\r\x1b[K", "", TERMINAL_SECONDS) if sys.stdout.isatty() else ("", "\n", LOG_SECONDS)
    done, started = offset, time.monotonic()
    due = started + every
    try:
        for chunk in chunks:
            yield chunk
            done += len(chunk)
            if time.monotonic() >= due:
                due += every
                print(start + _line(done, offset, total, time.monotonic() - started), end=end, flush=True)
    finally:
        print(start + _line(done, offset, total, time.monotonic() - started), flush=True)


def _line(done: int, offset: int, total: int | None, seconds: float) -> str:
    rate = (done - offset) / max(seconds, 1e-3)
    size = f"{done / 1e6:.1f} MB" if total is None else f"{done / 1e6:.1f}/{total / 1e6:.1f} MB"
    eta = f"  ETA {clock((total - done) / rate)}" if total and rate and done < total else ""
    return f"{size}  {rate / 1e6:.1f} MB/s{eta}"


def _reason(error: Exception) -> str:
    """In one line, without urllib's wrapping."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return " ".join(str(cause).split()) or type(cause).__name__


def _failed(url: str, reason: str) -> UserError:
    return UserError(f"from: {url}: {reason}; fetch the archive by hand and give it with --from FILE")
