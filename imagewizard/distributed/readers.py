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

# What a reader reserves of a core where there are, or may come, nodes without GPUs: Ray fills them up to a half before
# it takes another one, and so with one reader a core.
CPUS_BESIDE_GPUS = 0.5

# The cluster is looked at anew after so many seconds.
FRESH_SECONDS = 5.0
_GPUS_PER_ACTOR = "imagewizard.gpus_per_actor"


def options(cluster: list[Node], gpus_per_actor: float) -> dict[str, Any]:
    """Arguments for Ray Data's maps: on which nodes their tasks run."""
    if gpus_per_actor and (allocation.grows() or any(node.cpus and not node.gpus for node in cluster)):
        # Ray's usual policy leaves nodes with GPUs to tasks that want GPUs, as long as there is room on others.
        return {"compute": TaskPoolStrategy(), "num_cpus": CPUS_BESIDE_GPUS, "scheduling_strategy": "DEFAULT"}
    # They reserve nothing, because the actors reserve all cores. So neither of them ever waits for the other, even
    # where the actors of a lost node crowd on those that are left. A head that only coordinates is left alone.
    coordinators = [node.id for node in cluster if not node.cpus]
    selector = {"label_selector": {"ray.io/node-id": f"!in({','.join(coordinators)})"}} if coordinators else {}
    return {"compute": TaskPoolStrategy(), "num_cpus": 0, "scheduling_strategy": "SPREAD", **selector}


def limit(context: DataContext, gpus_per_actor: float) -> None:
    """Lets no more readers of a chain run at once than suit the cluster as it is then."""
    context.set_config(_GPUS_PER_ACTOR, gpus_per_actor)
    context.set_config(ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, [*ENABLED_BACKPRESSURE_POLICIES, ReaderLimit])


class ReaderLimit(BackpressurePolicy):
    """Ray Data's own limit of tasks is fixed when a chain starts; this one follows the cluster."""

    _readers = 1
    _looked_at = -math.inf

    def can_add_input(self, op: object) -> bool:
        """Whether another task of `op` may start."""
        if not isinstance(op, TaskPoolMapOperator):
            return True
        if time.monotonic() - self._looked_at > FRESH_SECONDS:
            self._looked_at = time.monotonic()
            self._readers = allocation.readers(allocation.nodes(), self._data_context.get_config(_GPUS_PER_ACTOR))
        return op.num_active_tasks() < self._readers
