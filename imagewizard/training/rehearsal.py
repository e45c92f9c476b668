"""A dry run: finds in the images what a training would find before its first step, and writes nothing into the run."""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from imagewizard.errors import UserError, keyed
from imagewizard.manifest import shards
from imagewizard.progress import Reporter
from imagewizard.schema import IMAGE_ID, URI
from imagewizard.training import image_store, job
from imagewizard.training.job import EXAMPLES, TrainingPlan


def rehearse(plan: TrainingPlan, report: Reporter) -> None:
    """Lists all images, and reads those that the run would read first: see `_read`.

    `report` receives how many there are and which cannot be used. Raises UserError as the run would.
    """
    config = plan.config
    run, index = config.output, shards.read_index(config.output)
    with tempfile.TemporaryDirectory(prefix="imagewizard-") as scratch:
        if index is None:
            with keyed("data.train"):
                run, index = scratch, shards.write(scratch, config.data.train, None, report=report)
        images = job.training_images(run, index, config)
    validation = job.validation_images(config, images)
    report(f"images   {images.num_rows} to train on, {validation.num_rows} to validate with")
    smallest = config.data.crop if config.data.small == "skip" else 0
    _read(images, "data.train", smallest, job.fits_in_memory(config, images), report)
    _read(validation, "data.validation", 0, True, report)


def _read(images: pa.Table, key: str, smallest: int, all_of_them: bool, report: Reporter) -> None:
    """Reads all images, or as many as it takes to find one that can be used: a run that streams them begins with it."""
    named = list(zip(images[IMAGE_ID].to_pylist(), images[URI].to_pylist(), strict=True))
    reasons, usable = [], 0
    for (image_id, _), fault in zip(named, _faults(named, key, smallest, all_of_them), strict=False):
        if fault is not None:
            reasons.append(f"{image_id}: {fault}")
            continue
        usable += 1
        if not all_of_them:
            break
    for reason in reasons[:EXAMPLES]:
        report(f"not used: {reason}")
    if len(reasons) > EXAMPLES:
        report(f"not used: {len(reasons) - EXAMPLES} images more")
    if not usable:
        raise UserError(f"{reasons[0]}, and no other can be used either", "give clean images", key)


def _faults(named: list[tuple[str, str]], key: str, smallest: int, all_of_them: bool) -> Iterator[str | None]:
    """Why each image cannot be used, None if it can."""

    def fault(image: tuple[str, str]) -> str | None:
        found = image_store.load(image, key=key, smallest=smallest)
        return found if isinstance(found, str) else None

    if not all_of_them:
        yield from map(fault, named)
        return
    with ThreadPoolExecutor(image_store.READ_THREADS) as pool:
        yield from pool.map(fault, named)
