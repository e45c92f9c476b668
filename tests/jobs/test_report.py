"""`imagewizard report` as a shell sees it."""

from pathlib import Path

import pytest

from jobs import report as command
from jobs import shell
from tests.support.run_folders import row, write_rows


def test_the_command_tells_where_the_page_lies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(tmp_path, [row("a.png")])
    assert command.main([str(tmp_path)]) == shell.DONE
    assert Path(capsys.readouterr().out.strip()).is_file()
    assert shell.run(command.main, [str(tmp_path / "results")]) == shell.WRONG_INPUT
    assert "no run folder" in capsys.readouterr().err
