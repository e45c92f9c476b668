"""The usage is that of torch's own GPU, and nothing fails where NVML does."""

import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from imagewizard import gpu_usage
from imagewizard.gpu_usage import GpuUsage, GpuUsages

GB = 10**9


class StandInNVML:
    """Stands in for the module pynvml, on a machine with two GPUs and a part of a third."""

    class NVMLError(Exception):
        """As pynvml's."""

    def __init__(self) -> None:
        self.fails: set[str] = set()
        self.started = False
        self.devices = {
            "GPU-aaaa": ("NVIDIA T4", 1 * GB, 16 * GB, 3),
            "GPU-bbbb": ("NVIDIA H100", 61 * GB, 80 * GB, 97),
            "MIG-cccc": ("NVIDIA H100 MIG 1g.10gb", 2 * GB, 10 * GB, None),
        }

    def _check(self, call: str) -> None:
        if call in self.fails:
            raise self.NVMLError(call)

    def nvmlInit(self) -> None:  # noqa: N802 (NVML's own name, as below)
        self._check("nvmlInit")
        self.started = True

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if not self.started or uuid not in self.devices:
            raise self.NVMLError(uuid)
        return uuid

    def nvmlDeviceGetName(self, handle: str) -> str:  # noqa: N802
        return self.devices[handle][0]

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> SimpleNamespace:  # noqa: N802
        self._check("nvmlDeviceGetMemoryInfo")
        return SimpleNamespace(used=self.devices[handle][1], total=self.devices[handle][2])

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> SimpleNamespace:  # noqa: N802
        if (busy := self.devices[handle][3]) is None:
            raise self.NVMLError("Not Supported")
        return SimpleNamespace(gpu=busy, memory=0)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInNVML]:
    """A machine whose second GPU is the only one that torch sees."""
    found = StandInNVML()
    monkeypatch.setitem(sys.modules, "pynvml", found)
    _torch_has(monkeypatch, "bbbb")
    gpu_usage._device.cache_clear()
    yield found
    gpu_usage._device.cache_clear()


def _torch_has(monkeypatch: pytest.MonkeyPatch, uuid: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=uuid))


def test_usage_is_that_of_torchs_gpu(nvml: StandInNVML) -> None:
    found = gpu_usage.read()
    assert found == GpuUsage("NVIDIA H100", 61 * GB, 80 * GB, 0.97)
    assert str(found) == "NVIDIA H100  61.0/80.0 GB  97 %"


def test_a_part_of_a_gpu_has_memory_and_no_share_of_time(nvml: StandInNVML, monkeypatch: pytest.MonkeyPatch) -> None:
    _torch_has(monkeypatch, "cccc")
    assert str(gpu_usage.read()) == "NVIDIA H100 MIG 1g.10gb  2.0/10.0 GB"


@pytest.mark.parametrize("call", ["nvmlInit", "nvmlDeviceGetMemoryInfo"])
def test_without_an_answer_there_is_no_usage(nvml: StandInNVML, call: str) -> None:
    nvml.fails = {call}
    assert gpu_usage.read() is None


def test_a_gpu_that_nvml_does_not_know_has_no_usage(nvml: StandInNVML, monkeypatch: pytest.MonkeyPatch) -> None:
    _torch_has(monkeypatch, "dddd")
    assert gpu_usage.read() is None


def test_nvmls_own_bindings_do_not_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a driver they know no such GPU; without one, nothing at all."""
    _torch_has(monkeypatch, "00000000-0000-0000-0000-000000000000")
    assert gpu_usage.read() is None


def test_without_nvmls_bindings_there_is_no_usage(nvml: StandInNVML, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpu_usage.read() is None


def test_without_a_gpu_there_is_no_usage(nvml: StandInNVML, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_usage.read() is None and not nvml.started


@pytest.mark.gpu
def test_the_memory_that_torch_takes_is_used() -> None:
    taken = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    found = gpu_usage.read()
    assert found is not None and found.name == torch.cuda.get_device_name()
    assert taken.nbytes < found.used <= found.total


def test_usages_are_summed_up() -> None:
    found = GpuUsages()
    assert found.latest is None and found.summary() is None
    for usage in (
        GpuUsage("A", 3 * GB, 16 * GB, 0.5),
        GpuUsage("B", 2 * GB, 16 * GB, 1.0),
        GpuUsage("A", GB, GB, None),
    ):
        found.add(usage)
    assert found.latest == usage
    assert found.summary() == {"names": ["A", "B"], "most_memory_gb": 3.0, "busy": 0.75}
