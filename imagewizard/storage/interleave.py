"""Several iterators side by side, each in a thread of its own, as one: for what waits on disks and servers."""

import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def merged(workers: Sequence[Generator[T, None, None]], depth: int) -> Iterator[T]:
    """The items of all `workers` as they come; at most `depth` wait to be taken. Raises what a worker raises first.

    When the consumer stops early, or an error ends it all, every worker is closed after the item that it is at.
    """
    waiting: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(depth)
    stop = threading.Event()

    def work(worker: Generator[T, None, None]) -> None:
        try:
            for item in worker:
                if stop.is_set():
                    break
                waiting.put((item,))
        except BaseException as error:
            waiting.put(error)
        finally:
            worker.close()
            waiting.put(None)

    for worker in workers:
        threading.Thread(target=work, args=(worker,), name="merged", daemon=True).start()
    running = len(workers)
    try:
        while running:
            taken = waiting.get()
            if taken is None:
                running -= 1
            elif isinstance(taken, BaseException):
                raise taken
            else:
                yield taken[0]
    finally:
        stop.set()
        while running:  # makes room for those who wait to put, until each has said that it ended
            running -= waiting.get() is None
