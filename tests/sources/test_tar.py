"""Tar shards: listed without their contents, read by offset, damage not hidden, and written the same each time."""

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from imagewizard import storage
from imagewizard.sources import tar as tar_shards
from imagewizard.sources.tar import Damage, Member


def entry(name: str, size: int = 5, **about: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = size if about.get("type", tarfile.REGTYPE) == tarfile.REGTYPE else 0
    for field, value in about.items():
        setattr(info, field, value)
    return info, bytes([len(name) % 256]) * info.size


def write(path: Path, *entries: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> str:
    with tarfile.open(path, "w:", format=format) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return str(path)


def listed(uri: str) -> tuple[list[Member | Damage], dict[str, str | None]]:
    skipped: dict[str, str | None] = {}
    return list(tar_shards.members(uri, skipped.__setitem__)), skipped


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_the_images_where_they_lie(tmp_path: Path, format: int) -> None:
    long = f"{'deep/' * 25}{'x' * 60}.png"
    uri = write(
        tmp_path / "a.tar", entry("a.png", 700), entry("a.txt"), entry("b/c.JPG", 512), entry(long, 3),
        entry("folder", type=tarfile.DIRTYPE), entry("link.png", type=tarfile.SYMTYPE, linkname="a.png"),
        entry("hard.png", type=tarfile.LNKTYPE, linkname="a.png"), entry("fifo.png", type=tarfile.FIFOTYPE),
        entry("é.webp", 0), format=format,
    )  # fmt: skip
    found, skipped = listed(uri)
    files = [("a.png", 700), ("b/c.JPG", 512), (long, 3), ("é.webp", 0)]
    assert [(m.name, m.size) for m in found] == [*files, ("link.png", 700), ("hard.png", 700)]
    assert skipped == {"a.txt": None, "fifo.png": tar_shards.NO_FILE}
    contents = tar_shards.read(uri, [(m.offset, m.size) for m in found])
    assert contents == [b"\5" * 700, b"\7" * 512, bytes([len(long)]) * 3, b"", b"\5" * 700, b"\5" * 700]
    assert tar_shards.read_member(uri, "hard.png") == tar_shards.read_member(uri, "link.png") == b"\5" * 700
    assert tar_shards.read_member(uri, "b/c.JPG") == b"\7" * 512
    with pytest.raises(FileNotFoundError, match=r"no member c\.JPG"):
        tar_shards.read_member(uri, "c.JPG")


def test_listing_leaves_the_contents_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = write(tmp_path / "a.tar", *[entry(f"{i}.png", 3_000_000) for i in range(5)])
    read = 0

    class Counting(io.FileIO):
        def readinto(self, buffer: object) -> int | None:
            nonlocal read
            read += (got := super().readinto(buffer)) or 0  # type: ignore[arg-type]
            return got

    monkeypatch.setattr(storage, "open_file", lambda uri: io.BufferedReader(Counting(uri)))
    assert len(listed(uri)[0]) == 5
    assert read < 300_000


def test_names_are_only_ids(tmp_path: Path) -> None:
    uri = write(tmp_path / "a.tar", entry("../x.png"), entry("/etc/y.png"))
    assert [m.name for m in listed(uri)[0]] == ["../x.png", "/etc/y.png"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.tar"]


def test_a_name_that_is_no_utf8_can_still_be_listed(tmp_path: Path) -> None:
    uri = write(tmp_path / "a.tar", entry("\udce9.png"), format=tarfile.GNU_FORMAT)
    [member] = listed(uri)[0]
    assert member.name == "\\udce9.png" and tar_shards.read_member(uri, member.name)


def damaged(path: Path, at: int, data: bytes) -> str:
    with path.open("r+b") as stream:
        stream.seek(at)
        stream.write(data)
    return str(path)


def test_damage_in_the_middle_is_told_and_what_comes_before_is_kept(tmp_path: Path) -> None:
    def shard() -> Path:
        return Path(write(tmp_path / "a.tar", *[entry(f"{i}.png", 600) for i in range(4)]))

    # each member takes 512 bytes of header and 1024 of contents
    for at, data in ((3072, b"garbage" * 9), (3072, bytes(512)), (3072 + 124, b"-0000000001\0")):
        found, _ = listed(damaged(shard(), at, data))
        assert [m.name for m in found[:-1] if isinstance(m, Member)] == ["0.png", "1.png"], (at, data)
        assert isinstance(found[-1], Damage) and found[-1].at == 3072 and found[-1].reason


def test_a_shard_that_was_cut_off_is_damaged(tmp_path: Path) -> None:
    whole = Path(write(tmp_path / "a.tar", *[entry(f"{i}.png", 600) for i in range(4)])).read_bytes()
    for length, names, at in ((3000, 2, 3000), (3072, 2, 3072), (3300, 2, 3072), (6144, 4, 6144)):
        (tmp_path / "b.tar").write_bytes(whole[:length])
        found, _ = listed(str(tmp_path / "b.tar"))
        assert len(found) == names + 1, length
        assert isinstance(found[-1], Damage) and found[-1].at == at, length


@pytest.mark.parametrize("sparse", [False, True])
def test_a_header_that_leads_backwards_ends(tmp_path: Path, sparse: bool) -> None:
    path = Path(write(tmp_path / "a.tar", entry("0.png", 600), entry("1.png", 600)))
    with tarfile.open(path) as tar:
        info = tar.getmembers()[1]
    info.size = -2048
    header = bytearray(info.tobuf(format=tarfile.GNU_FORMAT))
    if sparse:  # such a header has another size, of the file with its holes
        header[156:157], header[483:495] = tarfile.GNUTYPE_SPARSE, b"00000001000\0"
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
    found, _ = listed(damaged(path, 1536, bytes(header)))
    assert [type(each) for each in found] == [Member, Damage]


@pytest.mark.parametrize("data", [b"", b"no tar at all", b"\x1f\x8b" + b"x" * 2000, b"x" * 5000])
def test_what_is_no_tar_is_damaged_from_its_first_byte(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(data)
    [found] = listed(str(tmp_path / "a.tar"))[0]
    assert isinstance(found, Damage) and found.at == 0


def test_no_size_in_a_header_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name of terabytes, and as many zeros at the end, in files that take no room on the disk."""
    name = tarfile.TarInfo("././@LongLink")
    name.type, name.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
    path = Path(write(tmp_path / "a.tar", entry("0.png", 600)))
    with path.open("r+b") as stream:
        stream.seek(1536)
        stream.write(name.tobuf(format=tarfile.GNU_FORMAT))
        stream.truncate(1 << 40)
    first, damage = listed(str(path))[0]
    assert isinstance(damage, Damage) and damage.at == 1536 and damage.reason == f"a header of {1 << 40} bytes"
    monkeypatch.setattr(tar_shards, "END_BYTES", 1 << 20)
    path = Path(write(tmp_path / "a.tar", entry("0.png", 600)))
    os.truncate(path, 1 << 40)
    assert listed(str(path))[0] == [first]


def test_an_empty_tar_is_none(tmp_path: Path) -> None:
    assert listed(write(tmp_path / "a.tar")) == ([], {})


def test_a_sparse_file_has_no_place(tmp_path: Path) -> None:
    with (tmp_path / "holes.png").open("wb") as stream:
        stream.seek(1 << 20)
        stream.write(b"end")
    subprocess.run(["tar", "--sparse", "-cf", "a.tar", "holes.png"], cwd=tmp_path, check=True)
    [member] = listed(str(tmp_path / "a.tar"))[0]
    assert isinstance(member, Member) and member.offset is None


def test_links_in_a_damaged_shard_are_found_too(tmp_path: Path) -> None:
    hard = entry("hard.png", type=tarfile.LNKTYPE, linkname="0.png")
    path = Path(write(tmp_path / "a.tar", entry("0.png", 600), hard, entry("1.png", 600)))
    found, _ = listed(damaged(path, 2048, b"garbage" * 9))
    assert [each.name if isinstance(each, Member) else each.at for each in found] == ["0.png", "hard.png", 2048]


def test_a_member_among_others_of_its_name_has_a_number(tmp_path: Path) -> None:
    uri = write(tmp_path / "a.tar", entry("a.png", 5), entry("a.png", 6))
    first, second = listed(uri)[0]
    assert isinstance(first, Member) and isinstance(second, Member)
    assert len(tar_shards.read_member(uri, "a.png")) == 5
    assert [len(tar_shards.read_member(uri, tar_shards.numbered("a.png", m.offset))) for m in (first, second)] == [5, 6]
    with pytest.raises(storage.RefusedError, match="5 bytes, more than the 4 that are allowed"):
        tar_shards.read_member(uri, "a.png", max_bytes=4)


def test_neighbours_are_read_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.tar").write_bytes(bytes(range(256)) * 2000)
    ranges: list[tuple[int, int]] = []
    read_range = storage.read_range
    monkeypatch.setattr(storage, "read_range", lambda u, at, n: ranges.append((at, n)) or read_range(u, at, n))
    monkeypatch.setattr(tar_shards, "READ_BYTES", 200_000)
    gap = tar_shards.GAP_BYTES
    far = 15 + gap + 4 + gap + 1
    wanted = [(far, 4), (0, 10), (10, 5), (15 + gap, 4), (300_000, 4), (300_000 + gap, 140_000), (20, 0)]
    found = tar_shards.read(str(tmp_path / "a.tar"), wanted)
    whole = (tmp_path / "a.tar").read_bytes()
    assert found == [whole[at : at + size] for at, size in wanted]
    assert ranges == [(0, 15 + gap + 4), (far, 4), (300_000, 4), (300_000 + gap, 140_000)]


def test_a_short_read_is_the_error_of_that_member_alone(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"x" * 1000)
    found = tar_shards.read(str(tmp_path / "a.tar"), [(0, 10), (990, 11), (None, None), (990, 10), (5000, 1)])
    assert found[0] == found[3] == b"x" * 10
    assert [i for i, each in enumerate(found) if isinstance(each, OSError)] == [1, 2, 4]
    assert "ends before" in str(found[1]) and "image_id" in str(found[2])
    gone = tar_shards.read(str(tmp_path / "gone.tar"), [(0, 10), (10, 10)])
    assert all(isinstance(each, FileNotFoundError) for each in gone)


def test_packing_is_deterministic_and_tar_unpacks_it(tmp_path: Path) -> None:
    long = f"{'d' * 90}/{'x' * 150}é.png"
    members = [("a/b.png", b"123"), ("c.png", b""), (long, b"long" * 1000)]
    data = tar_shards.pack(iter(members))
    assert data == tar_shards.pack(members)
    (tmp_path / "a.tar").write_bytes(data)
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-xf", "../a.tar"], cwd=tmp_path / "out", check=True)
    assert {name: (tmp_path / "out" / name).read_bytes() for name, _ in members} == dict(members)
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert {(m.mtime, m.uid, m.gid, m.uname) for m in tar} == {(0, 0, 0, "")}
        assert [bool(m.pax_headers) for m in tar] == [False, False, True]
    assert [m.name for m in listed(str(tmp_path / "a.tar"))[0]] == [name for name, _ in members]
