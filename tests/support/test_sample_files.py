"""sample_files: photos that look like photos, the same on every call."""

from pathlib import Path

import numpy as np

from tests.support.sample_files import photo, write_broken_files, write_photos


def test_sample_files_are_the_same_on_every_call(tmp_path):
    def contents(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.exists()}

    for write in (write_broken_files, lambda folder, count: write_photos(folder, count, 16)):
        write(tmp_path / "a", 30)
        write(tmp_path / "b", 30)
        assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_photos_look_like_photos():
    image = photo(96, 128, seed=1).astype(float)
    assert image.shape == (96, 128, 3)
    assert image.std() > 30
    steps = np.abs(np.diff(image, axis=1)).mean(axis=2)
    assert np.median(steps) < 4 < 40 < steps.max()  # smooth nearly everywhere, with hard edges
    assert not np.array_equal(image, photo(96, 128, seed=2))
