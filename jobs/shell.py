"""What every command has in common: the words after it, and the exit code it ends with."""

import argparse
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
    """The exit code of `command(argv)`. A user's mistake ends in one line on stderr, a bug in a traceback."""
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
    except BrokenPipeError:  # the reader of our output (`head`, for example) has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


def parse(argv: list[str], *, prog: str, description: str, example: str) -> tuple[str | None, list[str], bool]:
    """The words of a command with a config, `[CONFIG] [key.path=value …] [--dry-run]`.

    (config file or None, key=value words, whether to stop at the plan). Raises UserError if there are two files.
    """
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
