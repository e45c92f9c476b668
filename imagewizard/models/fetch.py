"""Brings a model's files to this node from S3 or the hub, without torch: for the driver."""

import fcntl
import hashlib
import os
import re
import sys
import textwrap
from collections.abc import Collection
from pathlib import Path

from imagewizard import storage
from imagewizard.errors import UserError
from imagewizard.models import weights
from imagewizard.models.weights import WEIGHTS

UNET_CONFIG = "config.json"
SCHEDULER_CONFIG = "scheduler_config.json"
# Of a pipeline: the parts that it has beside the network.
PIPELINE = "model_index.json"
# A folder has the network at its root or in the first of these, and the schedule at its root or in the second.
UNET, SCHEDULER = "unet", "scheduler"
_CONFIGS = [UNET_CONFIG, f"{UNET}/{UNET_CONFIG}", SCHEDULER_CONFIG, f"{SCHEDULER}/{SCHEDULER_CONFIG}"]

_HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*")
# The hub's client tries twice: a silent hub costs twice this.
HUB_SECONDS = 4.0


def is_hub_id(model: str) -> bool:
    """Whether a model is named as on the hub, owner/name. If there is a folder of that name here, that is meant."""
    return _HUB_ID.fullmatch(model) is not None and not Path(model).exists()


def local_folder(model: str) -> Path:
    """A folder on this node with the files of `model`: a local folder itself, else a copy from S3 or the hub.

    What looks like a hub id (owner/name) is one if there is no such folder. Raises UserError.
    """
    folder = storage.local_path(model)
    if folder is None:
        return _copied(model)
    if folder.is_dir():
        return folder
    if is_hub_id(model):
        return _from_hub(model)
    raise UserError(
        f"{folder} is no folder", "give `embedded`, a folder in diffusers' layout (local or s3://) or a hub id", "model"
    )


def _wanted(names: Collection[str]) -> list[str]:
    """The model's files among `names`, paths below its folder. Raises UserError as `weights.choose` does."""
    folder = f"{UNET}/" if any(name.startswith(f"{UNET}/") for name in names) else ""
    there = [name.removeprefix(folder) for name in names if name.startswith(folder)]
    chosen = weights.choose(there)
    found = [name for name in _CONFIGS if name in names]
    found += [folder + name for name in weights.belonging(chosen, there)] if chosen else []
    return [*found, PIPELINE] if found and PIPELINE in names else found


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "imagewizard" / "models"


def _copied(uri: str) -> Path:
    """The user's cached copy of a model in a store that is not this machine's, fetched anew when a file has changed."""
    folder = storage.Folder(uri)
    try:
        versions = _versions(folder)
        # With the URI, because some S3 servers' ETags are no hashes of the content.
        key = hashlib.sha256(repr((uri.rstrip("/"), sorted(versions.items()))).encode()).hexdigest()[:16]
        copy = _cache() / f"{uri.rstrip('/').rpartition('/')[2]}-{key}"
        if versions:
            _fetch(folder, versions, copy)
    except (OSError, RuntimeError) as error:  # RuntimeError: a user without a home
        raise UserError(
            f"{uri} cannot be copied to this node's cache ({_reason(error)})",
            "check the URI, AWS_* and that XDG_CACHE_HOME (default ~/.cache) is writable",
            "model",
        ) from None
    if not versions:
        raise UserError(f"{uri} has none of {UNET_CONFIG}, {SCHEDULER_CONFIG} and {WEIGHTS}", "check the URI", "model")
    return copy


def _versions(folder: storage.Folder) -> dict[str, str]:
    """{name below `folder`: version} of the model's files."""
    store = storage.of(folder.uri)
    found = {
        part + name: version
        for part in ("", f"{UNET}/", f"{SCHEDULER}/")
        for name, version in store.versions(folder.uri_of(part.rstrip("/"))).items()
    }
    return {name: found[name] for name in _wanted(found)}


def _fetch(folder: storage.Folder, versions: dict[str, str], copy: Path) -> None:
    """Makes `copy`, whole, unless it is there. A node's other processes wait for the one that fetches."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    with copy.with_name(f"{copy.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed, at the latest by the death of the process
        if copy.is_dir():
            return
        partial = copy.with_name(f"{copy.name}.partial")  # overwrites what a killed process left
        for name, version in versions.items():
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(storage.read_bytes(folder.uri_of(name), version=version))
        partial.rename(copy)


def _from_hub(model: str) -> Path:
    """The hub client's cached copy of a model, brought up to date if the hub can be reached."""
    # Importing it takes half a second, and few jobs need it.
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():  # an actor's, for example
        disable_progress_bars()
    # Which exceptions the client lets through depends on its version and on the HTTP library below it.
    try:
        # Before snapshot_download, which would wait for a silent hub for ever.
        files = HfApi().model_info(model, timeout=HUB_SECONDS).siblings or []
        if wanted := _wanted([file.rfilename for file in files]):
            return Path(snapshot_download(model, allow_patterns=wanted))
    except UserError:
        raise
    except RepositoryNotFoundError:
        raise UserError(
            f"{model} is no folder here, and the hub shows you no such model",
            "check the name, or set HF_TOKEN",
            "model",
        ) from None
    except Exception as error:
        reason = _reason(error)
    else:
        raise UserError(
            f"{model} on the hub has none of {UNET_CONFIG}, {SCHEDULER_CONFIG} and {WEIGHTS}",
            "give a model in diffusers' layout",
            "model",
        )
    try:
        # Newer clients know what the repository has beside these, and ask for it all if they are not told.
        return Path(snapshot_download(model, allow_patterns=_CONFIGS, local_files_only=True))
    except Exception:
        raise UserError(
            f"{model} is no folder here and cannot be fetched from the hub ({reason})",
            f"where the hub can be reached, run `hf download {model} --local-dir DIR`, and give model=DIR",
            "model",
        ) from None


def _reason(error: Exception) -> str:
    return textwrap.shorten(f"{type(error).__name__}: {error}", 200)
