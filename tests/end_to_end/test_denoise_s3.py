"""The bulk job from S3 to S3 through the commands, on a server that sometimes fails."""

import io
import json
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from imagewizard import storage
from imagewizard.query.sql import records_of
from imagewizard.sources import reading, tar
from imagewizard.storage import Folder
from jobs import denoise, manifest, shell, status
from tests.support.models import tiny_model
from tests.support.s3_faults import FaultyS3
from tests.support.sample_files import encoded, photo

pytestmark = pytest.mark.usefixtures("ray_cluster")


@dataclass
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


class Commands:
    """Runs commands in this process, which has joined a Ray whose workers know the server."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, name: str, *words: str) -> Done:
        main = {"denoise": denoise.main, "manifest": manifest.main, "status": status.main}[name]
        return Done(shell.run(main, list(words)), *self._capsys.readouterr())


@pytest.fixture
def imagewizard(capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(capsys)


def png(seed: int, side: int = 24) -> bytes:
    return encoded(Image.fromarray(photo(side, side, seed)), "PNG")


def put(uri: str, data: bytes) -> str:
    folder, _, name = uri.rpartition("/")
    Folder(folder).write(name, data)
    return uri


def test_denoise_from_faulty_s3_to_faulty_s3(
    faulty_s3: FaultyS3, imagewizard: Commands, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("model")
    bucket = faulty_s3.bucket
    for seed in range(12):
        put(f"{bucket}/in/d{seed % 3}/{seed:02d}.png", png(seed))
    put(f"{bucket}/in/secret/x.png", png(0))
    put(f"{bucket}/in/cut.png", png(0)[:300])
    put(f"{bucket}/in/shard.tar", tar.pack([(f"{seed}.png", png(seed)) for seed in range(12, 16)]))
    for file in tiny_model(folder, k=2).iterdir():
        put(f"{bucket}/model/{file.name}", file.read_bytes())
    faulty_s3.slow_down, faulty_s3.cut_off, faulty_s3.denied = 0.05, 0.01, "secret"
    # As some servers that are not AWS's.
    faulty_s3.refused, faulty_s3.ignored = {"delete"}, {"If-Match"}

    listed = imagewizard("manifest", f"{bucket}/in", "--out", f"{bucket}/manifest")
    assert listed.returncode == 0 and "18 images" in listed.stdout, listed.stderr
    words = [f"input={bucket}/manifest", f"output={bucket}/run", f"model={bucket}/model", "max_failed_fraction=0.2"]
    words += ["images.format=png", "images.pack=tar", "resources.actors=1"]
    job = imagewizard("denoise", *words)
    assert job.returncode == 0, job.stdout + job.stderr
    assert job.stdout.count("warning  ") == 1 and " does not heed If-Match, so " in job.stdout
    rows = records_of(f"{bucket}/run", "SELECT * FROM results ORDER BY image_id")
    failed = {row["image_id"]: (row["stage"], row["error"]) for row in rows if row["status"] == "error"}
    assert len(rows) == 18 and failed.keys() == {"cut.png", "secret/x.png"}
    assert failed["secret/x.png"][0] == "read" and "AccessDenied" in failed["secret/x.png"][1]
    assert failed["cut.png"][0] == "decode"
    assert faulty_s3.faults["slow_down"] > 0
    for row in rows:
        if row["status"] == "ok":
            written = np.asarray(Image.open(io.BytesIO(reading.read_origin(row["output_uri"]))))
            assert written.shape == (24, 24, 3)
    assert any(row["uri"] == f"{bucket}/in/shard.tar#13.png" for row in rows)

    shown = imagewizard("status", f"{bucket}/run", "--json")
    assert json.loads(shown.stdout)["ok"] == 16
    # What one job has packed is another one's input; this one restores it into files.
    again = [f"input={bucket}/run/images", f"output={bucket}/restored", f"model={bucket}/model", "resources.actors=1"]
    job = imagewizard("denoise", *again, "noise=null", "denoise.sigma=10")
    assert job.returncode == 0, job.stdout + job.stderr
    restored = records_of(f"{bucket}/restored", "SELECT * FROM results")
    assert len(restored) == 16 and {row["status"] for row in restored} == {"ok"}
    origins = {row["output_uri"] for row in rows if row["output_uri"]}
    assert {row["uri"] for row in restored} == origins
    for row in restored[:5]:
        assert Image.open(io.BytesIO(storage.read_bytes(row["output_uri"]))).size == (24, 24)


def test_missing_or_forbidden_bucket_is_refused_at_once(faulty_s3: FaultyS3, imagewizard: Commands) -> None:
    put(f"{faulty_s3.bucket}/in/a.png", png(0))
    missing = "s3://no-such-bucket-here"
    for words in ((f"input={missing}/in", "output=unused"), (f"input={faulty_s3.bucket}/in", f"output={missing}/run")):
        job = imagewizard("denoise", *words)
        assert job.returncode == 2, job.stdout
        assert "no-such-bucket-here" in job.stderr and job.stderr.count("\n") == 1, job.stderr
    faulty_s3.denied = "."
    job = imagewizard("denoise", f"input={faulty_s3.bucket}/in", "output=unused")
    assert job.returncode == 2 and job.stderr.count("\n") == 1, job.stderr
    assert "denied" in job.stderr.lower()
