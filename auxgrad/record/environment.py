"""What MLflow gets from and tells its environment: variables, tags, outages."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, MutableMapping

from auxgrad.errors import without_passwords

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


# The last two are HTTP status 429.
_OUTAGES = "INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED"


def is_outage(error: Exception) -> bool:
    """Return whether a retry may succeed.

    It may after a missing or busy server, a locked database or a full disk.
    """
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        return error.error_code in _OUTAGES
    return isinstance(error, OSError)


def short_reason(error: Exception) -> str:
    """Return the text of an error in one short line, without passwords."""
    return without_passwords(" ".join(str(error).split()))[:120]


@functools.cache
def context_tags() -> Mapping[str, str]:
    """Return the tags of user, source file and git commit that mlflow.start_run would add."""
    from mlflow.tracking.context.registry import resolve_tags

    # The address of git's origin may contain a token.
    return {name: re.sub(r"://[^/\s]*@", "://", value) for name, value in resolve_tags().items()}
