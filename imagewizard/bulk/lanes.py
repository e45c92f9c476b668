"""Streams of a GPU beside the model's, so that copies, noise and scores overlap with it. On a CPU there are none."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class Lanes:
    """The streams of a device, by name, and what lets work in one wait for work in another; no thread waits."""

    def __init__(self, device: torch.device, names: tuple[str, ...]) -> None:
        self._is_gpu = device.type == "cuda"
        self._streams = {name: torch.cuda.Stream(device) for name in names} if self._is_gpu else {}

    @contextmanager
    def lane(self, name: str) -> Iterator[None]:
        """What this thread has the device do in this context goes to the stream of that name."""
        if not self._is_gpu:
            yield
            return
        with torch.cuda.stream(self._streams[name]):
            yield

    def mark(self) -> torch.cuda.Event | None:
        """What marks the end of the work that is in this thread's stream now."""
        return torch.cuda.current_stream().record_event() if self._is_gpu else None

    def wait(self, mark: torch.cuda.Event | None, *tensors: Tensor) -> None:
        """This thread's stream goes on after the mark, and uses the tensors, which another stream has made."""
        if mark is None:
            return
        stream = torch.cuda.current_stream()
        stream.wait_event(mark)
        for tensor in tensors:
            tensor.record_stream(stream)  # or their memory would be given away when the other stream is done with them

    def sent(self, tensor: Tensor, device: torch.device) -> Tensor:
        """A tensor in the CPU's memory on the device; the copy is work of this thread's stream."""
        return tensor.pin_memory().to(device, non_blocking=True) if self._is_gpu else tensor

    def fetched(self, *tensors: Tensor) -> list[Tensor]:
        """Tensors on the device in the CPU's memory. Waits for this thread's stream alone."""
        if not self._is_gpu:
            return list(tensors)
        found = [torch.empty(each.shape, dtype=each.dtype, pin_memory=True) for each in tensors]
        for there, here in zip(tensors, found, strict=True):
            here.copy_(there, non_blocking=True)
        torch.cuda.current_stream().synchronize()
        return found
