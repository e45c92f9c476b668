"""imagewizard demo: the bulk job on photographs that come with scikit-image, from nothing to a page to look at."""

import shutil
import sys
from importlib import resources
from pathlib import Path

from imagewizard import config, standard_streams, storage
from imagewizard.config.denoise import DenoiseConfig
from imagewizard.errors import UserError
from imagewizard.progress import Printer
from imagewizard.query.sql import records_of
from imagewizard.report import run as run_report
from imagewizard.runs import job as run_job
from imagewizard.storage.lease import LOCK, Lease
from jobs import shell
from jobs.shell import parse

PHOTOS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "rocket.jpg",
)

JOB = "job.yaml"
# What a demo leaves in its folder, beside the lock file, which stays.
RUN_ENTRIES = {JOB, "_tmp", "manifest", "results", "images", "summary.json", "report.html"}


def main(argv: list[str]) -> int:
    """Runs the demo afresh and returns its exit code."""
    path, overrides, dry_run = parse(
        argv,
        prog="imagewizard demo",
        description="Add noise to scikit-image's colour photographs, denoise and score them, and write a page.",
        example="imagewizard demo noise.sigma=50",
    )
    standard_streams.go_on_unread()
    job = config.load(DenoiseConfig, path, [f"input={photos()}", "output=runs/demo", "images.format=png", *overrides])
    if not dry_run:
        clear(job.output)
    # Importing Ray takes seconds: the config is checked before.
    from imagewizard.distributed import cluster, denoise_job

    plan = denoise_job.prepare(job)
    print(plan, flush=True)
    if dry_run:
        return shell.DONE
    totals = denoise_job.execute(plan, Printer(), cluster.start_quietly)
    _print_table(job.output)
    page = run_report.write_report(job.output)
    print(f"\n{totals['session']['rows_per_second']:.2f} images/s, start-up included")
    print(f"rows    {job.output}/results   (imagewizard query {job.output} summary)")
    print(f"images  {job.output}/images")
    print(f"page    {page}")
    return shell.DONE if totals["failed"] == 0 else shell.BROKE


def photos() -> list[str]:
    """The paths of scikit-image's colour photographs: the input of the demo."""
    folder = Path(str(resources.files("skimage"))) / "data"
    return [str(folder / name) for name in PHOTOS]


def clear(output: str) -> None:
    """Deletes the run of an earlier demo, so that the demo starts afresh; holds the run's lease meanwhile.

    Raises UserError if the folder holds a run that no demo made, or anything else beside the demo's run;
    RunLockedError if another driver holds the run. A run on S3 is left as it is.
    """
    folder = storage.local_path(output)
    if folder is None or run_job.read_job(output) is None:
        return
    _check_made_here(output, folder)
    with Lease(output):
        _check_made_here(output, folder)  # another driver may have come and gone before the lease was ours
        entries = [entry for entry in folder.iterdir() if entry.name in RUN_ENTRIES]
        for entry in sorted(entries, key=lambda entry: entry.name == JOB):  # last: it says what the rest is
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def _check_made_here(output: str, folder: Path) -> None:
    """Raises UserError unless the folder is a demo's run and nothing else."""
    fix = "give an empty or a new folder"
    stored = run_job.read_job(output) or {}
    if stored.get("kind") != "denoise" or stored["config"].get("input") != photos():
        raise UserError(f"{output} holds a run that the demo did not make", fix, "output")
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith(LOCK))
    if others := [name for name in names if name not in RUN_ENTRIES]:
        raise UserError(f"{output} holds {others[0]}, which the demo did not make", fix, "output")


def _print_table(run: str) -> None:
    rows = records_of(run, "SELECT * FROM results ORDER BY image_id")
    print(f"\n{'image':<24} {'size':>9}   {'PSNR noisy → denoised':>23}   {'SSIM noisy → denoised':>21}")
    for row in rows:
        print(_line(row["image_id"], f"{row['width']}x{row['height']}", row))
    columns = ("psnr_noisy", "psnr", "ssim_noisy", "ssim")
    print(_line("mean", "", {name: sum(row[name] for row in rows) / len(rows) for name in columns}))


def _line(name: str, size: str, row: dict[str, float]) -> str:
    psnr = f"{row['psnr_noisy']:.2f} → {row['psnr']:.2f} dB"
    ssim = f"{row['ssim_noisy']:.4f} → {row['ssim']:.4f}"
    return f"{name:<24} {size:>9}   {psnr:>23}   {ssim:>21}"


if __name__ == "__main__":
    sys.exit(shell.run(main, sys.argv[1:]))
