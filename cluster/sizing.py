"""How many CPU cores keep a GPU busy: `python cluster/sizing.py [IMAGE …] [--gpu-rate IMAGES_PER_SECOND]`.

Measures how many images a core decodes and encodes a second, as the job does both: yours, or a photograph in two sizes.
CPU time is measured, so other work on the machine disturbs little.
"""

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path

from imagewizard.images import encoding, picture
from imagewizard.images.errors import ImageError

# Images of 256×256 a second: the embedded model on an H100, the bare network (docs/training.md).
GPU_RATE = 1769.0
GPU_PIXELS = 256 * 256
MAX_PIXELS = 100_000_000  # the default of max_pixels


def rate(work: Callable[[], object], seconds: float) -> float:
    """How often a core does `work` a second, measured over `seconds` of CPU time at least."""
    work()  # loads codecs
    began, times = time.process_time(), 0
    while not times or time.process_time() - began < seconds:
        work()
        times += 1
    return times / (time.process_time() - began)


def samples() -> dict[str, bytes]:
    """{name: JPEG file of quality 90} of scikit-image's astronaut in two sizes."""
    from PIL import Image
    from skimage.data import astronaut

    found = {}
    for width, height in ((256, 256), (500, 375)):
        file = io.BytesIO()
        Image.fromarray(astronaut()).resize((width, height)).save(file, "JPEG", quality=90)
        found[f"{width}x{height}.jpg"] = file.getvalue()
    return found


HEADER = f"""\
{"":28}  a core, images/s          a GPU      cores for a GPU
{"image":22}{"kB":>6}{"decode":>9}{"to jpg":>8}{"to png":>8}{"images/s":>10}{"decode":>9}{"to jpg":>8}{"to png":>8}"""


def row(name: str, data: bytes, gpu_rate: float, seconds: float = 1.0) -> str:
    """A line below HEADER: rates of one core, and how many cores a GPU of `gpu_rate` (256×256) needs for each step."""
    decoded = picture.decode(data, MAX_PIXELS, keep=False)
    height, width = decoded.pixels.shape[:2]
    rates = [
        rate(work, seconds)
        for work in (
            lambda: picture.decode(data, MAX_PIXELS, keep=False),
            lambda: encoding.encode(decoded, "jpg"),
            lambda: encoding.encode(decoded, "png"),
        )
    ]
    images = gpu_rate * GPU_PIXELS / (width * height)  # a network's work grows with the pixels
    decode, jpg, png = rates
    cores = "".join(f"{images / each:>{space}.1f}" for each, space in zip(rates, (9, 8, 8), strict=True))
    return f"{name[:21]:22}{len(data) / 1000:>6.0f}{decode:>9.0f}{jpg:>8.0f}{png:>8.0f}{images:>10.0f}{cores}"


def main() -> None:
    parser = argparse.ArgumentParser(description="How many CPU cores keep a GPU busy.")
    parser.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help="image files of yours")
    parser.add_argument("--gpu-rate", type=float, default=GPU_RATE, help=f"256x256 images/s of the GPU ({GPU_RATE:g})")
    arguments = parser.parse_args()
    print(HEADER)
    files = [(str(path), path.read_bytes) for path in arguments.images]
    for name, read in files or [(name, lambda data=data: data) for name, data in samples().items()]:
        try:
            text = row(name, read(), arguments.gpu_rate)
        except (OSError, ImageError) as error:
            parser.error(f"{name}: {error}")
        print(text, flush=True)


if __name__ == "__main__":
    main()
