"""The line of a listing: what was found, and how fast."""

import sys

import pytest

from imagewizard import progress as progress_module
from imagewizard.manifest import tally as tally_module
from imagewizard.manifest.tally import ListingProgress, Tally
from imagewizard.progress import Printer, silent


def test_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(tally_module.time, "monotonic", lambda: now[0])
    progress = ListingProgress(Tally(images=1_234_000, skipped=1000), silent)
    now[0] = 110.0
    assert progress.line() == "listing  1,234,000 images, 1,000 other files, 123,500/s"
    assert (progress.seconds, progress.rate) == (10.0, 123_500.0)


@pytest.mark.parametrize("terminal", [False, True])
def test_it_is_printed_every_so_often(
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
