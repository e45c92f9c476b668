"""Every form of output: what a table shows, and what CSV, JSON and Parquet hold."""

import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imagewizard.errors import UserError
from imagewizard.query import output as query_output
from imagewizard.query import sql as query_sql
from imagewizard.schema import RESULT_SCHEMA
from tests.support.queried_run import rows_of
from tests.support.run_folders import row, write_rows


def output_of(run: Path, sql: str, form: str = "table", limit: int | None = None, screen: int | None = None) -> bytes:
    sink = io.BytesIO()
    with query_sql.connect([str(run)]) as connection:
        query_output.write(query_sql.select(connection, sql), form, sink, limit, screen)
    return sink.getvalue()


def written(run: Path, sql: str, form: str = "table", limit: int | None = None, screen: int | None = None) -> str:
    return output_of(run, sql, form, limit, screen).decode()


def test_a_table_is_aligned_with_sensible_decimals(run: Path) -> None:
    sql = "SELECT image_id, sigma, psnr, ssim, attempt FROM results ORDER BY image_id, sigma LIMIT 3"
    assert written(run, sql).splitlines() == [
        "image_id  sigma   psnr    ssim  attempt",
        "────────  ─────  ─────  ──────  ───────",
        "a.png        25  28.00  0.8500        1",
        "a.png        50  26.00  0.8500        1",
        "b/ü.png      25  31.50       -        1",
    ]


def test_a_table_tells_how_many_rows_it_leaves_out(run: Path) -> None:
    lines = written(run, "SELECT * FROM range(1234) -- all").splitlines()
    assert len(lines) == 2 + 40 + 1
    assert lines[-1].startswith("… and 1,194 more rows: --limit 1234 shows them")
    assert len(written(run, "SELECT * FROM range(50);", limit=50).splitlines()) == 2 + 50
    assert "(no rows)" in written(run, "SELECT * FROM results WHERE false")
    assert "… and 7 more rows" in written(run, "FROM results", limit=0)


def test_hostile_text_neither_steers_the_terminal_nor_breaks_a_line(tmp_path: Path) -> None:
    write_rows(tmp_path, [row("\x1b[2J\nevil\u202e.png"), row("x" * 200 + "/tail.png"), row("写真/画像.png", psnr=9.5)])
    text = written(tmp_path, "SELECT image_id, psnr FROM results ORDER BY psnr, image_id")
    lines = text.splitlines()
    assert len(lines) == 5
    assert "\x1b" not in text and "\u202e" not in text
    assert "\\x1b[2J\\nevil\\u202e.png" in lines[3]
    assert lines[4].startswith("xxx") and "…" in lines[4] and "/tail.png  30.00" in lines[4]
    # a wide sign takes two columns, so this line has fewer signs and is as wide
    assert len(lines[2]) == len(lines[4]) - len("写真画像") and lines[2].startswith("写真/画像.png ")


def test_csv_and_json_hold_every_row_exactly(run: Path) -> None:
    sql = "FROM results ORDER BY image_id, sigma"
    expected = rows_of(run, sql)
    lines = list(csv.DictReader(io.StringIO(written(run, sql, "csv"))))
    decoded = [json.loads(line) for line in written(run, sql, "json").splitlines()]
    assert len(lines) == len(decoded) == len(expected) == 7
    for line, parsed, each in zip(lines, decoded, expected, strict=True):
        assert list(line) == list(parsed) == ["run", *RESULT_SCHEMA.names]
        assert line["image_id"] == parsed["image_id"] == each["image_id"]
        assert parsed["psnr"] == each["psnr"] == (float(line["psnr"]) if line["psnr"] else None)
        assert parsed["finished_at"].startswith("2026-05-01 12:00:00") and line["finished_at"].startswith("2026-05-01")


def test_values_without_a_type_in_the_format_become_text(run: Path) -> None:
    sql = """SELECT [1, 2] AS list, INTERVAL 90 SECOND AS span, 'inf'::DOUBLE AS endless, sum(attempt) AS total,
             {'a': 'x'} AS struct, 'q"u,o' AS quoted, NULL AS nothing FROM results"""
    line = next(csv.DictReader(io.StringIO(written(run, sql, "csv"))))
    assert line == {"list": "[1, 2]", "span": "00:01:30", "endless": "inf", "total": "9", "struct": "{'a': x}",
                    "quoted": 'q"u,o', "nothing": ""}  # fmt: skip
    assert json.loads(written(run, sql, "json")) == {
        "list": [1, 2], "span": "00:01:30", "endless": None, "total": 9, "struct": {"a": "x"},
        "quoted": 'q"u,o', "nothing": None}  # fmt: skip
    stored = pq.read_table(pa.BufferReader(output_of(run, sql, "parquet"))).to_pylist()[0]
    assert (stored["list"], stored["span"], int(stored["total"])) == ([1, 2], "00:01:30", 9)
    assert "00:01:30" in written(run, sql)


@pytest.mark.parametrize(
    ("name", "form"), [("o.csv", "csv"), ("o.JSONL", "json"), ("o.parquet", "parquet"), ("o.txt", "table")]
)
def test_the_file_name_picks_the_format(name: str, form: str) -> None:
    assert query_output.format_of(name) == form


@pytest.mark.parametrize("screen", [40, 60, 80])
def test_a_table_is_cut_to_the_screen(tmp_path: Path, screen: int) -> None:
    write_rows(tmp_path, [row(f"folder/{'x' * 50}/{number}.png", uri=f"/{'写' * 40}") for number in range(3)])
    lines = written(tmp_path, "SELECT image_id, uri, psnr FROM results", screen=screen).splitlines()
    assert max(len(line) + line.count("写") for line in lines) <= screen
    assert all("…" in line and line.endswith("30") for line in lines[2:])
    assert max(map(len, written(tmp_path, "SELECT image_id, uri, psnr FROM results").splitlines())) > 80


def test_times_are_shown_in_seconds(run: Path) -> None:
    text = written(run, "SELECT min(finished_at) AS at, NULL::TIMESTAMP AS none FROM results")
    assert text.splitlines()[2].split("  ") == ["2026-05-01 12:00:00+00:00", "-"]
    before = written(run, "SELECT TIMESTAMP '1969-12-31 23:59:58.5' AS at")
    assert before.splitlines()[2] == "1969-12-31 23:59:58"


def test_json_and_parquet_refuse_columns_of_one_name(run: Path) -> None:
    for form in ("json", "parquet"):
        with pytest.raises(UserError, match=f"two columns are called x, and {form} needs different names"):
            output_of(run, "SELECT 1 AS x, 2 AS x", form)
    assert written(run, "SELECT 1 AS x, 2 AS x", "csv").splitlines()[1] == "1,2"
