"""How a Ray of this machine starts: what it needs, other tries, and the reason where there is none left."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import ray
from ray._private.utils import validate_socket_filepath

from imagewizard.distributed import local_start
from imagewizard.errors import JobError, UserError

# --- the folder for temporary files


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_a_folder_that_is_too_long_for_sockets(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TMPDIR", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    session = f"/ray/session_2026-11-27_23-48-50_330656_{os.getpid()}/sockets/plasma_store"
    longest = "/" + "x" * (local_start.SOCKET_BYTES - len(session) - 1)
    validate_socket_filepath(longest + session)
    monkeypatch.setenv(variable, longest)
    local_start.check()
    monkeypatch.setenv(variable, f"{longest}yyy")
    with pytest.raises(UserError, match=rf"^{variable}: {longest}yyy is 3 bytes too long for .*; shorten it, or set"):
        local_start.check()
    with pytest.raises(OSError, match="AF_UNIX path length"):
        validate_socket_filepath(f"{longest}y{session}")
    monkeypatch.setenv("TMPDIR", "x" * 200)
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    local_start.check()


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    (tmp_path / "file").touch()
    for folder, what in ((f"{tmp_path}/file", f"{tmp_path}/file is a file"), ("/proc/none", "/proc is not writable")):
        monkeypatch.setenv("TMPDIR", folder)
        with pytest.raises(UserError, match=f"^TMPDIR: {what}; set TMPDIR to a folder that may be written$"):
            local_start.check()


@pytest.mark.parametrize("folder", ["", "relative", "/tmp/ü"])
def test_a_path_that_ray_does_not_take(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", folder)
    with pytest.raises(UserError, match=f"^RAY_TMPDIR: '{folder}' is no absolute path in ASCII signs, "):
        local_start.check()


# --- tries


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a start reports; one that leaves the Ray of the tests alone, and pauses for no time."""
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(local_start, "PAUSE_SECONDS", (0.0, 0.0))
    return []


def failing(*errors: Exception) -> Callable[[], None]:
    """An `init` that raises these errors, one a call, and then succeeds."""
    left = list(errors)

    def init() -> None:
        if left:
            raise left.pop(0)

    return init


LATE = Exception("The current node timed out during startup.\nThis could happen because …")


def test_it_is_tried_until_it_starts(told: list[str]) -> None:
    local_start.start(failing(LATE, RuntimeError("no port"), ConnectionError("refused")), told.append)
    assert [line.partition(" (")[2] for line in told] == [
        "The current node timed out during startup. This could happen because …); tries again in 0 s",
        "no port); tries again in 0 s",
        "refused); tries again in 0 s",
    ]


def test_after_the_limit_the_reason_is_told(told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_start, "START_SECONDS", 0.0)
    with pytest.raises(JobError, match=r"^Ray has not started within 0 s, in 1 tries \(no port\); once [^\n]*$"):
        local_start.start(failing(RuntimeError("no port")), told.append)
    assert told == []


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), PermissionError(13, "denied"), ValueError("wrong")])
def test_what_stays_is_tried_once(told: list[str], error: Exception) -> None:
    with pytest.raises(type(error)):
        local_start.start(failing(error, AssertionError("a second try")), told.append)
    assert told == []


RAYLET = f"""\
[2026-11-27 23:46:35,508 I 2752 2752] logging.cc:303: Set ray log level from environment variable RAY_BACKEND_LOG_LEVEL
[2026-11-27 23:46:51,579 C 2752 2752] (raylet) node_manager.cc:3576:  An unexpected system state has occurred. \
Check failed: statussetor3576.has_value() Timed out waiting for file /tmp/ray/s/metrics_agent_port_{"4a" * 28}
*** StackTrace Information ***
/lib/raylet(+0xff770a) [0x5630dc5b470a] ray::operator<<()
"""


def test_the_reason_is_found_in_rays_own_logs(tmp_path: Path) -> None:
    assert local_start._hidden_reason(tmp_path) is None
    (tmp_path / "raylet.err").write_text(RAYLET)
    assert local_start._hidden_reason(tmp_path) == "raylet.err: Timed out waiting for file metrics_agent_port"
    (tmp_path / "gcs_server.err").write_text("x.cc:1: Check failed: status.ok() no room")
    (tmp_path / "raylet.err").write_text("")
    assert local_start._hidden_reason(tmp_path) == "gcs_server.err: no room"


# --- the token


TOKENS = """
import os, sys
from imagewizard.distributed import local_start
with local_start._token():
    assert local_start.AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True)
    print(len(os.environ.get("RAY_AUTH_TOKEN", "")))
assert "RAY_AUTH_TOKEN" not in os.environ
"""


def test_a_token_is_kept_where_there_is_a_home_and_made_for_once_elsewhere(tmp_path: Path) -> None:
    """In a process of its own: Ray keeps the token that it has read."""
    lengths = {}
    for home in (str(tmp_path / "home"), "/proc"):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        words = [sys.executable, "-c", TOKENS]
        done = subprocess.run(words, env=environment | {"HOME": home}, capture_output=True, text=True, check=True)
        lengths[home] = int(done.stdout)
    assert lengths == {str(tmp_path / "home"): 0, "/proc": 64}
    assert len((tmp_path / "home" / ".ray" / "auth_token").read_text()) == 64
    assert [path.name for path in (tmp_path / "home" / ".ray").iterdir()] == ["auth_token"]
