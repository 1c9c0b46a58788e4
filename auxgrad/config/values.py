"""Values as text: what an option's name stands for, and the text that means a value."""

from __future__ import annotations

import re
import unicodedata

UNSHOWN = (
    "Cc",
    "Cs",
    "Zl",
    "Zp",
)  # Unicode's kinds of characters that would break a line, or a terminal.


def parse_scalar(text: str) -> int | float | bool | str:
    """Return the value that an option's name stands for.

    >>> [parse_scalar(text) for text in ("100", "1e-2", "true", "Orthogonal")]
    [100, 0.01, True, 'Orthogonal']
    """
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return {"true": True, "false": False}.get(text.lower(), text)


def format_value(value: object) -> str:
    """Return the shortest text for the command line that means a value, the same for 100 and 100.0.

    >>> [format_value(value) for value in (100, 100.0, 0.01, True, [8, 16.0])]
    ['100', '100', '0.01', 'true', '[8,16]']
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(format_value(item) for item in value)}]"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def visible(text: str) -> str:
    r"""Return the text in one line: control characters as Python writes them.

    >>> print(visible("first\nsecond"))
    first\nsecond
    """
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in UNSHOWN else char
        for char in text
    )


def quote(text: str) -> str:
    """Return the text as a string of Hydra's grammar, whatever is in it."""
    # A backslash is itself, except before a quote.
    escaped = re.sub(r"(\\*)('|\Z)", lambda found: 2 * found[1] + (found[2] and "\\'"), text)
    return f"'{escaped}'"
