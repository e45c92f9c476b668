"""The rows of metrics.jsonl after crashes and resumes, and their lines of text."""

from pathlib import Path

import pytest

from imagewizard.tracking import history
from tests.support.training_runs import event_row, train_row, validation_row, write_metrics

TRAIN = {
    "kind": "train", "step": 120, "steps": 1875, "epoch": 3.25, "loss": 0.061, "mse": 0.05, "perceptual": 0.11,
    "learning_rate": 9e-4, "grad_norm": 0.4, "images_per_second": 14.2, "overhead": 0.03, "eta_seconds": 812.0,
    "time": 1.79e9,
}  # fmt: skip
VALIDATION = {
    "kind": "validation", "step": 200, "epoch": 5.0, "psnr": 30.1, "psnr_50": 27.0, "psnr_15": 33.1, "ssim_15": 0.91,
    "psnr_noisy_15": 24.6, "psnr_2.5": 40.0, "ssim_50": None, "time": 1.79e9,
}  # fmt: skip


def test_rows_are_read_in_order_and_half_a_line_is_ignored(tmp_path: Path) -> None:
    rows = [validation_row(0), train_row(10), event_row(15, "a worker died"), train_row(20)]
    write_metrics(tmp_path, rows, cut=b'{"kind": "train", "step": 3')
    assert history.read(str(tmp_path)) == rows
    write_metrics(tmp_path, rows, cut=b'[1]\n5\n{"step": 3}\n\xff\xfe\n')
    assert history.read(str(tmp_path)) == rows


def test_a_run_without_rows(tmp_path: Path) -> None:
    assert history.read(str(tmp_path)) == []


def test_undone_steps_are_left_out_and_events_stay(tmp_path: Path) -> None:
    undone = [train_row(30, seed=1), train_row(40, seed=1), validation_row(40), event_row(45, "died; from step 20")]
    again = [train_row(30), train_row(40), validation_row(40), train_row(50)]
    write_metrics(tmp_path, [train_row(10), train_row(20), validation_row(20), *undone, *again])
    found = history.read(str(tmp_path))
    assert found == [train_row(10), train_row(20), validation_row(20), undone[-1], *again]


def test_lines() -> None:
    line = history.line
    loss = "0.0610 (mse 0.0500, perceptual 0.1100)"
    assert line(TRAIN, 20.0) == (f"epoch 3.25/20  step 120/1875  loss {loss}  lr 9.0e-04  14.2 images/s  ETA 13:32")
    opening = history.line(TRAIN | {"images_per_second": None, "eta_seconds": None})
    assert "images/s" not in opening and "ETA" not in opening and "lr 9.0e-04" in opening
    one_term = {name: value for name, value in TRAIN.items() if name != "perceptual"} | {"eta_seconds": 0.0}
    assert line(one_term) == "epoch 3.25  step 120/1875  loss 0.0610  lr 9.0e-04  14.2 images/s"
    assert line(VALIDATION) == "step 200  validation  psnr 40.00 / 33.10 / 27.00 dB, ssim .910 at sigma 2.5 / 15 / 50"
    assert line({"kind": "event", "step": 130, "text": "worker 1 died", "time": 0.0}) == "step 130  worker 1 died"
    assert len(line(train_row(1490), 20.0)) <= 115


def test_values_by_level_are_sorted_without_missing_ones() -> None:
    assert list(history.by_level(VALIDATION, "psnr").items()) == [("2.5", 40.0), ("15", 33.1), ("50", 27.0)]
    assert history.by_level(VALIDATION, "psnr_noisy") == {"15": 24.6}
    assert history.by_level(VALIDATION, "ssim") == {"15": 0.91}
    assert history.by_level({"psnr_1e-05": 70.0, "psnr_noisy_2": 40.0, "psnr": 1.0}, "psnr") == {"1e-05": 70.0}


def test_pairs_come_after_the_levels() -> None:
    row = {"psnr_pairs": 38.0, "psnr_noisy_pairs": 36.0, "ssim_pairs": 0.95} | VALIDATION
    assert list(history.by_level(row, "psnr")) == ["2.5", "15", "50", "pairs"]
    assert history.by_level(row, "psnr_noisy") == {"15": 24.6, "pairs": 36.0}
    assert history.at_levels(["15", "50", "pairs"]) == "at sigma 15 / 50 and of pairs"
    assert history.scores({"psnr_pairs": 38.0, "ssim_pairs": 0.95}) == "psnr 38.00 dB, ssim .950 of pairs"
    assert [history.level_label(level) for level in ("2.5", "pairs")] == ["σ 2.5", "pairs"]


def test_the_best_validation_is_the_first_of_equals() -> None:
    rows = [validation_row(0), validation_row(150) | {"psnr": 40.0}, validation_row(300) | {"psnr": 40.0}, TRAIN]
    assert history.best(rows) is rows[1]
    assert history.best([TRAIN]) is None


def test_loss_curves_hold_only_values_for_a_logarithmic_axis() -> None:
    rows = [train_row(10), train_row(20) | {"loss": float("nan")}, train_row(30) | {"mse": 0.0}, validation_row(30)]
    curves = history.loss_curves(rows)
    assert [(name, [step for step, _ in points]) for name, points in curves.items()] == [
        ("loss", [10, 30]), ("mse", [10, 20]), ("perceptual", [10, 20, 30]),
    ]  # fmt: skip
    assert curves["loss"][0] == (10, train_row(10)["loss"])
    one_term = [train_row(10, perceptual=False)]
    assert history.loss_curves(one_term) == {"loss": [(10, one_term[0]["loss"])]}
    assert history.loss_curves([]) == {}


def test_a_chart_of_psnr_begins_below_the_best_of_the_lowest_level() -> None:
    curves = history.psnr_curves([validation_row(0), TRAIN, validation_row(150)])
    assert list(curves) == ["15", "25", "50"]
    assert curves["25"] == [(0, validation_row(0)["psnr_25"]), (150, validation_row(150)["psnr_25"])]
    assert history.psnr_floor(curves) == validation_row(150)["psnr_50"] - 4.0


def test_smoothing_keeps_straight_lines_and_removes_jitter() -> None:
    assert history.smoothed([]) == []
    assert history.smoothed([3.0]) == [3.0]
    level = [5.0] * 200
    assert history.smoothed(level) == pytest.approx(level)
    rising = [float(value) for value in range(200)]
    assert history.smoothed(rising)[:195] == pytest.approx(rising[:195])
    jitter = history.smoothed([1.0, -1.0] * 200)
    assert max(map(abs, jitter[40:])) < 0.2
    assert jitter[0] == 1.0


# --- following a run


def test_reader_gives_each_whole_row_once(tmp_path: Path) -> None:
    reader = history.Reader(str(tmp_path))
    assert reader.news() == []
    write_metrics(tmp_path, [train_row(10)], cut=b'{"kind": "train", "step"')
    assert reader.news() == [train_row(10)]
    assert reader.news() == []
    write_metrics(tmp_path, [train_row(10), train_row(20), validation_row(20)])
    assert reader.news() == [train_row(20), validation_row(20)]
    write_metrics(tmp_path, [train_row(10)])  # a resume dropped the repeated rows
    assert reader.news() == [train_row(10)]
