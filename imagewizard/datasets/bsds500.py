"""The Berkeley Segmentation Data Set (Arbelaez et al., TPAMI 2011) as manifests, with CBSD68 kept out of training."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from imagewizard import storage
from imagewizard.datasets import archive, cbsd68, download
from imagewizard.errors import UserError
from imagewizard.images import formats
from imagewizard.images.errors import ImageError
from imagewizard.images.picture import decode_rgb
from imagewizard.progress import Reporter, silent
from imagewizard.schema import BYTES, IMAGE_ID, MANIFEST_SCHEMA, URI
from imagewizard.storage import Folder
from imagewizard.storage.folder import SCRATCH

URL = "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/BSR/BSR_bsds500.tgz"
SHA256 = "97e49d31764f3912f0c4122707d53062ac9e783ba0f095e447a4d53c1a41af8e"  # of its 70,763,455 bytes

SPLITS = {"train": 200, "val": 100, "test": 200}
SHAPES = {(321, 481, 3), (481, 321, 3)}
MANIFESTS = {
    "train": "as published",
    "test": "as published",
    "finetune": "train and test together",
    "val": "without CBSD68, for validation",
    "benchmark": "CBSD68, found by content: report on it, never train on it",
}

_AGAIN = f"fetch BSDS500 again, from {URL}"
_MAX_PIXELS = 1 << 24  # against decompression bombs only: SHAPES says what is right


@dataclass(frozen=True)
class PreparationPlan:
    """A preparation that can start: what is cheap to check has been."""

    source: str
    folder: Path
    """Where the manifests go."""
    kind: str
    """What to do with `source`: folder | archive | url; `finished` if there is nothing left to do."""

    def __str__(self) -> str:
        source, written = {
            "folder": (f"{self.source} (the files stay there)", "manifests"),
            "archive": (f"{self.source} (unpacked)", "images and manifests"),
            "url": (f"{self.source} (downloaded and unpacked)", "images and manifests"),
            "finished": ("nothing, for all is there", "checked only"),
        }[self.kind]
        return f"from     {source}\ninto     {self.folder} ({written})"


def plan(source: str, destination: str) -> PreparationPlan:
    """Checks both without leaving a trace. Raises UserError."""
    if "://" in destination:
        raise UserError(f"{destination}: images and manifests go to a local folder only", "give one", "dest")
    folder = Path(storage.absolute(destination))
    if all(_manifest(folder, name).is_file() for name in MANIFESTS):
        return PreparationPlan(source, folder, "finished")
    ours = {"images/", f"{SCRATCH}/", *(_manifest(folder, name).name for name in MANIFESTS)}
    try:
        Folder(str(folder)).check_usable(ours.__contains__)
    except UserError as error:
        raise error.at("dest") from None
    return PreparationPlan(source, folder, _kind(source))


def _kind(source: str) -> str:
    scheme, sign, _ = source.partition("://")
    if sign and scheme in {"http", "https"}:
        return "url"
    if not sign and storage.expanded(source).is_dir():
        return "folder"
    if not sign and storage.expanded(source).is_file():
        return "archive"
    reason = f"{scheme}:// is not supported" if sign else "does not exist"
    raise UserError(f"{source}: {reason}", "give a folder, a .tgz, .tar.gz or .zip file, or an http(s) URL", "from")


def prepare(plan: PreparationPlan, report: Reporter = silent) -> dict[str, int]:
    """Does what `plan` says and returns how many images each of MANIFESTS lists.

    The manifests come last, so that a folder that has them all is finished; of a finished one the files are checked.
    Raises UserError if the source is not BSDS500 as published, or files of a finished folder are gone.
    """
    if plan.kind == "finished":
        return {name: _check_manifest(_manifest(plan.folder, name)) for name in MANIFESTS}
    scratch = plan.folder / SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        root = _unpacked(plan, scratch, report) if plan.kind != "folder" else storage.expanded(plan.source).absolute()
        files = _find(plan.source, root)
        benchmark = _check(plan.source, files)
        if plan.kind != "folder":
            files = {image_id: _moved(path, plan.folder / "images" / image_id) for image_id, path in files.items()}
        return _write_manifests(plan.folder, files, benchmark)
    finally:
        shutil.rmtree(scratch)


def _unpacked(plan: PreparationPlan, scratch: Path, report: Reporter) -> Path:
    """The folder below `scratch` that the images of an archive were unpacked to."""
    path = storage.expanded(plan.source)
    if plan.kind == "url":
        path = scratch / "archive"
        download.fetch(plan.source, path, SHA256 if plan.source == URL else None, report)
    try:
        archive.unpack(path, scratch / "images", _image_id)
    except archive.ArchiveError as error:
        raise UserError(f"{plan.source}: {error}", f"fetch it again, from {URL}", "from") from None
    return scratch / "images"


def _image_id(path: PurePosixPath) -> str | None:
    """`train/100075.jpg` for an image directly in a folder train, val or test, at any depth; else None."""
    split, name = path.parent.name, path.name
    # ._100075.jpg is what macOS adds to its zip files
    wanted = split in SPLITS and formats.is_image_name(name) and not name.startswith(".")
    return f"{split}/{name}" if wanted else None


def _find(source: str, root: Path) -> dict[str, Path]:
    """{image id: file} of the images below `root`, sorted."""
    found: dict[str, Path] = {}
    for folder, _, names in os.walk(root, followlinks=True):
        for path in (Path(folder, name) for name in names):
            image_id = _image_id(PurePosixPath(path.as_posix()))
            if image_id is None:
                continue
            if image_id in found:
                twice = f"{found[image_id]} and {path}"
                raise UserError(f"{source} has {image_id} twice: {twice}", "give one of them", "from")
            found[image_id] = path
    return dict(sorted(found.items()))


def _check(source: str, files: dict[str, Path]) -> set[str]:
    """The ids of the 68 images of CBSD68. Raises UserError unless `files` are BSDS500's."""
    counts = {split: sum(image_id.startswith(f"{split}/") for image_id in files) for split in SPLITS}
    if counts != SPLITS:
        found, expected = (", ".join(f"{split} {n}" for split, n in each.items()) for each in (counts, SPLITS))
        raise UserError(f"{source} has images: {found}", f"BSDS500 has {expected}, in folders of these names", "from")
    benchmark: dict[str, str] = {}
    for image_id, path in files.items():
        name = cbsd68.match(_decoded(source, image_id, path))
        if name in benchmark:
            raise UserError(f"{source}: {image_id} is CBSD68's {name}, and so is {benchmark[name]}", _AGAIN, "from")
        if name and not image_id.startswith("val/"):
            raise UserError(
                f"{source}: {image_id} is CBSD68's {name}, which belongs in val and nowhere else", _AGAIN, "from"
            )
        if name:
            benchmark[name] = image_id
    if missing := [name for name in cbsd68.names() if name not in benchmark]:
        found = f"{len(benchmark)} of CBSD68's 68 images, {missing[0]} is missing"
        raise UserError(f"{source}: val has {found}", _AGAIN, "from")
    return set(benchmark.values())


def _decoded(source: str, image_id: str, path: Path) -> np.ndarray:
    try:
        image = decode_rgb(path.read_bytes(), _MAX_PIXELS)
    except (ImageError, OSError) as error:
        raise UserError(f"{source}: {image_id}: {error}", _AGAIN, "from") from None
    if image.shape not in SHAPES:
        height, width, _ = image.shape
        raise UserError(f"{source}: {image_id} is {width}x{height}", "BSDS500's are 481x321 or 321x481", "from")
    return image


def _moved(path: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return path.replace(target)


def _manifest(folder: Path, name: str) -> Path:
    return folder / f"{name}.parquet"


def _write_manifests(folder: Path, files: dict[str, Path], benchmark: set[str]) -> dict[str, int]:
    """Writes MANIFESTS, by MANIFEST_SCHEMA with absolute paths; returns the rows of each."""
    ids = {split: [image_id for image_id in files if image_id.startswith(f"{split}/")] for split in SPLITS}
    listed = {
        "train": ids["train"],
        "test": ids["test"],
        "finetune": ids["train"] + ids["test"],
        "val": [image_id for image_id in ids["val"] if image_id not in benchmark],
        "benchmark": [image_id for image_id in ids["val"] if image_id in benchmark],
    }
    for name in MANIFESTS:
        rows = [
            {IMAGE_ID: image_id, URI: str(files[image_id]), BYTES: files[image_id].stat().st_size}
            for image_id in listed[name]
        ]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA), sink)
        Folder(str(folder)).write(_manifest(folder, name).name, sink.getvalue())
    return {name: len(listed[name]) for name in MANIFESTS}


def _check_manifest(path: Path) -> int:
    """The number of its rows. Raises UserError unless every file that it lists is there, with the bytes it says."""
    try:
        table = pq.read_table(path, schema=MANIFEST_SCHEMA)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} is no readable manifest ({error})", "delete it and prepare again", "dest") from None
    for uri, size in zip(table[URI].to_pylist(), table[BYTES].to_pylist(), strict=True):
        if not Path(uri).is_file() or Path(uri).stat().st_size != size:
            raise UserError(f"{uri} is gone or has changed", f"delete {path} and prepare again", "dest")
    return int(table.num_rows)
