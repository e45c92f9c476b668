"""One file over HTTP, on disk whole or not at all."""

import textwrap
import time
from pathlib import Path
from typing import Any

from imagewizard import __version__
from imagewizard.errors import UserError, one_line
from imagewizard.progress import Repeater, Reporter, clock, silent

# A server that says nothing for so long, when connecting or while reading, has failed.
TIMEOUT_SECONDS = 20.0
# With pauses of 1 and 2 s.
RETRIES = 2
# Of any file: BSDS500 has 71 MB.
MAX_BYTES = 1 << 30
_CHUNK_BYTES = 1 << 18
# Request timeout, too many requests, and what gateways say of a server that is away for a while.
_TRANSIENT = {408, 429, 500, 502, 503, 504}


def fetch(url: str, path: Path, sha256: str | None = None, report: Reporter = silent) -> None:
    """Writes what an http(s) `url` holds to `path`, which must not be there, and reports how far it is.

    Raises UserError if it cannot be fetched, is larger than MAX_BYTES, or is not the file of this `sha256`.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")  # it tells what `report` tells
    transfer = _Transfer(url)
    headers = {"User-Agent": f"imagewizard/{__version__}"}
    receive = pooch.HTTPDownloader(transfer, _CHUNK_BYTES, timeout=TIMEOUT_SECONDS, headers=headers)

    def try_once(url: str, file: str, _: Any) -> None:
        transfer.reset()
        try:
            receive(url, file, None)
        except requests.HTTPError as error:
            if error.response is not None and error.response.status_code not in _TRANSIENT:
                raise _failed(url, error) from None
            raise
        except ValueError as error:  # the URL is none
            raise _failed(url, error) from None

    store = pooch.create(path.parent, "", registry={path.name: sha256}, urls={path.name: url}, retry_if_failed=RETRIES)
    try:
        with Repeater(report, transfer.line, transfer.line):
            store.fetch(path.name, downloader=try_once)
    except (requests.RequestException, ValueError) as error:  # ValueError: another SHA-256
        raise _failed(url, error) from None
    report(transfer.line())


class _Transfer:
    """What pooch takes for a progress bar."""

    def __init__(self, url: str) -> None:
        self.total = 0  # set by pooch; 0 where the server does not tell
        self._url = url
        self.reset()

    def reset(self) -> None:
        self._done, self._started = 0, time.monotonic()

    def update(self, count: int) -> None:
        self._done += count
        if self._done > MAX_BYTES:
            raise UserError(f"{self._url}: more than {MAX_BYTES >> 20} MiB", "give the URL of BSDS500", "from")

    def close(self) -> None:
        pass

    def line(self) -> str:
        """`12.3/70.2 MB  5.1 MB/s  ETA 0:11`."""
        done = min(self._done, self.total or self._done)
        rate = done / max(time.monotonic() - self._started, 1e-3)
        size = f"{done / 1e6:.1f}/{self.total / 1e6:.1f} MB" if self.total else f"{done / 1e6:.1f} MB"
        eta = f"  ETA {clock((self.total - done) / rate)}" if rate and done < self.total else ""
        return f"{size}  {rate / 1e6:.1f} MB/s{eta}"


def _failed(url: str, error: Exception) -> UserError:
    response = getattr(error, "response", None)
    # requests wraps urllib3's MaxRetryError, which wraps what happened.
    cause = getattr(error.args[0], "reason", error) if error.args else error
    reason = f"HTTP {response.status_code} {response.reason}" if response is not None else one_line(cause)
    return UserError(
        f"{url}: {textwrap.shorten(reason, 200)}", "fetch the archive by hand and give it with --from FILE", "from"
    )
