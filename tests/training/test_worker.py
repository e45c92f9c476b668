"""Several workers share the first one's clock, and resume from the same checkpoint."""

import multiprocessing
import time
from pathlib import Path

import pytest
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes

from imagewizard.training import checkpoint
from imagewizard.training.worker import Worker
from tests.support.training_parts import CPU, config, train, trainer


def _worker(rank: int, folder: Path) -> None:
    """The second worker sees the clock and the checkpoints of the first one, though its own are others."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    worker = Worker(rank, 2, CPU)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: 1000.0 + rank)
        assert worker.clock() == 1000.0
    assert worker.from_first(0.1 + rank) == 0.1
    for first, second, seen in (("both", "both", 2), ("one", "both", 1), ("none", "both", None)):
        found = checkpoint.newest(f"{folder}/{second if rank else first}", worker)
        assert (found and found.step) == seen
    if rank:
        with pytest.raises(FileNotFoundError, match="worker 1 does not see step-00000002"):
            checkpoint.newest(f"{folder}/one", worker)
    else:
        checkpoint.newest(f"{folder}/both", worker)
    dist.destroy_process_group()


def test_workers_agree_on_the_time_and_on_the_checkpoint(tmp_path: Path) -> None:
    run = trainer(config())
    facts = {"seconds": 1.0, "skipped": []}
    train(run, 1)
    for name in ("one", "both"):
        checkpoint.save(run, f"{tmp_path}/{name}", 30.0, facts)
    train(run, 1)
    checkpoint.save(run, f"{tmp_path}/both", 31.0, facts)
    multiprocessing.set_forkserver_preload([__name__])
    start_processes(_worker, (tmp_path,), nprocs=2, start_method="forkserver")
