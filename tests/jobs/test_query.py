"""`imagewizard query` as a shell sees it: words, files, exit codes."""

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from imagewizard.errors import UserError
from jobs import query as command
from jobs import shell
from tests.support import queried_run
from tests.support.queried_run import rows_of


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return queried_run.write_run(tmp_path / "run")


def output(capsysbinary: pytest.CaptureFixture[bytes], *words: object) -> str:
    """What the command prints."""
    assert command.main([str(word) for word in words]) == shell.DONE
    return capsysbinary.readouterr().out.decode()


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
        ([], "no run folder and no query; give run folders, then a query"),
        ([str(run)], "error: no query; give run folders, then a query"),
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
        "notes",
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


def test_a_table_on_a_terminal_is_as_wide_as_it(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    wide = output(capsysbinary, run, "FROM results").splitlines()
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    narrow = output(capsysbinary, run, "FROM results").splitlines()
    assert len(narrow) == len(wide) and max(map(len, narrow)) < max(map(len, wide))
