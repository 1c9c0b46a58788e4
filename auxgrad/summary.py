"""One summary run for each setting in MLflow: means over seeds, as the UI does not make them.

The UI loads a hundred runs and averages only those; the settings of a grid fit that page.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from auxgrad.analysis import Estimate, MeanCurve
from auxgrad.config import Config
from auxgrad.tracking import RUN_KEY, SETTING_KEY, SETTINGS, Recorded, Store

CURVES = ("train_loss", "val_loss")
MEANS = ("best_val_loss", "epochs", "seconds")
SUMMARY_OF = "summary_of"  # A digest of the runs that a summary was made of.


def write(store: Store, settings: Mapping[str, Config], say: Callable[[str], None]) -> None:
    """Brings the summary runs of these settings up to date, in the experiment NAME-settings.

    A setting whose finished runs are those that its summary was made of is left alone.

    Args:
        store: where the runs are.
        settings: `Config.key(..., with_seed=False)` to any config of that setting.
        say: is told, in one line, what was written.
    """
    groups = {key: runs for key, runs in _groups(store).items() if key in settings}
    if not groups:
        return
    target = store.sibling(SETTINGS)
    there: dict[str, list[Recorded]] = {}
    for summary in target.runs():
        there.setdefault(summary.tags.get(SETTING_KEY, ""), []).append(summary)
    for key, runs in groups.items():
        digest = hashlib.sha256(" ".join(sorted(run.run_id for run in runs)).encode()).hexdigest()
        old = there.get(key, [])
        if [summary.tags.get(SUMMARY_OF) for summary in old] != [digest]:
            tags = {SETTING_KEY: key, SUMMARY_OF: digest}
            _write_one(store, target, settings[key], runs, tags)
            target.delete([summary.run_id for summary in old])
    say(
        f"summary   {len(groups)} setting{'s' * (len(groups) > 1)}, mean and 95 % interval over seeds: "
        f"experiment {target.name}"
    )


def _groups(store: Store) -> dict[str, list[Recorded]]:
    """Finished runs by setting, of each seed the newest."""
    newest: dict[str, Recorded] = {}
    for run in store.runs("attributes.status = 'FINISHED'"):
        newest.setdefault(run.tags.get(RUN_KEY, ""), run)
    groups: dict[str, list[Recorded]] = {}
    for run in newest.values():
        groups.setdefault(run.tags.get(SETTING_KEY, ""), []).append(run)
    return groups


def _write_one(
    store: Store, target: Store, config: Config, runs: Sequence[Recorded], tags: Mapping[str, str]
) -> None:
    estimate = Estimate.of(run.metrics["test_loss"] for run in runs)
    params = {name: runs[0].params[name] for name in runs[0].params if name != "seed"}
    record = target.start_derived(config.setting, params, tags)
    steps = 0
    for name in CURVES:
        histories = store.histories([run.run_id for run in runs], name)
        curve = MeanCurve.of([histories.get(run.run_id, {}) for run in runs])
        for step, mean in zip(curve.steps, curve.mean, strict=True):
            record.metric(name, float(mean), int(step))
            steps = max(steps, int(step))
    record.metric("test_loss", estimate.mean, steps)
    record.metric("seeds", estimate.n, steps)
    if estimate.n > 1:
        record.metric("test_loss_std", estimate.std, steps)
        record.metric("test_loss_low", estimate.low, steps)
        record.metric("test_loss_high", estimate.high, steps)
    for name in MEANS:
        record.metric(name, float(np.mean([run.metrics[name] for run in runs])), steps)
    record.flush()
    record.end("FINISHED")
