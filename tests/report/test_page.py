"""What all reports share: facts of the run, and a page that fetches nothing and runs no script but ours."""

import base64
import hashlib
from pathlib import Path

from imagewizard.report import page
from tests.support.pages import HOSTILE, Page
from tests.support.run_folders import write_job


def test_failures_are_listed_by_reason_and_hostile_text_is_only_text(whole_page: Page) -> None:
    cells = [cells for cells in whole_page.rows if cells[0] in ("decode", "read")]
    assert cells[0][:3] == ["decode", f"broken header: {HOSTILE}", "4"]
    assert cells[1] == ["read", "timed out", "1", "\\x00bell\\x07.jpg"]
    assert f"the images of {HOSTILE}" in whole_page.text
    assert not {"script", "iframe", "link rel=stylesheet", "object", "form"} & set(whole_page.tags)
    assert "<script" not in whole_page.source and "\x07" not in whole_page.source


def test_nothing_is_fetched(whole_page: Page) -> None:
    assert all(reference.startswith("data:") for reference in whole_page.references)
    assert "default-src 'none'" in whole_page.source
    assert "url(" not in whole_page.source and "@import" not in whole_page.source


def test_facts_of_a_run_with_and_without_its_job(tmp_path: Path) -> None:
    write_job(tmp_path / "run", 3, seed=7)
    facts = page.facts(f"{tmp_path}/run/")
    assert (facts["name"], facts["config"]["seed"]) == ("run", 7)
    assert "seed: 7\n" in facts["config_yaml"] and facts["job"]["config"] == facts["config"]
    facts = page.facts(str(tmp_path / "nowhere"))
    assert (facts["name"], facts["job"], facts["config"], facts["config_yaml"]) == ("nowhere", {}, {}, "{}\n")


def test_long_text_is_cut(whole_run: Path, whole_page: Page) -> None:
    """The path of the run is not, because people copy it."""
    assert str(whole_run) in whole_page.text
    assert page.shown("x" * 300) == "x" * 60 + "…" + "x" * 59
    assert page.shown("a\nb") == "a\\nb" and page.shown(None) == "–"


def test_the_policy_lets_the_given_script_run_and_no_other(tmp_path: Path) -> None:
    write_job(tmp_path, 1)
    script = page.script("slider.js")
    context = page.facts(str(tmp_path))
    page.write(str(tmp_path), "base.html.tmpl", context | {"script": script})
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(source.split("<script>")[1].split("</script>")[0].encode()).digest())
    assert f"style-src 'unsafe-inline'; script-src 'sha256-{digest.decode()}'\">" in source
    assert source.count("<script") == 1
    page.write(str(tmp_path), "base.html.tmpl", context)
    assert "script" not in (tmp_path / "report.html").read_text(encoding="utf-8")
