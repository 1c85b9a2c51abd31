"""The notebooks run from end to end on the demo's sample, draw, and find what the sample has in it.

Jupyter is imported where it is used: it takes seconds, which every run of any test would pay when tests are collected.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.demo import sample
from pipeline.machine.custom_operators import load
from settings.rules import Flood

if TYPE_CHECKING:
    from jupyter_client.manager import KernelManager
    from nbformat import NotebookNode

FOLDER = Path(__file__).parent.parent.parent / "notebooks"
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))

# For each: plots at least, and what its last words must speak of, since it happened on the sample's day.
EXPECTED = {
    "deliverability": (5, [r"0\.3 to mx1\.lookout\.example", r"0\.3 to mx1\.yippee\.example", "campaign"]),
    "incident": (1, ["attempts went wrong; usual are", "from 127.0.0.3", "Most heard", "messages put off"]),
    "operators": (2, [r"127\.0\.0\.3/mx1\.lookout\.example", r"60 seconds of rest", "spare the most"]),
    "responses": (4, [r"5 blocks began", r"127\.0\.0\.3/mx1\.lookout\.example\S* at 10:", "2 flood patterns"]),
    "throughput": (7, [r"127\.0\.0\.3/mx1\.bigmail\.example", "password-reset", r"mx1\.lookout\.example\S* was \d"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelManager]:
    """One for all notebooks: what they import takes as long as what they do."""
    from jupyter_client.manager import KernelManager

    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(FOLDER))
    yield manager
    manager.shutdown_kernel(now=True)


def executed(name: str, kernel: KernelManager, logs: Path | None = None) -> NotebookNode:
    """A notebook with its outputs, run as Jupyter runs it, in an empty namespace. `logs`: what MAILRACE_LOGS names."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    named = {"MAILRACE_LOGS": str(logs)} if logs else {}
    forget = "for name in ('MAILRACE_LOGS', 'MAILRACE_URL'): os.environ.pop(name, None)"
    begin = nbformat.v4.new_code_cell(f"%reset -f\nimport os\n{forget}\nos.environ.update({named!r})\ndel os")
    notebook.cells.insert(0, begin)
    NotebookClient(notebook, km=kernel, timeout=100).execute()
    return notebook


def outputs(notebook: NotebookNode, kind: str) -> list[str]:
    """All outputs of a MIME type, in their order."""
    return [
        output["data"][kind]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if kind in output.get("data", {})
    ]


def printed(notebook: NotebookNode) -> str:
    """What it printed."""
    return "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))


def test_every_notebook_is_expected_here() -> None:
    """A new one gets its line."""
    assert sorted(EXPECTED) == NOTEBOOKS


@pytest.mark.system
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_draws_and_says_what_it_found(name: str, kernel: KernelManager) -> None:
    """From a fresh clone, without a log of one's own."""
    notebook = executed(name, kernel)
    plots, words = EXPECTED[name]
    assert len(outputs(notebook, "image/png")) >= plots
    assert "The demo’s sample" in printed(notebook)
    said = outputs(notebook, "text/markdown")[-1]
    assert said.startswith("### What this log says")
    for pattern in words:
        assert re.search(pattern, said), pattern
    errors = [output for cell in notebook.cells for output in cell.get("outputs", []) if output.get("name") == "stderr"]
    assert not errors
    if name == "responses":
        bodies = [json.loads(line) for line in printed(notebook).splitlines() if line.startswith("{")]
        assert [Flood.model_validate(body).pattern for body in bodies] == [
            "too many connections from your ip",
            "temporarily deferred due to unexpected volume or user complaints",
        ]


@pytest.mark.system
@pytest.mark.timeout(240)
def test_a_notebook_reads_the_log_that_mailrace_logs_names(tmp_path: Path, kernel: KernelManager) -> None:
    """A log of one's own, in place of the sample; a smaller one, with less in it, does too."""
    sample.write(tmp_path / "logs", messages=4_000, seed=7)
    notebook = executed("deliverability", kernel, tmp_path / "logs")
    assert str(tmp_path / "logs" / "send.jsonl") in printed(notebook)
    assert outputs(notebook, "text/markdown")[-1].startswith("### What this log says")


@pytest.mark.system
@pytest.mark.timeout(240)
def test_an_incident_is_told_of_any_log(tmp_path: Path, kernel: KernelManager) -> None:
    """Also of one with a single attempt, in which nothing went wrong."""
    line = {"time": "2027-01-15T10:00:00.000Z", "recipient": "a@b.example", "domain": "b.example", "next": "delivered"}
    (tmp_path / "send.jsonl").write_text(json.dumps({"v": 1, **line, "result": "accepted", "state": "message"}) + "\n")
    said = outputs(executed("incident", kernel, tmp_path), "text/markdown")[-1]
    assert "there is no incident to tell of" in said


def test_the_machine_loads_the_operators_of_the_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the notebook's last words say: the cell with its imports, as a module of one's own."""
    notebook = json.loads((FOLDER / "operators.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"]]
    imports = [
        line for line in cells[1].splitlines() if re.match("from (operators|reactivex) ", line.replace(".", " "))
    ]
    (tmp_path / "mine_of_the_notebook.py").write_text("\n".join([*imports, cells[3]]))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "--operators mine:rest@hold,mine:hear@deliver" in "".join(cells)
    loaded = load(["mine_of_the_notebook:rest@hold", "mine_of_the_notebook:hear@deliver"])
    assert [(one.function.__name__, one.stage) for one in loaded] == [("rest", "hold"), ("hear", "deliver")]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_are_kept_without_outputs(name: str) -> None:
    """A change of a notebook is a change of its text, and no output is out of date."""
    for cell in json.loads((FOLDER / f"{name}.ipynb").read_text())["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.parametrize("path", [*FOLDER.glob("*.py"), *sorted(FOLDER.glob("*.ipynb"))], ids=lambda path: path.name)
def test_notebooks_read_the_log_through_the_query_alone(path: Path) -> None:
    """One reader for the console, the command line and the notebooks."""
    text = path.read_text()
    for reader in (
        "import duckdb",
        "read_json",
        "read_parquet",
        "read_csv",
        "pipeline.log.reading.source",
        ".read_text(",
    ):
        assert reader not in text


@pytest.mark.system
@pytest.mark.timeout(240)
def test_a_notebook_says_what_a_log_lacks_and_ends(tmp_path: Path, kernel: KernelManager) -> None:
    """One answer is too little to compare, and an old log has no lanes: neither is a traceback."""
    from nbclient.exceptions import CellExecutionError

    old = {"v": 1, "time": "2027-01-15T10:00:00.000Z", "recipient": "a@b.example", "result": "error", "next": "fail"}
    one = old | {"lane": "192.0.2.1/mx.b.example", "description": "no", "mta_ip": "192.0.2.1", "domain": "b.example"}
    for line, name, lack in (
        (old, "throughput", "no attempt of this log says lane or queued or wire or attempt"),
        (one, "responses", "fewer than two different negative answers"),
    ):
        (tmp_path / "send.jsonl").write_text(json.dumps(line) + "\n")
        with pytest.raises(CellExecutionError, match=lack):
            executed(name, kernel, tmp_path)
