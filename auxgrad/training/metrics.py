"""Directions of the compiled metrics of a Keras model: higher or lower is better."""

from __future__ import annotations

import keras


def maximized(model: keras.Model) -> dict[str, bool]:
    """Return for each metric, by its name in `evaluate`, whether higher is better.

    Metrics with an unknown direction are left out: functions, and the losses of single outputs. The
    model must have been trained or evaluated before, because Keras creates the metrics then.
    """
    found: dict[str, keras.Metric] = {}
    for metric in model.metrics:
        results = metric.result()
        if not isinstance(results, dict):
            found[metric.name] = metric
        elif len(results) == len(metric.metrics):  # Otherwise two metrics share a name.
            # One object holds all compiled metrics; with several outputs its results have other names.
            found |= zip(results, metric.metrics, strict=True)
    # A private attribute, but the only source of the direction; Keras' callbacks use it, too.
    said = {name: getattr(metric, "_direction", None) for name, metric in found.items()}
    return {name: way == "up" for name, way in said.items() if way in ("up", "down")}
