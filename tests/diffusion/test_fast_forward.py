"""A fast forward gives the network's own results, and captures and compiles only what comes often.

Without a GPU all but the capture itself is the same: inputs in buffers of one shape, padded batches, the compiler. A
stand-in does what a captured graph does.
"""

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from imagewizard.diffusion import compile_cache, fast_forward
from imagewizard.diffusion.fast_forward import (
    EAGER_CALLS,
    MOST_STATIC,
    CaptureMemory,
    FastForward,
    StaticForward,
    capture_memory,
)
from imagewizard.diffusion.sampling import predict
from imagewizard.diffusion.unet import UNet2DModel
from tests.support.models import tiny_unet

ONE_BLOCK = {"block_out_channels": [8], "down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"]}
"""Less to compile: seconds."""


class Counting(torch.nn.Module):
    """A network that keeps the shape and the address of each input, and waits so many seconds."""

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, network: UNet2DModel, seconds: float = 0.0) -> None:
        super().__init__()
        self.network, self.seconds = network, seconds
        self.shapes: list[tuple[int, ...]] = []
        self.addresses: set[int] = set()

    @property
    def config(self) -> object:
        return self.network.config

    def forward(self, x: Tensor, timesteps: Tensor, return_dict: bool) -> tuple[Tensor]:
        time.sleep(self.seconds)
        self.shapes.append(tuple(x.shape))
        self.addresses.add(x.data_ptr())
        return self.network(x, timesteps, return_dict=return_dict)


def images(count: int, height: int = 16, width: int = 16, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noisy images, and a timestep of each."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, height, width, generator=generator), 900 * torch.rand(count, generator=generator)


def settled(fast: FastForward, count: int, **size: int) -> None:
    """Calls it with batches of one shape until it runs them from its buffers."""
    for seed in range(EAGER_CALLS + 1):
        predict(fast, *images(count, **size, seed=seed))


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"time_embedding_type": "learned", "num_train_timesteps": 1000}])
def test_results_are_the_networks_own_from_the_first_call_to_the_last(changes: dict[str, object]) -> None:
    unet = tiny_unet(k=2, **changes)
    fast = FastForward(unet)
    results = [predict(fast, *images(3, seed=seed)) for seed in range(EAGER_CALLS + 4)]
    for seed, result in enumerate(results):  # at the end: no call may overwrite an earlier one's result
        assert_close(result, predict(unet, *images(3, seed=seed)))


def test_a_shape_that_comes_often_runs_from_one_place_in_memory() -> None:
    counting = Counting(tiny_unet())
    fast = FastForward(counting)
    settled(fast, 3)
    counting.addresses.clear()
    kept = [images(3, seed=seed)[0] for seed in range(5)]
    for x in kept:
        predict(fast, x, torch.zeros(3))
    assert len(counting.addresses) == 1


def test_a_smaller_batch_is_padded_and_one_below_half_is_not() -> None:
    counting = Counting(tiny_unet())
    fast = FastForward(counting)
    settled(fast, 4)
    for count, ran in ((3, 4), (2, 2), (5, 5), (4, 4)):
        counting.shapes.clear()
        assert_close(predict(fast, *images(count, seed=9)), predict(counting.network, *images(count, seed=9)))
        assert counting.shapes == [(ran, 3, 16, 16)]


def test_images_of_many_sizes_are_captured_only_so_often(monkeypatch: pytest.MonkeyPatch) -> None:
    captured: list[tuple[int, ...]] = []

    class Recorded(StaticForward):
        def __init__(self, network: UNet2DModel, x: Tensor, *others: object) -> None:
            captured.append(tuple(x.shape))
            super().__init__(network, x, *others)

    monkeypatch.setattr(fast_forward, "StaticForward", Recorded)
    monkeypatch.setattr(fast_forward, "MOST_SHAPES", 20)
    fast = FastForward(tiny_unet(zero=True))
    for width in range(2, 100, 2):  # sizes that come once
        predict(fast, *images(1, 2, width))
        assert len(fast._calls) <= 20
    assert captured == []
    widths = [2 * n for n in range(1, MOST_STATIC + 2)]
    for width in widths:
        settled(fast, 1, height=2, width=width)
        predict(fast, *images(1, 2, widths[1]))  # used between the others, so it stays
    assert captured == [(1, 3, 2, width) for width in widths]
    assert [shape[3] for shape in fast._static] == [*widths[2:], widths[1]]


def test_without_memory_all_buffers_are_freed() -> None:
    counting = Counting(tiny_unet())
    fast = FastForward(counting)
    settled(fast, 2)
    assert fast._static
    counting.network.forward = _out_of_memory
    with pytest.raises(torch.OutOfMemoryError):
        predict(fast, *images(8))
    assert not fast._static


def _out_of_memory(*_: object, **__: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize("own, compiled, chosen", [(0.05, 0.0, "compiled"), (0.0, 0.05, "own")])
def test_a_compiled_network_stays_if_it_is_faster(
    own: float, compiled: float, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_forward, "COMPILE_AFTER", 0.0)
    monkeypatch.setenv(compile_cache.VARIABLE, "unused")
    unet = tiny_unet()
    networks = {"own": Counting(unet, own), "compiled": Counting(unet, compiled)}  # stands in for torch.compile's
    monkeypatch.setattr(torch, "compile", lambda network, dynamic: networks["compiled"])
    fast = FastForward(networks["own"])
    settled(fast, 2)
    predict(fast, *images(2))  # compiles
    for each in networks.values():
        each.shapes.clear()
    result = predict(fast, *images(2, seed=3))
    assert {name: len(each.shapes) for name, each in networks.items()} == {"own": 0, "compiled": 0, chosen: 1}
    assert_close(result, predict(unet, *images(2, seed=3)))


def test_a_shape_is_compiled_once_it_has_taken_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(torch, "compile", lambda network, dynamic: asked.append(network) or network)
    monkeypatch.setenv(compile_cache.VARIABLE, "unused")
    fast = FastForward(Counting(tiny_unet(), 0.01))
    settled(fast, 2)
    (static,) = fast._static.values()
    assert static.seconds >= 0.01 and static.spent == static.seconds
    monkeypatch.setattr(fast_forward, "COMPILE_AFTER", 3.5 * static.seconds)
    for seed in range(3):  # calls 2, 3, 4
        predict(fast, *images(2, seed=seed))
    assert not asked
    for seed in range(3):
        predict(fast, *images(2, seed=seed))
    assert len(asked) == 1


def test_a_compiler_that_fails_costs_one_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A node without a C++ compiler: torch's own error."""
    monkeypatch.setenv(compile_cache.VARIABLE, str(tmp_path))
    monkeypatch.setattr(fast_forward, "COMPILE_AFTER", 0.0)
    import torch._inductor.config as inductor

    unet = tiny_unet(**ONE_BLOCK)
    fast = FastForward(unet)
    settled(fast, 2)
    settled(fast, 1)
    with warnings.catch_warnings(record=True) as told, inductor.patch({"cpp.cxx": ("no-such-compiler",)}):
        warnings.simplefilter("always")
        for seed in range(3):
            assert_close(predict(fast, *images(2, seed=seed)), predict(unet, *images(2, seed=seed)))
            assert_close(predict(fast, *images(1, seed=seed)), predict(unet, *images(1, seed=seed)))
    (line,) = [str(each.message) for each in told if "uncompiled" in str(each.message)]
    assert "torch.compile failed" in line and "\n" not in line


class StandInGraphs:
    """Stands in for CUDA's graphs on a CPU: a replay runs the network on the buffers that it was captured with, and
    writes into the output that it had then.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, network: UNet2DModel) -> None:
        self.network, self.captured, self.replays = network, [], 0
        self.config, self.dtype, self.device, self.fails = network.config, network.dtype, network.device, False
        self._capturing: list[tuple[Tensor, ...]] | None = None
        monkeypatch.setattr(fast_forward, "capture_memory", lambda device: CaptureMemory("pool", self))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: self)
        monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=None))
        monkeypatch.setattr(torch.cuda, "graph", self._capture)

    def wait_stream(self, stream: object) -> None: ...

    def __call__(self, x: Tensor, timesteps: Tensor, return_dict: bool) -> tuple[Tensor]:
        output = self.network(x, timesteps, return_dict=return_dict)
        if self._capturing is not None:
            self._capturing.append((x, timesteps, *output))
        return output

    @contextmanager
    def _capture(self, graph: SimpleNamespace, pool: str, stream: object, capture_error_mode: str) -> Iterator[None]:
        self._capturing = []
        yield
        ((x, timesteps, output),), self._capturing = self._capturing, None
        if self.fails:
            raise RuntimeError("CUDA error: operation not permitted\nwhen stream is capturing")
        self.captured.append(tuple(x.shape))

        def replay() -> None:
            self.replays += 1
            output.copy_(self.network(x, timesteps, return_dict=False)[0])

        graph.replay = replay


def test_a_graph_gives_each_call_its_own_result(monkeypatch: pytest.MonkeyPatch) -> None:
    unet = tiny_unet()
    graphs = StandInGraphs(monkeypatch, unet)
    fast = FastForward(graphs)
    settled(fast, 4)
    calls, before = [(4, 1), (3, 2), (4, 3), (3, 4)], graphs.replays
    results = [fast(*images(count, seed=seed))[0] for count, seed in calls]
    assert graphs.captured == [(4, 3, 16, 16)] and graphs.replays == before + 4
    for result, (count, seed) in zip(results, calls, strict=True):
        assert_close(result, unet(*images(count, seed=seed), return_dict=False)[0])


def test_a_graph_that_cannot_be_captured_costs_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    unet = tiny_unet()
    graphs = StandInGraphs(monkeypatch, unet)
    graphs.fails = True
    fast = FastForward(graphs)
    with pytest.warns(UserWarning, match=r"without a CUDA graph \(CUDA error: operation not permitted when stream is"):
        settled(fast, 4)
    assert_close(fast(*images(4, seed=7))[0], unet(*images(4, seed=7), return_dict=False)[0])
    assert graphs.replays == 0


@pytest.mark.long
def test_compiled_results_are_the_networks_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(compile_cache.VARIABLE, str(tmp_path))
    unet = tiny_unet(**ONE_BLOCK)
    compiled = StaticForward(torch.compile(unet, dynamic=False), *images(4), None)
    for count in (4, 3):
        x, timesteps = images(count, seed=count)
        assert_close(compiled(x, timesteps), unet(x, timesteps, return_dict=False)[0])
    assert any(tmp_path.rglob("*.so"))  # it was compiled, and kept there


@pytest.mark.gpu
def test_graphs_of_a_gpu_give_the_networks_own_results() -> None:
    device = torch.device("cuda")
    unet = tiny_unet(k=2).to(device)
    fast = FastForward(unet)
    calls = [
        (seed, count, width) for count, width in ((4, 16), (8, 16), (4, 32), (4, 16), (3, 16)) for seed in range(10)
    ]
    inputs = [[each.to(device) for each in images(count, width=width, seed=seed)] for seed, count, width in calls]
    results = [predict(fast, *each) for each in inputs]
    for result, each in zip(results, inputs, strict=True):  # at the end: no call may overwrite an earlier one's result
        torch.testing.assert_close(result, predict(unet, *each), rtol=0, atol=1e-3)
    assert {tuple(shape) for shape in fast._static} == {(4, 12, 8, 8), (8, 12, 8, 8), (4, 12, 8, 16)}
    assert all(static._graph is not None for static in fast._static.values())


@pytest.mark.gpu
def test_graphs_of_the_compiled_network_give_its_results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(compile_cache.VARIABLE, str(tmp_path))
    device = torch.device("cuda")
    unet = tiny_unet(**ONE_BLOCK).to(device)
    inputs = [each.to(device) for each in images(4)]
    with torch.inference_mode():
        compiled = StaticForward(torch.compile(unet, dynamic=False), *inputs, capture_memory(device))
        assert compiled._graph is not None
        several = [[each.to(device) for each in images(3, seed=seed)] for seed in range(3)]
        results = [compiled(*each) for each in several]  # none may be overwritten by the next
        for result, each in zip(results, several, strict=True):
            torch.testing.assert_close(result, unet(*each, return_dict=False)[0], rtol=0, atol=1e-3)
