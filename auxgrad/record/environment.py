"""Configure MLflow: its environment variables, and its log while a server does not answer."""

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
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # Processes for the GenAI features.
}
RETRIES, TIMEOUT = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"
CONNECT_SECONDS = 10
NOTICE_SECONDS = 60


def set_quiet_defaults(environment: MutableMapping[str, str]) -> None:
    """Disable MLflow's telemetry, messages and extra processes, unless the user has configured them.

    Args:
        environment: the environment variables to change.
    """
    for name, value in _SWITCHES.items():
        environment.setdefault(name, value)


@contextlib.contextmanager
def few_retries() -> Iterator[None]:
    """Let calls to a tracking server fail in seconds; by default MLflow retries for two minutes."""
    limits = {RETRIES: "1", TIMEOUT: str(CONNECT_SECONDS)}
    limits = {name: value for name, value in limits.items() if name not in os.environ}
    os.environ.update(limits)
    try:
        yield
    finally:
        for name in limits:
            del os.environ[name]


class _OneLine(logging.Filter):
    """Replaces the log of retries by one line a minute."""

    _last_notice = -float("inf")

    def filter(self, record: logging.LogRecord) -> bool:
        if "Retrying" not in str(record.msg):
            return True
        if time.monotonic() - self._last_notice > NOTICE_SECONDS:
            self._last_notice = time.monotonic()
            print("tracking  the server does not answer; retrying", file=sys.stderr, flush=True)
        return False


_ONE_LINE = _OneLine()


def filter_outage_logs() -> None:
    """Replace the repeated log messages of libraries about a store that does not answer."""
    logging.getLogger("urllib3.connectionpool").addFilter(_ONE_LINE)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
