"""Values as text: what an option's name stands for, and the text that means a value."""

from __future__ import annotations


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


def quote(text: str) -> str:
    """Return the text as a string of Hydra's grammar, whatever is in it."""
    return "'" + text.replace("'", "\\'") + "'"
