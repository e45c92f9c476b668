"""The queries that have a name: what each of them finds."""

from pathlib import Path

import pytest

from imagewizard.query.canned import CANNED
from tests.support.queried_run import rows_of
from tests.support.run_folders import error_row, restored, row, write_job, write_rows


def test_summary_counts_and_averages_each_level(run: Path) -> None:
    first, second = rows_of(run, "summary")
    assert (first["run"], first["mode"], first["sigma"]) == (str(run), "mmse", 25.0)
    assert (first["images"], first["ok"], first["errors"]) == (6, 5, 1)
    assert first["psnr"] == pytest.approx((28 + 31.5 + 30 + 20 + 29) / 5)
    assert first["gain"] == pytest.approx(first["psnr"] - 20.17)
    assert first["ssim"] == 0.85  # the one that is null counts as none
    assert (second["sigma"], second["images"], second["gain"], second["seconds"]) == (50.0, 1, pytest.approx(11.85), 2)


def test_each_setting_of_the_noise_is_a_group_of_its_own(tmp_path: Path) -> None:
    settings = ('{"a": 0.5, "b": 4.0}', '{"a": 2.0, "b": 4.0}')
    for block, (params, psnr) in enumerate(zip(settings, (28.4, 26.3), strict=True)):
        noise = {"noise_kind": "poisson-gaussian", "noise_params": params, "sigma": None}
        rows = [row(name, **noise, psnr_noisy=20.0, psnr=psnr) for name in ("a.png", "b.png")]
        write_rows(tmp_path, rows, block=block)
    found = rows_of(tmp_path, "summary")
    assert [(each["noise_params"], each["images"], each["psnr"]) for each in found] == [
        (settings[0], 2, pytest.approx(28.4)), (settings[1], 2, pytest.approx(26.3)),
    ]  # fmt: skip
    found = rows_of(tmp_path, "histogram")
    assert [(each["noise_params"], each["gain_from"], each["images"]) for each in found] == [
        (settings[0], 8, 2), (settings[1], 6, 2),
    ]  # fmt: skip
    assert [each["noise_params"] for each in rows_of(tmp_path, "worst")] == [settings[1]] * 2 + [settings[0]] * 2


def test_best_and_worst_are_ordered_by_gain_and_hold_twenty(run: Path) -> None:
    write_rows(run, [row(f"many/{number:03d}.png", psnr=25.0) for number in range(30)], block=2)
    worst, best = rows_of(run, "worst"), rows_of(run, "best")
    assert len(worst) == len(best) == 20
    assert [each["image_id"] for each in worst[:3]] == ["e.png", "many/000.png", "many/001.png"]
    assert [each["image_id"] for each in best[:2]] == ["a.png", "b/ü.png"]
    assert best[0]["gain"] == pytest.approx(11.85)


def test_errors_are_counted_by_reason_with_an_example(run: Path) -> None:
    write_rows(run, [error_row(f"{name}.png", "read", "no such file") for name in "xy"], block=2)
    assert [tuple(each.values())[1:] for each in rows_of(run, "errors")] == [
        ("read", "no such file", 2, "/images/x.png"),
        ("decode", "truncated again", 1, "/images/d.png"),
    ]


def test_notes_are_counted_one_by_one(run: Path) -> None:
    assert rows_of(run, "notes") == []
    noted = {"x": "without IPTC (why)", "y": "without XMP (why); without IPTC (why)"}
    write_rows(run, [row(f"{name}.png", notes=notes) for name, notes in noted.items()], block=2)
    assert [tuple(each.values())[1:] for each in rows_of(run, "notes")] == [
        ("without IPTC (why)", 2, "/images/x.png"),
        ("without XMP (why)", 1, "/images/y.png"),
    ]


def test_the_histogram_has_a_bar_for_each_decibel(run: Path) -> None:
    bars = [tuple(each.values())[2:] for each in rows_of(run, "histogram") if each["sigma"] == 25.0]
    assert [bar[:4] for bar in bars] == [
        (25.0, -1, 0, 1),
        (25.0, 7, 8, 1),
        (25.0, 8, 9, 1),
        (25.0, 9, 10, 1),
        (25.0, 11, 12, 1),
    ]
    assert bars[0][4] == "█" * 30


def test_slowest_and_by_size(tmp_path: Path) -> None:
    sizes = [(100, 100, 0.1), (120, 100, 0.3), (1000, 1000, 2.0), (1, 1, 0.05)]
    write_rows(tmp_path, [row(f"{w}.png", width=w, height=h, seconds=s) for w, h, s in sizes])
    assert [each["seconds"] for each in rows_of(tmp_path, "slowest")] == [2.0, 0.3, 0.1, 0.05]
    classes = rows_of(tmp_path, "by-size")
    assert [each["images"] for each in classes] == [1, 2, 1]
    middle = classes[1]
    assert middle["megapixels_from"] <= 0.01 < 0.012 < middle["megapixels_to"] == 2 * middle["megapixels_from"]
    assert middle["megapixels_per_s"] == pytest.approx(0.022 / 0.4)


def test_every_canned_query_works_in_restoration_mode_and_without_rows(tmp_path: Path) -> None:
    write_rows(tmp_path / "restored", [restored("a.png", 12.5), restored("b.png", 20.0)])
    write_job(tmp_path / "empty", 3)
    for name in CANNED:
        assert rows_of(tmp_path / "empty", name) == []
        empty = ("worst", "best", "errors", "notes", "histogram")
        assert (rows_of(tmp_path / "restored", name) == []) == (name in empty)
