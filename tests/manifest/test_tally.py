"""The tables of a listing, its account, and the line that reports it."""

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from imagewizard import progress as progress_module
from imagewizard.manifest import left_out
from imagewizard.manifest import tally as tally_module
from imagewizard.manifest.left_out import LeftOut
from imagewizard.manifest.tally import ListingProgress, Tally
from imagewizard.progress import Printer, silent
from imagewizard.schema import MANIFEST_SCHEMA


def test_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(tally_module.time, "monotonic", lambda: now[0])
    progress = ListingProgress(Tally(1_234_000, left_out={"a": LeftOut(400), "b": LeftOut(600)}), silent)
    now[0] = 110.0
    assert progress.line() == "listing  1,234,000 images, 1,000 other files, 123,500/s"
    assert (progress.seconds, progress.rate) == (10.0, 123_500.0)


@pytest.mark.parametrize("terminal", [False, True])
def test_line_is_printed_repeatedly(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress_module, "LOG_SECONDS", 600.0 if terminal else 0.01)
    monkeypatch.setattr(progress_module, "TERMINAL_SECONDS", 0.01 if terminal else 600.0)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    printed = ""
    with ListingProgress(Tally(images=5), Printer()):
        while printed.count("5 images") < 3:
            printed += capsys.readouterr().out
    printed += capsys.readouterr().out
    if terminal:
        assert printed.startswith("\r\x1b[Klisting  5 images") and printed.endswith("\r\x1b[K") and "\n" not in printed
    else:
        assert all(line.startswith("listing  5 images") for line in printed.splitlines()) and "\r" not in printed


def test_a_short_listing_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with ListingProgress(Tally(), Printer()):
        pass
    assert capsys.readouterr().out == ""


def test_rows_become_tables_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally_module, "BATCH_ROWS", 4)
    rows = [(f"{number}.png", f"/{number}.png", number or None, None, None, None) for number in range(10)]
    tables = list(tally_module.tables(iter(rows)))
    assert [table.num_rows for table in tables] == [4, 4, 2]
    assert all(table.schema == MANIFEST_SCHEMA for table in tables)
    assert [tuple(row.values()) for table in tables for row in table.to_pylist()] == rows
    assert list(tally_module.tables(iter([]))) == []


def test_skipped_files_are_counted_and_a_few_of_them_named() -> None:
    tally = Tally()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(tally.skip, [f"{number}.txt" for number in range(400)], ["odd", "even"] * 200))
    assert tally.skipped == 400
    found = tally.left_out_as_json()
    assert found["odd"]["files"] == found["even"]["files"] == 200
    assert [len(each["examples"]) for each in found.values()] == [left_out.EXAMPLES] * 2
