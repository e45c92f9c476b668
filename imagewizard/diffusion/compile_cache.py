"""Where torch.compile keeps what it made, so that a process that starts anew compiles in seconds.

torch unpickles the files of this folder, which runs what is in them. Its own choice is /tmp/torchinductor_USER, a name
that another user of the machine can guess and take first. So the folder is one that no one else can write.
"""

import atexit
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
"""Where torch looks for the folder; Triton's kernels and the measurements of kernels lie below it, too."""

_TORCHS_OWN = "torchinductor_"
"""How the name of its own choice begins."""


def use() -> Path:
    """Chooses the folder for this process, unless the user has: in the user's cache, or else a temporary one.

    A temporary folder goes with the process.
    """
    chosen = Path(os.environ.get(VARIABLE) or _TORCHS_OWN)
    if not chosen.name.startswith(_TORCHS_OWN):  # torch sets the variable, too, when torch._dynamo is imported
        return chosen
    folder = _kept()
    if folder is None:
        folder = Path(tempfile.mkdtemp(prefix="imagewizard-compiled-"))  # mode 0700
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ[VARIABLE] = str(folder)
    return folder


def _kept() -> Path | None:
    """The folder in the user's cache; None if it cannot be made, or if others could write there."""
    with suppress(OSError, RuntimeError):  # RuntimeError: a user without a home
        cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        folder = cache / "imagewizard" / "compiled"
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        is_private = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
        if is_private and os.access(folder, os.W_OK):
            return folder
    return None
