"""Describe the runs that a report leaves out, and why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from auxgrad.config.setting import Setting
from auxgrad.reports.runs import ReportedRun, Study

NEWER_ATTEMPTS = "there are newer attempts at the same runs"
OTHER_RULE = "the reported runs have another version of the mode's rule"
OTHER_PROGRAM = "the reported runs of the setting were made by another program"
FEW = 4  # More settings, or modes, are abbreviated.


def difference(study: Study, reported: Study) -> str:
    """Return why runs of a study are not compared with the reported ones of the same title.

    Args:
        study: The study of the runs that are left out.
        reported: The study of the reported runs.
    """
    if not (study.is_identified and reported.is_identified):
        return OTHER_PROGRAM
    old, new = json.loads(study.key), json.loads(reported.key)
    words = []
    for section, name in (("problem", "the problem"), ("data", "the data set")):
        words += _differences(old[section], new[section], name)
    if old["method"] != new["method"]:
        words.append("another version of auxgrad's method")
    if old["on_nan"] != new["on_nan"]:
        words.append("another value of on_nan")
    return f"the reported runs have {' and '.join(words)}"


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], name: str) -> list[str]:
    differ = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    words = {
        "fingerprint": "other data",
        "target": f"another class of {name}",
        "version": f"other source code of {name}",
        "options": f"other options of {name}",
    }
    if str(new.get("version")).startswith("version "):
        words["version"] = f"another version of {name}"
    return [text for key, text in words.items() if key in differ]


def note(runs: Sequence[ReportedRun], reason: str, title: str = "") -> str:
    """Return a sentence that says how many runs of which settings were left out, and why.

    Args:
        runs: The runs that were left out.
        reason: The reason, such as `NEWER_ATTEMPTS`.
        title: The title of their study; empty if there is only one.
    """
    counts = Counter("finished" if run.is_finished else run.status for run in runs)
    states = sorted(counts, key=lambda state: (state != "finished", state))
    numbers = ", ".join(f"{counts[state]} {state}" for state in states)
    settings = sorted({run.setting for run in runs}, key=lambda setting: setting.order)
    of_title = f" of {title}" if title else ""
    return f"Left out{of_title}: {numbers} ({_names(settings)}), because {reason}."


def _names(settings: Sequence[Setting]) -> str:
    names = [setting.name for setting in settings]
    if len(names) > FEW:
        modes = Counter(setting.mode for setting in settings)
        names = [f"{mode} in {n} setting{'s' * (n > 1)}" for mode, n in modes.items()]
    rest = len(names) - FEW
    return ", ".join([*names[:FEW], *([f"{rest} more mode{'s' * (rest > 1)}"] if rest > 0 else [])])
