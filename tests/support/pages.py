"""Reports for tests: parsed, and shown by a real browser."""

import base64
import io
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

from imagewizard.report import run as run_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = (
    "<script>document.title='owned'</script>"
    '<img src="http://evil.example/x" onerror="document.title=\'owned\'">&amp;"\''
)
PROBE = """<script>addEventListener("load", () => { document.body.dataset.probe = JSON.stringify({
  title: document.title, images: document.images.length, width: innerWidth,
  loaded: [...document.images].filter(image => image.complete && image.naturalWidth > 0).length,
  wide: [...document.querySelectorAll("main *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1
    && !e.closest(".scroll, pre")).map(e => e.outerHTML.slice(0, 80)),
  charts: [...document.querySelectorAll("svg")].map(e => e.getBoundingClientRect().height) }) })</script>"""


class Page(HTMLParser):
    """The text of a page, its images, its tables' cells, and the samples with the names of their panels."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.tags: list[str] = []
        self.images: list[dict[str, str]] = []
        self.references: list[str] = []
        self.rows: list[list[str]] = []
        self.samples: list[list[str]] = []
        self.probe = ""
        self._cell = False
        self._text: list[str] = []
        self.feed(source)
        self.text = " ".join(" ".join(self._text).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.references += [values[name] for name in ("src", "href", "srcset", "data", "action") if name in values]
        if tag == "img":
            self.images.append(values)
            if self.samples and not values["alt"].endswith("enlarged"):
                self.samples[-1].append(values["alt"].partition(":")[0])
        if tag == "section":
            self.samples.append([])
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._cell = True
        if tag == "body":
            self.probe = values.get("data-probe", "")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] not in (["style"], ["script"]):
            self._text.append(data)
        if self._cell:
            self.rows[-1][-1] = f"{self.rows[-1][-1]} {data.strip()}".strip()


def browse(url: str, port: str, *options: str) -> str:
    """The page's DOM once it is loaded; every host name resolves to our server."""
    assert CHROMIUM
    words = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-dev-shm-usage",
    ]
    rules = f"--host-resolver-rules=MAP * 127.0.0.1:{port}"
    done = subprocess.run([CHROMIUM, *words, rules, *options, "--dump-dom", url], capture_output=True, timeout=120)
    return done.stdout.decode()


def page_of(run: Path) -> Page:
    """The report of a bulk run."""
    assert run_report.write_report(str(run)) == f"{run}/report.html"
    return Page((run / "report.html").read_text(encoding="utf-8"))


def pixels(image: dict[str, str]) -> np.ndarray:
    """The decoded pixels of an <img>, uint8 (H, W, 3)."""
    kind, _, data = image["src"].partition(",")
    assert kind == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
