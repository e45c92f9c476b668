"""imagewizard bench: the pipeline's rate beside the bare model's and a plain loop's; or what the system costs."""

import argparse
import sys
import tempfile
from dataclasses import fields
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image

from imagewizard import standard_streams
from imagewizard.errors import UserError
from imagewizard.progress import Printer
from jobs import shell

PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")


def main(argv: list[str]) -> int:
    """Measures, prints the table and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="imagewizard bench",
        description="Images a second: the bulk pipeline, the bare model on the same cores, and a plain loop.",
    )
    parser.add_argument(
        "--images", metavar="FOLDER", help="images to use; default: crops of scikit-image's photographs"
    )
    parser.add_argument("--count", type=int, default=256, help="number of default crops (256)")
    parser.add_argument("--size", type=int, default=256, help="side of the default crops in pixels (256)")
    parser.add_argument("--sigma", type=float, default=25.0, help="noise level, 0-255 scale (25)")
    parser.add_argument("--model", default="embedded", help="embedded, or a model folder")
    parser.add_argument(
        "--scale", metavar="N,N,…", help="instead: what the system costs for so many tiny images, with a stand-in model"
    )
    arguments = parser.parse_args(argv)
    standard_streams.go_on_unread()
    if arguments.scale is not None:
        return _scale(arguments.scale)
    # After parsing, because importing Ray and torch takes seconds.
    from imagewizard.benchmarks import throughput
    from imagewizard.distributed import cluster

    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.images or _write_crops(Path(scratch), arguments.count, arguments.size)
        rates = throughput.measure(folder, arguments.sigma, arguments.model, Printer(), cluster.start_quietly)
    print(f"pipeline      {rates.pipeline:8.2f} images/s   ({rates.pipeline_with_start:.2f} with start-up)")
    print(f"bare model    {rates.bare:8.2f} images/s   pipeline / bare model = {rates.pipeline / rates.bare:.2f}")
    print(f"plain loop    {rates.plain:8.2f} images/s   pipeline / plain loop = {rates.pipeline / rates.plain:.2f}")
    return shell.DONE


def _scale(sizes: str) -> int:
    if not all(size.strip().isdigit() and int(size) for size in sizes.split(",")):
        raise UserError(f"{sizes} is no list of numbers", "give one or more, as 10000,100000", "--scale")
    from imagewizard.benchmarks import scale
    from imagewizard.distributed import cluster

    costs = []
    for size in sizes.split(","):
        with tempfile.TemporaryDirectory() as scratch:
            costs.append(scale.measure(int(size), Path(scratch), cluster.start_quietly))
    for field in fields(scale.Cost):
        values = (getattr(cost, field.name) for cost in costs)
        cells = (f"{value:>12,.2f}" if isinstance(value, float) else f"{value:>12,}" for value in values)
        print(f"{field.name:<24}{''.join(cells)}")
    return shell.DONE


def _write_crops(folder: Path, count: int, size: int) -> str:
    """`count` JPEG crops of `size` x `size`, from photographs that come with scikit-image."""
    photos = [np.asarray(Image.open(str(resources.files("skimage") / "data" / name)).convert("RGB")) for name in PHOTOS]
    rng = np.random.default_rng(0)
    for index in range(count):
        photo = photos[index % len(photos)]
        top, left = (int(rng.integers(side - size + 1)) for side in photo.shape[:2])
        crop = Image.fromarray(photo[top : top + size, left : left + size])
        crop.save(folder / f"{index:05d}.jpg", quality=95)
    return str(folder)


if __name__ == "__main__":
    sys.exit(shell.run(main, sys.argv[1:]))
