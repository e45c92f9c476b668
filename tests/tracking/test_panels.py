"""The sheet of clean, noisy and denoised pictures: exact pixels at their places."""

import io

import numpy as np
import pytest
from PIL import Image

from imagewizard.tracking import panels as training_panels
from imagewizard.tracking.panels import CAPTION, GAP, HEADER, HEIGHT, MARGIN, WIDTH, ValidationPanel
from tests.support.training_runs import panel


def drawn(panels: list[ValidationPanel]) -> np.ndarray:
    image = Image.open(io.BytesIO(training_panels.draw(panels)))
    assert image.format == "PNG" and image.mode == "RGB"
    return np.asarray(image)


def picture(sheet: np.ndarray, row: int, column: int) -> np.ndarray:
    top, left = HEADER + row * (HEIGHT + CAPTION + GAP), MARGIN + column * (WIDTH + GAP)
    return sheet[top : top + HEIGHT, left : left + WIDTH]


def caption(sheet: np.ndarray, row: int, column: int) -> np.ndarray:
    top, left = HEADER + row * (HEIGHT + CAPTION + GAP) + HEIGHT, MARGIN + column * (WIDTH + GAP)
    return sheet[top : top + CAPTION, left : left + WIDTH]


def test_each_panel_is_a_row_with_the_unscaled_centre_of_each_picture() -> None:
    panels = [panel("a.png", 15.0, 1, (300, 500)), panel("b.png", 50.0, 2, (HEIGHT, WIDTH))]
    sheet = drawn(panels)
    assert sheet.shape == (HEADER + 2 * (HEIGHT + CAPTION + GAP), 2 * MARGIN + 3 * WIDTH + 2 * GAP, 3)
    for column, name in enumerate(("clean", "noisy", "denoised")):
        large, exact = getattr(panels[0], name), getattr(panels[1], name)
        assert np.array_equal(picture(sheet, 0, column), large[30:270, 90:410])
        assert np.array_equal(picture(sheet, 1, column), exact)


@pytest.mark.parametrize(("size", "factor"), [((64, 64), 3), ((100, 30), 2), ((239, 319), 1), ((1, 1), 240)])
def test_small_pictures_are_enlarged_square_by_square(size: tuple[int, int], factor: int) -> None:
    small = panel("small.png", 25.0, 3, (64, 64))
    small = small._replace(**{name: getattr(small, name)[:1, :1].repeat(size[0], 0).repeat(size[1], 1)
                              for name in ("clean", "noisy", "denoised")})  # fmt: skip
    clean = small.clean.copy()
    clean[0, 0] = (1, 2, 3)
    shown = picture(drawn([small._replace(clean=clean)]), 0, 0)
    assert (shown == (1, 2, 3)).all(axis=2).sum() == factor**2
    top, left = (HEIGHT - size[0] * factor) // 2, (WIDTH - size[1] * factor) // 2
    assert tuple(shown[top, left]) == (1, 2, 3)
    assert (left == 0 or tuple(shown[top, left - 1]) == (240, 240, 240)) and shown.shape == (HEIGHT, WIDTH, 3)


def test_a_tall_picture_is_cut_above_and_below() -> None:
    tall = panel("tall.png", 25.0, 4, (700, 100))
    shown = picture(drawn([tall]), 0, 1)
    assert np.array_equal(shown[:, 110:210], tall.noisy[230:470])


def test_captions_tell_panels_apart_and_stay_within_their_column() -> None:
    one = panel("a.png", 15.0, 1)
    other = one._replace(name="b.png", sigma=25.0, psnr=one.psnr + 1)
    sheet = drawn([one, other, one])
    for column in range(3):
        assert (caption(sheet, 0, column) < 200).any()
        assert not np.array_equal(caption(sheet, 0, column), caption(sheet, 1, column))
        assert np.array_equal(caption(sheet, 0, column), caption(sheet, 2, column))
    long = drawn([one._replace(name="folder/" * 60 + "ü.png")])
    gap = long[HEADER:, MARGIN + WIDTH : MARGIN + WIDTH + GAP]
    assert (gap == 255).all()
    assert (caption(long, 0, 0) < 200).sum() > 300


def test_an_empty_sheet_has_a_header() -> None:
    assert drawn([]).shape[0] == HEADER
