"""Writes to a disk are atomic, even if the disk is full or the process is killed."""

import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from imagewizard.storage import Folder


def test_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    folder.write("kept", b"as it was")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        for name in ("kept", "new"):
            with pytest.raises(OSError, match="File too large"):
                folder.write(name, bytes(1_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert folder.read("kept") == b"as it was"
    assert folder.list() == ["kept"]
    assert folder.list("_tmp") == []


WRITER = """
import itertools, sys
from imagewizard.storage import Folder
for turn in itertools.count():
    Folder(sys.argv[1]).write("file", bytes([turn % 256]) * 2_000_000)
    print(turn, flush=True)
"""


def test_reader_sees_only_complete_files_during_writes_and_after_a_kill(tmp_path: Path) -> None:
    def whole() -> int:
        data = Folder(str(tmp_path)).read("file")
        assert len(data) == 2_000_000 and data.count(data[:1]) == len(data)
        return data[0]

    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()  # it has written once
        seen = {whole() for _ in range(100)}
        while len(seen) < 5:  # the writer may be slower
            seen.add(whole())
        writer.kill()
    whole()
    assert Folder(str(tmp_path)).list() == ["file"]
