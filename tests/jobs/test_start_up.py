"""Commands that people wait for import nothing that takes longer than their work."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.run_folders import row, write_job, write_rows

PROGRAM = """
import sys
from jobs.__main__ import main
try:
    code = main()
except SystemExit as end:
    code = end.code or 0
print(*[name for name in {names!r} if name in sys.modules], "end", file=sys.stderr)
sys.exit(code)
"""
SLOW = ["pandas", "pyarrow.dataset", "pydantic", "boto3", "ray", "torch", "matplotlib", "PIL"]


def imported(words: list[str], names: list[str]) -> str:
    """Which of the modules the command has imported, and `end`."""
    program = PROGRAM.format(names=names)
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    "words", ["query --help", "status --help", "report --help", "manifest --help", "evaluate --help"]
)
def test_help_comes_at_once(words: str) -> None:
    assert imported(words.split(), [*SLOW, "pyarrow", "duckdb", "numpy"]) == "end"


def test_a_list_of_queries_comes_at_once() -> None:
    assert imported(["query", "--list"], [*SLOW, "duckdb"]) == "end"


def test_status_and_query_of_a_small_run_do_not_import_pandas(tmp_path: Path) -> None:
    write_job(tmp_path, 2)
    write_rows(tmp_path, [row("a.png"), row("b.png")])
    for words in (["status"], ["query", "summary"], ["query", "FROM results"], ["query", "worst", "--format", "csv"]):
        assert imported([words[0], str(tmp_path), *words[1:]], SLOW) == "end"
