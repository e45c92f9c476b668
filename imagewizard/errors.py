"""The ways a job ends badly that are not bugs, and the exit codes of commands, into which `jobs` turns them."""

from collections.abc import Iterator
from contextlib import contextmanager

# Exit codes. They are part of the contract: others may depend on them.
DONE = 0
BROKE = 1
WRONG_INPUT = 2
TOO_MANY_FAILED = 3
LOCKED = 4
INTERRUPTED = 130
TERMINATED = 143


class UserError(Exception):
    """The user's input is wrong (exit code 2). `str` of it is one line: `key: what; fix`."""

    def __init__(self, what: str, fix: str, key: str | None = None) -> None:
        """`what` is wrong, `fix` is what to do about it ("" where `what` says it: `must be greater than 0`).

        `key` is the word that the user typed: a config key (`data.train`), an option or an argument (`--out`); None
        where the message names its subject itself.
        """
        super().__init__(what, fix, key)  # all three, so that pickling keeps them
        self.what, self.fix, self.key = what, fix, key

    def __str__(self) -> str:
        what = f"{self.key}: {self.what}" if self.key else self.what
        return one_line(f"{what}; {self.fix}" if self.fix else what)

    def at(self, key: str) -> "UserError":
        """The same error of another key: for a caller who knows what the user called it."""
        return UserError(self.what, self.fix, key)


@contextmanager
def keyed(key: str) -> Iterator[None]:
    """Gives `key` to a UserError that leaves the context without one: for a caller who knows what the user typed."""
    try:
        yield
    except UserError as error:
        if error.key is not None:
            raise
        raise error.at(key) from None


class RunLockedError(Exception):
    """Another driver holds the run's lease (exit code 4)."""


class JobError(Exception):
    """What a job needs gave way: a disk is full, a server or a node is gone. One line (exit code 1)."""


def one_line(error: object) -> str:
    """The text of an error without line breaks and runs of spaces."""
    return " ".join(str(error).split())
