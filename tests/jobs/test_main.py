"""The console script: the word after `imagewizard` picks the command."""

import sys

import pytest

from imagewizard import __version__
from jobs import __main__ as console
from jobs import query


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["imagewizard", *words])
    return console.main()


def test_without_a_command_the_usage_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch) == 2
    usage = capsys.readouterr().out
    assert run(monkeypatch, "--help") == 0
    assert capsys.readouterr().out == usage
    assert all(f"  {name} " in usage for name in console.COMMANDS)


def test_an_unknown_command_is_named_beside_those_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "denois") == 2
    assert capsys.readouterr().err.startswith("error: 'denois' is no command; one of demo, manifest, denoise")


def test_the_version_is_the_packages(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"imagewizard {__version__}\n"


def test_a_command_gets_the_words_after_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []
    monkeypatch.setattr(query, "main", lambda words: (given.append(words), 7)[1])
    assert run(monkeypatch, "query", "run", "summary", "--limit", "3") == 7
    assert given == [["run", "summary", "--limit", "3"]]
