"""Addresses that lead to no cluster, each with what is there instead: one line, within seconds."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import ray
from ray._private import services

from imagewizard.distributed import joining
from imagewizard.distributed.joining import Named
from imagewizard.errors import UserError

KEY = "resources.address"


@pytest.mark.parametrize(
    ("given", "variable", "expected"),
    [
        (None, None, None),
        (None, "", None),
        ("local", "a:1", None),
        (None, "local", None),
        ("a:1", None, Named("a:1", KEY)),
        ("a:1", "b:2", Named("a:1", KEY)),
        (None, "b:2", Named("b:2", "RAY_ADDRESS")),
        ("auto", "b:2", Named("b:2", "RAY_ADDRESS")),
        ("auto", None, Named("auto", KEY)),
    ],
)
def test_which_address_counts(
    given: str | None, variable: str | None, expected: Named | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if variable is not None:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    assert joining.named(given) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("http://127.0.0.1:8265", "is the address of a dashboard, for `imagewizard submit --address`"),
        ("https://ray.example.org", "is the address of a dashboard, for `imagewizard submit --address`"),
        ("ray://127.0.0.1:10001", "cannot be joined from afar; send the job with `imagewizard submit`"),
        ("nonsense", "nonsense is no address of a Ray cluster"),
        ("host:port", "host:port is no address of a Ray cluster"),
        ("host:6379:more", "host:6379:more is no address of a Ray cluster"),
        ("host:70000", "host:70000 is no address of a Ray cluster"),
        (":6379", ":6379 is no address of a Ray cluster"),
        ("http://me:secret@host:8265", "the address holds a password"),
    ],
)
def test_no_address_of_a_cluster(text: str, told: str) -> None:
    for key, where in ((KEY, KEY), ("RAY_ADDRESS", "the environment variable RAY_ADDRESS")):
        with pytest.raises(UserError) as raised:
            joining.check(Named(text, key))
        message = str(raised.value)
        assert message.startswith(f"{key}: ") and told in message and "secret" not in message
        assert "host:port of the cluster's head" in message and f"leave {where} out" in message


class _Page(BaseHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def web_port() -> Iterator[int]:
    """A port where a web server answers."""
    server = HTTPServer(("127.0.0.1", 0), _Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("closed_port", "Connection refused"), ("silent_port", "nothing within 1 s"), ("web_port", "HTTP")],
)
def test_something_else_is_there(
    kind: str, reason: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "silent_port":
        monkeypatch.setattr(joining, "ANSWER_SECONDS", 1.0)
    address = f"127.0.0.1:{request.getfixturevalue(kind)}"
    with pytest.raises(UserError) as raised:
        joining.check(Named(address, KEY))
    message = str(raised.value)
    assert message.startswith(f"{KEY}: no Ray cluster answers at {address} (") and reason in message, message


def test_a_host_that_does_not_exist() -> None:
    with pytest.raises(UserError, match=r"^RAY_ADDRESS: no Ray cluster answers at none-such\.invalid:6379 \("):
        joining.check(Named("none-such.invalid:6379", "RAY_ADDRESS"))


def test_auto_without_a_cluster_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(services, "find_gcs_addresses", set)
    monkeypatch.setattr(services, "find_bootstrap_address", lambda folder: None)
    with pytest.raises(UserError, match=r"^resources\.address: auto finds no Ray cluster on this machine; start one"):
        joining.check(Named("auto", KEY))


@pytest.mark.usefixtures("ray_cluster")
def test_a_cluster_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    address = ray.get_runtime_context().gcs_address
    joining.check(Named(address, KEY))
    monkeypatch.setattr(services, "find_gcs_addresses", lambda: {address})
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    joining.check(Named("auto", KEY))
