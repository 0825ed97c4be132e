"""Every notebook runs from top to bottom and is committed without outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.pipeline.conftest import RUNS, Compared

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


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
    for name in ("ZELLIGE_DATA_ROOT", "ZELLIGE_DATA_LAYOUT", "ZELLIGE_STORE", "ZELLIGE_EXPERIMENT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")


def test_the_notebooks_are_found() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["01_look_at_data", "02_compare_runs"]


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
