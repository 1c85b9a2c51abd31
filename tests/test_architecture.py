"""The house: imports run one way, `gui` has one door, no rooms stand in a circle, and `operators` is pure."""

from __future__ import annotations

import ast
import collections
import functools
import graphlib
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterable

import pytest

from tests.support.sources import FLOORS, ROOT, SOURCES, nodes, tree

# Databases, networks and processes. reactivex loads asyncio, ssl and subprocess by itself, which cannot be helped.
IMPURE = {
    "aio_pika", "aiormq", "aiosmtpd", "aiosmtplib", "alembic", "dns", "duckdb", "httpx", "multiprocessing", "nicegui",
    "psycopg", "pymysql", "sqlalchemy", "sqlite3", "uvicorn",
}  # fmt: skip
IO = IMPURE | {"asyncio", "random", "secrets", "socket", "ssl", "subprocess", "threading"}
EXCUSED = {
    "operators.custom.guard": {"threading"},  # asks in which thread it is, to refuse another one
    "operators.deliveries.routes": {"random"},  # the default of `chance`, which a test gives
}
# What a pure module does not call: its caller gives it the time, and what was read.
CALLS = {
    "time.time", "time.monotonic", "time.sleep", "datetime.now", "datetime.utcnow", "datetime.datetime.now",
    "datetime.date.today", "date.today", "open",
}  # fmt: skip

MOST = 14  # modules of a folder's own
# Folders that have more, and why one finds one's way in them.
LARGE = {
    "gui/api": (18, "each is a part of one of the two APIs, ours and MailerQ's"),
    "gui/components": (16, "each is one part of a page, and is named as the page shows it"),
    "gui/pages": (29, "each is one entry of the menu"),
    "operators/mail": (22, "the vocabulary of one message, a value or a pure function each"),
    "operators/stages": (15, "each is one line of the chain"),
    "pipeline/queues/rabbitmq": (15, "the parts of one class, which nothing outside imports"),
    "pipeline/views": (26, "half of them define nothing: they name what pages may import"),
    "settings/rules": (20, "the models of the kinds, and what they are made of"),
}


def floor(path: pathlib.Path) -> str:
    """The floor that a file is on."""
    return path.relative_to(ROOT).parts[0]


def name(path: pathlib.Path) -> str:
    """The module of a file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name(path) for path in SOURCES}


@functools.cache
def imports(path: pathlib.Path, for_types: bool = True) -> frozenset[str]:
    """The modules that a file imports, wherever in it; those under `TYPE_CHECKING` where they are asked for."""
    skipped: set[ast.AST] = set()
    for branch in nodes(path, ast.If):
        if ast.unparse(branch.test) == "TYPE_CHECKING" and not for_types:
            skipped.update(ast.walk(branch))
    found = {alias.name for node in nodes(path, ast.Import) if node not in skipped for alias in node.names}
    for node in nodes(path, ast.ImportFrom):
        assert node.module and not node.level, f"{path}: relative imports hide where they lead"
        if node not in skipped:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (whole & MODULES) | ({node.module} if whole - MODULES else set())
    return frozenset(found)


def wrong(floors: Iterable[str], find: Callable[[pathlib.Path], set[str]]) -> dict[str, set[str]]:
    """What is found in the modules of these floors, by module; nothing where all is well."""
    return {name(path): found for path in SOURCES if floor(path) in floors and (found := find(path))}


def roots(path: pathlib.Path) -> set[str]:
    """The top-level packages that a file imports."""
    return {module.partition(".")[0] for module in imports(path)}


# -- directions, and the door


def test_imports_run_downward_only() -> None:
    """gui -> pipeline -> operators -> settings; types included."""
    above = {one: {*FLOORS[number + 1 :], "mailrace", "tests"} for number, one in enumerate(FLOORS)}
    assert wrong(FLOORS, lambda path: roots(path) & above[floor(path)]) == {}


def test_nothing_below_gui_imports_nicegui() -> None:
    """The machine runs without the console."""
    assert wrong(FLOORS[:-1], lambda path: roots(path) & {"nicegui", "fastapi", "starlette", "uvicorn"}) == {}


def test_the_console_has_one_door() -> None:
    """Of the program it imports `pipeline.views`, and the configuration and the rules below it; nothing else."""

    def past(path: pathlib.Path) -> set[str]:
        inside = {module for module in imports(path) if module.startswith(("operators.", "pipeline."))}
        return {module for module in inside if not module.startswith("pipeline.views.")}

    assert wrong(["gui"], past) == {}


def test_nobody_reaches_through_the_door() -> None:
    """What the facade and its views stand on is their own."""

    def through(path: pathlib.Path) -> set[str]:
        used = nodes(path, ast.Attribute)
        of_it = {node.attr for node in used if re.search(r"facade(\.\w+)?$", ast.unparse(node.value))}
        return {one for one in of_it if one.startswith("_") or one == "machine"}

    assert wrong(["gui"], through) == {}


def test_whoever_uses_a_queue_asks_the_contract() -> None:
    """What a broker cannot do it answers so: outside `pipeline.queues` nobody looks which queue it is."""

    def kinds(path: pathlib.Path) -> set[str]:
        queues = {"EmbeddedQueue", "RabbitQueue"}
        return {node.id for node in nodes(path, ast.Name)} & queues

    assert {module for module in wrong(FLOORS, kinds) if not module.startswith("pipeline.queues")} == set()


# -- rooms

INNER = ("pipeline.log", "pipeline.queues", "pipeline.smtp")  # rooms that have rooms
ENTRANCES = {"pipeline.queues"}  # a package whose `__init__` chooses between its rooms: it stands above them


def room(module: str) -> str:
    """The package on the second level that a module is in, or the module where it is in none."""
    parts = module.split(".")
    deep = 3 if ".".join(parts[:2]) in INNER else 2
    return module if module in ENTRANCES else ".".join(parts[:deep])


def test_no_rooms_stand_in_a_circle() -> None:
    """Whoever changes a room looks at those below it, and at no others."""
    graph: dict[str, set[str]] = collections.defaultdict(set)
    for path in SOURCES:
        here = room(name(path))
        there = {room(module) for module in imports(path, for_types=False) if module.partition(".")[0] in FLOORS}
        graph[here] |= there - {here, floor(path)}
    assert list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Then any module can be imported first; a package's `__init__` is a module of its own here."""
    graph = {name(path): set(imports(path, for_types=False)) & MODULES - {name(path)} for path in SOURCES}
    assert list(graphlib.TopologicalSorter(graph).static_order())


def test_folders_are_small_enough_to_look_over() -> None:
    """About a dozen modules; what is larger says why, and grows no further by itself."""
    folders = collections.Counter(str(path.parent.relative_to(ROOT)) for path in SOURCES if path.stem != "__init__")
    assert {folder: count for folder, count in folders.items() if count > MOST} == {
        folder: count for folder, (count, _) in LARGE.items()
    }


# -- purity


def test_operators_do_no_io() -> None:
    """What an operator needs from the outside it takes as a callable."""
    assert wrong(["operators"], lambda path: (roots(path) & IO) - EXCUSED.get(name(path), set())) == {}


def test_operators_have_no_clock_and_no_chance_of_their_own() -> None:
    """A test gives them both, and they do the same each time."""

    def called(path: pathlib.Path) -> set[str]:
        return {ast.unparse(node.func) for node in nodes(path, ast.Call)} & CALLS

    assert wrong(["operators"], called) == {}


@pytest.mark.slow
def test_operators_load_no_database_network_or_process_library() -> None:
    """Not even through others: all of them are imported in a fresh process."""
    wanted = ", ".join(name(path) for path in SOURCES if floor(path) == "operators")
    program = f"import sys; import {wanted}; print(*(sys.modules.keys() & {IMPURE!r}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


# -- names and words


def test_public_class_names_are_unique() -> None:
    """One name, one thing."""
    found: dict[str, list[str]] = collections.defaultdict(list)
    for path in SOURCES:
        for node in nodes(path, ast.ClassDef):
            if not node.name.startswith("_"):
                found[node.name].append(name(path))
    assert {one: where for one, where in found.items() if len(where) > 1} == {}


def test_every_module_says_what_it_is() -> None:
    """A module without a docstring has no owner."""
    assert [name(path) for path in SOURCES if not ast.get_docstring(tree(path))] == []


def test_every_package_stands_in_the_architecture() -> None:
    """With what its docstring says; `tests.support.docs` writes the table."""
    drawn = (ROOT / "docs" / "architecture.md").read_text()
    for path in SOURCES:
        if path.stem == "__init__":
            first = (ast.get_docstring(tree(path)) or "").split("\n\n")[0].replace("\n", " ")
            assert f"| `{path.parent.relative_to(ROOT)}/` | {first} |" in drawn
