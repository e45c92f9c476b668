"""The chain as a whole: a fast reader before a slow model waits, instead of filling the object store."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray
from PIL import Image
from ray._private.internal_api import memory_summary

from imagewizard.bulk import block as blocks
from imagewizard.bulk.block import Block
from imagewizard.bulk.pending import block_ranges
from imagewizard.config.denoise import ActorConfig
from imagewizard.distributed import pipeline
from imagewizard.distributed.allocation import Allocation
from imagewizard.distributed.nodes import Needed, View
from imagewizard.errors import UserError
from imagewizard.manifest import shards
from imagewizard.runs import results
from imagewizard.runs.results import ResultFiles
from tests.support.run_folders import row

pytestmark = pytest.mark.usefixtures("ray_cluster")

BLOCK_MEGABYTES = 6  # four images of 700 x 700
BLOCKS = 16
STORE_MEGABYTES = 20
ALLOCATION = Allocation(
    least=1,
    actors=1,
    most=1,
    threads_per_actor=1,
    cpus_per_actor=1.0,
    gpus_per_actor=0.0,
    readers_per_actor=1,
    pixel_bytes=64 << 20,
)


class SlowActor(pipeline.DenoiseActor):
    """A stand-in for DenoiseActor that takes its time and returns a row for each image."""

    def load(self, config: ActorConfig) -> Callable[[Block], Block]:
        return self.denoise

    @staticmethod
    def denoise(block: Block) -> Block:
        time.sleep(0.5)
        rows = [row(image_id) for image_id in block.images["image_id"].to_pylist()]
        return Block(block.file, pa.Table.from_pylist(rows, schema=blocks.DENOISED_SCHEMA))


class PoisonedActor(pipeline.DenoiseActor):
    """A stand-in for DenoiseActor that one image kills, as one may that takes more memory than there is."""

    def load(self, config: ActorConfig) -> Callable[[Block], Block]:
        return self.denoise

    @staticmethod
    def denoise(block: Block) -> Block:
        if "7.png" in block.images["image_id"].to_pylist():
            os.kill(os.getpid(), signal.SIGKILL)
        return SlowActor.denoise(block)


def store_megabytes() -> float:
    """What all objects take of the shared memory."""
    address = ray.get_runtime_context().gcs_address
    return float(re.search(r"Plasma memory usage ([\d.]+) MiB", memory_summary(address, stats_only=True))[1])


def all_work(folder: Path, images: int, side: int) -> pipeline.Work:
    """A run of so many images of side x side, in blocks of four."""
    (folder / "in").mkdir()
    Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(folder / "in" / "0.png")
    for number in range(1, images):
        (folder / "in" / f"{number}.png").hardlink_to(folder / "in" / "0.png")
    run = str(folder / "run")
    index = shards.write(run, str(folder / "in"), 4)
    ranges = block_ranges(index.blocks, ResultFiles([]), set())
    return pipeline.Work(run, ranges, [25.0], 4, False, 10**6, None, keep=False)


def test_an_image_that_kills_its_actor_ends_the_job(tmp_path: Path) -> None:
    """Not only that: it does so after a few tries, and what the others came to is there."""
    work = all_work(tmp_path, 16, 8)
    with pytest.raises(ray.exceptions.RayTaskError, match="has ended 4 actors"):
        list(pipeline.build(work, PoisonedActor, None, ALLOCATION).iter_rows())  # type: ignore[arg-type]
    assert len(results.result_files(work.run)) < 4


def test_an_actor_that_does_not_see_its_model_says_so_at_its_first_block() -> None:
    """What its constructor raises, Ray tells only as text."""
    model = Needed("model", "/nowhere", "/nowhere/weights", 5, by_models=True)
    view = View((model,), "s3://bucket/run", "the lease's id")
    actor = pipeline.DenoiseActor(None, pipeline.Work("", [], [25.0], 4, False, 10**6, None, keep=False, view=view))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"^model: /nowhere on node \S+ \(\w+\) is not what the driver sees"):
        actor(pa.table({}))


@pytest.mark.long
def test_a_fast_reader_waits_for_a_slow_model(tmp_path: Path) -> None:
    work = all_work(tmp_path, 4 * BLOCKS, 700)
    before = store_megabytes()
    most, stop = [before], threading.Event()

    def sample() -> None:
        while not stop.wait(0.1):
            most[0] = max(most[0], store_megabytes())

    sampler = threading.Thread(target=sample)
    sampler.start()
    written = list(pipeline.build(work, SlowActor, None, ALLOCATION).iter_rows())  # type: ignore[arg-type]
    stop.set()
    sampler.join()
    assert sum(each["rows"] for each in written) == 4 * BLOCKS
    assert len(results.result_files(work.run)) == BLOCKS
    # all of it would be 96 MB; blocks may be on their way into the store when the limit is reached, and out of it
    assert BLOCK_MEGABYTES < most[0] - before < BLOCKS * BLOCK_MEGABYTES / 2


IMPORTS = """
import sys
from imagewizard.distributed import pipeline

def there(*names):
    print([name for name in names if name in sys.modules])

unused = "boto3", "duckdb", "imagecodecs", "matplotlib", "pyarrow.dataset", "scipy", "skimage", "torchvision"
there("torch", "diffusers", *unused)

from imagewizard.bulk import block_denoiser
from imagewizard.config.denoise import DenoiseSection
from imagewizard.models import files, restorers

restorers.load(files.find("embedded"), DenoiseSection())
there("torch._dynamo", "triton", *unused)
"""


def test_readers_and_actors_import_only_what_they_need() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "[]"]
