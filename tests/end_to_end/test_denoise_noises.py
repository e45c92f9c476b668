"""Bulk jobs with each kind of noise, and with a level for each image: real Ray, from the config to the rows."""

import json
from pathlib import Path

import pytest
from PIL import Image

from imagewizard.distributed import denoise_job
from imagewizard.errors import UserError
from imagewizard.manifest import shards
from imagewizard.report import run as run_report
from imagewizard.runs import status
from jobs import denoise, shell
from tests.support.denoise_jobs import plan, rows, run_job
from tests.support.models import tiny_model
from tests.support.sample_files import encoded, photo
from tests.support.stand_ins import StandInActor


def write_photos(folder: Path, *names: str) -> list[bytes]:
    folder.mkdir()
    found = [encoded(Image.fromarray(photo(24, 32, seed)), "PNG") for seed in range(len(names))]
    for name, data in zip(names, found, strict=True):
        (folder / name).write_bytes(data)
    return found


@pytest.mark.usefixtures("ray_cluster")
def test_failed_rows_of_a_camera_are_retried_and_bits_do_not_depend_on_blocks(tmp_path: Path, tiny: str) -> None:
    data = write_photos(tmp_path / "in", "a.png", "b.png", "c.png")
    (tmp_path / "in" / "b.png").write_bytes(data[1][:80])
    words = [f"input={tmp_path}/in", f"model={tiny}", "noise={kind: camera, gain: [4, 64]}", "seed=7"]
    first = run_job(*words, f"output={tmp_path}/one", "resources.block_rows=1", actor=StandInActor)
    assert (first["ok"], first["failed"], first["levels"]) == (4, 2, 2)
    (tmp_path / "in" / "b.png").write_bytes(data[1])
    again = run_job(*words, f"output={tmp_path}/one", "retry_failed=true", actor=StandInActor)
    assert (again["ok"], again["failed"], again["session"]["rows"]) == (6, 0, 2)
    run_job(*words, f"output={tmp_path}/two", "resources.block_rows=3", actor=StandInActor)
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    measured = ("image_id", "noise_kind", "noise_params", "sigma", "psnr_noisy", "ssim_noisy")
    assert [[row[name] for name in measured] for row in one] == [[row[name] for name in measured] for row in two]
    assert [(row["image_id"], json.loads(row["noise_params"])["gain"], row["attempt"]) for row in one] == [
        (name, gain, 2 if name == "b.png" else 1) for name in ("a.png", "b.png", "c.png") for gain in (4.0, 64.0)
    ]
    means = again["scores"]
    assert [json.loads(mean["noise_params"])["gain"] for mean in means] == [4.0, 64.0]
    assert [mean["images"] for mean in means] == [3, 3] and means[0]["psnr_noisy"] > means[1]["psnr_noisy"]
    assert status.read(str(tmp_path / "one")).pending == 0


@pytest.mark.usefixtures("ray_cluster")
def test_a_job_with_sensor_noise_ends_in_rows_images_and_a_report(tmp_path: Path, tiny: str) -> None:
    write_photos(tmp_path / "in", "a.png", "b.png")
    noise = "noise={kind: poisson-gaussian, a: [0.5, 2], b: 4}"
    words = [f"input={tmp_path}/in", f"output={tmp_path}/run", f"model={tiny}", noise, "images.format=png"]
    ready = plan(*words)
    assert "Poisson-Gaussian: a 0.5, b 4; a 2, b 4, seed 0\nsigma    found image by image\n" in str(ready)
    denoise_job.execute(ready)
    found = rows(tmp_path / "run")
    assert [(row["noise_params"], row["sigma"]) for row in found] == [
        ('{"a": 0.5, "b": 4.0}', None), ('{"a": 2.0, "b": 4.0}', None),
    ] * 2  # fmt: skip
    assert all(row["status"] == "ok" and row["noise_std"] > 0 and row["strength"] == 1.0 for row in found)
    assert found[1]["output_uri"] == f"{tmp_path}/run/images/a2-b4/a.png.png" and Path(found[1]["output_uri"]).exists()
    page = Path(run_report.write_report(str(tmp_path / "run"))).read_text(encoding="utf-8")
    assert "Noise (Poisson-Gaussian: a 0.5, b 4; a 2, b 4) was added" in page
    assert page.count(">noisy<") == 4 and "cannot be shown" not in page


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Four images, of which two have a level; the two others fail."""
    names = ("a.png", "b.png", "c.png", "d.png")
    write_photos(tmp_path / "in", *names)
    path = tmp_path / "m.csv"
    levels = ("5", "12.5", "", "much")
    lines = [f"{name},{tmp_path}/in/{name},{level}" for name, level in zip(names, levels, strict=True)]
    path.write_text("\n".join(["image_id,uri,std", *lines, ""]))
    return path


@pytest.mark.usefixtures("ray_cluster")
def test_a_column_of_the_manifest_gives_each_image_its_level(tmp_path: Path, tiny: str, manifest: Path) -> None:
    words = [f"input={manifest}", f"output={tmp_path}/run", f"model={tiny}", "noise=null", "denoise.sigma=std"]
    assert "sigma    column std of the manifest\n" in str(plan(*words))
    summary = run_job(*words)
    found = rows(tmp_path / "run", "image_id")
    assert [(row["sigma"], row["status"], row["sigma_estimated"]) for row in found] == [
        (5.0, "ok", None), (12.5, "ok", None), (None, "error", None), (None, "error", None),
    ]  # fmt: skip
    assert found[0]["timestep"] < found[1]["timestep"]
    assert found[2]["error"].startswith("column std is null") and "'much'" in found[3]["error"]
    [score] = summary["scores"]
    assert (score["images"], score["ok"], score["errors"], score["sigma"]) == (4, 2, 2, None)
    again = run_job(*words, "retry_failed=true")
    assert (again["failed"], again["session"]["rows"]) == (2, 2)


def test_a_column_that_is_not_there_ends_the_command_at_once(
    tmp_path: Path, tiny: str, manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"output={tmp_path}/run", f"model={tiny}", "noise=null", "denoise.sigma=level"]
    for source, complaint in (
        (manifest, "it has no column level; name one of image_id, uri, std, give a number, or auto"),
        (tmp_path / "in", "is listed by no manifest, so it has no column level; give a Parquet or CSV manifest"),
    ):
        assert shell.run(denoise.main, [f"input={source}", *words]) == shell.WRONG_INPUT
        error = capsys.readouterr().err
        assert complaint in error and "denoise.sigma: " in error and len(error.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_level_that_strength_lifts_beyond_the_model_is_refused(tmp_path: Path) -> None:
    write_photos(tmp_path / "in", "a.png")
    low = tiny_model(tmp_path / "low", schedule={"trained_betas": [1e-4, 1e-3]})  # up to sigma 4.2
    words = [f"input={tmp_path}/in", f"output={tmp_path}/run", f"model={low}", "noise.sigma=3"]
    plan(*words)
    with pytest.raises(UserError, match=r"^denoise\.strength: 6 is beyond the model's schedule"):
        plan(*words, "denoise.strength=2")
    with pytest.raises(UserError, match=r"^noise\.sigma: 5 is beyond the model's schedule"):
        plan(*words[:3], "noise.sigma=5")
    assert "sigma    3, times 0.5\n" in str(plan(*words, "denoise.strength=0.5"))


def test_levels_of_an_image_stay_with_it_in_the_manifest(tmp_path: Path, manifest: Path) -> None:
    index = shards.write(str(tmp_path / "run"), str(manifest), None, level_column="std")
    table = shards.read_shard(str(tmp_path / "run"), 0)
    assert index.images == 4 and table["sigma"].to_pylist() == ["5", "12.5", None, "much"]
    shards.write(str(tmp_path / "plain"), str(manifest), None)
    assert "sigma" not in shards.read_shard(str(tmp_path / "plain"), 0).schema.names
