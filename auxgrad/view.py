"""How the MLflow UI shows an experiment: MLflow's own shared view, a tag that a link can name."""

from __future__ import annotations

import json

KEY = "auxgrad"
TAG = f"mlflow.sharedViewState.{KEY}"
QUERY = f"workflowType=machine_learning&compareRunsMode=CHART&viewStateShareKey={KEY}"
PARAMS = ("mode", "lam", "alpha", "overall", "seed")
CURVES = ("train_loss", "val_loss")
RESULTS = ("test_loss",)
LOSSES = "Losses"
# Of every other metric MLflow adds a chart itself, to the section named before the slash.
OTHER_SECTIONS = ("Model metrics", "cosine", "conflict", "System metrics")


def state() -> str:
    """The view: losses first, one mean for each setting, a column for each knob and the test loss."""
    charts = [_chart(name, "LINE") for name in CURVES] + [_chart(name, "BAR") for name in RESULTS]
    return json.dumps(
        {
            "selectedColumns": [f"params.`{name}`" for name in PARAMS]
            + [f"metrics.`{name}`" for name in RESULTS],
            "groupBy": {
                "aggregateFunction": "average",
                "groupByKeys": [{"mode": "param", "groupByData": "config"}],
            },
            "runsHiddenMode": "FIRST_20_RUNS",
            "compareRunCharts": charts,
            "compareRunSections": [_section(LOSSES, True)]
            + [_section(name, False) for name in OTHER_SECTIONS],
        }
    )


def _chart(metric: str, kind: str) -> dict[str, object]:
    return {
        "uuid": f"auxgrad-{metric}",
        "type": kind,
        "metricKey": metric,
        "metricSectionId": f"auxgrad-{LOSSES}",
        "deleted": False,
        "isGenerated": True,
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
