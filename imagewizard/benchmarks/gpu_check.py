"""Measures a GPU with both networks, without Ray: `python -m imagewizard.benchmarks.gpu_check`.

It needs torch, diffusers, numpy, Pillow, pyarrow, safetensors, pydantic and PyYAML; the recipe also torchvision.
Options:

--minutes M     total time, imports included (default 4; on an H100 the recipe needs 7, the compiled networks 9); steps
                that do not fit are shown as `not run`
--bsds500 DIR   BSDS500's images in train/, val/ and test/, for the published fine-tuning recipe
--vgg19 FILE    weights of torchvision's vgg19 up to relu3_1, for the recipe's perceptual loss
--out FILE      a JSON file, rewritten after each step

The steps run in a fixed order, the slow ones last. An error ends the check: results so far are written, and the exit
code is 1. Without a GPU, the same steps but the recipe run on small images.
"""

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imagewizard.benchmarks.step import Step
from imagewizard.config.train import PerceptualSection
from imagewizard.errors import UserError
from imagewizard.training import vgg19
from imagewizard.training.budget import process_started

# Time reserved at the end for writing the table.
MARGIN_SECONDS = 3.0


@dataclass
class Results:
    """Results so far, in the order of the steps."""

    out: Path | None
    found: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, values: dict[str, Any]) -> None:
        """Prints the values of a step and rewrites the file."""
        self.found[name] = values
        for key, value in values.items():
            print(f"{name:<22} {key:<28} {_text(value)}", flush=True)
        if self.out is not None:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self.out.write_text(json.dumps(self.found, indent=1) + "\n")


def _text(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(_text, value))
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def run_all(steps: list[Step], results: Results, deadline: float, clock: Callable[[], float] = time.time) -> bool:
    """Runs the steps that fit before `deadline` (a time of `clock`). Returns False if a step failed, which ends it."""
    failed = None
    for step in steps:
        if reason := f"{failed} failed" if failed else _why_not(step, deadline - MARGIN_SECONDS - clock()):
            results.add(step.name, {"not run": reason})
            continue
        started = clock()
        try:
            values = step.run()
        except Exception:  # any error: the results so far must be kept
            results.add(step.name, {"failed": traceback.format_exc(limit=-3)})
            failed = step.name
        else:
            results.add(step.name, values | {"seconds": round(clock() - started, 1)})
    return failed is None


def _why_not(step: Step, left: float) -> str:
    """Why a step cannot run in the `left` seconds; empty if it can."""
    wanted = step.seconds()
    if isinstance(wanted, str):
        return wanted
    return f"takes about {wanted:.0f} s, {max(0.0, left):.0f} s are left" if wanted > left else ""


def main(words: list[str]) -> int:
    """Runs the check and returns the exit code: 1 if a step failed, else 0."""
    parser = argparse.ArgumentParser(
        prog="python -m imagewizard.benchmarks.gpu_check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--bsds500", type=Path)
    parser.add_argument("--vgg19")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(words)
    if (options.bsds500 is None) != (options.vgg19 is None):
        parser.error("--bsds500 and --vgg19 go together")
    if options.bsds500:
        for split in ("train", "val", "test"):
            if not (options.bsds500 / split).is_dir():
                parser.error(
                    f"--bsds500: {options.bsds500} has no folder {split}; give one with train/, val/ and test/"
                )
        try:
            vgg19.check(options.vgg19, PerceptualSection().layers)
        except UserError as error:
            parser.error(f"--vgg19: {error.what}; {error.fix}")
    from imagewizard.benchmarks import gpu_steps  # imports torch, too slow for --help

    deadline = process_started() + 60.0 * options.minutes
    steps = gpu_steps.steps(options.bsds500, options.vgg19)
    done = run_all(steps, Results(options.out), deadline)
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
