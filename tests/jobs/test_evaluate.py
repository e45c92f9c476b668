"""`imagewizard evaluate` as a shell sees it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from PIL import Image

from jobs import evaluate, shell
from tests.support.models import tiny_model
from tests.support.sample_files import photo


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """Of an evaluation of three pairs, in one folder, with a model that changes nothing."""
    (tmp_path / "deep").mkdir()
    rng = np.random.default_rng(0)
    for number, name in enumerate(("a", "deep/b", "c")):
        clean = photo(40, 48, number)
        Image.fromarray(clean).save(tmp_path / f"{name}_mean.png")
        noisy = clean + rng.normal(0, 3 + 4 * number, clean.shape)
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(tmp_path / f"{name}_real.png")
    model = tiny_model(tmp_path / "model", zero=True)
    return [str(tmp_path), f"{tmp_path}/", f"model={model}", "denoise.sigma=10"]


def document(capsys: pytest.CaptureFixture[str], words: list[str], code: int = shell.DONE) -> Any:
    assert shell.run(evaluate.main, [*words, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_the_table_has_a_line_a_pair_the_means_and_the_worst(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(capsys, words)
    assert [pair["name"] for pair in found["pairs"]] == ["a", "c", "deep/b"]
    assert (found["scored"], found["failed"]) == (3, 0)
    assert found["config"]["denoise"]["sigma"] == 10.0
    for pair in found["pairs"]:
        assert pair["gain"] == pair["psnr"] - pair["psnr_noisy"] and pair["error"] is None
    assert found["means"]["psnr"] == pytest.approx(np.mean([pair["psnr"] for pair in found["pairs"]]))
    assert found["worst"] == min(found["pairs"], key=lambda pair: pair["gain"])

    assert shell.run(evaluate.main, words) == shell.DONE
    head, *lines, mean, worst = capsys.readouterr().out.splitlines()
    assert head.strip().split("  ") == ["noisy dB", "restored dB", "gain dB", "SSIM noisy", "SSIM restored", "level"]
    assert len({len(line) for line in (head, *lines, mean)}) == 1
    for line, pair in zip(lines, found["pairs"], strict=True):
        numbers = [f"{pair['psnr_noisy']:.2f}", f"{pair['psnr']:.2f}", f"{pair['gain']:+.2f}"]
        assert line.split() == [pair["name"], *numbers, f"{pair['ssim_noisy']:.4f}", f"{pair['ssim']:.4f}", "10.0"]
    assert mean.split()[:4] == ["mean", "of", "3", f"{found['means']['psnr_noisy']:.2f}"]
    assert worst == f"worst gain: {found['worst']['gain']:+.2f} dB, {found['worst']['name']}"


def test_a_pair_that_cannot_be_scored_is_named_and_ends_in_exit_code_3(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (Path(words[0]) / "a_real.png").write_bytes(b"no image")
    found = document(capsys, words, shell.TOO_MANY_FAILED)
    assert found["pairs"][0]["error"].startswith("the noisy image: not an image") and found["pairs"][0]["psnr"] is None
    assert (found["scored"], found["failed"]) == (2, 1)
    assert shell.run(evaluate.main, words) == shell.TOO_MANY_FAILED
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("a ") and "  failed: the noisy image: not an image" in lines[1]
    assert lines[-1] == "1 of 3 pairs could not be scored"


def test_pairs_in_a_bucket_are_scored_as_on_a_disk(
    words: list[str], bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _, *keys = words
    for path in Path(folder).rglob("*.png"):
        side = "noisy" if path.stem.endswith("_real") else "clean"
        name = f"{side}/{path.relative_to(folder).as_posix()}"
        boto3.client("s3").upload_file(str(path), bucket.removeprefix("s3://"), name)
    found = document(capsys, [f"{bucket}/noisy", f"{bucket}/clean", *keys])
    assert found["pairs"] == document(capsys, words)["pairs"]


def test_folders_that_do_not_match_and_wrong_keys_are_one_line(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert shell.run(evaluate.main, [*words, "denoise.sgima=3"]) == shell.WRONG_INPUT
    assert capsys.readouterr().err == "error: denoise.sgima: unknown key; did you mean sigma?\n"
    (Path(words[0]) / "deep" / "b_mean.png").unlink()
    assert shell.run(evaluate.main, words) == shell.WRONG_INPUT
    assert capsys.readouterr().err.startswith("error: NOISY_DIR: no clean image for deep/b_real.png; ")


def test_neither_ray_nor_anything_that_it_writes_is_needed(words: list[str], tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    program = "import sys; from jobs import evaluate; evaluate.main(sys.argv[1:]); print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert sorted(tmp_path.rglob("*")) == before
