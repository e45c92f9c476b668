"""The bulk job end to end on a real Ray cluster: every image ends in exactly one row, whatever it is."""

import json
import math
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from imagewizard.bulk import block as blocks
from imagewizard.bulk.block_reader import BlockReader
from imagewizard.config.denoise import ActorConfig, DenoiseSection
from imagewizard.config.noise import GaussianNoise
from imagewizard.distributed import cluster, denoise_job
from imagewizard.errors import JobError, RunLockedError, UserError
from imagewizard.noise import synthetic
from imagewizard.runs import job as run_folder
from imagewizard.runs.results import ShardFile
from imagewizard.schema import RESULT_SCHEMA
from imagewizard.storage.lease import Lease
from tests.support import run_folders
from tests.support.denoise_jobs import plan, rows, run_job
from tests.support.sample_files import photo, write_broken_files, write_odd_files, write_photos
from tests.support.stand_ins import BrokenActor, ClosingActor, StandInActor

pytestmark = pytest.mark.usefixtures("ray_cluster")


def run_without_network(*words: str) -> dict:
    """A job with StandInActor, for a test that looks at rows and files alone."""
    return run_job(*words, actor=StandInActor)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Path:
    """A finished job: five photographs at two levels with the embedded model, images written."""
    folder = tmp_path_factory.mktemp("finished")
    write_photos(folder / "in", 5, 96)
    run_job(
        f"input={folder}/in", f"output={folder}/run", "noise.sigma=[15,25]", "images.format=png", "resources.actors=2"
    )
    return folder


def test_every_image_and_level_gets_one_scored_row(finished: Path) -> None:
    found = rows(finished / "run")
    assert len(found) == 10
    assert {(row["image_id"], row["sigma"]) for row in found} == {
        (path.name, sigma) for path in (finished / "in").iterdir() for sigma in (15.0, 25.0)
    }
    for row in found:
        assert (row["status"], row["attempt"], row["mode"], row["steps"]) == ("ok", 1, "mmse", 1)
        assert row["psnr"] > row["psnr_noisy"] + 4.0
        assert row["timestep"] == pytest.approx({15.0: 32, 25.0: 56}[row["sigma"]], abs=0.5)
        assert row["noise_params"] == '{"mean": 0.0}'
        assert math.isfinite(row["seconds"]) and row["seconds"] > 0


def test_scores_are_those_of_the_written_image_by_scikit_image(finished: Path) -> None:
    for row in rows(finished / "run")[:4]:
        clean = np.asarray(Image.open(row["uri"]))
        denoised = np.asarray(Image.open(row["output_uri"]))
        noisy = synthetic.Gaussian(row["sigma"]).add(clean, row["image_id"], 0)
        assert row["psnr"] == pytest.approx(peak_signal_noise_ratio(clean, denoised, data_range=255), abs=1e-6)
        assert row["ssim"] == pytest.approx(
            structural_similarity(clean, denoised, channel_axis=-1, data_range=255), abs=1e-6
        )
        assert row["psnr_noisy"] == pytest.approx(
            peak_signal_noise_ratio(clean.astype(float), noisy.astype(float), data_range=255), abs=1e-4
        )


def test_the_run_folder_is_the_documented_one(finished: Path) -> None:
    run = finished / "run"
    assert {path.name for path in run.iterdir()} == {
        "_lock.json",
        "job.yaml",
        "manifest",
        "results",
        "_tmp",
        "images",
        "summary.json",
    }
    assert list((run / "_tmp").iterdir()) == []
    for file in (run / "results").iterdir():
        assert pq.read_schema(file).equals(RESULT_SCHEMA)
    written = json.loads((run / "summary.json").read_text())
    assert (written["images"], written["ok"], written["failed"]) == (5, 10, 0)
    assert sorted(written["result_files"]) == sorted(path.name for path in (run / "results").iterdir())
    job = run_folder.read_job(str(run))
    assert job is not None
    assert job["config"]["noise"]["sigma"] == [15.0, 25.0]


def test_a_finished_job_run_again_does_nothing(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished / "run" / "results").iterdir()}
    again = run_job(
        f"input={finished}/in",
        f"output={finished}/run",
        "noise.sigma=[15,25]",
        "images.format=png",
        "resources.actors=2",
    )
    assert again["session"]["rows"] == 0
    assert {path: path.stat().st_mtime_ns for path in (finished / "run" / "results").iterdir()} == before


def test_a_job_that_would_make_other_rows_is_refused_and_says_why(finished: Path) -> None:
    with pytest.raises(UserError, match="seed was 0, is 1") as error:
        plan(f"input={finished}/in", f"output={finished}/run", "noise.sigma=[15,25]", "images.format=png", "seed=1")
    assert "\n" not in str(error.value)


def test_rows_do_not_depend_on_batch_actors_or_blocks(finished: Path, tmp_path: Path) -> None:
    """Noise is bit-identical (psnr_noisy is equal to the last bit), results agree to 0.01 dB."""
    run_job(
        f"input={finished}/in",
        f"output={tmp_path}/run",
        "noise.sigma=[25,15]",
        "resources={batch_size: 4, actors: 1, block_rows: 5}",
    )
    for row, other in zip(rows(finished / "run"), rows(tmp_path / "run"), strict=True):
        assert (row["image_id"], row["sigma"], row["psnr_noisy"]) == (
            other["image_id"],
            other["sigma"],
            other["psnr_noisy"],
        )
        assert row["psnr"] == pytest.approx(other["psnr"], abs=0.01)
        assert row["ssim"] == pytest.approx(other["ssim"], abs=1e-3)


def test_bad_files_cost_a_row_each_and_odd_ones_nothing(tmp_path: Path, tiny: str) -> None:
    broken = write_broken_files(tmp_path / "in" / "broken", 22)
    odd = write_odd_files(tmp_path / "in" / "odd")
    write_photos(tmp_path / "in" / "good", 6, 40)
    found = run_without_network(f"input={tmp_path}/in", f"output={tmp_path}/run", f"model={tiny}", "max_pixels=1000000")
    assert (found["ok"], found["failed"]) == (len(odd) + 6, len(broken))
    by_id = {row["image_id"]: row for row in rows(tmp_path / "run")}
    for name in broken:
        row = by_id[f"broken/{name}"]
        assert (row["status"], row["psnr"], row["width"]) == ("error", None, None)
        assert row["stage"] in {"read", "decode"} and row["error"] and "\n" not in row["error"]
    for name, (height, width) in odd.items():
        row = by_id[f"odd/{name}"]
        assert (row["status"], row["height"], row["width"]) == ("ok", height, width), row
        assert (row["ssim"] is None) == (min(height, width) < 7)


def test_a_file_that_vanished_is_a_read_error_and_can_be_retried(tmp_path: Path, tiny: str) -> None:
    write_photos(tmp_path / "in", 3, 32)
    table = pa.table({"image_id": ["0", "1"], "uri": [str(p) for p in sorted((tmp_path / "in").iterdir())[:2]]})
    pq.write_table(table, tmp_path / "m.parquet")
    lost = Path(table["uri"][1].as_py())
    content = lost.read_bytes()
    lost.unlink()
    words = [f"input={tmp_path}/m.parquet", f"output={tmp_path}/run", f"model={tiny}"]
    assert run_without_network(*words)["failed"] == 1
    assert "vanished" in rows(tmp_path / "run")[1]["error"]
    ok_row = rows(tmp_path / "run")[0]
    lost.write_bytes(content)
    assert run_without_network(*words)["failed"] == 1  # failures stay, unless they are to be retried
    again = run_without_network(*words, "retry_failed=true")
    assert (again["ok"], again["failed"], again["session"]["rows"]) == (2, 0, 1)
    assert rows(tmp_path / "run")[0] == ok_row
    assert [row["attempt"] for row in rows(tmp_path / "run")] == [1, 2]


def test_lost_result_files_are_made_again_and_the_others_left_alone(tmp_path: Path, tiny: str) -> None:
    """What a kill leaves behind: blocks without a file, half a file in _tmp, a lease of a dead driver."""
    write_photos(tmp_path / "in", 8, 32)
    words = [f"input={tmp_path}/in", f"output={tmp_path}/run", f"model={tiny}", "resources.block_rows=2"]
    run_without_network(*words)
    before = rows(tmp_path / "run")
    files = run_folders.uncompact(tmp_path / "run")
    assert len(files) == 4
    (tmp_path / "run" / "_tmp" / f"{files[1].name}.abc").write_bytes(files[1].read_bytes()[:100])
    (tmp_path / "run" / "results" / "s00000-b000001-a01.parquet.partial").write_bytes(b"half")
    for file in files[1::2]:
        file.unlink()
    committed = rows(tmp_path / "run")
    again = run_without_network(*words)
    assert again["session"]["rows"] == 4
    assert [path.name for path in (tmp_path / "run" / "results").iterdir() if ".partial" not in path.name] == [
        ShardFile(0, 1).name
    ]
    assert [row for row in rows(tmp_path / "run") if row in committed] == committed
    assert list((tmp_path / "run" / "_tmp").iterdir()) == []
    about_the_work = ("seconds", "finished_at")
    for row, new in zip(before, rows(tmp_path / "run"), strict=True):
        assert {k: v for k, v in row.items() if k not in about_the_work} == {
            k: v for k, v in new.items() if k not in about_the_work
        }


def test_restoration_writes_images_and_estimates_the_level(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for seed, sigma in enumerate((10, 30)):
        noisy = synthetic.Gaussian(sigma).add(photo(128, 128, seed), "x", 0).clip(0, 255).round().astype(np.uint8)
        Image.fromarray(noisy).save(tmp_path / "in" / f"{sigma}.png")
    run_job(f"input={tmp_path}/in", f"output={tmp_path}/run", "noise=null")
    for row, (seed, sigma) in zip(rows(tmp_path / "run"), enumerate((10, 30)), strict=True):
        assert (row["status"], row["sigma"], row["noise_kind"], row["psnr"], row["ssim"]) == (
            "ok",
            None,
            None,
            None,
            None,
        )
        assert row["sigma_estimated"] == pytest.approx(sigma, rel=0.25)
        clean = photo(128, 128, seed)
        before = peak_signal_noise_ratio(clean, np.asarray(Image.open(row["uri"])))
        assert peak_signal_noise_ratio(clean, np.asarray(Image.open(row["output_uri"]))) > before + 2.0


def test_a_second_driver_is_turned_away(tmp_path: Path, tiny: str) -> None:
    write_photos(tmp_path / "in", 1, 32)
    ready = plan(f"input={tmp_path}/in", f"output={tmp_path}/run", f"model={tiny}")
    with Lease(f"{tmp_path}/run"), pytest.raises(RunLockedError):
        denoise_job.execute(ready)


@pytest.fixture(scope="module")
def bug(tmp_path_factory: pytest.TempPathFactory, tiny: str, ray_cluster: None) -> str:
    """The text of the error with which a job ends whose actor has a bug."""
    folder = tmp_path_factory.mktemp("bug")
    write_photos(folder / "in", 1, 32)
    with pytest.raises(ray.exceptions.RayTaskError) as error:
        run_job(f"input={folder}/in", f"output={folder}/run", f"model={tiny}", actor=BrokenActor)
    return str(error.value)


def test_a_bug_in_an_actor_keeps_its_traceback(bug: str) -> None:
    assert "ValueError: a bug" in bug and "in denoise" in bug


def test_a_failed_job_leaves_its_cpus_to_the_next(bug: str) -> None:
    cluster.start(None)
    deadline = time.monotonic() + 30
    while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:
        assert time.monotonic() < deadline, ray.available_resources()
        time.sleep(0.1)


def test_a_worker_that_cannot_write_ends_the_job_with_one_line(tmp_path: Path, tiny: str) -> None:
    write_photos(tmp_path / "in", 1, 32)
    ready = plan(f"input={tmp_path}/in", f"output={tmp_path}/run", f"model={tiny}")
    with pytest.raises(JobError, match=r"^\w+Error: .*/results[^ ]*'?\. What is committed stays; .* goes on$") as error:
        denoise_job.execute(ready, actor=ClosingActor)
    assert type(error.value) is JobError and "\n" not in str(error.value)


def test_the_rows_do_not_depend_on_what_the_actor_decodes(
    tmp_path: Path, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the limit on decoded pixels, and for large images, the actor decodes; the rows are the same."""
    from imagewizard.bulk import block_denoiser
    from imagewizard.models.files import find
    from imagewizard.runs.results import BlockFile

    uris = [str(tmp_path / name) for name in write_photos(tmp_path, 4, 48)]
    actor = ActorConfig(tiny, find(tiny).fingerprint, GaussianNoise(), DenoiseSection(), None, 0, 10**6, 1, 1)
    empty = dict.fromkeys(blocks.WORK_SCHEMA.names) | {"settings": [0], "attempts": [1]}
    block = blocks.Block(BlockFile(0, 0, 1), [empty | {"image_id": uri[-6:], "uri": uri} for uri in uris])
    found = []
    for pixel_bytes, large, encoded in ((1, 10**6, 3), (10**9, 10**6, 0), (10**9, 1000, 4)):
        monkeypatch.setattr(blocks, "LARGE_PIXELS", large)
        decoded = BlockReader(10**6, keep=False, pixel_bytes=pixel_bytes)(block)
        assert [image["picture"] for image in decoded.images].count(None) == encoded
        rows_found = block_denoiser.BlockDenoiser(actor)(decoded).images
        found.append([row | {"seconds": None, "finished_at": None} for row in rows_found])
    assert found[0] == found[1] == found[2]
    assert [row["status"] for row in found[0]] == ["ok"] * 4
