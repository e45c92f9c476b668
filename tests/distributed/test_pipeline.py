"""The chain as a whole, with stand-ins for the model: what dies is done again, and whoever is to blame is found."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from imagewizard.bulk import one_by_one
from imagewizard.bulk.block import Block
from imagewizard.bulk.pending import block_ranges
from imagewizard.config.denoise import ActorConfig
from imagewizard.distributed import block_report, pipeline
from imagewizard.distributed.allocation import Allocation
from imagewizard.distributed.block_readers import Reading
from imagewizard.distributed.block_report import BlockReport
from imagewizard.distributed.nodes import Needed, View
from imagewizard.errors import UserError
from imagewizard.manifest import shards
from imagewizard.runs import results
from imagewizard.runs.results import ResultFiles
from tests.support.run_folders import error_row, row

pytestmark = pytest.mark.usefixtures("ray_cluster")

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
READING = Reading("run", 10**6, keep=False, at_once=1, gpus_per_actor=0.0, pixel_bytes=64 << 20, view=None)


class SlowActor(pipeline.DenoiseActor):
    """A stand-in for DenoiseActor that takes its time and returns a row for each image."""

    def load(self, config: ActorConfig) -> Callable[[Block], Block]:
        return self.denoise

    @staticmethod
    def denoise(block: Block) -> Block:
        time.sleep(0.05)
        rows = [row(image["image_id"]) for image in block.images]
        return Block(block.file, rows)


class PoisonedActor(pipeline.DenoiseActor):
    """A stand-in for DenoiseActor that two images kill while they are scored, as one may that takes all memory."""

    def load(self, config: ActorConfig) -> Callable[[Block], Block]:
        return self.denoise

    @staticmethod
    def denoise(block: Block) -> Block:
        with block.times.timed("score"):
            if any(image["image_id"] in ("7.png", "13.png") and image["error"] is None for image in block.images):
                os.kill(os.getpid(), signal.SIGKILL)
        rows = [
            row(image["image_id"])
            if image["error"] is None
            else error_row(image["image_id"], image["stage"], image["error"])
            for image in block.images
        ]
        return replace(block, images=rows)


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


def test_an_image_that_kills_its_actor_is_an_error_row_and_costs_no_other(tmp_path: Path) -> None:
    work = all_work(tmp_path, 16, 8)
    found = list(block_report.reports(pipeline.build(work, PoisonedActor, None, ALLOCATION)))  # type: ignore[arg-type]
    assert sum(each.rows for each in found) == 16 and sum(each.failed for each in found) == 2
    rows = [each for name in results.result_files(work.run) for each in results.read(work.run, name)[0].to_pylist()]
    assert len({each["image_id"] for each in rows}) == len(rows) == 16
    errors = {each["image_id"]: (each["stage"], each["error"]) for each in rows if each["status"] == "error"}
    assert errors == dict.fromkeys(["7.png", "13.png"], ("score", one_by_one.ENDED))


def test_an_actor_that_does_not_see_its_model_says_so_at_its_first_block() -> None:
    """What its constructor raises, Ray tells only as text."""
    model = Needed("model", "/nowhere", "/nowhere/weights", 5, by_models=True)
    view = View((model,), "s3://bucket/run", "the lease's id")
    work = pipeline.Work("", [], [25.0], 4, False, 10**6, None, keep=False, view=view)  # type: ignore[list-item]
    actor = pipeline.DenoiseActor(None, work, None)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"^model: /nowhere on node \S+ \(\w+\) is not what the driver sees"):
        next(actor(pa.table({})))


def test_a_range_that_an_actor_has_begun_is_gone_on_with(tmp_path: Path) -> None:
    """The next actor reports the blocks again that the first one has committed, and does the others."""
    work = all_work(tmp_path, 16, 8)
    block_range = pa.Table.from_pylist([{"shard": 0, "first": 0, "last": 4, "files": []}])
    reports = SlowActor(None, work, READING)(block_range)  # type: ignore[arg-type]
    begun = [BlockReport.unpack(next(reports)) for _ in range(2)]
    names = results.result_files(work.run)
    written = {name: (Path(work.run) / "results" / name).stat().st_mtime_ns for name in names}
    again = list(map(BlockReport.unpack, SlowActor(None, work, READING)(block_range)))  # type: ignore[arg-type]
    assert [each.block for each in again] == results.result_files(work.run)
    assert [each.block for each in again[:2]] == [each.block for each in begun] == names
    assert {name: (Path(work.run) / "results" / name).stat().st_mtime_ns for name in names} == written
    assert [each.rows for each in again] == [4] * 4


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
