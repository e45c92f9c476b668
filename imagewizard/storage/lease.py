"""The driver's lease on a run folder: a second driver is refused; of several, one takes over a dead driver's lease."""

import errno
import functools
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from imagewizard.errors import RunLockedError, UserError, one_line
from imagewizard.progress import Reporter, silent
from imagewizard.storage import stores
from imagewizard.storage.files import join
from imagewizard.storage.folder import SCRATCH
from imagewizard.storage.lock_file import LockFile

LOCK = "_lock.json"
HEARTBEAT_SECONDS = 15.0
# A lease from another host counts as dead after this long without a heartbeat: four missed ones.
STALE_SECONDS = 60.0

_KEYS = {"id", "host", "boot_id", "pid_namespace", "pid", "started", "heartbeat"}


class Lease:
    """A context in which this process is the only driver of a run.

    Entering it raises RunLockedError if it is not, UserError if the folder cannot be written. A driver that is silent
    for STALE_SECONDS may lose its lease while it runs: `check` tells.
    """

    def __init__(self, run: str, report: Reporter = silent) -> None:
        """`report` is warned if the storage cannot keep two drivers apart in every case."""
        self._run, self._report = run, report
        self._file = _lock_file(run)
        self._version = ""
        self._renewed = 0.0
        self.id = uuid.uuid4().hex
        self._lost = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_beating, name="lease", daemon=True)

    def __enter__(self) -> "Lease":
        with _usable(self._run):
            if (weakness := self._file.weakness(join(self._run, SCRATCH, f"lock-{self.id}"))) is not None:
                self._report(f"warning  {weakness}; start no second job in {self._run} while one runs")
            self._version = self._acquire()
        self._renewed = time.time()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        with suppress(OSError):  # what stays is a dead driver's lease, which does no harm
            self._file.free(self._version)

    def check(self) -> None:
        """Raises RunLockedError if another driver has taken the run over."""
        # A process that was suspended must not wait for the next beat to learn of it.
        if time.time() - self._renewed > STALE_SECONDS:
            with suppress(OSError):  # an outage: nothing can be written either
                self._beat()
        if self._lost.is_set():
            raise RunLockedError(
                f"{self._run}: another driver has taken this run over; wait for it, or run again later"
            )

    def _acquire(self) -> str:
        """The lock file's version once it is this driver's."""
        while True:
            found = self._file.read()
            if found is not None and (holder := _parse(found[0])) is not None and _alive(holder, self._file):
                raise RunLockedError(
                    f"{self._run}: another driver holds this run (pid {holder['pid']} on {holder['host']}); "
                    "wait for it, or stop it and run again"
                )
            version = self._file.replace(None if found is None else found[1], self._content())
            if version is not None:
                return version

    def _content(self) -> bytes:
        pid = os.getpid()
        holder = {"id": self.id, **_place(), "pid": pid, "started": _start_time(pid), "heartbeat": time.time()}
        return json.dumps(holder).encode()

    def _keep_beating(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS) and not self._lost.is_set():
            with suppress(OSError):  # an outage: the next beat may do better
                self._beat()

    def _beat(self) -> None:
        version = self._file.replace(self._version, self._content(), brisk=True)
        if version is None:
            # Still ours, if an earlier beat that seemed to fail has written it.
            found = self._file.read(brisk=True)
            if found is None or (_parse(found[0]) or {}).get("id") != self.id:
                self._lost.set()
                return
            version = found[1]
        self._version = version
        self._renewed = time.time()


def holder(run: str) -> dict[str, Any] | None:
    """Who holds the run's lease alive: {id, host, boot_id, pid_namespace, pid, started, heartbeat}; None: nobody."""
    file = _lock_file(run)
    found = _read(file)
    return found if found is not None and _alive(found, file) else None


def lease_id(run: str) -> str | None:
    """The id of the lease that the run's lock file holds, whether its driver lives or not; None if it holds none."""
    found = _read(_lock_file(run))
    return None if found is None else str(found["id"])


def _read(file: LockFile) -> dict[str, Any] | None:
    content = file.read()
    return None if content is None else _parse(content[0])


def _lock_file(run: str) -> LockFile:
    return stores.of(run).lock_file(join(run, LOCK))


@contextmanager
def _usable(run: str) -> Iterator[None]:
    """Raises UserError for errors of storage that stay until somebody does something about them."""
    try:
        yield
    except PermissionError as error:
        raise UserError(one_line(error), "give another folder, or allow writing there") from None
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
            raise UserError(f"{run} is on a disk that has no file locks (flock)", "give another folder") from None
        stores.of(run).check_writable(run)
        raise


def _parse(content: bytes) -> dict[str, Any] | None:
    """Who wrote the file; None if that cannot be read, because a crash cut it off."""
    try:
        found = json.loads(content)
    except ValueError:
        return None
    return found if isinstance(found, dict) and found.keys() >= _KEYS else None


def _alive(holder: dict[str, Any], file: LockFile) -> bool:
    """Whether a driver lives: by its process where we can see its pid, elsewhere by the age of its lease."""
    if holder.items() >= _place().items():
        return _start_time(holder["pid"]) == holder["started"]
    return file.age() < STALE_SECONDS


@functools.cache
def _place() -> dict[str, str]:
    """The scope of our pids. Host names do not suffice: containers may share one, and have the same pids."""
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        pid_namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # macOS: no /proc, and containers only in virtual machines with names of their own
        boot_id = pid_namespace = ""
    return {"host": socket.gethostname(), "boot_id": boot_id, "pid_namespace": pid_namespace}


def _start_time(pid: int) -> str | None:
    """When the process began, in the kernel's ticks; None if there is none. It tells a pid from its reuse."""
    if not Path("/proc/self/stat").exists():  # macOS: no /proc, so the pid alone must do
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass
        return "unknown"
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    # A killed process whose parent does not wait for it, as in many containers, stays listed as a zombie.
    return None if fields[0] in "ZX" else fields[19]
