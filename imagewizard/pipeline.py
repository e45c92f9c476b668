"""The bulk job as one Ray Data chain: read → decode → [noise → denoise → score] → commit.

A row of the chain is one block of the manifest with its images inside (see blocks.py), so whatever Ray does with
rows, one block in is one result file out. Pixels cross processes once, as uint8.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from pyarrow import fs
from ray.data import ActorPoolStrategy, DataContext, Dataset

from imagewizard import blocks, images, storage
from imagewizard.job_config import ActorConfig
from imagewizard.schema import ERROR, URI

# Decoded pixels that a block may carry; its images beyond that travel encoded and are decoded by the actor, one at a
# time. Bounds what a block of large photographs takes in the object store.
PIXEL_BYTES = 128 << 20
# No image within the pixel limit needs more than this a pixel on disk (16-bit RGBA, uncompressed) …
MAX_BYTES_PER_PIXEL = 8
# … plus this for headers and profiles.
MAX_HEADER_BYTES = 16 << 20
# Reads wait for disks and servers, not for the CPU.
READ_THREADS = 16

# Shares of a CPU. The actors leave room for readers and committers on any machine, one core included: whole CPUs
# would let the actors take them all, and the job would hang without a word.
ACTOR_CPUS = 0.5
READER_CPUS = 0.25
COMMIT_CPUS = 0.1


@dataclass(frozen=True)
class Work:
    """What the chain has to do: the open ends of a run."""

    run: str
    pieces: list[blocks.Piece]
    sigmas: list[float | None]
    block_rows: int
    retry_failed: bool


def build(work: Work, actor: ActorConfig, actors: int, gpus_per_actor: float) -> Dataset:
    """The chain over all that is left of a run. Its rows, by COMMIT_SCHEMA, tell of each block as it is committed."""
    # Every row, be it one of a few bytes or of a hundred megabytes, is a Ray block of its own, so that each is passed
    # on as soon as it is there, to whichever actor is free.
    DataContext.get_current().target_max_block_size = 1
    by_block = {"batch_size": 1, "batch_format": "pyarrow"}
    limit = {"max_pixels": actor.max_pixels}
    return (
        ray.data.from_items([asdict(piece) for piece in work.pieces], override_num_blocks=len(work.pieces))
        .flat_map(list_pending_blocks, fn_kwargs={"work": replace(work, pieces=[])}, num_cpus=READER_CPUS)
        .map_batches(read_images, fn_kwargs=limit, num_cpus=READER_CPUS, **by_block)
        .map_batches(decode_images, fn_kwargs=limit, num_cpus=READER_CPUS, **by_block)
        .map_batches(
            DenoiseActor,
            fn_constructor_args=(actor,),
            compute=ActorPoolStrategy(size=actors),
            num_cpus=ACTOR_CPUS,
            num_gpus=gpus_per_actor or None,
            **by_block,
        )
        .map_batches(commit_rows, fn_kwargs={"run": work.run}, num_cpus=COMMIT_CPUS, **by_block)
    )


def list_pending_blocks(piece: dict[str, Any], work: Work) -> Iterator[dict[str, Any]]:
    """The blocks of a piece of the manifest that are still to be done."""
    found = blocks.pending(work.run, blocks.Piece(**piece), work.sigmas, work.block_rows, work.retry_failed)
    for block, table in found:
        yield blocks.pack(block, table).to_pylist()[0]


def read_images(row: pa.Table, max_pixels: int) -> pa.Table:
    """Adds each image's encoded `data`, or the `stage` and `error` of the attempt."""
    block, table = blocks.unpack(row)
    max_bytes = max_pixels * MAX_BYTES_PER_PIXEL + MAX_HEADER_BYTES
    with ThreadPoolExecutor(READ_THREADS) as pool:
        outcomes = list(pool.map(lambda uri: _read(uri, max_bytes), table[URI].to_pylist()))
    table = table.append_column("data", pa.array([data for data, _ in outcomes], pa.large_binary()))
    table = table.append_column("stage", pa.array([error and "read" for _, error in outcomes], pa.string()))
    return blocks.pack(block, table.append_column("error", pa.array([error for _, error in outcomes], pa.string())))


def _read(uri: str, max_bytes: int) -> tuple[bytes | None, str | None]:
    """(the file's bytes, None) or (None, why not)."""
    try:
        filesystem, path = storage.resolve(uri)
        if filesystem.get_file_info(path).type == fs.FileType.NotFound:
            return None, "no such file: it vanished since it was listed"
        with filesystem.open_input_file(path) as stream:
            if stream.size() > max_bytes:
                return None, f"{stream.size()} bytes: more than an image within max_pixels can need"
            return stream.read(), None
    except OSError as error:
        return None, " ".join(str(error).split())


def decode_images(row: pa.Table, max_pixels: int) -> pa.Table:
    """Turns `data` into `pixels` (uint8 RGB, row by row), `height` and `width`, as far as PIXEL_BYTES go."""
    block, table = blocks.unpack(row)
    rows = table.to_pylist()
    held = 0
    for image in rows:
        if image["error"] is not None or held > PIXEL_BYTES:
            continue
        try:
            decoded = images.decode(image.pop("data"), max_pixels)
        except images.ImageError as error:
            image |= {"stage": "decode", "error": str(error)}
            continue
        image |= {"pixels": decoded.tobytes(), "height": decoded.shape[0], "width": decoded.shape[1]}
        held += decoded.nbytes
    return blocks.pack(block, pa.Table.from_pylist(rows, schema=blocks.DECODED_SCHEMA))


class DenoiseActor:
    """Ray's side of block_denoiser.BlockDenoiser: imports it, and torch's ten seconds with it, only where it runs."""

    def __init__(self, config: ActorConfig) -> None:
        from imagewizard.block_denoiser import BlockDenoiser

        self._denoise_block = BlockDenoiser(config)

    def __call__(self, row: pa.Table) -> pa.Table:
        return self._denoise_block(row)


COMMIT_SCHEMA = pa.schema([("block", pa.string()), ("rows", pa.int64()), ("failed", pa.int64())])


def commit_rows(row: pa.Table, run: str) -> pa.Table:
    """Writes a block's result rows to the file that is named after it, unless a twin of this task has done so."""
    block, rows = blocks.unpack(row)
    uri = storage.join(run, "results", block.name)
    if not storage.exists(uri):
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink)
        storage.write_whole(uri, sink.getvalue(), storage.join(run, "_tmp"))
    failed = rows["status"].to_pylist().count(ERROR)
    return pa.table([[block.name], [rows.num_rows], [failed]], schema=COMMIT_SCHEMA)
