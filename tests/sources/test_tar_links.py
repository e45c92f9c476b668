"""Links in a tar lead to its members or nowhere, however they are made."""

import io
import tarfile

import pytest

from imagewizard.sources import tar_links
from imagewizard.sources.tar_links import Link


def lead(*entries: tuple[str, str | None]) -> list[str | None]:
    """Where the links of a tar lead. An entry is (name, None) for a file, (name, "-> target") or (name, "= target")."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:") as tar:
        for name, target in entries:
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            if target is not None:
                sign, info.linkname = target.split(" ", 1)
                info.type = tarfile.SYMTYPE if sign == "->" else tarfile.LNKTYPE
            tar.addfile(info)
    sink.seek(0)
    with tarfile.open(fileobj=sink) as tar:
        headers = tar.getmembers()
    links = [Link.of(header) for header in headers if header.islnk() or header.issym()]
    return [
        None if found is None else f"{found.name}@{found.offset // 512}" for found in tar_links.targets(links, headers)
    ]


@pytest.mark.parametrize(
    ("entries", "found"),
    [
        # symbolic links: relative to their folder, to what comes before or after
        ([("d/a", None), ("d/x", "-> a"), ("x", "-> d/a"), ("d/e/y", "-> ../a")], ["d/a@0"] * 3),
        ([("x", "-> a"), ("a", None)], ["a@1"]),
        ([("./d/a", None), ("x", "-> d/a"), ("./y", "-> ./d//a"), ("z", "= d/a"), ("w", "= ./d/a")], ["./d/a@0"] * 4),
        # to what is there in the end, if a name comes twice; a hard link: to what was there
        ([("a", None), ("x", "-> a"), ("h", "= a"), ("a", None), ("i", "= a")], ["a@3", "a@0", "a@3"]),
        ([("a", None), ("a", "= a")], ["a@0"]),
        # links to links, and through folders that are links
        ([("a", None), ("x", "-> y"), ("y", "-> z"), ("z", "= a")], ["a@0"] * 3),
        ([("a", None), ("h", "= a"), ("i", "= h"), ("j", "= i")], ["a@0"] * 3),
        ([("a", None), ("x", "-> a"), ("h", "= x")], ["a@0"] * 2),
        ([("real/a", None), ("d", "-> real"), ("x", "-> d/a"), ("d2", "-> d"), ("y", "-> d2/a")],
         [None, "real/a@0", None, "real/a@0"]),
        # hostile ones
        ([("x", "-> x"), ("y", "-> z"), ("z", "-> y"), ("h", "= h")], [None] * 4),
        ([("x", "-> x/x"), ("y", "-> y/../y")], [None] * 2),
        ([("x", "-> gone"), ("h", "= gone"), ("y", "-> /etc/passwd"), ("z", "-> ../../etc/passwd")], [None] * 4),
        ([("h", "= /etc/passwd"), ("i", "= ../a"), ("a", None)], [None] * 2),
        ([("d/", None), ("x", "-> d"), ("y", "-> ."), ("z", "-> ..")], [None] * 3),
    ],
)  # fmt: skip
def test_links_lead_to_members_or_nowhere(entries: list[tuple[str, str | None]], found: list[str | None]) -> None:
    assert lead(*entries) == found


def test_a_long_chain_ends() -> None:
    chain = [(f"{i}", f"-> {i + 1}") for i in range(2 * tar_links.MOST_HOPS)]
    found = lead(*chain, (f"{2 * tar_links.MOST_HOPS}", None))
    assert found[0] is None and found[-1] is not None
