"""The client and bad answers: it retries transient errors, and reports others in one line."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator

import botocore.exceptions
import pytest
from botocore.exceptions import ClientError

from imagewizard.errors import UserError
from imagewizard.storage import s3, s3_client, s3_deleting
from tests.support.s3_faults import FaultyS3


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_client, "FIRST_PAUSE_SECONDS", 0.001)


def test_every_kind_of_request_survives_a_bad_server(faulty_s3: FaultyS3) -> None:
    """One after the other, so that the server's random failures are the same each time."""
    faulty_s3.slow_down, faulty_s3.cut_off = 0.3, 0.2
    contents = {f"{faulty_s3.bucket}/a/{n:03d}": os.urandom(10 * n) for n in range(100)}
    for uri, content in contents.items():
        assert s3.put(uri, content)
    for uri, content in contents.items():
        assert s3.get(uri).data == content
        assert s3.head(uri)[0] == len(content)
    for _ in range(20):
        assert [name for name, _ in s3.entries(f"{faulty_s3.bucket}/a")] == [f"{n:03d}" for n in range(100)]
    for uri in list(contents)[::2]:
        s3_deleting.delete([uri])
    assert [name for name, _ in s3.entries(f"{faulty_s3.bucket}/a")] == [f"{n:03d}" for n in range(1, 100, 2)]
    assert faulty_s3.faults["slow_down"] > 100 and faulty_s3.faults["cut_off"] > 50


def test_threads_share_the_client_on_a_bad_server(faulty_s3: FaultyS3) -> None:
    """Far more consecutive failures than botocore's own retries tolerate (its quota is 500 / 14)."""
    s3.put(f"{faulty_s3.bucket}/a", b"content")
    faulty_s3.slow_down = 0.2
    right = []

    def read() -> None:
        right.extend(s3.get(f"{faulty_s3.bucket}/a").data == b"content" for _ in range(40))

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 320


@pytest.mark.parametrize("cut_at", [0.0, 0.5, 0.99])
def test_truncated_listing_is_retried(faulty_s3: FaultyS3, cut_at: float) -> None:
    for n in range(5):
        s3.put(f"{faulty_s3.bucket}/{n}", b"")
    faulty_s3.cut_off, faulty_s3.cut_at = 0.5, cut_at
    for _ in range(20):
        assert len(list(s3.entries(faulty_s3.bucket))) == 5
    assert faulty_s3.faults["cut_off"] >= 5


def test_gives_up_in_the_end(faulty_s3: FaultyS3) -> None:
    faulty_s3.slow_down = 1.0
    with pytest.raises(OSError, match=f"^{faulty_s3.bucket}/a: SlowDown: Please reduce your request rate.$"):
        s3.get(f"{faulty_s3.bucket}/a")
    assert faulty_s3.requests["GET"] == s3_client.TRIES
    with pytest.raises(OSError, match="SlowDown"):
        s3.put(f"{faulty_s3.bucket}/a", b"", brisk=True)
    assert faulty_s3.requests["PUT"] == s3_client.BRISK_TRIES


def test_permanent_errors_are_not_retried(faulty_s3: FaultyS3) -> None:
    with pytest.raises(FileNotFoundError, match=f"^{faulty_s3.bucket}/none: NoSuchKey[^\n]*$"):
        s3.get(f"{faulty_s3.bucket}/none")
    faulty_s3.denied = "secret"
    with pytest.raises(PermissionError, match=f"^{faulty_s3.bucket}/secret: AccessDenied: Access Denied$"):
        s3.get(f"{faulty_s3.bucket}/secret")
    with pytest.raises(PermissionError):
        s3.head(f"{faulty_s3.bucket}/secret")
    with pytest.raises(s3_client.NoSuchBucketError, match="NoSuchBucket"):
        s3.get(f"{faulty_s3.bucket}-not/a")
    assert faulty_s3.requests == {"GET": 3, "HEAD": 1}


@pytest.mark.parametrize("code", ["RequestTimeout", "ConditionalRequestConflict", "Nonsense"])
def test_transient_codes_with_a_permanent_status(code: str) -> None:
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    request = {"context": {"first_try": time.monotonic()}}
    assert (s3_client._pause(10, 60.0, 1, (None, answer), None, request) is None) == (code == "Nonsense")


def test_pauses_double_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    longest = [max(s3_client.backoff(attempts) for _ in range(200)) for attempts in (1, 2, 5, 9, 50)]
    for pause, limit in zip(longest, (0.4, 0.8, 6.4, 20.0, 20.0), strict=True):
        assert 0.8 * limit < pause <= limit


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a port that refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://somebody:password@127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def test_no_server(no_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server may be back soon."""
    pauses: list[int] = []
    monkeypatch.setattr(s3_client, "backoff", lambda attempts: pauses.append(attempts) or 0.0)
    with pytest.raises(OSError, match=f'^s3://bucket/a: Could not connect to the endpoint URL: "http://{no_server}/'):
        s3.get("s3://bucket/a")
    assert pauses == list(range(1, s3_client.TRIES))


def test_a_brisk_request_to_a_silent_server_is_not_tried_again(
    faulty_s3: FaultyS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three tries of five seconds are too many for whoever waits."""
    monkeypatch.setattr(s3_client, "BRISK_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        with pytest.raises(UserError) as raised:
            s3.check_bucket("s3://bucket/run")
        silent.accept()[0].close()
        silent.setblocking(False)
        with pytest.raises(BlockingIOError):
            silent.accept()
    assert str(raised.value) == (
        f's3://bucket/run: Read timeout on endpoint URL: "{address}/bucket"; '
        f"check AWS_ENDPOINT_URL ({address}) and the network"
    )
    assert s3_client.client(brisk=True).meta.config.connect_timeout <= 3


def test_no_credentials_in_messages(faulty_s3: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", faulty_s3.endpoint.replace("127.0.0.1", "localhost"))  # a new client
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a-token\n")  # invalid in a header
    with pytest.raises(OSError, match=r"^s3://bucket/a: the request cannot be sent") as raised:
        s3.get("s3://bucket/a")
    assert "token" not in str(raised.value) and "Credential" not in str(raised.value)


def test_clients_are_kept_and_not_shared_with_a_fork(faulty_s3: FaultyS3) -> None:
    clients = {id(s3_client.client()) for _ in range(3)} | {id(s3_client.client(brisk=True))}
    assert len(clients) == 2
    s3.put(f"{faulty_s3.bucket}/a", b"content")
    with s3_client._clients_lock:  # as a thread of the parent might do at the fork
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            os._exit(0 if not s3_client._clients and s3.get(f"{faulty_s3.bucket}/a").data == b"content" else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_each_thread_of_a_reader_has_its_own_connection(faulty_s3: FaultyS3) -> None:
    config = s3_client.client().meta.config
    assert config.max_pool_connections >= 32 and config.tcp_keepalive
    assert (config.connect_timeout, config.read_timeout) == (10, 60)


def test_the_client_itself_retries(faulty_s3: FaultyS3) -> None:
    s3.put(f"{faulty_s3.bucket}/a", b"")
    faulty_s3.slow_down = 0.5
    name = faulty_s3.bucket.removeprefix("s3://")
    for _ in range(10):
        assert s3_client.client().list_objects_v2(Bucket=name)["KeyCount"] == 1
    with pytest.raises(ClientError) as raised:
        s3_client.client().get_object(Bucket=name, Key="none")
    assert raised.value.response["Error"]["Code"] == "NoSuchKey"


def test_one_line() -> None:
    error = botocore.exceptions.EndpointConnectionError(endpoint_url="https://me:secret@host/x?list=2", error=None)
    assert s3_client.one_line(error) == 'Could not connect to the endpoint URL: "https://host/x"'
    assert s3_client.one_line(ValueError("two\n  lines")) == "two lines"
