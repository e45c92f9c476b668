"""Deleting objects, on servers that take many keys in a request and on others."""

import pytest

from imagewizard.storage import Folder, s3, s3_client, s3_deleting
from tests.support.s3_faults import FaultyS3

pytestmark = pytest.mark.usefixtures("short_pauses")


def test_deletes_a_thousand_at_a_time(faulty_s3: FaultyS3) -> None:
    uris = [f"{faulty_s3.bucket}/{n}" for n in range(1001)]
    for uri in (uris[0], uris[999], uris[1000], f"{faulty_s3.bucket}/kept"):
        s3.put(uri, b"")
    s3_deleting.delete(uris)
    s3_deleting.delete([])
    assert faulty_s3.requests["POST"] == 2
    assert [name for name, _ in s3.entries(faulty_s3.bucket)] == ["kept"]


@pytest.mark.parametrize(("code", "kind"), [("AccessDenied", PermissionError), ("MethodNotAllowed", OSError)])
def test_failed_deletes_are_reported(
    faulty_s3: FaultyS3, monkeypatch: pytest.MonkeyPatch, code: str, kind: type[OSError]
) -> None:
    answer: dict[str, object] = {"Errors": [{"Key": k, "Code": code, "Message": "No."} for k in ("b", "c")]}
    requests = answers(monkeypatch, [answer])
    with pytest.raises(kind, match=rf"^s3://x/b: {code}: No. \(and 1 more\)$"):
        s3_deleting.delete(["s3://x/a", "s3://x/b", "s3://x/c"])
    assert requests == [["a", "b", "c"]]


def test_transient_failures_of_deletes_are_retried(faulty_s3: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = answers(monkeypatch, [{"Errors": [{"Key": "b", "Code": "InternalError"}]}, {}])
    s3_deleting.delete(["s3://x/a", "s3://x/b"])
    assert requests == [["a", "b"], ["b"]]
    answers(monkeypatch, [{"Errors": [{"Key": "b", "Code": "SlowDown"}]}] * s3_client.TRIES)
    with pytest.raises(OSError, match=r"^s3://x/b: SlowDown: $"):
        s3_deleting.delete(["s3://x/b"])


def answers(monkeypatch: pytest.MonkeyPatch, given: list[dict[str, object]]) -> list[list[str]]:
    """Answers with errors for single keys, which moto never gives; returns the requested keys."""
    requests: list[list[str]] = []

    def delete_objects(Bucket: str, Delete: dict[str, list[dict[str, str]]]) -> dict[str, object]:
        requests.append([each["Key"] for each in Delete["Objects"]])
        return given[len(requests) - 1]

    monkeypatch.setattr(s3_client.client(), "delete_objects", delete_objects)
    return requests


@pytest.fixture
def single(faulty_s3: FaultyS3) -> FaultyS3:
    """A server without DeleteObjects."""
    faulty_s3.refused = {"delete"}
    return faulty_s3


def test_a_server_without_bulk_deletes_is_asked_for_them_once(single: FaultyS3) -> None:
    uris = [f"{single.bucket}/{n}" for n in range(40)]
    for uri in [*uris[:20], f"{single.bucket}/kept"]:
        s3.put(uri, b"")
    s3_deleting.delete(uris)
    s3_deleting.delete(uris)
    assert [name for name, _ in s3.entries(single.bucket)] == ["kept"]
    assert (single.requests["POST"], single.requests["DELETE"]) == (1, 80)


def test_single_deletes_survive_a_bad_server(single: FaultyS3) -> None:
    uris = [f"{single.bucket}/{n}" for n in range(40)]
    for uri in uris:
        s3.put(uri, b"")
    single.slow_down, single.cut_off = 0.3, 0.2
    s3_deleting.delete(uris)
    assert list(s3.entries(single.bucket)) == [] and single.faults["slow_down"] > 5


def test_a_refused_single_delete_names_the_object(single: FaultyS3) -> None:
    single.denied = "secret"
    with pytest.raises(PermissionError, match=rf"^{single.bucket}/secret: AccessDenied: Access Denied$"):
        s3_deleting.delete([f"{single.bucket}/a", f"{single.bucket}/secret"])
    with pytest.raises(s3_client.NoSuchBucketError):
        s3_deleting.delete([f"{single.bucket}-not/a"])


def test_a_real_server_without_bulk_deletes(localbucket: str) -> None:
    folder = Folder(localbucket)
    for name in ("a", "b/c", "kept"):
        folder.write(name, b"x")
    folder.delete(["a", "b/c", "missing", "b/missing"])
    assert folder.list() == ["kept"] and not folder.exists("b")
