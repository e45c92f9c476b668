"""The report's page: what it says and shows of runs in every state, by parsing it and in a real browser."""

import base64
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imagewizard.noise import synthetic
from imagewizard.query import sql
from imagewizard.report import charts
from imagewizard.report import panels as report_panels
from imagewizard.report import run as run_report
from imagewizard.report.charts import Bins, Dot
from jobs import report as command
from jobs import shell
from tests.support.pages import CHROMIUM, PROBE, Page, browse
from tests.support.run_folders import error_row, finished_run, restored, row, write_job, write_rows, write_summary

HOSTILE = (
    "<script>document.title='owned'</script>"
    '<img src="http://evil.example/x" onerror="document.title=\'owned\'">&amp;"\''
)


def pixels(image: dict[str, str]) -> np.ndarray:
    """The decoded pixels of an <img>, uint8 (H, W, 3)."""
    kind, _, data = image["src"].partition(",")
    assert kind == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def page_of(run: Path) -> Page:
    assert run_report.write_report(str(run)) == f"{run}/report.html"
    return Page((run / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 5 photos at 3 levels, denoised images kept, and a few failures with hostile names."""
    run = finished_run(tmp_path_factory.mktemp("whole"), images=5)
    failed = [
        error_row(f"{HOSTILE}{number}.jpg", "decode", f"broken header: {HOSTILE}", sigma=15.0) for number in range(4)
    ]
    write_rows(run, [*failed, error_row("\x00bell\x07.jpg", "read", "timed out", sigma=15.0)], block=1)
    write_job(run, 5, noise={"sigma": [15, 25, 50]}, images={"format": "png"}, seed=3, input=HOSTILE)
    write_summary(run, session={"rows_per_second": 1.5, "steady_rows_per_second": 2.25})
    return run


@pytest.fixture(scope="module")
def whole_page(whole_run: Path) -> Page:
    return page_of(whole_run)


def test_the_numbers_are_those_of_the_rows(whole_run: Path, whole_page: Page) -> None:
    with sql.connect([str(whole_run)]) as connection:
        levels = sql.records(connection, "summary")
        means = ", ".join(f"avg({name}) AS {name}" for name in ("psnr_noisy", "psnr", "ssim_noisy", "ssim"))
        total = sql.records(connection, f"SELECT {means} FROM results")[0]
    for number, level in enumerate(levels):
        expected = [f"{level['sigma']:g}", "5", "0" if number else "5"]
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


def test_failures_are_listed_by_reason_and_hostile_text_is_only_text(whole_page: Page) -> None:
    cells = [cells for cells in whole_page.rows if cells[0] in ("decode", "read")]
    assert cells[0][:3] == ["decode", f"broken header: {HOSTILE}", "4"]
    assert cells[1] == ["read", "timed out", "1", "\\x00bell\\x07.jpg"]
    assert f"the images of {HOSTILE}" in whole_page.text
    assert not {"script", "iframe", "link rel=stylesheet", "object", "form"} & set(whole_page.tags)
    assert "<script" not in whole_page.source and "\x07" not in whole_page.source


def test_nothing_is_fetched(whole_page: Page) -> None:
    assert all(reference.startswith("data:") for reference in whole_page.references)
    assert "default-src 'none'" in whole_page.source
    assert "url(" not in whole_page.source and "@import" not in whole_page.source


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
    noisy = synthetic.DEFAULT.add(image, worst["image_id"], 15.0, worst["seed"])
    expected = np.clip(noisy[y : y + 72, x : x + 112], 0, 255).round()
    assert np.array_equal(pixels(noisy_crop), expected)
    denoised = np.asarray(Image.open(worst["output_uri"]))
    assert np.array_equal(pixels(denoised_crop), denoised[y : y + 72, x : x + 112])
    assert f"noisy PSNR {worst['psnr_noisy']:.2f} dB · SSIM {worst['ssim_noisy']:.3f}" in whole_page.text
    assert f"denoised PSNR {worst['psnr']:.2f} dB · SSIM {worst['ssim']:.3f}" in whole_page.text


def test_the_crop_shows_where_the_detail_is(tmp_path: Path) -> None:
    image = np.full((240, 320, 3), 90, np.uint8)
    image[170:200:2, 250:300] = 200
    source = tmp_path / "stripes.png"
    Image.fromarray(image).save(source)
    write_rows(tmp_path / "run", [row("stripes.png", uri=str(source))])
    page = page_of(tmp_path / "run")
    assert (pixels(page.images[1]) == 200).sum() == 15 * 50 * 3


def test_samples_lie_over_the_whole_range_and_are_the_same_each_time(tmp_path: Path) -> None:
    gains = np.random.default_rng(0).permutation(101) / 10
    rows = [row(f"{number:03d}.png", psnr=20.0 + gain, psnr_noisy=20.0) for number, gain in enumerate(gains)]
    write_rows(tmp_path, [*rows, error_row("failed.png", "read", "gone"), row("flat.png", psnr=None, sigma=50.0)])
    score = "psnr - psnr_noisy"
    with sql.connect([str(tmp_path)]) as connection:
        chosen = report_panels.choose(connection, score, levels=1)
        assert report_panels.choose(connection, score, levels=1) == chosen
        few = report_panels.choose(connection, score, levels=4)
    assert [place for place, _ in chosen] == [0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1]
    found = [each["psnr"] - 20.0 for _, each in chosen]
    assert found == pytest.approx([10 * place for place, _ in chosen], abs=0.11)
    assert [place for place, _ in few] == [0, 0.5, 1]


def test_images_of_equal_score_and_many_levels_make_no_more_than_twelve_samples(tmp_path: Path) -> None:
    sigmas = [float(sigma) for sigma in range(5, 21)]
    write_rows(tmp_path, [row(f"{name}.png", sigma=sigma) for sigma in sigmas for name in "cab"])
    page = page_of(tmp_path)
    assert len(page.samples) == 12
    with sql.connect([str(tmp_path)]) as connection:
        chosen = report_panels.choose(connection, "psnr - psnr_noisy", levels=1)
    assert {each["image_id"] for _, each in chosen} == {"a.png"}


def test_denoised_images_that_were_not_kept_are_missed(tmp_path: Path) -> None:
    page = page_of(finished_run(tmp_path, images=2, sigmas=(25.0,), keep=False))
    assert page.samples == [["clean", "noisy"], ["clean", "noisy"]]
    assert "a run with images.format=png would have" in page.text


def test_a_run_that_was_moved_still_shows_its_images(tmp_path: Path) -> None:
    moved = finished_run(tmp_path, images=2, sigmas=(25.0,)).rename(tmp_path / "moved")
    assert page_of(moved).samples == [["clean", "noisy", "denoised"]] * 2


def test_pictures_that_are_gone_changed_or_broken_are_told_and_the_others_shown(tmp_path: Path) -> None:
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


def test_restored_images_have_no_scores(tmp_path: Path) -> None:
    source = finished_run(tmp_path, images=3, sigmas=(25.0,))
    rows = [
        restored(path.name, 10.0 + number, uri=str(path), output_uri=str(source / "images" / "sigma25" / path.name),
                 width=Image.open(path).width, height=Image.open(path).height)
        for number, path in enumerate(sorted((tmp_path / "photos").iterdir()))
    ]  # fmt: skip
    run = tmp_path / "restored"
    write_rows(run, rows)
    write_job(run, 3, noise=None, images={"format": "png"}, input=["a.png", "b.png", "c.png"])
    write_summary(run, session={"rows_per_second": 0.5, "steady_rows_per_second": None})
    page = page_of(run)
    assert page.samples == [["input", "denoised"]] * 3
    assert "The images of 3 files were restored by embedded (mmse, one step)" in page.text
    assert "Noise found σ 11.0" in page.text
    assert "Results a second 0.50 last session, with its start" in page.text
    assert "least noise photo-00.png σ estimated 10.0" in page.text
    assert "PSNR" not in page.text.removesuffix(page.text[page.text.rindex("Written") :])
    assert page.source.count("<svg") == 1
    assert "Unfinished" not in page.text


def test_images_restored_at_a_given_level_are_shown_by_name(tmp_path: Path) -> None:
    write_rows(tmp_path, [restored(f"{name}.png", None, sigma=12.0) for name in "abc'"])  # type: ignore[arg-type]
    page = page_of(tmp_path)
    assert len(page.samples) == 4
    assert "first by name '.png σ 12" in page.text
    assert "<svg" not in page.source


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


def test_a_page_stays_small(tmp_path: Path) -> None:
    """Twelve of the largest panels, of an image with as much noise as is of any use."""
    y, x = np.mgrid[0:600, 0:600]
    source = tmp_path / "waves.png"
    Image.fromarray(np.stack([128 + 100 * np.sin(x * y / k) for k in (900, 1500, 4000)], -1).astype(np.uint8)).save(
        source
    )
    stored = row("waves.png", sigma=75.0, uri=str(source), width=600, height=600, output_uri=str(source))
    panels = report_panels.sample("median", stored, 10**6).panels
    assert [panel.name for panel in panels] == ["clean", "noisy", "denoised"]
    assert report_panels.MOST * sum(len(panel.whole) + len(panel.crop or "") for panel in panels) < 8_000_000


def test_large_images_are_scaled_down_and_tiny_ones_shown_by_pixels(tmp_path: Path) -> None:
    for name, size in {"wide": (1500, 40), "tall": (1, 1300), "tiny": (20, 10)}.items():
        source = tmp_path / f"{name}.png"
        Image.new("RGB", size, (200, 100, 50)).save(source)
        made = report_panels.sample("", row(name, uri=str(source), width=size[0], height=size[1]), 10**6)
        assert [panel.name for panel in made.panels] == ["clean", "noisy"]
        shown = pixels({"src": made.panels[0].whole})
        assert max(shown.shape) <= 600 and made.panels[0].crop is None
        assert np.abs(shown.reshape(-1, 3).mean(axis=0) - (200, 100, 50)).max() < 4


@pytest.mark.parametrize(
    ("least", "step"), [(0.03, 0.05), (0.1, 0.1), (1.0, 1), (1.01, 2), (2.2, 5), (7, 10), (300, 500)]
)
def test_steps_are_round(least: float, step: float) -> None:
    assert charts.nice_step(least) == pytest.approx(step)


def test_bars_and_dots_stand_where_the_axis_says() -> None:
    svg = str(charts.histogram({"σ 25": Bins({-1: 2, 0: 4, 3: 1}, 0.5)}, 0.5, "title", "gain"))
    assert svg.count("<rect") == 3
    for hint in ("−0.5 to 0: 2", "0 to 0.5: 4", "1.5 to 2: 1"):
        assert f"<title>{hint}</title>" in svg
    heights = [float(part.partition('"')[0]) for part in svg.split(' height="')[1:]]
    assert heights[0] / heights[1] == pytest.approx(0.5, abs=0.01)
    dots = [Dot(0, 14.0, 26.0, 1), Dot(1, 20.0, 30.0, 9)]
    svg = str(charts.scatter(dots, ["σ 50", "σ 25"], "title", "x", "y"))
    first, second = (dict(part.split("=") for part in circle.split(" ")[1:5]) for circle in svg.split("<circle")[1:])
    assert first["class"] == '"s0"' and second["class"] == '"s1"'
    assert float(first["cx"][1:-1]) < float(second["cx"][1:-1]) and float(first["cy"][1:-1]) > float(second["cy"][1:-1])


def test_the_command_tells_where_the_page_lies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(tmp_path, [row("a.png")])
    assert command.main([str(tmp_path)]) == shell.DONE
    assert Path(capsys.readouterr().out.strip()).is_file()
    assert shell.run(command.main, [str(tmp_path / "results")]) == shell.WRONG_INPUT
    assert "no run folder" in capsys.readouterr().err


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
