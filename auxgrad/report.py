"""`python -m auxgrad.report`: finished runs in; tables, tests and figures out."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import auxgrad
from auxgrad import analysis, documents, results
from auxgrad.analysis import Comparison, Estimate, MeanCurve, Row
from auxgrad.config import TrackingConfig, split_words
from auxgrad.documents import number
from auxgrad.errors import ReportError
from auxgrad.launching import claim_folder, file_name
from auxgrad.results import Results, Setting
from auxgrad.terminal import plain_ending
from auxgrad.tracking import REPORTS, Store, open_store

LOSSES = ("train_loss", "val_loss")
LONGEST = 500  # Characters of a list of values on record; MLflow takes 6,000.
CENSORING = ("cosine/overall", "conflict/overall")
DESCRIPTION = """\
Writes a folder with the finished runs of an experiment, tables of their test losses, permutation tests
and figures, and stores it as a run of the MLflow experiment NAME-reports. What is missing is listed.

Words choose what is reported on, in the way in which it was run:
  tracking.experiment=NAME   the MLflow experiment; auxgrad if not given
  tracking.uri=ADDRESS       the store, unless MLFLOW_TRACKING_URI is set; mlflow.db if not given
  mode=Projection,Multitask  only runs with one of these values; likewise lam, alpha, overall, seed,
                             data, problem and every key of data and problem
"""
EXAMPLES = """\
examples:
  python -m auxgrad.report
  python -m auxgrad.report data=aclimdb mode=SingleTask,Projection 'seed=range(10)'
  python -m auxgrad.report --compare figure7
  python -m auxgrad.report --runs reports/auxgrad/runs.csv
"""


@dataclass(frozen=True)
class Request:
    """What a person asks for."""

    tracking: TrackingConfig
    filters: results.Filters
    runs: Path | None
    published: Mapping[Setting, Estimate]
    published_name: str
    output: Path | None

    @staticmethod
    def of(arguments: Sequence[str]) -> Request:
        """Of a command line. Raises AuxgradError for what cannot be asked for."""
        parser = argparse.ArgumentParser(
            "python -m auxgrad.report",
            description=DESCRIPTION,
            epilog=EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument("words", nargs="*", metavar="key=value", help="what to report on, see above")
        parser.add_argument(
            "--compare",
            metavar="FILE",
            help="set beside figure7, or a CSV file like table.csv or runs.csv",
        )
        parser.add_argument(
            "--runs",
            metavar="FILE",
            type=Path,
            help="report on a CSV file like runs.csv, not on a store",
        )
        parser.add_argument(
            "--output",
            metavar="FOLDER",
            type=Path,
            help="a new folder; else reports/NAME, then NAME_2, ...",
        )
        given = parser.parse_intermixed_args(arguments)
        if given.runs and given.words:
            raise ReportError(f"{given.words[0]}: chooses from a store; cannot be combined with --runs")
        tracking, filters = split_words(given.words)
        results.check_filters(filters)
        if given.output and given.output.exists():
            raise ReportError(f"--output={given.output}: is there already; must be a new folder")
        published = analysis.read_published(given.compare) if given.compare else {}
        name = Path(given.compare).stem if given.compare else ""
        return Request(tracking, filters, given.runs, published, name, given.output)


@dataclass(frozen=True)
class Report:
    """All that is said of one group of runs: the same data, the same changes of the presets."""

    title: str
    results: Results
    rows: Sequence[Row]
    tests: Sequence[analysis.Test]
    comparisons: Sequence[Comparison]
    compared_with: str
    only_one_side: Sequence[str]
    coverage: Sequence[str]

    @staticmethod
    def of(found: Results, group: tuple[str, str], request: Request) -> Report:
        """Computes all that is to be said."""
        part = found.of_group(group)
        rows = analysis.table(part)
        comparisons = analysis.compare(rows, request.published)
        title = f"data={group[0]} {group[1]}".strip()
        return Report(
            title,
            part,
            rows,
            analysis.significance(rows),
            comparisons,
            request.published_name,
            _only_one_side(rows, request),
            documents.coverage(part, rows),
        )

    @property
    def has_losses(self) -> bool:
        """Whether any run ended with a finite test loss."""
        return any(row.estimate for row in self.rows)

    @property
    def size(self) -> str:
        """How many runs, settings and seeds."""
        runs, settings = len(self.results.runs), len(self.rows)
        seeds = {run.seed for run in self.results.runs if run.seed is not None}
        return (
            f"{runs:,} finished run{'s' * (runs != 1)} in {settings} setting{'s' * (settings != 1)}, "
            + (f"{len(seeds)} seed{'s' * (len(seeds) != 1)}" if seeds else "seeds unknown")
        )

    def write(self, folder: Path, curves: Mapping[Setting, Mapping[str, MeanCurve]]) -> None:
        """Fills the folder, which is there."""
        results.write_runs(folder / "runs.csv", self.results.runs)
        documents.table_csv(folder / "table.csv", self.rows)
        documents.significance_csv(folder / "significance.csv", self.tests)
        text = documents.table_md(self.rows)
        (folder / "table.md").write_text(text)
        parts = [f"# Test loss, {self.title}", f"auxgrad {auxgrad.__version__}, {self.size}."]
        parts += [text, "![Test loss over lam](test_loss.png)"]
        if self.compared_with:
            documents.comparison_csv(folder / "comparison.csv", self.comparisons)
            compared = documents.comparison_md(self.comparisons, self.compared_with, self.only_one_side)
            parts += [f"## Compared with {self.compared_with}", compared]
        parts += ["## Are the differences real?", documents.significance_md(self.tests)]
        parts += ["## What is missing", "\n".join(f"* {line}" for line in self.coverage) or "Nothing."]
        parts += self._draw(folder, curves)
        (folder / "report.md").write_text("\n\n".join(part.strip("\n") for part in parts) + "\n")

    def _draw(self, folder: Path, curves: Mapping[Setting, Mapping[str, MeanCurve]]) -> list[str]:
        """Writes the figures; the words and pictures of those of curves."""
        from auxgrad import figures

        numbers = {len(row.converged) for row in self.rows if row.converged}
        seeds = " to ".join(str(n) for n in sorted({min(numbers), max(numbers)}))
        title = f"{self.title}; mean and 95 % band over {seeds} run{'s' * (max(numbers) > 1)}"
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

    def _best_censoring(
        self, curves: Mapping[Setting, Mapping[str, MeanCurve]]
    ) -> dict[Setting, Mapping[str, MeanCurve]]:
        """The curves of the best lam of each family."""
        best = analysis.best_of_families(self.rows)
        return {
            setting: curves[setting]
            for setting in best
            if any(name in curves.get(setting, {}) for name in CENSORING)
        }


def _only_one_side(rows: Sequence[Row], request: Request) -> list[str]:
    ours = {row.setting for row in rows if row.estimate}
    theirs = request.published.keys()
    sentences = []
    if theirs and (alone := sorted(ours - theirs, key=lambda setting: setting.order)):
        names = ", ".join(setting.name for setting in alone)
        sentences.append(f"Only here ({len(alone)}): {names}.")
    if alone := sorted(theirs - ours, key=lambda setting: setting.order):
        names = ", ".join(setting.name for setting in alone)
        sentences.append(f"Only in {request.published_name} ({len(alone)}): {names}.")
    return sentences


def _read_curves(store: Store, rows: Sequence[Row]) -> dict[Setting, dict[str, MeanCurve]]:
    """Mean curves of all settings; of what not all runs of a setting have recorded there is none."""
    run_ids = [run.run_id for row in rows for run in row.converged]
    read = {name: store.histories(run_ids, name) for name in (*LOSSES, *CENSORING)}
    ends = read["val_loss"]
    read["train_loss"] = {
        run_id: analysis.epoch_means(curve, ends[run_id])
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


def _say(report: Report) -> None:
    print(f"data      {report.title.removeprefix('data=')}")
    print(f"runs      {report.size}")
    by = {"best_val_loss": "validation", "test_loss": "test"}[analysis.selection(report.rows)]
    print(f"best      of each mode, by mean {by} loss, and its mean test loss ± standard deviation:")
    best = [(row.setting.name, row.estimate) for row in report.rows if row.best and row.estimate]
    width = max((len(name) for name, _ in best), default=0)
    for name, estimate in best:
        spread = f"± {number(estimate.std)}" if estimate.n > 1 else "(one run: no interval)"
        print(f"          {name:{width}}  {number(estimate.mean)} {spread}")
    for test in report.tests:
        if test.p_holm < 0.05:
            print(
                f"differ    {test.a.name} and {test.b.name}: {number(test.difference.mean)}, "
                f"p {test.p_holm:.2g} after Holm's correction"
            )
    if report.compared_with:
        print(f"compare   {report.compared_with}: {documents.agreement(report.comparisons)}")
    for line in report.coverage[:10]:
        print(f"missing   {line}")
    if len(report.coverage) > 10:
        print(f"          and {len(report.coverage) - 10} more, all in report.md")


def make(request: Request) -> Path:
    """Reads, computes, writes and stores a report; its folder.

    Raises:
        AuxgradError: there is nothing to report on, or not what the filters ask for. Nothing is written.
    """
    store = None
    if request.runs:
        source, name = str(request.runs), request.runs.stem
        found = Results(results.read_runs(request.runs))
        print(f"auxgrad {auxgrad.__version__}: report on {source}")
    else:
        store = open_store(request.tracking, create=False)
        source = name = store.name
        print(f"auxgrad {auxgrad.__version__}: report on experiment {name}")
        print(f"tracking  {store.uri}", flush=True)
        with _busy("reading the runs"):
            store.kill_orphans()
            recorded = store.runs()
        if not recorded:
            raise ReportError(f"tracking.experiment={name}: has no runs in {store.uri}")
        found = results.from_store(results.select(recorded, request.filters))
    if all(run.diverged for run in found.runs):
        raise ReportError(f"{source}: no finished run with a test loss; {_without_loss(found)}")
    with _busy("testing differences"):
        all_of_them = [Report.of(found, group, request) for group in found.groups()]
    reports = [report for report in all_of_them if report.has_losses]
    with _busy("reading the curves"):
        curves = [_read_curves(store, report.rows) if store else {} for report in reports]
    folder = claim_folder(request.output or Path("reports", file_name(name)))
    try:
        for report, own in zip(reports, curves, strict=True):
            part = folder / file_name(report.title) if len(reports) > 1 else folder
            part.mkdir(exist_ok=True)
            with _busy("drawing"):
                report.write(part, own)
    except BaseException:
        shutil.rmtree(folder)  # Half a report would look like a whole one.
        raise
    for report in all_of_them:
        if report.has_losses:
            _say(report)
        else:
            print(f"missing   {report.title}: nothing to report; {_without_loss(report.results)}")
    print(f"report    {folder}/{'report.md' if len(reports) == 1 else '*/report.md'}")
    if store:
        _record(store, request, reports, folder)
    return folder


def _without_loss(found: Results) -> str:
    """What there is where there is no test loss."""
    states = Counter(left.status for left in found.unfinished)
    if found.runs:
        states["diverged"] = len(found.runs)
    counts = ", ".join(f"{states[state]} {state}" for state in sorted(states))
    return f"there are {counts or 'no runs with the parameters mode, lam, alpha, overall and seed'}"


def _busy(what: str) -> AbstractContextManager[object]:
    """On a terminal a line that moves while something takes its time."""
    from rich.console import Console

    return Console(stderr=True).status(f"{what} ...")


def _record(store: Store, request: Request, reports: Sequence[Report], folder: Path) -> None:
    """The folder as a run of the experiment NAME-reports."""
    params = {key: ",".join(values)[:LONGEST] for key, values in request.filters.items()}
    target = store.sibling(REPORTS)
    record = target.start_derived(folder.name, params, {})
    record.metric("runs", sum(len(report.results.runs) for report in reports), 0)
    record.metric("settings", sum(len(report.rows) for report in reports), 0)
    record.flush()
    record.folder(folder)
    record.end("FINISHED")
    print(f"stored    as run {folder.name} of the MLflow experiment {target.name}")
    print(f"see it    {store.ui_command() or target.ui_artifacts_url(record.run_id)}")


def main() -> None:
    """The command line."""
    with plain_ending():
        make(Request.of(sys.argv[1:]))


if __name__ == "__main__":
    main()
