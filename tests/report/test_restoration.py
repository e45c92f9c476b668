"""The images of a restoration: which are shown, and the slider between before and after, in a real browser."""

import base64
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagewizard.query import sql
from imagewizard.report import restoration
from imagewizard.report.panels import ReportSample
from imagewizard.report.restoration import BETWEEN, STRONGEST, UNRANKED, WEAKEST, Unchanged
from tests.support.pages import CHROMIUM, HOSTILE, Page, browse, page_of, pixels
from tests.support.run_folders import error_row, finished_run, restored, write_job, write_rows, write_summary

GREY = 90
# Looks at what a user would see and reach. A page's own policy lets it run once its digest stands there.
PROBE = """addEventListener("load", () => {
  const pairs = [...document.querySelectorAll(".pair")], slider = pairs[0].querySelector("input");
  const edge = () => getComputedStyle(pairs[0].querySelector(".after")).clipPath;
  const box = pairs[0].getBoundingClientRect(), at = edge();
  slider.focus();
  slider.value = 25;
  slider.dispatchEvent(new Event("input"));
  document.body.dataset.probe = JSON.stringify({
    at, moved: edge(), other: getComputedStyle(pairs[1].querySelector(".after")).clipPath, title: document.title,
    focused: document.activeElement === slider,
    hit: document.elementFromPoint(box.left + box.width / 3, box.top + box.height / 3) === slider,
    covers: pairs.every(pair => {
      const [one, two] = [...pair.querySelectorAll("img")].map(image => JSON.stringify(image.getBoundingClientRect()));
      return one === two && JSON.parse(one).height > 60; }),
    loaded: [...document.images].every(image => image.complete && image.naturalWidth > 0),
    wide: [...document.querySelectorAll("main *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1
      && !e.closest(".scroll, pre")).length }) })"""


def write_restored(folder: Path, level: float | None, name: str = "a.png", size: tuple[int, int] = (200, 240)) -> Path:
    """A run of one image: a grey one that came back with a square of it 8 grey levels brighter."""
    before = np.full((*size, 3), GREY, np.uint8)
    after = before.copy()
    after[120:150, 60:120] += 8
    for kind, image in (("before", before), ("after", after)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / kind / "a.png")
    write_job(folder / "run", 1, noise=None)
    uris = {"uri": f"{folder}/before/a.png", "output_uri": f"{folder}/after/a.png"}
    write_rows(folder / "run", [restored(name, level, width=size[1], height=size[0], **uris)])
    return folder / "run"


def chosen(run: Path) -> list[tuple[str, str]]:
    with sql.connect([str(run)]) as connection:
        found = restoration.choose(connection)
        assert restoration.choose(connection) == found
    return [(place, row["image_id"]) for place, row in found]


def test_the_ends_come_first_and_images_that_did_not_change_are_left_out(tmp_path: Path) -> None:
    levels = np.random.default_rng(0).permutation(201) / 10  # 0 is one of them
    rows = [restored(f"{level:04.1f}", float(level)) for level in levels]
    write_rows(tmp_path, [*rows, restored("none", None), error_row("bad", "read", "gone")])
    strongest = [(STRONGEST, name) for name in ("20.0", "19.9", "19.8", "19.7")]
    weakest = [(WEAKEST, name) for name in ("00.1", "00.2", "00.3", "00.4")]
    between = [(BETWEEN, name) for name in ("05.0", "10.0", "15.0")]
    assert chosen(tmp_path) == [*strongest, *weakest, *between]


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([], []),
        ([5], [UNRANKED]),
        ([5, 5, 5], [UNRANKED] * 3),
        ([5, 7], [STRONGEST, WEAKEST]),
        ([5, 6, 7], [STRONGEST, STRONGEST, WEAKEST]),
        ([*range(1, 10)], [STRONGEST] * 4 + [WEAKEST] * 4 + [BETWEEN]),
    ],
)
def test_few_images_are_each_shown_once(tmp_path: Path, levels: list[int], expected: list[str]) -> None:
    write_rows(tmp_path, [restored(f"{number}.png", float(level)) for number, level in enumerate(levels)])
    found = chosen(tmp_path)
    assert [place for place, _ in found] == expected
    assert len({name for _, name in found}) == len(found)


def test_given_levels_rank_as_found_ones_do(tmp_path: Path) -> None:
    write_rows(tmp_path, [restored(f"{sigma}", None, sigma=sigma) for sigma in (3.0, 8.0, 0.0)])
    assert chosen(tmp_path) == [(STRONGEST, "8.0"), (WEAKEST, "3.0")]


def test_what_was_measured_orders_each_place() -> None:
    changes = [(BETWEEN, 5.0), (WEAKEST, 2.0), (STRONGEST, None), (STRONGEST, 3.0), (WEAKEST, 1.0), (STRONGEST, 9.0)]
    ordered = restoration.in_order([ReportSample(place, {}, change=change) for place, change in changes])
    assert [(sample.place, sample.change) for sample in ordered] == [
        (STRONGEST, 9.0), (STRONGEST, 3.0), (STRONGEST, None), (WEAKEST, 1.0), (WEAKEST, 2.0), (BETWEEN, 5.0),
    ]  # fmt: skip


def test_images_that_did_not_change_are_counted_by_reason(tmp_path: Path) -> None:
    rows = [
        restored(f"{name}.png", level) for name, level in zip("fedcba", (0.0, 0.0, 0.0, 0.0, None, 4.0), strict=True)
    ]
    write_rows(tmp_path, [*rows, restored("given", None, sigma=0.0), error_row("bad", "read", "gone", sigma=None)])
    with sql.connect([str(tmp_path)]) as connection:
        assert restoration.unchanged(connection) == Unchanged(5, ["c.png", "d.png", "e.png"], 1, ["b.png"])


def test_a_pair_is_enlarged_where_it_changed_and_the_change_is_measured(tmp_path: Path) -> None:
    page = page_of(write_restored(tmp_path, 6.0))
    assert [image["alt"] for image in page.images] == [
        "input: a.png", "denoised: a.png", "input, enlarged", "denoised, enlarged",
    ]  # fmt: skip
    before, after = pixels(page.images[2]), pixels(page.images[3])
    assert before.shape == after.shape == (104, 168, 3)
    assert (before == GREY).all() and (after == GREY + 8).sum() == 30 * 60 * 3
    rms = 8 * np.sqrt(30 * 60 / (200 * 240))
    assert f"a.png noise of 6.0 (white), told σ 6.0 · changed by {rms:.2f} · 240 × 200 px" in page.text


def test_a_picture_that_is_gone_leaves_a_panel_and_no_slider(tmp_path: Path) -> None:
    run = write_restored(tmp_path, 6.0)
    (tmp_path / "after" / "a.png").unlink()
    page = page_of(run)
    assert page.samples == [["input"]] and "input" not in page.tags
    assert "the denoised image cannot be shown: it is no longer there" in page.text


@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: no chromium on the PATH")
@pytest.mark.parametrize("width", [1300, 500])
def test_the_slider_works_from_a_file_and_under_the_pages_own_policy(tmp_path: Path, width: int) -> None:
    page = write_restored(tmp_path, 6.0, name=f"{HOSTILE}.png") / "report.html"
    page_of(page.parent)
    digest = base64.b64encode(hashlib.sha256(PROBE.encode()).digest()).decode()
    source = page.read_text(encoding="utf-8")
    assert source.count("script-src 'sha256-") == 1
    probed = source.replace("script-src '", f"script-src 'sha256-{digest}' '").replace(
        "<main>", f"<script>{PROBE}</script><main>"
    )
    page.write_text(probed, encoding="utf-8")
    probe = json.loads(Page(browse(page.as_uri(), "1", f"--window-size={width},2000")).probe)
    assert probe == {
        "at": "inset(0px 0px 0px 50%)", "moved": "inset(0px 0px 0px 25%)", "other": "inset(0px 0px 0px 50%)",
        "title": "run – Image Wizard", "focused": True, "hit": True, "covers": True, "loaded": True, "wide": 0,
    }  # fmt: skip


@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: no chromium on the PATH")
def test_a_screen_shows_before_on_the_left_and_after_on_the_right(tmp_path: Path) -> None:
    run = write_restored(tmp_path, 6.0, size=(40, 60))
    Image.new("RGB", (60, 40), (255, 0, 0)).save(tmp_path / "before" / "a.png")
    Image.new("RGB", (60, 40), (0, 0, 255)).save(tmp_path / "after" / "a.png")
    page_of(run)
    browse((run / "report.html").as_uri(), "1", f"--screenshot={tmp_path}/shot.png", "--window-size=1300,2400")
    shot = np.asarray(Image.open(tmp_path / "shot.png").convert("RGB")).astype(int)
    red, blue = (np.argwhere((shot[:, :, one] > 200) & (shot[:, :, other] < 60)) for one, other in ((0, 2), (2, 0)))
    assert min(len(red), len(blue)) > 50_000
    assert red[:, 1].max() < blue[:, 1].min() and abs(len(red) / len(blue) - 1) < 0.1


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
    assert "Noise level σ 11.0 mean of what the network was told" in page.text
    assert "Results a second 0.50 last session, with its start" in page.text
    assert "weakest change photo-00.png noise of 10.0 (white), told σ 10.0 · changed by " in page.text
    assert "PSNR" not in page.text.removesuffix(page.text[page.text.rindex("Written") :])
    assert page.source.count("<svg") == 1
    assert "Unfinished" not in page.text


def test_images_restored_at_one_given_level_have_no_chart_and_no_rank(tmp_path: Path) -> None:
    write_rows(tmp_path, [restored(f"{name}.png", None, sigma=12.0) for name in "abc'"])
    page = page_of(tmp_path)
    assert len(page.samples) == 4
    assert "'.png σ 12" in page.text and "strongest" not in page.text and "changed most come first" not in page.text
    assert "<svg" not in page.source


def test_levels_given_image_by_image_are_charted(tmp_path: Path) -> None:
    rows = [restored(f"{sigma}.png", None, sigma=sigma) for sigma in (5.0, 9.0)]
    failed = restored("bad.png", None, sigma=900.0, status="error", stage="decode", error="broken")
    write_rows(tmp_path, [*rows, failed])
    write_job(tmp_path, 3, noise=None, denoise={"sigma": "std"})
    page = page_of(tmp_path)
    assert page.source.count("<svg") == 1 and page.rows[1][:2] == ["σ given", "2"]
    assert re.findall("<title>([^<]*)</title></rect>", page.source) == ["5 to 5.1: 1", "9 to 9.1: 1"]
    assert "Noise level σ 7.0 mean of what the network was told" in page.text
    assert "453" not in page.text  # the mean with the level of the image that failed


def test_each_kind_of_noise_that_was_found_has_a_line(tmp_path: Path) -> None:
    rows = [restored(f"{std}.png", 3 * std, noise_std=std, noise_found="camera", strength=0.5) for std in (2.0, 4.0)]
    write_rows(tmp_path, [*rows, restored("white.png", 8.0)])
    write_job(tmp_path, 3, noise=None, denoise={"strength": 0.5})
    page = page_of(tmp_path)
    assert ["camera", "2", "3.00", "9.00"] in page.rows and ["white", "1", "8.00", "8.00"] in page.rows
    assert "includes denoise.strength=0.5" in page.text
    assert "4.0.png noise of 4.0 (camera), told σ 12.0" in page.text


def test_a_strength_is_part_of_what_the_network_was_told(tmp_path: Path) -> None:
    write_rows(tmp_path, [restored(f"{sigma}.png", None, sigma=sigma, strength=0.5) for sigma in (5.0, 9.0)])
    assert "strongest change 9.0.png σ 9, told σ 4.5" in page_of(tmp_path).text
    write_rows(tmp_path / "old", [restored(f"{sigma}.png", None, sigma=sigma, strength=None) for sigma in (5.0, 9.0)])
    said = page_of(tmp_path / "old").text  # rows of before there was a strength
    assert "strongest change 9.0.png σ 9 " in said and "told σ" not in said
    write_rows(tmp_path, [restored("a.png", 0.0, strength=0.0), restored("b.png", None, sigma=5.0, strength=0.0)])
    write_job(tmp_path, 1, noise=None, denoise={"strength": 0})
    assert "2 images are as they were, because denoise.strength is 0: a.png , b.png" in page_of(tmp_path).text


def test_images_that_came_back_as_they_were_are_named(tmp_path: Path) -> None:
    rows = [restored(f"clean{number}.png", 0.0) for number in range(4)] + [restored("noisy.png", 8.0)]
    write_rows(tmp_path, [*rows, restored(HOSTILE, None)])
    page = page_of(tmp_path)
    said = "4 images are as they were, because no noise was found: clean0.png , clean1.png , clean2.png and more."
    assert said in page.text
    assert "1 image is as it was, because no level could be found, for too little varies: <script>" in page.text
    assert "as they were" not in page_of(write_rows(tmp_path / "all", rows[4:]).parents[1]).text
