"""A training as one self-contained HTML page: scores, curves, and pictures of its validations."""

import base64

from markupsafe import Markup

from imagewizard.errors import UserError
from imagewizard.images.encoding import encode
from imagewizard.images.errors import ImageError
from imagewizard.images.picture import Picture, decode_rgb
from imagewizard.report import charts as report_charts
from imagewizard.report import page
from imagewizard.report.charts import Curve
from imagewizard.runs import summary
from imagewizard.storage import Folder
from imagewizard.tracking import history
from imagewizard.tracking import status as training_status
from imagewizard.tracking.history import EVENT, VALIDATION, Row

SHEET_QUALITY = 90
MAX_SHEET_PIXELS = 100_000_000


def write_report(run: str) -> str:
    """Writes <run>/report.html and returns its URI. The run may have nothing but job.yaml yet."""
    rows = history.read(run)
    status = training_status.read(run)
    facts = page.facts(run) | {
        "status": status,
        "summary": summary.read(run) or {},
        "losses": history.loss_curves(rows),
        "charts": _charts(rows),
        "validations": history.of_kind(rows, VALIDATION),
        "psnr_range": history.PSNR_RANGE,
        "levels": list(history.psnr_curves(rows)),
        "by_level": history.by_level,
        "label": history.level_label,
        "best": status.best_validation,
        "sheets": _sheets(run),
    }
    return page.write(run, "training.html.tmpl", facts)


def _charts(rows: list[Row]) -> dict[str, Markup]:
    """{loss, psnr}, of those that have points."""
    end = max([10, *(row["step"] for row in rows)])  # one for both charts, and never 0
    marks = [row["step"] for row in history.of_kind(rows, EVENT)]
    charts = {}
    losses = []
    for name, points in history.loss_curves(rows).items():
        smooth = history.smoothed([value for _, value in points])
        losses.append(Curve(name, [(step, value) for (step, _), value in zip(points, smooth, strict=True)], points))
    if losses:
        charts["loss"] = report_charts.lines(losses, end, marks, "Training loss by step", "step", is_log=True)
    if curves := history.psnr_curves(rows):
        floor = history.psnr_floor(curves)
        lines = [
            Curve(history.level_label(level), [(x, max(y, floor)) for x, y in points])
            for level, points in curves.items()
        ]
        charts["psnr"] = report_charts.lines(lines, end, marks, "Validation PSNR by step", "step")
    return charts


def _sheets(run: str) -> list[tuple[str, str]]:
    """(caption, data: URI) of the newest panels and, to compare, of the first; unreadable ones are left out."""
    folder = Folder(run)
    names = folder.list("panels", ".png")
    shown = []
    for name, caption in zip(dict.fromkeys([*names[-1:], *names[:1]]), ("newest", "first"), strict=False):
        try:
            picture = decode_rgb(folder.read(f"panels/{name}"), MAX_SHEET_PIXELS)
        except (OSError, UserError, ImageError):
            continue  # the page is of use without it
        data = base64.b64encode(encode(Picture(picture), "webp", SHEET_QUALITY).data).decode()
        step = name.removeprefix("step-").removesuffix(".png").lstrip("0") or "0"
        shown.append((f"step {step}, the {caption} validation", f"data:image/webp;base64,{data}"))
    return shown
