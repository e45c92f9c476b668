"""A report arrives as it was sent."""

import pytest

from imagewizard.distributed.block_report import BlockReport
from imagewizard.gpu_usage import GpuUsage


@pytest.mark.parametrize("gpu", [None, GpuUsage("NVIDIA H100", 5 << 30, 80 << 30, 0.97)])
def test_a_report_is_unpacked_as_it_was(gpu: GpuUsage | None) -> None:
    report = BlockReport("00000-00001-a1.parquet", 64, 2, 1.25, gpu)
    assert BlockReport.unpack(report.packed()) == report
