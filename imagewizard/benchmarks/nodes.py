"""Throughput of a bulk job on clusters of one, two and three nodes: `python -m imagewizard.benchmarks.nodes 1 2 3`.

The nodes are those of cluster/local.py, on this machine, with one CPU each. The model is a sleep, so that the cores of
the machine are not the limit; manifest, reading, decoding, scoring, writing and Ray are real.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from imagewizard.benchmarks import scale
from imagewizard.bulk.block import Block
from imagewizard.config.denoise import ActorConfig, DenoiseConfig
from imagewizard.distributed import cluster, denoise_job, pipeline
from imagewizard.progress import Printer
from imagewizard.query.sql import records_of

LOCAL_CLUSTER = Path(__file__).resolve().parents[2] / "cluster" / "local.py"

# For each node; so each cluster takes the same time.
IMAGES = 600
SECONDS_PER_IMAGE = 0.1
BLOCK_IMAGES = 10

# The part of a job's blocks that is measured. Before it actors start, one after the other; after it some have no work.
MIDDLE = (0.25, 0.9)


def sleeping(seconds: float) -> type[pipeline.DenoiseActor]:
    """A DenoiseActor that sleeps for so long over each image, and does all but the network's work."""

    class SleepingActor(pipeline.DenoiseActor):
        def load(self, config: ActorConfig) -> Callable[[Block], Block]:
            return partial(_sleep, config, seconds, threading.Lock())

    return SleepingActor


def _sleep(config: ActorConfig, seconds: float, device: threading.Lock, block: Block) -> Block:
    with device:  # one for all blocks of the actor
        time.sleep(seconds * len(block.images))
    return scale.denoise_nothing(config, block)


def write_images(folder: Path, count: int) -> str:
    """`count` small images in a new folder; all are links to one file."""
    folder.mkdir()
    first = folder / "000000.png"
    Image.fromarray(np.zeros((scale.SIDE, scale.SIDE, 3), np.uint8)).save(first)
    for number in range(1, count):
        (folder / f"{number:06d}.png").hardlink_to(first)
    return str(folder)


def measure(nodes: int, images: int, seconds: float, address: str) -> float:
    """Images a second of a job on a running cluster of so many nodes, in its middle part, where all actors work.

    images: for each node. address: of the cluster's GCS.
    """
    with tempfile.TemporaryDirectory() as scratch:
        config = DenoiseConfig.model_validate(
            {
                "input": write_images(Path(scratch) / "in", nodes * images),
                "output": f"{scratch}/run",
                "resources": {"block_rows": BLOCK_IMAGES, "address": address},
            }
        )
        denoise_job.execute(denoise_job.prepare(config), Printer(), cluster.start_quietly, sleeping(seconds))
        # The images of a block end together, and are neighbours by name.
        blocks = f"CAST(left(image_id, 6) AS INTEGER) // {BLOCK_IMAGES}"
        ends = records_of(
            config.output, f"SELECT max(finished_at) AS time FROM attempts GROUP BY {blocks} ORDER BY time"
        )
    first, last = (round(share * (len(ends) - 1)) for share in MIDDLE)
    times = [(end["time"] - ends[0]["time"]).total_seconds() for end in ends[first : last + 1]]
    # The slope of a line through all, because blocks of several actors may end at once.
    return BLOCK_IMAGES * float(np.polyfit(times, range(len(times)), 1)[0])


@contextmanager
def local_cluster(nodes: int) -> Iterator[tuple[str, dict[str, str]]]:
    """Runs cluster/local.py; its GCS address, and the variables that its users export."""
    process = subprocess.Popen(  # noqa: S603 - a command of ours
        [sys.executable, LOCAL_CLUSTER, str(nodes)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    exports: dict[str, str] = {}
    address = ""
    try:
        for line in process.stdout:
            if line.startswith("# GCS address"):
                address = line.split()[-1]
            if found := re.fullmatch("export ([A-Z_]+)=(.*)\n", line):
                exports[found[1]] = found[2]
            if "RAY_API_SERVER_ADDRESS" in exports:
                break
        yield address, exports
    finally:
        process.terminate()
        process.wait()


def report(rates: dict[int, float], seconds: float) -> None:
    """Prints the table of {number of nodes: images a second}. The efficiency compares each with the first."""
    first = next(iter(rates))
    for nodes, rate in rates.items():
        name, ideal = f"{nodes} node{'s' if nodes > 1 else ''} of 1 CPU:", nodes / seconds
        efficiency = rate / nodes / (rates[first] / first)
        print(
            f"{name:<17} {rate:7.2f} images/s, scaling efficiency {efficiency:.3f}, "
            f"{rate / ideal:.3f} of the {ideal:g} images/s that the sleep alone allows"
        )


def main(argv: list[str]) -> int:
    """Measures each number of nodes in a process of its own, prints the table and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m imagewizard.benchmarks.nodes", description=__doc__)
    parser.add_argument("nodes", type=int, nargs="*", default=[1, 2, 3], help="numbers of nodes (1 2 3)")
    parser.add_argument("--images", type=int, default=IMAGES, help=f"for each node ({IMAGES})")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS_PER_IMAGE, help=f"sleep for each image ({SECONDS_PER_IMAGE})"
    )
    parser.add_argument("--address", help="measure on this cluster, which has so many nodes, and print the rate alone")
    options = parser.parse_args(argv)
    if options.address:
        print(measure(options.nodes[0], options.images, options.seconds, options.address))
        return 0
    rates = {}
    for nodes in options.nodes:
        with local_cluster(nodes) as (address, exports):
            words = [str(nodes), f"--images={options.images}", f"--seconds={options.seconds}", f"--address={address}"]
            command = [sys.executable, "-m", "imagewizard.benchmarks.nodes", *words]
            printed = subprocess.run(  # noqa: S603 - a command of ours
                command, env=os.environ | exports, stdout=subprocess.PIPE, text=True, check=True
            )
        rates[nodes] = float(printed.stdout.splitlines()[-1])
    report(rates, options.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
