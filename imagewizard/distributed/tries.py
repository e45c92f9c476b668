"""Counts in the cluster how many actors a block has ended, so that one that ends each of them ends the job.

Ray's own limit of retries will not do: it also counts each attempt to reach an actor whose node is lost, and those fail
within seconds, long before the cluster has noticed and starts the actor elsewhere.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.experimental import internal_kv

from imagewizard.errors import JobError

# A block that takes too much memory, for example, kills each actor. Nodes that are lost may end some by chance.
MOST = 4
_NAMESPACE = "imagewizard"


@contextmanager
def counted(run: str, block: str) -> Iterator[None]:
    """A context for the work on a block, in an actor. Raises JobError if it has ended MOST actors of this job."""
    key = f"{ray.get_runtime_context().get_job_id()}/{run}/{block}"
    ended = int(internal_kv._internal_kv_get(key, namespace=_NAMESPACE) or 0)
    if ended >= MOST:
        raise JobError(f"block {block} has ended {ended} actors, one after the other; it may take too much memory")
    internal_kv._internal_kv_put(key, str(ended + 1), namespace=_NAMESPACE)
    yield
    internal_kv._internal_kv_del(key, namespace=_NAMESPACE)
