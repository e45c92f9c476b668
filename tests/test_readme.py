"""The Python lines of the README run as they stand."""

import re
from pathlib import Path

import pytest

import imagewizard as iw
from tests.support.sample_files import write_photos

README = Path(__file__).resolve().parents[1] / "README.md"


@pytest.mark.usefixtures("ray_cluster")
def test_the_python_lines_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "photos", 2, 64)
    for block in blocks:
        assert len(block.splitlines()) <= 10
        exec(compile(block, str(README), "exec"), {})
    printed = capsys.readouterr().out
    before, after = (float(word) for word in printed.splitlines()[0].split())
    assert after > before + 2.0
    assert "2/2 images  0 failed" in printed and "image_id" in printed
    assert iw.Run("runs/photos").results().num_rows == 2
