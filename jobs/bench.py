"""imagewizard bench: the pipeline's rate beside the bare model's and a plain loop's; or what the system costs."""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from imagewizard import standard_streams
from imagewizard.errors import UserError
from jobs import shell

_EPILOG = """\
It measures, in one run of at most 5 minutes: a whole bulk job over 2,000 JPEGs on disk, the bare model on the same
cores, the loop that people write (Pillow, one image at a time, one step and 50 DDIM steps, scikit-image), what the
hardware's matrix products would allow, and the CPU time of each stage. If the model is too slow for that, the images
are smaller, or fewer, and the table says so. Progress goes to stderr.

  imagewizard bench --price 3.5
  imagewizard bench --device-ms 4 --json     the pipeline beside a device of 250 images a second
  imagewizard bench --scale 10000,100000
"""

# What an error calls a key, and what the user typed.
_OPTIONS = {
    "input": "--images",
    "model": "--model",
    "noise.sigma.0": "--sigma",
    "resources.actors": "--actors",
    "sigma": "--sigma",
}


def main(argv: list[str]) -> int:
    """Measures, prints the table or the JSON object, and returns the exit code."""
    started = time.monotonic()
    options = _parser().parse_args(argv)
    _check(options)
    standard_streams.go_on_unread()
    if options.scale is not None:
        return _scale(options.scale)
    # After parsing, because importing Ray takes seconds.
    from imagewizard.benchmarks import throughput, throughput_text
    from imagewizard.benchmarks.rates import Request
    from imagewizard.distributed import cluster

    request = Request(
        folder=options.images,
        count=options.count,
        size=options.size,
        sigma=options.sigma or 25.0,
        model=options.model or "embedded",
        device_ms=options.device_ms,
        actors=options.actors,
    )
    try:
        with tempfile.TemporaryDirectory() as scratch:
            found = throughput.measure(request, Path(scratch), started, cluster.start_quietly, _tell)
    except UserError as error:
        raise error.at(_OPTIONS.get(error.key or "", error.key or "")) from None
    if options.json:
        print(json.dumps(throughput_text.as_json(found, options.price), indent=2, ensure_ascii=False))
    else:
        print(throughput_text.table(found, options.price))
    return shell.DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="imagewizard bench",
        description="Images a second: the bulk job, the bare model on the same cores, a plain loop, the roofline.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--images", metavar="FOLDER", help="local images to use (default: crops of scikit-image's photographs)")
    add("--count", type=_whole("--count", 1), metavar="N", help="number of images (2000 crops, or all of FOLDER)")
    add("--size", type=_whole("--size", 16, 300), metavar="N", help="side of the crops in pixels (256, or what fits)")
    add("--sigma", type=_positive("--sigma"), metavar="X", help="noise level, 0-255 scale (25)")
    add("--model", metavar="MODEL", help="embedded, a model folder, or a hub id (embedded)")
    add("--actors", type=_whole("--actors", 1), metavar="N", help="model actors (one a GPU or core; --device-ms: 1)")
    add(
        "--device-ms",
        type=_positive("--device-ms"),
        metavar="X",
        help="put a stand-in in the model's place that sleeps X ms over each image; no plain loop, no roofline",
    )
    add("--price", type=_positive("--price"), metavar="P", help="of an hour of this machine: prints a million's cost")
    add("--json", action="store_true", default=None, help="print one JSON object instead of the table")
    add("--scale", metavar="N,N,…", help="instead: what the system costs for so many tiny images, without a model")
    return parser


def _whole(option: str, least: int, most: int | None = None) -> Callable[[str], int]:
    """Reads the value of an option: a whole number from `least` to `most`."""

    def read(text: str) -> int:
        value = int(text) if text.isascii() and text.isdigit() else None
        if value is None or value < least or (most is not None and value > most):
            bounds = f"from {least} to {most}" if most else f"from {least} on"
            raise UserError(f"is {text or 'empty'}", f"give a whole number {bounds}", option)
        return value

    return read


def _positive(option: str) -> Callable[[str], float]:
    """Reads the value of an option: a number greater than 0."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise UserError(f"is {text or 'empty'}", "give a number greater than 0", option)
        return value

    return read


def _check(options: argparse.Namespace) -> None:
    """Raises UserError for options that do not go together."""
    given = [f"--{name.replace('_', '-')}" for name, value in vars(options).items() if value is not None]
    if "--scale" in given and len(given) > 1:
        other = next(option for option in given if option != "--scale")
        raise UserError("does not go with --scale", "leave out one of them", other)
    if options.size is not None and options.images is not None:
        raise UserError("is that of the crops, which --images replaces", "leave out one of them", "--size")


def _tell(text: str) -> None:
    """The reporter: stdout is for the results."""
    print(text, file=sys.stderr, flush=True)


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


if __name__ == "__main__":
    sys.exit(shell.run(main, sys.argv[1:]))
