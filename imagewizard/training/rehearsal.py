"""A dry run: finds in the images what a training would find before its first step, and writes nothing into the run."""

import itertools
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from imagewizard.config.train import TrainImage
from imagewizard.errors import UserError
from imagewizard.progress import Reporter
from imagewizard.training import image_store
from imagewizard.training import images as run_images
from imagewizard.training.job import EXAMPLES, TrainingPlan


def rehearse(plan: TrainingPlan, report: Reporter) -> None:
    """Lists all images, and reads those that the run would read first: see `_read`.

    `report` receives how many there are and which cannot be used. Raises UserError as the run would.
    """
    config = plan.config
    with tempfile.TemporaryDirectory(prefix="imagewizard-") as scratch:
        run = config.output if run_images.is_listed(config) else scratch
        run_images.write_list(run, config, report=report)
        images = run_images.training(run, config)
    validation = run_images.validation(config, images)
    report(f"images   {images.num_rows} to train on, {len(validation)} to validate with")
    smallest = config.data.crop if config.data.small == "skip" else 0
    _read(run_images.as_list(images), None, smallest, run_images.fits_in_memory(config, images), report)
    for key, found in itertools.groupby(validation, lambda image: image.validation_key):
        _read(list(found), key, 0, True, report)


def _read(images: list[TrainImage], key: str | None, smallest: int, all_of_them: bool, report: Reporter) -> None:
    """Reads all images, or as many as it takes to find one that can be used: a run that streams them begins with it.

    `key`: None for training images, which know theirs.
    """
    reasons, usable = [], 0
    for image, fault in zip(images, _faults(images, key, smallest, all_of_them), strict=False):
        if fault is not None:
            reasons.append(f"{image.image_id}: {fault}")
            continue
        usable += 1
        if not all_of_them:
            break
    for reason in reasons[:EXAMPLES]:
        report(f"not used: {reason}")
    if len(reasons) > EXAMPLES:
        report(f"not used: {len(reasons) - EXAMPLES} images more")
    if not usable:
        raise UserError(f"{reasons[0]}, and no other can be used either", "give clean images", key or images[0].key)


def _faults(images: list[TrainImage], key: str | None, smallest: int, all_of_them: bool) -> Iterator[str | None]:
    """Why each image cannot be used, None if it can."""

    def fault(image: TrainImage) -> str | None:
        found = image_store.load(image, key or image.key, smallest)
        return found if isinstance(found, str) else None

    if not all_of_them:
        yield from map(fault, images)
        return
    with ThreadPoolExecutor(image_store.READ_THREADS) as pool:
        yield from pool.map(fault, images)
