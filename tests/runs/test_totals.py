"""Totals are what SQL over the same rows finds, in whichever files these are, and they add up."""

import json
import random
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from imagewizard.query.sql import records_of
from imagewizard.runs import results, totals
from imagewizard.runs.totals import Totals
from imagewizard.schema import RESULT_SCHEMA
from tests.support.run_folders import STARTED, error_row, restored, row, write_rows, write_shard


def some_rows(first: int, last: int) -> list[dict]:
    """Two levels an image; every fifth fails at one of them, every tenth of which is retried well."""
    rng = random.Random(first)
    rows = []
    for number in range(first, last):
        name = f"{number:04d}.png"
        rows.append(row(name, sigma=15.0, psnr=rng.uniform(25, 35), ssim=None if number % 7 == 0 else rng.random()))
        if number % 5:
            rows.append(row(name, sigma=25.0, psnr=rng.uniform(20, 30)))
        else:
            rows.append(error_row(name, "read", f"reason {number % 3}", sigma=25.0))
        if number % 10 == 0:
            rows.append(row(name, sigma=25.0, attempt=2))
    return rows


def as_table(rows: list[dict]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=RESULT_SCHEMA)


def commit(run: Path, rows: list[dict], shard: int, block: int = 0) -> None:
    """As the job does: later attempts in files of their own."""
    for attempt in (1, 2):
        write_rows(run, [row for row in rows if row["attempt"] == attempt], shard, block, attempt)


def whole(run: Path) -> Totals:
    _, shards = totals.snapshot(str(run))
    return totals.merge(shards.values())


def same_means(means: list[dict], expected: list[dict]) -> bool:
    return [
        {k: v if isinstance(v, str) else pytest.approx(v, rel=1e-12) for k, v in e.items()} for e in expected
    ] == means


def test_totals_equal_the_canned_queries(tmp_path: Path) -> None:
    commit(tmp_path, some_rows(0, 40), shard=0)
    write_shard(tmp_path, some_rows(100, 180), shard=1, attempt=2)
    commit(tmp_path, some_rows(200, 260), shard=2)
    commit(tmp_path, some_rows(300, 320), shard=2, block=1)
    found = whole(tmp_path)
    assert found.errors == records_of(str(tmp_path), "errors")
    assert same_means(found.means, records_of(str(tmp_path), "summary"))
    statuses = records_of(str(tmp_path), "SELECT status, count(*) AS n FROM results GROUP BY status")
    assert {each["status"]: each["n"] for each in statuses} == {"ok": found.ok, "error": found.failed}
    assert found.rows == 2 * (40 + 80 + 60 + 20)
    assert found.last_row == STARTED.timestamp()


def test_later_rows_of_a_shard_supersede_those_in_its_whole_file(tmp_path: Path) -> None:
    write_shard(tmp_path, [row("a.png"), error_row("b.png", "read", "gone")])
    write_rows(tmp_path, [row("b.png", attempt=2)], attempt=2)
    _, found = totals.snapshot(str(tmp_path))
    assert (found[0].ok, found[0].failed, found[0].errors) == (2, 0, [])


def test_totals_survive_json_and_add_up(tmp_path: Path) -> None:
    parts = [
        replace(totals.of_rows(as_table(some_rows(n, n + 30))), stage_seconds={"read": 0.5, f"s{n}": n})
        for n in (0, 30, 60)
    ]
    again = [Totals(**json.loads(json.dumps(asdict(part)))) for part in parts]
    assert again == parts
    merged, expected = (
        totals.merge(again),
        totals.of_rows(as_table(some_rows(0, 30) + some_rows(30, 60) + some_rows(60, 90))),
    )
    assert merged.stage_seconds == {"read": 1.5, "s0": 0, "s30": 30, "s60": 60}
    assert (merged.ok, merged.failed, merged.errors, merged.last_row) == (
        expected.ok,
        expected.failed,
        expected.errors,
        expected.last_row,
    )
    assert same_means(merged.means, expected.means)
    assert parts == again  # merging leaves its parts as they were


def test_restored_images_have_no_scores() -> None:
    found = totals.of_rows(as_table([restored("a", 11.0), restored("b", 12.0)]))
    [mean] = found.means
    assert (mean["sigma"], mean["ok"], mean["psnr"], mean["gain"]) == (None, 2, None, None)


def test_each_setting_of_the_noise_has_means_of_its_own_in_order(tmp_path: Path) -> None:
    def sensor(a: float, **changes: Any) -> dict:
        params = json.dumps({"a": a, "b": 4.0})
        return row("x.png", noise_kind="poisson-gaussian", noise_params=params, sigma=None, **changes)

    write_shard(tmp_path, [sensor(10.0, psnr=20.0), sensor(2.0, psnr=30.0)])
    write_shard(tmp_path, [sensor(2.0, psnr=32.0)], shard=1)
    commit(tmp_path, [sensor(2.0, psnr=34.0)], shard=2)
    found = whole(tmp_path).means
    assert [(mean["noise_params"], mean["sigma"], mean["images"], mean["psnr"]) for mean in found] == [
        ('{"a": 2.0, "b": 4.0}', None, 3, 32.0), ('{"a": 10.0, "b": 4.0}', None, 1, 20.0),
    ]  # fmt: skip


def test_restored_images_are_one_group_whatever_levels_they_were_given(tmp_path: Path) -> None:
    write_shard(tmp_path, [restored("a", None, sigma=5.0), restored("b", None, sigma=5.0)])
    [mean] = whole(tmp_path).means
    assert (mean["sigma"], mean["images"]) == (5.0, 2)
    write_shard(tmp_path, [restored("c", None, sigma=5.0), restored("d", None, sigma=7.0)], shard=1)
    write_shard(tmp_path, [restored("e", None, sigma=9.0)], shard=2)
    [mean] = whole(tmp_path).means
    assert (mean["sigma"], mean["images"]) == (None, 5)
    assert records_of(str(tmp_path), "summary") == [mean]


def test_totals_of_older_runs_know_no_parameters() -> None:
    old = {"mode": "mmse", "sigma": 25.0, "images": 2, "ok": 2, "errors": 0, "psnr_sum": 60.0, "psnr_count": 2}
    old |= {"psnr_noisy_sum": 40.0, "psnr_noisy_count": 2}
    [mean] = totals.merge([Totals(ok=2, scores=[old]), Totals(ok=2, scores=[dict(old)])]).means
    assert (mean["noise_params"], mean["sigma"], mean["images"], mean["gain"]) == (None, 25.0, 4, 10.0)


def test_a_run_without_rows_has_empty_totals(tmp_path: Path) -> None:
    assert whole(tmp_path) == Totals()


def test_compaction_while_totals_are_read_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The block's file is listed, and gone when it is to be read; the shard's file is there in its place."""
    block = write_rows(tmp_path, [row("a.png")])
    read = results.read

    def compacted_meanwhile(run: str, name: str) -> tuple:
        if block.exists():
            write_shard(tmp_path, [row("a.png")])
            block.unlink()
        return read(run, name)

    monkeypatch.setattr(results, "read", compacted_meanwhile)
    files, found = totals.snapshot(str(tmp_path))
    assert files.names == ["s00000-c01.parquet"] and found[0].ok == 1


def test_stage_seconds_of_blocks_add_up(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    for block in range(3):
        name = results.BlockFile(0, block, 1).name
        data = results.encode(as_table([row(f"{block}.png")]), {"stage_seconds": {"read": 0.5, "denoise": block}})
        (tmp_path / "results" / name).write_bytes(data)
    found = whole(tmp_path)
    assert found.stage_seconds == {"read": 1.5, "denoise": 3}
