"""Run folders for tests, as the bulk job writes them: rows by RESULT_SCHEMA and, if wanted, real images."""

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from PIL import Image, ImageFilter

from imagewizard.config.denoise import DenoiseConfig
from imagewizard.manifest import shards
from imagewizard.manifest.shards import ManifestIndex
from imagewizard.metrics import Reference
from imagewizard.noise import synthetic
from imagewizard.runs import results, totals
from imagewizard.runs.results import BlockFile, ShardFile
from imagewizard.schema import ERROR, OK, RESULT_SCHEMA, RESULTS_VERSION
from tests.support.sample_files import photo

STARTED = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)


def row(image_id: str, **changes: Any) -> dict[str, Any]:
    """An ok row of a run with σ = 25, with `changes`."""
    return {
        "schema_version": 1, "image_id": image_id, "uri": f"/images/{image_id}", "status": OK, "stage": None,
        "error": None, "width": 320, "height": 240, "noise_kind": "gaussian", "noise_params": '{"mean": 0.0}',
        "sigma": 25.0, "seed": 0, "timestep": 56.0, "steps": 1, "mode": "mmse", "psnr_noisy": 20.17, "psnr": 30.0,
        "ssim_noisy": 0.4, "ssim": 0.85, "sigma_estimated": None, "seconds": 0.5, "model": "f" * 16,
        "output_uri": None, "attempt": 1, "finished_at": STARTED, "notes": None, "strength": 1.0, "noise_std": None,
        "noise_found": None, "noise_gain": None,
    } | changes  # fmt: skip


def error_row(image_id: str, stage: str, error: str, **changes: Any) -> dict[str, Any]:
    """A row of an image that failed, with `changes`."""
    measured = ("width", "height", "timestep", "psnr_noisy", "psnr", "ssim_noisy", "ssim", "seconds")
    failed = {"status": ERROR, "stage": stage, "error": error} | dict.fromkeys(measured)
    return row(image_id, **(failed | changes))


def restored(image_id: str, sigma_estimated: float | None, **changes: Any) -> dict[str, Any]:
    """A row of restoration mode: no scores."""
    unknown = ("noise_kind", "sigma", "psnr_noisy", "psnr", "ssim_noisy", "ssim")
    restoration = {"noise_params": "{}", "sigma_estimated": sigma_estimated} | dict.fromkeys(unknown)
    restoration |= {"noise_std": sigma_estimated, "noise_found": "white"}
    return row(image_id, **(restoration | changes))


def write_rows(run: Path, rows: list[dict[str, Any]], shard: int = 0, block: int = 0, attempt: int = 1) -> Path:
    """Commits one result file; returns its path."""
    path = run / "results" / BlockFile(shard, block, attempt).name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=RESULT_SCHEMA), path)
    return path


def write_shard(run: Path, rows: list[dict[str, Any]], shard: int = 0, attempt: int = 1) -> Path:
    """Commits a compacted shard; returns its path."""
    path = run / "results" / ShardFile(shard, attempt).name
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows, schema=RESULT_SCHEMA)
    path.write_bytes(results.encode(table, asdict(totals.of_rows(table))))
    return path


def uncompact(run: Path) -> list[Path]:
    """Replaces the first shard's file of a finished run by its blocks' files, as a crash would leave them."""
    [whole] = (run / "results").iterdir()
    table, _ = results.read(str(run), whole.name)
    index = shards.read_index(str(run))
    assert index is not None
    paths = []
    for number, (first, last) in enumerate(shards.blocks(shards.read_shard(str(run), 0), index.block_rows)):
        ids = shards.read_shard(str(run), 0)["image_id"].slice(first, last - first)
        rows = table.filter(pc.is_in(table["image_id"], ids))
        paths.append(run / "results" / BlockFile(0, number, 1).name)
        paths[-1].write_bytes(results.encode(rows, {}))
    whole.unlink()
    return paths


def write_job(run: Path, total: int, **config: Any) -> None:
    """job.yaml, and the index of a manifest of `total` images."""
    checked = DenoiseConfig.model_validate({"input": "photos", "output": str(run)} | config)
    job = {
        "results_version": RESULTS_VERSION,
        "config": checked.model_dump(mode="json", by_alias=True),
        "model_fingerprint": "f" * 16,
        "versions": {"imagewizard": "0.1.0", "torch": "2.15"},
        "created_at": STARTED.isoformat(),
    }
    (run / "manifest").mkdir(parents=True, exist_ok=True)
    (run / "job.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")
    index = ManifestIndex(images=total, skipped=0, block_rows=64, blocks=[1])
    (run / "manifest" / "index.json").write_text(json.dumps(asdict(index)))


def write_summary(run: Path, **facts: Any) -> None:
    (run / "summary.json").write_text(json.dumps(facts))


def finished_run(
    folder: Path, images: int = 6, sigmas: tuple[float, ...] = (15.0, 25.0, 50.0), keep: bool = True, seed: int = 3
) -> Path:
    """A whole run over `images` photos under folder/photos, blurred for want of a denoiser; returns its folder.

    Scores are those of the pixels. `keep`: the denoised images are in the run, as with images.format=png.
    """
    run, photos = folder / "run", folder / "photos"
    photos.mkdir(parents=True)
    rows = []
    for number in range(images):
        clean = photo(120 + 40 * (number % 2), 160 + 40 * (number % 3), number)
        source = photos / f"photo-{number:02d}.png"
        Image.fromarray(clean).save(source)
        rows += [_denoised_row(run, source, clean, sigma, keep, seed) for sigma in sigmas]
    for number, each in enumerate(rows):
        each["finished_at"] = STARTED + timedelta(seconds=number)
    write_rows(run, rows)
    write_job(run, images, noise={"sigma": list(sigmas)}, images={"format": "png"} if keep else None, seed=seed)
    write_summary(run, ok=len(rows), error=0)
    return run


def _denoised_row(run: Path, source: Path, clean: np.ndarray, sigma: float, keep: bool, seed: int) -> dict[str, Any]:
    noisy = synthetic.Gaussian(sigma).add(clean, source.name, seed)
    seen = Image.fromarray(np.clip(noisy, 0, 255).round().astype(np.uint8))
    denoised = np.asarray(seen.filter(ImageFilter.GaussianBlur(0.6 + sigma / 40)))
    output = run / "images" / f"sigma{sigma:g}" / source.name
    if keep:
        output.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(denoised).save(output)
    reference = Reference(clean)
    return row(
        source.name, uri=str(source), sigma=sigma, seed=seed, width=clean.shape[1], height=clean.shape[0],
        psnr_noisy=reference.psnr(noisy), psnr=reference.psnr(denoised),
        ssim_noisy=reference.ssim(noisy), ssim=reference.ssim(denoised), output_uri=str(output) if keep else None,
    )  # fmt: skip
