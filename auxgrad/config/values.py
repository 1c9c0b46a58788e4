"""Convert values to the text of the command line, and text to values."""

from __future__ import annotations

import re
import unicodedata

# Unicode categories of the characters that would break a line, or a terminal.
CONTROL_CATEGORIES = ("Cc", "Cs", "Zl", "Zp")


def parse_scalar(text: str) -> int | float | bool | str:
    """Return the value that a text, such as the name of an option, means.

    >>> [parse_scalar(text) for text in ("100", "1e-2", "true", "Orthogonal")]
    [100, 0.01, True, 'Orthogonal']

    Args:
        text: any text.

    Returns:
        A number or a truth value, if the text is one; otherwise the text itself.
    """
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return {"true": True, "false": False}.get(text.lower(), text)


def format_value(value: object) -> str:
    """Return the text of a value on the command line; equal values have equal texts.

    >>> [format_value(value) for value in (100, 100.0, 0.01, True, [8, 16.0])]
    ['100', '100', '0.01', 'true', '[8,16]']

    Args:
        value: a number, a truth value, None, a text, or a list or tuple of them.
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


def escape_controls(text: str) -> str:
    r"""Return a text in one line, with Python's escape sequences for control characters.

    >>> print(escape_controls("first\nsecond"))
    first\nsecond

    Args:
        text: any text.
    """
    return "".join(
        char.encode("unicode_escape").decode()
        if unicodedata.category(char) in CONTROL_CATEGORIES
        else char
        for char in text
    )


def quote(text: str) -> str:
    """Return any text as a quoted string of Hydra's grammar."""
    # A backslash needs no escape, except before a quote.
    escaped = re.sub(r"(\\*)('|\Z)", lambda found: 2 * found[1] + (found[2] and "\\'"), text)
    return f"'{escaped}'"


def in_grammar(value: object) -> str:
    """Return a JSON value in Hydra's grammar, with all texts in quotes.

    >>> print(in_grammar({"names": ["a", "b c"], "rate": 0.1, "cache": None}))
    {names:['a','b c'],rate:0.1,cache:null}

    Args:
        value: a number, a truth value, None, a text, or a list or dictionary of them.
    """
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{in_grammar(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{','.join(in_grammar(item) for item in value)}]"
    return quote(value) if isinstance(value, str) else format_value(value)
