"""A block that has ended a process is done image by image: with the same rows, but for those to blame."""

from dataclasses import replace
from pathlib import Path

from imagewizard.bulk import block as blocks
from imagewizard.bulk import one_by_one
from imagewizard.bulk.block import Block
from imagewizard.bulk.block_reader import BlockReader
from imagewizard.runs.results import BlockFile
from tests.support.actors import actor, rows_of
from tests.support.models import tiny_model
from tests.support.sample_files import write_photos

CHANGING = ("seconds", "finished_at")


def test_the_rows_are_those_of_the_whole_block_but_for_those_to_blame(tmp_path: Path) -> None:
    names = write_photos(tmp_path / "in", 3, 16)
    empty = dict.fromkeys(blocks.WORK_SCHEMA.names) | {"settings": [0, 1], "attempts": [1, 1]}
    block = Block(BlockFile(0, 0, 1), [empty | {"image_id": n, "uri": f"{tmp_path}/in/{n}"} for n in names])
    denoise = actor(tiny_model(tmp_path / "m", k=2), noise={"sigma": [15, 25]}, images={})
    reader, said = BlockReader(10**6, keep=False), list[tuple[str, str]]()
    whole = rows_of(denoise(reader(replace(block))))
    found = one_by_one.denoise(block, reader, denoise, {names[1]: "decode"}, lambda *each: said.append(each))
    ok = [row for row in rows_of(found) if row["status"] == "ok"]
    assert [without_work(row) for row in ok] == [without_work(row) for row in whole if row["image_id"] != names[1]]
    errors = [(r["image_id"], r["sigma"], r["stage"], r["error"]) for r in rows_of(found) if r["status"] == "error"]
    assert errors == [(names[1], sigma, "decode", one_by_one.ENDED) for sigma in (15.0, 25.0)]
    stages = ["read", "decode", "noise", "denoise", "denoise", "score", "encode"]
    assert [each for each in said if each[0] == names[2]][:3] == [(names[2], stage) for stage in stages[:3]]
    assert {stage for image, stage in said if image == names[2]} == set(stages)
    assert names[1] not in {image for image, stage in said if stage != "decode"}
    assert found.times.wall.keys() == set(stages)


def without_work(row: dict) -> dict:
    return {name: value for name, value in row.items() if name not in CHANGING}
