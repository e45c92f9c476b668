"""Clean images that no camera took, for the level finder: pages of text, drawings, starry skies, patterns."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_LETTERS = "etaoinshrdlu cmfwypvbgkqjxz ETAOINSHRDLU 0123456789 .,;:-+()[]{}=<>/%&$#@!?"


def draw(generator: np.random.Generator, side: int) -> np.ndarray:
    """A random one, uint8 (side, side, 3)."""
    kind = (_page, _page, _shapes, _lines, _sky, _texture)[generator.integers(6)]
    return kind(generator, side)


def _colour(generator: np.random.Generator) -> tuple[int, int, int]:
    if generator.random() < 0.5:
        grey = (0, 255, int(generator.integers(256)))[generator.integers(3)]
        return grey, grey, grey
    red, green, blue = generator.integers(0, 256, 3).tolist()
    return red, green, blue


def _background(generator: np.random.Generator, side: int) -> Image.Image:
    """One colour, or a gradient between two."""
    if generator.random() < 0.6:
        return Image.new("RGB", (side, side), _colour(generator))
    ends = np.array([_colour(generator), _colour(generator)], np.float32)
    share = np.linspace(0, 1, side, dtype=np.float32)[:, None, None]
    ramp = np.broadcast_to(ends[0] + share * (ends[1] - ends[0]), (side, side, 3))
    return Image.fromarray(np.rint(ramp).astype(np.uint8)).rotate(90 * int(generator.integers(4)))


def _page(generator: np.random.Generator, side: int) -> np.ndarray:
    """Lines of words, black on white as often as not, thin or bold, upright or a little askew."""
    is_plain = generator.random() < 0.5
    image = Image.new("RGB", (2 * side, 2 * side), "white") if is_plain else _background(generator, 2 * side)
    pen, ink = ImageDraw.Draw(image), (0, 0, 0) if is_plain else _colour(generator)
    size = float(generator.uniform(7, 30))
    font, weight = ImageFont.load_default(size), int(generator.choice([0, 0, 0, 1]))
    top = float(generator.uniform(-size, size))
    pitch = size * float(generator.uniform(1.1, 1.8))
    while top < 2 * side:
        words = "".join(generator.choice(list(_LETTERS), side))
        pen.text((float(generator.uniform(-size, size)), top), words, ink, font, stroke_width=weight)
        top += pitch
    if generator.random() < 0.2:
        image = image.rotate(float(generator.uniform(-5, 5)), Image.Resampling.BICUBIC)
    left = side // 2
    return np.asarray(image)[left : left + side, left : left + side]


def _shapes(generator: np.random.Generator, side: int) -> np.ndarray:
    """Flat and outlined shapes, their edges smooth or not, as on screens and in diagrams."""
    scale = int(generator.integers(1, 4))
    image = _background(generator, side * scale)
    pen = ImageDraw.Draw(image)
    for _ in range(int(generator.integers(3, 40))):
        x, y = generator.integers(-side // 4, side, 2).tolist()
        width, height = generator.integers(2, side, 2).tolist()
        box = [scale * value for value in (x, y, x + width, y + height)]
        outline = _colour(generator) if generator.random() < 0.5 else None
        shape = (pen.rectangle, pen.ellipse)[generator.integers(2)]
        shape(box, fill=_colour(generator), outline=outline, width=scale)
    return np.asarray(image.resize((side, side), Image.Resampling.BOX))


def _lines(generator: np.random.Generator, side: int) -> np.ndarray:
    """Strokes of a pen, or hatching."""
    scale = int(generator.integers(1, 4))
    image = _background(generator, side * scale)
    pen = ImageDraw.Draw(image)
    for _ in range(int(generator.integers(5, 150))):
        points = np.cumsum(generator.normal(0, side / 6, (4, 2)), axis=0) + generator.uniform(0, side, 2)
        width = int(scale * generator.integers(1, 4))
        pen.line([tuple(point) for point in (points * scale).tolist()], _colour(generator), width)
    return np.asarray(image.resize((side, side), Image.Resampling.BOX))


def _sky(generator: np.random.Generator, side: int) -> np.ndarray:
    """Stars of all brightnesses, each a small Gaussian spot, on a dark sky with a glow."""
    places = np.arange(side, dtype=np.float32)
    tint = generator.uniform(0, 40, 3).astype(np.float32)
    width, count = float(generator.uniform(0.5, 1.5)), int(generator.integers(5, 200))
    rows, columns = (
        np.exp(-np.square(places - each[:, None]) / (2 * width**2)) for each in generator.uniform(0, side, (2, count))
    )
    light = np.einsum(
        "nr,nc,nk->rck",
        rows,
        columns,
        255 * generator.random((count, 1)) ** 3 * generator.uniform(0.7, 1, (count, 3)),
        optimize=True,
    )
    sky = tint * (1 + float(generator.random()) * places[:, None, None] / side) + light
    return np.rint(sky.clip(0, 255)).astype(np.uint8)


def _texture(generator: np.random.Generator, side: int) -> np.ndarray:
    """Regular patterns: stripes, checks, dots of a screen print."""
    rows, columns = np.mgrid[:side, :side].astype(np.float32)
    angle, period = float(generator.uniform(0, np.pi)), float(generator.uniform(2, 24))
    along, across = (rows * np.sin(a) + columns * np.cos(a) for a in (angle, angle + np.pi / 2))
    wave = np.sin(2 * np.pi * along / period)
    if generator.random() < 0.5:
        wave = wave * np.sin(2 * np.pi * across / period)
    if generator.random() < 0.5:
        wave = np.sign(wave)
    ends = np.array([_colour(generator), _colour(generator)], np.float32)
    return np.rint(ends[0] + (0.5 + 0.5 * wave[:, :, None]) * (ends[1] - ends[0])).astype(np.uint8)
