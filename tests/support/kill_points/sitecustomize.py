"""Kills what a test asks for at the moment it asks for, in real processes of a real job.

Python imports this module at the start of every process whose PYTHONPATH has its folder: a job's driver and Ray's
workers. IMAGEWIZARD_KILL is `STAGE TARGET NTH FOLDER`: when the job reaches the stage for the nth time, the target is
killed with signal 9, once. FOLDER holds the driver's pid, and gets a line for each block that is denoised.
"""

import functools
import os
import signal
import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

# stage: (module, function, whether the kill comes before it, or after)
STAGES = {
    "listing": ("imagewizard.bulk.pending", "pending_blocks", "before"),
    "reading": ("imagewizard.bulk.block_reader", "BlockReader.read", "before"),
    "decoding": ("imagewizard.images.picture", "decode", "before"),
    "denoising": ("imagewizard.bulk.block_denoiser", "BlockDenoiser.denoise", "before"),
    "before-write": ("imagewizard.distributed.pipeline", "write_rows", "before"),
    "during-write": (
        "imagewizard.storage.local",
        "os.link",
        "before",
    ),  # the partial file is there, but has not its name yet
    "after-write": ("imagewizard.distributed.pipeline", "write_rows", "after"),
    "compaction": ("imagewizard.runs.compaction", "_check", "before"),
    "after-compaction": (
        "imagewizard.storage.folder",
        "Folder.delete",
        "before",
    ),  # the new file is there, and the old ones too
    "before-summary": ("imagewizard.runs.summary", "write", "before"),
}


def _kill(target: str, folder: Path) -> None:
    driver = int((folder / "driver.pid").read_text())
    if target == "worker":
        pid = os.getpid()
    elif target == "driver":
        pid = driver
    else:
        name = {"actor": "DenoiseActor", "raylet": "raylet/raylet"}[target]
        pid = next((each for each in descendants(driver) if name in command(each)), 0)
        if not pid:  # not there at the moment: the next time will do
            return
    try:
        (folder / "killed").touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(pid, signal.SIGKILL)


def descendants(root: int) -> list[int]:
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
    found, generation = [], {root}
    while generation:
        generation = {pid for pid, parent in parents.items() if parent in generation}
        found += generation
    return found


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _deadly(function: Callable[..., Any], when: str, target: str, nth: int, folder: Path) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if when == "after":
            result = function(*args, **kwargs)
        with (folder / "reached").open("a") as log:  # appended by several processes, a byte each
            log.write("x")
        if (folder / "reached").stat().st_size >= nth and not (folder / "killed").exists():
            _kill(target, folder)
        return result if when == "after" else function(*args, **kwargs)

    return wrapper


def _logged(function: Callable[..., Any], folder: Path) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(self: Any, group: Any) -> Any:
        result = function(self, group)
        with (folder / "denoised").open("a") as log:
            log.write("".join(f"{sample.image_id}\n" for sample in group.samples))
        return result

    return wrapper


def _replace(module: ModuleType, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    owner, _, attribute = name.rpartition(".")
    place = getattr(module, owner) if owner else module
    setattr(place, attribute, wrap(getattr(place, attribute)))


class _Finder(MetaPathFinder):
    """Patches the modules concerned as soon as they have been executed."""

    def __init__(self, stage: str, target: str, nth: int, folder: Path) -> None:
        self._module, self._name, when = STAGES[stage]
        self._wrap = lambda function: _deadly(function, when, target, nth, folder)
        self._folder = folder

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname not in (self._module, "imagewizard.bulk.block_denoiser"):
            return None
        spec = PathFinder.find_spec(fullname, path)
        execute = spec.loader.exec_module

        def patched(module: ModuleType) -> None:
            execute(module)
            if fullname == "imagewizard.bulk.block_denoiser":
                _replace(module, "BlockDenoiser.denoise", lambda function: _logged(function, self._folder))
            if fullname == self._module:
                _replace(module, self._name, self._wrap)

        spec.loader.exec_module = patched
        return spec


if "IMAGEWIZARD_KILL" in os.environ:
    _stage, _target, _nth, _folder = os.environ["IMAGEWIZARD_KILL"].split(" ", 3)
    sys.meta_path.insert(0, _Finder(_stage, _target, int(_nth), Path(_folder)))
