"""Which noisy image belongs to which clean one, and what is refused."""

import tarfile
from pathlib import Path

import boto3
import pytest

from imagewizard.errors import UserError
from imagewizard.manifest import pairs
from imagewizard.manifest.pairs import Pair
from tests.support.listings import touch

KEYS = "NOISY_DIR", "CLEAN_DIR"


def matched(noisy: Path | str, clean: Path | str) -> list[Pair]:
    return pairs.match(str(noisy), str(clean), KEYS)


def refusal(noisy: Path | str, clean: Path | str) -> str:
    with pytest.raises(UserError) as refused:
        matched(noisy, clean)
    return str(refused.value)


def test_two_folders_are_matched_by_path_without_suffix_and_ending(tmp_path: Path) -> None:
    touch(tmp_path / "n", "b.png", "a_noisy.JPG", "deep/er/c_real.v2.tif", "deep/a_Real.png", "notes.txt", "_real.png")
    touch(tmp_path / "c", "b_gt.jpg", "a.png", "deep/er/c_real.v2.png", "deep/a_clean.png", "README", "_mean.png")
    assert matched(tmp_path / "n", f"file://{tmp_path}/c/") == [
        Pair(name, f"{tmp_path}/n/{noisy}", f"{tmp_path}/c/{clean}")
        for name, noisy, clean in [
            ("", "_real.png", "_mean.png"),
            ("a", "a_noisy.JPG", "a.png"),
            ("b", "b.png", "b_gt.jpg"),
            ("deep/a", "deep/a_Real.png", "deep/a_clean.png"),
            ("deep/er/c_real.v2", "deep/er/c_real.v2.tif", "deep/er/c_real.v2.png"),
        ]
    ]


def test_one_folder_may_hold_both(tmp_path: Path) -> None:
    touch(tmp_path, "x_real.JPG", "x_mean.JPG", "y_noisy.png", "y_gt.png", "z/y_real.png", "z/y_clean.png")
    found = matched(tmp_path, f"{tmp_path}/")
    assert [pair.name for pair in found] == ["x", "y", "z/y"]
    assert found[0] == Pair("x", f"{tmp_path}/x_real.JPG", f"{tmp_path}/x_mean.JPG")


def test_files_that_end_like_the_other_side_are_left_to_it(tmp_path: Path) -> None:
    touch(tmp_path / "n", "x_real.png", "x_mean.png")
    touch(tmp_path / "c", "x_noisy.png", "x.png")
    assert matched(tmp_path / "n", tmp_path / "c") == [Pair("x", f"{tmp_path}/n/x_real.png", f"{tmp_path}/c/x.png")]


def test_files_that_end_like_the_other_side_are_not_lost(tmp_path: Path) -> None:
    touch(tmp_path / "n", "a_real.png", "b_mean.png")
    touch(tmp_path / "c", "a_mean.png", "c_noisy.png")
    said = refusal(tmp_path / "n", tmp_path / "c")
    assert said.startswith("NOISY_DIR: no clean image for b_mean.png and no noisy image for c_noisy.png;")


@pytest.mark.parametrize("name", ["x.png", "x_real.png", "x_clean.png"])
def test_partners_of_one_name_are_pairs_whatever_it_ends_in(tmp_path: Path, name: str) -> None:
    touch(tmp_path / "n", name)
    touch(tmp_path / "c", name)
    assert matched(tmp_path / "n", tmp_path / "c") == [Pair("x", f"{tmp_path}/n/{name}", f"{tmp_path}/c/{name}")]


def test_an_image_without_a_partner_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "n", *(f"{letter}.png" for letter in "abcdef"))
    touch(tmp_path / "c", "a.png", "b_gt.png")
    endings = "_real, _noisy, _mean, _clean or _gt"
    fix = f"; name partners alike, but for the suffix and an ending ({endings}), or take these out"
    said = refusal(tmp_path / "n", tmp_path / "c")
    assert said == f"NOISY_DIR: no clean image for c.png, d.png, e.png and 1 more{fix}"
    assert refusal(tmp_path / "c", tmp_path / "n").startswith("CLEAN_DIR: no noisy image for c.png, d.png, e.png and 1")
    touch(tmp_path / "c", "C.png")
    said = refusal(tmp_path / "n", tmp_path / "c")
    assert said.startswith("NOISY_DIR: no clean image for c.png, d.png, e.png and 1 more and no noisy image for C.png;")


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "n", "a.png", "a_real.jpg", "a_noisy.png", "a.tif")
    touch(tmp_path / "c", "a.png")
    said = refusal(tmp_path / "n", tmp_path / "c")
    same = f"a.png, a.tif, a_noisy.png and 1 more in {tmp_path}/n are all 'a' without suffix and ending"
    assert said == f"NOISY_DIR: {same}; keep one of them"
    assert refusal(tmp_path / "c", tmp_path / "n").startswith("CLEAN_DIR: a.png, a.tif in ")


def test_names_in_one_folder_must_tell_the_sides_apart(tmp_path: Path) -> None:
    touch(tmp_path, "x.png", "x_gt.png")
    said = "and the names of x.png do not say which they are; end noisy ones in _real or _noisy, clean ones in _mean, "
    assert said in refusal(tmp_path, tmp_path)


def test_folders_without_a_pair_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "empty", "notes.txt")
    touch(tmp_path / "mean", "a_mean.png")
    touch(tmp_path / "real", "a_real.png")
    assert refusal(tmp_path / "empty", tmp_path / "mean").startswith(f"NOISY_DIR: {tmp_path}/empty holds no image")
    assert refusal(tmp_path / "real", tmp_path / "gone").startswith(f"CLEAN_DIR: {tmp_path}/gone does not exist")
    assert refusal(tmp_path / "mean", tmp_path / "real").startswith(
        "NOISY_DIR: the noisy image a_mean.png and the clean one a_real.png are named the other way around; swap "
    )
    assert refusal(tmp_path / "mean", tmp_path / "mean").startswith("CLEAN_DIR: no noisy image for a_mean.png;")


def test_packed_images_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "n", "b.png", "a.png")
    with tarfile.open(tmp_path / "n" / "more.tar", "w:") as shard:
        shard.add(tmp_path / "n" / "a.png", "c.png")
    said = refusal(tmp_path / "n", tmp_path / "n")
    assert said == "NOISY_DIR: more.tar#c.png is in a tar shard or Parquet; give the images of pairs as files"


def test_prefixes_of_a_bucket_are_matched(bucket: str) -> None:
    for key in ("n/deep/a_real.png", "c/deep/a.jpg"):
        boto3.client("s3").put_object(Bucket=bucket.removeprefix("s3://"), Key=key, Body=b"x")
    assert matched(f"{bucket}/n", f"{bucket}/c/") == [
        Pair("deep/a", f"{bucket}/n/deep/a_real.png", f"{bucket}/c/deep/a.jpg")
    ]


def test_manifests_are_matched_by_their_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "n.csv").write_text("image_id,uri\nx/1,n/1.png\nx/2.png,s3://b/2.png\n")
    (tmp_path / "c.csv").write_text("image_id,uri\nx/2_gt,c/2.png\nx/1_gt.jpg,c/1.png\n")
    monkeypatch.chdir(tmp_path)
    assert matched("n.csv", "c.csv") == [
        Pair("x/1", f"{tmp_path}/n/1.png", f"{tmp_path}/c/1.png"),
        Pair("x/2", "s3://b/2.png", f"{tmp_path}/c/2.png"),
    ]
