"""Read and write CSV files of runs, and check the cells of CSV files."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

from auxgrad.config.overrides import OPTION_PREFIXES
from auxgrad.config.setting import Setting
from auxgrad.config.values import format_value, parse_scalar
from auxgrad.errors import ReportError
from auxgrad.reports.metric import LOSS, Metric
from auxgrad.reports.runs import ReportedRun, Study

T = TypeVar("T")

KNOBS = ("mode", "overall", "alpha", "lam")
STUDY = ("changes", "problem")
FURTHER = ("seed", "data", "epochs", "seconds", "run_id")


def required(metric: Metric) -> tuple[str, ...]:
    """Return the columns that a CSV file of runs must have."""
    others = ("run", *KNOBS, *FURTHER, *STUDY, "loss")
    return (
        *KNOBS,
        metric.name if metric.short_name in others and not metric.is_loss else metric.short_name,
    )


def columns(metric: Metric) -> tuple[str, ...]:
    """Return the columns of runs.csv. The first six have the order of the published files."""
    of_loss = () if metric.is_loss else ("loss",)
    return "run", *required(metric), *FURTHER, metric.validation, *STUDY, *of_loss


def published_columns(metric: Metric) -> tuple[str, ...]:
    """Return the columns that a CSV file of published means must have."""
    return *KNOBS, f"{metric.name}_mean", f"{metric.name}_std", "runs"


def write_runs(file: Path, runs: Sequence[ReportedRun], metric: Metric = LOSS) -> None:
    """Write a CSV file with one row for each run.

    Args:
        file: The path of the file.
        runs: The finished runs.
        metric: The metric of the report, which decides the columns. Unknown values are left empty.
    """
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
    """Return the runs in a CSV file, from `write_runs` or from another program.

    Args:
        file: The path of the file. It must have at least the columns that `required` returns.
        metric: The metric of the report.

    Raises:
        ReportError: A column is missing, a value is wrong, or a run is there twice. The message
            names the line.
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


def rows_of(file: Path, required: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line numbers and the rows of a CSV file.

    Args:
        file: The path of the file.
        required: The columns that the file must have.

    Raises:
        ReportError: A column is missing, or the file has no rows or cannot be read.
    """
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
    """The cells of one row of a CSV file; errors name the line and the column.

    Attributes:
        file: The path of the file.
        line: The number of the line.
        row: The cells by column.
    """

    file: Path
    line: int
    row: Mapping[str, str]

    def fail(self, column: str, what: str) -> NoReturn:
        """Raise an error that names the file, the line, the column and the value.

        Raises:
            ReportError: Always.
        """
        raise ReportError(f"{self.file}, line {self.line}: {column}={self.row.get(column, '')} {what}")

    def number(self, column: str, least: float = -math.inf) -> float:
        """Return the number in a column; with `least`, it must be finite and not smaller.

        Raises:
            ReportError: The cell is not such a number.
        """
        try:
            value = float(self.row[column])
        except ValueError:
            self.fail(column, "must be a number")
        if least > -math.inf and not least <= value < math.inf:
            self.fail(column, f"must be a finite number >= {least:g}")
        return value

    def optional(self, column: str, kind: Callable[[str], T]) -> T | None:
        """Return the value in a column, converted by `kind`, or None if the cell is empty.

        Raises:
            ReportError: The value cannot be converted.
        """
        text = self.row.get(column, "")
        try:
            return kind(text) if text else None
        except ValueError:
            self.fail(column, f"must be empty or {'a whole' if kind is int else 'a'} number")

    def options(self) -> dict[str, str]:
        """Return the problem, the data and their options, as far as the row has them."""
        return {
            key: format_value(parse_scalar(text))
            for key, text in self.row.items()
            if text and (key in ("problem", "data") or key.startswith(OPTION_PREFIXES))
        }

    def setting(self) -> Setting:
        """Return the setting of the row, with neutral values for knobs that the mode does not use.

        Raises:
            ReportError: A knob is missing or out of range.
        """
        mode, overall = self.row["mode"], self.row["overall"].lower()
        if not mode:
            self.fail("mode", "must be the name of a mode")
        if overall not in ("true", "false", "0", "1"):
            self.fail("overall", "must be true or false")
        alpha, lam = self.number("alpha"), self.number("lam", least=0)
        if not 0 < alpha <= 1:
            self.fail("alpha", "must be a number in (0, 1]")
        return Setting.of(mode, overall in ("true", "1"), alpha, lam)
