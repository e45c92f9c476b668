"""The ways a job ends badly that are not bugs; `jobs` turns them into exit codes."""


class UserError(Exception):
    """The user's input is wrong. The message is one line that names what and how to fix it (exit code 2)."""


class RunLockedError(Exception):
    """Another driver holds the run's lease (exit code 4)."""


class JobError(Exception):
    """What a job needs gave way: a disk is full, a server or a node is gone. One line (exit code 1)."""
