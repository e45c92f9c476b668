"""Downloads from real HTTP servers, well-behaved and faulty."""

import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from imagewizard.datasets import download
from imagewizard.errors import UserError

BODY = np.random.default_rng(0).bytes(1_500_000)


class Server(ThreadingHTTPServer):
    """Serves `body` at every path; `behaviour` has a word for each coming request; later ones are "well"."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = BODY
        self.behaviour: list[str] = []
        self.requests = 0
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/set.tgz"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        word = self.server.behaviour.pop(0) if self.server.behaviour else "well"
        self.server.requests += 1
        if word.isdigit():
            self.send_error(int(word))
        elif word == "hang":
            self.server.released.wait(20)
        else:
            self._send_body(word)

    def _send_body(self, word: str) -> None:
        if word == "changed":
            self.server.body = BODY[::-1]
        body = self.server.body
        self.send_response(200)
        if word != "no length":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if word.startswith("cut") else body)
        if word == "cut and stall":
            self.server.released.wait(20)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    running = Server()
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield running
    running.released.set()
    running.shutdown()
    running.server_close()
    thread.join()


def test_a_file_is_downloaded_with_progress(server: Server, tmp_path: Path) -> None:
    reported: list[str] = []
    download.fetch(server.url, tmp_path / "set.tgz", report=reported.append)
    assert (tmp_path / "set.tgz").read_bytes() == BODY
    assert [path.name for path in tmp_path.iterdir()] == ["set.tgz"]
    assert len(reported) == 1 and reported[0].startswith("1.5/1.5 MB  ")


@pytest.mark.parametrize("behaviour", [["no length"], ["cut"], ["cut and stall"], ["503"], ["cut", "changed"]], ids=str)
def test_transient_errors_are_retried(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behaviour: list[str]
) -> None:
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 1.0)
    server.behaviour = list(behaviour)
    download.fetch(server.url, tmp_path / "set.tgz")
    assert (tmp_path / "set.tgz").read_bytes() == server.body
    assert server.requests == len(behaviour) + (behaviour != ["no length"] and "changed" not in behaviour)


def test_the_published_file_is_checked_by_its_hash(server: Server, tmp_path: Path) -> None:
    download.fetch(server.url, tmp_path / "a", hashlib.sha256(BODY).hexdigest())
    assert (tmp_path / "a").read_bytes() == BODY
    with pytest.raises(UserError, match=r"^from: http[^\n]*hash[^\n]*; fetch the archive by hand"):
        download.fetch(server.url, tmp_path / "b", hashlib.sha256(b"").hexdigest())
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_download_of_a_far_too_large_file_is_aborted(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 1 << 20)
    with pytest.raises(UserError, match="more than 1 MiB"):
        download.fetch(server.url, tmp_path / "set.tgz")
    assert server.requests == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("behaviour", "reason", "requests"),
    [
        (["404"], "HTTP 404 Not Found", 1),
        (["503"] * 9, "HTTP 503 Service Unavailable", 3),
        (["cut"] * 9, ".*750000 bytes read, 750000 more expected.*", 3),
        (["hang"] * 9, ".*timed out.*", 3),
    ],
)
def test_a_failure_names_the_url_and_what_to_do(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    behaviour: list[str],
    reason: str,
    requests: int,
) -> None:
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.5 if "hang" in behaviour else 5.0)
    server.behaviour = behaviour
    with pytest.raises(UserError) as caught:
        download.fetch(server.url, tmp_path / "set.tgz")
    expected = f"from: {server.url}: {reason}; fetch the archive by hand and give it with --from FILE"
    assert re.fullmatch(expected, str(caught.value))
    assert server.requests == requests
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:1/set.tgz", "Connection refused"),
        ("http://127.0.0.1:port/set.tgz", "Failed to parse"),
        ("http:///set.tgz", "No host supplied"),
        ("http://nowhere.invalid/set.tgz", "http://nowhere.invalid/set.tgz: "),
    ],
)
def test_a_dead_url_gives_a_one_line_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, reason: str
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    with pytest.raises(UserError, match=reason) as caught:
        download.fetch(url, tmp_path / "set.tgz")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
