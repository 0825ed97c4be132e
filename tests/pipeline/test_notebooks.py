"""Every notebook runs from top to bottom and is committed without outputs."""

import os
import re
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tests.pipeline.conftest import RUNS, Compared
from tests.pipeline.walked_roll import MARKS, OTHERS, write_walked_bundle, write_walked_roll
from tests.station.conftest import CALIBRATION

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
BLIND = {"pixel_threshold": 1.5, "reject_score": 1.5, "accept_score": 1.5}


def executed(path: Path, folder: Path) -> tuple[str, int]:
    """All text that a notebook shows when it runs in a folder, and the number of its pictures."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": folder}})
    client.execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    shown = [out.get("data", {}) for out in outputs]
    texts = [out.get("text", "") for out in outputs] + [data.get(kind, "") for data in shown for kind in TEXT]
    return "\n".join(texts), sum("image/png" in data for data in shown)


TEXT = ("text/markdown", "text/html", "text/plain")


@pytest.fixture(autouse=True)
def _inline(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("ZELLIGE_")]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")


def test_the_notebooks_are_found() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["01_look_at_data", "02_compare_runs", "03_walk_along_a_roll"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stripped(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert cells
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)


def test_look_at_data(tmp_path: Path) -> None:
    assert executed(FOLDER / "01_look_at_data.ipynb", tmp_path)[1] > 0


def test_compare_runs(compared: Compared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZELLIGE_STORE", str(compared.root / "mlruns"))
    text, num_pictures = executed(FOLDER / "02_compare_runs.ipynb", tmp_path)
    assert "**4 runs** of experiment `images`" in text
    assert all(f"<td>{name}</td>" in text for name in RUNS)
    assert "**c**: Take coarse: " in text
    assert "these pieces cannot tell from" in text
    assert num_pictures == 4  # quality against cost, paired differences, escapes, false rejects


def test_compare_runs_says_what_to_do_where_there_are_none(tmp_path: Path) -> None:
    text, num_pictures = executed(FOLDER / "02_compare_runs.ipynb", tmp_path)
    assert "`make demo`" in text
    assert num_pictures == 0
    assert list(tmp_path.iterdir()) == []


def test_walk_along_a_roll(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies on the roll and can be seen is found, in its place; what cannot, and what nobody listed, is said."""
    for name, value in write_walked_roll(tmp_path).items():
        monkeypatch.setenv(name, value)
    text, num_pictures = executed(FOLDER / "03_walk_along_a_roll.ipynb", tmp_path)
    assert f"{len(MARKS) + len(OTHERS)} hits, 1 escapes, 1 false alarms (0 of them in no lane)" in text
    off = re.search(r"the middle is off by ([\d.]+) mm at most", text)
    assert off is not None
    assert float(off[1]) <= 0.5  # a pixel
    assert re.search(r"<td>30\.0</td>\s*<td>[\d.]+</td>\s*<td>12</td>\s*<td>nip</td>", text)
    assert "wander of the left edge: 4.0" in text
    assert re.search(r"<td>left</td>\s*<td>A</td>", text)
    assert re.search(r"<td>right</td>\s*<td>B</td>", text)
    assert "Every line was judged." in text
    assert re.search(r"[1-9]\d* of \d+ tiles of the frame", text)
    assert num_pictures == 8  # lines, edges, profile, frames, map, screen, defects, the roll's map


def test_walk_along_a_roll_makes_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a bundle alone, here one that accepts whatever it sees, a roll with edges that wander is made."""
    write_walked_bundle(tmp_path / "blind.zellige", replace(CALIBRATION, **BLIND))
    monkeypatch.setenv("ZELLIGE_BUNDLE", str(tmp_path / "blind.zellige"))
    (tmp_path / "empty").mkdir()
    text, num_pictures = executed(FOLDER / "03_walk_along_a_roll.ipynb", tmp_path / "empty")
    assert re.search("wander of the left edge: [1-9]", text)
    assert "0 hits, 6 escapes, 0 false alarms" in text
    assert num_pictures == 8
    assert list((tmp_path / "empty").iterdir()) == []


def test_walk_along_a_roll_says_what_to_do_without_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(CellExecutionError, match="There is no bundle: make one with `make demo`"):
        executed(FOLDER / "03_walk_along_a_roll.ipynb", tmp_path)
