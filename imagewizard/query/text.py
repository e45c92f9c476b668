"""Text that comes from outside (ids, paths, errors), for a terminal or a page: printable, and of bounded width."""

import unicodedata


def printable(text: str) -> str:
    """`text` with control characters as escapes: a file's name must not steer the terminal or break a line."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def cut(text: str, width: int) -> str:
    """`text` in at most `width` columns of a terminal; its middle is left out, because both ends of a path matter."""
    if width_of(text) <= width:
        return text
    head, tail = text[: width // 2], text[-((width - 1) // 2) :]
    while width_of(head) + width_of(tail) + 1 > width:  # wide (East Asian) signs take two columns
        head, tail = head[:-1], tail[1:]
    return f"{head}…{tail}"


def width_of(text: str) -> int:
    """The columns of a terminal that `text` takes: 2 for each wide (East Asian) sign, 0 for a combining one."""
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else not unicodedata.combining(sign) for sign in text)
