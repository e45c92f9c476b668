"""stdout and stderr as a shell may hand them to a command: closed, unread, on a full disk, unable to write a sign."""

import io
import os
import select
import sys
from typing import Any


class UnreadError(Exception):
    """Nobody reads stdout any more. No BrokenPipeError, which may come from any other pipe or socket."""


class UnwritableError(Exception):
    """stdout cannot be written for another reason."""


class _Stream(io.FileIO):
    """stdout or stderr. What cannot be written is an error, or, once `outlived`, is lost without a word."""

    outlived = False

    def write(self, data: Any) -> int:
        try:
            while (written := super().write(data)) is None:  # another process has set the pipe to non-blocking
                select.select([], [self], [])
            return written
        except OSError as error:
            if self.outlived:
                return len(data)
            if isinstance(error, BrokenPipeError):
                raise UnreadError from None
            raise UnwritableError(f"stdout cannot be written ({error.strerror})") from None


def prepare() -> None:
    """Makes all three streams of a command usable; to be called before it opens any file.

    What is closed becomes the null device: else a file that is opened later would get the number of stdout, and Ray's
    messages. A sign that the encoding lacks is written as an escape. What is lost on stderr is no error.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest free number: this one
    if sys.stdout is sys.__stdout__:  # not what a test has put in its place, nor our own
        sys.stdout = wrap(1, sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = wrap(2, sys.stderr)
        _outlive(sys.stderr)


def go_on_unread() -> None:
    """From here on stdout stops nothing: neither the end of its reader nor a full disk. For a command that works."""
    _outlive(sys.stdout)


def drop_stdout() -> None:
    """Lets Python end without a complaint on what nobody reads."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def wrap(number: int, stream: Any = None) -> io.TextIOWrapper:
    """Our stream of a file number, in place of Python's own, if there is one: there is none of what is closed."""
    if stream is not None:
        stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Stream(number, "w", closefd=False)),
        encoding="utf-8" if stream is None else stream.encoding,
        errors="backslashreplace",
        line_buffering=stream is not None and stream.line_buffering,
        write_through=stream is not None and stream.write_through,
    )


def _outlive(stream: Any) -> None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    if isinstance(raw, _Stream):
        raw.outlived = True
