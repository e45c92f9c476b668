"""output_names: names without twins, lawful everywhere, for whatever ids there are."""

import random
import unicodedata
from pathlib import Path, PureWindowsPath
from urllib.parse import unquote

import pytest

from imagewizard.bulk.output_names import output_name, webdataset_name


@pytest.mark.parametrize(
    ("image_id", "name"),
    [
        ("dogs/a.jpg", "dogs/a.jpg.png"),
        ("dogs/a.png", "dogs/a.png.png"),
        ("a", "a.png"),
        ("shard-0.tar#x/000.jpg", "shard-0.tar%23x/000.jpg.png"),
        ("日本/犬 1.jpg", "日本/犬 1.jpg.png"),
        ("50%.jpg", "50%25.jpg.png"),
        ("a~b.jpg", "a%7eb.jpg.png"),
        ("../x", "%2e%2e/x.png"),
        ("./a/../b", "%2e/a/%2e%2e/b.png"),
        ("/etc/x", "%2fetc/x.png"),
        ("a//b/", "a/%2fb%2f.png"),
        ("c:\\x", "c%3a%5cx.png"),
        ("a\0b\n", "a%00b%0a.png"),
        ("x. /y.", "x%2e%20/y%2e.png"),
        ("con/nul.tar.jpg/console.jpg", "%63on/%6eul.tar.jpg/console.jpg.png"),
        ("a.png/b.jpg", "a%2epng/b.jpg.png"),
        ("a.webp/b.jpg", "a.webp/b.jpg.png"),
        ("", ".png"),
    ],
)
def test_output_names(image_id, name):
    assert output_name(image_id, "png") == name
    assert unquote(name.removesuffix(".png")) == image_id


def test_output_names_end_as_the_format_does():
    assert [output_name("a.gif", format) for format in ("png", "jpg", "webp", "tiff")] == [
        "a.gif.png",
        "a.gif.jpg",
        "a.gif.webp",
        "a.gif.tif",
    ]


def test_possible_twins_and_long_ids_carry_a_digest():
    assert output_name("Dogs/IMG_1.JPG", "png").startswith("Dogs/IMG_1.JPG~")
    assert output_name("cafe\u0301.jpg", "png").startswith("cafe\u0301.jpg~")
    assert output_name("café.jpg", "png") == "café.jpg.png"
    long = output_name("folder/" + "abcdefgh" * 40, "png")
    assert long.startswith("abcdefgh") and "~" in long and len(long) < 60


def nasty_ids(count: int) -> set[str]:
    """Ids out of a few pieces, so that near twins abound."""
    rng = random.Random(1)
    pieces = ["a", "A", "b", "a" * 90, ".", "..", "/", "//", "\\", " ", "#", "\0", "\n", "\x7f"]
    pieces += ["%", "%2e", "%2E", "~", ":", "?", "*", '"', "C:", "con", "CON", "nul.", "com1", "lpt¹", "aux"]
    pieces += [".png", ".PNG", ".jpg", "png", "é", "e\u0301", "É", "ß", "ss", "ſ", "K", "İ", "i", "ﬁ", "Å", "\u212b"]
    pieces += ["\u037e", ";", "\u0345", "\u200d", "\udc80", "犬", "犬" * 40, "😀"]
    ids = {"".join(rng.choices(pieces, k=rng.randint(0, 6))) for _ in range(count)}
    # what a name of one id would look like if it were the id of another
    return ids | {output_name(image_id, "png").removesuffix(".png") for image_id in list(ids)[: count // 3]}


def folded(path: str) -> str:
    """What a disk that ignores case and normalisation makes of a path."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


@pytest.mark.parametrize("format", ["png", "jpg"])
def test_output_names_of_nasty_ids_never_meet_and_never_escape(format, tmp_path):
    ids = nasty_ids(5000)
    names = {image_id: output_name(image_id, format) for image_id in ids}
    assert len(ids) > 4000
    assert len({name.casefold() for name in names.values()}) == len(ids)
    assert len({folded(name) for name in names.values()}) == len(ids)
    assert len({unicodedata.normalize("NFD", name).casefold() for name in names.values()}) == len(ids)
    folders = {str(parent) for name in names.values() for parent in Path(folded(name)).parents}
    assert not folders & {folded(name) for name in names.values()}
    for name in names.values():
        assert (tmp_path / name).resolve().is_relative_to(tmp_path.resolve())
        assert str(Path(name)) == name  # no empty, . or .. segment, not absolute
        windows = PureWindowsPath("D:/out", name)
        assert windows.parts[2:] == tuple(name.split("/")) and not windows.is_reserved()
        assert name.isprintable() and not set(name) & set('<>:"|?*\\')
        assert all(len(part.encode()) <= 200 and part[-1] not in ". " for part in name.split("/"))


def test_files_of_nasty_ids_can_all_be_written(tmp_path):
    for image_id in nasty_ids(600):
        path = tmp_path / folded(output_name(image_id, "png"))
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8", errors="surrogatepass") as stream:
            stream.write(image_id)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("dogs/a.jpg.png", "dogs/a%2ejpg.png"),
        ("a.b/c.png", "a.b/c.png"),
        ("a.png", "a.png"),
        ("a.b.c.d", "a%2eb%2ec.d"),
    ],
)
def test_a_webdataset_name_has_one_dot(path: str, name: str) -> None:
    assert webdataset_name(path) == name
