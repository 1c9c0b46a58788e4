"""The view of an experiment in the MLflow UI, stored as MLflow's shared view in a tag."""

from __future__ import annotations

import json
from collections.abc import Sequence

KEY = "auxgrad"
TAG = f"mlflow.sharedViewState.{KEY}"
TABLE = f"workflowType=machine_learning&viewStateShareKey={KEY}"
CHARTS = f"{TABLE}&compareRunsMode=CHART"
PARAMS = ("mode", "lam", "alpha", "overall", "seed")
CURVES = ("train_loss", "val_loss")
RESULTS = ("test_loss",)
LOSSES, METRICS = "Losses", "Metrics"
VALIDATION, TEST = "val_", "test_"
MAX_CHARACTERS = 20_000  # In a tag of an experiment.
# MLflow adds a chart for every other metric, in the section that is named before the slash.
OTHER_SECTIONS = ("Model metrics", "cosine", "conflict", "System metrics")


def state(derived: bool = False, metrics: Sequence[str] = ()) -> str:
    """Return the view: charts of the losses first, columns for knobs and test loss, means by setting.

    Args:
        derived: whether the experiment contains summary runs, which are means already, or reports.
        metrics: the metrics with charts beside the loss, such as accuracy. The last ones are omitted if
            the view would be too long for a tag.

    Returns:
        The view as JSON.
    """
    text = _state(derived, metrics)
    return text if len(text) <= MAX_CHARACTERS else state(derived, metrics[:-1])


def metrics_in(text: str | None) -> list[str]:
    """Return the metrics that have charts beside the loss in a view.

    Args:
        text: the view as JSON, or None.

    Returns:
        The names without prefix; empty if the text is not a view from `state`.
    """
    try:
        names = [chart["metricKey"] for chart in json.loads(text or "")["compareRunCharts"]]
    except (ValueError, KeyError, TypeError):
        return []
    return [name.removeprefix(TEST) for name in names if name.startswith(TEST) and name not in RESULTS]


def _state(derived: bool, metrics: Sequence[str]) -> str:
    charts = [_chart(name, "LINE") for name in CURVES] + [_chart(name, "BAR") for name in RESULTS]
    for name in metrics:
        charts.append(_chart(VALIDATION + name, "LINE", METRICS))
        charts.append(_chart(TEST + name, "BAR", METRICS))
    params = [name for name in PARAMS if name != "seed"] if derived else PARAMS
    results = (*RESULTS, "test_loss_std", "seeds", "diverged") if derived else RESULTS
    results = (*results, *(TEST + name for name in metrics))
    opened = [LOSSES, METRICS] if metrics else [LOSSES]
    columns = [f"params.`{name}`" for name in params] + [f"metrics.`{name}`" for name in results]
    by_setting = {
        "aggregateFunction": "average",
        "groupByKeys": [{"mode": "param", "groupByData": "config"}],
    }
    return json.dumps(
        {
            "selectedColumns": columns,
            "columnOrder": ["attributes.`Run Name`", *columns],
            "groupBy": None if derived else by_setting,
            "runsHiddenMode": "SHOW_ALL" if derived else "FIRST_20_RUNS",
            "isAccordionReordered": True,  # Otherwise MLflow sorts the sections by name.
            "compareRunCharts": charts,
            "compareRunSections": [_section(name, True) for name in opened]
            + [_section(name, False) for name in OTHER_SECTIONS],
        }
    )


def _chart(metric: str, kind: str, section: str = LOSSES) -> dict[str, object]:
    return {
        "uuid": f"auxgrad-{metric}",
        "type": kind,
        "metricKey": metric,
        "metricSectionId": f"auxgrad-{section}",
        "deleted": False,
        "isGenerated": False,  # Otherwise MLflow shows bars as lines.
        "runsCountToCompare": 100,
    } | (
        {
            "selectedMetricKeys": [metric],
            "lineSmoothness": 0,
            "scaleType": "linear",
            "xAxisKey": "step",
            "xAxisScaleType": "linear",
            "useGlobalXaxisKey": True,
            "useGlobalLineSmoothing": True,
            "yAxisKey": "metric",
            "range": {},
        }
        if kind == "LINE"
        else {}
    )


def _section(name: str, is_open: bool) -> dict[str, object]:
    return {
        "uuid": f"auxgrad-{name}",
        "name": name,
        "display": is_open,
        "isReordered": False,
        "deleted": False,
        "isGenerated": True,
    }
