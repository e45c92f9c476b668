"""The processes below this one, by Linux's /proc, and what becomes of those whose parents have died."""

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """A line of /proc."""

    pid: int
    parent: int
    session: int
    name: str


def descendants(ancestor: int) -> list[Process]:
    """The living processes below `ancestor`, which it has started or inherited."""
    children: dict[int, list[Process]] = {}
    for process in running("DIKRSTtWX"):
        children.setdefault(process.parent, []).append(process)
    found = children.get(ancestor, [])
    for process in found:  # grows meanwhile
        found.extend(children.get(process.pid, []))
    return found


def running(states: str) -> Iterator[Process]:
    """All processes in one of these states, by proc(5)'s letters."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            start, rest = (folder / "stat").read_text().rsplit(")", 1)
        except OSError:
            continue
        state, parent, _, session = rest.split()[:4]
        if state in states:
            yield Process(int(folder.name), int(parent), int(session), start.split("(", 1)[1])


def kill_descendants() -> None:
    """Kills all processes below this one with -9, and those that they start meanwhile."""
    while found := descendants(os.getpid()):
        kill(found)
        time.sleep(0.05)
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def kill(processes: list[Process], number: signal.Signals = signal.SIGKILL) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)


def adopt_orphans() -> None:
    """Makes this process the parent of all processes below it whose own parents die, so that none gets lost."""
    PR_SET_CHILD_SUBREAPER = 36
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
