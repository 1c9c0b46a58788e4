"""What can go wrong through no fault of the code: each message is one line for the user."""

from __future__ import annotations

import re
from urllib.parse import unquote

# Options of an address whose values are secret.
SECRETS = {"password", "passwd", "pwd", "sslpassword", "token", "access_token", "secret", "odbc_connect"}
# All up to the last @ of a word: what a password is made of, its user may not have quoted.
_LOGIN = re.compile(r"(://[^\s/:]*:)\S+@")
_OPTION = re.compile(r"([?&;]([^\s?&;=]+)=)[^\s&;'\"]+?(?=:?(?:[\s&;'\"]|$))")


def without_passwords(text: str) -> str:
    """Return a text with *** for every password and token in an address.

    >>> without_passwords("no postgresql://me:secret@host/runs?sslpassword=secret&sslmode=require there")
    'no postgresql://me:***@host/runs?sslpassword=***&sslmode=require there'
    """

    def hide(option: re.Match[str]) -> str:
        is_secret = unquote(option[2]).lower() in SECRETS
        return f"{option[1]}***" if is_secret else option[0]

    return _OPTION.sub(hide, _LOGIN.sub(r"\1***@", text))


class AuxgradError(Exception):
    """An error that its message explains in full; the command line shows it without a traceback.

    Passwords in addresses are left out of the message.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(without_passwords(arg) if isinstance(arg, str) else arg for arg in args))


class ConfigError(AuxgradError):
    """A key or a value of the config that is not allowed."""


class DataError(AuxgradError):
    """Data that is missing or damaged, or that no network can be trained on."""


class TrackingError(AuxgradError):
    """A tracking store that cannot be reached or used."""


class ReportError(AuxgradError):
    """A report that cannot be made: nothing to report on, or a file that does not fit."""


class RunsElsewhere(AuxgradError):
    """A run of a sweep that another process has begun and not ended."""


class SweepFailed(AuxgradError):
    """A sweep of which not every run is finished."""
