"""Runs iterators in threads and yields their items as they come: for work that waits on disks and servers."""

import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def interleave(workers: Sequence[Generator[T, None, None]], depth: int) -> Iterator[T]:
    """The items of all `workers` as they come; at most `depth` wait to be taken. Raises the first error of a worker.

    When the consumer stops early, or after an error, every worker is closed after its current item.
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
        threading.Thread(target=work, args=(worker,), name="interleave", daemon=True).start()
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
        while running:  # makes room for waiting workers, until each has ended
            running -= waiting.get() is None
