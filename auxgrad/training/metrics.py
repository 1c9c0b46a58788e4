"""Which way the compiled metrics of a Keras model are better."""

from __future__ import annotations

import keras


def maximized(model: keras.Model) -> dict[str, bool]:
    """Return whether higher is better, for each metric that says so, by its name in `evaluate`.

    The model must have been trained or evaluated, since Keras makes the metrics then. A function says
    nothing, nor does the loss of one of several outputs.
    """
    found: dict[str, keras.Metric] = {}
    for metric in model.metrics:
        results = metric.result()
        if not isinstance(results, dict):
            found[metric.name] = metric
        elif len(results) == len(metric.metrics):  # Else two have one name, and no order tells which.
            # All compiled metrics in one, whose results bear other names if there are several outputs.
            found |= zip(results, metric.metrics, strict=True)
    # Private, but what Keras' callbacks go by, and said nowhere else.
    said = {name: getattr(metric, "_direction", None) for name, metric in found.items()}
    return {name: way == "up" for name, way in said.items() if way in ("up", "down")}
