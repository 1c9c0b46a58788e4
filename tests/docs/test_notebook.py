"""Run examples/quickstart.ipynb, and compare its outputs with the committed ones: pytest -m docs."""

from __future__ import annotations

import base64
import re

import pytest
from conftest import REPOSITORY

pytestmark = [pytest.mark.docs, pytest.mark.long]

FILE = REPOSITORY / "examples/quickstart.ipynb"
NUMBER = re.compile(r"-?\d+\.\d+")
IMAGE = "image/png"


@pytest.fixture(scope="module")
def committed():
    import nbformat  # Here: the extra `test` does not have it.

    return nbformat.read(FILE, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(cell):
    """Return the outputs of a cell without the messages of libraries, which depend on the machine."""
    return [output for output in cell.outputs if output.get("name") != "stderr"]


def kinds(cell):
    """Return the kinds of the outputs: streams by name, others by the types of their content."""
    return [
        output.name if output.output_type == "stream" else sorted(output.data)
        for output in outputs(cell)
    ]


def text(cell):
    """Return all that a cell shows as text, without the size of a picture."""
    parts = [
        output.text if output.output_type == "stream" else output.data["text/plain"]
        for output in outputs(cell)
        if IMAGE not in output.get("data", {})
    ]
    return "".join(parts)


def test_the_outputs_are_those_of_the_code(committed, tmp_path):
    """Words are equal. Numbers may differ on another kind of CPU, by less than a mode makes of them."""
    from nbclient import NotebookClient

    fresh = committed.copy()
    fresh.cells = [cell.copy() for cell in committed.cells]
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(fresh, timeout=900, kernel_name="python3", resources=resources).execute()
    for old, new in zip(code_cells(committed), code_cells(fresh), strict=True):
        assert kinds(new) == kinds(old), old.source
        assert NUMBER.sub("#", text(new)).split() == NUMBER.sub("#", text(old)).split(), old.source
        numbers = [[float(number) for number in NUMBER.findall(text(cell))] for cell in (new, old)]
        assert numbers[0] == pytest.approx(numbers[1], rel=0.15, abs=0.05), old.source


def test_the_outputs_are_small_and_of_no_machine(committed):
    cells = code_cells(committed)
    assert all(cell.outputs == outputs(cell) for cell in cells)
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    pictures = [
        output.data[IMAGE]
        for cell in cells
        for output in cell.outputs
        if IMAGE in output.get("data", {})
    ]
    assert len(pictures) == 1
    assert all(len(base64.b64decode(picture)) < 60_000 for picture in pictures)
    shown = "".join(text(cell) for cell in cells)
    assert shown.strip()
    assert "/home" not in shown
    assert "/tmp" not in shown
    assert str(REPOSITORY) not in shown
