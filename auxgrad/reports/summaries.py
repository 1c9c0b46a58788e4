"""Write one summary run for each setting to MLflow, with means over seeds.

The MLflow UI loads a hundred runs and averages only those, so that its means over a large sweep are
wrong. The summary runs of a grid fit on that page. As in a report, runs that diverged are counted
and left out of the means.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from auxgrad.config.identity import Identity
from auxgrad.record.opening import open_sibling
from auxgrad.record.store import SETTINGS
from auxgrad.record.stored import METRICS, SETTING_KEY
from auxgrad.reports.runs import are_finite
from auxgrad.reports.statistics import Estimate, MeanCurve

if TYPE_CHECKING:
    from auxgrad.record.store import Store
    from auxgrad.record.stored import StoredRun

LOSS = "test_loss"
CURVES = ("train_loss", "val_loss")
MEANS = ("best_val_loss", "epochs", "seconds")
SUMMARY_OF = "summary_of"  # The tag that holds a digest of the runs that a summary was made of.


def write(store: Store, settings: Mapping[str, Identity], say: Callable[[str], None]) -> None:
    """Update the summary runs of these settings, in the experiment NAME-settings.

    A summary is written only if the finished runs of its setting have changed.

    Args:
        store: The store of the runs.
        settings: Any identity of each setting, by `Identity.setting_key`.
        say: A function that prints a line, called with a description of the summary runs.
    """
    groups = {key: runs for key, runs in _groups(store).items() if key in settings}
    if not groups:
        return
    target = open_sibling(store, SETTINGS)
    there: dict[str, list[StoredRun]] = {}
    for summary in target.runs():
        there.setdefault(summary.tags.get(SETTING_KEY, ""), []).append(summary)
    digests = {key: _digest(runs) for key, runs in groups.items()}
    changed = {
        key: runs
        for key, runs in groups.items()
        if [summary.tags.get(SUMMARY_OF) for summary in there.get(key, [])] != [digests[key]]
    }
    converged = {key: [run for run in runs if _has(run, LOSS)] for key, runs in changed.items()}
    curves = _mean_curves(store, {key: runs for key, runs in converged.items() if runs})
    for key, runs in changed.items():
        tags = {SETTING_KEY: key, SUMMARY_OF: digests[key]}
        if METRICS in runs[0].tags:
            tags[METRICS] = runs[0].tags[METRICS]
        diverged = len(runs) - len(converged[key])
        _write_one(target, settings[key], converged[key], diverged, curves.get(key, {}), tags)
        target.delete([summary.run_id for summary in there.get(key, [])])
    target.add_charts(name.removeprefix("test_") for name in _metrics(changed, "test_"))
    diverged = sum(not _has(run, LOSS) for runs in groups.values() for run in runs)
    left_out = f"; {diverged} run{'s' * (diverged > 1)} diverged, left out" if diverged else ""
    say(
        f"summary   {len(groups)} setting{'s' * (len(groups) > 1)}, mean and 95 % interval over seeds: "
        f"experiment {target.name}{left_out}"
    )


def _groups(store: Store) -> dict[str, list[StoredRun]]:
    """Return the finished runs by setting key, only the newest of each seed."""
    newest: dict[str, dict[int, StoredRun]] = {}
    for run in store.runs(status="FINISHED"):
        if run.identity is not None and LOSS in run.metrics:
            newest.setdefault(run.tags[SETTING_KEY], {}).setdefault(run.identity.seed, run)
    return {key: list(runs.values()) for key, runs in newest.items()}


def _has(run: StoredRun, name: str) -> bool:
    """Return whether the metric and the test loss are finite, so that the run counts."""
    return are_finite(run.metrics[name], run.metrics[LOSS])


def _digest(runs: Sequence[StoredRun]) -> str:
    return hashlib.sha256(" ".join(sorted(run.run_id for run in runs)).encode()).hexdigest()


def _mean_curves(
    store: Store, groups: Mapping[str, Sequence[StoredRun]]
) -> dict[str, dict[str, MeanCurve]]:
    """Return the mean of each curve over the runs of each group."""
    run_ids = [run.run_id for runs in groups.values() for run in runs]
    means: dict[str, dict[str, MeanCurve]] = {key: {} for key in groups}
    for name in [*CURVES, *_metrics(groups, "val_")]:
        # One query for all runs, because SQLite may read the curves of all runs for any query.
        histories = store.histories(run_ids, name) if run_ids else {}
        for key, runs in groups.items():
            means[key][name] = MeanCurve.of([histories.get(run.run_id, {}) for run in runs])
    return means


def _metrics(groups: Mapping[str, Sequence[StoredRun]], start: str) -> list[str]:
    """Return the metrics, without losses, with this prefix that all runs of some group have."""
    found: set[str] = set()
    for runs in groups.values():
        found |= set.intersection(*(set(run.metrics) for run in runs))
    return sorted(name for name in found if name.startswith(start) and name != f"{start}loss")


def _write_one(
    target: Store,
    identity: Identity,
    runs: Sequence[StoredRun],
    diverged: int,
    curves: Mapping[str, MeanCurve],
    tags: Mapping[str, str],
) -> None:
    """Write the summary run of one setting."""
    params = {name: value for name, value in identity.params.items() if name != "seed"}
    record = target.start_derived(identity.setting_name, params, tags)
    steps = 0
    for name, curve in curves.items():
        for step, mean in zip(curve.steps, curve.mean, strict=True):
            record.metric(name, float(mean), int(step))
            steps = max(steps, int(step))
    record.metric("seeds", len(runs), steps)
    record.metric("diverged", diverged, steps)
    if runs:
        estimate = Estimate.of(run.metrics[LOSS] for run in runs)
        record.metric(LOSS, estimate.mean, steps)
        if estimate.n > 1:
            record.metric("test_loss_std", estimate.std, steps)
            record.metric("test_loss_low", estimate.low, steps)
            record.metric("test_loss_high", estimate.high, steps)
        for name in [*MEANS, *_metrics({"": runs}, "test_"), *_metrics({"": runs}, "best_val_")]:
            if values := [run.metrics[name] for run in runs if _has(run, name)]:
                record.metric(name, float(np.mean(values)), steps)
    record.flush()
    record.end("FINISHED")
