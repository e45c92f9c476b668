"""Many share the lock, or one has it alone, which waits for all others and comes before new ones."""

import threading
import time

from imagewizard.bulk.shared_lock import SharedLock


def test_several_share_it_and_one_has_it_alone() -> None:
    lock, events, alone = SharedLock(), list[str](), threading.Event()

    def want_alone() -> None:
        with lock.alone():
            events.append("alone")
            alone.set()
            time.sleep(0.05)
            events.append("done")

    def want_shared() -> None:
        with lock.shared():
            events.append("shared")

    with lock.shared(), lock.shared():
        first = threading.Thread(target=want_alone)
        first.start()
        for _ in range(5000):
            if lock._waiting:
                break
            time.sleep(0.001)
        assert lock._waiting, "it waits for those that share the lock"
        later = threading.Thread(target=want_shared)
        later.start()
        assert not alone.wait(0.05) and events == []
    for thread in (first, later):
        thread.join(30)
    assert events == ["alone", "done", "shared"]


def test_two_are_not_alone_together() -> None:
    lock, inside, most = SharedLock(), list[int](), list[int]()

    def work(number: int) -> None:
        with lock.alone():
            inside.append(number)
            time.sleep(0.002)
            most.append(len(inside))
            inside.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == [1] * 8
