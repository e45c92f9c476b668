"""Text from outside, made fit for a terminal: no control characters, never wider than asked for."""

import pytest

from imagewizard.query.text import cut, printable, width_of


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("photos/ü 1.png", "photos/ü 1.png"),
        ("\x1b[2J\nevil", "\\x1b[2J\\nevil"),
        ("a\u202eb\x00", "a\\u202eb\\x00"),  # right-to-left override
        ("写真", "写真"),
    ],
)
def test_control_characters_are_shown_as_escapes(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_width_counts_columns_of_a_terminal() -> None:
    assert [width_of(text) for text in ("", "abc", "写真", "e\u0301")] == [0, 3, 4, 1]


def test_long_text_keeps_both_ends() -> None:
    assert cut("0123456789", 10) == "0123456789"
    assert cut("0123456789", 7) == "012…789"
    assert cut("0123456789", 6) == "012…89"


@pytest.mark.parametrize("width", range(3, 20))
def test_cut_text_fits_its_width(width: int) -> None:
    for text in ("写真" * 20, "a写" * 20, "x" * 40, "e\u0301" * 40):
        assert width_of(cut(text, width)) <= width
