"""How busy the GPU that torch uses is, as NVML knows it: for all processes on it, not for this one alone."""

import functools
from dataclasses import dataclass
from typing import Any

_PREFIXES = ("GPU-", "MIG-")
"""How NVML's names for whole GPUs and for parts of one begin; torch tells what follows."""


@dataclass(frozen=True)
class GpuUsage:
    """A GPU at one moment."""

    name: str
    used: int
    """Bytes of its memory that are taken."""
    total: int
    """Bytes of its memory."""
    busy: float | None
    """Share of NVML's last sampling period (up to a second) in which a kernel ran; None for a part of a GPU."""

    def __str__(self) -> str:
        """`NVIDIA H100 80GB HBM3  61.2/85.5 GB  97 %`."""
        memory = f"{self.name}  {self.used / 1e9:.1f}/{self.total / 1e9:.1f} GB"
        return memory if self.busy is None else f"{memory}  {100 * self.busy:.0f} %"


def read() -> GpuUsage | None:
    """That of torch's current device; None without a GPU, without NVML, or if NVML does not answer.

    It imports torch and starts CUDA in this process, so it is for a process that uses the GPU.
    """
    import torch

    if not torch.cuda.is_available():
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        # By UUID, because CUDA_VISIBLE_DEVICES numbers the devices of torch, and not those of NVML.
        device = _device(str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid))
        memory = pynvml.nvmlDeviceGetMemoryInfo(device)
        found = GpuUsage(pynvml.nvmlDeviceGetName(device), int(memory.used), int(memory.total), None)
    except pynvml.NVMLError:
        return None
    try:
        busy = pynvml.nvmlDeviceGetUtilizationRates(device).gpu / 100
    except pynvml.NVMLError:
        return found
    return GpuUsage(found.name, found.used, found.total, busy)


class GpuUsages:
    """What is known of a job's GPUs from time to time."""

    def __init__(self) -> None:
        self.latest: GpuUsage | None = None
        self._names: set[str] = set()
        self._most_used = 0
        self._busy: list[float] = []

    def add(self, usage: GpuUsage) -> None:
        """Takes a look at one of the GPUs into account."""
        self.latest = usage
        self._names.add(usage.name)
        self._most_used = max(self._most_used, usage.used)
        if usage.busy is not None:
            self._busy.append(usage.busy)

    def summary(self) -> dict[str, Any] | None:
        """For summary.json: the names, the most memory that was taken of one, and how busy they were on average."""
        if self.latest is None:
            return None
        busy = round(sum(self._busy) / len(self._busy), 3) if self._busy else None
        return {"names": sorted(self._names), "most_memory_gb": round(self._most_used / 1e9, 2), "busy": busy}


@functools.cache
def _device(uuid: str) -> Any:
    """NVML's device of that UUID; NVML stays loaded. Raises pynvml.NVMLError if there is none."""
    import pynvml

    pynvml.nvmlInit()
    for prefix in _PREFIXES:
        try:
            return pynvml.nvmlDeviceGetHandleByUUID(prefix + uuid.removeprefix(prefix))
        except pynvml.NVMLError as error:
            failure = error
    raise failure
