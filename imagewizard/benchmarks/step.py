"""A step of gpu_check. It is not in gpu_steps, because that imports torch, which would slow down --help."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """One measurement."""

    name: str
    run: Callable[[], dict[str, Any]]
    """Returns its results by name: numbers or texts."""
    seconds: Callable[[], float | str]
    """Returns its estimated duration, or why it cannot run."""
