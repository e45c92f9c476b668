"""What both HTML reports share: templates, facts of the run, and where the page is written."""

import base64
import hashlib
from datetime import UTC, datetime
from importlib import resources
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import jinja2
import yaml

from imagewizard.progress import clock
from imagewizard.query.text import cut, printable
from imagewizard.runs import job as run_job
from imagewizard.storage import Folder


class Script(NamedTuple):
    """A script of ours, and the name by which the page's policy lets it run, and no other."""

    text: str
    digest: str


def script(name: str) -> Script:
    """A script among the templates."""
    text = _source(name)
    return Script(text, f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}")


def facts(run: str) -> dict[str, Any]:
    """{run, name, job, config, config_yaml, made_at}; job and config are {} where there is no job.yaml."""
    job = run_job.read_job(run) or {}
    config = job.get("config", {})
    return {
        "run": run,
        "name": PurePosixPath(run.rstrip("/")).name,
        "job": job,
        "config": config,
        "config_yaml": yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=100),
        "made_at": datetime.now(UTC),
    }


def write(run: str, template: str, context: dict[str, Any]) -> str:
    """Writes <run>/report.html from a template of this package and returns its URI."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_source), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": _number, "count": "{:,}".format, "text": shown, "clock": clock}
    page = environment.get_template(template).render(context)
    folder = Folder(run)
    folder.write("report.html", page.encode())
    return folder.uri_of("report.html")


def _source(template: str) -> str:
    return (resources.files("imagewizard.report") / "templates" / template).read_text(encoding="utf-8")


def _number(value: float | None, decimals: int) -> str:
    return "–" if value is None else f"{value:.{decimals}f}"


def shown(value: str | None, width: int = 120) -> str:
    """Text from outside (ids, errors, paths), short and without control characters; the template escapes HTML in it."""
    return cut(printable(value or "–"), width)
