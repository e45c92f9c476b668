"""Image files for tests, made by arithmetic: natural-looking photos, broken files of every kind, good but odd ones."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def photo(height: int, width: int, seed: int) -> np.ndarray:
    """uint8 (height, width, 3) with what photographs have: smooth shading, sharp edges at all scales, some texture.

    Dead leaves, discs of power-law radius covering each other (Lee, Mumford & Huang 2001, "Occlusion models for natural
    images"), each with its own colour, shading and grain, at twice the size and averaged down so that edges are soft.
    """
    rng = np.random.default_rng(seed)
    rows, columns = 2 * height, 2 * width
    extent = max(rows, columns)
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    base, slope = rng.uniform(80, 180) + rng.normal(0, 20, 3), rng.uniform(-60, 60, (2, 3))
    canvas = (base + (y / extent)[..., None] * slope[0] + (x / extent)[..., None] * slope[1]).astype(np.float32)
    for _ in range(90):
        radius = extent * 0.02 / (1 - rng.uniform(0, 0.96)) ** 0.8  # 2 % to 26 % of the longer side
        row, column = rng.uniform(0, rows), rng.uniform(0, columns)
        top, bottom = max(0, int(row - radius)), min(rows, int(row + radius) + 2)
        left, right = max(0, int(column - radius)), min(columns, int(column + radius) + 2)
        dy, dx = y[top:bottom, left:right] - row, x[top:bottom, left:right] - column
        inside = dy**2 + dx**2 < radius**2
        angle, period = rng.uniform(0, np.pi), rng.uniform(8, 40)
        grain = rng.uniform(0, 14) * np.sin((dx * np.cos(angle) + dy * np.sin(angle)) * (2 * np.pi / period))
        shading = rng.uniform(-40, 40) * (dx + dy) / (2 * radius) + grain
        leaf = rng.uniform(30, 225) + rng.normal(0, 25, 3).astype(np.float32) + shading[..., None]
        canvas[top:bottom, left:right][inside] = leaf[inside]
    halved = canvas.reshape(height, 2, width, 2, 3).mean(axis=(1, 3))
    return np.clip(halved + rng.normal(0, 1.0, halved.shape), 0, 255).round().astype(np.uint8)


def write_photos(folder: Path, count: int, size: int) -> list[str]:
    """Writes `count` square PNG photos of `size` pixels, `photo-00000.png`, …; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"photo-{index:05d}.png" for index in range(count)]
    for index, name in enumerate(names):
        (folder / name).write_bytes(encoded(Image.fromarray(photo(size, size, seed=index)), "PNG"))
    return names


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    """The file bytes that Pillow writes for an image."""
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *chunks: bytes) -> bytes:
    """A PNG by hand: `rows` as stored (each with its filter byte in front), `chunks` before the pixels."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(rows))
    return PNG_SIGNATURE + header + b"".join(chunks) + pixels + png_chunk(b"IEND", b"")


def tiff(width: int, height: int, bits: int, photometric: int, pixels: bytes, **fields: int | list[int]) -> bytes:
    """An uncompressed little-endian TIFF by hand, of one strip.

    `fields`: samples, sample_format, extra, colormap, orientation.
    """
    samples = fields.get("samples", 1)
    assert isinstance(samples, int)
    tags: dict[int, list[int]] = {
        256: [width],
        257: [height],
        258: [bits] * samples,
        259: [1],  # not compressed
        262: [photometric],
        273: [0],  # where the pixels are: filled in below
        277: [samples],
        278: [height],
        279: [len(pixels)],
        339: [fields.get("sample_format", 1)] * samples,  # type: ignore[list-item]
    }
    if "colormap" in fields:
        tags[320] = fields["colormap"]  # type: ignore[assignment]
    if "orientation" in fields:
        tags[274] = [fields["orientation"]]  # type: ignore[list-item]
    if "extra" in fields:
        tags[338] = [fields["extra"]]  # type: ignore[list-item]
    if photometric == 6:
        tags[530] = [1, 1]  # YCbCr without subsampling
    start_of_long_values = 8 + 2 + 12 * len(tags) + 4
    tags[273] = [start_of_long_values + sum(2 * len(values) for values in tags.values() if len(values) > 2)]
    entries = long_values = b""
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"<{len(values)}H", *values)
        if len(packed) > 4:
            packed, long_values = struct.pack("<I", start_of_long_values + len(long_values)), long_values + packed
        entries += struct.pack("<HHI", tag, 3, len(values)) + packed.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + long_values + pixels


def camera_exif(**tags: object) -> Image.Exif:
    """EXIF as a camera writes it, with tags in all four directories; `tags` of the main one: make, orientation, …"""
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.ResolutionUnit] = "Maker", 2
    exif[ExifTags.Base.XResolution] = exif[ExifTags.Base.YResolution] = 72.5
    for name, value in tags.items():
        exif[ExifTags.Base[name]] = value
    photo_tags = {0x829A: 0.005, 0x9000: b"0232", 0x927C: b"maker note\1\2\xff", 0x9204: -0.5, 0xA002: 640, 0xA003: 480}
    exif.get_ifd(ExifTags.IFD.Exif).update(photo_tags | {ExifTags.IFD.Interop: {1: "R98"}})
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({0: b"\2\3\0\0", 1: "N", 2: (50.0, 4.0, 12.5)})
    return exif


def exif_values(image: Image.Image) -> dict[str, dict[int, object]]:
    """All tags of a file as Pillow reads them, by directory, except pointers to directories."""
    exif = image.getexif()
    directories = {name: dict(exif.get_ifd(ExifTags.IFD[name])) for name in ("Exif", "GPSInfo", "Interop")}
    found: dict[str, dict[int, object]] = {"main": dict(exif)} | directories
    return {name: {tag: v for tag, v in tags.items() if tag not in iter(ExifTags.IFD)} for name, tags in found.items()}


@cache
def icc_profile(space: str) -> bytes:
    """A profile of the data colour space "RGB ", "GRAY", …; all use the tables of the first."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[:16] + space.encode() + profile[20:]


# ---------------------------------------------------------------------------------------------------- broken files


@cache
def _whole(format: str) -> bytes:
    return encoded(Image.fromarray(photo(48, 64, seed=7)), format)


def _cut(format: str) -> Callable[[np.random.Generator], bytes]:
    """Cut at a random place between a quarter of the file and its last 16 bytes."""

    def cut(rng: np.random.Generator) -> bytes:
        whole = _whole(format)
        return whole[: int(rng.integers(len(whole) // 4, len(whole) - 16))]

    return cut


def _bad_crc(rng: np.random.Generator) -> bytes:
    data = bytearray(_whole("PNG"))
    length = int.from_bytes(data[data.index(b"IDAT") - 4 : data.index(b"IDAT")], "big")
    data[data.index(b"IDAT") + 4 + length] ^= 1 << int(rng.integers(8))
    return bytes(data)


def _bad_zlib(rng: np.random.Generator) -> bytes:
    """The chunk's checksum is right, but its content cannot be inflated."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 48, 8, 2, 0, 0, 0))
    body = zlib.compress(bytes(100))[:10] + rng.bytes(2000)
    return PNG_SIGNATURE + header + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")


# kind: (suffix, contents)
BROKEN: dict[str, tuple[str, Callable[[np.random.Generator], bytes]]] = {
    "truncated_jpeg": (".jpg", _cut("JPEG")),
    "truncated_png": (".png", _cut("PNG")),
    "truncated_webp": (".webp", _cut("WEBP")),
    "empty": (".jpg", lambda rng: b""),
    "text": (".jpg", lambda rng: f"photo number {rng.integers(1000)} was removed, café\n".encode()),
    "html": (".png", lambda rng: b"<!DOCTYPE html>\n<html><body><h1>404 Not Found</h1></body></html>\n"),
    "png_bad_crc": (".png", _bad_crc),
    "png_bad_zlib": (".png", _bad_zlib),
    "bomb": (".png", lambda rng: png(50_000, 50_000, 8, 0, bytes(1000))),
    "vanished": (".jpg", lambda rng: b""),  # a symlink to nowhere: listed, then gone
    "pdf": (".jpg", lambda rng: b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\n%%EOF\n"),
    "wrong_magic": (".png", lambda rng: b"\x00" + _whole("PNG")[1:]),
    "random": (".jpg", lambda rng: b"\x80" + rng.bytes(int(rng.integers(1, 5000)))),
}


def write_broken_files(folder: Path, count: int) -> dict[str, str]:
    """Writes `count` unusable image files, the kinds of BROKEN in turn; {name: kind}. The same on every call."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    kinds = list(BROKEN)
    for index in range(count):
        kind = kinds[index % len(kinds)]
        suffix, contents = BROKEN[kind]
        name = f"broken-{index:05d}-{kind}{suffix}"
        if kind == "vanished":
            (folder / name).symlink_to(folder / f"gone-{index:05d}{suffix}")
        else:
            (folder / name).write_bytes(contents(np.random.default_rng(index)))
        written[name] = kind
    return written


# ------------------------------------------------------------------------------------------------------- good files


def valid_files() -> dict[str, bytes]:
    colour = Image.fromarray(photo(40, 56, seed=5))
    palette = colour.quantize(32)
    return {
        "jpeg": encoded(colour, "JPEG"),
        "progressive": encoded(colour, "JPEG", progressive=True),
        "cmyk": encoded(colour.convert("CMYK"), "JPEG"),
        "png": encoded(colour, "PNG"),
        "png-palette": encoded(palette, "PNG", transparency=bytes(32)),
        "webp": encoded(colour, "WEBP"),
        "webp-lossless": encoded(colour, "WEBP", lossless=True),
        "gif": encoded(palette, "GIF"),
        "bmp": encoded(colour, "BMP"),
        "tiff": encoded(colour, "TIFF"),
        "tiff-lzw": encoded(colour, "TIFF", compression="tiff_lzw"),
        "tiff-jpeg": encoded(colour, "TIFF", compression="jpeg"),
        "tiff-fax": encoded(colour.convert("1"), "TIFF", compression="group4"),
    }


# ------------------------------------------------------------------------------------------------ good but odd files


def write_odd_files(folder: Path) -> dict[str, tuple[int, int]]:
    """Writes valid images of rare forms; {name: (height, width) of the decoded image}. The same on every call."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {}
    for name, data, size in _odd_files():
        (folder / name).write_bytes(data)
        sizes[name] = size
    return sizes


def _odd_files() -> Iterator[tuple[str, bytes, tuple[int, int]]]:
    size = 40, 56
    pixels = photo(*size, seed=3)
    colour = Image.fromarray(pixels)
    other = Image.fromarray(photo(*size, seed=4))
    grey, palette = colour.convert("L"), colour.quantize(32)
    alpha = Image.fromarray(np.indices(size).sum(axis=0).astype(np.uint8) * 2)
    with_alpha = colour.copy()
    with_alpha.putalpha(alpha)
    deep = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    sideways = Image.Exif()
    sideways[0x0112] = 6  # to be turned a quarter clockwise

    yield "grey.jpg", encoded(grey, "JPEG"), size
    yield "grey-16bit.png", encoded(deep, "PNG"), size
    yield "grey-16bit.tif", encoded(deep, "TIFF"), size
    yield "grey-alpha.png", encoded(Image.merge("LA", (grey, alpha)), "PNG"), size
    yield "colour-16bit.png", png(2, 1, 16, 2, bytes(13)), (1, 2)
    yield "alpha.png", encoded(with_alpha, "PNG"), size
    yield "alpha.webp", encoded(with_alpha, "WEBP"), size
    yield "palette-transparent.png", encoded(palette, "PNG", transparency=bytes(range(32))), size
    yield "palette-transparent.gif", encoded(palette, "GIF", transparency=5), size
    yield "palette.bmp", encoded(palette, "BMP"), size
    yield "one-bit.png", encoded(colour.convert("1"), "PNG"), size
    yield "one-bit-fax.tiff", encoded(colour.convert("1"), "TIFF", compression="group4"), size
    yield "cmyk.jpg", encoded(colour.convert("CMYK"), "JPEG"), size
    yield "cmyk.tif", encoded(colour.convert("CMYK"), "TIFF"), size
    yield "lab.tif", tiff(2, 1, 8, 8, bytes(6), samples=3), (1, 2)
    yield "animated.gif", encoded(palette, "GIF", save_all=True, append_images=[other.quantize(32)]), size
    yield "animated.webp", encoded(colour, "WEBP", save_all=True, append_images=[other]), size
    yield "animated.png", encoded(colour, "PNG", save_all=True, append_images=[other]), size
    yield "pages.tiff", encoded(colour, "TIFF", save_all=True, append_images=[other.resize((9, 9))]), size
    for suffix, format in ((".jpg", "JPEG"), (".png", "PNG"), (".webp", "WEBP"), (".tif", "TIFF")):
        yield f"sideways{suffix}", encoded(colour, format, exif=sideways), size[::-1]
    yield "progressive.jpg", encoded(colour, "JPEG", progressive=True), size
    yield "lzw.tif", encoded(colour, "TIFF", compression="tiff_lzw"), size
    yield "one-pixel.png", encoded(colour.crop((0, 0, 1, 1)), "PNG"), (1, 1)
    yield "one-row.png", encoded(colour.crop((0, 0, 56, 1)), "PNG"), (1, 56)
    yield "one-column.jpg", encoded(colour.crop((0, 0, 1, 40)), "JPEG"), (40, 1)
    yield "UPPER.JPG", encoded(colour, "JPEG"), size
    yield "two words, größer.jpeg", encoded(colour, "JPEG"), size
    yield "jpeg-inside.png", encoded(colour, "JPEG"), size


# What is seen of the stored [[1, 2, 3], [4, 5, 6]] by its orientation (Exif 2.3, tag 0x0112).
UPRIGHT = {
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[4, 1], [5, 2], [6, 3]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[3, 6], [2, 5], [1, 4]],
}
