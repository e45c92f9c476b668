"""Queries over runs: which rows are current, and what SQL may do."""

from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from imagewizard.errors import JobError, UserError
from imagewizard.query import sql as query_sql
from imagewizard.runs import results
from imagewizard.schema import RESULT_SCHEMA
from tests.support.queried_run import rows_of
from tests.support.run_folders import error_row, row, write_job, write_rows


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


def test_column_run_holds_the_folder_as_given(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "it's another"
    write_rows(other, [row("a.png", psnr=35.0)])
    with query_sql.connect([str(run), str(other), str(run)]) as connection:
        found = query_sql.records(connection, "SELECT run, count(*) AS n FROM results GROUP BY run ORDER BY n")
    assert found == [{"run": str(other), "n": 1}, {"run": str(run), "n": 7}]


def test_run_without_results_can_be_queried(tmp_path: Path) -> None:
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


def test_file_that_vanishes_while_it_is_scanned_is_a_job_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "IN_MEMORY_BYTES", 0)
    write_rows(tmp_path, [row("a.png")])
    gone = write_rows(tmp_path, [row("b.png")], block=1)
    connection = query_sql.connect([str(tmp_path)])
    gone.unlink()
    with pytest.raises(JobError, match="run the same command again") as error:
        query_sql.records(connection, "SELECT * FROM results")
    assert "\n" not in str(error.value)


def test_file_that_vanishes_before_it_is_read_is_a_job_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path, [row("a.png")])
    gone = write_rows(tmp_path, [row("b.png")], block=1)
    read = results.rows
    monkeypatch.setattr(results, "rows", lambda run, names: gone.unlink() or read(run, names))
    with pytest.raises(JobError, match="run the same command again"):
        query_sql.connect([str(tmp_path)])
