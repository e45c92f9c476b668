"""Blocks are read ahead of their use: by the actor itself, or by tasks, with the same result."""

import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from imagewizard.bulk import block as blocks
from imagewizard.bulk.block import Block
from imagewizard.bulk.shared_lock import SharedLock
from imagewizard.distributed import block_readers
from imagewizard.distributed.blame import Watch
from imagewizard.distributed.block_readers import Readers, Reading
from imagewizard.errors import UserError
from imagewizard.runs.results import BlockFile
from tests.support.sample_files import write_photos

pytestmark = pytest.mark.usefixtures("ray_cluster")


def reading(**changes: Any) -> Reading:
    known = {"max_pixels": 10**6, "keep": False, "at_once": 1, "gpus_per_actor": 0.0, "pixel_bytes": 10**6}
    return Reading(**({"run": uuid.uuid4().hex, "view": None} | known | changes))


def work(folder: Path, count: int = 3) -> list[Block]:
    """Blocks of two images each."""
    names = write_photos(folder, 2 * count, 16)
    empty = dict.fromkeys(blocks.WORK_SCHEMA.names) | {"settings": [0], "attempts": [1]}
    images = [empty | {"image_id": name, "uri": f"{folder}/{name}"} for name in names]
    return [Block(BlockFile(0, number, 1), images[2 * number :][:2]) for number in range(count)]


@pytest.mark.parametrize("gpus", [0.0, 1.0], ids=["here", "by-tasks"])
def test_blocks_come_read_and_in_order(tmp_path: Path, gpus: float) -> None:
    """On a GPU's cluster tasks read them; here that is a cluster without one, and tasks go where there is room."""
    expected = work(tmp_path)
    found = list(Readers(reading(gpus_per_actor=gpus)).ahead(expected, SharedLock()))
    assert [block.file for block, _ in found] == [block.file for block in expected]
    assert not any(watch.is_careful for _, watch in found)
    for (block, _), before in zip(found, expected, strict=True):
        assert [image["image_id"] for image in block.images] == [image["image_id"] for image in before.images]
        assert all(isinstance(image["picture"].pixels, np.ndarray) for image in block.images)
        assert block.times.wall.keys() == {"read", "decode"}


def test_one_block_is_read_ahead_and_no_more(tmp_path: Path) -> None:
    taken, expected = list[int](), work(tmp_path, 5)

    def given() -> Iterator[Block]:
        for number, block in enumerate(expected):
            taken.append(number)
            yield block

    found = Readers(reading()).ahead(given(), SharedLock())
    next(found)
    assert taken == [0, 1]
    next(found)
    assert taken == [0, 1, 2]


def test_a_block_that_has_ended_a_process_comes_unread(tmp_path: Path) -> None:
    settings, expected = reading(), work(tmp_path)
    work_on = Watch(settings.run, expected[1].file.name).at_work()
    work_on.__enter__()
    found = list(Readers(settings).ahead(expected, SharedLock()))
    assert [watch.is_careful for _, watch in found] == [False, True, False]
    assert ["picture" in block.images[0] for block, _ in found] == [True, False, True]


def test_nothing_is_read_here_while_a_block_is_done_alone(tmp_path: Path) -> None:
    lock, first = SharedLock(), threading.Event()
    found = Readers(reading()).ahead(work(tmp_path), lock)

    def take() -> None:
        next(found)
        first.set()

    thread = threading.Thread(target=take)
    with lock.alone():
        thread.start()
        assert not first.wait(0.2)
    thread.join(30)
    assert first.is_set()


def test_a_task_that_ends_with_its_process_leaves_the_block_to_its_actor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`die` stands in for a codec that crashes."""

    @ray.remote(max_retries=1)
    def die(reading: Reading, packed: object) -> None:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(block_readers, "_read_block", die)
    [(block, watch)] = Readers(reading(gpus_per_actor=1.0)).ahead(work(tmp_path, 1), SharedLock())
    assert watch.is_careful and "picture" not in block.images[0]


def test_what_a_task_raises_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @ray.remote(max_retries=1)
    def refuse(reading: Reading, packed: object) -> None:
        raise UserError("input: is not there", "mount it", "input")

    monkeypatch.setattr(block_readers, "_read_block", refuse)
    with pytest.raises(UserError, match="mount it"):
        list(Readers(reading(gpus_per_actor=1.0)).ahead(work(tmp_path, 1), SharedLock()))
