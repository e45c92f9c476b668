"""A training as one self-contained HTML page: what it reached, its curves, what its validations look like."""

import base64

from markupsafe import Markup

from imagewizard import images, report_charts, report_page, storage, summary, training_metrics, training_status
from imagewizard.errors import UserError
from imagewizard.report_charts import Curve
from imagewizard.training_metrics import EVENT, VALIDATION, Row

SHEET_QUALITY = 90
MAX_SHEET_PIXELS = 100_000_000


def write_report(run: str) -> str:
    """Writes <run>/report.html and returns its URI. The run may have nothing yet but job.yaml: the page says so."""
    rows = training_metrics.read(run)
    status = training_status.read(run)
    facts = report_page.facts(run) | {
        "status": status,
        "summary": summary.read(run) or {},
        "losses": training_metrics.loss_curves(rows),
        "charts": _charts(rows),
        "validations": training_metrics.of_kind(rows, VALIDATION),
        "psnr_range": training_metrics.PSNR_RANGE,
        "sigmas": list(training_metrics.psnr_curves(rows)),
        "by_sigma": training_metrics.by_sigma,
        "best": status.best_validation,
        "sheets": _sheets(run),
    }
    return report_page.write(run, "training_report.html.tmpl", facts)


def _charts(rows: list[Row]) -> dict[str, Markup]:
    """{loss, psnr}, as far as there is something to draw."""
    end = max([10, *(row["step"] for row in rows)])  # one for both charts, and never 0
    marks = [row["step"] for row in training_metrics.of_kind(rows, EVENT)]
    charts = {}
    losses = []
    for name, points in training_metrics.loss_curves(rows).items():
        smooth = training_metrics.smoothed([value for _, value in points])
        losses.append(Curve(name, [(step, value) for (step, _), value in zip(points, smooth, strict=True)], points))
    if losses:
        charts["loss"] = report_charts.lines(losses, end, marks, "Training loss by step", "step", is_log=True)
    if curves := training_metrics.psnr_curves(rows):
        floor = training_metrics.psnr_floor(curves)
        lines = [Curve(f"σ {sigma:g}", [(x, max(y, floor)) for x, y in points]) for sigma, points in curves.items()]
        charts["psnr"] = report_charts.lines(lines, end, marks, "Validation PSNR by step", "step")
    return charts


def _sheets(run: str) -> list[tuple[str, str]]:
    """(caption, data: URI) of the newest panels and, to compare, the first ones; without those that cannot be read."""
    folder = storage.join(run, "panels")
    names = storage.list_files(folder, ".png")
    shown = []
    for name, caption in zip(dict.fromkeys([*names[-1:], *names[:1]]), ("newest", "first"), strict=False):
        try:
            picture = images.decode(storage.read_bytes(storage.join(folder, name)), MAX_SHEET_PIXELS)
        except (OSError, UserError, images.ImageError):
            continue  # a picture of many: the numbers beside it are what counts
        data = base64.b64encode(images.encode(picture, "webp", SHEET_QUALITY)).decode()
        step = name.removeprefix("step-").removesuffix(".png").lstrip("0") or "0"
        shown.append((f"step {step}, the {caption} validation", f"data:image/webp;base64,{data}"))
    return shown
