"""Takes a finished leg of training as the embedded model, and renews its card from measured figures.

python -m docs.embedded_model RUN "two CPU cores" --cbsd68 DIR --kodak24 DIR

RUN is the run of a leg (configs/embedded.yaml says how to make one). If its validation gained GAIN dB or more, its
weights become the package's. Bulk jobs score them on both test sets and on CBSD68 in grey, and the tables of the card
(imagewizard/models/embedded/README.md) and the curve (docs/embedded_model.svg) are drawn anew. Without RUN the weights
stay, and only the scores are renewed.

history.json beside the weights holds all the figures; the text between the tables is written by hand.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

import imagewizard as iw
from docs.generate import with_part
from imagewizard.config.denoise import DenoiseConfig
from imagewizard.errors import UserError
from imagewizard.models import files
from imagewizard.models.fetch import WEIGHTS
from imagewizard.runs import job
from imagewizard.tracking import history as tracking

MODEL = Path(iw.__file__).parent / "models" / "embedded"
CARD, HISTORY = MODEL / "README.md", MODEL / "history.json"
CURVE = Path(__file__).with_name("embedded_model.svg")
GAIN = 0.05
LEVELS = (15, 25, 50)
SETS = {
    "cbsd68": "CBSD68, 68 images",
    "kodak24": "Kodak24, 24 crops of 500×500",
    "cbsd68_grey": "CBSD68 in grey",
}


def main(words: Sequence[str] | None = None) -> None:
    """Does what the module says. Raises UserError as `stage` does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", metavar="RUN", help="the run folder of a finished leg")
    parser.add_argument("hardware", nargs="?", default="", metavar="HARDWARE", help="what it ran on")
    parser.add_argument("--cbsd68", required=True, metavar="DIR", help="the 68 images")
    parser.add_argument("--kodak24", required=True, metavar="DIR", help="the 24 images")
    arguments = parser.parse_args(words)
    figures = json.loads(HISTORY.read_text())
    if arguments.run:
        if not arguments.hardware:
            parser.error("say what it ran on: HARDWARE")
        figures["stages"].append(stage(arguments.run, arguments.hardware, figures["stages"]))
        (MODEL / WEIGHTS).write_bytes(Path(arguments.run, "model", WEIGHTS).read_bytes())
    figures["scores"] = measure(arguments.cbsd68, arguments.kodak24)
    figures["stages"][-1] |= {name: [figures["scores"][name][str(s)]["psnr"] for s in LEVELS] for name in SETS}
    HISTORY.write_text(json.dumps(figures, indent=1) + "\n")
    CARD.write_text(renewed(CARD.read_text(), figures))
    draw(figures["stages"])
    print(renewed(CARD.read_text(), figures))


def stage(run: str, hardware: str, stages: list[dict[str, Any]]) -> dict[str, Any]:
    """What the history keeps of a leg: its hardware, and when it was validated after how many pixels with what score.

    Raises UserError unless it is a finished leg of the weights in the package that gained enough.
    """
    summary, described = iw.Run(run).summary(), job.read_job(run)
    if summary is None or described is None or described["kind"] != "train":
        raise UserError(f"{run} is no finished training", "give the run folder of a leg", "RUN")
    if described["model_fingerprint"] != files.find("embedded").fingerprint:
        raise UserError(f"{run} did not start from the embedded model as it is now", "give a leg of it", "RUN")
    scored = tracking.of_kind(tracking.read(run), tracking.VALIDATION)
    if scored[-1] != tracking.best(scored):
        raise UserError(f"{run} was better before its end", "lower its rate", "RUN")  # RUN/model is the best one
    gained = scored[-1]["psnr"] - scored[0]["psnr"]
    if gained < GAIN:
        raise UserError(f"{run} gained {gained:.3f} dB", f"train on: less than {GAIN} dB is not worth a commit", "RUN")
    config = described["config"]
    step_pixels = config["optimizer"]["batch_size"] * config["data"]["crop"] ** 2
    began = scored[0]["time"] - scored[0]["seconds"]
    return {
        "name": f"{len(stages) + 1}: on from stage {len(stages)}",
        "hardware": hardware,
        "validation": [
            {
                "hours": round((row["time"] - began) / 3600, 3),
                "gigapixels": round(row["step"] * step_pixels / 1e9, 3),
                "psnr": [row[f"psnr_{s}"] for s in LEVELS],
            }
            for row in scored
        ],
    }


def measure(cbsd68: str, kodak24: str) -> dict[str, dict[str, dict[str, float]]]:
    """{set: {level: {psnr_noisy, psnr, ssim_noisy, ssim}}}, means of bulk jobs with the embedded model."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        grey = Path(folder, "grey")
        grey.mkdir()
        for path in sorted(Path(cbsd68).glob("*.png")):
            Image.open(path).convert("L").save(grey / path.name)
        for name, source in zip(SETS, (cbsd68, kodak24, str(grey)), strict=True):
            config = DenoiseConfig.model_validate(
                {"input": source, "output": f"{folder}/{name}", "noise": {"sigma": list(LEVELS)}}
            )
            summary = iw.run_denoise_job(config, reporter=print).summary()
            assert summary is not None, "it is finished"
            found[name] = {f"{mean['sigma']:g}": _rounded(mean) for mean in summary["scores"]}
    return found


def _rounded(mean: dict[str, Any]) -> dict[str, float]:
    digits = {"psnr_noisy": 2, "psnr": 3, "ssim_noisy": 4, "ssim": 4}
    return {name: round(mean[name], decimals) for name, decimals in digits.items()}


def renewed(card: str, figures: dict[str, Any]) -> str:
    """The card with its tables, which stand between `<!-- NAME -->` and `<!-- end -->`, drawn from the figures."""
    return with_part(with_part(card, "scores", _scores(figures["scores"])), "history", _history(figures["stages"]))


def _scores(scores: dict[str, dict[str, dict[str, float]]]) -> str:
    heads = [f"{title}: PSNR | SSIM" for title in SETS.values()]
    lines = [f"| σ | {' | '.join(heads)} |", "|---" * (1 + 2 * len(SETS)) + "|"]
    for level in map(str, LEVELS):
        cells = []
        for name in SETS:
            mean = scores[name][level]
            cells.append(f"{mean['psnr_noisy']:.2f} → {mean['psnr']:.2f}")
            cells.append(f"{mean['ssim_noisy']:.4f} → {mean['ssim']:.4f}")
        lines.append(f"| {level} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _history(stages: list[dict[str, Any]]) -> str:
    lines = [
        "| stage | hours | gigapixels | validation | CBSD68 | Kodak24 | CBSD68 in grey |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in stages:
        *within, last = each["validation"]
        sets = " | ".join(_levels(each[name]) if name in each else "" for name in SETS)
        lines += [f"| | {_progress(row)} | | | |" for row in within if row["gigapixels"]]
        lines.append(f"| {each['name']}; {each['hardware']} | {_progress(last)} | {sets} |")
    return "\n".join(lines)


def _progress(row: dict[str, Any]) -> str:
    return f"{row['hours']:.2f} | {row['gigapixels']:.2f} | {_levels(row['psnr'])}"


def _levels(values: list[float]) -> str:
    return " / ".join(f"{value:.2f}" for value in values)


def draw(stages: list[dict[str, Any]]) -> None:
    """Writes CURVE: mean validation PSNR against hours, one line a stage, because hours of unlike hardware differ."""
    import matplotlib.pyplot as plt  # half a second that the tests need not wait for

    plt.rcParams["svg.hashsalt"] = "embedded"  # the same file for the same figures
    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    hours = 0.0
    for each in stages:
        rows = each["validation"]
        psnr = [sum(row["psnr"]) / len(LEVELS) for row in rows]
        label = f"{each['name']} ({each['hardware']})"
        axes.plot([hours + row["hours"] for row in rows], psnr, marker="o", label=label)
        hours += rows[-1]["hours"]
    axes.set(xlabel="hours of training", ylabel="PSNR in dB, mean of σ = 15, 25, 50")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(CURVE, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
