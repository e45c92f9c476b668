"""One driver per run: a second is refused, a dead driver's lease passes to exactly one other, and losers are told."""

import errno
import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imagewizard import storage
from imagewizard.errors import RunLockedError, UserError
from imagewizard.storage import lease
from imagewizard.storage.lease import Lease
from imagewizard.storage.lock_file import LockFile
from tests.support.s3_faults import FaultyS3

NOBODYS_PID = 2**22 + 1  # above the kernel's greatest


@pytest.fixture(params=["local", "s3"])
def run(request: pytest.FixtureRequest) -> str:
    if request.param == "s3":
        return str(request.getfixturevalue("faulty_s3").bucket) + "/run"
    return f"{request.getfixturevalue('tmp_path')}/run"


def lock(run: str, **changes: object) -> None:
    """Gives the lease to a driver on another host with a fresh heartbeat; `changes` override its fields."""
    elsewhere = {"host": "elsewhere", "boot_id": "b", "pid_namespace": "n"}
    holder = {"id": "x", **elsewhere, "pid": 1, "started": "1", "heartbeat": 0.0} | changes
    file = lease._lock_file(run)
    found = file.read()
    assert file.replace(found and found[1], json.dumps(holder).encode()) is not None


def content(run: str) -> dict[str, object]:
    return dict(json.loads(storage.read_bytes(storage.join(run, lease.LOCK))))


# --- one driver per run


def test_a_second_driver_is_refused_while_the_first_lives(run: str) -> None:
    assert lease.holder(run) is None and lease.lease_id(run) is None
    with Lease(run):
        assert lease.holder(run) == content(run)
        assert lease.lease_id(run) == content(run)["id"]
        with pytest.raises(RunLockedError, match=f"another driver holds this run .pid {os.getpid()} on "), Lease(run):
            pass
        assert lease.holder(run) is not None
    assert lease.holder(run) is None
    with Lease(run):
        pass


DRIVER = """
import sys, time
from imagewizard.storage.lease import Lease
from imagewizard.storage.lock_file import LockFile
with Lease(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_lease_of_a_killed_driver_passes_on_at_once(run: str) -> None:
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, run], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None and driver.stdout.readline() == "held\n"
    with pytest.raises(RunLockedError), Lease(run):
        pass
    driver.kill()
    os.waitid(os.P_PID, driver.pid, os.WEXITED | os.WNOWAIT)  # dead, but listed until its parent reaps it
    with Lease(run):
        pass
    driver.wait()


RACER = """
import sys
from imagewizard.errors import RunLockedError
from imagewizard.storage.lease import Lease
from imagewizard.storage.lock_file import LockFile
print("ready", flush=True)
for run in sys.stdin:
    try:
        held = Lease(run.strip()).__enter__()
        print("won", flush=True)
    except RunLockedError:
        print("lost", flush=True)
"""


def test_one_of_several_drivers_takes_over_a_dead_lease(run: str) -> None:
    racers = [
        subprocess.Popen([sys.executable, "-c", RACER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert all(racer.stdout and racer.stdout.readline() == "ready\n" for racer in racers)
    for turn in range(15):
        place = storage.join(run, str(turn))
        lock(place, **lease._place(), pid=NOBODYS_PID)
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write(f"{place}\n")
            racer.stdin.flush()
        assert sorted(racer.stdout.readline() for racer in racers if racer.stdout) == ["lost\n"] * 3 + ["won\n"]
    for racer in racers:
        racer.kill()
        racer.wait()


def test_a_driver_overtaken_between_read_and_write_is_refused(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lock(run, **lease._place(), pid=NOBODYS_PID)
    faster, alive = Lease(run), lease._alive

    def look(holder: dict[str, object], file: LockFile) -> bool:
        monkeypatch.setattr(lease, "_alive", alive)
        found = alive(holder, file)
        faster.__enter__()
        return found

    monkeypatch.setattr(lease, "_alive", look)
    with pytest.raises(RunLockedError), Lease(run):
        pass
    faster.check()
    faster.__exit__(None, None, None)


# --- who is alive


def test_a_lease_from_elsewhere_lives_by_its_age(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The storage's clock decides; the heartbeat of 1970 comes from the other host's clock."""
    lock(run)
    with pytest.raises(RunLockedError, match="elsewhere"), Lease(run):
        pass
    monkeypatch.setattr(lease, "STALE_SECONDS", -1.0)
    assert lease.holder(run) is None
    with Lease(run):
        pass


@pytest.mark.parametrize("what", ["host", "boot_id", "pid_namespace"])
def test_a_pid_says_nothing_elsewhere(tmp_path: Path, what: str) -> None:
    """Two containers may share a host's name, and each has a process 1."""
    lock(str(tmp_path), **lease._place() | {what: "another"}, pid=NOBODYS_PID)
    with pytest.raises(RunLockedError), Lease(str(tmp_path)):
        pass
    lock(str(tmp_path), **lease._place(), pid=NOBODYS_PID)
    with Lease(str(tmp_path)):
        pass


def test_a_reused_pid_does_not_keep_a_lease_alive(tmp_path: Path) -> None:
    lock(str(tmp_path), **lease._place(), pid=os.getpid(), started="0")
    with Lease(str(tmp_path)):
        pass


@pytest.mark.parametrize("data", [b'{"id": "x", "ho', b"[]", b"{}", b"\xff"])
def test_a_truncated_lock_file_belongs_to_nobody(run: str, data: bytes) -> None:
    assert lease._lock_file(run).replace(None, data) is not None
    assert lease.holder(run) is None
    with Lease(run):
        assert lease.holder(run) is not None


# --- heartbeats


def wait_for(what: object) -> None:
    deadline = time.monotonic() + 20
    while not what() and time.monotonic() < deadline:  # type: ignore[operator]
        time.sleep(0.02)
    assert what()  # type: ignore[operator]


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.05)


def test_the_heartbeat_beats(run: str, fast: None) -> None:
    with Lease(run) as held:
        first = content(run)
        wait_for(lambda: content(run)["heartbeat"] != first["heartbeat"])
        assert content(run)["id"] == first["id"]
        held.check()


def test_a_suspended_driver_checks_its_lease_before_it_continues(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not wait for its next heartbeat, which may be 15 seconds away."""
    with Lease(run) as held:
        lock(run)
        held.check()
        now = time.time()
        monkeypatch.setattr(lease.time, "time", lambda: now + 2 * lease.STALE_SECONDS)
        with pytest.raises(RunLockedError, match="another driver has taken this run over"):
            held.check()


def test_a_driver_notices_a_takeover(run: str, fast: None) -> None:
    with Lease(run) as held:
        while True:  # a heartbeat may come between read and write
            try:
                lock(run)
                break
            except AssertionError:
                continue
        wait_for(held._lost.is_set)
        with pytest.raises(RunLockedError, match="another driver has taken this run over"):
            held.check()
    assert content(run)["host"] == "elsewhere"  # neither a heartbeat nor the release has changed it


def test_a_driver_loses_the_run_if_its_lock_file_is_deleted(faulty_s3: FaultyS3, fast: None) -> None:
    with Lease(faulty_s3.bucket) as held:
        storage.delete_files([storage.join(faulty_s3.bucket, lease.LOCK)])
        wait_for(held._lost.is_set)


def test_heartbeats_survive_an_outage(faulty_s3: FaultyS3, fast: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with Lease(faulty_s3.bucket) as held:
        faulty_s3.denied = "_lock"
        wait_for(lambda: faulty_s3.faults["denied"] >= 3)
        faulty_s3.denied = None
        before = content(faulty_s3.bucket)
        wait_for(lambda: content(faulty_s3.bucket)["heartbeat"] != before["heartbeat"])
        held.check()
    assert lease.holder(faulty_s3.bucket) is None


def test_a_heartbeat_with_a_lost_answer_keeps_the_lease(faulty_s3: FaultyS3) -> None:
    """All answers were lost, but the write succeeded."""
    with Lease(faulty_s3.bucket) as held:
        faulty_s3.cut_off, faulty_s3.lose_answers = 1.0, True
        with pytest.raises(OSError):
            held._beat()
        faulty_s3.cut_off = 0.0
        held._beat()
        held._beat()
        held.check()
    assert lease.holder(faulty_s3.bucket) is None


# --- unusable folders


def test_a_bucket_that_is_denied_or_missing(faulty_s3: FaultyS3) -> None:
    missing = f"{faulty_s3.bucket}-not"
    with pytest.raises(UserError, match=f"^{missing}: NoSuchBucket[^\n]*create it"), Lease(f"{missing}/run"):
        pass
    faulty_s3.denied = "_lock"
    with pytest.raises(UserError, match=r"^s3://[^\n]*_lock.json: AccessDenied[^\n]*$"), Lease(faulty_s3.bucket):
        pass


def test_a_failed_release_does_no_harm(faulty_s3: FaultyS3) -> None:
    with Lease(faulty_s3.bucket):
        faulty_s3.denied = "_lock"


def test_a_disk_without_file_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(UserError, match=r"^/[^\n]* has no file locks .flock.; give another folder$"),
        Lease(str(tmp_path)),
    ):
        pass
