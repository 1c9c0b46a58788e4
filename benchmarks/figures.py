"""Collect the measured figures: a CSV file, tables and a picture."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path


class Figures:
    """All measured figures, one row each."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str, float, str]] = []

    def add(self, what: str, setting: str, who: str, value: float, unit: str) -> None:
        """Add a figure."""
        self.rows.append((what, setting, who, value, unit))

    def get(self, what: str, setting: str, who: str) -> float:
        """Return the value of a figure."""
        return next(row[3] for row in self.rows if row[:3] == (what, setting, who))

    def write(self, file: Path) -> None:
        """Write all figures to a CSV file."""
        with file.open("w", newline="") as out:
            table = csv.writer(out)
            table.writerow(["what", "setting", "who", "value", "unit"])
            table.writerows((*row[:3], f"{row[3]:.6g}", row[4]) for row in self.rows)


def table(title: str, header: Sequence[str], rows: Iterator[Sequence[str]]) -> None:
    """Print a Markdown table, row by row."""
    print(f"\n{title}\n\n| {' | '.join(header)} |\n|{'---|' * len(header)}", flush=True)
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def draw(figures: Figures, settings: Sequence[str], file: Path) -> None:
    """Draw the time of a step of each setting for all contestants, and the memory limit."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    picture, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    colours = {"auxgrad": "#0b4f6c", "PyTorch by hand": "#e07a1f", "eager dense": "#b8b8b8"}
    for shift, (name, colour) in enumerate(colours.items()):
        places = [number + 0.27 * (shift - 1) for number in range(len(settings))]
        values = [figures.get("step", setting, name) for setting in settings]
        bars = axes.bar(places, values, 0.25, color=colour, label=name)
        axes.bar_label(bars, fmt="%.0f", fontsize=8)
    for number, setting in enumerate(settings):
        limit = figures.get("step", setting, "memory limit")
        label = "least traffic to memory" if number == 0 else None
        axes.hlines(limit, number - 0.4, number + 0.4, color="black", linestyle=":", label=label)
    axes.set_yscale("log")
    axes.set_ylabel("time of a step (ms, log)")
    axes.set_xticks(range(len(settings)), [setting.replace(" ", "\n") for setting in settings])
    axes.spines[["top", "right"]].set_visible(False)
    picture.legend(loc="outside upper center", ncols=4, frameon=False)
    picture.savefig(file, dpi=150)
