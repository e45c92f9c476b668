"""What the commands tell the shell."""

import os
import sys
from collections.abc import Callable

from imagewizard.errors import JobError, RunLockedError, UserError

DONE = 0
BROKE = 1
WRONG_INPUT = 2
TOO_MANY_FAILED = 3
LOCKED = 4
INTERRUPTED = 130


def run(command: Callable[[list[str]], int], argv: list[str]) -> int:
    """The exit code of `command(argv)`: the user's mistakes end in one line on stderr, bugs in a traceback."""
    try:
        return command(argv)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG_INPUT
    except JobError as error:
        print(f"error: {error}", file=sys.stderr)
        return BROKE
    except RunLockedError as error:
        print(f"error: {error}", file=sys.stderr)
        return LOCKED
    except KeyboardInterrupt:
        print("stopped; what is committed stays, and the same command goes on from there", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output, `head` say, has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
