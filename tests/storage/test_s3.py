"""Objects on a real S3 server that fails on demand: truncated bodies, conditional writes, bulk answers."""

import os
import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pytest

from imagewizard.errors import UserError
from imagewizard.storage import RefusedError, s3, s3_client
from tests.storage.conftest import CONTENT
from tests.support.s3_faults import FaultyS3

pytestmark = pytest.mark.usefixtures("short_pauses")


# --- reading


def test_a_read_is_one_request(faulty_s3: FaultyS3, uri: str) -> None:
    assert s3.get(uri).data == CONTENT
    assert s3.get(uri, max_bytes=len(CONTENT)).data == CONTENT
    assert s3.get(uri, span=(1, 300)).data == CONTENT[1:301]
    assert faulty_s3.requests == {"GET": 3}


@pytest.mark.parametrize("span", [(len(CONTENT) - 10, 11), (len(CONTENT), 1)])
def test_a_range_beyond_the_end(uri: str, span: tuple[int, int]) -> None:
    with pytest.raises(OSError, match=f"^{uri.replace('+', '.')}: [^\n]*$"):
        s3.get(uri, span=span)


def test_too_large_objects_are_not_read(faulty_s3: FaultyS3, uri: str) -> None:
    faulty_s3.cut_off, faulty_s3.lose_answers = 1.0, True  # reading a body would fail
    with pytest.raises(OSError, match=r": 256000 bytes, more than the 255999 that are allowed$"):
        s3.get(uri, max_bytes=len(CONTENT) - 1)
    assert faulty_s3.requests == {"GET": 1}


class Endless(BaseHTTPRequestHandler):
    """Answers that have no length and no end, whatever range is asked for, as a server may send them."""

    def do_GET(self) -> None:
        self.send_response(200)
        for name, value in (("ETag", '"x"'), ("Last-Modified", self.date_time_string())):
            self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):  # until the reader hangs up
            while True:
                self.wfile.write(bytes(1 << 16))

    def log_message(self, *_: object) -> None:
        pass


def test_no_read_goes_beyond_its_limit(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        for limit in ({"max_bytes": 1000}, {"span": (7, 1000)}, {"max_bytes": s3.PIECE_BYTES}):
            with pytest.raises(RefusedError, match=r": \d+ bytes, more than the \d+ that are allowed$"):
                s3.get(f"{bucket}/key", **limit)
        server.shutdown()


@pytest.mark.parametrize("cut_at", [0.0, 0.5, 0.999])
def test_a_truncated_body_is_read_again(faulty_s3: FaultyS3, uri: str, cut_at: float) -> None:
    faulty_s3.cut_off, faulty_s3.cut_at = 0.5, cut_at
    for _ in range(20):
        assert s3.get(uri).data == CONTENT
        assert s3.get(uri, max_bytes=len(CONTENT)).data == CONTENT
        assert s3.get(uri, span=(7, 20_000)).data == CONTENT[7:20_007]
    assert faulty_s3.faults["cut_off"] > 10


def test_a_body_that_is_always_truncated(faulty_s3: FaultyS3, uri: str) -> None:
    faulty_s3.cut_off = 1.0
    with pytest.raises(OSError, match=r": broke off 10 times, at last with: [^\n]*$"):
        s3.get(uri)
    assert faulty_s3.requests["GET"] == s3_client.TRIES


def test_replaced_object_is_detected(uri: str) -> None:
    _, etag = s3.head(uri)
    assert s3.get(uri, etag=etag).etag == etag
    s3.put(uri, b"other")
    with pytest.raises(OSError, match="changed while it was read"):
        s3.get(uri, etag=etag)


def test_age_uses_the_clock_of_the_server(faulty_s3: FaultyS3, uri: str) -> None:
    faulty_s3.clock_ahead = 1000.0
    assert 1000 - 2 <= s3.get(uri).age_seconds < 1000 + 300


# --- writing


def test_conditions(uri: str) -> None:
    assert s3.put(uri, b"new", IfNoneMatch="*") is None
    first = s3.put(f"{uri}2", b"first", IfNoneMatch="*")
    assert first is not None
    second = s3.put(f"{uri}2", b"second", IfMatch=first)
    assert second is not None and second == s3.head(f"{uri}2")[1]
    assert s3.put(f"{uri}2", b"third", IfMatch=first) is None
    assert s3.put(f"{uri}3", b"of nothing", IfMatch=first) is None
    assert s3.get(f"{uri}2").data == b"second"
    s3.delete_if(f"{uri}2", first)
    s3.delete_if(f"{uri}3", first)
    assert s3.get(f"{uri}2").data == b"second"
    s3.delete_if(f"{uri}2", second)
    with pytest.raises(FileNotFoundError):
        s3.get(f"{uri}2")


def test_a_write_with_a_lost_answer_recognises_its_own_object(faulty_s3: FaultyS3) -> None:
    faulty_s3.cut_off, faulty_s3.lose_answers = 0.5, True
    for n in range(10):
        etag = s3.put(f"{faulty_s3.bucket}/{n}", b"%d" % n, IfNoneMatch="*")
        assert etag is not None
        assert s3.put(f"{faulty_s3.bucket}/{n}", b"%d again" % n, IfMatch=etag) is not None
        assert s3.put(f"{faulty_s3.bucket}/{n}", b"of another", IfNoneMatch="*") is None
        assert s3.get(f"{faulty_s3.bucket}/{n}").data == b"%d again" % n
    assert faulty_s3.faults["cut_off"] > 5


def test_equal_content_from_another_writer_is_not_ours(uri: str) -> None:
    assert s3.put(uri, CONTENT, IfNoneMatch="*") is None


# --- listing


def test_folder_markers_are_not_listed(faulty_s3: FaultyS3) -> None:
    client = boto3.client("s3")
    for key in ("a/", "a/file", "a/b/"):
        client.put_object(Bucket=faulty_s3.bucket.removeprefix("s3://"), Key=key)
    assert [name for name, _ in s3.entries(f"{faulty_s3.bucket}/a")] == ["b/", "file"]


# --- the bucket


def test_an_existing_bucket(faulty_s3: FaultyS3, uri: str) -> None:
    s3.check_bucket(faulty_s3.bucket)
    s3.check_bucket(f"{faulty_s3.bucket}/nothing/below")


def test_unusable_buckets(faulty_s3: FaultyS3) -> None:
    bucket = faulty_s3.bucket
    with pytest.raises(UserError, match=r"^s3://none-such: NoSuchBucket: [^\n]*; create it, or check its name[^\n]*$"):
        s3.check_bucket("s3://none-such/prefix")
    with pytest.raises(UserError, match=r"^s3://No_Bucket!: [^\n]*; write s3://bucket/prefix$"):
        s3.check_bucket("s3://No_Bucket!")
    faulty_s3.denied = "bucket"
    with pytest.raises(UserError, match=rf"^{bucket}: AccessDenied: [^\n]*; check AWS_ACCESS_KEY_ID[^\n]*$"):
        s3.check_bucket(bucket)
    faulty_s3.reset()
    faulty_s3.slow_down = 1.0
    with pytest.raises(UserError, match=rf"^{bucket}: SlowDown: [^\n]*; try again later$"):
        s3.check_bucket(bucket)
    assert faulty_s3.requests == {"GET": s3_client.BRISK_TRIES}


def test_unusable_servers(faulty_s3: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        for address in (f"http://127.0.0.1:{taken.getsockname()[1]}", "nonsense"):
            monkeypatch.setenv("AWS_ENDPOINT_URL", address)
            with pytest.raises(UserError, match=rf"^s3://bucket: [^\n]*{address}[^\n]*; check AWS_ENDPOINT_URL"):
                s3.check_bucket("s3://bucket")


def test_no_credentials(faulty_s3: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", faulty_s3.endpoint + "/")  # a new client
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    with pytest.raises(UserError, match=r"^s3://bucket: Unable to locate credentials; set AWS_ACCESS_KEY_ID[^\n]*$"):
        s3.check_bucket("s3://bucket")
