"""The checkpoints of a training run: folders checkpoints/step-N, whole once their state.json is there.

What is in them is written and read by training/checkpoint.py; what stands here needs no torch.
"""

import json
import re
from typing import Any, NamedTuple

from imagewizard import storage
from imagewizard.storage import Folder

NUMBERS = "state.json"
# A checkpoint between two validations has no PSNR; it is kept among the best only where there is nothing better.
NOT_VALIDATED = -1.0


class Checkpoint(NamedTuple):
    """A checkpoint that is whole."""

    step: int
    psnr: float
    """Validation PSNR in dB, mean over the levels; NOT_VALIDATED without one."""
    facts: dict[str, Any]
    """What the summary says of the run up to there: workers, device, seconds, images_per_second, overhead, skipped."""

    @property
    def name(self) -> str:
        return folder_name(self.step)


def folder_of(run: str) -> Folder:
    """Holds a run's checkpoints."""
    return Folder(run).subfolder("checkpoints")


def folder_name(step: int) -> str:
    return f"step-{step:08d}"


def kept(run: str) -> list[Checkpoint]:
    """The run's checkpoints, the newest last; those that a crash left half written are no checkpoints."""
    folder = folder_of(run)
    found = []
    for name in _names(run):
        try:
            numbers = json.loads(folder.read(f"{name}/{NUMBERS}"))
            found.append(Checkpoint(int(numbers["step"]), float(numbers["psnr"]), dict(numbers["facts"])))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def latest_step(run: str) -> int:
    """The step of the checkpoint that a run goes on from; 0 without one."""
    found = kept(run)
    return found[-1].step if found else 0


def prune(run: str, keep: int) -> None:
    """Deletes all but the newest checkpoint and the `keep` best ones by validation PSNR."""
    whole = kept(run)
    best = sorted(whole, key=lambda checkpoint: checkpoint.psnr, reverse=True)[:keep]
    wanted = {checkpoint.name for checkpoint in [*best, *whole[-1:]]}
    for name in _names(run):
        if name not in wanted:
            filesystem, path = storage.resolve(folder_of(run).uri_of(name))
            filesystem.delete_dir(path)


def _names(run: str) -> list[str]:
    return [name[:-1] for name in folder_of(run).list("", "/") if re.fullmatch(r"step-\d+/", name)]
