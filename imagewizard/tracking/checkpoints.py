"""Lists, checks and prunes the checkpoints of a training run: folders checkpoints/step-N, complete once state.json is
there.

The folders are all there is to know: no other file records them. training/checkpoint.py writes and reads their content;
this module needs no torch.
"""

import hashlib
import json
import re
import shutil
from typing import Any, NamedTuple

from imagewizard import storage
from imagewizard.progress import Reporter
from imagewizard.storage import Folder

TENSORS, NUMBERS = "state.safetensors", "state.json"
# What state.json is called in a damaged checkpoint, so that nothing takes it for one.
DISOWNED = "state.json.damaged"
# The PSNR of a checkpoint between two validations. It ranks below every validated checkpoint.
NOT_VALIDATED = -1.0


class DamagedError(ValueError):
    """A checkpoint that is not what it was written as; the message is the reason."""


class Checkpoint(NamedTuple):
    """A complete checkpoint."""

    step: int
    psnr: float
    """Validation PSNR in dB, mean over the levels; NOT_VALIDATED if there was no validation."""
    facts: dict[str, Any]
    """Facts of the run so far, for the summary: workers, device, seconds, images_per_second, overhead, skipped."""
    sha256: str | None = None
    """Of the file with the tensors; None in checkpoints of earlier versions."""

    @property
    def name(self) -> str:
        return folder_name(self.step)


def folder_of(run: str) -> Folder:
    """The folder with a run's checkpoints."""
    return Folder(run).subfolder("checkpoints")


def folder_name(step: int) -> str:
    return f"step-{step:08d}"


def kept(run: str) -> list[Checkpoint]:
    """The run's whole checkpoints, the newest last; what a crash left half written and what is cut off are ignored.

    Raises OSError if the disk or the server fails.
    """
    found = []
    for name in _names(run):
        try:
            found.append(_read(run, name))
        except (FileNotFoundError, DamagedError):
            continue
    return found


def _read(run: str, name: str) -> Checkpoint:
    """Raises FileNotFoundError if it was never completed, DamagedError if a file is broken or cut off.

    Of the tensors it reads the header alone.
    """
    from imagewizard.models.files import safetensors_shapes  # imports numpy

    folder = folder_of(run).subfolder(name)
    data = folder.read(NUMBERS)
    try:
        numbers = json.loads(data)
        found = Checkpoint(int(numbers["step"]), float(numbers["psnr"]), dict(numbers["facts"]), numbers.get("sha256"))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DamagedError(f"{NUMBERS} is cut off or broken") from None
    if found.name != name:
        raise DamagedError(f"{NUMBERS} is that of {found.name}")
    try:
        size = storage.size(folder.uri_of(TENSORS))
        with folder.open(TENSORS) as stream:
            safetensors_shapes(stream, size)
    except (FileNotFoundError, IsADirectoryError):
        raise DamagedError(f"it has no {TENSORS}") from None
    except ValueError as error:
        raise DamagedError(f"{TENSORS}: {error}") from None
    return found


def _check_content(run: str, found: Checkpoint) -> None:
    """Raises DamagedError unless all bytes of the tensors are those that were written."""
    if found.sha256 is None:
        return
    digest = hashlib.sha256()
    with folder_of(run).open(f"{found.name}/{TENSORS}") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != found.sha256:
        raise DamagedError(f"{TENSORS} has other bytes than were written")


def settle(run: str, report: Reporter) -> int:
    """The step from which a job begins or resumes. Afterwards `kept` lists nothing that cannot be loaded.

    For the start of a job, under its lease. `report` is told of each damaged checkpoint, which is passed over from then
    on, and of each folder that was never completed or was passed over before, which is deleted.
    """
    newest = 0
    for name in reversed(_names(run)):
        try:
            found = _read(run, name)
            if not newest:  # the others are not loaded
                _check_content(run, found)
                newest = found.step
        except FileNotFoundError:
            passed_over = folder_of(run).subfolder(name).read_if_there(DISOWNED) is not None
            what = "was passed over before" if passed_over else "was never completed"
            report(f"removed  checkpoints/{name}, which {what}")
            _delete(run, name)
        except DamagedError as error:
            report(f"damaged  checkpoints/{name} is passed over: {error}")
            folder = folder_of(run).subfolder(name)
            folder.write(DISOWNED, folder.read(NUMBERS))
            folder.delete([NUMBERS])
    return newest


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
            _delete(run, name)


def _delete(run: str, name: str) -> None:
    folder = folder_of(run).subfolder(name)
    folder.delete([NUMBERS])  # first: without it, the rest is no checkpoint
    if (path := storage.local_path(folder.uri)) is not None:
        shutil.rmtree(path)
    else:
        folder.delete(folder.list())


def _names(run: str) -> list[str]:
    """Of all folders of checkpoints, the newest last."""
    names = [name[:-1] for name in folder_of(run).list("", "/") if re.fullmatch(r"step-\d+/", name)]
    return sorted(names, key=lambda name: int(name.removeprefix("step-")))
