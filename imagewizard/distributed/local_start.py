"""Starting a Ray of this machine alone: what it needs, another try where the machine is busy, and why one failed."""

import os
import random
import re
import secrets
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import ray
from ray._private.node import Node
from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

from imagewizard import storage
from imagewizard.errors import JobError, UserError, one_line
from imagewizard.progress import Reporter

# No try begins later than this. One that fails takes 30 to 50 s: Ray's own limits are 15 s for the port of its agent,
# after which it waits 30 s for a raylet that has ended, and they are not ours to set (ray#65983).
START_SECONDS = 300.0
# Between two tries, at random: of several jobs that have kept each other from starting, one goes first.
PAUSE_SECONDS = (3.0, 20.0)

# An address of AF_UNIX, in bytes.
SOCKET_BYTES = 103 if sys.platform == "darwin" else 107


def check() -> None:
    """Raises UserError unless Ray can work in the folder for temporary files."""
    variables = ("RAY_TMPDIR", "TMPDIR") if sys.platform.startswith("linux") else ("RAY_TMPDIR",)  # as Ray has it
    variable = next((name for name in variables if name in os.environ), None)
    folder = "/tmp" if variable is None else os.environ[variable]  # noqa: S108 - Ray's own choice
    if not folder.isascii() or not Path(folder).is_absolute():
        what = f"{folder!r} is no absolute path in ASCII signs, the only kind that Ray takes"
        raise UserError(what, "set TMPDIR to one, or unset it", variable)
    try:
        storage.of(folder).check_writable(folder)
    except UserError as error:
        raise UserError(error.what, "set TMPDIR to a folder that may be written", variable) from None
    socket = f"{folder}/ray/session_2000-01-01_00-00-00_000000_{os.getpid()}/sockets/plasma_store"
    if (excess := len(os.fsencode(socket)) - SOCKET_BYTES) > 0:
        what = f"{folder} is {excess} bytes too long for the addresses of Ray's sockets, of {SOCKET_BYTES} at most"
        raise UserError(what, "shorten it, or set RAY_TMPDIR to a short folder for Ray alone", variable)


def start(init: Callable[[], None], report: Reporter) -> None:
    """Calls `init`, which calls ray.init, until it succeeds. Tells of each failure.

    Raises JobError, with the reason, if no try within START_SECONDS succeeds.
    """
    started, tries = time.monotonic(), 0
    while True:
        tries += 1
        try:
            with _token():
                init()
            return
        except Exception as error:  # Ray has no class for it
            if not _may_pass(error):
                raise
            reason = _clear(error)
        seconds, pause = time.monotonic() - started, random.uniform(*PAUSE_SECONDS)  # noqa: S311
        if seconds + pause > START_SECONDS:
            raise JobError(
                f"Ray has not started within {seconds:.0f} s, in {tries} tries ({reason}); "
                "once the machine is less busy, the same command goes on"
            )
        report(f"ray      has not started in {seconds:.0f} s ({reason}); tries again in {pause:.0f} s")
        time.sleep(pause)


def _may_pass(error: Exception) -> bool:
    """Whether another try may do better: not after a wrong argument, a full disk or a refused permission."""
    if isinstance(error, OSError):
        return error.errno is None
    return type(error) is Exception or isinstance(error, RuntimeError | ray.exceptions.RayError)


def _clear(error: Exception) -> str:
    """Ends what a failed start has left running; the reason for it, in one line."""
    # Of a node that starts, ray.init keeps nothing once it fails: only the traceback has it.
    frames = (frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__))
    node = next((found for found in frames if isinstance(found, Node)), None)
    reason = one_line(error)[-300:]
    if node is not None:
        reason = _hidden_reason(Path(node.get_logs_dir_path())) or reason
        node.kill_all_processes(check_alive=False, wait=True)
    ray.shutdown()
    return reason


def _hidden_reason(logs: Path) -> str | None:
    """Why a process of Ray's ended, from the first line of its last words; None if none has left any."""
    for name in ("raylet.err", "gcs_server.err"):
        with suppress(OSError):
            text = (logs / name).read_text(errors="replace")
            if found := re.search(r"Check failed: (?:\S+ )?(.+)", text):
                # Names of files suffice, without the id of the node.
                return f"{name}: {one_line(re.sub(r'/[^ ]*/|_[0-9a-f]{32,}', '', found[1]))[:200]}"
    return None


@contextmanager
def _token() -> Iterator[None]:
    """A context in which Ray has a token: that of ~/.ray or, where there can be no such file, one of this start alone.

    Ray itself would write the file in place, so that of two first starts at once one could read half of it.
    """
    tokens = AuthenticationTokenLoader.instance()
    tokens.reset_cache()
    token = "" if tokens.has_token(ignore_auth_mode=True) else secrets.token_hex(32)
    given = bool(token) and not _is_kept(token)
    if given:
        os.environ["RAY_AUTH_TOKEN"] = token
    tokens.reset_cache()
    try:
        yield
    finally:
        if given:
            del os.environ["RAY_AUTH_TOKEN"]


def _is_kept(token: str) -> bool:
    """Whether ~/.ray holds a token now: this one, or one that another start has written meanwhile."""
    try:
        folder = Path.home() / ".ray"
        folder.mkdir(parents=True, exist_ok=True)
        storage.of("").write(str(folder / "auth_token"), token.encode(), str(folder), new=True)
    except (OSError, RuntimeError):  # no home, or one that may not be written
        return False
    return True
