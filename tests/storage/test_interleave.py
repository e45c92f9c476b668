"""Parallel workers: all items arrive, the first error is raised, and no thread is left behind."""

import threading
from collections.abc import Generator

import pytest

from imagewizard.storage.interleave import interleave


def merging_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "interleave"]


def test_all_items_of_all_workers_are_yielded() -> None:
    def work(first: int) -> Generator[int, None, None]:
        yield from range(first, first + 10)

    assert sorted(interleave([work(first) for first in range(0, 50, 10)], depth=2)) == list(range(50))
    assert list(interleave([], depth=2)) == []


def test_workers_run_at_the_same_time() -> None:
    barrier = threading.Barrier(4, timeout=10)

    def work() -> Generator[int, None, None]:
        yield barrier.wait()

    assert sorted(interleave([work() for _ in range(4)], depth=4)) == [0, 1, 2, 3]


def test_an_error_reaches_the_consumer_and_ends_the_others() -> None:
    closed = []

    def endless(number: int) -> Generator[int, None, None]:
        try:
            while True:
                yield number
        finally:
            closed.append(number)

    def broken() -> Generator[int, None, None]:
        yield 1
        raise OSError("no disk")

    with pytest.raises(OSError, match="no disk"):
        list(interleave([endless(7), endless(8), broken()], depth=2))
    assert sorted(closed) == [7, 8]
    assert all(not thread.is_alive() or thread.join(5) is None for thread in merging_threads())
    assert not merging_threads()


def test_the_buffer_is_bounded_and_closing_ends_the_threads() -> None:
    made = []

    def work() -> Generator[int, None, None]:
        for i in range(1000):
            made.append(i)
            yield i

    items = interleave([work()], depth=3)
    next(items)
    items.close()
    for thread in merging_threads():
        thread.join(5)
    assert not merging_threads()
    assert len(made) <= 1 + 3 + 2 + 1  # taken, waiting, drained on closing, in hand
