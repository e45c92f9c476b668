"""Large images wait for each other until the machine has room, in all processes; what has none is refused."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from imagewizard.bulk import memory
from imagewizard.bulk.memory import IMAGE_COPIES, PART_BYTES, SHARE, Memory
from imagewizard.images.errors import ImageError

PART = PART_BYTES // IMAGE_COPIES  # pixels


def of_parts(parts: int, folder: Path) -> Memory:
    return Memory(int((parts + 0.5) * PART_BYTES / SHARE), folder)


def test_a_part_is_given_to_one_at_a_time(tmp_path: Path) -> None:
    """Three threads with two parts each, of five: two of them at a time."""
    inside, most, room = list[int](), list[int](), threading.Event()

    def work(number: int) -> None:
        with of_parts(5, tmp_path).room(2 * PART):
            inside.append(number)
            most.append(len(inside))
            room.wait(0.1)
            inside.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(most) == 6 and max(most) == 2


def test_the_whole_is_given_when_all_others_have_ended(tmp_path: Path) -> None:
    got = threading.Event()

    def work() -> None:
        with of_parts(3, tmp_path).room(3 * PART):
            got.set()

    with of_parts(3, tmp_path).room(1):
        thread = threading.Thread(target=work)
        thread.start()
        assert not got.wait(0.2)
    thread.join(30)
    assert got.is_set()


HOLDER = """
import sys
from pathlib import Path
from imagewizard.bulk.memory import Memory
with Memory({bytes}, Path({folder!r})).room(1):
    print("in", flush=True)
    sys.stdin.read()
"""


def test_a_process_that_is_killed_gives_its_part_back(tmp_path: Path) -> None:
    code = HOLDER.format(bytes=int(1.5 * PART_BYTES / SHARE), folder=str(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "in\n"
        got = threading.Event()

        def work() -> None:
            with of_parts(1, tmp_path).room(1):
                got.set()

        thread = threading.Thread(target=work)
        thread.start()
        assert not got.wait(0.3), "the other process has it"
        holder.kill()
    thread.join(30)
    assert got.is_set()


@pytest.mark.timeout(30)  # or it would wait for room for ever
def test_what_the_machine_has_no_room_for_is_refused_at_once(tmp_path: Path) -> None:
    text = r"^out of memory: 23076924 pixels take some 3 GB, .* a machine with 4 GB"
    with pytest.raises(ImageError, match=text), of_parts(3, tmp_path).room(3 * PART + 3):
        pytest.fail("there is no room")
    with of_parts(3, tmp_path).room(3 * PART):
        pass


def test_a_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(OSError, match="is another user's"):
        Memory(10**10, tmp_path / "link")
    monkeypatch.setattr(memory.os, "getuid", lambda: 12345)
    with pytest.raises(OSError, match="is another user's"):
        Memory(10**10, tmp_path)


def test_a_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = memory.machine_bytes()
    (tmp_path / "limit").write_text("123456789\n")
    (tmp_path / "none").write_text("max\n")
    monkeypatch.setattr(memory, "_LIMITS", (tmp_path / "none", tmp_path / "missing"))
    assert memory.machine_bytes() >= whole > 10**9
    monkeypatch.setattr(memory, "_LIMITS", (tmp_path / "none", tmp_path / "limit"))
    assert memory.machine_bytes() == 123456789
