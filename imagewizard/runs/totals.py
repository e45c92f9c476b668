"""Totals of result rows. The file of a compacted shard carries those of its rows, and those of a run are their sum.

So neither `status` nor the summary of a billion rows reads a billion rows.
"""

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from imagewizard.runs import results
from imagewizard.runs.results import ResultFiles
from imagewizard.schema import GROUPED_SIGMA, GROUPS, KEY, MEANS, NOISE_PARAMS, PSNR, SIGMA, noisy

# noise_params of a row without added noise.
RESTORED = "{}"

# Kinds of errors that are kept for each shard; all are in the rows.
TOP_ERRORS = 100
# A try takes seconds, and each shard is compacted once, and once more after a retry.
SNAPSHOT_TRIES = 5

# A later row of the same key supersedes a row. IS NOT DISTINCT FROM, because noise_kind and sigma may be null.
SUPERSEDED = " AND ".join(
    [*(f"row.{name} IS NOT DISTINCT FROM later.{name}" for name in KEY), "row.attempt < later.attempt"]
)
_CURRENT = f"""
    CREATE VIEW current AS SELECT row.* FROM rows AS row
    ANTI JOIN (SELECT * FROM rows WHERE attempt > 1) AS later ON {SUPERSEDED}"""
_SCORES = f"""
    SELECT mode, noise_params, {GROUPED_SIGMA}, count(*) AS images, count(*) FILTER (status = 'ok') AS ok,
           count(*) FILTER (status = 'error') AS errors,
           {", ".join(f"coalesce(sum({name}), 0.0) AS {name}_sum, count({name}) AS {name}_count" for name in MEANS)}
    FROM current GROUP BY mode, {GROUPS}"""
_ERRORS = f"""
    SELECT stage, error, count(*) AS images, min(uri) AS example FROM current WHERE status = 'error'
    GROUP BY stage, error ORDER BY images DESC, stage, error LIMIT {TOP_ERRORS}"""


@dataclass
class Totals:
    """Counts and sums over current rows."""

    ok: int = 0
    failed: int = 0
    scores: list[dict[str, Any]] = field(default_factory=list)
    """For each mode and setting of the noise: images, ok, errors, and the sum and count of each of MEANS."""
    errors: list[dict[str, Any]] = field(default_factory=list)
    """{stage, error, images, example}, the most frequent ones first."""
    stage_seconds: dict[str, float] = field(default_factory=dict)
    """Time spent in each stage of the chain, summed over all workers and their threads."""
    stage_cpu_seconds: dict[str, float] = field(default_factory=dict)
    """CPU time of each stage."""
    last_row: float | None = None
    """When the newest row was finished, seconds since the epoch."""

    @property
    def rows(self) -> int:
        return self.ok + self.failed

    @property
    def means(self) -> list[dict[str, Any]]:
        """For each mode and setting of the noise: images, ok, errors, gain, and the mean of each of MEANS, or None."""
        found = []
        for score in sorted(self.scores, key=lambda score: (score["mode"], *in_order(score))):
            row: dict[str, Any] = {
                name: score.get(name) for name in ("mode", NOISE_PARAMS, SIGMA, "images", "ok", "errors")
            }
            for name in MEANS:
                count = score.get(f"{name}_count", 0)  # an older run may lack a column
                row[name] = score[f"{name}_sum"] / count if count else None
            row["gain"] = None if row[PSNR] is None else row[PSNR] - row[noisy(PSNR)]
            found.append(row)
        return found


def of_rows(table: pa.Table) -> Totals:
    """The totals of rows by RESULT_SCHEMA, some of which may be superseded by others of them."""
    import duckdb  # a machine that trains may lack it, and never asks for totals

    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")  # actors have the cores
        connection.register("rows", table)
        connection.execute(_CURRENT)
        scores = connection.sql(_SCORES).to_arrow_table().to_pylist()
        errors = connection.sql(_ERRORS).to_arrow_table().to_pylist()
        last = connection.sql("SELECT epoch(max(finished_at)) AS last FROM rows").to_arrow_table().to_pylist()
    ok, failed = (sum(score[name] for score in scores) for name in ("ok", "errors"))
    return Totals(ok, failed, scores, errors, last_row=last[0]["last"])


def merge(parts: Iterable[Totals]) -> Totals:
    """The totals of all their rows; `example` is the least of the examples."""
    total = Totals()
    scores: dict[tuple[Any, ...], dict[str, Any]] = {}
    errors: dict[tuple[str, str], dict[str, Any]] = {}
    for each in parts:
        total.ok += each.ok
        total.failed += each.failed
        if each.last_row is not None:
            total.last_row = max(each.last_row, total.last_row or each.last_row)
        for score in each.scores:
            setting = score.get(NOISE_PARAMS, "")  # an older run may lack it
            group = (score["mode"], setting, None if setting == RESTORED else score[SIGMA])
            if _add(scores, group, score)[SIGMA] != score[SIGMA]:
                scores[group][SIGMA] = None
        for error in each.errors:
            merged = _add(errors, (error["stage"], error["error"]), error)
            merged["example"] = min(merged["example"], error["example"])
        for sums, added in (
            (total.stage_seconds, each.stage_seconds),
            (total.stage_cpu_seconds, each.stage_cpu_seconds),
        ):
            for stage, spent in added.items():
                sums[stage] = sums.get(stage, 0.0) + spent
    total.scores = list(scores.values())
    total.errors = sorted(errors.values(), key=lambda e: (-e["images"], e["stage"], e["error"]))
    return total


def _add(found: dict[Any, dict[str, Any]], key: tuple[Any, ...], row: dict[str, Any]) -> dict[str, Any]:
    if key not in found:
        found[key] = dict(row)
    else:
        for name, value in row.items():
            if name not in ("mode", NOISE_PARAMS, SIGMA, "stage", "error", "example"):
                found[key][name] = found[key].get(name, 0) + value
    return found[key]


def in_order(group: dict[str, Any]) -> tuple[Any, ...]:
    """A key to sort groups of rows by: their levels, then the parameters of their noise."""
    params = json.loads(group.get(NOISE_PARAMS) or RESTORED)
    return group[SIGMA] is None, group[SIGMA] or 0.0, *params.values()


def snapshot(run: str) -> tuple[ResultFiles, dict[int, Totals]]:
    """The result files of a run at one moment, and {shard: totals} of what is in them. Raises OSError."""
    for _ in range(SNAPSHOT_TRIES - 1):
        files = results.listing(run)
        with suppress(FileNotFoundError):  # a compaction has replaced files since the listing
            return files, of_shards(run, files)
    files = results.listing(run)
    return files, of_shards(run, files)


def of_shards(run: str, files: ResultFiles) -> dict[int, Totals]:
    """{shard: totals} of all shards that have rows."""
    finished = [shard for shard in files.shards if not files.blocks.get(shard)]
    with ThreadPoolExecutor(results.READ_THREADS) as pool:
        found = dict(zip(finished, pool.map(lambda shard: read(run, files.shards[shard].name), finished), strict=True))
        for shard in files.blocks:  # one shard at a time, because its rows are held in memory
            found[shard] = of_files(list(pool.map(lambda name: results.read(run, name), files.of_shard(shard))))
    return found


def read(run: str, name: str) -> Totals:
    """The totals that a shard's file carries in its footer."""
    return Totals(**results.read_notes(run, name))


def of_files(files: list[tuple[pa.Table, dict[str, Any]]]) -> Totals:
    """The totals of files, given as results.read returns them."""
    times = merge(
        Totals(stage_seconds=notes.get("stage_seconds", {}), stage_cpu_seconds=notes.get("stage_cpu_seconds", {}))
        for _, notes in files
    )
    found = of_rows(pa.concat_tables(table for table, _ in files))
    return replace(found, stage_seconds=times.stage_seconds, stage_cpu_seconds=times.stage_cpu_seconds)
