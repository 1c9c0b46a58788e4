"""Read published results, from the files in this folder or from a file of the user."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from auxgrad.config.setting import Setting
from auxgrad.errors import ReportError
from auxgrad.reports.csv_files import Cells, published_columns, read_runs, required, rows_of
from auxgrad.reports.metric import LOSS, Metric
from auxgrad.reports.runs import Study
from auxgrad.reports.statistics import Estimate

FOLDER = Path(__file__).parent
# The names of the data of published results. The levels of other data differ.
DATA = {"figure7": ("imdb", "aclimdb")}


@dataclass(frozen=True)
class PublishedMean:
    """The published result of a setting.

    Attributes:
        setting: The setting.
        estimate: The published mean, standard deviation and number of runs.
        options: The options of the studies that the result belongs to, by key.
    """

    setting: Setting
    estimate: Estimate
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Published:
    """Published results that a report is compared with; empty for no comparison.

    Attributes:
        name: The name of the results.
        means: The published results of the settings.
        data: The names of the data that they were measured on; empty if not known.
    """

    name: str = ""
    means: Sequence[PublishedMean] = ()
    data: Sequence[str] = ()

    def data_note(self, study: Study) -> str:
        """Return a sentence for the user if a study has other data; empty otherwise.

        Args:
            study: The study.
        """
        given = study.options.get("data")
        if not self.data or given is None or given in self.data:
            return ""
        own = " or ".join(f"data={name}" for name in self.data)
        return f"{self.name} was measured on {own}; these runs have data={given}, so levels may differ."

    def of(self, study: Study) -> dict[Setting, Estimate]:
        """Return the published results for a study, by setting.

        If several results of a setting match the study, the one with the most options is returned.

        Args:
            study: The study.
        """
        # If an option of the study is unknown, results that depend on it are not compared. Runs of
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
    """Read published means, standard deviations and numbers of runs.

    The columns `problem`, `data` and their options, such as `problem.task`, say which studies a
    mean belongs to. An empty cell matches any study.

    Args:
        name: The name of a file that is part of the package (`figure7`), or the path of a CSV file
            with the columns of `table.csv` or of `runs.csv`. Runs are averaged.
        metric: The metric of the means.

    Returns:
        The published results.

    Raises:
        ReportError: There is no such file, or a column or a value is missing or wrong.
    """
    file = FOLDER / f"{name}.csv"
    if file.is_file() and not metric.is_loss:
        raise ReportError(f"--compare={name}: has means of test_loss only, not of {metric.name}")
    if not file.is_file():
        file = Path(name).expanduser()
        if not file.is_file():
            ours = ", ".join(sorted(each.stem for each in FOLDER.glob("*.csv")))
            raise ReportError(f"--compare={name}: no such file; must be a CSV file, or one of {ours}")
    is_of_runs = required(metric)[-1] in _header(file)
    means = _averaged(file, name, metric) if is_of_runs else _published(file, metric)
    return Published(file.stem, means, DATA.get(name, ()) if file.parent == FOLDER else ())


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
            continue  # A setting without finished runs, in a table.csv.
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
