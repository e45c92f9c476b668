"""A network's forward pass without the cost of its launches: as a CUDA graph, and compiled where that pays.

A forward of the embedded model is some 200 operations, each a kernel or more. Python launches them slower than a large
GPU runs them; a graph launches all of them at once. torch.compile fuses GroupNorm, SiLU and additions, which only move
memory, into few kernels. No kernel of our own does that: the compiler's fit each network. Its mode is the default.
`reduce-overhead` adds graphs that belong to one thread, and here one kind of graph serves both the compiled and the
eager network; `max-autotune` takes minutes to replace the convolutions of cuDNN, which are not what costs here.

A graph runs on inputs of one shape, in memory of its own. So only shapes that come again and again get one, and all
graphs share one pool for what lies between input and output: they never run at the same time.
"""

import time
import warnings
from collections import Counter, OrderedDict
from typing import Any, NamedTuple

import torch
from torch import Tensor

from imagewizard.diffusion import compile_cache
from imagewizard.diffusion.unet import UNet2DModel
from imagewizard.errors import one_line

EAGER_CALLS = 8
"""A shape's first calls are eager: to capture a graph costs as much as some calls, and most shapes of few images or of
mixed sizes never come that often."""
MOST_STATIC = 4
"""How many shapes are captured: tiles upright and across, and one more of each. The one unused for longest goes."""
MOST_SHAPES = 1000
"""How many shapes are counted; then all counts begin anew. They are some bytes each, but images have any size."""
COMPILE_AFTER = 120.0
"""Seconds that a shape's forwards have taken before it is compiled.

To compile took 80 s for the embedded model on an H100, with an empty cache. If it halves what follows, 160 s win that
back. So a job of less than two minutes never waits for it, and one that ends right after it takes two thirds longer.
"""
MOST_COMPILED = 4
"""How many shapes are compiled: torch takes no more than 8 of one network."""

RUNS = 4
"""Runs that are timed to learn what one takes."""


class FastForward:
    """Stands in for a network in sampling.predict, with the same results but for rounding. Not thread-safe.

    The network's weights must stay in place. Where a graph cannot be captured or the compiler fails, a warning says so,
    once, and the network runs without.
    """

    def __init__(self, network: UNet2DModel) -> None:
        self._network = network
        self._static: OrderedDict[torch.Size, StaticForward] = OrderedDict()
        self._calls: Counter[torch.Size] = Counter()
        self._compiled: Any = None
        self._still_to_compile = MOST_COMPILED
        self._shared = capture_memory(network.device)

    @property
    def config(self) -> Any:
        return self._network.config

    @property
    def dtype(self) -> torch.dtype:
        return self._network.dtype

    @torch.inference_mode()
    def __call__(self, x: Tensor, timesteps: Tensor, return_dict: bool = False) -> tuple[Tensor]:
        """The network's output, a tensor of its own: (N, channels, H, W) like `x`. `timesteps`: shape (N,).

        Raises torch.OutOfMemoryError; then the graphs are gone, so that their memory is there for a smaller batch.
        """
        try:
            static = self._serving(x.shape)
            if static is None:
                if not self._comes_often(x.shape):
                    return self._network(x, timesteps, return_dict=return_dict)
                static = self._captured(x, timesteps)
            elif static.spent >= COMPILE_AFTER and not static.is_settled and self._still_to_compile > 0:
                static = self._faster(static)
            return (static(x, timesteps),)
        except torch.OutOfMemoryError:
            self._static.clear()
            raise

    def _serving(self, shape: torch.Size) -> "StaticForward | None":
        """The smallest that takes a batch of this shape, padded to less than twice its size; None if there is none."""
        count = shape[0]
        fitting = [own for own in self._static if own[1:] == shape[1:] and count <= own[0] < 2 * count]
        if not fitting:
            return None
        chosen = min(fitting)
        self._static.move_to_end(chosen)
        return self._static[chosen]

    def _comes_often(self, shape: torch.Size) -> bool:
        if len(self._calls) >= MOST_SHAPES:
            self._calls.clear()
        self._calls[shape] += 1
        return self._calls[shape] > EAGER_CALLS

    def _captured(self, x: Tensor, timesteps: Tensor) -> "StaticForward":
        del self._calls[x.shape]
        while len(self._static) >= MOST_STATIC:
            self._static.popitem(last=False)
        static = StaticForward(self._network, x, timesteps, self._shared)
        self._static[x.shape] = static
        return static

    def _faster(self, static: "StaticForward") -> "StaticForward":
        """The same compiled, if that is possible and faster."""
        static.is_settled = True
        self._still_to_compile -= 1
        try:
            compile_cache.use()
            if self._compiled is None:
                self._compiled = torch.compile(self._network, dynamic=False)
            compiled = StaticForward(self._compiled, static.x, static.timesteps, self._shared)
        except Exception as error:  # compilers fail in many ways, and no job may end because of it
            self._still_to_compile = 0
            warnings.warn(f"the network runs uncompiled: torch.compile failed ({one_line(error)})", stacklevel=1)
            return static
        if compiled.seconds >= static.seconds:
            return static
        compiled.is_settled = True
        self._static[static.x.shape] = compiled
        return compiled


class CaptureMemory(NamedTuple):
    """Where graphs that never run at the same time are captured: one after another on one stream, in one pool."""

    pool: Any
    stream: torch.cuda.Stream


def capture_memory(device: torch.device) -> CaptureMemory | None:
    """None on a device without graphs."""
    return CaptureMemory(torch.cuda.graph_pool_handle(), torch.cuda.Stream(device)) if device.type == "cuda" else None


class StaticForward:
    """A network on inputs of one shape, in buffers that stay in place; on CUDA a captured graph.

    Takes batches of up to that size. What the rest of the buffers hold does not matter: images of a batch do not
    depend on each other.
    """

    def __init__(self, network: UNet2DModel, x: Tensor, timesteps: Tensor, shared: CaptureMemory | None) -> None:
        """`shared`: None on a device without graphs.

        Raises torch.OutOfMemoryError if the eager network does not fit; a graph that does not is done without.
        """
        self.x, self.timesteps = x.clone(), timesteps.clone()
        self.is_settled = False
        """Whether it was tried whether compiling makes it faster."""
        self._network = network
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        if shared is None:
            self._run()  # as before a capture, what is loaded or compiled at first use is so now
        else:
            self._capture(shared)
        self.seconds = self._measured()
        """What a call takes on its device."""

    @property
    def spent(self) -> float:
        """Seconds that its calls have taken on the device, without waiting for it."""
        return self._calls * self.seconds

    def __call__(self, x: Tensor, timesteps: Tensor) -> Tensor:
        count = len(x)
        self._calls += 1
        self.x[:count].copy_(x)
        self.timesteps[:count].copy_(timesteps)
        self._run()
        return self._output[:count].clone()  # the next call overwrites it

    def _run(self) -> None:
        if self._graph is None:
            self._output = self._network(self.x, self.timesteps, return_dict=False)[0]
        else:
            self._graph.replay()

    def _capture(self, shared: CaptureMemory) -> None:
        shared.stream.wait_stream(torch.cuda.current_stream(self.x.device))
        with torch.cuda.stream(shared.stream):  # also puts back the stream that a failed capture leaves current
            for _ in range(2):  # libraries load, and the compiler chooses its kernels, outside of the capture
                self._run()
            graph = torch.cuda.CUDAGraph()
            try:
                # thread_local: other threads of the process may use the GPU meanwhile.
                with torch.cuda.graph(graph, shared.pool, shared.stream, capture_error_mode="thread_local"):
                    self._run()
                self._graph = graph
            except RuntimeError as error:
                warnings.warn(f"the network runs without a CUDA graph ({one_line(error)})", stacklevel=1)
        torch.cuda.current_stream(self.x.device).wait_stream(shared.stream)

    def _measured(self) -> float:
        """Seconds a run, the mean of RUNS."""
        self._wait()
        started = time.perf_counter()
        for _ in range(RUNS):
            self._run()
        self._wait()
        return (time.perf_counter() - started) / RUNS

    def _wait(self) -> None:
        if self.x.is_cuda:
            torch.cuda.synchronize(self.x.device)
