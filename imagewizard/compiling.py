"""Compiles loops over arrays with numba, for those modules that are imported only where it is installed."""

import functools
from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as machine code that runs without Python's lock, on the thread that calls it.

    Compiling takes about two seconds for each combination of argument types, at its first call. The result is kept
    beside the source or in the user's cache folder, where one of them can be written; the next process reads it, unless
    the file that `function` stands in has changed: constants of other modules count as they were.
    Every product and sum is rounded by itself, so that all processors have the same bits. Division by zero is IEEE's.
    """
    compile = functools.partial(numba.njit, nogil=True, error_model="numpy")
    try:
        return compile(function, cache=True)
    except RuntimeError:  # there is no folder for it
        return compile(function)
