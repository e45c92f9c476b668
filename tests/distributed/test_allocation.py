"""What a job gets of a cluster, and what it says where that is too little."""

from collections.abc import Callable

import pytest
import ray

from imagewizard.bulk.block import PIXEL_BYTES
from imagewizard.config.denoise import ResourcesSection
from imagewizard.config.train import TrainResourcesSection
from imagewizard.distributed import allocation, cluster
from imagewizard.distributed.allocation import Node
from imagewizard.errors import UserError
from imagewizard.manifest.shards import BLOCK_BYTES

pytestmark = pytest.mark.usefixtures("ray_cluster")


def allocate(**changes: object) -> allocation.Allocation:
    return allocation.allocate(ResourcesSection.model_validate(changes))


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Stands in for other clusters, what Ray would say of them: (CPUs, GPUs) of each node, and the shared memory."""

    def set_nodes(*sizes: tuple[float, float], store: float = 100e9) -> None:
        found = [Node(str(number), cpus, gpus) for number, (cpus, gpus) in enumerate(sizes)]
        monkeypatch.setattr(allocation, "nodes", lambda: found)
        monkeypatch.setattr(ray, "cluster_resources", lambda: {"object_store_memory": store})

    return set_nodes


def test_without_gpus_there_is_an_actor_a_core() -> None:
    cpus = cluster.available_cpus()
    auto, one = allocate(), allocate(actors=1)
    assert (auto.actors, auto.threads_per_actor, auto.cpus_per_actor, auto.gpus_per_actor) == (cpus, 1, 1.0, 0.0)
    assert (one.actors, one.threads_per_actor, one.cpus_per_actor, one.gpus_per_actor) == (1, cpus, 1.0, 0.0)
    assert (auto.readers_per_actor, one.readers_per_actor) == (1, max(1, cpus // 2))


def test_memory_follows_from_the_machine(nodes: Callable[..., None]) -> None:
    """Readers elsewhere pass pictures on through the shared memory: half of it, for all blocks of all actors."""
    nodes((4, 0), store=1e9)
    assert allocate().pixel_bytes == PIXEL_BYTES, "an actor that reads for itself needs none"
    assert allocate().memory.startswith("at most 7.2 GB: 1.8 GB for each actor (more for an image of over 7 megapixels")
    nodes((64, 8))
    assert allocate().pixel_bytes == PIXEL_BYTES
    assert allocate().memory.startswith("at most 46.4 GB: 5.8 GB for each actor")
    nodes((64, 8), store=8e9)
    assert allocate().pixel_bytes == int(4e9 / 8 / 6) - BLOCK_BYTES
    nodes((64, 8), store=1e9)
    assert allocate().pixel_bytes == 0


def test_an_actor_uses_the_cores_of_one_node(nodes: Callable[..., None]) -> None:
    nodes((0, 0), (4, 0), (4, 0))
    assert (allocate().actors, allocate().threads_per_actor) == (8, 1)
    assert allocate(actors=1).threads_per_actor == 4
    assert allocate(actors=3).threads_per_actor == 2
    nodes((64, 8))
    assert (allocate().actors, allocate().threads_per_actor, allocate().cpus_per_actor) == (8, 8, 1.0)
    assert str(allocate()) == "8 actors of 8 threads, 1 GPU each"


def test_an_actor_uses_the_gpus_of_one_node(nodes: Callable[..., None]) -> None:
    nodes((8, 1), (8, 1), (8, 3))
    assert allocate(gpus_per_actor=2).actors == 1
    with pytest.raises(UserError, match=r"gpus_per_actor: 4 asked for, but the cluster has no node with more than 3"):
        allocate(gpus_per_actor=4)
    nodes((1, 1))
    assert allocate(gpus_per_actor=0.25).cpus_per_actor == 0.25, "four have one core"


def test_nodes_without_gpus_read_for_those_with_gpus(nodes: Callable[..., None]) -> None:
    nodes((8, 1), (8, 1))
    assert (allocate().actors, allocate().readers_per_actor) == (2, 4)  # 7: one for two cores that the actors leave
    nodes((8, 1), (8, 1), (16, 0))
    assert (allocate().actors, allocate().readers_per_actor) == (2, 8)


def test_a_range_takes_what_there_is_and_grows(nodes: Callable[..., None]) -> None:
    nodes((1, 0), (1, 0))
    found = allocate(actors=[1, 64])
    assert (found.least, found.actors, found.most) == (1, 2, 64)
    assert found.memory == allocate(actors=2).memory
    assert str(found) == "2 actors of 1 thread (1 to 64 as the cluster changes)"
    with pytest.raises(UserError, match=r"resources\.actors: 3 asked for, but the cluster has room for 2"):
        allocate(actors=[3, 64])


def test_more_than_the_cluster_holds_is_refused_with_the_number_that_fits(nodes: Callable[..., None]) -> None:
    with pytest.raises(UserError, match=r"resources\.actors: 1000 asked for, but the cluster has room for"):
        allocate(actors=1000)
    with pytest.raises(UserError, match=r"resources\.gpus_per_actor: 1 asked for, but the cluster has 0"):
        allocate(gpus_per_actor=1)
    nodes((0, 0))
    with pytest.raises(UserError, match=r"resources\.actors: the cluster has no node with a CPU"):
        allocate()


def test_a_cluster_that_grows_may_hold_more_later(nodes: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    nodes((0, 0))
    monkeypatch.setattr(allocation, "grows", lambda: True)
    found = allocate(actors=[1, 8], gpus_per_actor=1)
    assert (found.least, found.actors, found.most, found.threads_per_actor) == (1, 1, 8, 1)
    assert found.shortage == "resources.gpus_per_actor: 1 asked for, but the cluster has 0"
    assert (
        allocate_training(workers=2).shortage
        == "resources.workers: 2 asked for, but the cluster's 0 CPUs have room for 0"
    )
    nodes((4, 0))
    assert allocate(actors=[1, 8]).shortage is None and allocate_training(workers=[1, 8]).shortage is None


def allocate_training(pieces: int = 16, **changes: object) -> allocation.TrainingAllocation:
    return allocation.allocate_training(TrainResourcesSection.model_validate(changes), pieces)


def test_training_without_gpus(nodes: Callable[..., None]) -> None:
    cpus = cluster.available_cpus()
    assert allocate_training() == allocation.TrainingAllocation(1, 1, cpus, 1.0, 0.0)
    assert allocate_training(workers=[1, 2]) == allocation.TrainingAllocation(1, 2, max(1, cpus // 2), 1.0, 0.0)
    with pytest.raises(UserError, match=r"resources\.workers: 1000 asked for, but the cluster's .* CPUs have room for"):
        allocate_training(workers=1000)
    nodes((0, 0), (4, 0), (4, 0))
    assert allocate_training().threads_per_worker == 4, "a worker cannot use the cores of two nodes"


def test_training_takes_all_gpus_but_no_more_than_there_are_micro_batches(nodes: Callable[..., None]) -> None:
    nodes((64, 8))
    assert allocate_training(pieces=16) == allocation.TrainingAllocation(8, 8, 8, 1.0, 1.0)
    assert allocate_training(pieces=6).most == 6
    assert allocate_training(gpus_per_worker=0.5).most == 16
    assert allocate_training(workers=[2, 12]) == allocation.TrainingAllocation(2, 12, 8, 1.0, 1.0)
    with pytest.raises(UserError, match=r"resources\.workers: 9 asked for, but the cluster's 8 GPUs have room for 8"):
        allocate_training(workers=9)


def test_a_block_is_about_a_minutes_work(nodes: Callable[..., None]) -> None:
    nodes((2, 0))
    assert [allocate().block_size(passes).most_rows for passes in (1, 3, 100)] == [64, 21, 1]
    nodes((64, 8))
    assert [allocate().block_size(passes).most_rows for passes in (1, 50)] == [4096, 81]


def test_a_small_job_has_blocks_for_all_actors(nodes: Callable[..., None]) -> None:
    nodes((2, 0))
    assert allocate().block_size(1).rows(160) == 10
    nodes((64, 8))
    assert allocate().block_size(1).rows(160) == 5, "four for each of eight actors"
    assert allocate().block_size(1).rows(10**6) == 4096
