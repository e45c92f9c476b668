"""Compiled loops: kept for the next process where there is a place, and compiled all the same where there is none."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

MODULE = """
from imagewizard.compiling import compiled

@compiled
def doubled(values):
    total = 0.0
    for value in values:
        total += 2 * value
    return total

@compiled
def ratio(a, b):
    return a / b
"""
PROGRAM = """
import numpy as np, loop
assert loop.doubled(np.ones(3)) == 6.0
print(sum(loop.doubled.stats.cache_hits.values()))
"""


def test_the_next_process_finds_what_one_has_compiled(tmp_path: Path) -> None:
    (tmp_path / "loop.py").write_text(MODULE)

    def hits() -> str:
        return subprocess.run(
            [sys.executable, "-c", PROGRAM], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout

    assert [hits(), hits()] == ["0\n", "1\n"]


def test_without_a_place_to_keep_it_it_is_compiled_too() -> None:
    """And not found from an earlier test."""
    names = dict[str, Any]()
    exec(compile(MODULE, "/nowhere/loop.py", "exec"), names)
    assert names["doubled"](np.ones(3)) == 6.0
    assert names["ratio"](1.0, 0.0) == np.inf
