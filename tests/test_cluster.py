"""How wide a job spreads, and what it says of a cluster that is too small or not there."""

import pytest

from imagewizard import cluster
from imagewizard.errors import UserError
from imagewizard.job_config import ResourcesSection

pytestmark = pytest.mark.usefixtures("ray_cluster")


def width(**changes: object) -> cluster.Width:
    return cluster.width(ResourcesSection.model_validate(changes))


def test_without_gpus_there_is_an_actor_a_core() -> None:
    cpus = cluster.available_cpus()
    assert width() == cluster.Width(actors=cpus, threads_per_actor=1, gpus_per_actor=0.0)
    assert width(actors=1) == cluster.Width(actors=1, threads_per_actor=cpus, gpus_per_actor=0.0)


def test_more_than_the_cluster_holds_is_refused_with_the_number_that_fits() -> None:
    with pytest.raises(UserError, match=r"resources\.actors: 1000 asked for, but the cluster has room for"):
        width(actors=1000)
    with pytest.raises(UserError, match=r"resources\.gpus_per_actor: 1 asked for, but the cluster has 0"):
        width(gpus_per_actor=1)
