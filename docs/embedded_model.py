"""Takes a finished training as the embedded model, and renews its card from measured figures.

python -m docs.embedded_model RUN --hardware "two CPU cores" --cbsd68 DIR --kodak24 DIR

RUN is the run of a leg, or of a training from random weights, or several runs, each of which started from the model of
the one before (docs/embedded-model.md has the commands). Its model becomes the package's if the validation images
gained GAIN dB or more, or lost nothing and its network costs less than CHEAPER times as much. Bulk jobs score it on
both test sets and on CBSD68 in grey, and the card's tables (imagewizard/models/embedded/README.md) and the curve
(docs/embedded_model.svg) are drawn anew. Without RUN the model stays, and only its scores are renewed.

history.json beside the weights holds all the figures; the text between the tables is written by hand.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from PIL import Image

import imagewizard as iw
from docs.generate import with_part
from imagewizard.config.denoise import DenoiseConfig
from imagewizard.diffusion.architecture import size_multiple
from imagewizard.errors import UserError
from imagewizard.models import files, network
from imagewizard.models.fetch import SCHEDULER_CONFIG, UNET_CONFIG
from imagewizard.models.weights import WEIGHTS
from imagewizard.runs import job
from imagewizard.schema import level_text
from imagewizard.tracking import history as tracking

MODEL = Path(iw.__file__).parent / "models" / "embedded"
CARD, HISTORY = MODEL / "README.md", MODEL / "history.json"
CURVE = Path(__file__).with_name("embedded_model.svg")
GAIN = 0.05  # dB, mean over LEVELS
CHEAPER = 0.9
LEVELS = (15, 25, 50)
SETS = {
    "cbsd68": "CBSD68, 68 images",
    "kodak24": "Kodak24, 24 crops of 500×500",
    "cbsd68_grey": "CBSD68 in grey",
}


def main(words: Sequence[str] | None = None) -> None:
    """Does what the module says. Raises UserError as `stage` does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="the run folders of finished trainings, in their order")
    parser.add_argument("--hardware", metavar="TEXT", help="what they ran on")
    parser.add_argument("--cbsd68", required=True, metavar="DIR", help="the 68 images")
    parser.add_argument("--kodak24", required=True, metavar="DIR", help="the 24 images")
    arguments = parser.parse_args(words)
    for folder, count in ((arguments.cbsd68, 68), (arguments.kodak24, 24)):
        if (found := len(list(Path(folder).glob("*.png")))) != count:
            parser.error(f"{folder} holds {found} PNG files, not {count}")
    figures = json.loads(HISTORY.read_text())
    if arguments.runs:
        if not arguments.hardware:
            parser.error("say what it ran on: --hardware")
        figures["stages"].append(stage(arguments.runs, arguments.hardware, figures["stages"]))
        for name in (WEIGHTS, UNET_CONFIG, SCHEDULER_CONFIG):
            (MODEL / name).write_bytes(Path(arguments.runs[-1], "model", name).read_bytes())
    figures["scores"] = measure(arguments.cbsd68, arguments.kodak24)
    figures["stages"][-1] |= {name: [figures["scores"][name][str(s)]["psnr"] for s in LEVELS] for name in SETS}
    HISTORY.write_text(json.dumps(figures, indent=1) + "\n")
    card = renewed(CARD.read_text(), figures)
    CARD.write_text(card)
    draw(figures["stages"], CURVE)
    print(card)


def stage(runs: list[str], hardware: str, stages: list[dict[str, Any]]) -> dict[str, Any]:
    """What the history keeps of runs that follow each other: a row for each validation.

    Raises UserError unless all are finished trainings, the first one started from random weights or from the model in
    the package, each other one from the model of the one before it, and together they gained enough.
    """
    model: str | None = files.find("embedded").fingerprint
    name = f"{len(stages) + 1}: on from stage {len(stages)}"
    rows: list[dict[str, Any]] = []
    for run in runs:
        described = job.read_job(run)
        if described is None or described["kind"] != "train" or iw.Run(run).summary() is None:
            raise UserError(f"{run} is no finished training", "give the folder of one", "RUN")
        if not rows and described["model_fingerprint"] is None:
            name, model = f"{len(stages) + 1}: from random weights", None
        if described["model_fingerprint"] != model:
            raise UserError(f"{run} started from another model", "give the runs before it too, in their order", "RUN")
        rows += _validations(run, described["config"], rows[-1] if rows else {"hours": 0.0, "gigapixels": 0.0})
        model = files.find(f"{run}/model").fingerprint
    gained = _mean(rows[-1]) - _mean(stages[-1]["validation"][-1])
    least = 0.0 if _cost(f"{runs[-1]}/model") < CHEAPER * _cost("embedded") else GAIN
    if gained < least:
        raise UserError(f"the validation images gained {gained:.3f} dB", f"train on, to {least} dB", "RUN")
    return {"name": name, "hardware": hardware, "validation": rows}


def _validations(run: str, config: dict[str, Any], before: dict[str, Any]) -> list[dict[str, Any]]:
    """The run's validations but its first, of the start. Hours and pixels go on from the row `before`."""
    first, *scored = tracking.of_kind(tracking.read(run), tracking.VALIDATION)
    if scored[-1] != tracking.best(scored):
        raise UserError(f"{run} was better before its end", "lower its rate", "RUN")  # its model is the best one
    began = first["time"] - first["seconds"]
    gigapixels = config["optimizer"]["batch_size"] * config["data"]["crop"] ** 2 / 1e9
    return [
        {
            "hours": round(before["hours"] + (row["time"] - began) / 3600, 3),
            "gigapixels": round(before["gigapixels"] + row["step"] * gigapixels, 3),
            "psnr": [row[f"psnr_{s}"] for s in LEVELS],
        }
        for row in scored
    ]


def _cost(model: str) -> float:
    """GFLOP a megapixel."""
    unet, _ = network.load(files.find(model))
    return network.gflop_per_megapixel(unet)


def _mean(row: dict[str, Any]) -> float:
    """Its PSNR, averaged over the levels."""
    return float(sum(row["psnr"]) / len(LEVELS))


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
            found[name] = {level_text(mean["sigma"]): _rounded(mean) for mean in summary["scores"]}
    return found


def _rounded(mean: dict[str, Any]) -> dict[str, float]:
    digits = {"psnr_noisy": 2, "psnr": 3, "ssim_noisy": 4, "ssim": 4}
    return {name: round(mean[name], decimals) for name, decimals in digits.items()}


def renewed(card: str, figures: dict[str, Any]) -> str:
    """The card with its tables, which stand between `<!-- NAME -->` and `<!-- end -->`, drawn from the figures."""
    parts = {"facts": _facts(), "scores": _scores(figures["scores"]), "history": _history(figures["stages"])}
    for name, text in parts.items():
        card = with_part(card, name, text)
    return card


def _facts() -> str:
    unet, _ = network.load(files.find("embedded"))
    parameters = sum(parameter.numel() for parameter in unet.parameters())
    flop = network.gflop_per_megapixel(unet)
    rows = {
        "parameters": f"{parameters / 1e6:.2f} M, {2 * parameters / 1e6:.1f} MB in float16",
        "input": "RGB, 2×2 pixel-unshuffled: 12 channels in and out; height and width padded to multiples of "
        f"{size_multiple(unet.config)}",
        "channels of its levels": ", ".join(map(str, unet.config.block_out_channels)),
        "cost": f"{flop * 256**2 / 1e6:.1f} GFLOP at 256×256, {flop:.0f} GFLOP a megapixel (a multiply-add is two)",
        "layout": "diffusers: `config.json`, `scheduler_config.json`, `diffusion_pytorch_model.safetensors`",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows.items())])


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
        "| stage | its hours | its gigapixels | validation | CBSD68 | Kodak24 | CBSD68 in grey |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in stages:
        *within, last = each["validation"]
        sets = " | ".join(_levels(each[name]) if name in each else "" for name in SETS)
        lines += [f"| | {_progress(row)} | | | |" for row in within]
        lines.append(f"| {each['name']}; {each['hardware']} | {_progress(last)} | {sets} |")
    return "\n".join(lines)


def _progress(row: dict[str, Any]) -> str:
    return f"{row['hours']:.2f} | {row['gigapixels']:.2f} | {_levels(row['psnr'])}"


def _levels(values: list[float]) -> str:
    return " / ".join(f"{value:.2f}" for value in values)


def draw(stages: list[dict[str, Any]], path: Path) -> None:
    """Draws a curve: mean validation PSNR against hours, one line a stage, because hours of unlike hardware differ."""
    plt.rcParams["svg.hashsalt"] = "embedded"  # the same file for the same figures
    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    hours = 0.0
    for each in stages:
        rows = each["validation"]
        psnr = [_mean(row) for row in rows]
        label = f"{each['name']} ({each['hardware']})"
        axes.plot([hours + row["hours"] for row in rows], psnr, marker="o", label=label)
        hours += rows[-1]["hours"]
    axes.set(xlabel="hours of training", ylabel="PSNR in dB, mean of σ = 15, 25, 50")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
