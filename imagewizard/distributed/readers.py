"""Where the readers of a job run, and how many at once: tasks that list, read and decode images."""

import math
import time
from typing import Any

from ray.data import DataContext, TaskPoolStrategy
from ray.data._internal.execution.backpressure_policy import (
    ENABLED_BACKPRESSURE_POLICIES,
    ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY,
    BackpressurePolicy,
)
from ray.data._internal.execution.operators.task_pool_map_operator import TaskPoolMapOperator

from imagewizard.distributed import allocation
from imagewizard.distributed.allocation import Node

# The cluster is looked at anew after so many seconds.
FRESH_SECONDS = 5.0
_GPUS_PER_ACTOR = "imagewizard.gpus_per_actor"


def options(cluster: list[Node], gpus_per_actor: float) -> dict[str, Any]:
    """Arguments for Ray Data's maps.

    Readers reserve nothing, because actors reserve all cores. So neither ever waits for the other, even where the
    actors of a lost node crowd on those that are left.
    """
    return {"compute": TaskPoolStrategy(), **placement(cluster, gpus_per_actor)}


def placement(cluster: list[Node], gpus_per_actor: float) -> dict[str, Any]:
    """Options of Ray's tasks: they read on nodes without GPUs, if models have GPUs; on all if there are no others.

    Never on a head without a CPU.
    """
    coordinators = [node.id for node in cluster if not node.cpus]
    models = [node.id for node in cluster if node.cpus and node.gpus and gpus_per_actor]
    if len(coordinators) + len(models) == len(cluster):
        models = []
    # Should the nodes of the first selector be lost, tasks that wait for them go by the second one.
    return {
        "num_cpus": 0,
        "scheduling_strategy": "SPREAD",
        "label_selector": _none_of(coordinators + models),
        "fallback_strategy": [{"label_selector": _none_of(coordinators)}],
    }


def _none_of(nodes: list[str]) -> dict[str, str]:
    return {"ray.io/node-id": f"!in({','.join(nodes)})"} if nodes else {}


def follow_cluster(context: DataContext, gpus_per_actor: float) -> None:
    """Keeps the readers of a chain in the right places, and in the right number, while nodes come and go."""
    context.set_config(_GPUS_PER_ACTOR, gpus_per_actor)
    context.set_config(ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, [*ENABLED_BACKPRESSURE_POLICIES, ReaderPolicy])


class ReaderPolicy(BackpressurePolicy):
    """What `follow_cluster` puts into a chain. Ray Data's own limit and places are fixed when a chain starts."""

    _readers = 1
    _looked_at = -math.inf

    def can_add_input(self, op: object) -> bool:
        """Whether another task of `op` may start."""
        if time.monotonic() - self._looked_at > FRESH_SECONDS:
            self._looked_at = time.monotonic()
            self._look()
        return not isinstance(op, TaskPoolMapOperator) or op.num_active_tasks() < self._readers

    def _look(self) -> None:
        cluster, gpus_per_actor = allocation.nodes(), self._data_context.get_config(_GPUS_PER_ACTOR)
        self._readers = allocation.readers(cluster, gpus_per_actor)
        for op in self._topology:
            if isinstance(op, TaskPoolMapOperator):
                op._ray_remote_args.update(placement(cluster, gpus_per_actor))  # the operator copies them for each task
