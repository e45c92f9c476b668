"""What Ray tells a driver that it runs as a submitted job. Knows nothing of Ray but the variable."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from imagewizard import __version__
from imagewizard.errors import UserError

# Keys of a job's metadata, where whoever runs it, lists it or attaches to it finds them.
VERSION = "imagewizard_version"
CONFIG_DIGEST = "imagewizard_config"
OUTPUT = "imagewizard_output"
TRY_OF = "imagewizard_try_of"


def description() -> dict[str, Any]:
    """The runtime environment and the metadata of the job that this process drives; {} if Ray has not started it."""
    return dict(json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}"))


@contextmanager
def naming_the_node() -> Iterator[None]:
    """Adds to a UserError about a file where the driver of a submitted job runs, which its user may not know."""
    try:
        yield
    except UserError as error:
        if not description() or error.key is None:
            raise
        what = f"{error.what} (on node {socket.gethostname()}, where the driver runs)"
        raise UserError(what, error.fix, error.key) from None


def check_version() -> None:
    """Raises UserError if another version of this package has submitted the job."""
    theirs = description().get("metadata", {}).get(VERSION, __version__)
    if theirs != __version__:
        raise UserError(
            f"the cluster has imagewizard {__version__}, and the job was submitted by {theirs}",
            "install the same version on both sides",
        )
