"""The house: imports run one way, and the lower floors open no doors."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
FLOORS = ["settings", "operators", "pipeline", "gui"]  # from the ground up
IO = {"aio_pika", "aiosmtplib", "aiosmtpd", "socket", "sqlite3", "asyncio", "subprocess", "dns", "sqlalchemy"}
SOURCES = [path for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py"))]


def imported(path: pathlib.Path) -> set[str]:
    """The top-level packages that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downward_only(path: pathlib.Path) -> None:
    """gui -> pipeline -> operators -> settings."""
    floor = FLOORS.index(path.relative_to(ROOT).parts[0])
    assert not imported(path) & {*FLOORS[floor + 1 :], "mailrace", "tests"}


@pytest.mark.parametrize("path", [path for path in SOURCES if path.parts[len(ROOT.parts)] != "gui"], ids=str)
def test_nothing_below_gui_imports_nicegui(path: pathlib.Path) -> None:
    """The machine runs without the console."""
    assert "nicegui" not in imported(path)


@pytest.mark.parametrize("path", sorted((ROOT / "operators").glob("*.py")), ids=lambda path: path.name)
def test_operators_do_no_io(path: pathlib.Path) -> None:
    """What an operator needs from the outside it takes as a callable."""
    assert not imported(path) & IO


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_what_it_is(path: pathlib.Path) -> None:
    """A module without a docstring has no owner."""
    tree = ast.parse(path.read_text())
    assert not tree.body or ast.get_docstring(tree)
