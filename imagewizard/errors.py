"""The two ways a job ends badly that are not bugs; `jobs` turns them into exit codes."""


class UserError(Exception):
    """The user's input is wrong. The message is one line that names what and how to fix it (exit code 2)."""


class RunLockedError(Exception):
    """Another driver holds the run's lease (exit code 4)."""
