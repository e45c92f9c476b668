"""The batch size is the smallest of those that are as fast as any that fits."""

import pytest
import torch

from imagewizard.config.denoise import CPU_BATCH_SIZE
from imagewizard.diffusion import batch_size
from imagewizard.diffusion.batch_size import Trial, smallest_good
from tests.support.models import tiny_unet


class StandInNetwork:
    """On a device that runs `at_once` tiles in the time of one, with `memory` for so many and a fixed cost a pass."""

    def __init__(self, at_once: int, memory: int = 10**6, launches: float = 0.0) -> None:
        self.at_once, self.memory, self.launches = at_once, memory, launches
        self.tried: list[int] = []

    def __call__(self, count: int) -> Trial:
        self.tried.append(count)
        if count > self.memory:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return Trial(self.launches + max(1.0, count / self.at_once), count)


@pytest.mark.parametrize("at_once", [1, 2, 8, 64])
def test_a_batch_fills_the_device_and_no_more(at_once: int) -> None:
    network = StandInNetwork(at_once)
    assert smallest_good(network, 10**6) == at_once
    assert network.tried[-1] <= 4 * at_once  # it stops once nothing is gained


def test_fixed_costs_are_shared_out_until_they_do_not_count() -> None:
    # Of the rate without them a batch of 64 has 64/67 = 95.5 %, one of 128 97.7 %, and 512, the last tried, 99.4 %.
    assert smallest_good(StandInNetwork(1, launches=3.0), 10**6) == 128


def test_it_tries_nothing_that_takes_more_than_its_share() -> None:
    network = StandInNetwork(64)
    assert smallest_good(network, 20.0) == 16
    assert network.tried == [1, 2, 4, 8, 16]


def test_a_batch_that_fails_is_too_large_and_a_single_tile_that_fails_is_an_error() -> None:
    assert smallest_good(StandInNetwork(64, memory=7), 10**6) == 4
    with pytest.raises(torch.OutOfMemoryError):
        smallest_good(StandInNetwork(64, memory=0), 10**6)
    assert smallest_good(StandInNetwork(64), 0.5) == 1  # beyond its share, but it runs


def test_a_cpu_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_size, "smallest_good", None)
    assert batch_size.found(tiny_unet(), torch.Size((3, 32, 32))) == CPU_BATCH_SIZE


@pytest.mark.gpu
@pytest.mark.parametrize("changes", [{}, {"time_embedding_type": "learned", "num_train_timesteps": 1000}])
def test_a_gpu_is_measured_and_its_memory_is_free_again(changes: dict[str, object]) -> None:
    unet = tiny_unet(k=2, **changes).to("cuda", torch.bfloat16)
    before = torch.cuda.memory_allocated()
    found = batch_size.found(unet, torch.Size((3, 64, 96)))
    assert found in [2**n for n in range(11)] and found > 1
    assert torch.cuda.memory_allocated() <= before + 2**20
    trials = [batch_size._trial(unet, torch.Size((3, 64, 96)), count) for count in (8, 64)]
    assert 4 * trials[0].memory < trials[1].memory < 16 * trials[0].memory
