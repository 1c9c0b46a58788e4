"""The report on one study: compute it, write it to a folder, store it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import auxgrad
from auxgrad.config.setting import Setting
from auxgrad.record.folders import file_name
from auxgrad.reports import analysis, documents, styles
from auxgrad.reports.analysis import Comparison, Row
from auxgrad.reports.csv_files import write_runs
from auxgrad.reports.metric import Metric
from auxgrad.reports.modes.documents import profiles_csv, profiles_md, standings_csv, standings_md
from auxgrad.reports.modes.profiles import obstacle, profiles
from auxgrad.reports.modes.standings import Standings
from auxgrad.reports.published import Published
from auxgrad.reports.runs import RunSet, Study
from auxgrad.reports.statistics import MeanCurve, epoch_means

if TYPE_CHECKING:
    from auxgrad.record.store import Store

LOSSES = {"val_loss": "validation loss", "train_loss": "training loss"}
CENSORING = ("cosine/", "conflict/")  # Prefixes; the names end with the auxiliary and "overall".

Curves = Mapping[Setting, Mapping[str, MeanCurve]]


@dataclass(frozen=True)
class Report:
    """The report on one study, without its curves.

    Attributes:
        metric: The metric of the report.
        study: The study.
        run_set: The runs of the study.
        rows: The rows of the table.
        tests: The tests between the best settings of the modes.
        comparisons: The comparisons with published results.
        published: The published results.
        coverage: Sentences on missing runs.
        standings: The modes in the order of their results.
    """

    metric: Metric
    study: Study
    run_set: RunSet
    rows: Sequence[Row]
    tests: Sequence[analysis.Test]
    comparisons: Sequence[Comparison]
    published: Published
    coverage: Sequence[str]
    standings: Standings

    @staticmethod
    def of(found: RunSet, study: Study, published: Published, metric: Metric) -> Report:
        """Compute the report on one study.

        Args:
            found: The runs of all studies.
            study: The study.
            published: The published results to compare with.
            metric: The metric of the report.
        """
        part = found.of_study(study)
        labels = {run.loss_label for run in part.runs if run.loss_label}
        metric = replace(metric, loss_label=labels.pop() if len(labels) == 1 else "")
        rows = analysis.table(part, metric)
        comparisons = analysis.compare(rows, published.of(study))
        tests, coverage = analysis.significance(rows), documents.coverage(part, rows)
        standings = Standings.of(rows, metric)
        return Report(metric, study, part, rows, tests, comparisons, published, coverage, standings)

    @property
    def has_values(self) -> bool:
        """Whether any run has a finite value."""
        return any(row.estimate for row in self.rows)

    @property
    def compares_modes(self) -> bool:
        """Whether the study has more than one mode with a best setting."""
        return len(self.standings.modes) > 1

    @property
    def summary(self) -> str:
        """A text with the numbers of runs, settings and seeds."""
        finished = self.run_set.finished
        runs, settings = len(finished), len(self.rows)
        seeds = {run.seed for run in finished if run.seed is not None}
        return (
            f"{runs:,} finished run{'s' * (runs != 1)} in {settings} setting{'s' * (settings != 1)}, "
            + (f"{len(seeds)} seed{'s' * (len(seeds) != 1)}" if seeds else "seeds unknown")
        )

    def write(self, folder: Path, curves: Curves) -> None:
        """Write the tables, the figures and report.md to a folder.

        Args:
            folder: The folder, which must exist.
            curves: The mean curves of the settings, from `read_curves`.
        """
        metric = self.metric
        write_runs(folder / "runs.csv", self.run_set.finished, metric)
        documents.table_csv(folder / "table.csv", self.rows, metric)
        documents.significance_csv(folder / "significance.csv", self.tests)
        text = documents.table_md(self.rows, metric)
        (folder / "table.md").write_text(text, encoding="utf-8")
        parts = [
            f"# {metric.heading}, {self.study.title}",
            f"auxgrad {auxgrad.__version__}, {self.summary}.",
        ]
        parts += [text, f"![{metric.heading} over lam]({file_name(metric.name)}.png)"]
        if name := self.published.name:
            documents.comparison_csv(folder / "comparison.csv", self.comparisons)
            alone = self._only_on_one_side()
            compared = documents.comparison_md(self.comparisons, name, alone, metric)
            note = self.published.data_note(self.study)
            parts += [f"## Compared with {name}", *([note] if note else []), compared]
        if self.compares_modes:
            standings_csv(folder / "modes.csv", self.standings, metric)
            parts += ["## The modes", standings_md(self.standings, metric)]
            parts += ["![The best setting of each mode](modes.png)"]
        parts += ["## Are the differences real?", documents.significance_md(self.tests, metric)]
        parts += ["## What is missing", "\n".join(f"* {line}" for line in self.coverage) or "Nothing."]
        parts += self._draw(folder, curves)
        written = "\n\n".join(part.strip("\n") for part in parts) + "\n"
        (folder / "report.md").write_text(written, encoding="utf-8")

    def _only_on_one_side(self) -> list[str]:
        ours = {row.setting for row in self.rows if row.estimate}
        theirs = self.published.of(self.study).keys()
        sentences = []
        for side, alone in (("here", ours - theirs), (f"in {self.published.name}", theirs - ours)):
            if theirs and alone:
                names = ", ".join(setting.name for setting in sorted(alone, key=lambda each: each.order))
                sentences.append(f"Only {side} ({len(alone)}): {names}.")
        return sentences

    def _draw(self, folder: Path, curves: Curves) -> list[str]:
        """Write the figures, and return the sections of report.md for the figures of curves."""
        from auxgrad.reports import figures
        from auxgrad.reports.modes.figures import best_of_modes

        numbers = {len(row.converged) for row in self.rows if row.converged}
        seeds = " to ".join(str(n) for n in sorted({min(numbers), max(numbers)}))
        title = f"{self.study.title}; mean and 95 % interval over {seeds} run{'s' * (max(numbers) > 1)}"
        metric, mode_styles = self.metric, styles.of_modes(row.setting.mode for row in self.rows)
        means = figures.over_lam(self.rows, self.comparisons, title, metric, mode_styles)
        drawn = {file_name(metric.name): means}
        if self.compares_modes:
            drawn["modes"] = best_of_modes(self.standings, title, metric, mode_styles)
        parts = []
        if any(name in each for each in curves.values() for name in LOSSES):
            drawn["losses"] = figures.over_training(curves, title, mode_styles, LOSSES, metric.loss_axis)
            parts += [
                "## Loss curves",
                "Each curve ends where the shortest run of its setting ended. "
                "Training losses are epoch means.",
            ]
            parts += ["![Loss curves of every setting](losses.png)"]
        own = {setting: each for setting, each in curves.items() if metric.curve in each}
        if own and not metric.is_loss:
            name, words = file_name(metric.curve), f"validation {metric.short_name}"
            drawn[name] = figures.over_training(own, title, mode_styles, {metric.curve: words}, words)
            parts += [
                f"## Validation {metric.short_name}",
                "Each curve ends where the shortest run of its setting ended.",
            ]
            parts += [f"![Validation {metric.short_name} of every setting]({name}.png)"]
        if censoring := self._best_censoring(curves):
            drawn["censoring"] = figures.censoring(censoring, title, mode_styles)
            parts += ["## Cosine and conflict", "At the best lam of each mode, alpha and overall."]
            parts += ["![Cosine and share of steps in conflict](censoring.png)"]
        for name, figure in drawn.items():
            styles.save(figure, folder, name)
        return parts or ["No curves, because they are only in the tracking store."]

    def _best_censoring(self, curves: Curves) -> Curves:
        """Return the censoring curves at the best lam of each family."""
        best = analysis.best_of_families(self.rows, self.metric)
        return {
            setting: curves[setting]
            for setting in best
            if any(name.startswith(CENSORING) for name in curves.get(setting, {}))
        }


def write_overview(folder: Path, reports: Sequence[Report]) -> str:
    """Write an overview of the modes over several studies.

    Args:
        folder: The folder to write to.
        reports: The reports on the studies, two or more.

    Returns:
        Why no overview was written; empty if one was.
    """
    from auxgrad.reports.modes import figures

    metric = replace(reports[0].metric, loss_label="")
    titles, standings = zip(*((each.study.title, each.standings) for each in reports), strict=True)
    if reason := obstacle(titles, standings, metric):
        return reason
    found = profiles(standings, metric)
    profiles_csv(folder / "overview.csv", found)
    (folder / "overview.md").write_text(profiles_md(found, titles, metric), encoding="utf-8")
    mode_styles = styles.of_modes(each.mode for each in found)
    figure = figures.profiles(found, f"{metric.heading} over {len(titles)} studies", metric, mode_styles)
    styles.save(figure, folder, "profiles")
    return ""


def read_curves(store: Store, rows: Sequence[Row], metric: Metric) -> Curves:
    """Read the curves of the runs and return the mean curves of the settings.

    Args:
        store: The store of the runs.
        rows: The rows of the table.
        metric: The metric of the report.

    Returns:
        The mean curves of each setting by name. A curve that some run of the setting has not
        recorded is left out.
    """
    run_ids = [run.run_id for row in rows for run in row.converged]
    several = {name for row in rows for run in row.converged for name in run.auxiliaries}
    parts = ["overall", *(f"{name}/overall" for name in sorted(several))]
    censoring = [prefix + part for part in parts for prefix in CENSORING]
    names = dict.fromkeys((*LOSSES, *censoring, metric.curve))
    read = {name: store.histories(run_ids, name) for name in names}
    ends = read["val_loss"]
    read["train_loss"] = {
        run_id: epoch_means(curve, ends[run_id])
        for run_id, curve in read["train_loss"].items()
        if run_id in ends
    }
    return {
        row.setting: {
            name: MeanCurve.of([curves[run.run_id] for run in row.converged])
            for name, curves in read.items()
            if all(run.run_id in curves for run in row.converged)
        }
        for row in rows
        if row.converged
    }


def store_report(
    target: Store, reports: Sequence[Report], folder: Path, params: Mapping[str, str]
) -> str:
    """Store the folder of the reports as a run.

    Args:
        target: The store of the experiment for reports.
        reports: The reports.
        folder: The folder with their files.
        params: The parameters to record.

    Returns:
        The id of the run.
    """
    record = target.start_derived(folder.name, params, {})
    record.metric("runs", sum(len(report.run_set.finished) for report in reports), 0)
    record.metric("settings", sum(len(report.rows) for report in reports), 0)
    record.flush()
    record.folder(folder)
    record.end("FINISHED")
    return record.run_id
