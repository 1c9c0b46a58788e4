"""The report on one study: everything that is computed, written to a folder and stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import auxgrad
from auxgrad.config.setting import Setting
from auxgrad.reports import analysis, documents
from auxgrad.reports.analysis import Comparison, Row
from auxgrad.reports.csv_files import write_runs
from auxgrad.reports.runs import RunSet, Study
from auxgrad.reports.statistics import Estimate, MeanCurve, epoch_means

if TYPE_CHECKING:
    from auxgrad.record.store import Store

LOSSES = ("train_loss", "val_loss")
CENSORING = ("cosine/overall", "conflict/overall")

Curves = Mapping[Setting, Mapping[str, MeanCurve]]


@dataclass(frozen=True)
class Published:
    """Results that a report is compared with, and what they are called; empty for no comparison."""

    name: str = ""
    estimates: Mapping[Setting, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """All that is said of one study, but for its curves."""

    study: Study
    found: RunSet
    rows: Sequence[Row]
    tests: Sequence[analysis.Test]
    comparisons: Sequence[Comparison]
    published: Published
    coverage: Sequence[str]

    @staticmethod
    def of(found: RunSet, study: Study, published: Published) -> Report:
        """Compute the report of one of the studies of the runs."""
        part = found.of_study(study)
        rows = analysis.table(part)
        comparisons = analysis.compare(rows, published.estimates)
        tests, coverage = analysis.significance(rows), documents.coverage(part, rows)
        return Report(study, part, rows, tests, comparisons, published, coverage)

    @property
    def has_losses(self) -> bool:
        """Whether any run ended with a finite test loss."""
        return any(row.estimate for row in self.rows)

    @property
    def size(self) -> str:
        """How many runs, settings and seeds."""
        finished = self.found.finished
        runs, settings = len(finished), len(self.rows)
        seeds = {run.seed for run in finished if run.seed is not None}
        return (
            f"{runs:,} finished run{'s' * (runs != 1)} in {settings} setting{'s' * (settings != 1)}, "
            + (f"{len(seeds)} seed{'s' * (len(seeds) != 1)}" if seeds else "seeds unknown")
        )

    def write(self, folder: Path, curves: Curves) -> None:
        """Fill the folder, which exists."""
        write_runs(folder / "runs.csv", self.found.finished)
        documents.table_csv(folder / "table.csv", self.rows)
        documents.significance_csv(folder / "significance.csv", self.tests)
        text = documents.table_md(self.rows)
        (folder / "table.md").write_text(text)
        parts = [f"# Test loss, {self.study.title}", f"auxgrad {auxgrad.__version__}, {self.size}."]
        parts += [text, "![Test loss over lam](test_loss.png)"]
        if name := self.published.name:
            documents.comparison_csv(folder / "comparison.csv", self.comparisons)
            compared = documents.comparison_md(self.comparisons, name, self._only_on_one_side())
            parts += [f"## Compared with {name}", compared]
        parts += ["## Are the differences real?", documents.significance_md(self.tests)]
        parts += ["## What is missing", "\n".join(f"* {line}" for line in self.coverage) or "Nothing."]
        parts += self._draw(folder, curves)
        (folder / "report.md").write_text("\n\n".join(part.strip("\n") for part in parts) + "\n")

    def _only_on_one_side(self) -> list[str]:
        ours = {row.setting for row in self.rows if row.estimate}
        theirs = self.published.estimates.keys()
        sentences = []
        for side, alone in (("here", ours - theirs), (f"in {self.published.name}", theirs - ours)):
            if theirs and alone:
                names = ", ".join(setting.name for setting in sorted(alone, key=lambda each: each.order))
                sentences.append(f"Only {side} ({len(alone)}): {names}.")
        return sentences

    def _draw(self, folder: Path, curves: Curves) -> list[str]:
        """Write the figures and return the words and pictures of those of curves."""
        from auxgrad.reports import figures

        numbers = {len(row.converged) for row in self.rows if row.converged}
        seeds = " to ".join(str(n) for n in sorted({min(numbers), max(numbers)}))
        title = f"{self.study.title}; mean and 95 % band over {seeds} run{'s' * (max(numbers) > 1)}"
        drawn = {"test_loss": figures.test_loss(self.rows, self.comparisons, title)}
        parts = []
        if any(name in each for each in curves.values() for name in LOSSES):
            drawn["losses"] = figures.losses(curves, title)
            parts += [
                "## Loss curves",
                "As far as every run of the setting went; training loss: epoch means.",
            ]
            parts += ["![Loss curves of every setting](losses.png)"]
        if censoring := self._best_censoring(curves):
            drawn["censoring"] = figures.censoring(censoring, title)
            parts += ["## Cosine and conflict", "At the best lam of each mode, alpha and overall."]
            parts += ["![Cosine and share of steps in conflict](censoring.png)"]
        for name, figure in drawn.items():
            figures.save(figure, folder, name)
        return parts or ["No curves: they are in the tracking store only."]

    def _best_censoring(self, curves: Curves) -> Curves:
        """The curves of the best lam of each family."""
        best = analysis.best_of_families(self.rows)
        return {
            setting: curves[setting]
            for setting in best
            if any(name in curves.get(setting, {}) for name in CENSORING)
        }


def read_curves(store: Store, rows: Sequence[Row]) -> Curves:
    """Return the mean curves of all settings, but none that some run of the setting has not recorded."""
    run_ids = [run.run_id for row in rows for run in row.converged]
    read = {name: store.histories(run_ids, name) for name in (*LOSSES, *CENSORING)}
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
    """Store the folder of the reports as a run of the experiment `target`; return its run id."""
    record = target.start_derived(folder.name, params, {})
    record.metric("runs", sum(len(report.found.finished) for report in reports), 0)
    record.metric("settings", sum(len(report.rows) for report in reports), 0)
    record.flush()
    record.folder(folder)
    record.end("FINISHED")
    return record.run_id
