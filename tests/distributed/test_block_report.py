"""A report arrives as it was sent."""

from collections.abc import Iterator

import pyarrow as pa
import pytest
import ray

from imagewizard.distributed.block_report import BlockReport, reports
from imagewizard.gpu_usage import GpuUsage


@pytest.mark.parametrize("gpu", [None, GpuUsage("NVIDIA H100", 5 << 30, 80 << 30, 0.97)])
def test_a_report_is_unpacked_as_it_was(gpu: GpuUsage | None) -> None:
    report = BlockReport("00000-00001-a1.parquet", 64, 2, 1.25, gpu)
    assert BlockReport.unpack(report.packed()) == report


@pytest.mark.usefixtures("ray_cluster")
def test_a_task_may_have_nothing_to_report() -> None:
    report = BlockReport("00000-00001-a1.parquet", 64, 0, 1.0)

    def work(row: pa.Table) -> Iterator[pa.Table]:
        if row["id"][0].as_py() == 1:
            yield report.packed()

    chain = ray.data.range(3, override_num_blocks=3).map_batches(work, batch_size=1, batch_format="pyarrow")
    assert list(reports(chain)) == [report]
