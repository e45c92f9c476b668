"""imagewizard evaluate NOISY_DIR CLEAN_DIR: scores a restoration of real pairs."""

import argparse
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from jobs import shell

if TYPE_CHECKING:
    from imagewizard.bulk.evaluation import Summary

_EPILOG = """\
Partners have the same path below their folders, but for the suffix and for one of the endings _real, _noisy (noisy) and
_mean, _clean, _gt (clean). One folder may hold both. Nothing is written.

  imagewizard evaluate noisy clean
  imagewizard evaluate pairs pairs denoise.strength=0.8 --json > scores.json

The keys are those of `imagewizard denoise`: model, denoise.* and max_pixels.
"""


def main(argv: list[str]) -> int:
    """Restores and scores the pairs, and returns the exit code: 3 if a pair could not be scored."""
    parser = argparse.ArgumentParser(
        prog="imagewizard evaluate",
        usage="imagewizard evaluate NOISY_DIR CLEAN_DIR [key.path=value …] [--json]",
        description="Restore noisy images, and score them against their clean partners.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("noisy", metavar="NOISY_DIR", help="a folder of noisy images, local or s3://")
    parser.add_argument("clean", metavar="CLEAN_DIR", help="a folder of the same images without noise")
    parser.add_argument(
        "words", nargs="*", metavar="key=value", help="how to restore: denoise.sigma=10, model=FOLDER …"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document at the end instead of a table")
    options = parser.parse_intermixed_args(argv)
    # What takes a moment to import is not needed for --help; torch takes seconds, before which all else is checked.
    from imagewizard import config
    from imagewizard.config.evaluate import EvaluateConfig
    from imagewizard.images.decoding import quiet
    from imagewizard.manifest import pairs

    checked = config.load(EvaluateConfig, None, options.words)
    found = pairs.match(options.noisy, options.clean, ("NOISY_DIR", "CLEAN_DIR"))
    from imagewizard.bulk import evaluation

    quiet()
    evaluator = evaluation.Evaluator(checked)
    table = _Table(max(len(pair.name) for pair in found))
    if not options.json:
        table.print_head()
    scored = []
    for each in evaluator(found):
        scored.append(each)
        if not options.json:
            table.print_row(each.as_json())
    summary = evaluation.summary(scored)
    if options.json:
        given = {
            "noisy": options.noisy,
            "clean": options.clean,
            "config": checked.model_dump(mode="json", by_alias=True),
        }
        facts = asdict(summary) | {"worst": summary.worst and summary.worst.as_json()}
        print(json.dumps(given | {"pairs": [each.as_json() for each in scored]} | facts, indent=2, ensure_ascii=False))
    else:
        table.print_foot(summary)
    return shell.TOO_MANY_FAILED if summary.failed else shell.DONE


class _Table:
    """A line for each pair, printed when it is scored; means below."""

    _COLUMNS = (
        ("noisy dB", "psnr_noisy", ".2f"),
        ("restored dB", "psnr", ".2f"),
        ("gain dB", "gain", "+.2f"),
        ("SSIM noisy", "ssim_noisy", ".4f"),
        ("SSIM restored", "ssim", ".4f"),
        ("level", "level", ".1f"),
    )

    def __init__(self, longest: int) -> None:
        """`longest`: of the names, in characters."""
        self._width = min(max(longest, len("mean of 1,000")), 60)

    def print_head(self) -> None:
        print(" " * self._width, *(title for title, _, _ in self._COLUMNS), sep="  ", flush=True)

    def print_row(self, row: dict[str, Any]) -> None:
        name = row["name"].ljust(self._width)
        if row.get("error"):
            print(name, f"failed: {row['error']}", sep="  ", flush=True)
            return
        cells = [
            ("–" if row[key] is None else format(row[key], form)).rjust(len(title))
            for title, key, form in self._COLUMNS
        ]
        print(name, *cells, sep="  ", flush=True)

    def print_foot(self, summary: "Summary") -> None:
        if summary.worst is not None:
            self.print_row({"name": f"mean of {summary.scored:,}", "level": None} | summary.means)
            print(f"worst gain: {summary.worst.gain:+.2f} dB, {summary.worst.name}")
        if summary.failed:
            print(f"{summary.failed:,} of {summary.scored + summary.failed:,} pairs could not be scored")


if __name__ == "__main__":
    sys.exit(shell.run(main, sys.argv[1:]))
