"""A step of gpu_check; apart from gpu_steps, which imports torch, for the sake of --help."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """One thing to find out."""

    name: str
    run: Callable[[], dict[str, Any]]
    """Returns what it found, by name: numbers, or texts."""
    seconds: Callable[[], float]
    """What it takes, as far as that can be told before."""
