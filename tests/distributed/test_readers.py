"""Readers run on the nodes that are for them, and as many as suit the cluster as it is."""

from collections.abc import Callable

import pytest
from ray.data import DataContext
from ray.data._internal.execution.operators.task_pool_map_operator import TaskPoolMapOperator

from imagewizard.distributed import allocation, readers
from imagewizard.distributed.allocation import Node

pytestmark = pytest.mark.usefixtures("ray_cluster")

HEAD, CPU, GPU = Node("a", 0, 0), Node("b", 8, 0), Node("c", 8, 1)


def test_a_head_without_cpus_is_left_alone() -> None:
    found = readers.options([HEAD, CPU], gpus_per_actor=0.0)
    assert found["label_selector"] == {"ray.io/node-id": "!in(a)"}
    assert found["num_cpus"] == 0, "or readers and actors would wait for each other"
    assert "label_selector" not in readers.options([CPU], gpus_per_actor=0.0)


def test_nodes_without_gpus_come_first_where_actors_have_gpus() -> None:
    mixed = readers.options([HEAD, CPU, GPU], gpus_per_actor=1.0)
    assert (mixed["scheduling_strategy"], mixed["num_cpus"]) == ("DEFAULT", 0.5)
    assert readers.options([GPU, GPU], gpus_per_actor=1.0)["scheduling_strategy"] == "SPREAD"


class Reading(TaskPoolMapOperator):
    """Stands in for the chain's operator: one that has so many tasks."""

    def __init__(self, tasks: int) -> None:
        self._tasks = tasks

    def num_active_tasks(self) -> int:
        return self._tasks


def test_the_limit_follows_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    context, now = DataContext(), [0.0]
    readers.limit(context, 0.0)
    limit = readers.ReaderLimit(context, {}, None)  # type: ignore[arg-type]
    monkeypatch.setattr(readers.time, "monotonic", lambda: now[0])

    def limit_of(nodes: list[Node], at: float) -> Callable[[int], bool]:
        monkeypatch.setattr(allocation, "nodes", lambda: nodes)
        now[0] = at
        return lambda tasks: limit.can_add_input(Reading(tasks))

    four = limit_of([CPU], at=0.0)
    assert (four(3), four(4)) == (True, False)
    eight = limit_of([CPU, CPU], at=2 * readers.FRESH_SECONDS)
    assert (eight(7), eight(8)) == (True, False)
