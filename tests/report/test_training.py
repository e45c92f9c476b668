"""The page of a training: what it says and shows of runs in every state, by parsing it and in a real browser."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagewizard.report import training as training_report
from tests.support import training_runs
from tests.support.pages import CHROMIUM, PROBE, Page, browse, pixels
from tests.support.training_runs import event_row, train_row, validation_row

HOSTILE = "<script>document.title='owned'</script><img src=\"http://evil.example/x\">&amp;"


def page_of(run: Path) -> Page:
    assert training_report.write_report(str(run)) == f"{run}/report.html"
    return Page((run / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = {"train": HOSTILE, "validation": ["a.png", "b.png"], "crop": 96}
    return training_runs.finished_run(tmp_path_factory.mktemp("whole"), data=data)


@pytest.fixture(scope="module")
def whole_page(whole_run: Path) -> Page:
    return page_of(whole_run)


def test_the_headline_is_that_of_the_rows(whole_page: Page) -> None:
    first, last, train = validation_row(0), validation_row(1500), train_row(1500)
    assert "Steps 1,500 20.0 of 20 epochs" in whole_page.text
    gain = last["psnr"] - first["psnr"]
    assert (
        f"Validation PSNR {first['psnr']:.2f} → {last['psnr']:.2f} dB {gain:+.2f} dB, first to best" in whole_page.text
    )
    assert f"Loss {train_row(10)['loss']:.4f} → {train['loss']:.4f} mse {train['mse']:.4f}" in whole_page.text
    assert "Images a second 14.2 3.1 % overhead Time 22:30 2 workers, cpu" in whole_page.text
    assert "Stopped" not in whole_page.text and "Training." not in whole_page.text


def test_the_tables_hold_validations_and_events(whole_page: Page) -> None:
    rows = [validation_row(step) for step in range(0, 1501, 150)]
    for number, row in enumerate(rows):
        expected = [f"{row['step']:,}", f"{row['epoch']:.1f}"]
        expected += [f"{row[f'psnr_{sigma}']:.2f}" for sigma in (15, 25, 50)]
        expected += [f"{row['psnr']:.2f}{' ★' if row['step'] == 1500 else ''}"]
        expected += [f"{row[f'ssim_{sigma}']:.4f}" for sigma in (15, 25, 50)]
        assert whole_page.rows[1 + number] == expected
    assert whole_page.rows[-1] == ["430", "worker 1 died (actor unexpectedly exited); resuming from step 375"]


def test_what_was_run(whole_run: Path, whole_page: Page) -> None:
    assert f"embedded was trained further on the images of {HOSTILE} , validated on 2 files, with" in whole_page.text
    assert "noise of σ = 2 to 60 (0–255 scale)" in whole_page.text
    assert "300; 1 could not be used : data/bsds500/train/broken.jpg: not an image" in whole_page.text
    assert f"imagewizard denoise model={whole_run}/model" in whole_page.text
    assert "loss = mse + 0.1 × perceptual" in whole_page.text
    assert ">0.05</text>" in whole_page.source and ">0.5</text>" in whole_page.source  # a logarithmic axis
    assert "epochs: 20.0" in whole_page.source


def test_nothing_is_fetched_and_hostile_text_is_only_text(whole_page: Page) -> None:
    assert all(reference.startswith("data:") for reference in whole_page.references)
    assert "default-src 'none'" in whole_page.source and "url(" not in whole_page.source
    assert not {"script", "iframe", "object", "form"} & set(whole_page.tags)
    assert "<script" not in whole_page.source


def test_the_newest_panels_are_shown_and_the_first(whole_run: Path, whole_page: Page) -> None:
    captions = [image["alt"].partition(": ")[2] for image in whole_page.images]
    assert captions == ["step 1500, the newest validation", "step 0, the first validation"]
    for image, name in zip(whole_page.images, ("step-00001500", "step-00000000"), strict=True):
        stored = np.asarray(Image.open(whole_run / "panels" / f"{name}.png"))
        assert np.abs(pixels(image).astype(int) - stored).mean() < 7  # lossy
    assert whole_page.source.count("<details") == 3 and whole_page.source.count(" open>") == 1


def test_unreadable_panels_are_left_out(tmp_path: Path) -> None:
    training_runs.write_job(tmp_path)
    training_runs.write_panels(tmp_path, 150, 1.0)
    page = page_of(tmp_path)
    assert [image["alt"].partition(": ")[2] for image in page.images] == ["step 150, the newest validation"]
    (tmp_path / "panels" / "step-00000300.png").write_bytes(b"\x89PNG half")
    page = page_of(tmp_path)
    assert [image["alt"].partition(": ")[2] for image in page.images] == ["step 150, the first validation"]


def test_a_run_that_was_stopped_says_where_it_goes_on(tmp_path: Path) -> None:
    training_runs.write_job(tmp_path, model=None, network={"in_channels": 12}, loss={"mse": "eps", "perceptual": None})
    training_runs.write_metrics(tmp_path, training_runs.rows_until(500, perceptual=False), cut=b'{"kind": "tr')
    training_runs.write_checkpoint(tmp_path, 450)
    page = page_of(tmp_path)
    assert "Stopped. 500 of 1,500 steps are done (33.3 %)." in page.text
    assert f"again goes on from {tmp_path}/checkpoints/step-00000450 ." in page.text
    assert (
        "A new network was trained on the images of data/bsds500/train , validated on data/bsds500/val , with"
        in page.text
    )
    assert f"→ {train_row(500, perceptual=False)['loss']:.4f} MSE of eps" in page.text
    assert "× perceptual" not in page.text and ">mse<" not in page.source
    assert "Images a second 14.4 3.0 % overhead" in page.text and "Time" not in page.text


def test_a_run_with_nothing_but_its_job_and_one_with_a_single_row(tmp_path: Path) -> None:
    training_runs.write_job(tmp_path)
    page = page_of(tmp_path)
    assert "Stopped. No step is done yet. The same imagewizard train command again goes on from the start" in page.text
    assert "<svg" not in page.source and page.rows == [] and page.images == []
    training_runs.write_metrics(tmp_path, [validation_row(0)])
    assert page_of(tmp_path).source.count("<svg") == 1
    training_runs.write_metrics(tmp_path, [validation_row(0), train_row(10), event_row(5, "died")])
    page = page_of(tmp_path)
    assert page.source.count("<svg") == 2 and page.source.count("<circle") == 6
    assert f"Validation PSNR {validation_row(0)['psnr']:.2f} dB mean of all levels" in page.text


def test_a_summary_of_a_session_without_a_step(tmp_path: Path) -> None:
    rows = training_runs.rows_until(300)
    training_runs.write_job(tmp_path)
    training_runs.write_metrics(tmp_path, rows)
    training_runs.write_summary(tmp_path, rows, overhead=None, images_per_second=None)
    assert f"Images a second {rows[-2]['images_per_second']:.1f} 3.0 % overhead" in page_of(tmp_path).text


def test_a_run_whose_rate_is_not_known_yet(tmp_path: Path) -> None:
    training_runs.write_job(tmp_path)
    unknown = {"images_per_second": None, "overhead": None, "eta_seconds": None}
    training_runs.write_metrics(tmp_path, [validation_row(0), train_row(1) | unknown])
    text = page_of(tmp_path).text
    assert "Steps 1" in text and "Images a second" not in text


def test_a_long_run_makes_no_long_page(tmp_path: Path) -> None:
    training_runs.write_job(tmp_path)
    training_runs.write_metrics(tmp_path, [train_row(step, 200_000) for step in range(10, 200_000, 20)])
    assert len(page_of(tmp_path).source) < 120_000


@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: no chromium on the PATH")
@pytest.mark.parametrize("width", [1300, 390])
def test_a_browser_shows_all_of_it(whole_page: Page, tmp_path: Path, width: int) -> None:
    policy = whole_page.source[whole_page.source.index('<meta http-equiv="Content-Security-Policy"') :]
    probed = tmp_path / "probed.html"
    probed.write_text(whole_page.source.replace(policy.partition(">")[0] + ">", PROBE), encoding="utf-8")
    probe = json.loads(Page(browse(probed.as_uri(), "9", f"--window-size={width},2400")).probe)
    assert probe["images"] == probe["loaded"] == 2
    assert probe["title"] == "run – Image Wizard"
    assert probe["wide"] == []
    assert len(probe["charts"]) == 2 and min(probe["charts"]) > 150


@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: no chromium on the PATH")
def test_the_lines_have_the_pages_colours(whole_run: Path, whole_page: Page, tmp_path: Path) -> None:
    shot = tmp_path / "shot.png"
    browse((whole_run / "report.html").as_uri(), "9", f"--screenshot={shot}", "--window-size=1300,2400")
    picture = np.asarray(Image.open(shot).convert("RGB"))
    for light, dark in (("0072b2", "56a9e8"), ("d55e00", "f2914a"), ("00815f", "3fc29b")):
        seen = [(picture == tuple(bytes.fromhex(colour))).all(axis=2).sum() for colour in (light, dark)]
        assert max(seen) > 300
