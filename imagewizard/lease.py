"""The driver's lease on a run folder: a second driver is turned away, a dead one's lease is broken."""

import json
import os
import socket
import threading
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

from botocore.exceptions import ClientError
from pyarrow import fs

from imagewizard import storage
from imagewizard.errors import RunLockedError

LOCK = "_lock.json"
HEARTBEAT_SECONDS = 15.0
# A lease from another host counts as dead after this long without a heartbeat: four missed ones.
STALE_SECONDS = 60.0


class Lease:
    """A context in which this process is the only driver of a run. Raises RunLockedError on entry if it is not."""

    def __init__(self, run: str) -> None:
        self._uri = storage.join(run, LOCK)
        self._id = uuid.uuid4().hex
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)

    def __enter__(self) -> "Lease":
        while not _create(self._uri, self._content()):
            holder = _read(self._uri)
            if holder is not None and _alive(holder):
                raise RunLockedError(
                    f"output: another driver holds this run (pid {holder['pid']} on {holder['host']}); "
                    f"wait for it, or stop it and run again"
                )
            _delete(self._uri)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        _delete(self._uri)

    def _content(self) -> bytes:
        holder = {
            "id": self._id,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": _start_time(os.getpid()),
            "heartbeat": time.time(),
        }
        return json.dumps(holder).encode()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            storage.write_whole(self._uri, self._content(), storage.join(self._uri.rsplit("/", 1)[0], "_tmp"))


def holder(run: str) -> dict[str, Any] | None:
    """Who holds the run's lease alive: {id, host, pid, started, heartbeat}; None if nobody does."""
    found = _read(storage.join(run, LOCK))
    return found if found is not None and _alive(found) else None


def _alive(holder: dict[str, Any]) -> bool:
    """On its own host a driver is alive while its process is; elsewhere while its heartbeat is fresh."""
    if holder["host"] == socket.gethostname():
        return _start_time(holder["pid"]) == holder["started"]
    return time.time() - holder["heartbeat"] < STALE_SECONDS


def _start_time(pid: int) -> str | None:
    """When the process began, in the kernel's ticks; None if there is none. Tells a pid from its later reuse."""
    if not Path("/proc/self/stat").exists():  # macOS: no /proc, so the pid alone must do
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass
        return "unknown"
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except OSError:
        return None


def _create(uri: str, content: bytes) -> bool:
    """Writes the lock file unless it is there: False then. Atomic: one of two callers wins."""
    filesystem, path = storage.resolve(uri)
    if isinstance(filesystem, fs.LocalFileSystem):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        partial = Path(f"{path}.{uuid.uuid4().hex}")
        partial.write_bytes(content)
        try:
            os.link(partial, path)
        except FileExistsError:
            return False
        finally:
            partial.unlink()
        return True
    bucket, key = path.split("/", 1)
    try:
        storage.s3_client().put_object(Bucket=bucket, Key=key, Body=content, IfNoneMatch="*")
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] in (409, 412):
            return False
        raise
    return True


def _read(uri: str) -> dict[str, Any] | None:
    try:
        return dict(json.loads(storage.read_bytes(uri)))
    except FileNotFoundError:
        return None


def _delete(uri: str) -> None:
    filesystem, path = storage.resolve(uri)
    try:
        filesystem.delete_file(path)
    except FileNotFoundError:
        return
