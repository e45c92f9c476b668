"""The device goes to one at a time, and to the earliest comer first."""

import threading
import time

from imagewizard.bulk.turns import Turns


def test_the_earliest_of_those_that_wait_is_next() -> None:
    turns, order = Turns(), list[int]()
    numbers = [turns.number() for _ in range(4)]
    assert numbers == sorted(set(numbers))
    others = [threading.Thread(target=take, args=(turns, number, order)) for number in reversed(numbers[1:])]
    with turns.turn(numbers[0]):
        for thread in others:
            thread.start()
            waiting(turns, others.index(thread) + 1)
        assert order == []
    for thread in others:
        thread.join(30)
    assert order == numbers[1:]


def test_one_at_a_time() -> None:
    turns, inside, most = Turns(), list[int](), list[int]()

    def work() -> None:
        number = turns.number()
        for _ in range(20):
            with turns.turn(number):
                inside.append(number)
                time.sleep(0.0005)
                most.append(len(inside))
                inside.remove(number)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == [1] * 60


def test_an_error_in_a_turn_ends_it() -> None:
    turns = Turns()
    try:
        with turns.turn(0):
            raise KeyError
    except KeyError:
        pass
    with turns.turn(1):
        pass


def take(turns: Turns, number: int, order: list[int]) -> None:
    with turns.turn(number):
        order.append(number)


def waiting(turns: Turns, count: int) -> None:
    """Returns when so many threads wait for a turn."""
    for _ in range(5000):
        if len(turns._waiting) >= count:
            return
        time.sleep(0.001)
    raise AssertionError(f"no {count} threads wait")
