"""Draw the picture of each mode: what the mode makes of two gradients in the plane.

mkdocs-gen-files runs this script while the site is built and adds `methods/<mode>.svg` to it. To see the
pictures without a build, name a folder: `python docs/generate/method_pictures.py FOLDER`.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import auxgrad
from auxgrad.censoring import MODES, gradvac

PRIMARY = np.array([0.0, 2.0])
# lam·u, for and against the primary gradient.
AUXILIARY = {"agreeing": np.array([1.1, 0.8]), "conflicting": np.array([1.1, -0.8])}
# The reference v of Bloop, a moving average; the other modes have v = g in the pictures.
AVERAGE = np.array([0.7, 1.6])
# φ̂ of GradVac, the moving average of the cosine.
AVERAGE_COSINE = 0.2
# Steps that are drawn for a mode with random weights.
DRAWS = 6

# Mid-tones, which can be read on a white page and on a dark one.
COLOURS = {"g": "#4C8DD6", "u": "#E08A2E", "total": "#2FA36B", "v": "#9B7BD0", "frame": "#8A8A8A"}
RC = {
    "font.size": 10,
    "text.color": COLOURS["frame"],
    "axes.titlecolor": COLOURS["frame"],
    # Equal pictures have equal bytes.
    "svg.hashsalt": "auxgrad",
}
LIMITS = {"xlim": (-0.5, 2.7), "ylim": (-1.15, 3.1)}


def file_of(mode: str) -> str:
    """Return the name of the page and of the picture of a mode, without suffix."""
    return mode.lower()


def reference_of(mode: str) -> np.ndarray:
    """Return v, the direction against which the mode censors."""
    return AVERAGE if mode == "Bloop" else PRIMARY


def totals(mode: str, auxiliary: np.ndarray) -> list[np.ndarray]:
    """Return the direction of a step, or of several steps for a mode with random weights.

    Args:
        mode: a name in `auxgrad.censoring.MODES`.
        auxiliary: lam·u.
    """
    if MODES[mode].rule is not None:
        [censored] = auxgrad.censor([auxiliary], [reference_of(mode)], mode=mode)
        return [PRIMARY + censored.numpy()]
    if mode == "GradVac":  # `combine` has no memory for the average cosine.
        rows = np.stack([PRIMARY, auxiliary])
        memory = np.full((2, 2), AVERAGE_COSINE)
        weights, _ = gradvac(rows @ rows.T, seed=np.zeros(2, int), memory=memory, alpha=1.0)
        return [weights.numpy() @ rows]
    steps = range(DRAWS if mode == "RandomWeighting" else 1)
    return [
        auxgrad.combine([PRIMARY], [[auxiliary]], mode=mode, seed=(0, step))[0].numpy() for step in steps
    ]


def primary_part(mode: str, auxiliary: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return w_0·g, the part of the primary gradient in the direction of a step."""
    if MODES[mode].rule is not None:
        return PRIMARY
    weights = np.linalg.solve(np.stack([PRIMARY, auxiliary], axis=1), total)
    return weights[0] * PRIMARY


def draw(mode: str) -> Figure:
    """Return a figure with one plane for each pair of gradients."""
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    planes = figure.subplots(1, 2)
    for plane, (title, auxiliary) in zip(planes, AUXILIARY.items(), strict=True):
        _draw_plane(plane, mode, auxiliary)
        plane.set_title(title)
    handles, labels = planes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _draw_plane(plane: Axes, mode: str, auxiliary: np.ndarray) -> None:
    plane.axhspan(
        LIMITS["ylim"][0], 0, color=COLOURS["frame"], alpha=0.15, linewidth=0, label="against g"
    )
    _arrow(plane, PRIMARY, "g", "g, primary")
    _arrow(plane, auxiliary, "u", "lam·u, auxiliary")
    if mode == "Bloop":
        _arrow(plane, AVERAGE, "v", "v, average of g")
    several = totals(mode, auxiliary)
    for total in several:
        _arrow(plane, total, "total", "direction of the step", width=3 if len(several) == 1 else 1.5)
    if len(several) == 1:
        [total] = several
        corner = primary_part(mode, auxiliary, total)
        plane.plot(*np.stack([0 * corner, corner, total]).T, linestyle=":", color=COLOURS["frame"])
        plane.plot([], [], linestyle=":", color=COLOURS["frame"], label="its two parts")
    plane.set(aspect="equal", xticks=[], yticks=[], **LIMITS)
    for spine in plane.spines.values():
        spine.set_visible(False)


def _arrow(plane: Axes, tip: np.ndarray, colour: str, label: str, width: float = 2) -> None:
    style = {"arrowstyle": "-|>", "color": COLOURS[colour], "linewidth": width, "mutation_scale": 14}
    plane.annotate("", xy=tip, xytext=(0, 0), arrowprops={**style, "shrinkA": 0, "shrinkB": 0})
    if label not in plane.get_legend_handles_labels()[1]:  # An annotation has no place in a legend.
        plane.plot([], [], color=COLOURS[colour], linewidth=width, label=label)


def svg(mode: str) -> bytes:
    """Return the picture of a mode as an SVG file with a transparent background."""
    content = io.BytesIO()
    with matplotlib.rc_context(RC):
        draw(mode).savefig(content, format="svg", transparent=True, metadata={"Date": None})
    return content.getvalue()


def write(folder: Path) -> None:
    """Write the pictures of all modes into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for mode in MODES:
        (folder / f"{file_of(mode)}.svg").write_bytes(svg(mode))


if __name__ == "<run_path>":  # As mkdocs-gen-files runs it.
    import mkdocs_gen_files

    for name in MODES:
        with mkdocs_gen_files.open(f"methods/{file_of(name)}.svg", "wb") as picture:
            picture.write(svg(name))
elif __name__ == "__main__":
    write(Path(sys.argv[1]))
