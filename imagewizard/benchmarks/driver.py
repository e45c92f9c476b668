"""Measures the driver of a bulk job alone: what rate it keeps up with, and what share of a core that takes.

`python -m imagewizard.benchmarks.driver [--actors 32] [--rate 20000] [--blocks 1000] [--block-rows 1000]`

Ray, Ray Data, the ranges of blocks, the reports on blocks and the progress are real. The actors are stand-ins that
neither read nor write: each waits for as long as its share of the blocks takes at the rate that is offered, and reports
them as done. No file is listed, leased, compacted or summed up.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from imagewizard.bulk import pending
from imagewizard.bulk.pending import BlockRange
from imagewizard.distributed import cluster, pipeline
from imagewizard.distributed.allocation import Allocation
from imagewizard.distributed.block_readers import Reading
from imagewizard.distributed.block_report import BlockReport, reports
from imagewizard.progress import Progress
from imagewizard.runs.results import BlockFile, ResultFiles


@dataclass(frozen=True)
class Load:
    """What is asked of the driver."""

    actors: int
    rate: float
    """Images a second that all actors together would do."""
    blocks: int
    block_rows: int

    @property
    def seconds_per_block(self) -> float:
        """What a block takes its actor."""
        return self.actors * self.block_rows / self.rate


@dataclass(frozen=True)
class DriverCost:
    """What came of it, from the first report of each actor on."""

    images_per_second: float
    milliseconds_per_block: float
    """CPU time of the driver's process."""
    share_of_a_core: float


class WaitingActor(pipeline.DenoiseActor):
    """A stand-in for DenoiseActor that neither reads nor writes. It has the load in the place of a config."""

    def __init__(self, load: Load, work: pipeline.Work, reading: Reading) -> None:
        self._load = load

    def __call__(self, row: pa.Table) -> Iterator[pa.Table]:
        [block_range] = (BlockRange(**each) for each in row.to_pylist())
        for number in range(block_range.first, block_range.last):
            time.sleep(pipeline.BLOCKS_AT_ONCE * self._load.seconds_per_block)
            name = BlockFile(block_range.shard, number, 1).name
            yield BlockReport(name, self._load.block_rows, 0, self._load.seconds_per_block).packed()


def measure(load: Load) -> DriverCost:
    """Runs the chain with these actors. Ray must run."""
    ranges = pending.block_ranges([load.blocks], ResultFiles([]), set())
    work = pipeline.Work("unused", ranges, [], load.block_rows, False, 1, None, keep=False)
    allocation = Allocation(load.actors, load.actors, load.actors, 1, 0.01, 0.0, 1, 0)
    chain = pipeline.build(work, WaitingActor, load, allocation)  # type: ignore[arg-type]
    warm = pipeline.BLOCKS_AT_ONCE * load.actors
    done, began = 0, (0.0, 0.0)
    with cluster.quiet_data(), Progress(load.blocks * load.block_rows, 0, 0) as progress:
        for block in reports(chain):
            progress.add(block.rows, block.failed, block.seconds)
            done += 1
            if done == warm:
                began = time.perf_counter(), time.process_time()
            if done == load.blocks - warm:  # later some have nothing to do
                seconds, spent = time.perf_counter() - began[0], time.process_time() - began[1]
    counted = load.blocks - 2 * warm
    return DriverCost(counted * load.block_rows / seconds, 1000 * spent / counted, spent / seconds)


def main(words: list[str]) -> int:
    """Measures, prints the result and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m imagewizard.benchmarks.driver",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--actors", type=int, default=32)
    parser.add_argument("--rate", type=float, default=20_000.0, help="images a second that the actors would do")
    parser.add_argument("--blocks", type=int, default=1000)
    parser.add_argument("--block-rows", type=int, default=1000)
    load = Load(**vars(parser.parse_args(words)))
    least = 4 * pipeline.BLOCKS_AT_ONCE * load.actors
    if load.actors < 1 or load.rate <= 0 or load.blocks < least:
        parser.error(f"--blocks: {load.blocks} are too few for {load.actors} actors, give {least} at least")
    cluster.start_quietly(None)
    cost = measure(load)
    print(f"stand-ins: {load.actors} actors that wait, and neither read nor write; blocks of {load.block_rows:,}")
    print(f"offered    {load.rate:>10,.0f} images/s")
    print(f"kept up    {cost.images_per_second:>10,.0f} images/s")
    print(f"driver     {cost.milliseconds_per_block:>10.2f} ms of CPU a block, {cost.share_of_a_core:.0%} of a core")
    return 0


if __name__ == "__main__":
    # The class as other processes know it: Ray would send that of __main__ with all that it refers to.
    from imagewizard.benchmarks import driver

    sys.exit(driver.main(sys.argv[1:]))
