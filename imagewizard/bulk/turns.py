"""Who may use a device that one thread at a time can use: the earliest comer of those that want it."""

import heapq
import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """A lock that goes to the waiting thread with the lowest number.

    With equal rights, blocks that share a device would all be finished at the same time, late, and leave the device
    idle between them. So the first one is finished first, and the others fill its gaps.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._numbers = itertools.count()
        self._waiting: list[int] = []
        self._taken = False

    def number(self) -> int:
        """One more than the last number."""
        return next(self._numbers)

    @contextmanager
    def turn(self, number: int) -> Iterator[None]:
        """The device is the caller's in this context. No two threads may have the same number at once."""
        with self._condition:
            heapq.heappush(self._waiting, number)
            self._condition.wait_for(lambda: not self._taken and self._waiting[0] == number)
            heapq.heappop(self._waiting)
            self._taken = True
        try:
            yield
        finally:
            with self._condition:
                self._taken = False
                self._condition.notify_all()
