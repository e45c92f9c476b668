"""The report's page: what it says and shows of runs in every state, by parsing it and in a real browser."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imagewizard.bulk import outputs
from imagewizard.bulk.block import Block
from imagewizard.config.denoise import ImagesSection
from imagewizard.manifest import listing
from imagewizard.manifest.tally import Tally
from imagewizard.noise import synthetic
from imagewizard.query import sql
from imagewizard.report import panels as report_panels
from imagewizard.runs.results import BlockFile
from imagewizard.schema import RESULTS_VERSION, SAME_NOISE_SINCE
from imagewizard.sources import reading, tar
from tests.support.pages import CHROMIUM, HOSTILE, PROBE, Page, browse, page_of, pixels
from tests.support.run_folders import error_row, finished_run, row, write_job, write_rows, write_summary
from tests.support.sample_files import encoded, photo


def test_the_numbers_are_those_of_the_rows(whole_run: Path, whole_page: Page) -> None:
    with sql.connect([str(whole_run)]) as connection:
        levels = sql.records(connection, "summary")
        means = ", ".join(f"avg({name}) AS {name}" for name in ("psnr_noisy", "psnr", "ssim_noisy", "ssim"))
        total = sql.records(connection, f"SELECT {means} FROM results")[0]
    for number, level in enumerate(levels):
        expected = [f"σ {level['sigma']:g}", "5", "0" if number else "5"]
        expected += [f"{level[name]:.2f}" for name in ("psnr_noisy", "psnr", "gain")]
        expected += [f"{level[name]:.4f}" for name in ("ssim_noisy", "ssim")]
        assert whole_page.rows[1 + number] == [*expected, "0.500"]
    assert f"PSNR {total['psnr_noisy']:.2f} → {total['psnr']:.2f} dB" in whole_page.text
    assert f"SSIM {total['ssim_noisy']:.4f} → {total['ssim']:.4f}" in whole_page.text
    assert "Denoised 15 results, 3 noise levels an image" in whole_page.text
    assert "Failed 5 25.00 % of 20" in whole_page.text
    assert "Results a second 2.25 last session, once it ran" in whole_page.text
    assert "Noise of σ = 15, 25, 50 (0–255 scale; Gaussian) was added" in whole_page.text
    assert "Unfinished" not in whole_page.text


def test_panels_hold_the_pixels_of_the_run(whole_run: Path, whole_page: Page) -> None:
    assert len(whole_page.samples) == 9  # worst, median and best of each level
    assert all(names == ["clean", "noisy", "denoised"] for names in whole_page.samples)
    clean, clean_crop, _, noisy_crop, _, denoised_crop = whole_page.images[:6]
    with sql.connect([str(whole_run)]) as connection:
        worst = sql.records(connection, "SELECT * FROM results WHERE sigma = 15 ORDER BY psnr - psnr_noisy LIMIT 1")[0]
    image = np.asarray(Image.open(worst["uri"]))
    assert clean["alt"] == f"clean: {worst['image_id']}"
    assert np.abs(pixels(clean).astype(int) - image).mean() < 6  # lossy

    lines = np.lib.stride_tricks.sliding_window_view(image, (1, 112, 3))[:, :, 0, 0]
    places = np.argwhere((lines == pixels(clean_crop)[0]).all(axis=(2, 3)))
    assert len(places) == 1
    y, x = places[0]
    assert np.array_equal(pixels(clean_crop), image[y : y + 72, x : x + 112])
    noisy = synthetic.Gaussian(15.0).add(image, worst["image_id"], worst["seed"])
    expected = np.clip(noisy[y : y + 72, x : x + 112], 0, 255).round()
    assert np.array_equal(pixels(noisy_crop), expected)
    denoised = np.asarray(Image.open(worst["output_uri"]))
    assert np.array_equal(pixels(denoised_crop), denoised[y : y + 72, x : x + 112])
    assert f"noisy PSNR {worst['psnr_noisy']:.2f} dB · SSIM {worst['ssim_noisy']:.4f}" in whole_page.text
    assert f"denoised PSNR {worst['psnr']:.2f} dB · SSIM {worst['ssim']:.4f}" in whole_page.text


def test_images_of_equal_score_and_many_levels_make_no_more_than_twelve_samples(tmp_path: Path) -> None:
    sigmas = [float(sigma) for sigma in range(5, 21)]
    write_rows(tmp_path, [row(f"{name}.png", sigma=sigma) for sigma in sigmas for name in "cab"])
    page = page_of(tmp_path)
    assert len(page.samples) == 12
    with sql.connect([str(tmp_path)]) as connection:
        chosen = report_panels.choose(connection, "psnr - psnr_noisy", levels=1)
    assert {each["image_id"] for _, each in chosen} == {"a.png"}


def test_page_reports_that_denoised_images_were_not_kept(tmp_path: Path) -> None:
    page = page_of(finished_run(tmp_path, images=2, sigmas=(25.0,), keep=False))
    assert page.samples == [["clean", "noisy"], ["clean", "noisy"]]
    assert "a run with images.format=png would have" in page.text


def test_a_run_that_was_moved_still_shows_its_images(tmp_path: Path) -> None:
    moved = finished_run(tmp_path, images=2, sigmas=(25.0,)).rename(tmp_path / "moved")
    assert page_of(moved).samples == [["clean", "noisy", "denoised"]] * 2


@pytest.mark.parametrize("pack", [None, "tar"])
@pytest.mark.parametrize("odd", ["run#1", "50% ?", "run.tar#1"])
def test_images_are_shown_whatever_their_folders_are_called(tmp_path: Path, odd: str, pack: str | None) -> None:
    photos, run, section = tmp_path / odd / "photos", tmp_path / odd / "run", ImagesSection(pack=pack)
    photos.mkdir(parents=True)
    data = encoded(Image.fromarray(photo(20, 30, 0)), "PNG")
    (photos / f"{odd}.png").write_bytes(data)
    (photos / f"{odd}.tar").write_bytes(tar.pack([(f"{odd}/m.png", data)]))
    images = [image for table in listing.batches(str(photos), Tally()) for image in table.to_pylist()]
    rows = [
        row(image["image_id"], uri=reading.origin(image), width=30, height=20, psnr=20.0 + number)
        | {"encoded": encoded(Image.fromarray(photo(20, 30, 1)), "PNG")}
        for number, image in enumerate(images)
    ]
    block = Block(BlockFile(0, 0, 1), rows)
    write_rows(run, outputs.write(block, str(run), section).to_pylist())
    write_job(run, 2, images={"pack": pack})
    assert page_of(run).samples == [["clean", "noisy", "denoised"]] * 2
    moved = run.rename(tmp_path / f"moved {odd}")
    assert page_of(moved).samples == [["clean", "noisy", "denoised"]] * 2


def test_missing_changed_and_broken_pictures_are_reported(tmp_path: Path) -> None:
    run = finished_run(tmp_path, images=4, sigmas=(25.0,))
    photos = sorted((tmp_path / "photos").iterdir())
    photos[0].unlink()
    Image.new("RGB", (30, 20)).save(photos[1])
    (run / "images" / "sigma25" / photos[2].name).write_bytes(b"no image")
    page = page_of(run)
    assert sorted(page.samples) == [["clean", "noisy"], ["clean", "noisy", "denoised"], ["denoised"], ["denoised"]]
    assert f"the input cannot be shown: it is no longer there ({photos[0]})" in page.text
    assert f"the input cannot be shown: it has changed since the run ({photos[1]})" in page.text
    assert "the denoised image cannot be shown: not an image" in page.text


@pytest.mark.parametrize("uri", ["s3://", "ftp://host/a.png", "relative/gone.png", "nul\0.png", "/etc", ""])
def test_no_uri_breaks_the_page(tmp_path: Path, uri: str) -> None:
    write_rows(tmp_path, [row("a.png", uri=uri, output_uri=uri)])
    page = page_of(tmp_path)
    assert page.samples == [[]]
    assert "the input cannot be shown" in page.text


def test_what_images_lack_is_listed(tmp_path: Path) -> None:
    write_rows(tmp_path, [row("a.png"), row("b.png", notes=f"without IPTC (why); {HOSTILE}")])
    page = page_of(tmp_path)
    assert ["without IPTC (why)", "1", "/images/b.png"] in page.rows and HOSTILE in page.text
    (tmp_path / "results" / "s00000-b000000-a01.parquet").unlink()
    write_rows(tmp_path, [row("a.png")])
    assert "lost or lacked" not in page_of(tmp_path).text


def test_an_unfinished_run_says_so(tmp_path: Path) -> None:
    write_rows(tmp_path, [row("a.png"), row("b.png")])
    write_job(tmp_path, 5, noise={"sigma": [25, 50]})
    assert "Unfinished. 2 of 10 results are in (20.0 %)." in page_of(tmp_path).text
    write_summary(tmp_path, session={})  # of an earlier session: the counts are what holds
    assert "Unfinished. 2 of 10 results are in" in page_of(tmp_path).text
    (tmp_path / "manifest" / "index.json").unlink()
    (tmp_path / "summary.json").unlink()
    assert "Unfinished. The run is still listing its input; 2 results are in." in page_of(tmp_path).text


def test_runs_without_any_good_row_have_a_page_too(tmp_path: Path) -> None:
    write_job(tmp_path / "empty", 3)
    assert "Denoised 0" in page_of(tmp_path / "empty").text
    write_rows(
        tmp_path / "failed", [error_row(f"{number}.png", "read", f"reason {number:02d}") for number in range(40)]
    )
    page = page_of(tmp_path / "failed")
    assert "Failed 40 100.00 % of 40" in page.text
    assert "… and 10 more reasons" in page.text
    assert page.samples == [] and "<svg" not in page.source
    assert "the folder has no job.yaml" in page.text


def test_an_outlier_does_not_squash_the_charts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [row(f"{number}.png", psnr=30 + rng.normal()) for number in range(2000)]
    write_rows(tmp_path, [*rows, row("black.png", psnr=100.0)])
    page = page_of(tmp_path)
    assert 10 <= page.source.count("<rect") <= 45
    assert page.source.count("<circle") > 30
    assert "mean 9." in page.text


@pytest.fixture
def server(whole_run: Path) -> Iterator[tuple[str, list[str]]]:
    """(URL, paths asked for so far) of a web server that has the page, and the page without policy and with a probe."""
    source = (whole_run / "report.html").read_text(encoding="utf-8")
    policy = source[source.index('<meta http-equiv="Content-Security-Policy"') :].partition(">")[0] + ">"
    pages = {"/report.html": source, "/probed.html": source.replace(policy, PROBE)}
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers["Host"] != "clients2.google.com":  # which the browser asks for the time, by itself
                asked.append(self.path)
            page = pages.get(self.path)
            self.send_response(200 if page else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write((page or "").encode())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listener.server_port}", asked
        listener.shutdown()


@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: no chromium on the PATH")
@pytest.mark.parametrize("width", [1300, 390])
def test_a_browser_shows_all_of_it_and_fetches_nothing(
    whole_page: Page, server: tuple[str, list[str]], width: int
) -> None:
    url, asked = server
    dom = browse(f"{url}/probed.html", url.rpartition(":")[2], f"--window-size={width},2000")
    probe = json.loads(Page(dom).probe)
    assert probe["images"] == probe["loaded"] == len(whole_page.images) == 9 * 6
    assert probe["title"] == "run – Image Wizard"  # no script of a file name has run
    assert probe["wide"] == []
    assert len(probe["charts"]) == 2 and min(probe["charts"]) > 150
    assert asked == ["/probed.html"]


@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: no chromium on the PATH")
def test_the_pages_own_policy_lets_its_images_and_styles_through(server: tuple[str, list[str]], tmp_path: Path) -> None:
    url, asked = server
    shot = tmp_path / "shot.png"
    browse(f"{url}/report.html", url.rpartition(":")[2], f"--screenshot={shot}", "--window-size=1300,2400")
    colours = {tuple(colour) for colour in np.asarray(Image.open(shot).convert("RGB"))[::7, ::7].reshape(-1, 3)}
    assert len(colours) > 2000  # photos
    assert (0xF6, 0xF7, 0xF9) in colours or (0x14, 0x16, 0x1A) in colours  # the page's own ground
    assert asked == ["/report.html"]


def test_settings_of_a_noise_without_a_level_are_told_apart(tmp_path: Path) -> None:
    """Each has its line, its strip in the chart and its samples."""
    sensor = {"noise_kind": "poisson-gaussian", "sigma": None, "sigma_estimated": 12.0}
    rows = [row("a.png", noise_params=f'{{"a": {a}, "b": 4.0}}', **sensor) for a in (10.0, 2.0)]
    write_rows(tmp_path, rows)
    write_job(tmp_path, 1, noise={"kind": "poisson-gaussian", "a": [2, 10], "b": 4})
    page = page_of(tmp_path)
    assert "Noise (Poisson-Gaussian: a 2, b 4; a 10, b 4) was added" in page.text
    assert [line[0] for line in page.rows[1:3]] == ["a 2, b 4", "a 10, b 4"]
    assert page.source.count("<svg") == 2 and len(page.samples) == 2
    assert "a.png a 2, b 4 · gain" in page.text and "a.png a 10, b 4 · gain" in page.text


def test_noise_of_a_run_before_other_rows_changed_is_still_shown(tmp_path: Path) -> None:
    run = finished_run(tmp_path, images=1, sigmas=(25.0,), keep=False)
    job = (run / "job.yaml").read_text()
    since = SAME_NOISE_SINCE["gaussian"]
    for version, names in ((since, ["clean", "noisy"]), (since - 1, ["clean"])):
        (run / "job.yaml").write_text(job.replace(f"results_version: {RESULTS_VERSION}", f"results_version: {version}"))
        assert page_of(run).samples == [names]
