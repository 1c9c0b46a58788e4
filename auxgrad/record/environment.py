"""What surrounds MLflow: its environment switches, and what it says while a server does not answer."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator, MutableMapping

_SWITCHES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # Of its GenAI part: processes that nobody needs.
}
RETRIES, TIMEOUT = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"
CONTACT_SECONDS = 10
TELL_SECONDS = 60


def quieten(environment: MutableMapping[str, str]) -> None:
    """Switch off what MLflow sends, prints and starts unasked. What a user has set stays as it is."""
    for name, value in _SWITCHES.items():
        environment.setdefault(name, value)


@contextlib.contextmanager
def few_retries() -> Iterator[None]:
    """Let calls of a tracking server fail in seconds, where MLflow would try again for two minutes."""
    limits = {RETRIES: "1", TIMEOUT: str(CONTACT_SECONDS)}
    limits = {name: value for name, value in limits.items() if name not in os.environ}
    os.environ.update(limits)
    try:
        yield
    finally:
        for name in limits:
            del os.environ[name]


class _OneLine(logging.Filter):
    """Says in one line, once a minute, that a server does not answer and is asked again."""

    _told = -float("inf")

    def filter(self, record: logging.LogRecord) -> bool:
        if "Retrying" not in str(record.msg):
            return True
        if time.monotonic() - self._told > TELL_SECONDS:
            self._told = time.monotonic()
            print("tracking  the server does not answer; it is asked again", file=sys.stderr, flush=True)
        return False


_ONE_LINE = _OneLine()


def tell_of_outages() -> None:
    """Replace what libraries log of a store that does not answer, at length and again and again."""
    logging.getLogger("urllib3.connectionpool").addFilter(_ONE_LINE)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
