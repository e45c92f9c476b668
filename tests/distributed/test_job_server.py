"""A cluster's job server: which one is meant, and what is said where there is none or it refuses us."""

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from imagewizard.distributed import job_server
from imagewizard.distributed.job_server import find_address
from imagewizard.errors import UserError
from tests.support import submitting
from tests.support.local_cluster import LocalCluster


@pytest.fixture
def elsewhere() -> Iterator[ThreadingHTTPServer]:
    """A stand-in for another cluster, which notes who calls and answers 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.calls.append(self.path)
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.calls = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def url(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


def token(cluster: LocalCluster) -> dict[str, str]:
    """What a user exports, without the address."""
    return {name: value for name, value in cluster.environment.items() if name != "RAY_API_SERVER_ADDRESS"}


def jobs(folder: Path, *words: str, **environment: str) -> tuple[int, str]:
    """(exit code, output) of `imagewizard jobs`."""
    return submitting.run(["jobs", *words], folder, environment)


def test_the_address_is_the_given_one_else_that_of_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(UserError, match=r"^--address: no cluster is named; give --address"):
        find_address(None)
    monkeypatch.setenv("RAY_ADDRESS", "http://c")
    assert str(find_address(None)) == "http://c (from RAY_ADDRESS)"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://b/")
    assert str(find_address(None)) == "http://b (from RAY_API_SERVER_ADDRESS)"
    assert str(find_address("http://a")) == "http://a"
    for address in ("http://me:pw@a", "me:pw@a:8265"):
        with pytest.raises(UserError, match="holds a password") as error:
            find_address(address)
        assert "pw" not in str(error.value)
    with pytest.raises(UserError, match=r"^--address: the address is empty"):
        find_address("")


def test_the_variables_do_not_override_the_address(
    token_cluster: LocalCluster, elsewhere: ThreadingHTTPServer, tmp_path: Path
) -> None:
    others = {"RAY_API_SERVER_ADDRESS": url(elsewhere), "RAY_ADDRESS": url(elsewhere)}
    code, output = jobs(tmp_path, "--address", token_cluster.address, **token(token_cluster), **others)
    assert code == 0, output
    assert not elsewhere.calls
    code, output = jobs(tmp_path, **token(token_cluster), **others)
    assert code == 2 and elsewhere.calls
    assert f"error: RAY_API_SERVER_ADDRESS: what answers at {url(elsewhere)} is no Ray dashboard" in output
    others["RAY_API_SERVER_ADDRESS"] = token_cluster.address
    assert jobs(tmp_path, **token(token_cluster), **others)[0] == 0


def test_a_cluster_may_be_named_as_ray_itself_takes_it(token_cluster: LocalCluster, tmp_path: Path) -> None:
    for name in (token_cluster.address.removeprefix("http://"), token_cluster.gcs_address):
        code, output = jobs(tmp_path, "--address", name, **token(token_cluster))
        assert code == 0, output


def test_a_request_without_the_token_is_refused(token_cluster: LocalCluster) -> None:
    jobs_url = f"{token_cluster.address}/api/jobs/"
    assert requests.get(jobs_url, timeout=10).status_code == 401
    submission = {"entrypoint": "true", "submission_id": "not-mine"}
    assert requests.post(jobs_url, json=submission, timeout=10).status_code == 401
    assert requests.get(jobs_url, headers={"Authorization": "Bearer wrong"}, timeout=10).status_code == 403
    secret = Path(token_cluster.environment["RAY_AUTH_TOKEN_PATH"]).read_text()
    answer = requests.get(jobs_url, headers={"Authorization": f"Bearer {secret}"}, timeout=10)
    assert answer.status_code == 200 and "not-mine" not in answer.text


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({}, "asks for a token, and none was sent; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}, "refuses the token: it is another cluster's; set"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "my\nsecret"}, "the token holds a line break"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/nowhere/token"}, "/nowhere/token; set RAY_AUTH_MODE"),
        ({"RAY_AUTH_MODE": "token", "HOME": "/nowhere"}, "couldn't find an authentication token"),
    ],
    ids=["none", "wrong", "of two lines", "no file", "nothing set"],
)
def test_a_missing_or_wrong_token_is_one_line(
    token_cluster: LocalCluster, tmp_path: Path, environment: Mapping[str, str], complaint: str
) -> None:
    code, output = jobs(tmp_path, "--address", token_cluster.address, **environment)
    assert code == 2 and output.startswith("error: ") and output.count("\n") == 1
    assert complaint in output and "secret" not in output


def test_the_dashboard_is_on_loopback(token_cluster: LocalCluster) -> None:
    host, port = token_cluster.address.removeprefix("http://").split(":")
    assert host == "127.0.0.1"
    own_address = socket.gethostbyname(socket.gethostname())
    if not own_address.startswith("127."):
        with pytest.raises(OSError):
            socket.create_connection((own_address, int(port)), timeout=5).close()


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def closed() -> Iterator[str]:
    """An address where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.long
def test_no_cluster_at_the_address_is_one_line(closed: str, tmp_path: Path) -> None:
    started = time.monotonic()
    code, output = jobs(tmp_path, "--address", closed)
    assert code == 2 and output.count("\n") == 1
    assert output.startswith(f"error: --address: no Ray cluster answers at {closed}")
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("kind", ["closed", "silent"])
def test_no_server_at_the_address(kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_server, "CONNECT_SECONDS", 1.0)
    monkeypatch.setattr(job_server._Client, "timeout", (1.0, 1.0))
    address = f"http://{request.getfixturevalue(kind)}"
    with pytest.raises(UserError, match=f"^--address: no Ray cluster answers at {address}"):
        job_server.JobServer(find_address(address))


@pytest.mark.parametrize("address", ["ray://head:10001", "ftp://x", "http://", "http://nowhere.invalid:99999"])
def test_what_is_no_address_is_one_line(address: str) -> None:
    with pytest.raises(UserError, match=r"^--address: "):
        job_server.JobServer(find_address(address))
