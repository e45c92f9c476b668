"""Readers run on the nodes that are for them, and as many as suit the cluster as it is."""

from typing import Any

import pytest
from ray.data import DataContext
from ray.data._internal.execution.operators.task_pool_map_operator import TaskPoolMapOperator

from imagewizard.distributed import allocation, readers
from imagewizard.distributed.allocation import Node

HEAD, CPU, GPU = Node("a", 0, 0), Node("b", 8, 0), Node("c", 8, 1)


def places(cluster: list[Node], gpus_per_actor: float) -> tuple[Any, Any]:
    """What readers ask of a node, and what they are content with."""
    found = readers.placement(cluster, gpus_per_actor)
    assert found["num_cpus"] == 0, "or readers and actors would wait for each other"
    (fallback,) = found["fallback_strategy"]
    return found["label_selector"].get("ray.io/node-id"), fallback["label_selector"].get("ray.io/node-id")


@pytest.mark.parametrize(
    ("cluster", "gpus_per_actor", "expected"),
    [
        ([CPU], 0.0, (None, None)),
        ([HEAD, CPU], 0.0, ("!in(a)", "!in(a)")),
        ([HEAD, CPU, GPU], 1.0, ("!in(a,c)", "!in(a)")),
        ([HEAD, CPU, GPU], 0.0, ("!in(a)", "!in(a)")),
        ([HEAD, GPU], 1.0, ("!in(a)", "!in(a)")),
        ([GPU], 1.0, (None, None)),
    ],
    ids=["one", "head", "mixed", "models-on-cpus", "gpus-alone", "one-gpu"],
)
def test_readers_leave_gpus_to_models_and_the_head_alone(
    cluster: list[Node], gpus_per_actor: float, expected: tuple[str | None, str | None]
) -> None:
    assert places(cluster, gpus_per_actor) == expected


class Reading(TaskPoolMapOperator):
    """Stands in for the chain's operator: one that has so many tasks."""

    def __init__(self) -> None:
        self.tasks = 0
        self._ray_remote_args: dict[str, Any] = {}

    def num_active_tasks(self) -> int:
        return self.tasks


def test_number_and_places_follow_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    now, cluster, op, context = [0.0], [HEAD, CPU], Reading(), DataContext()
    readers.follow_cluster(context, 0.0)
    policy = readers.ReaderPolicy(context, {op: None}, None)  # type: ignore[arg-type,dict-item]
    monkeypatch.setattr(readers.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(allocation, "nodes", lambda: cluster)

    def most() -> int:
        op.tasks = 0
        while policy.can_add_input(op):
            op.tasks += 1
        return op.tasks

    assert most() == 4
    cluster.append(Node("d", 8, 0))
    cluster.remove(HEAD)
    assert most() == 4, "it does not look all the time"
    now[0] += 2 * readers.FRESH_SECONDS
    assert most() == 8
    assert op._ray_remote_args["label_selector"] == {}
