"""Freed arrays are used again."""

import subprocess
import sys

PROGRAM = """
import resource, sys, threading
import numpy as np
from imagewizard.bulk.allocator import keep_freed_memory
if "keep" in sys.argv:
    keep_freed_memory()

def work():
    for _ in range(200):
        arrays = [np.ones(200_000, np.float32) for _ in range(16)]

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

thread = threading.Thread(target=work)  # it has an arena of its own
before = faults()
thread.start()
thread.join()
print(faults() - before)
"""


def test_pages_are_asked_for_once() -> None:
    default, kept = (
        int(subprocess.run([sys.executable, "-c", PROGRAM, *words], check=True, capture_output=True, text=True).stdout)
        for words in ([], ["keep"])
    )
    assert kept < default / 2, "an array of 800 kB has 195 pages"
