"""imagewizard demo: the bulk job on photographs that come with scikit-image, from nothing to a page to look at."""

import shutil
import sys
from importlib import resources
from pathlib import Path

from imagewizard import config
from imagewizard.config.denoise import DenoiseConfig
from imagewizard.distributed import denoise_job
from imagewizard.errors import UserError
from imagewizard.report import run as run_report
from imagewizard.runs import summary
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


def main(argv: list[str]) -> int:
    """Runs the demo afresh and returns its exit code."""
    path, overrides, dry_run = parse(
        argv,
        prog="imagewizard demo",
        description="Add noise to scikit-image's colour photographs, denoise and score them, and write a page.",
        example="imagewizard demo noise.sigma=50",
    )
    job = config.load(DenoiseConfig, path, [f"input={_photos()}", "output=runs/demo", "images.format=png", *overrides])
    if not dry_run:
        _clear(Path(job.output))
    plan = denoise_job.prepare(job)
    print(plan, flush=True)
    if dry_run:
        return shell.DONE
    totals = denoise_job.execute(plan)
    _print_table(job.output)
    page = run_report.write_report(job.output)
    print(f"\n{totals['session']['rows_per_second']:.2f} images/s, start-up included")
    print(f"rows    {job.output}/results   (imagewizard query {job.output} summary)")
    print(f"images  {job.output}/images")
    print(f"page    {page}")
    return shell.DONE if totals["failed"] == 0 else shell.BROKE


def _photos() -> list[str]:
    folder = Path(str(resources.files("skimage"))) / "data"
    return [str(folder / name) for name in PHOTOS]


def _clear(output: Path) -> None:
    """The demo starts afresh each time, but deletes nothing that is no run."""
    if not output.exists():
        return
    if any(output.iterdir()) and not (output / "job.yaml").is_file():
        raise UserError(f"output: {output} holds other files and no run; give an empty or a new folder")
    shutil.rmtree(output)


def _print_table(run: str) -> None:
    rows = summary.records(run, "SELECT * FROM results ORDER BY image_id")
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
