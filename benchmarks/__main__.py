"""Measure the speed of auxgrad beside other programs: `python -m benchmarks`.

The program prints tables, and writes figures.csv and speed.png. It measures everything in one run: each
contestant has its own process, and they take turns; whole commands run one after another. It needs the
extra `bench`, which installs PyTorch and TorchJD.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.figures import Figures, draw, table
from benchmarks.methods import methods
from benchmarks.synthetic import synthetic
from benchmarks.turns import in_turns

SETTINGS = {
    "SingleTask": ["mode=SingleTask"],
    "Multitask": ["mode=Multitask"],
    "Projection alpha=0.01": ["mode=Projection", "alpha=0.01"],
    "Projection alpha=1": ["mode=Projection", "alpha=1"],
    "Orthogonal overall": ["mode=Orthogonal", "overall=true"],
}
MAIN = ("SingleTask", "Projection alpha=0.01")
EVERYBODY = ("auxgrad", "eager dense", "PyTorch by hand")
GROWTH = {
    "batch_size": [f"problem.batch_size={n}" for n in (128, 512, 2048)],
    "num_words": [f"data.num_words={n}" for n in (5_000, 10_000, 20_000, 40_000)],
    "width": [f"problem.hidden=[{n},{n}]" for n in (256, 512, 1024)],
}


def steps(figures: Figures, rounds: int, count: int) -> Iterator[Sequence[str]]:
    """Measure steps of all contestants in turns, and yield a row for each setting."""
    for setting, overrides in SETTINGS.items():
        with in_turns(EVERYBODY, overrides) as processes:
            times: dict[str, list[float]] = {name: [] for name in [*EVERYBODY, "fit"]}
            epochs: dict[str, list[float]] = {name: [] for name in EVERYBODY}
            bandwidths = []
            for number in range(rounds):
                for name, process in processes.items():
                    times[name] += process.call("steps", count)
                    if name == "auxgrad":
                        epoch, step = process.call("fit")
                        times["fit"].append(step)
                        bandwidths.append(process.call("bandwidth"))
                    elif setting in MAIN:
                        epoch = process.call("epoch")
                    else:
                        continue
                    if number or rounds == 1:  # The first epoch also makes the data sets.
                        epochs[name].append(epoch)
        median = {name: statistics.median(values) for name, values in times.items()}
        for name, value in median.items():
            figures.add("step", setting, name, value, "ms")
        for name, values in epochs.items():
            if values:
                figures.add("epoch", setting, name, statistics.median(values), "s")
        # Parameters, gradient, two moments and (if alpha < 1) the average are read and written once.
        arrays = 5 if "alpha=1" not in overrides and setting not in ("SingleTask", "Multitask") else 4
        moved = arrays * 2 * 4 * (10_001 * 512 + 513 * 512 + 513)
        bandwidth = statistics.median(bandwidths)
        figures.add("bandwidth", setting, "memory", bandwidth, "GB/s")
        figures.add("step", setting, "memory limit", moved / bandwidth / 1e6, "ms")
        yield [
            setting,
            *(f"{median[name]:.1f}" for name in EVERYBODY),
            f"{median['eager dense'] / median['auxgrad']:.1f}",
            f"{median['auxgrad'] / median['PyTorch by hand']:.2f}",
            f"{median['fit'] / median['auxgrad']:.2f}",
            f"{moved / bandwidth / 1e6:.1f}",
        ]


def epochs(figures: Figures) -> Iterator[Sequence[str]]:
    """Yield a row with the measured time of an epoch for each main setting."""
    for setting in MAIN:
        seconds = [figures.get("epoch", setting, name) for name in EVERYBODY]
        yield [setting, *(f"{value:.2f}" for value in seconds), f"{seconds[1] / seconds[0]:.1f}"]


def products(figures: Figures) -> Iterator[Sequence[str]]:
    """Measure the first layer with sparse input, and with input made dense on the device."""
    with in_turns(["auxgrad"], SETTINGS["SingleTask"]) as processes:
        for densify in (False, True):
            value = statistics.median(processes["auxgrad"].call("products", densify))
            how = "made dense" if densify else "sparse"
            figures.add("first layer", "SingleTask", how, value, "ms")
            yield [how, f"{value:.1f}"]


def command(arguments: Sequence[str], folder: str) -> tuple[float, str]:
    """Run a command; return the seconds that its process took, and its output."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=env,
        check=True,
        capture_output=True,
        text=True,
    )
    return time.perf_counter() - started, done.stdout


def whole_runs(figures: Figures, limit: Sequence[str]) -> Iterator[Sequence[str]]:
    """Measure whole runs from process start to exit, and yield a row for each main setting."""
    for setting in MAIN:
        overrides = [*SETTINGS[setting], *limit]
        with tempfile.TemporaryDirectory() as folder:
            command(["auxgrad.train", *overrides, "problem.epochs=1"], folder)  # Fill the disk's cache.
            ours, _ = command(["auxgrad.train", *overrides], folder)
            command(["benchmarks.timeline", "parts.json", *overrides], folder)
            parts = json.loads(Path(folder, "parts.json").read_text())
            theirs, said = command(["benchmarks.original", str(parts["epochs"]), *overrides], folder)
        original_memory = float(said.split("peak memory")[1])
        figures.add("whole run", setting, "auxgrad", ours, "s")
        figures.add("whole run", setting, "eager dense", theirs, "s")
        figures.add("peak memory of a run", setting, "auxgrad", parts["memory"], "MB")
        figures.add("peak memory of a run", setting, "eager dense", original_memory, "MB")
        for part, value in parts["seconds"].items():
            figures.add("part of a run", setting, part, value, "s")
        yield [
            setting,
            str(parts["epochs"]),
            f"{ours:.1f}",
            f"{theirs:.1f}",
            f"{theirs / ours:.1f}",
            f"{parts['seconds']['before the first step']:.1f}",
            f"{parts['memory']:,.0f}",
            f"{original_memory:,.0f}",
        ]


def parts_of_runs(figures: Figures) -> Iterator[Sequence[str]]:
    """Yield a row for each part of the runs that `whole_runs` has measured."""
    names = [row[2] for row in figures.rows if row[0] == "part of a run" and row[1] == MAIN[0]]
    for name in names:
        yield [name, *(f"{figures.get('part of a run', setting, name):.2f}" for setting in MAIN)]


def sweeps(figures: Figures, seeds: int, limit: Sequence[str]) -> Iterator[Sequence[str]]:
    """Measure sweeps with one and two workers, and yield a row for each."""
    from mlflow import MlflowClient

    grid = ["mode=SingleTask,Projection", f"seed=range({seeds})", *limit]
    runs = 2 * seeds
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            arguments = ["auxgrad.train", "--multirun", f"hydra.launcher.workers={workers}", *grid]
            seconds, _ = command(arguments, folder)
            client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
            experiment = client.get_experiment_by_name("auxgrad")
            assert experiment
            by_worker: dict[str, list[tuple[int, int, float]]] = {}
            for run in client.search_runs([experiment.experiment_id]):
                validated, tested = (
                    client.get_metric_history(run.info.run_id, name)[-1].timestamp
                    for name in ("val_loss", "test_loss")
                )
                busy = run.data.metrics["seconds"] + (tested - validated) / 1000
                row = run.info.start_time, run.info.end_time, busy
                by_worker.setdefault(run.data.tags["worker.pid"], []).append(row)
        # Count the time from the end of a worker's first run to the end of its last run.
        wall = inside = 0.0
        for rows in by_worker.values():
            rows.sort()
            wall += (rows[-1][1] - rows[0][1]) / 1000
            inside += sum(row[2] for row in rows[1:])
        who = f"auxgrad, {workers} worker{'s' * (workers > 1)}"
        figures.add("sweep", "both", who, 3600 * runs / seconds, "runs/h")
        figures.add("outside training", "both", who, 100 * (1 - inside / wall), "%")
        yield [who, f"{3600 * runs / seconds:,.0f}", f"{100 * (1 - inside / wall):.1f} %"]
    each = statistics.mean(figures.get("whole run", setting, "eager dense") for setting in MAIN)
    figures.add("sweep", "both", "eager dense", 3600 / each, "runs/h")
    yield ["eager dense, one process after the other", f"{3600 / each:,.0f}", ""]


def checkpoints(figures: Figures, is_quick: bool) -> Iterator[Sequence[str]]:
    """Yield the cost of the checkpoints of a run of each problem."""
    epochs = 2 if is_quick else 150
    for problem in ("reviews", "toy"):
        with tempfile.TemporaryDirectory() as folder:
            overrides = [f"problem={problem}", "mode=Projection", f"problem.epochs={epochs}"]
            if problem == "reviews":
                overrides.append(f"problem.patience={epochs}")
            command(["benchmarks.checkpoints", "cost.json", *overrides], folder)
            cost = json.loads(Path(folder, "cost.json").read_text(encoding="utf-8"))
        share = 100 * cost["checkpoints"] / cost["training"]
        figures.add("checkpoints", problem, "share of training", share, "%")
        figures.add("checkpoints", problem, "written", cost["written"], "")
        yield [
            problem,
            f"{cost['training']:.1f}",
            str(cost["written"]),
            f"{cost['megabytes']:.0f}",
            f"{1000 * cost['checkpoints']:.0f}",
            f"{share:.2f} %",
        ]


def growth(figures: Figures, count: int, points: int) -> Iterator[Sequence[str]]:
    """Measure steps and memory of growing problems, and yield a row for each size."""
    for dimension, values in GROWTH.items():
        for override in values[:points]:
            times, memory = {}, {}
            for name in EVERYBODY:  # One at a time, because they need much memory.
                with in_turns([name], [override]) as processes:
                    times[name] = statistics.median(processes[name].call("steps", count))
                    memory[name] = processes[name].call("peak_memory")
                figures.add(f"step by {dimension}", override, name, times[name], "ms")
                figures.add(f"peak memory by {dimension}", override, name, memory[name], "MB")
            yield [
                override,
                *itertools.chain(*((f"{times[n]:.1f}", f"{memory[n]:,.0f}") for n in EVERYBODY)),
            ]


class Sections:
    """The sections that can be measured alone; each method prints the tables of one section."""

    def __init__(self, figures: Figures, quick: bool) -> None:
        self.figures, self.quick = figures, quick
        self.limit = ["problem.epochs=2"] if quick else []

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of the sections."""
        return [name for name in vars(cls) if not name.startswith("_") and name != "names"]

    def steps(self) -> None:
        """Print the times of steps and epochs on the reviews."""
        table(
            "Optimisation step, medians in ms: batch 512, 10,000 inputs, 512-512-1",
            ["step", *EVERYBODY, "eager / auxgrad", "auxgrad / PyTorch", "fit / bare", "memory limit"],
            steps(self.figures, *((1, 4) if self.quick else (5, 20))),
        )
        header = ["epoch", *EVERYBODY, "eager / auxgrad"]
        table("One epoch with validation, s", header, epochs(self.figures))

    def synthetic(self) -> None:
        """Print the times of steps on the synthetic regression."""
        table(
            "Synthetic regression: milliseconds a step in `fit`, Projection, overall=true, alpha=0.01",
            ["who", "fastest form", "ms", "auxgrad / this", "at most"],
            synthetic(self.figures, *((1, 30) if self.quick else (7, 40))),
        )

    def methods(self) -> None:
        """Print the times of steps of each joint mode."""
        table(
            "Synthetic regression: milliseconds a step of each method, overall=true",
            ["mode", "auxgrad", "TorchJD", "ratio, at most 0.5", "fastest form of TorchJD"],
            methods(self.figures, *((1, 8) if self.quick else (3, 12))),
        )

    def products(self) -> None:
        """Print the times of the first layer."""
        table("First layer, product and gradient, ms", ["input", "ms"], products(self.figures))

    def runs(self) -> None:
        """Print the times of whole runs and sweeps."""
        seeds = 2 if self.quick else 6
        table(
            "Whole run, process start to exit, s",
            [
                "run",
                "epochs",
                "auxgrad",
                "eager dense",
                "ratio",
                "auxgrad, before the first step",
                "auxgrad, peak MB",
                "eager dense, peak MB",
            ],
            whole_runs(self.figures, self.limit),
        )
        table("Parts of that run, s", ["part", *MAIN], parts_of_runs(self.figures))
        table(
            f"Sweep over {' and '.join(MAIN)}, {seeds} seeds each",
            [
                "who",
                "runs an hour, start-up included",
                "outside training and evaluation, after the first run",
            ],
            sweeps(self.figures, seeds, self.limit),
        )

    def checkpoints(self) -> None:
        """Measure the share of training that the work for checkpoints takes."""
        table(
            "Checkpoints of one run of Projection",
            [
                "problem",
                "training, s",
                "written",
                "MB each",
                "all of their work, ms",
                "share of training",
            ],
            checkpoints(self.figures, self.quick),
        )

    def growth(self) -> None:
        """Print the times and the memory of growing problems."""
        table(
            "Growth of a step (ms) and of its process (MB), Projection alpha=0.01",
            ["size", *itertools.chain(*((f"{name}, ms", "MB") for name in EVERYBODY))],
            growth(self.figures, *((4, 1) if self.quick else (20, 4))),
        )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="check in minutes whether everything runs")
    parser.add_argument("--only", choices=Sections.names(), help="measure only this section")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    missing = [
        name for name in ("matplotlib", "torch", "torchjd") if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise SystemExit(f'benchmarks: no {" and ".join(missing)}: pip install -e ".[bench]"')
    from auxgrad.process.quiet import quiet_stderr
    from auxgrad.training import devices

    with quiet_stderr():
        device = devices.describe()
    print(f"{device} ({platform.machine()}), Python {platform.python_version()}")
    figures = Figures()
    sections = Sections(figures, arguments.quick)
    chosen = [arguments.only] if arguments.only else Sections.names()
    for name in chosen:
        getattr(sections, name)()
    arguments.output.mkdir(parents=True, exist_ok=True)
    figures.write(arguments.output / "figures.csv")
    written = "figures.csv"
    if "steps" in chosen:
        draw(figures, list(SETTINGS), arguments.output / "speed.png")
        written += " and speed.png"
    print(f"\nwritten   {arguments.output}/{written}")


if __name__ == "__main__":
    main()
