"""Downloads from a real HTTP server that behaves, and from ones that do not."""

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
    """Serves `body` at every path; `behaviour` has a word for each request to come, after which it is "well"."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = BODY
        self.behaviour: list[str] = []
        self.etag: str | None = '"one"'
        self.ranges: list[str | None] = []
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
        self.server.ranges.append(self.headers.get("Range"))
        if word.isdigit():
            self.send_error(int(word))
        elif word == "hang":
            self.server.released.wait(20)
        else:
            self._send_body(word)

    def _send_body(self, word: str) -> None:
        if word == "changed":
            self.server.body, self.server.etag = BODY[::-1], '"two"'
        start = 0
        wanted = self.headers.get("Range")
        if wanted and word != "no ranges" and self.headers.get("If-Range") == self.server.etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        body = self.server.body[start:]
        self.send_response(206 if start else 200)
        if self.server.etag:
            self.send_header("ETag", self.server.etag)
        if word != "no length":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if word.startswith("cut") else body)
        if word == "cut and stall":
            self.server.released.wait(20)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "RETRY_SECONDS", 0)
    running = Server()
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield running
    running.released.set()
    running.shutdown()
    running.server_close()
    thread.join()


def test_a_file_comes_whole_and_says_how_far_it_is(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    download.fetch(server.url, tmp_path / "set.tgz")
    assert (tmp_path / "set.tgz").read_bytes() == BODY
    assert [path.name for path in tmp_path.iterdir()] == ["set.tgz"]
    assert capsys.readouterr().out.startswith("1.5/1.5 MB  ")


def test_a_server_that_tells_no_length_is_read_to_its_end(server: Server, tmp_path: Path) -> None:
    server.behaviour = ["no length"]
    download.fetch(server.url, tmp_path / "set.tgz")
    assert (tmp_path / "set.tgz").read_bytes() == BODY


@pytest.mark.parametrize("word", ["cut", "cut and stall"])
def test_a_dropped_connection_is_taken_up_where_it_ended(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.3)
    server.behaviour = [word]
    download.fetch(server.url, tmp_path / "set.tgz")
    assert (tmp_path / "set.tgz").read_bytes() == BODY
    first, second = server.ranges
    assert first is None and second is not None
    # what a read had begun with when the line went dead is lost
    assert 0 < int(second.removeprefix("bytes=").removesuffix("-")) <= 750_000


def test_a_slow_line_that_moves_on_is_never_given_up(server: Server, tmp_path: Path) -> None:
    server.behaviour = ["cut"] * 8
    download.fetch(server.url, tmp_path / "set.tgz")
    assert (tmp_path / "set.tgz").read_bytes() == BODY
    assert len(server.ranges) == 9


def test_where_the_file_changed_in_between_it_is_read_anew(server: Server, tmp_path: Path) -> None:
    server.behaviour = ["cut", "changed"]
    download.fetch(server.url, tmp_path / "set.tgz")
    assert (tmp_path / "set.tgz").read_bytes() == BODY[::-1]
    assert server.ranges == [None, "bytes=750000-"]


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_strong_validator_it_is_read_anew(server: Server, tmp_path: Path, etag: str | None) -> None:
    server.behaviour, server.etag = ["cut"], etag
    download.fetch(server.url, tmp_path / "set.tgz")
    assert (tmp_path / "set.tgz").read_bytes() == BODY
    assert server.ranges == [None, None]


def test_a_server_without_ranges_sends_it_anew(server: Server, tmp_path: Path) -> None:
    server.behaviour = ["cut", "no ranges"]
    download.fetch(server.url, tmp_path / "set.tgz")
    assert (tmp_path / "set.tgz").read_bytes() == BODY


def test_an_older_partial_file_is_not_gone_on_with(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.tgz.partial").write_bytes(b"of another file")
    server.behaviour = ["503"]
    download.fetch(server.url, tmp_path / "set.tgz")
    assert (tmp_path / "set.tgz").read_bytes() == BODY


@pytest.mark.parametrize(
    ("behaviour", "etag", "reason", "requests"),
    [
        (["404"], '"one"', "HTTP 404 Not Found", 1),
        (["503"] * 9, '"one"', "HTTP 503 Service Unavailable", 3),
        # the same half each time: the first try got somewhere, the other two no further
        (["cut"] * 9, None, "the connection ended after 750000 of 1500000 bytes", 3),
        (["hang"] * 9, '"one"', "timed out", 3),
    ],
)
def test_a_failure_names_the_url_and_what_to_do(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    behaviour: list[str],
    etag: str | None,
    reason: str,
    requests: int,
) -> None:
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.1 if "hang" in behaviour else 5.0)
    server.behaviour, server.etag = behaviour, etag
    with pytest.raises(UserError) as caught:
        download.fetch(server.url, tmp_path / "set.tgz")
    message = str(caught.value)
    assert message == f"from: {server.url}: {reason}; fetch the archive by hand and give it with --from FILE"
    assert len(server.ranges) == requests
    assert not (tmp_path / "set.tgz").exists()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:1/set.tgz", "Connection refused"),
        ("http://127.0.0.1:port/set.tgz", "nonnumeric port"),
        ("http:///set.tgz", "no host given"),
        ("http://nowhere.invalid/set.tgz", "http://nowhere.invalid/set.tgz: "),
    ],
)
def test_a_url_that_leads_nowhere_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, reason: str
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "RETRY_SECONDS", 0)
    with pytest.raises(UserError, match=reason) as caught:
        download.fetch(url, tmp_path / "set.tgz")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
