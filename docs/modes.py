"""Measures the modes of the embedded model on the test sets: docs/modes.md has the table, docs/modes.svg the plot.

python -m docs.modes --cbsd68 DIR --kodak24 DIR --vgg19 FILE

VGG distance is the mean squared difference of VGG19's features (relu1_2, relu2_2, relu3_1; training/losses.py): the
lower, the more alike two images look. FILE holds VGG19's weights as `loss.perceptual.weights` takes them.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image

import imagewizard as iw
from docs.generate import with_part
from imagewizard.config.train import PerceptualSection
from imagewizard.diffusion import pixels
from imagewizard.training.losses import VGG19Features, feature_error

PLOT = Path(__file__).with_name("modes.svg")
PAGE = Path(__file__).with_name("modes.md")
LEVELS = (15, 25, 50)
STEPS = (2, 5, 10)
BLENDED = 5  # steps of the sample that is blended with the posterior mean
LAMBDAS = (0.25, 0.5, 0.75)
DIGITS = (2, 4, 4, 2)
"""Decimals of the scores, in the table and in the plot."""
COLOURS = ("#1f5fa8", "#d1495b", "#9fc2e8", "#5b8fd0", "#123a6b", "#f0c9a0", "#e39a4f", "#a65e12")

Restored = tuple[str, np.ndarray, float]
"""A mode, its estimate (float32, 0-255 scale), and the seconds that it took."""
Scores = dict[tuple[str, str, int], np.ndarray]
"""{(set, mode, level): mean PSNR, SSIM, VGG distance, seconds a megapixel}"""


def main() -> None:
    """Prints the tables and writes both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, metavar in (("cbsd68", "DIR"), ("kodak24", "DIR"), ("vgg19", "FILE")):
        parser.add_argument(f"--{name}", required=True, metavar=metavar)
    arguments = parser.parse_args()
    features = VGG19Features(arguments.vgg19, PerceptualSection().layers)
    scores: Scores = {}
    for name, folder in (("CBSD68", arguments.cbsd68), ("Kodak24", arguments.kodak24)):
        scores |= measure(name, sorted(Path(folder).glob("*.png")), features)
    text = table(scores)
    print(text)
    PAGE.write_text(with_part(PAGE.read_text(), "table", text))
    draw(scores, PLOT)


def measure(name: str, paths: list[Path], features: VGG19Features) -> Scores:
    """Means over the images of one set, by mode and level."""
    restore = _restorers()
    found: dict[tuple[str, str, int], list[list[float]]] = defaultdict(list)
    for path in paths:
        clean = np.asarray(Image.open(path).convert("RGB"))
        targets = seen(features, clean)
        for sigma in LEVELS:
            noisy = iw.add_noise(clean, sigma, key=path.name)
            for mode, estimate, seconds in restore(noisy, float(sigma)):
                image = np.clip(np.rint(estimate), 0, 255).astype(np.uint8)
                distance = float(feature_error(seen(features, image), targets))
                scores = [iw.psnr(image, clean), iw.ssim(image, clean) or 0.0, distance]
                found[name, mode, sigma].append([*scores, seconds / clean[:, :, 0].size * 1e6])
        print(f"{name} {path.name}", flush=True)
    means = {key: np.mean(rows, axis=0).tolist() for key, rows in found.items()}
    return {key: np.array([round(*pair) for pair in zip(row, DIGITS, strict=True)]) for key, row in means.items()}


@torch.inference_mode()
def seen(features: VGG19Features, image: np.ndarray) -> list[torch.Tensor]:
    """The features of a uint8 image."""
    found: list[torch.Tensor] = features(pixels.to_tensor(image)[None])
    return found


def _restorers() -> Callable[[np.ndarray, float], Iterator[Restored]]:
    """All modes of the embedded model. A blend is made of the mean and the sample that are there already."""
    mmse = iw.Denoiser.from_pretrained()
    samplers = {steps: iw.Denoiser.from_pretrained(mode="ddim", steps=steps) for steps in STEPS}
    ensemble = iw.Denoiser.from_pretrained(ensemble=True)

    def timed(denoiser: iw.Denoiser, noisy: np.ndarray, sigma: float) -> tuple[np.ndarray, float]:
        started = time.perf_counter()
        return denoiser(noisy, sigma), time.perf_counter() - started

    def restore(noisy: np.ndarray, sigma: float) -> Iterator[Restored]:
        yield "noisy", noisy, 0.0
        mean, seconds = timed(mmse, noisy, sigma)
        yield "mmse", mean, seconds
        yield "mmse, ensemble", *timed(ensemble, noisy, sigma)
        samples = {steps: timed(sampler, noisy, sigma) for steps, sampler in samplers.items()}
        for steps, (sample, spent) in samples.items():
            yield f"ddim, {steps} steps", sample, spent
        sample, spent = samples[BLENDED]
        for share in LAMBDAS:
            yield f"blend, λ {share:g}", share * sample + (1 - share) * mean, seconds + spent

    return restore


def table(scores: Scores) -> str:
    """Markdown: for each set and mode PSNR / SSIM / VGG distance at each level, and the time."""
    heads = [f"σ = {sigma}: PSNR / SSIM / VGG" for sigma in LEVELS]
    lines = [f"| set | mode | {' | '.join(heads)} | s a megapixel |", "|---" * (3 + len(LEVELS)) + "|"]
    for name, mode in dict.fromkeys((name, mode) for name, mode, _ in scores):
        rows = [scores[name, mode, sigma] for sigma in LEVELS]
        cells = [f"{psnr:.2f} / {ssim:.4f} / {vgg:.4f}" for psnr, ssim, vgg, _ in rows]
        seconds = np.mean([row[3] for row in rows])
        lines.append(f"| {name} | {mode} | {' | '.join(cells)} | {f'{seconds:.2f}' if seconds else ''} |")
    return "\n".join(lines)


def draw(scores: Scores, path: Path) -> None:
    """Draws a plot into `path`: PSNR against VGG distance on CBSD68, a panel a level."""
    plt.rcParams["svg.hashsalt"] = "modes"  # the same file for the same figures
    figure, panels = plt.subplots(1, len(LEVELS), figsize=(10, 3.4), layout="constrained")
    for axes, sigma in zip(panels, LEVELS, strict=True):
        points = {mode: row for (name, mode, level), row in scores.items() if (name, level) == ("CBSD68", sigma)}
        del points["noisy"]
        for (mode, (psnr, _, vgg, _)), colour in zip(points.items(), COLOURS, strict=False):
            marker = {"mmse": "o", "ddim": "s", "blend": "^"}[mode.split(",")[0]]
            axes.plot(vgg, psnr, marker, color=colour, markersize=8, label=mode)
        axes.margins(0.12)
        axes.set(title=f"σ = {sigma}", xlabel="VGG distance")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("PSNR in dB")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize="small")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
