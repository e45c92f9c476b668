"""Results come in order, and no more is begun than is allowed."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from imagewizard.bulk import overlap


def test_results_are_in_the_items_order_and_few_are_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(10):
            taken.append(number)
            yield number

    with ThreadPoolExecutor(4) as pool:
        for place, result in enumerate(overlap.ahead(pool, lambda number: number * 2, items(), 3)):
            assert result == 2 * place
            assert len(taken) <= place + 4
    assert taken == list(range(10))


def test_what_is_ahead_is_at_work_while_the_consumer_is() -> None:
    """The second and third begin before the consumer, who has the first, asks for them."""
    begun = [threading.Event() for _ in range(4)]
    with ThreadPoolExecutor(2) as pool:
        results = overlap.ahead(pool, lambda number: begun[number].set(), range(4), 2)
        next(results)
        assert begun[1].wait(30) and begun[2].wait(30) and not begun[3].is_set()


def test_an_error_reaches_the_consumer() -> None:
    with ThreadPoolExecutor(1) as pool, pytest.raises(ZeroDivisionError):
        list(overlap.ahead(pool, lambda number: 1 // number, [1, 0], 1))
