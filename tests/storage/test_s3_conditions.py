"""Servers that ignore or refuse the conditions of a write, and what is left of a lease there."""

import pytest

from imagewizard.errors import RunLockedError
from imagewizard.storage import Folder, lease, s3, s3_client, s3_conditions
from imagewizard.storage.lease import Lease
from tests.support import s3_faults
from tests.support.s3_faults import FaultyS3

BOTH = {"If-None-Match", "If-Match"}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_client, "FIRST_PAUSE_SECONDS", 0.001)


def test_a_server_that_heeds_them(bucket: str) -> None:
    assert s3_conditions.ignored(f"{bucket}/probe") == [] and Folder(bucket).list() == []


def test_a_server_that_does_not_know_all_of_them(localbucket: str) -> None:
    assert s3_conditions.ignored(f"{localbucket}/probe") == ["If-Match"] and Folder(localbucket).list() == []


@pytest.mark.parametrize("headers", [{"If-None-Match"}, {"If-Match"}, BOTH])
def test_what_is_ignored_or_refused(faulty_s3: FaultyS3, headers: set[str]) -> None:
    faulty_s3.ignored = headers
    assert set(s3_conditions.ignored(f"{faulty_s3.bucket}/probe")) == headers
    faulty_s3.ignored, faulty_s3.refused = set(), headers
    for faulty_s3.refused_with in (501, 405, 400):
        assert set(s3_conditions.ignored(f"{faulty_s3.bucket}/probe")) == headers
    assert Folder(faulty_s3.bucket).list() == []


def test_the_probe_goes_also_after_an_error(faulty_s3: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(s3_conditions, "_is_heeded", fail)
    with pytest.raises(PermissionError):
        s3_conditions.ignored(f"{faulty_s3.bucket}/probe")
    assert faulty_s3.requests["PUT"] == 1 and Folder(faulty_s3.bucket).list() == []


def test_a_bad_server_is_not_taken_for_one_that_ignores_them(faulty_s3: FaultyS3) -> None:
    faulty_s3.slow_down, faulty_s3.cut_off, faulty_s3.lose_answers = 0.2, 0.3, True
    for turn in range(10):
        assert s3_conditions.ignored(f"{faulty_s3.bucket}/probe{turn}") == []
    assert faulty_s3.faults["cut_off"] > 5


@pytest.fixture(params=["ignored", "refused"])
def weak(request: pytest.FixtureRequest, faulty_s3: FaultyS3) -> FaultyS3:
    """A server that ignores both conditions, or refuses them."""
    setattr(faulty_s3, request.param, BOTH)
    return faulty_s3


def test_a_lease_there_warns_once_and_still_refuses_a_second_driver(weak: FaultyS3) -> None:
    told: list[str] = []
    run = f"{weak.bucket}/run"
    with Lease(run, told.append) as first:
        assert told == [
            f"warning  {weak.endpoint} does not heed If-None-Match and If-Match, so that two drivers that start at "
            f"once may both go on; start no second job in {run} while one runs"
        ]
        with pytest.raises(RunLockedError, match="another driver holds this run"), Lease(run):
            pass
        first._beat()
        first.check()
    assert Folder(run).list() == [] and lease.holder(run) is None
    with Lease(run):
        pass


def test_a_driver_there_learns_that_another_has_taken_over(weak: FaultyS3) -> None:
    run = f"{weak.bucket}/run"
    with pytest.raises(RunLockedError, match="has taken this run over"), Lease(run) as first:
        Folder(run).write(lease.LOCK, b"of another")
        first._beat()
        first.check()
    assert Folder(run).read(lease.LOCK) == b"of another"


def test_other_servers_warn_of_nothing(faulty_s3: FaultyS3) -> None:
    told: list[str] = []
    with Lease(f"{faulty_s3.bucket}/run", told.append):
        assert told == []


def test_an_expired_token_is_no_refused_condition(faulty_s3: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(s3_faults._ERRORS, 400, ("400 Bad Request", "ExpiredToken", "It has expired."))
    faulty_s3.refused, faulty_s3.refused_with = {"If-None-Match"}, 400
    with pytest.raises(OSError, match="/a: ExpiredToken: It has expired"):
        Folder(faulty_s3.bucket).write_new("a", b"first")


@pytest.mark.parametrize("ignored", [{"DELETE If-Match"}, BOTH])
def test_a_driver_that_lost_its_lease_leaves_that_of_another(faulty_s3: FaultyS3, ignored: set[str]) -> None:
    faulty_s3.ignored = ignored
    with Lease(faulty_s3.bucket):
        Folder(faulty_s3.bucket).write(lease.LOCK, b"of another")
    assert Folder(faulty_s3.bucket).read(lease.LOCK) == b"of another"


def test_a_file_that_is_there_is_kept_also_where_the_condition_is_ignored(faulty_s3: FaultyS3) -> None:
    faulty_s3.ignored = BOTH
    folder = Folder(faulty_s3.bucket)
    assert folder.write_new("a", b"first") and not folder.write_new("a", b"second")
    assert folder.read("a") == b"first"


@pytest.mark.parametrize("status", [501, 405, 400])
def test_a_file_that_is_there_is_kept_also_where_the_condition_is_refused(faulty_s3: FaultyS3, status: int) -> None:
    faulty_s3.refused, faulty_s3.refused_with = BOTH, status
    folder = Folder(faulty_s3.bucket)
    assert folder.write_new("a", b"first") and not folder.write_new("a", b"second")
    assert folder.read("a") == b"first"
    uri = f"{faulty_s3.bucket}/a"
    etag = s3.head(uri)[1]
    assert s3.put(uri, b"third", IfNoneMatch="*") is None and s3.put(uri, b"third", IfMatch='"another"') is None
    s3.delete_if(uri, '"another"')
    assert folder.exists("a")
    s3.delete_if(uri, etag)
    assert not folder.exists("a")
