"""What a job gets of a cluster, and what it says where that is too little."""

import pytest
import ray

from imagewizard.config.denoise import ResourcesSection
from imagewizard.config.train import TrainResourcesSection
from imagewizard.distributed import allocation, cluster
from imagewizard.errors import UserError

pytestmark = pytest.mark.usefixtures("ray_cluster")


def allocate(**changes: object) -> allocation.Allocation:
    return allocation.allocate(ResourcesSection.model_validate(changes))


def test_without_gpus_there_is_an_actor_a_core() -> None:
    cpus = cluster.available_cpus()
    shared = {"gpus_per_actor": 0.0, "readers": max(1, cpus // 2)}
    auto, one = allocate(), allocate(actors=1)
    assert auto == allocation.Allocation(cpus, 1, **shared, store_bytes=auto.store_bytes)
    assert one == allocation.Allocation(1, cpus, **shared, store_bytes=one.store_bytes)


def test_bytes_in_flight_follow_from_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    store = int(ray.cluster_resources()["object_store_memory"])
    assert allocate(actors=1).store_bytes == min(store // 2, allocation.STORE_BYTES_PER_ACTOR)
    # Stands in for other machines: what Ray would say of them.
    small = {"CPU": 4.0, "object_store_memory": 1e9}
    monkeypatch.setattr(ray, "cluster_resources", lambda: small)
    assert allocate() == allocation.Allocation(4, 1, 0.0, readers=2, store_bytes=500_000_000)
    assert allocate().memory.startswith("at most 6.5 GB in flight: 0.5 GB of shared memory, and 1.0 GB in each of 6")
    large = {"CPU": 64.0, "GPU": 8.0, "object_store_memory": 100e9}
    monkeypatch.setattr(ray, "cluster_resources", lambda: large)
    assert allocate() == allocation.Allocation(8, 8, 1.0, readers=28, store_bytes=8 * allocation.STORE_BYTES_PER_ACTOR)


def test_more_than_the_cluster_holds_is_refused_with_the_number_that_fits() -> None:
    with pytest.raises(UserError, match=r"resources\.actors: 1000 asked for, but the cluster has room for"):
        allocate(actors=1000)
    with pytest.raises(UserError, match=r"resources\.gpus_per_actor: 1 asked for, but the cluster has 0"):
        allocate(gpus_per_actor=1)


def allocate_training(pieces: int = 16, **changes: object) -> allocation.TrainingAllocation:
    return allocation.allocate_training(TrainResourcesSection.model_validate(changes), pieces)


def test_training_without_gpus() -> None:
    cpus = cluster.available_cpus()
    assert allocate_training() == allocation.TrainingAllocation(1, 1, cpus, 0.0)
    assert allocate_training(workers=[1, 2]) == allocation.TrainingAllocation(1, 2, max(1, cpus // 2), 0.0)
    with pytest.raises(UserError, match=r"resources\.workers: 1000 asked for, but the cluster's .* CPUs have room for"):
        allocate_training(workers=1000)


def test_training_takes_all_gpus_but_no_more_than_there_are_micro_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    # Stands in for a cluster with GPUs: what Ray would say of it.
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 64.0, "GPU": 8.0})
    assert allocate_training(pieces=16) == allocation.TrainingAllocation(8, 8, 8, 1.0)
    assert allocate_training(pieces=6).most == 6
    assert allocate_training(gpus_per_worker=0.5).most == 16
    assert allocate_training(workers=[2, 12]) == allocation.TrainingAllocation(2, 12, 5, 1.0)
    with pytest.raises(UserError, match=r"resources\.workers: 9 asked for, but the cluster's 8 GPUs have room for 8"):
        allocate_training(workers=9)
