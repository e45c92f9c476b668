"""One driver a run: a second is turned away, a dead one is forgotten at once."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imagewizard import lease
from imagewizard.errors import RunLockedError
from imagewizard.lease import Lease


def lock(run: Path, **changes: object) -> None:
    holder = {"id": "x", "host": "elsewhere", "pid": 1, "started": "1", "heartbeat": time.time()} | changes
    run.mkdir(exist_ok=True)
    (run / lease.LOCK).write_text(json.dumps(holder))


def test_a_second_driver_is_turned_away_while_the_first_lives(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    with Lease(run):
        assert lease.holder(run) is not None
        with pytest.raises(RunLockedError, match="another driver holds this run"), Lease(run):
            pass
    assert lease.holder(run) is None
    with Lease(run):
        pass


def test_the_lease_of_a_killed_driver_is_broken_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, time; from imagewizard.lease import Lease\n"
        "with Lease(sys.argv[1]): print('held', flush=True); time.sleep(60)"
    )
    driver = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None and driver.stdout.readline() == "held\n"
    with pytest.raises(RunLockedError), Lease(str(tmp_path)):
        pass
    driver.kill()
    driver.wait()
    with Lease(str(tmp_path)):
        pass


def test_a_lease_from_elsewhere_lives_by_its_heartbeat(tmp_path: Path) -> None:
    lock(tmp_path)
    with pytest.raises(RunLockedError, match="elsewhere"), Lease(str(tmp_path)):
        pass
    lock(tmp_path, heartbeat=time.time() - lease.STALE_SECONDS - 1)
    with Lease(str(tmp_path)):
        pass


def test_a_reused_pid_does_not_keep_a_lease_alive(tmp_path: Path) -> None:
    with Lease(str(tmp_path)):
        ours = json.loads((tmp_path / lease.LOCK).read_text())
    lock(tmp_path, **ours | {"started": "0"})
    with Lease(str(tmp_path)):
        pass


def test_the_heartbeat_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.05)
    with Lease(str(tmp_path)):
        first = json.loads((tmp_path / lease.LOCK).read_text())
        time.sleep(0.5)
        second = json.loads((tmp_path / lease.LOCK).read_text())
    assert second["heartbeat"] > first["heartbeat"]
    assert second["id"] == first["id"]
