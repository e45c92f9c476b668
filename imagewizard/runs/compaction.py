"""Compaction: one file replaces the many small files of a finished shard. At no moment is a row missing or there twice.

The whole file is written first; from then on it counts and those it replaces do not (results.py), so that a crash
between the two steps, or a reader between them, does no harm.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import pyarrow as pa

from imagewizard.manifest import shards
from imagewizard.runs import results, totals
from imagewizard.runs.results import BlockFile, ResultFiles, ShardFile
from imagewizard.schema import IMAGE_ID
from imagewizard.storage import Folder


def is_finished(shard: int, blocks: int, files: ResultFiles) -> bool:
    """Whether all of a shard's `blocks` have rows."""
    return shard in files.shards or len({file.block for file in files.blocks.get(shard, [])}) == blocks


def compact(run: str, shard: int, names: list[str], levels: int) -> None:
    """Replaces `names`, all files of a shard that count, by one file, after a check that its rows are complete.

    `levels`: rows that each image has. Raises RuntimeError if a row is missing or there twice; OSError.
    """
    with ThreadPoolExecutor(results.READ_THREADS) as pool:
        files = list(pool.map(lambda name: results.read(run, name), names))
    rows = pa.concat_tables(table for table, _ in files).combine_chunks()
    found = totals.of_files(files)
    _check(run, shard, rows, found.rows, levels)
    attempts = [file.attempt for name in names if (file := BlockFile.parse(name) or ShardFile.parse(name))]
    folder = Folder(run)
    folder.write_new(f"results/{ShardFile(shard, max(attempts)).name}", results.encode(rows, asdict(found)))
    folder.delete(f"results/{name}" for name in names)


# Images of the shard with so many settings among their rows; a null sigma counts as one.
_COMPLETE = """
    SELECT image_id FROM rows SEMI JOIN wanted USING (image_id)
    GROUP BY image_id HAVING count(DISTINCT (noise_params, coalesce(sigma, -1))) = ?"""


def _check(run: str, shard: int, rows: pa.Table, current: int, levels: int) -> None:
    """Raises RuntimeError unless each image of the shard has one current row for each level, and nothing else has."""
    import duckdb  # every reader and actor imports this module; few of them compact

    wanted = shards.read_shard(run, shard).select([IMAGE_ID])
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        connection.register("rows", rows)
        connection.register("wanted", wanted)
        complete = len(connection.sql(_COMPLETE, params=[levels]).fetchall())
    if complete != wanted.num_rows or current != wanted.num_rows * levels:
        raise RuntimeError(
            f"{run}: shard {shard} has {current} current rows, {complete} images complete, of {wanted.num_rows} images "
            f"at {levels} levels"
        )
