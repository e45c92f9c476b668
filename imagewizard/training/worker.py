"""One of the processes that train together, and the clock that they share."""

import time
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Worker:
    """A process of a training; if there are several, torch.distributed is initialised."""

    rank: int
    workers: int
    device: torch.device

    def from_first(self, value: float) -> float:
        """Returns the first worker's value on every worker; a collective call."""
        if self.workers == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.broadcast(shared, 0)
        return float(shared)

    def clock(self) -> float:
        """The first worker's `time.time`; a collective call."""
        return self.from_first(time.time())
