"""The style of figures: each mode has the same colour, marker and dashes in all of them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours of Okabe and Ito, and of Tol, which colour-blind readers can distinguish. Each mode has
# its own marker, for print without colours.
STYLES: dict[str, dict[str, Any]] = {
    "SingleTask": {"color": "#000000", "marker": "", "linestyle": "-"},
    "Multitask": {"color": "#D55E00", "marker": "s", "linestyle": (0, (5, 2))},
    "Projection": {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    "UnweightedCosine": {"color": "#009E73", "marker": "^", "linestyle": (0, (1, 1.5))},
    "WeightedCosine": {"color": "#CC79A7", "marker": "D", "linestyle": (0, (3, 1.5, 1, 1.5))},
    "Orthogonal": {"color": "#E69F00", "marker": "v", "linestyle": (0, (8, 2, 1, 2))},
    "Bloop": {"color": "#E69F00", "marker": "<", "linestyle": (0, (2, 2))},
    "Mean": {"color": "#999999", "marker": "x", "linestyle": (0, (5, 2))},
    "RandomWeighting": {"color": "#999999", "marker": "+", "linestyle": (0, (1, 1.5))},
    "PCGrad": {"color": "#882255", "marker": "p", "linestyle": "-"},
    "GradVac": {"color": "#882255", "marker": ">", "linestyle": (0, (2, 2))},
    "MGDA": {"color": "#117733", "marker": "X", "linestyle": "-"},
    "CAGrad": {"color": "#117733", "marker": "*", "linestyle": (0, (5, 2))},
    "IMTL-G": {"color": "#AA4499", "marker": "P", "linestyle": (0, (3, 1.5, 1, 1.5))},
    "UPGrad": {"color": "#332288", "marker": "h", "linestyle": "-"},
    "DualProj": {"color": "#332288", "marker": "d", "linestyle": (0, (5, 2))},
    "Aligned-MTL": {"color": "#44AA99", "marker": "8", "linestyle": (0, (8, 2, 1, 2))},
    "Nash-MTL": {"color": "#661100", "marker": "1", "linestyle": (0, (1, 1.5))},
}
# For other modes. The numbers of styles have no common divisor, so that the first 60 modes differ.
COLOURS = ("#56B4E9", "#6F4E37", "#7F7F7F", "#9ACD32")
MARKERS = ("H", "2", "3", "4", "|")
DASHES = ((0, (3, 1)), (0, (6, 1.5)), (0, (4, 1, 1, 1, 1, 1)))
BAND = 0.18  # The opacity of bands.
LABEL = 2.4  # The length of the label of a vertical axis, in inches.
DIFFERENT = len(COLOURS) * len(MARKERS) * len(DASHES)
FONT = 9  # The size of the font, in points.
# The sizes of parts of a legend, in inches: a handle, a letter, a row.
HANDLE, LETTER, ROW = 0.6, 0.075, 0.19
RC = {
    "font.size": FONT,
    "axes.titlesize": FONT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "lines.linewidth": 1.4,
    "lines.markersize": 5,
    "savefig.dpi": 150,
    "svg.hashsalt": "auxgrad",  # Makes equal figures equal files.
}

Styles = Mapping[str, Mapping[str, Any]]


def of_modes(modes: Iterable[str]) -> Styles:
    """Return the colour, marker and dashes of each of these modes; no two modes share all three.

    Args:
        modes: The names of the modes.
    """
    found = set(modes)
    own = {mode: _own(number) for number, mode in enumerate(sorted(found - STYLES.keys()))}
    return {mode: STYLES.get(mode) or own[mode] for mode in found}


def _own(number: int) -> dict[str, Any]:
    marker = MARKERS[number % len(MARKERS)] if number < DIFFERENT else f"${number}$"
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": marker,
        "linestyle": DASHES[number % len(DASHES)],
    }


def rc() -> AbstractContextManager[None]:
    """Return a context manager that sets the style of all figures in Matplotlib."""
    import matplotlib as mpl

    return mpl.rc_context(RC)


def new_figure(size: tuple[float, float]) -> Figure:
    """Return an empty figure of this width and height, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def finish(
    figure: Figure, axes: Iterable[Axes], title: str, handles: Mapping[str, Any] | None = None
) -> None:
    """Add a title above the panels and one legend below them.

    The figure grows by the height of the legend rows after the second.

    Args:
        figure: The figure.
        axes: The axes whose labels make the legend.
        title: The title.
        handles: The handles of the legend by label; None to use those of the axes.
    """
    figure.suptitle(title, fontsize=10, wrap=True)
    if handles is None:
        handles = {
            label: handle
            for axis in axes
            for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
        }
    width, height = figure.get_size_inches()
    longest = max((len(label) for label in handles), default=0)
    columns = max(1, min(4, int(width / (HANDLE + LETTER * longest))))
    rows = math.ceil(len(handles) / columns)
    figure.set_size_inches(width, height + ROW * max(0, rows - 2))
    names = {"loc": "outside lower center", "ncols": columns, "frameon": False}
    figure.legend(list(handles.values()), list(handles), **names)


def wrapped(text: str, length: float, size: float = FONT) -> str:
    r"""Break a label into lines, at spaces and after underscores.

    >>> wrapped("validation balanced_accuracy", 1.5)
    'validation balanced_\naccuracy'

    Args:
        text: The label.
        length: The length of the longest line, in inches. A longer word stays in one piece.
        size: The size of the font, in points.
    """
    letters = max(1, int(length / LETTER * FONT / size))
    lines = [
        line.replace("_ ", "_")
        for part in text.split("\n")
        for line in textwrap.wrap(part.replace("_", "_ "), letters, break_long_words=False)
    ]
    return "\n".join(lines)


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write a figure as PNG and SVG; equal figures are equal files.

    Args:
        figure: The figure.
        folder: The folder to write to.
        name: The name of the files, without a suffix.
    """
    with rc():
        figure.savefig(folder / f"{name}.png")
        figure.set_layout_engine(None)  # The layout is done; repeating it would take as long as drawing.
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
