"""The memory of a machine, which the large images of all its processes share."""

import math
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from imagewizard.images.errors import ImageError

IMAGE_COPIES = 130
"""Bytes that a large image takes for each of its pixels, with all copies: 97 of a scored one, as printed by
`python -m tests.support.megapixels`, a third more of a restored one whose noise is taken off at two scales."""

# What large images may take of the machine; the rest is for all other work.
SHARE = 0.8
# It is given out in parts of so many bytes: 7 megapixels.
PART_BYTES = 1_000_000_000
WAIT_SECONDS = 0.05


# What a container may take: version 2 of Linux's control groups, and version 1.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def machine_bytes() -> int:
    """The memory of this machine, or of the container that this process is in."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in map(Path, _LIMITS):
        with suppress(OSError, ValueError):  # no such file; `max` where there is no limit
            found.append(int(path.read_text()))
    return min(found)


class Memory:
    """Gives room to large images. Processes of one user on one machine share it, by locks on files in `folder`.

    The system takes the locks of a process that ends away from it.
    """

    def __init__(self, machine_bytes: int, folder: Path | None = None) -> None:
        """`folder`: by default one of this user's in the folder for temporary files."""
        self._machine_bytes = machine_bytes
        self._parts = max(1, int(SHARE * machine_bytes / PART_BYTES))
        self._folder = folder or Path(tempfile.gettempdir()) / f"imagewizard-{os.getuid()}"
        self._folder.mkdir(mode=0o700, exist_ok=True)
        if self._folder.is_symlink() or self._folder.stat().st_uid != os.getuid():
            raise OSError(f"{self._folder} is another user's; remove it")

    @contextmanager
    def room(self, pixels: int) -> Iterator[None]:
        """An image of so many pixels has room in this context; waits for others to end.

        Raises ImageError, at once, if the machine is too small for it.
        """
        needed = math.ceil(pixels * IMAGE_COPIES / PART_BYTES)
        if needed > self._parts:
            raise ImageError(
                f"out of memory: {pixels} pixels take some {pixels * IMAGE_COPIES / 1e9:.0f} GB, more than a machine "
                f"with {self._machine_bytes / 1e9:.0f} GB has for images; use one with more"
            )
        with ExitStack() as stack:
            with FileLock(self._folder / "next"):  # one at a time collects parts, or two would wait for each other's
                while (needed := needed - self._take(needed, stack)) > 0:
                    time.sleep(WAIT_SECONDS)
            yield

    def _take(self, count: int, stack: ExitStack) -> int:
        """Takes as many parts as there are, at most `count`, until `stack` ends. Returns how many."""
        taken = 0
        for part in range(self._parts):
            if taken == count:
                break
            lock = FileLock(self._folder / f"part-{part}")
            try:
                lock.acquire(blocking=False)
            except Timeout:
                continue
            stack.callback(lock.release)
            taken += 1
        return taken
