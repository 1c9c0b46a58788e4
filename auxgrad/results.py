"""Finished runs, from the tracking store or from a CSV file, and which of them a person asked for."""

from __future__ import annotations

import csv
import difflib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, TypeVar

from auxgrad.config import SECTIONS, effective
from auxgrad.errors import ReportError
from auxgrad.tracking import SETTING_KEY, Recorded
from auxgrad.values import VALUE_GROUPS, format_value, options, parse_scalar, preset

T = TypeVar("T")

KNOBS = ("lam", "alpha", "overall")
BASELINES = ("SingleTask", "Multitask")
# The first six in the order of the published files.
REQUIRED = ("mode", "overall", "alpha", "lam", "loss")
COLUMNS = ("run", *REQUIRED, "seed", "data", "epochs", "seconds", "run_id", "best_val_loss", "changes")
UNKNOWN = "unknown"
LARGEST = 1e308  # MLflow stores infinity as the largest finite number.


def mode_uses(mode: str) -> Sequence[str]:
    """Which of lam, alpha and overall make a difference in a mode; all of them in one of others.

    >>> mode_uses("Multitask")
    ['lam']
    """
    return preset("mode", mode)["mode_uses"] if mode in options("mode") else KNOBS


@dataclass(frozen=True)
class Setting:
    """What is averaged over seeds. Knobs that the mode does not use have their neutral value."""

    mode: str
    overall: bool
    alpha: float
    lam: float

    @staticmethod
    def of(mode: str, overall: bool, alpha: float, lam: float) -> Setting:
        """Like a run of `auxgrad.train`: unused knobs are neutral, and lam 0 is SingleTask.

        >>> Setting.of("Multitask", True, 0.01, 30.0)
        Setting(mode='Multitask', overall=False, alpha=1.0, lam=30.0)
        """
        knobs = {"lam": lam, "alpha": alpha, "overall": overall}
        taken = effective(mode, mode_uses(mode), knobs)
        return Setting(taken["mode"], taken["overall"], taken["alpha"], taken["lam"])

    @property
    def name(self) -> str:
        """As in MLflow, without data and changes.

        >>> Setting.of("Projection", False, 0.01, 100.0).name
        'Projection lam=100 alpha=0.01'
        """
        used = {key: getattr(self, key) for key in mode_uses(self.mode)}
        words = [f"{key}={format_value(value)}" for key, value in used.items() if value is not False]
        return " ".join([self.mode, *words])

    @property
    def family(self) -> tuple[str, bool, float]:
        """Mode, overall and alpha: what a curve over lam has in common."""
        return self.mode, self.overall, self.alpha

    @property
    def order(self) -> tuple[object, ...]:
        """Baselines first, then modes by name, alpha 1 before the averages, small lam first."""
        rank = BASELINES.index(self.mode) if self.mode in BASELINES else len(BASELINES)
        return rank, self.mode, self.overall, -self.alpha, self.lam


@dataclass(frozen=True)
class Run:
    """A finished run. `loss` is its test loss; `changes` is what differs from the presets of conf/."""

    setting: Setting
    loss: float
    seed: int | None
    data: str
    changes: str = ""
    epochs: float | None = None
    seconds: float | None = None
    run_id: str = ""
    best_val_loss: float | None = None

    @property
    def diverged(self) -> bool:
        """Whether the test loss is no finite number."""
        return not math.isfinite(self.loss) or abs(self.loss) > LARGEST

    @property
    def group(self) -> tuple[str, str]:
        """Data and changes: runs that differ in them are not compared with one another."""
        return self.data, self.changes


@dataclass(frozen=True)
class Unfinished:
    """A run of which no attempt has finished; `status` is that of the latest attempt."""

    setting: Setting
    seed: int
    group: tuple[str, str]
    status: str
    run_id: str


@dataclass
class Results:
    """What there is to report on; `notes` tells what was left out, in whole sentences."""

    runs: list[Run] = field(default_factory=list)
    unfinished: list[Unfinished] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def groups(self) -> list[tuple[str, str]]:
        """All pairs of data and changes, most runs first."""
        counts: dict[tuple[str, str], int] = {}
        for group in [run.group for run in self.runs] + [run.group for run in self.unfinished]:
            counts[group] = counts.get(group, 0) + 1
        return sorted(counts, key=lambda group: -counts[group])

    def of_group(self, group: tuple[str, str]) -> Results:
        """The part with this data and these changes."""
        return Results(
            [run for run in self.runs if run.group == group],
            [run for run in self.unfinished if run.group == group],
            self.notes,
        )


def from_store(recorded: Sequence[Recorded]) -> Results:
    """Of runs of an experiment, newest first, each once: the newest finished, else the newest.

    Where data or method behind a setting's name have changed, only the runs of the newest count. Runs
    that others have logged count too if they have the parameters mode, lam, alpha, overall and seed.
    """
    results = Results()
    recorded = [run for run in recorded if run.params.keys() >= set(VALUE_GROUPS)]
    versions: dict[tuple[object, ...], str] = {}
    outdated = repeated = 0
    runs: dict[tuple[object, ...], Run] = {}
    unfinished: dict[tuple[object, ...], Unfinished] = {}
    # Finished ones first: an attempt to repeat a finished run may have failed.
    for run in sorted(recorded, key=lambda run: not _is_finished(run)):
        setting, seed, group = _setting(run)
        version = run.tags.get(SETTING_KEY, "")
        if versions.setdefault((setting, group), version) != version:
            outdated += _is_finished(run)
        elif _is_finished(run):
            repeated += (setting, seed, group) in runs
            runs.setdefault((setting, seed, group), _run(run))
        elif (setting, seed, group) not in runs:
            status = "without a test loss" if run.status == "FINISHED" else run.status
            left = Unfinished(setting, seed, group, status, run.run_id)
            unfinished.setdefault((setting, seed, group), left)
    results.runs = sorted(runs.values(), key=lambda run: (run.group, run.setting.order, run.seed))
    results.unfinished = list(unfinished.values())
    if repeated:
        results.notes.append(f"Left out: {repeated} finished, of which there are newer ones.")
    if outdated:
        results.notes.append(
            f"Left out: {outdated} finished, on other data or by another method than the newest."
        )
    return results


def _is_finished(run: Recorded) -> bool:
    return run.status == "FINISHED" and "test_loss" in run.metrics


def _run(run: Recorded) -> Run:
    setting, seed, (data, changes) = _setting(run)
    metrics = run.metrics
    return Run(
        setting,
        metrics["test_loss"],
        seed,
        data,
        changes,
        metrics.get("epochs"),
        metrics.get("seconds"),
        run.run_id,
        metrics.get("best_val_loss"),
    )


def _setting(run: Recorded) -> tuple[Setting, int, tuple[str, str]]:
    params = run.params
    overall = params["overall"].lower() == "true"
    try:
        setting = Setting.of(params["mode"], overall, float(params["alpha"]), float(params["lam"]))
        seed = int(params["seed"])
    except ValueError as error:
        raise ReportError(f"run {run.run_id}: lam, alpha and seed must be numbers ({error})") from None
    changes = " ".join(f"{key}={value}" for key, value in _changes(params).items())
    return setting, seed, (params.get("data", UNKNOWN), changes)


def _changes(params: Mapping[str, str]) -> dict[str, str]:
    """The dotted keys in the name of a setting.

    >>> _changes({"config": "Multitask lam=30 data=aclimdb problem.hidden=[8,8]"})
    {'problem.hidden': '[8,8]'}
    """
    pairs = (word.partition("=") for word in params.get("config", "").split(" "))
    return {key: value for key, _, value in pairs if "." in key}


Filters = Mapping[str, Sequence[str]]


def check_filters(filters: Filters) -> None:
    """Raises ReportError for a key that no run has."""
    sections = [
        f"{name}.{key}"
        for name in ("data", "problem")
        for key in SECTIONS[name].model_fields
        if key not in ("name", "path", "cache_dir")
    ]
    known = [*VALUE_GROUPS, "data", "problem", *sections]
    for key, values in filters.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise ReportError(
                f"{key}={','.join(values)}: unknown filter; must be one of {', '.join(known)}{hint}"
            )


def select(recorded: Iterable[Recorded], filters: Filters) -> list[Recorded]:
    """The runs that have one of the values of every filter.

    Raises ReportError for a value that no run has, with those that there are.
    """
    recorded = [run for run in recorded if run.params.keys() >= set(VALUE_GROUPS)]
    for key, values in filters.items():
        there = {_value(run.params, key) for run in recorded}
        for value in values:
            if value not in there:
                known = ", ".join(sorted(there, key=_by_number)) or "none"
                raise ReportError(f"{key}={value}: no run has it; in the store are: {known}")
    chosen = [
        run
        for run in recorded
        if all(_value(run.params, key) in values for key, values in filters.items())
    ]
    if recorded and not chosen:
        words = " ".join(f"{key}={','.join(values)}" for key, values in filters.items())
        raise ReportError(f"{words}: no run has all of these together")
    return chosen


def _value(params: Mapping[str, str], key: str) -> str:
    group, _, name = key.partition(".")
    if not name:
        return format_value(parse_scalar(params.get(key, UNKNOWN)))
    changed = _changes(params)
    if key in changed:
        return changed[key]
    option = params.get(group, UNKNOWN)
    return format_value(preset(group, option)[name]) if option in options(group) else UNKNOWN


def _by_number(text: str) -> tuple[float, str]:
    value = parse_scalar(text)
    return (value, text) if isinstance(value, int | float) else (math.inf, text)


def write_runs(file: Path, runs: Sequence[Run]) -> None:
    """One row for each run, with the columns `COLUMNS`; what is not known is left empty."""
    with file.open("w", newline="") as out:
        table = csv.writer(out)
        table.writerow(COLUMNS)
        for number, run in enumerate(runs):
            knobs = run.setting
            values = (number, knobs.mode, knobs.overall, knobs.alpha, knobs.lam, run.loss)
            rest = (run.seed, run.data, run.epochs, run.seconds, run.run_id, run.best_val_loss)
            row = [*values, *rest, run.changes]
            table.writerow(["" if value is None else _text(value) for value in row])


def _text(value: object) -> str:
    return repr(value) if isinstance(value, float) and not value.is_integer() else format_value(value)


def read_runs(file: Path) -> list[Run]:
    """What `write_runs` wrote, or a file from elsewhere with at least the columns `REQUIRED`.

    Raises ReportError, with the line, for a column or a value that is missing, wrong or there twice.
    """
    runs: list[Run] = []
    lines: dict[tuple[object, ...], int] = {}
    for number, row in rows_of(file, REQUIRED):
        cell = Cells(file, number, row)
        run = Run(
            cell.setting(),
            cell.number("loss"),
            cell.optional("seed", int),
            row.get("data") or UNKNOWN,
            row.get("changes") or "",
            cell.optional("epochs", float),
            cell.optional("seconds", float),
            row.get("run_id") or "",
            cell.optional("best_val_loss", float),
        )
        if run.seed is not None:
            first = lines.setdefault((run.setting, run.seed, run.group), number)
            if first != number:
                cell.fail("seed", f"of {run.setting.name} is in line {first} already")
        runs.append(run)
    return runs


def rows_of(file: Path, required: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV file with their line numbers. Raises ReportError if a column is missing."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as text:
            reader = csv.DictReader(text)
            have = list(reader.fieldnames or [])
            missing = [name for name in required if name not in have]
            if missing:
                raise ReportError(
                    f"{file}: column {', '.join(missing)} is missing; needed are {', '.join(required)}; "
                    f"the file has {', '.join(have) or 'none'}"
                )
            empty = True
            for row in reader:
                empty = False
                yield reader.line_num, {key: value or "" for key, value in row.items() if key}
            if empty:
                raise ReportError(f"{file}: has a header, but no rows")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no CSV file in UTF-8"
        raise ReportError(f"{file}: cannot be read ({reason})") from None


@dataclass(frozen=True)
class Cells:
    """The values of one row of a CSV file; raises ReportError with its line and column."""

    file: Path
    line: int
    row: Mapping[str, str]

    def fail(self, column: str, what: str) -> NoReturn:
        raise ReportError(f"{self.file}, line {self.line}: {column}={self.row.get(column, '')} {what}")

    def number(self, column: str, least: float = -math.inf) -> float:
        try:
            value = float(self.row[column])
        except ValueError:
            self.fail(column, "must be a number")
        if least > -math.inf and not least <= value < math.inf:
            self.fail(column, f"must be a finite number >= {least:g}")
        return value

    def optional(self, column: str, kind: Callable[[str], T]) -> T | None:
        text = self.row.get(column, "")
        try:
            return kind(text) if text else None
        except ValueError:
            self.fail(column, f"must be empty or {'a whole' if kind is int else 'a'} number")

    def setting(self) -> Setting:
        mode, overall = self.row["mode"], self.row["overall"].lower()
        if mode not in options("mode"):
            self.fail("mode", f"must be one of {', '.join(options('mode'))}")
        if overall not in ("true", "false", "0", "1"):
            self.fail("overall", "must be true or false")
        alpha, lam = self.number("alpha"), self.number("lam", least=0)
        if not 0 < alpha <= 1:
            self.fail("alpha", "must be a number in (0, 1]")
        return Setting.of(mode, overall in ("true", "1"), alpha, lam)
