"""Queries over runs: which rows are current, what SQL may do, the canned queries, and every form of output."""

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from imagewizard.errors import JobError, UserError
from imagewizard.query import output as query_output
from imagewizard.query import sql as query_sql
from imagewizard.runs import results
from imagewizard.schema import RESULT_SCHEMA
from jobs import query as command
from jobs import shell
from tests.support.run_folders import error_row, restored, row, write_job, write_rows


def rows_of(run: Path | str, sql: str) -> list[dict[str, Any]]:
    with query_sql.connect([str(run)]) as connection:
        return query_sql.records(connection, sql)


@pytest.fixture(params=["read at once", "scanned"])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two levels of three images; one image fails at first and then does not, another fails for good."""
    if request.param == "scanned":  # as a run that is too large to be held in memory
        monkeypatch.setattr(results, "IN_MEMORY_BYTES", 0)
    folder = tmp_path / "run"
    write_job(folder, 4, noise={"sigma": [25, 50]})
    write_rows(
        folder,
        [
            row("a.png", psnr=28.0, seconds=1.0),
            row("a.png", sigma=50.0, psnr_noisy=14.15, psnr=26.0, seconds=2.0),
            row("b/ü.png", psnr=31.5, ssim=None, seconds=3.0),
            error_row("c.png", "read", "timed out"),
        ],
    )
    write_rows(folder, [error_row("d.png", "decode", "truncated file"), row("e.png", psnr=20.0)], block=1)
    write_rows(folder, [row("c.png", psnr=30.0, attempt=2)], attempt=2)
    write_rows(folder, [error_row("d.png", "decode", "truncated again", attempt=2)], block=1, attempt=2)
    write_rows(folder, [row("f.png", psnr=29.0)], shard=1)
    return folder


def output(capsysbinary: pytest.CaptureFixture[bytes], *words: object) -> str:
    """What the command prints."""
    assert command.main([str(word) for word in words]) == shell.DONE
    return capsysbinary.readouterr().out.decode()


def test_the_last_attempt_of_a_key_is_its_current_row(run: Path) -> None:
    current = rows_of(run, "SELECT image_id, sigma, status, error, attempt FROM results ORDER BY image_id, sigma")
    assert [tuple(each.values()) for each in current] == [
        ("a.png", 25.0, "ok", None, 1),
        ("a.png", 50.0, "ok", None, 1),
        ("b/ü.png", 25.0, "ok", None, 1),
        ("c.png", 25.0, "ok", None, 2),
        ("d.png", 25.0, "error", "truncated again", 2),
        ("e.png", 25.0, "ok", None, 1),
        ("f.png", 25.0, "ok", None, 1),
    ]
    assert rows_of(run, "SELECT count(*) AS n FROM attempts") == [{"n": 9}]


def test_a_retry_replaces_only_the_row_of_its_own_key(tmp_path: Path) -> None:
    keys = [
        {"sigma": None, "noise_kind": None, "noise_params": "{}"},  # null is a value of a key like any other
        {"sigma": 15.0},
        {"sigma": 25.0},
        {"sigma": 25.0, "seed": 1},
        {"sigma": 25.0, "noise_params": '{"mean": 5.0}'},
    ]
    write_rows(tmp_path, [error_row("a.png", "read", "first", **key) for key in keys])
    for number, key in enumerate(keys):
        write_rows(tmp_path, [row("a.png", attempt=2, **key)], attempt=2)
        assert rows_of(tmp_path, "SELECT count(*) AS n FROM results WHERE status = 'error'") == [{"n": len(keys) - 1}]
        assert len(rows_of(tmp_path, "FROM results")) == len(keys), number


def test_several_runs_are_told_apart_by_the_folder_as_given(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "it's another"
    write_rows(other, [row("a.png", psnr=35.0)])
    with query_sql.connect([str(run), str(other), str(run)]) as connection:
        found = query_sql.records(connection, "SELECT run, count(*) AS n FROM results GROUP BY run ORDER BY n")
    assert found == [{"run": str(other), "n": 1}, {"run": str(run), "n": 7}]


def test_a_run_without_results_can_be_asked_too(tmp_path: Path) -> None:
    write_job(tmp_path, 3)
    assert rows_of(tmp_path, "SELECT * FROM results") == []
    with query_sql.connect([str(tmp_path)]) as connection:
        assert query_sql.select(connection, "FROM results").columns == ["run", *RESULT_SCHEMA.names]


@pytest.mark.parametrize("run", ["scanned"], indirect=True)
def test_filters_and_projections_reach_the_files(run: Path) -> None:
    with query_sql.connect([str(run)]) as connection:
        sql = "EXPLAIN SELECT psnr FROM results WHERE image_id = 'a.png'"
        plan = " ".join(connection.sql(sql).fetchall()[0][1].split())
    assert plan.count("Filters: \"image_id\" = 'a.png'") == 2  # of the shards with and without a second attempt
    assert "Projections: psnr" in plan
    assert "seconds" not in plan


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM '{file}'",
        "SELECT * FROM glob('{folder}/*')",
        "SELECT * FROM read_text('http://127.0.0.1:9/')",
        "COPY results TO '{folder}/out.csv'",
        "ATTACH '{folder}/new.db'",
        "INSTALL httpfs",
        "SELECT * FROM read_xlsx('rows.xlsx')",  # of an extension that would be fetched
        "CREATE TABLE mine AS FROM results",
        "DROP VIEW results",
        "SET enable_external_access = true",
        "SET threads = 1",
        "SELECT 1; DROP VIEW results",
        "  ",
    ],
)
def test_sql_reaches_nothing_but_the_rows(run: Path, sql: str) -> None:
    before = sorted(run.rglob("*"))
    with query_sql.connect([str(run)]) as connection:
        with pytest.raises(UserError) as complaint:
            query_sql.records(connection, sql.format(file=run / "job.yaml", folder=run))
        assert len(query_sql.records(connection, "FROM results")) == 7
    assert "\n" not in str(complaint.value)
    assert sorted(run.rglob("*")) == before


def test_sql_does_not_see_the_programs_variables(run: Path) -> None:
    variable = pq.read_table(next((run / "results").iterdir()))
    with query_sql.connect([str(run)]) as connection, pytest.raises(duckdb.CatalogException):
        connection.sql("SELECT * FROM variable")
    assert variable.num_rows


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT psn FROM results", 'Candidate bindings: "psnr"'),
        ("SELECT * FROM result", 'Did you mean "results"?'),
        ("SELEC * FROM results", "syntax error"),
        ("summry", "did you mean summary?"),
        ("frobnicate", "canned queries: summary, worst"),
        ("SELECT CAST(image_id AS INTEGER) FROM results", "Could not convert string"),
    ],
)
def test_wrong_sql_is_one_line_with_a_way_out(
    run: Path, sql: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for form in ("table", "csv", "json"):
        assert shell.run(command.main, [str(run), sql, "--format", form]) == shell.WRONG_INPUT
        complaint = capsys.readouterr().err
        assert complaint.startswith("error: ")
        assert complaint.count("\n") == 1
        assert message in complaint


def test_summary_counts_and_averages_each_level(run: Path) -> None:
    first, second = rows_of(run, "summary")
    assert (first["run"], first["mode"], first["sigma"]) == (str(run), "mmse", 25.0)
    assert (first["images"], first["ok"], first["errors"]) == (6, 5, 1)
    assert first["psnr"] == pytest.approx((28 + 31.5 + 30 + 20 + 29) / 5)
    assert first["gain"] == pytest.approx(first["psnr"] - 20.17)
    assert first["ssim"] == 0.85  # the one that is null counts as none
    assert (second["sigma"], second["images"], second["gain"], second["seconds"]) == (50.0, 1, pytest.approx(11.85), 2)


def test_best_and_worst_are_ordered_by_gain_and_hold_twenty(run: Path) -> None:
    write_rows(run, [row(f"many/{number:03d}.png", psnr=25.0) for number in range(30)], block=2)
    worst, best = rows_of(run, "worst"), rows_of(run, "best")
    assert len(worst) == len(best) == 20
    assert [each["image_id"] for each in worst[:3]] == ["e.png", "many/000.png", "many/001.png"]
    assert [each["image_id"] for each in best[:2]] == ["a.png", "b/ü.png"]
    assert best[0]["gain"] == pytest.approx(11.85)


def test_errors_are_counted_by_reason_with_an_example(run: Path) -> None:
    write_rows(run, [error_row(f"{name}.png", "read", "no such file") for name in "xy"], block=2)
    assert [tuple(each.values())[1:] for each in rows_of(run, "errors")] == [
        ("read", "no such file", 2, "/images/x.png"),
        ("decode", "truncated again", 1, "/images/d.png"),
    ]


def test_the_histogram_has_a_bar_for_each_decibel(run: Path) -> None:
    bars = [tuple(each.values())[1:] for each in rows_of(run, "histogram") if each["sigma"] == 25.0]
    assert [bar[:4] for bar in bars] == [
        (25.0, -1, 0, 1),
        (25.0, 7, 8, 1),
        (25.0, 8, 9, 1),
        (25.0, 9, 10, 1),
        (25.0, 11, 12, 1),
    ]
    assert bars[0][4] == "█" * 30


def test_slowest_and_by_size(tmp_path: Path) -> None:
    sizes = [(100, 100, 0.1), (120, 100, 0.3), (1000, 1000, 2.0), (1, 1, 0.05)]
    write_rows(tmp_path, [row(f"{w}.png", width=w, height=h, seconds=s) for w, h, s in sizes])
    assert [each["seconds"] for each in rows_of(tmp_path, "slowest")] == [2.0, 0.3, 0.1, 0.05]
    classes = rows_of(tmp_path, "by-size")
    assert [each["images"] for each in classes] == [1, 2, 1]
    middle = classes[1]
    assert middle["megapixels_from"] <= 0.01 < 0.012 < middle["megapixels_to"] == 2 * middle["megapixels_from"]
    assert middle["megapixels_per_s"] == pytest.approx(0.022 / 0.4)


def test_every_canned_query_works_in_restoration_mode_and_without_rows(tmp_path: Path) -> None:
    write_rows(tmp_path / "restored", [restored("a.png", 12.5), restored("b.png", 20.0)])
    write_job(tmp_path / "empty", 3)
    for name in query_sql.CANNED:
        assert rows_of(tmp_path / "empty", name) == []
        assert (rows_of(tmp_path / "restored", name) == []) == (name in ("worst", "best", "errors", "histogram"))


def test_a_table_is_aligned_with_sensible_decimals(run: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    sql = "SELECT image_id, sigma, psnr, ssim, attempt FROM results ORDER BY image_id, sigma LIMIT 3"
    assert output(capsysbinary, run, sql).splitlines() == [
        "image_id  sigma   psnr    ssim  attempt",
        "────────  ─────  ─────  ──────  ───────",
        "a.png        25  28.00  0.8500        1",
        "a.png        50  26.00  0.8500        1",
        "b/ü.png      25  31.50       -        1",
    ]


def test_a_table_tells_how_many_rows_it_leaves_out(run: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    lines = output(capsysbinary, run, "SELECT * FROM range(1234) -- all").splitlines()
    assert len(lines) == 2 + 40 + 1
    assert lines[-1].startswith("… and 1,194 more rows: --limit 1234 shows them")
    assert len(output(capsysbinary, run, "SELECT * FROM range(50);", "--limit", 50).splitlines()) == 2 + 50
    assert "(no rows)" in output(capsysbinary, run, "SELECT * FROM results WHERE false")
    assert "… and 7 more rows" in output(capsysbinary, run, "FROM results", "--limit", 0)


def test_hostile_text_neither_steers_the_terminal_nor_breaks_a_line(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    write_rows(tmp_path, [row("\x1b[2J\nevil\u202e.png"), row("x" * 200 + "/tail.png"), row("写真/画像.png", psnr=9.5)])
    text = output(capsysbinary, tmp_path, "SELECT image_id, psnr FROM results ORDER BY psnr, image_id")
    lines = text.splitlines()
    assert len(lines) == 5
    assert "\x1b" not in text and "\u202e" not in text
    assert "\\x1b[2J\\nevil\\u202e.png" in lines[3]
    assert lines[4].startswith("xxx") and "…" in lines[4] and "/tail.png  30.00" in lines[4]
    # a wide sign takes two columns, so this line has fewer signs and is as wide
    assert len(lines[2]) == len(lines[4]) - len("写真画像") and lines[2].startswith("写真/画像.png ")


def test_csv_and_json_hold_every_row_exactly(run: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    sql = "FROM results ORDER BY image_id, sigma"
    expected = rows_of(run, sql)
    lines = list(csv.DictReader(io.StringIO(output(capsysbinary, run, sql, "--format", "csv"))))
    decoded = [json.loads(line) for line in output(capsysbinary, run, sql, "--format", "json").splitlines()]
    assert len(lines) == len(decoded) == len(expected) == 7
    for line, parsed, each in zip(lines, decoded, expected, strict=True):
        assert list(line) == list(parsed) == ["run", *RESULT_SCHEMA.names]
        assert line["image_id"] == parsed["image_id"] == each["image_id"]
        assert parsed["psnr"] == each["psnr"] == (float(line["psnr"]) if line["psnr"] else None)
        assert parsed["finished_at"].startswith("2026-05-01 12:00:00") and line["finished_at"].startswith("2026-05-01")


def test_what_a_format_has_no_type_for_becomes_text(
    run: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    sql = """SELECT [1, 2] AS list, INTERVAL 90 SECOND AS span, 'inf'::DOUBLE AS endless, sum(attempt) AS total,
             {'a': 'x'} AS struct, 'q"u,o' AS quoted, NULL AS nothing FROM results"""
    line = next(csv.DictReader(io.StringIO(output(capsysbinary, run, sql, "--format", "csv"))))
    assert line == {"list": "[1, 2]", "span": "00:01:30", "endless": "inf", "total": "9", "struct": "{'a': x}",
                    "quoted": 'q"u,o', "nothing": ""}  # fmt: skip
    assert json.loads(output(capsysbinary, run, sql, "--format", "json")) == {
        "list": [1, 2], "span": "00:01:30", "endless": None, "total": 9, "struct": {"a": "x"},
        "quoted": 'q"u,o', "nothing": None}  # fmt: skip
    output(capsysbinary, run, sql, "--out", tmp_path / "all.parquet")
    stored = pq.read_table(tmp_path / "all.parquet").to_pylist()[0]
    assert (stored["list"], stored["span"], int(stored["total"])) == ([1, 2], "00:01:30", 9)
    assert "00:01:30" in output(capsysbinary, run, sql)


@pytest.mark.parametrize(
    ("name", "form"), [("o.csv", "csv"), ("o.JSONL", "json"), ("o.parquet", "parquet"), ("o.txt", "table")]
)
def test_the_file_name_picks_the_format(name: str, form: str) -> None:
    assert query_output.format_of(name) == form


def test_a_file_is_written_whole_or_not_at_all(
    run: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    target = tmp_path / "out" / "rows.parquet"
    target.parent.mkdir()
    assert output(capsysbinary, run, "FROM results", "--out", target, "--limit", 3) == ""
    assert pq.read_table(target).num_rows == 3
    before = target.read_bytes()
    with pytest.raises(UserError, match="Could not convert"):
        command.main([str(run), "SELECT CAST(image_id AS INTEGER) FROM results", "--out", str(target)])
    assert target.read_bytes() == before
    assert [path.name for path in target.parent.iterdir()] == ["rows.parquet"]


def test_wrong_words_are_told_what_to_do(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = [
        ([], "no run folder or no query; give both"),
        ([str(run)], "no run folder or no query; give both"),
        ([str(run / "results"), "summary"], "no run folder"),
        ([str(run), "summary", "--limit", "-1"], "--limit"),
        ([str(run), "summary", "--format", "parquet"], "--out FILE"),
        ([str(run), "summary", "--out", str(run / "missing" / "o.csv")], "cannot be written"),
        ([str(run), "SELECT 1 AS x, 2 AS x", "--format", "json"], "two columns are called x"),
    ]
    for words, message in wrong:
        assert shell.run(command.main, words) == shell.WRONG_INPUT
        complaint = capsys.readouterr().err
        assert complaint.count("\n") == 1 and message in complaint


def test_the_canned_queries_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--list"]) == shell.DONE
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "summary",
        "worst",
        "best",
        "errors",
        "histogram",
        "slowest",
        "by-size",
    ]


def test_runs_in_s3_are_read_and_rows_written_there(
    run: Path, bucket: str, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    here, there = fs.LocalFileSystem(), fs.S3FileSystem(endpoint_override=os.environ["AWS_ENDPOINT_URL"])
    name = bucket.removeprefix("s3://")
    fs.copy_files(str(run), f"{name}/some/run", source_filesystem=here, destination_filesystem=there)
    remote = f"{bucket}/some/run"
    assert {each["run"] for each in rows_of(remote, "summary")} == {remote}
    assert len(rows_of(remote, "FROM results")) == 7
    output(capsysbinary, remote, "FROM results", "--out", f"{bucket}/rows.parquet")
    assert pq.read_table(f"{name}/rows.parquet", filesystem=there).num_rows == 7
    assert not [info for info in there.get_file_info(fs.FileSelector(name)) if "partial" in info.path]
    with pytest.raises(UserError, match="no run folder"):
        rows_of(f"{bucket}/nothing/here", "summary")


def test_files_that_go_while_they_are_scanned_are_no_mistake_of_the_query(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "IN_MEMORY_BYTES", 0)
    write_rows(tmp_path, [row("a.png")])
    gone = write_rows(tmp_path, [row("b.png")], block=1)
    connection = query_sql.connect([str(tmp_path)])
    gone.unlink()
    with pytest.raises(JobError, match="run the same command again") as error:
        query_sql.records(connection, "SELECT * FROM results")
    assert "\n" not in str(error.value)


def test_files_that_go_before_they_are_read_are_no_mistake_of_the_query(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(tmp_path, [row("a.png")])
    gone = write_rows(tmp_path, [row("b.png")], block=1)
    read = results.rows
    monkeypatch.setattr(results, "rows", lambda run, names: gone.unlink() or read(run, names))
    with pytest.raises(JobError, match="run the same command again"):
        query_sql.connect([str(tmp_path)])
