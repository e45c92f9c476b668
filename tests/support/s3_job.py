"""A bulk job from S3 to S3 over many images, once without faults, once with 5 % of requests refused and 1 % cut off.

`python -m tests.support.s3_job IMAGES [FOLDER]` prints the rows and the time of both.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from imagewizard.query.sql import records_of
from imagewizard.storage import Folder, s3_client
from tests.support.kill_matrix import ABOUT_THE_WORK
from tests.support.models import tiny_model
from tests.support.sample_files import write_photos

FILES = 200  # different ones, which the images share
FAULTS = ["--slow-down", "0.05", "--cut-off", "0.01"]


def run(folder: Path, images: int, port: int, faults: list[str]) -> list[dict]:
    """Serves, uploads, denoises and reads the rows back; prints the time taken and the server's counts."""
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.support.s3_faults", "--port", str(port), *faults],
        stdout=subprocess.PIPE,
        text=True,
    )
    time.sleep(5)
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    bucket = f"s3://images-{port}"
    s3_client.client().create_bucket(Bucket=bucket.removeprefix("s3://"))
    contents = [path.read_bytes() for path in sorted((folder / "in").iterdir())]

    def upload(number: int) -> None:
        Folder(bucket).write(f"in/{number % 16:x}/{number:06d}.png", contents[number % len(contents)])

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(upload, range(images)))
    started = time.monotonic()
    words = [
        f"input={bucket}/in",
        f"output={bucket}/run",
        f"model={folder}/model",
        "images.format=png",
        "images.pack=tar",
    ]
    job = subprocess.run([sys.executable, "-m", "jobs", "denoise", *words], capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    print(job.stdout[-600:] + job.stderr[-600:], flush=True)
    rows = records_of(f"{bucket}/run", "SELECT * FROM attempts ORDER BY image_id")
    print(f"{' '.join(faults) or 'no faults'}: exit {job.returncode}, {len(rows)} rows, {seconds:.0f} s", flush=True)
    server.terminate()
    print(server.communicate()[0])
    return rows


def main() -> None:
    images = int(sys.argv[1])
    folder = Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp())
    write_photos(folder / "in", FILES, 48)
    tiny_model(folder / "model", k=2)
    calm = run(folder, images, 7821, [])
    faulty = run(folder, images, 7822, FAULTS)
    counts = Counter(row["image_id"] for row in faulty)
    differ = sum(_result(one) != _result(other) for one, other in zip(calm, faulty, strict=False))
    print(f"{images - len(counts)} lost, {sum(counts.values()) - len(counts)} twice, {differ} different rows")
    print(Counter(row["status"] for row in faulty))


def _result(row: dict) -> dict:
    kept = {name: value for name, value in row.items() if name not in ABOUT_THE_WORK}
    return kept | {"output": re.sub("images-[0-9]+", "", row["output_uri"] or "")}


if __name__ == "__main__":
    main()
