"""Names that people give: data, which pages, tables, archives and terminals show and must not obey."""

from __future__ import annotations

import unicodedata

LONGEST = 100
VIDEOS = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm")  # how the name of a film ends


def clean_name(name: str, what: str) -> str:
    """`name` as it is compared and kept: without white space around it, composed (NFC).

    what: what it names, for errors. Raises ValueError for no name, one of over LONGEST characters, and one
    with characters that cannot be seen: line breaks, control characters, marks that turn the direction of
    writing.

    >>> clean_name(" Ann ", "the donor")
    'Ann'
    """
    clean = unicodedata.normalize("NFC", name).strip()
    if not clean or len(clean) > LONGEST or not clean.isprintable():
        raise ValueError(
            f"{what} cannot be named {clean[:LONGEST]!r}; give 1 to {LONGEST} characters that can be seen"
        )
    return clean


def file_name(name: str, what: str) -> str:
    """`clean_name`, which can be one part of a path on every system: no separators, no drive, neither '.' nor
    '..'."""
    clean = clean_name(name, what)
    if clean.startswith(".") or clean.endswith(".") or any(c in '/\\:*?"<>|' for c in clean):
        raise ValueError(
            f"{what} cannot be named {clean!r}, since files are named by it; give letters, digits, '-', '_'"
            " and '+'"
        )
    return clean


def shown(text: str) -> str:
    """`text` for a terminal: characters that would move its cursor or change its colours are spelt out.

    >>> shown("no donor 'a\\x1b[2J'")
    "no donor 'a\\\\x1b[2J'"
    """
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode("ascii") for c in text
    )
