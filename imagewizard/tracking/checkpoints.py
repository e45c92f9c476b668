"""Lists and prunes the checkpoints of a training run: folders checkpoints/step-N, complete once state.json is there.

training/checkpoint.py writes and reads their content; this module needs no torch.
"""

import json
import re
from typing import Any, NamedTuple

from imagewizard import storage
from imagewizard.storage import Folder

NUMBERS = "state.json"
# The PSNR of a checkpoint between two validations. It ranks below every validated checkpoint.
NOT_VALIDATED = -1.0


class Checkpoint(NamedTuple):
    """A complete checkpoint."""

    step: int
    psnr: float
    """Validation PSNR in dB, mean over the levels; NOT_VALIDATED if there was no validation."""
    facts: dict[str, Any]
    """Facts of the run so far, for the summary: workers, device, seconds, images_per_second, overhead, skipped."""

    @property
    def name(self) -> str:
        return folder_name(self.step)


def folder_of(run: str) -> Folder:
    """The folder with a run's checkpoints."""
    return Folder(run).subfolder("checkpoints")


def folder_name(step: int) -> str:
    return f"step-{step:08d}"


def kept(run: str) -> list[Checkpoint]:
    """The run's complete checkpoints, the newest last; those that a crash left half written are ignored.

    Raises OSError if the disk or the server fails.
    """
    folder = folder_of(run)
    found = []
    for name in _names(run):
        try:
            numbers = json.loads(folder.read(f"{name}/{NUMBERS}"))
            found.append(Checkpoint(int(numbers["step"]), float(numbers["psnr"]), dict(numbers["facts"])))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            continue
    return found


def latest_step(run: str) -> int:
    """The step of the newest checkpoint, from which a run resumes; 0 if there is none."""
    found = kept(run)
    return found[-1].step if found else 0


def prune(run: str, keep: int) -> None:
    """Deletes all checkpoints except the newest and the `keep` best by validation PSNR."""
    whole = kept(run)
    best = sorted(whole, key=lambda checkpoint: checkpoint.psnr, reverse=True)[:keep]
    wanted = {checkpoint.name for checkpoint in [*best, *whole[-1:]]}
    for name in _names(run):
        if name not in wanted:
            filesystem, path = storage.resolve(folder_of(run).uri_of(name))
            filesystem.delete_dir(path)


def _names(run: str) -> list[str]:
    return [name[:-1] for name in folder_of(run).list("", "/") if re.fullmatch(r"step-\d+/", name)]
