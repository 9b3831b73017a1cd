"""The notebooks of examples/ run from their first cell to their last, and say what they are there to say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient", reason="notebooks are run by nbclient and ipykernel")
import nbformat  # noqa: E402

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(path.name for path in EXAMPLES.glob("*.ipynb"))


def run(name: str, folder: Path) -> list[str]:
    """What each cell of code printed or showed."""
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    said = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            texts = [output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
            said.append("\n".join(texts))
    return said


def figures(text: str, pattern: str) -> list[float]:
    return [float(number) for number in re.findall(pattern, text)]


def test_notebooks_are_kept_without_what_they_print():
    assert NOTEBOOKS == ["negatives.ipynb", "quickstart.ipynb"]
    for name in NOTEBOOKS:
        notebook = nbformat.read(EXAMPLES / name, as_version=4)
        nbformat.validate(notebook)
        for cell in notebook.cells:
            assert cell.cell_type != "code" or (not cell.outputs and cell.execution_count is None), name


def test_quickstart_finds_the_shelves_that_it_planted(tmp_path):
    said = run("quickstart.ipynb", tmp_path)
    (rates,) = [line for text in said for line in text.splitlines() if "popularity alone" in line]
    model, popularity = figures(rates, r"\b0\.\d+")
    assert model > 1.3 * popularity
    (own,) = [text.strip() for text in said if re.fullmatch(r"\d\s*", text)]
    assert int(own) >= 3
    assert sum("shelf-3-" in text for text in said) >= 1 and "item-knn" in said[-1]


def test_what_is_learnt_without_the_correction_ranks_worse(tmp_path):
    said = run("negatives.ipynb", tmp_path)
    rates = dict(re.findall(r"(\S.*?) +HR@20 ([\d.]+)", said[-1]))
    rates = {name: float(rate) for name, rate in rates.items()}
    assert len(rates) == 5, said[-1]
    assert rates["the batch, corrected"] > rates["the batch, uncorrected"] + 0.05
    assert rates["batch, bank and draws, corrected"] > rates["256 uniform draws, corrected"]
    (errors,) = [text for text in said if "off by" in text]
    corrected, uncorrected = figures(errors, r"(\d\.\d+) (?:corrected|uncorrected)")
    assert corrected < 0.25 * uncorrected
    drawn = re.findall(r"drawn ([\d.]+), q ([\d.]+)", "\n".join(said))
    assert len(drawn) == 4 and all(abs(float(share) - float(q)) < 0.003 for share, q in drawn)
