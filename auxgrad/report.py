"""The command `python -m auxgrad.report`: report on finished runs in tables, tests and figures."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import auxgrad
from auxgrad.config.entry import exit_cleanly, split_arguments
from auxgrad.config.schema import TrackingConfig
from auxgrad.errors import ReportError
from auxgrad.process import interruption
from auxgrad.record import links
from auxgrad.record.folders import claim_folder, file_name
from auxgrad.record.opening import open_sibling, open_store
from auxgrad.record.store import REPORTS, Store
from auxgrad.reports import analysis, documents
from auxgrad.reports.csv_files import read_runs
from auxgrad.reports.metric import LOSS, Metric, check_name, full_name
from auxgrad.reports.published import Published, read_published
from auxgrad.reports.report import Curves, Report, read_curves, store_report, write_overview
from auxgrad.reports.runs import RunSet
from auxgrad.reports.runs.filters import Filters, check_filters
from auxgrad.reports.runs.selection import from_store

LONGEST = 500  # The length of a recorded list of values; MLflow accepts 6,000 characters.
DESCRIPTION = """\
Writes a folder with the finished runs of an experiment, tables of their test losses (or of another
--metric), permutation tests and figures, and stores it as a run of the MLflow experiment NAME-reports.
The report lists missing runs.

Arguments choose the runs of the report. They are the same as those of auxgrad.train:
  tracking.experiment=NAME   the MLflow experiment (default: auxgrad)
  tracking.uri=ADDRESS       the store, unless MLFLOW_TRACKING_URI is set (default: mlflow.db)
  mode=Projection,Multitask  only runs with one of these values; also for lam, alpha, overall, seed,
                             data, problem and each key of data and problem
A filter on lam, alpha or overall does not apply to modes that do not use it: SingleTask remains.
"""
EXAMPLES = """\
examples:
  python -m auxgrad.report
  python -m auxgrad.report data=aclimdb mode=SingleTask,Projection 'seed=range(10)'
  python -m auxgrad.report --compare figure7
  python -m auxgrad.report --metric test_accuracy
  python -m auxgrad.report --runs reports/auxgrad/runs.csv
"""


@dataclass(frozen=True)
class Request:
    """The arguments of the command.

    Attributes:
        tracking: The store and the experiment to read.
        filters: The allowed values by key.
        runs_file: A CSV file of runs to read in place of a store; None for a store.
        published: The published results to compare with.
        output: The folder to write to; None to name it after the experiment.
        metric: The name of the metric.
        maximize: Whether a higher value is better; None to use what the runs recorded.
    """

    tracking: TrackingConfig
    filters: Filters
    runs_file: Path | None
    published: Published
    output: Path | None
    metric: str
    maximize: bool | None

    @staticmethod
    def of(arguments: Sequence[str]) -> Request:
        """Parse the arguments of the command line.

        Args:
            arguments: The arguments.

        Raises:
            AuxgradError: An argument is wrong, or arguments contradict each other.
        """
        parser = argparse.ArgumentParser(
            "python -m auxgrad.report",
            description=DESCRIPTION,
            epilog=EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument(
            "words", nargs="*", metavar="key=value", help="the runs to report on, see above"
        )
        parser.add_argument(
            "--compare",
            metavar="FILE",
            help="compare with figure5, figure7, or a CSV file like table.csv or runs.csv",
        )
        parser.add_argument(
            "--runs",
            metavar="FILE",
            type=Path,
            help="report on a CSV file like runs.csv instead of a store",
        )
        parser.add_argument(
            "--output",
            metavar="FOLDER",
            type=Path,
            help="a new folder (default: reports/NAME, then NAME_2, ...)",
        )
        parser.add_argument(
            "--metric",
            metavar="NAME",
            default=LOSS.name,
            type=full_name,
            help="a metric of the test set, such as accuracy or test_accuracy (default: test_loss)",
        )
        for flag, better in (("--maximize", "higher"), ("--minimize", "lower")):
            parser.add_argument(
                flag,
                dest="maximize",
                action="store_const",
                const=better == "higher",
                help=f"a {better} metric is better; needed only if the runs did not record it",
            )
        given = parser.parse_intermixed_args(arguments)
        if given.runs and given.words:
            raise ReportError(
                f"{given.words[0]}: selects runs of a store; cannot be combined with --runs"
            )
        tracking, filters = split_arguments(given.words)
        check_filters(filters)
        if given.output and given.output.exists():
            raise ReportError(f"--output={given.output}: already exists; must be a new folder")
        if given.metric == LOSS.name and given.maximize:
            raise ReportError("--maximize: a lower test_loss is always better")
        published = Published()
        if given.compare:
            published = read_published(given.compare, Metric(given.metric))
        asked = given.metric, given.maximize
        return Request(tracking, filters, given.runs, published, given.output, *asked)


def _print_summary(report: Report) -> None:
    """Print the best settings, significant differences, the comparison and missing runs."""
    print(f"study     {report.study.title}")
    print(f"runs      {report.summary}")
    metric, part = report.metric, "validation" if analysis.by_validation(report.rows) else "test"
    print(f"best      of each mode, by mean {part} {metric.short_name}, ", end="")
    print(f"and its mean {metric.title} ± standard deviation:")
    best = [(row.setting.name, row.estimate) for row in report.rows if row.best and row.estimate]
    width = max((len(name) for name, _ in best), default=0)
    for name, estimate in best:
        spread = f"± {documents.number(estimate.std)}" if estimate.n > 1 else "(one run: no interval)"
        print(f"          {name:{width}}  {documents.number(estimate.mean)} {spread}")
    for line in documents.ties(report.rows, metric):
        print(f"tied      {line}")
    for test in report.tests:
        if test.p_holm < 0.05:
            print(
                f"differ    {test.a.name} and {test.b.name}: {documents.number(test.difference.mean)}, "
                f"p {test.p_holm:.2g} after Holm's correction"
            )
    if report.published.name:
        print(f"compare   {report.published.name}: {documents.agreement(report.comparisons)}")
        if note := report.published.data_note(report.study):
            print(f"          {note}")
    for line in report.coverage[:10]:
        print(f"missing   {line}")
    if len(report.coverage) > 10:
        print(f"          and {len(report.coverage) - 10} more, all in report.md")


def make(request: Request) -> Path:
    """Read the runs, and write and store the report.

    Args:
        request: The arguments of the command.

    Returns:
        The folder of the report.

    Raises:
        AuxgradError: There are no runs to report on. Nothing is written.
    """
    store, metric = None, Metric(request.metric)
    if request.runs_file:
        source, name = str(request.runs_file), request.runs_file.stem
        found = RunSet(read_runs(request.runs_file, metric))
        print(f"auxgrad {auxgrad.__version__}: report on {source}")
    else:
        store = open_store(request.tracking, create=False)
        source = name = store.name
        print(f"auxgrad {auxgrad.__version__}: report on experiment {name}")
        print(f"tracking  {store.address}", flush=True)
        with _status("reading the runs"):
            stored = store.runs()
        if not stored:
            raise ReportError(f"tracking.experiment={name}: has no runs in {store.address}")
        check_name(metric.name, {name for run in stored for name in run.metrics})
        found = from_store(stored, request.filters, metric)
    if all(run.has_diverged for run in found.finished):
        raise ReportError(f"{source}: no finished run with a {metric.title}; {_without_value(found)}")
    recorded = {run.maximize for run in found.finished if run.maximize is not None}
    metric = Metric.of(metric.name, recorded, request.maximize)
    with _status("testing differences"):
        all_reports = [Report.of(found, study, request.published, metric) for study in found.studies()]
    reports = [report for report in all_reports if report.has_values]
    with _status("reading the curves"):
        curves = [read_curves(store, report.rows, metric) if store else {} for report in reports]
    folder = claim_folder(request.output or Path("reports", file_name(name)))
    no_overview = _write(folder, reports, curves)
    for report in all_reports:
        if report.has_values:
            _print_summary(report)
        else:
            print(f"missing   {report.study.title}: nothing to report; {_without_value(report.run_set)}")
    print(f"report    {folder}/{'report.md' if len(reports) == 1 else '*/report.md'}")
    if len(reports) > 1:
        path = f"{folder}/overview.md: the modes over {len(reports)} studies"
        print(f"overview  {f'none; {no_overview}' if no_overview else path}")
    if store:
        _store(store, request, reports, folder)
    return folder


def _write(folder: Path, reports: Sequence[Report], curves: Sequence[Curves]) -> str:
    """Write the reports to the folder, and return why several have no overview; empty if they have."""
    try:
        for report, own in zip(reports, curves, strict=True):
            several = len(reports) > 1
            part = claim_folder(folder / file_name(report.study.title)) if several else folder
            with _status("drawing"):
                report.write(part, own)
        with _status("drawing"):
            return write_overview(folder, reports) if len(reports) > 1 else ""
    except BaseException:
        shutil.rmtree(folder)  # Part of a report could be mistaken for a complete one.
        raise


def _store(store: Store, request: Request, reports: Sequence[Report], folder: Path) -> None:
    """Store the folder as a run of the experiment NAME-reports."""
    target = open_sibling(store, REPORTS)
    params = {key: ",".join(values)[:LONGEST] for key, values in request.filters.items()}
    params["metric"] = request.metric
    run_id = store_report(target, reports, folder, params)
    print(f"stored    as run {folder.name} of the MLflow experiment {target.name}")
    print(f"see it    {links.ui_command(store) or links.artifacts_url(target, run_id)}")


def _without_value(found: RunSet) -> str:
    """Return a text on the runs of a study that has no values."""
    if not found.runs and found.notes:
        return found.notes[0][0].lower() + found.notes[0][1:].rstrip(".")
    states = Counter("diverged" if run.is_finished else run.status for run in found.runs)
    counts = ", ".join(f"{states[state]} {state}" for state in sorted(states))
    return f"found {counts or 'no runs with the parameters mode, lam, alpha, overall and seed'}"


def _status(what: str) -> AbstractContextManager[object]:
    """Return a context manager that shows a spinner on a terminal."""
    from rich.console import Console

    return Console(stderr=True).status(f"{what} ...")


def main() -> None:
    """Run the command line."""
    with exit_cleanly():
        request = Request.of(sys.argv[1:])
        with interruption.as_exceptions():
            make(request)


if __name__ == "__main__":
    main()
