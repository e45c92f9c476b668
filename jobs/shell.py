"""What every command has in common: the words after it, and the exit code it ends with."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from imagewizard import standard_streams
from imagewizard.distributed import ray_job
from imagewizard.errors import BROKE as BROKE
from imagewizard.errors import DONE as DONE
from imagewizard.errors import INTERRUPTED as INTERRUPTED
from imagewizard.errors import LOCKED as LOCKED
from imagewizard.errors import TERMINATED as TERMINATED
from imagewizard.errors import TOO_MANY_FAILED as TOO_MANY_FAILED
from imagewizard.errors import WRONG_INPUT as WRONG_INPUT
from imagewizard.errors import JobError, RunLockedError, UserError
from imagewizard.standard_streams import UnreadError, UnwritableError

if TYPE_CHECKING:  # it imports Ray
    from imagewizard.distributed.submitted_job import SubmittedJob


def run(command: Callable[[list[str]], int], argv: list[str]) -> int:
    """The exit code of `command(argv)`. A user's mistake ends in one line on stderr, a bug in a traceback.

    SIGTERM, which Kubernetes and `ray job stop` send before they kill, stops a command as Ctrl-C does. The end of
    stdout's reader (`head`, for example) ends a command that prints, without a word; one that works calls
    `standard_streams.go_on_unread`.
    """
    standard_streams.prepare()
    _give_home()
    code = DONE
    try:
        code = _run(command, argv)
        sys.stdout.flush()  # here, where a failure gets its line and its exit code
    except UnreadError:
        standard_streams.drop_stdout()
    except UnwritableError as error:
        standard_streams.drop_stdout()
        print(f"error: {error}", file=sys.stderr)
        return code or BROKE
    return code


def _check_working_folder() -> None:
    """Raises UserError if it has been deleted, so that no path can be made absolute."""
    try:
        Path.cwd()
    except OSError:
        raise UserError("the working folder is not there any more", "change to another one (cd)") from None


def _give_home() -> None:
    """Sets HOME, as Docker does, for a user id without an entry in passwd: libraries ask for it when imported."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = "/"


def _run(command: Callable[[list[str]], int], argv: list[str]) -> int:
    stop = _Stop()
    signal.signal(signal.SIGTERM, stop)
    try:
        _check_working_folder()
        return command(argv)
    except SystemExit as end:  # argparse's: --help, or an option that it does not know
        return end.code if isinstance(end.code, int) else DONE
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG_INPUT
    except JobError as error:
        print(f"error: {error}", file=sys.stderr)
        return BROKE
    except RunLockedError as error:
        print(f"error: {error}", file=sys.stderr)
        return LOCKED
    except KeyboardInterrupt as error:
        print(
            str(error) or "stopped; what is committed stays, and the same command goes on from there", file=sys.stderr
        )
        return stop.code


class _Stop:
    """The handler of SIGTERM; knows the exit code of a command that is stopped."""

    code = INTERRUPTED

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.code = TERMINATED
        # No class of our own: while Ray waits it hands on nothing but this one, and drops all others.
        raise KeyboardInterrupt


def parse(argv: list[str], *, prog: str, description: str, example: str) -> tuple[str | None, list[str], bool]:
    """The words of a command with a config, `[CONFIG] [key.path=value …] [--dry-run]`.

    (config file or None, key=value words, whether to stop at the plan). Raises UserError if there are two files, or if
    another version has submitted this command to a cluster.
    """
    ray_job.check_version()
    parser = argparse.ArgumentParser(
        prog=prog,
        usage=f"{prog} [CONFIG] [key.path=value …] [--dry-run]",
        description=description,
        epilog=f"example: {example}",
    )
    parser.add_argument("words", nargs="*", metavar="CONFIG key=value", help="a YAML file, and values on top of it")
    parser.add_argument("--dry-run", action="store_true", help="check, print the plan and stop")
    arguments = parser.parse_intermixed_args(argv)  # or nothing could follow --dry-run
    from imagewizard import config  # pydantic takes a moment that commands without a config need not wait for

    return *config.split_words(arguments.words), arguments.dry_run


def add_address(parser: argparse.ArgumentParser) -> None:
    """The option of all commands that talk to a cluster's job server."""
    parser.add_argument(
        "--address",
        metavar="URL",
        help="the cluster's dashboard, as http://HEAD:8265; else RAY_API_SERVER_ADDRESS, else RAY_ADDRESS",
    )


@contextmanager
def following(job: "SubmittedJob", address: str | None) -> Iterator[None]:
    """A context in which Ctrl-C, and the end of the log's reader, leave a submitted job alone and say how to return."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"left {job.current_id} as it is\n{job_hints(job.id, address)}") from None
    except UnreadError:  # success would be a lie: the job has not ended
        standard_streams.drop_stdout()
        raise JobError(
            f"nobody reads the log any more; left {job.current_id} as it is\n{job_hints(job.id, address)}"
        ) from None


def job_hints(submission_id: str, address: str | None) -> str:
    """What to type to get back to a job, or to end it. `address`: as it was given, if it was."""
    words = f"{submission_id} --address {address}" if address else submission_id
    return f"to follow it: imagewizard logs --follow {words}\nto stop it:   imagewizard stop {words}"
