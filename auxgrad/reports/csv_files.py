"""CSV files of runs, as a report writes them, and of published results."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, TypeVar

from auxgrad.config.overrides import OPTIONS
from auxgrad.config.setting import Setting
from auxgrad.config.values import format_value, parse_scalar
from auxgrad.errors import ReportError
from auxgrad.reports.metric import LOSS, Metric
from auxgrad.reports.runs import ReportedRun, Study
from auxgrad.reports.statistics import Estimate

T = TypeVar("T")

KNOBS = ("mode", "overall", "alpha", "lam")
STUDY = ("changes", "problem")
FURTHER = ("seed", "data", "epochs", "seconds", "run_id")
PUBLISHED = Path(__file__).parent / "published"


def required(metric: Metric) -> tuple[str, ...]:
    """Return the columns that a file of runs must have."""
    others = ("run", *KNOBS, *FURTHER, *STUDY, "loss")
    return (
        *KNOBS,
        metric.name if metric.short_name in others and not metric.is_loss else metric.short_name,
    )


def columns(metric: Metric) -> tuple[str, ...]:
    """Return the columns of runs.csv; the first six are in the order of the published files."""
    of_loss = () if metric.is_loss else ("loss",)
    return "run", *required(metric), *FURTHER, metric.validation, *STUDY, *of_loss


def published_columns(metric: Metric) -> tuple[str, ...]:
    """Return the columns of published means, in the order of the published files."""
    return *KNOBS, f"{metric.name}_mean", f"{metric.name}_std", "runs"


def write_runs(file: Path, runs: Sequence[ReportedRun], metric: Metric = LOSS) -> None:
    """Write one row for each finished run, with the `columns`; unknown values are left empty."""
    with file.open("w", newline="", encoding="utf-8") as out:
        table = csv.writer(out)
        table.writerow(columns(metric))
        for number, run in enumerate(runs):
            knobs = run.setting
            values = (number, knobs.mode, knobs.overall, knobs.alpha, knobs.lam, run.value)
            rest = (run.seed, run.study.data, run.epochs, run.seconds, run.run_id, run.best_val)
            study = run.study.changes, run.study.problem
            row = [*values, *rest, *study, *(() if metric.is_loss else (run.loss,))]
            table.writerow(["" if value is None else _text(value) for value in row])


def _text(value: object) -> str:
    return repr(value) if isinstance(value, float) and not value.is_integer() else format_value(value)


def read_runs(file: Path, metric: Metric = LOSS) -> list[ReportedRun]:
    """Return what `write_runs` wrote, or a file from elsewhere with at least the `required` columns.

    Raises ReportError, with the line, for a column or a value that is missing, wrong or there twice.
    """
    runs: list[ReportedRun] = []
    lines: dict[tuple[object, ...], int] = {}
    needed = required(metric)
    for number, row in rows_of(file, needed):
        cell = Cells(file, number, row)
        run = ReportedRun(
            setting=cell.setting(),
            value=cell.number(needed[-1]),
            loss=cell.optional("loss", float),
            seed=cell.optional("seed", int),
            study=Study.named(*(row.get(key) or "" for key in ("problem", "data", "changes"))),
            epochs=cell.optional("epochs", float),
            seconds=cell.optional("seconds", float),
            run_id=row.get("run_id") or "",
            best_val=cell.optional(metric.validation, float),
        )
        if run.seed is not None:
            first = lines.setdefault((run.setting, run.seed, run.study), number)
            if first != number:
                cell.fail("seed", f"of {run.setting.name} is in line {first} already")
        runs.append(run)
    return runs


@dataclass(frozen=True)
class PublishedMean:
    """The published result of a setting, in the studies that have the options."""

    setting: Setting
    estimate: Estimate
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Published:
    """Results that a report is compared with, and what they are called; empty for no comparison."""

    name: str = ""
    means: Sequence[PublishedMean] = ()

    def of(self, study: Study) -> dict[Setting, Estimate]:
        """Return the results of a study; for a setting the one with the most options counts."""
        # An option that is not known of a study may have any value: nothing is compared then. Runs of
        # other programs need not name their problem.
        known = study.options
        matching = [
            mean
            for mean in self.means
            if all(
                known.get(key, value if key == "problem" else None) == value
                for key, value in mean.options.items()
            )
        ]
        matching.sort(key=lambda mean: len(mean.options))
        return {mean.setting: mean.estimate for mean in matching}


def read_published(name: str, metric: Metric = LOSS) -> Published:
    """Return means, standard deviations and numbers of runs of settings.

    Columns `problem`, `data` and those of their options, such as `problem.task`, say of which studies a
    mean is; an empty cell says nothing.

    Args:
        name: one of the files that come with the package (`figure7`), or a path to a CSV file with the
            columns of `table.csv` or of `runs.csv`, which is averaged.
        metric: what they are means of.

    Raises:
        ReportError: there is no such file, or a column or a value is missing or wrong.
    """
    file = PUBLISHED / f"{name}.csv"
    if file.is_file() and not metric.is_loss:
        raise ReportError(f"--compare={name}: has means of test_loss only, none of {metric.name}")
    if not file.is_file():
        file = Path(name).expanduser()
        if not file.is_file():
            ours = ", ".join(sorted(each.stem for each in PUBLISHED.glob("*.csv")))
            raise ReportError(f"--compare={name}: no such file; must be a CSV file, or one of {ours}")
    is_of_runs = required(metric)[-1] in _header(file)
    means = _averaged(file, name, metric) if is_of_runs else _published(file, metric)
    return Published(file.stem, means)


def _averaged(file: Path, name: str, metric: Metric) -> list[PublishedMean]:
    values: dict[Setting, list[float]] = {}
    runs = read_runs(file, metric)
    if len(titles := sorted({run.study.title for run in runs})) > 1:
        raise ReportError(f"--compare={name}: has runs of {', '.join(titles)}; must be of one study")
    for run in runs:
        if run.value is not None and not run.has_diverged:
            values.setdefault(run.setting, []).append(run.value)
    return [PublishedMean(setting, Estimate.of(own)) for setting, own in values.items()]


def _published(file: Path, metric: Metric) -> list[PublishedMean]:
    needed = published_columns(metric)
    mean, deviation = needed[-3:-1]
    means: list[PublishedMean] = []
    known: set[tuple[Setting, frozenset[tuple[str, str]]]] = set()
    for line, row in rows_of(file, needed):
        cell = Cells(file, line, row)
        setting, options = cell.setting(), cell.options()
        key = setting, frozenset(options.items())
        if key in known:
            cell.fail("lam", f"of {setting.name} is there twice")
        if not row[mean]:
            continue  # A setting without finished runs, in a table of ours.
        n = cell.optional("runs", int) or 0
        std = math.nan if n == 1 else cell.number(deviation, least=0)
        if n < 1:
            cell.fail("runs", "must be a whole number >= 1")
        known.add(key)
        means.append(PublishedMean(setting, Estimate(cell.number(mean), std, n), options))
    return means


def _header(file: Path) -> list[str]:
    with file.open(encoding="utf-8-sig", errors="replace") as text:
        return text.readline().strip().split(",")


def rows_of(file: Path, required: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a CSV file with their line numbers. Raises ReportError without a column."""
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
        """Raise ReportError with the place and the value."""
        raise ReportError(f"{self.file}, line {self.line}: {column}={self.row.get(column, '')} {what}")

    def number(self, column: str, least: float = -math.inf) -> float:
        """Return a number; with `least` a finite one that is not smaller."""
        try:
            value = float(self.row[column])
        except ValueError:
            self.fail(column, "must be a number")
        if least > -math.inf and not least <= value < math.inf:
            self.fail(column, f"must be a finite number >= {least:g}")
        return value

    def optional(self, column: str, kind: Callable[[str], T]) -> T | None:
        """Return a value of this kind, None where the cell is empty."""
        text = self.row.get(column, "")
        try:
            return kind(text) if text else None
        except ValueError:
            self.fail(column, f"must be empty or {'a whole' if kind is int else 'a'} number")

    def options(self) -> dict[str, str]:
        """Return what the row says of the problem, the data and their options."""
        return {
            key: format_value(parse_scalar(text))
            for key, text in self.row.items()
            if text and (key in ("problem", "data") or key.startswith(OPTIONS))
        }

    def setting(self) -> Setting:
        """Return the setting of a row, its unused knobs neutral."""
        mode, overall = self.row["mode"], self.row["overall"].lower()
        if not mode:
            self.fail("mode", "must be the name of a mode")
        if overall not in ("true", "false", "0", "1"):
            self.fail("overall", "must be true or false")
        alpha, lam = self.number("alpha"), self.number("lam", least=0)
        if not 0 < alpha <= 1:
            self.fail("alpha", "must be a number in (0, 1]")
        return Setting.of(mode, overall in ("true", "1"), alpha, lam)
