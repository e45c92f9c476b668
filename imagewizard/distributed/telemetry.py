"""What a driver tells Ray's metrics endpoints, for Prometheus and Ray's dashboard (docs/monitoring.md)."""

import urllib.parse
from types import TracebackType
from typing import Self

from ray.util.metrics import Counter, Gauge

from imagewizard import storage
from imagewizard.runs.job import Kind

# {name: (what it is, kinds of runs that have it, meaning)}. Ray puts `ray_` before a name, `_total` behind a counter's.
METRICS = {
    "imagewizard_images_per_second": (Gauge, ("denoise", "train"), "images a second, over the last minute or log line"),
    "imagewizard_rows": (Counter, ("denoise",), "rows that this driver has committed, failed ones among them"),
    "imagewizard_failed_rows": (Counter, ("denoise",), "rows of images that could not be read, denoised or written"),
    "imagewizard_pending_rows": (Gauge, ("denoise",), "rows of the run that are still to come"),
    "imagewizard_step": (Gauge, ("train",), "steps that are done"),
    "imagewizard_pending_steps": (Gauge, ("train",), "steps that are still to come"),
    "imagewizard_loss": (Gauge, ("train",), "the loss of the last log line"),
    "imagewizard_worker_failures": (Counter, ("train",), "fits that ended with the death of a worker"),
}


class Telemetry:
    """The metrics of a run while it is worked on; a context, after which its rate is 0. Ray must be running.

    They are tagged with the run's address, which holds no credentials: no store takes any in one.
    """

    def __init__(self, run: str, kind: Kind) -> None:
        tags = {"run": _ascii(storage.absolute(run)), "kind": kind}
        self._metrics = {
            name: metric(name, meaning, tuple(tags)).set_default_tags(tags)
            for name, (metric, kinds, meaning) in METRICS.items()
            if kind in kinds
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.set(images_per_second=0.0)

    def set(self, **values: float | None) -> None:
        """Sets gauges, by their names without `imagewizard_`; one whose value is not known stays as it is."""
        for name, value in values.items():
            self._metrics[f"imagewizard_{name}"].set(value)

    def count(self, **numbers: int) -> None:
        """Adds to counters, by their names without `imagewizard_`."""
        for name, number in numbers.items():
            if number:
                self._metrics[f"imagewizard_{name}"].inc(number)


def _ascii(address: str) -> str:
    """The address with all but ASCII as in a URL (é: %C3%A9). Ray takes nothing else, and fails where a tag is used."""
    return "".join(each if each.isascii() else urllib.parse.quote(each, errors="surrogateescape") for each in address)
