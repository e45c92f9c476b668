"""An object on a real S3 server as a file that is read from anywhere."""

import io
import random
import re
import tarfile
from pathlib import Path

import pytest

from imagewizard import storage
from imagewizard.storage import s3
from imagewizard.storage.s3_file import ObjectFile
from tests.storage.conftest import CONTENT
from tests.support.s3_faults import FaultyS3

pytestmark = pytest.mark.usefixtures("short_pauses")


def test_reads_as_a_local_file_does(faulty_s3: FaultyS3, uri: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    faulty_s3.slow_down, faulty_s3.cut_off = 0.1, 0.1
    dice = random.Random(1)
    with io.BufferedReader(ObjectFile(uri), 5000) as remote, (tmp_path / "file").open("rb") as local:
        assert remote.seekable() and remote.readable() and not remote.writable()
        for _ in range(80):
            whence = dice.choice([io.SEEK_SET, io.SEEK_CUR, io.SEEK_END])
            start = {io.SEEK_SET: 0, io.SEEK_CUR: local.tell(), io.SEEK_END: len(CONTENT)}[whence]
            offset = dice.randrange(260_000) - start
            assert remote.seek(offset, whence) == local.seek(offset, whence)
            length = dice.choice([0, 1, 100, 4999, 5001, 50_000, -1])
            assert remote.read(length) == local.read(length)
            assert remote.tell() == local.tell()


def test_requests_are_few(faulty_s3: FaultyS3, uri: str) -> None:
    with storage.open_file(uri) as stream:
        for start in range(0, len(CONTENT) - 1000, 1000):
            assert stream.read(1000) == CONTENT[start : start + 1000]
        stream.seek(10)
        assert stream.read(10) == CONTENT[10:20]
    assert faulty_s3.requests == {"HEAD": 1, "GET": 1}
    assert ObjectFile(uri).readall() == CONTENT
    assert faulty_s3.requests["GET"] == 2


def test_a_tar_is_listed(faulty_s3: FaultyS3) -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for n in range(50):
            info = tarfile.TarInfo(f"{n}.png")
            info.size = 1000 * n
            tar.addfile(info, io.BytesIO(bytes(info.size)))
    s3.put(f"{faulty_s3.bucket}/tar", sink.getvalue())
    with storage.open_file(f"{faulty_s3.bucket}/tar") as stream, tarfile.open(fileobj=stream) as tar:
        assert [(info.name, info.size) for info in tar] == [(f"{n}.png", 1000 * n) for n in range(50)]


def test_reading_stops_if_the_object_is_replaced(uri: str) -> None:
    stream = ObjectFile(uri)
    stream.read(10)
    s3.put(uri, CONTENT[::-1])
    with pytest.raises(OSError, match=f"^{re.escape(uri)}: changed while it was read$"):
        stream.read(10)


def test_unreadable_files(faulty_s3: FaultyS3, uri: str) -> None:
    with pytest.raises(FileNotFoundError):
        ObjectFile(f"{uri}-not")
    with pytest.raises(OSError, match="before the start"):
        ObjectFile(uri).seek(-1)
