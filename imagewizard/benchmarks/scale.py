"""Measures the cost of the system around the model, and how it grows with the number of images.

It runs a bulk job over tiny images without the network; all other parts, from manifest to summary, are real.
"""

import functools
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from imagewizard import schema, storage
from imagewizard.benchmarks import process_cpu
from imagewizard.bulk import block as blocks
from imagewizard.bulk import pending
from imagewizard.bulk.block import Block
from imagewizard.bulk.pending import ShardBlocks
from imagewizard.config.denoise import ActorConfig, DenoiseConfig
from imagewizard.distributed import cluster, denoise_job, pipeline
from imagewizard.manifest import shards
from imagewizard.metrics import Reference
from imagewizard.noise import synthetic
from imagewizard.runs import compaction, results, totals
from imagewizard.runs.results import BlockFile
from imagewizard.schema import IMAGE_ID, URI
from imagewizard.storage import Folder

SIDE = 16  # pixels of an image
FILES = 1000  # image files that the ids of the manifest share
LEFT = 0.01  # fraction of the images left to do when the time of a resume is measured
SAMPLE_SECONDS = 2.0  # between samples; one sample of all processes takes 0.1 s


@dataclass(frozen=True)
class Cost:
    """The cost of one job."""

    images: int
    manifest_seconds: float
    """Time to read the input manifest and check that its ids are unique."""
    seconds: float
    """From the start of the pipeline to its end."""
    milliseconds_per_image: float
    """In steady state, from the first committed block on; wall-clock time with all cores."""
    driver_milliseconds_per_block: float
    """CPU time of the driver, including its start, without the benchmark's own. It limits the cluster's rate."""
    driver_megabytes: float
    """Peak resident memory of the driver."""
    workers_megabytes: float
    """Peak resident memory of all Ray processes together, including shared memory."""
    most_files: int
    """Greatest number of result files during the job."""
    files: int
    megabytes: float
    """Size of the result files at the end."""
    resume_seconds: float
    """Time to find the remaining images of a job that has 1 % left."""
    again_seconds: float
    """Duration of a rerun of the finished job."""


class StandInActor(pipeline.DenoiseActor):
    """A DenoiseActor without network or torch. The noisy image serves as its own estimate."""

    def load(self, config: ActorConfig) -> Callable[[Block], Block]:
        return partial(denoise_nothing, config)


def denoise_nothing(config: ActorConfig, block: Block) -> Block:
    """A block after reading → its rows, as BlockDenoiser makes them. Adds noise and scores it twice."""
    assert config.noise is not None, "the benchmark's job adds noise"
    noises = synthetic.make(config.noise.kind, config.noise.settings)
    rows = []
    with block.times.timed("score"):
        for image in block.images:
            source = image[blocks.PICTURE]
            assert source is not None, "the benchmark's own images can all be decoded"
            reference = Reference(source.pixels)
            for setting, attempt in zip(image[blocks.SETTINGS], image[blocks.ATTEMPTS], strict=True):
                noise = noises[setting]
                noisy = noise.add(source.pixels, image[IMAGE_ID], config.seed)
                shown = noisy.clip(0, 255).round().astype(np.uint8)
                row = _row(config, image, noise) | {schema.ATTEMPT: attempt}
                rows.append(row | schema.score_columns(reference.scores(noisy), reference.scores(shown)))
    return replace(block, images=rows)


def _row(config: ActorConfig, image: dict[str, Any], noise: synthetic.Noise) -> dict[str, Any]:
    return {
        schema.SCHEMA: schema.SCHEMA_VERSION,
        schema.IMAGE_ID: image[IMAGE_ID],
        schema.URI: image[URI],
        schema.STATUS: schema.OK,
        schema.WIDTH: SIDE,
        schema.HEIGHT: SIDE,
        schema.NOISE_KIND: noise.kind,
        schema.NOISE_PARAMS: noise.params(),
        schema.SIGMA: noise.sigma,
        schema.SEED: config.seed,
        schema.STEPS: 1,
        schema.MODE: config.denoise.mode,
        schema.SECONDS: 0.0,
        schema.MODEL: config.fingerprint,
        schema.FINISHED_AT: datetime.now(UTC),
    }


def measure(images: int, scratch: Path, start: cluster.Start = cluster.start) -> Cost:
    """Runs a job over `images` images in the empty folder `scratch`. `start` joins or starts Ray."""
    config = _job(images, scratch)
    sampler = _Sampler(config.output)
    started = time.perf_counter()
    index = shards.write(str(scratch / "listed"), str(config.input), None)
    listed = time.perf_counter() - started
    spent = time.process_time()
    with sampler:
        session = denoise_job.execute(denoise_job.prepare(config), start=start, actor=StandInActor)["session"]
    spent = time.process_time() - spent - sampler.seconds
    started = time.perf_counter()
    denoise_job.execute(denoise_job.prepare(config), start=start, actor=StandInActor)
    again = time.perf_counter() - started
    names, folder = results.result_files(config.output), Folder(config.output)
    sizes = [storage.size(folder.uri_of(f"results/{name}")) for name in names]
    return Cost(
        images=images,
        manifest_seconds=listed,
        seconds=session["seconds"],
        milliseconds_per_image=1000 / session["steady_rows_per_second"],
        driver_milliseconds_per_block=1000 * spent / sum(index.blocks),
        driver_megabytes=sampler.driver / 1e6,
        workers_megabytes=sampler.workers / 1e6,
        most_files=sampler.files,
        files=len(names),
        megabytes=sum(sizes) / 1e6,
        resume_seconds=_resume(config, index),
        again_seconds=again,
    )


def _job(images: int, scratch: Path) -> DenoiseConfig:
    """A job over a manifest of `images` ids, which share FILES image files."""
    rng = np.random.default_rng(0)
    files = [scratch / f"{number}.png" for number in range(min(images, FILES))]
    for file in files:
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(file)
    ids = pa.array([f"{number:012d}" for number in range(images)])
    uris = pa.array([str(file) for file in files]).take(pa.array(np.arange(images) % len(files)))
    pq.write_table(pa.table({IMAGE_ID: ids, URI: uris}), scratch / "manifest.parquet")
    return DenoiseConfig(input=str(scratch / "manifest.parquet"), output=str(scratch / "run"))


def _resume(config: DenoiseConfig, index: shards.ManifestIndex) -> float:
    """Removes the last rows of the finished run's last shard, and returns the seconds to list them as pending."""
    run, shard = config.output, len(index.blocks) - 1
    whole = results.listing(run).shards[shard]
    table, _ = results.read(run, whole.name)
    edges = shards.blocks(shards.read_shard(run, shard), index.block_rows)
    kept = [edge for edge in edges if edge[1] <= table.num_rows - LEFT * index.images]
    for number, (first, last) in enumerate(kept):
        data = results.encode(table.slice(first, last - first), {})
        Folder(run).write_new(f"results/{BlockFile(shard, number, 1).name}", data)
    Folder(run).delete([f"results/{whole.name}"])
    started = time.perf_counter()
    files, _ = totals.snapshot(run)
    assert not compaction.is_finished(shard, index.blocks[shard], files)
    ranges = pending.block_ranges(index.blocks, files, set())
    settings = [each.setting for each in denoise_job.noises(config)]
    read = functools.lru_cache(maxsize=2)(functools.partial(ShardBlocks.read, run, index.block_rows))
    left = sum(
        table.num_rows
        for each in ranges
        for _, table in pending.pending_blocks(run, each, read(each.shard), settings, retry_failed=False)
    )
    seconds = time.perf_counter() - started
    assert 0 < left <= 2 * LEFT * index.images + index.block_rows
    return seconds


class _Sampler:
    """A context manager that samples this process, its descendants and the run's result files."""

    def __init__(self, run: str) -> None:
        self.driver = self.workers = self.files = 0
        """Peaks: bytes of resident memory of the driver and of the workers, number of result files."""
        self.seconds = 0.0
        """CPU time of its thread."""
        self._folder = Path(run) / "results"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample_often, name="sampler", daemon=True)

    def __enter__(self) -> "_Sampler":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self._sample()

    def _sample_often(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self._sample()
        self.seconds = time.thread_time()

    def _sample(self) -> None:
        self.driver = max(self.driver, _resident(os.getpid()))
        self.workers = max(self.workers, sum(_resident(pid) for pid in process_cpu.family() if pid != os.getpid()))
        if self._folder.is_dir():
            self.files = max(self.files, sum(1 for _ in self._folder.iterdir()))


def _resident(pid: int) -> int:
    """Bytes of a process's memory, as its proportional set size: shared memory counts by the process's share."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next(1024 * int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
