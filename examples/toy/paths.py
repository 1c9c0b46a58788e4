"""Run `problem=toy` in six modes and draw the paths: `python paths.py toy.png`.

Further arguments are those of a run, such as `problem.epochs=300`. The runs are recorded in mlflow.db in
the working directory, or in the store that MLFLOW_TRACKING_URI names.
"""

import os
import sys

import mlflow
import numpy as np
from matplotlib.figure import Figure

import auxgrad

WORDS = ["problem=toy", "lam=0.1", "alpha=1", "tracking.log_model=false"]
SIX = ("SingleTask", "Multitask", "UnweightedCosine", "WeightedCosine", "Projection", "Orthogonal")
STARTS = [(-1.5, 0.4), (-0.5, -0.4), (0.3, 1.6), (1.8, -1.5)]


def paths(mode, words):
    """Train in one mode, and return the path of each point, an array of rows (x, y)."""
    starts = "[" + ",".join(f"[{x},{y}]" for x, y in STARTS) + "]"
    run_id = auxgrad.run([*WORDS, *words, f"mode={mode}", f"problem.starts={starts}"]).run_id
    client = mlflow.MlflowClient(os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db"))

    def curve(name):
        return [point.value for point in client.get_metric_history(run_id, name)]

    curves = [[curve(f"val_point_{i + 1}_{axis}") for axis in "xy"] for i in range(len(STARTS))]
    # The first rows are the starting points, which are not recorded.
    return [np.vstack([start, np.transpose(xy)]) for start, xy in zip(STARTS, curves, strict=True)]


def draw(paths_by_mode):
    """Return a figure with the paths of each mode in a plane."""
    figure = Figure(figsize=(9, 6.2), layout="constrained")
    angles = np.linspace(0, 2 * np.pi, 200)
    planes = figure.subplots(2, 3, sharex=True, sharey=True).flat
    for axis, (mode, walked) in zip(planes, paths_by_mode.items(), strict=True):
        axis.plot(np.cos(angles), np.sin(angles), color="0.7", linewidth=1)
        axis.plot(2, 0, marker="*", color="0.4", markersize=10)
        for path in walked:
            [line] = axis.plot(*path.T, linewidth=1.5)
            axis.plot(*path[0], marker="o", color=line.get_color(), markersize=4)
            axis.plot(*path[-1], marker="x", color="black", markersize=6)
        axis.set_title(mode)
        axis.set_aspect("equal")
        axis.grid(alpha=0.3)
    figure.suptitle("Primary task: to the circle. Auxiliary task: to the star. Cross: the end.")
    return figure


if __name__ == "__main__":
    picture, *words = sys.argv[1:]
    draw({mode: paths(mode, words) for mode in SIX}).savefig(picture, dpi=110)
