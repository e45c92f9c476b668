"""Draws the images of a validation: clean, noisy and denoised side by side, in one PNG."""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from imagewizard.schema import level_text

# Size of a picture in pixels: large enough to judge texture, and three fit side by side on a page.
WIDTH, HEIGHT = 320, 240
GAP, MARGIN, CAPTION, HEADER = 12, 16, 24, 30
PAPER, INK, FAINT = "#ffffff", "#1a1d23", "#5c6470"
COLUMNS = ("clean", "noisy", "denoised")


class ValidationPanel(NamedTuple):
    """One image of a validation; its three pictures are uint8 (H, W, 3) of the same size, PSNRs are in dB."""

    name: str
    sigma: float
    clean: np.ndarray
    noisy: np.ndarray
    denoised: np.ndarray
    psnr_noisy: float
    psnr: float


def draw(rows: list[ValidationPanel]) -> bytes:
    """A PNG with one row per panel. It shows the centre of each picture at full resolution.

    Pictures are not scaled down, because that would remove noise. Pictures that fit twice or more are enlarged by a
    whole factor, so that each pixel becomes a square.
    """
    width = 2 * MARGIN + 3 * WIDTH + 2 * GAP
    sheet = Image.new("RGB", (width, HEADER + len(rows) * (HEIGHT + CAPTION + GAP)), PAPER)
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(COLUMNS):
        pen.text((_left(column), 8), title, INK, _font(15, bold=True))
    for number, panel in enumerate(rows):
        top = HEADER + number * (HEIGHT + CAPTION + GAP)
        captions = (
            panel.name,
            f"σ {level_text(panel.sigma)} · {panel.psnr_noisy:.2f} dB",
            f"{panel.psnr:.2f} dB · gain {panel.psnr - panel.psnr_noisy:+.2f}",
        )
        pictures = (panel.clean, panel.noisy, panel.denoised)
        for column, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
            sheet.paste(Image.fromarray(_fitted(picture)), (_left(column), top))
            pen.text((_left(column), top + HEIGHT + 4), _shortened(caption, pen), FAINT, _font(13))
    data = io.BytesIO()
    sheet.save(data, "PNG")
    return data.getvalue()


def _left(column: int) -> int:
    return MARGIN + column * (WIDTH + GAP)


def _fitted(picture: np.ndarray) -> np.ndarray:
    """uint8 (HEIGHT, WIDTH, 3): the centre of a large picture, or a small one enlarged on grey."""
    factor = max(1, min(HEIGHT // picture.shape[0], WIDTH // picture.shape[1]))
    large = picture.repeat(factor, axis=0).repeat(factor, axis=1)
    top, left = max(0, large.shape[0] - HEIGHT) // 2, max(0, large.shape[1] - WIDTH) // 2
    middle = large[top : top + HEIGHT, left : left + WIDTH]
    room = np.full((HEIGHT, WIDTH, 3), 240, np.uint8)
    down, across = (HEIGHT - middle.shape[0]) // 2, (WIDTH - middle.shape[1]) // 2
    room[down : down + middle.shape[0], across : across + middle.shape[1]] = middle
    return room


def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu from matplotlib's files, because it has a σ; Pillow's default font if matplotlib is missing."""
    try:
        import matplotlib  # takes half a second, and training needs it only here
    except ModuleNotFoundError:
        return ImageFont.load_default(size)
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)


def _shortened(text: str, pen: ImageDraw.ImageDraw) -> str:
    """The text, cut at its start if it is too long, because paths differ at their end."""
    short = text
    while pen.textlength(short, _font(13)) > WIDTH:
        text = text[1:]
        short = f"…{text}"
    return short
