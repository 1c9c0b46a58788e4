"""MLflow's environment switches. Processes that use MLflow set them before they import it."""

from __future__ import annotations

from collections.abc import MutableMapping

_SWITCHES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # Of its GenAI part: processes that nobody needs.
}
RETRIES, TIMEOUT = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"


def quieten(environment: MutableMapping[str, str]) -> None:
    """Switch off what MLflow sends, prints and starts unasked. What a user has set stays as it is."""
    for name, value in _SWITCHES.items():
        environment.setdefault(name, value)
