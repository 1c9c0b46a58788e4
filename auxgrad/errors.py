"""Exceptions that the user can resolve: each message is one line that says what to change."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import SequenceMatcher
from urllib.parse import unquote

# Options of an address whose values are secret.
SECRET_OPTIONS = {
    "password",
    "passwd",
    "pwd",
    "sslpassword",
    "token",
    "access_token",
    "secret",
    "odbc_connect",
}
# Matches up to the last @ of a word, because a password may contain an @ that is not percent-encoded.
_LOGIN = re.compile(r"(://[^\s/:]*:)\S+@")
_OPTION = re.compile(r"([?&;]([^\s?&;=]+)=)[^\s&;'\"]+?(?=:?(?:[\s&;'\"]|$))")


def without_passwords(text: str) -> str:
    """Replace each password and token in the addresses of a text by ***.

    >>> without_passwords("no postgresql://me:secret@host/runs?sslpassword=secret&sslmode=require there")
    'no postgresql://me:***@host/runs?sslpassword=***&sslmode=require there'

    Args:
        text: any text, such as an error message.

    Returns:
        The text without secrets.
    """

    def hide(option: re.Match[str]) -> str:
        is_secret = unquote(option[2]).lower() in SECRET_OPTIONS
        return f"{option[1]}***" if is_secret else option[0]

    return _OPTION.sub(hide, _LOGIN.sub(r"\1***@", text))


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the hint ` (did you mean ...?)`; empty if no known name is similar.

    Of dotted names, the last parts must be similar, because all options of a section have one prefix.

    >>> suggestion("problem.hiden", ["problem.hidden", "problem.tf32"])
    ' (did you mean problem.hidden?)'
    >>> suggestion("problem.hidden", ["problem.width", "problem.tf32"])
    ''

    Args:
        name: what the user wrote.
        known: the names that exist.
    """

    def likeness(candidate: str) -> tuple[float, float]:
        pairs = (candidate.rpartition(".")[2], name.rpartition(".")[2]), (candidate, name)
        last, whole = (SequenceMatcher(None, a.lower(), b.lower()).ratio() for a, b in pairs)
        return last, whole

    ranked = sorted(known, key=likeness, reverse=True)
    least = max(0.6, likeness(ranked[0])[0] - 0.15) if ranked else 1.0
    near = [each for each in ranked[:2] if likeness(each)[0] >= least]
    return f" (did you mean {' or '.join(near)}?)" if near else ""


class AuxgradError(Exception):
    """Base class of errors whose message is sufficient: commands show it without a traceback.

    Passwords and tokens in addresses are removed from the message.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(without_passwords(arg) if isinstance(arg, str) else arg for arg in args))


class ConfigError(AuxgradError):
    """A key or a value of the config is not allowed."""


class DataError(AuxgradError):
    """The data is missing or damaged, or no network can be trained on it."""


class AuxiliaryError(AuxgradError, ValueError):
    """An auxiliary loss does not fit the network, the targets or the weights of the examples."""


class RuleError(AuxgradError, ValueError):
    """The rule of a mode does not return (a, b)."""


class TrackingError(AuxgradError):
    """The tracking store cannot be reached or used."""


class ReportError(AuxgradError):
    """The report cannot be made: there are no runs for it, or a file has the wrong form."""


class RunsElsewhere(AuxgradError):
    """Another process is executing the run."""


class SweepFailed(AuxgradError):
    """Some runs of the sweep are not finished."""
