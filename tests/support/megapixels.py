"""Measures the memory of a bulk job over images of 1 to 100 megapixels, next to what its plan allows.

`python -m tests.support.megapixels FOLDER [key=value …]` prints both, and the peak of each kind of process. With
noise=null the images are restored: they have a camera's noise, which is taken off at two scales.
"""

import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

from imagewizard.noise.camera import Development
from tests.support.kill_points.sitecustomize import command, descendants
from tests.support.models import tiny_model
from tests.support.sample_files import photo

MEGAPIXELS = (1, 2, 5, 10, 20, 50, 100, 1, 1, 3, 8, 100, 12, 24, 1, 1, 1, 40)
KINDS = ("read_block", "DenoiseActor", "raylet/raylet", "jobs denoise")
SAMPLE_SECONDS = 0.2


def write_images(folder: Path) -> None:
    """Writes images that repeat a photograph of one megapixel."""
    folder.mkdir(parents=True)
    megapixel = Development(gain=64).expose(photo(1000, 1000, 0), np.random.default_rng(0)).astype(np.uint8)
    for number, size in enumerate(MEGAPIXELS):
        rows = max(1, round(size**0.5))
        tiled = np.tile(megapixel, (rows, max(1, round(size / rows)), 1))
        Image.fromarray(tiled).save(folder / f"{number:02d}-{size}mp.jpg", quality=90)


def memory(pid: int) -> tuple[int, int]:
    """(private bytes, shared bytes) of a process; zeros once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0, 0
    found = {line.split()[0]: 1024 * int(line.split()[1]) for line in lines[1:]}
    return found["Pss_Anon:"], found["Pss_Shmem:"]


def main() -> None:
    folder = Path(sys.argv[1])
    write_images(folder / "in")
    tiny_model(folder / "model", k=2)
    words = [f"input={folder}/in", f"output={folder}/run", f"model={folder}/model", "images.format=png", *sys.argv[2:]]
    started = time.monotonic()
    job = subprocess.Popen(
        [sys.executable, "-m", "jobs", "denoise", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    peaks: dict[str, int] = defaultdict(int)
    while job.poll() is None:
        time.sleep(SAMPLE_SECONDS)
        shared = 0
        for pid in [job.pid, *descendants(job.pid)]:
            own, shm = memory(pid)
            shared += shm
            kind = next((kind for kind in KINDS if kind in command(pid)), None)
            if kind is not None:
                peaks[kind] = max(peaks[kind], own)
        peaks["shared memory"] = max(peaks["shared memory"], shared)
    print(job.communicate()[0])
    took = f"{len(MEGAPIXELS)} images, {sum(MEGAPIXELS)} megapixels, {time.monotonic() - started:.0f} s"
    print(f"exit {job.returncode}, {took}")
    for kind, peak in sorted(peaks.items()):
        print(f"{kind:<16} {peak / 1e6:8,.0f} MB at most in one of them")


if __name__ == "__main__":
    main()
