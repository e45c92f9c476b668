"""The curves as a PNG, for many rows, few and none; the lines are where the rows say."""

import io
import subprocess
import sys

import numpy as np
from PIL import Image, ImageColor

from imagewizard.tracking import curves
from tests.support.training_runs import event_row, rows_until, train_row, validation_row

LEFT, RIGHT, TOP = slice(0, 720), slice(720, 1440), slice(0, 570)


def drawn(rows: list[dict]) -> np.ndarray:
    """uint8 (900, 1440, 3)."""
    image = Image.open(io.BytesIO(curves.draw(rows)))
    assert image.format == "PNG" and image.size == (1440, 900)
    return np.asarray(image.convert("RGB"))


def places(picture: np.ndarray, colour: str) -> np.ndarray:
    """(n, 2): y and x of the pixels of exactly this colour."""
    return np.argwhere((picture == ImageColor.getrgb(colour)).all(axis=2))


def test_the_loss_falls_and_the_psnr_rises() -> None:
    picture = drawn(rows_until(1500))
    for number in range(3):  # loss, mse and perceptual; levels of 15, 25 and 50
        loss = places(picture[TOP, 30:500], curves.COLOURS[number])
        assert loss[loss[:, 1] < 100, 0].mean() < loss[loss[:, 1] > 400, 0].mean() - 60
        psnr = places(picture[TOP, RIGHT], curves.COLOURS[number])
        psnr = psnr[psnr[:, 1] < 560]  # the legend is to the right
        assert psnr[psnr[:, 1] < 120, 0].mean() > psnr[psnr[:, 1] > 440, 0].mean() + 30
    assert len(places(picture[570:, LEFT], curves.COLOURS[3])) > 500
    assert len(places(picture[570:, RIGHT], curves.COLOURS[4])) > 500


def test_a_single_row_is_visible_and_missing_curves_are_noted() -> None:
    nothing, one = drawn([]), drawn([train_row(10)])
    assert len(places(nothing, curves.COLOURS[0])) == 0
    assert len(places(one[TOP, 680:710], curves.COLOURS[1])) > 20
    assert len(places(one[TOP, RIGHT], curves.COLOURS[1])) == 0
    assert (nothing[TOP, RIGHT] == one[TOP, RIGHT]).mean() > 0.98  # "no validation yet" in both
    assert len(places(drawn([validation_row(0)])[TOP, RIGHT], curves.COLOURS[1])) > 20


def test_a_rate_that_is_not_known_yet_is_left_out() -> None:
    unknown = {"images_per_second": None, "overhead": None, "eta_seconds": None}
    assert len(places(drawn([train_row(1) | unknown])[570:, RIGHT], curves.COLOURS[4])) == 0


def test_a_loss_that_cannot_be_drawn_is_left_out() -> None:
    rows = rows_until(300)
    terms = ("loss", "mse", "perceptual")
    nan, zero = (drawn([*rows, train_row(310) | dict.fromkeys(terms, value)]) for value in (float("nan"), 0.0))
    assert np.array_equal(nan, zero)
    assert (nan[TOP, 30:690] == drawn(rows)[TOP, 30:690]).mean() > 0.9


def test_a_new_networks_first_psnr_does_not_squash_the_rest() -> None:
    rows = [validation_row(step) for step in range(0, 1500, 75)]
    low = {name: 3.0 for name in rows[0] if name.startswith("psnr")}
    picture = drawn([rows[0] | low, *rows[1:]])[TOP, RIGHT]
    first, last = (places(picture[:, :500], curves.COLOURS[number])[:, 0] for number in (0, 2))
    assert np.median(last) - np.median(first) > 200


def test_events_are_lines_through_all_four_charts() -> None:
    rows = rows_until(300, perceptual=False)
    difference = (drawn(rows) != drawn([*rows, event_row(150, "a worker died")])).any(axis=2)
    columns = np.flatnonzero(difference.sum(axis=0))
    assert len(columns) < 12
    assert difference[:, LEFT].sum() > 150 and difference[:, RIGHT].sum() > 150


def test_thousands_of_rows_and_many_levels() -> None:
    levels = tuple(float(sigma) for sigma in range(5, 80, 5))
    rows = [train_row(step, 80_000, False) for step in range(10, 80_000, 10)]
    assert drawn([*rows, *(validation_row(step, levels) for step in range(0, 80_000, 800))]).std() > 5


def test_no_state_of_pyplot_and_no_display() -> None:
    program = (
        "import sys; from imagewizard.tracking import curves; "
        "curves.draw([]); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env={"DISPLAY": "nowhere:0"})
