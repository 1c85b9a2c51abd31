"""The sources, as a test of the house reads them: each file is parsed, and walked over, once."""

from __future__ import annotations

import ast
import collections
import functools
import pathlib
from collections.abc import Iterator
from typing import Any, TypeVar

ROOT = pathlib.Path(__file__).parent.parent.parent
FLOORS = ["settings", "operators", "pipeline", "gui"]  # from the ground up
SOURCES = [path for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py"))]

_Node = TypeVar("_Node", bound=ast.AST)


@functools.cache
def tree(path: pathlib.Path) -> ast.Module:
    """A file, parsed."""
    return ast.parse(path.read_text())


@functools.cache
def _kinds(path: pathlib.Path) -> dict[type[ast.AST], list[Any]]:
    found: dict[type[ast.AST], list[Any]] = collections.defaultdict(list)
    for node in ast.walk(tree(path)):
        found[type(node)].append(node)
    return found


def nodes(path: pathlib.Path, kind: type[_Node]) -> list[_Node]:
    """All nodes of a kind in a file, wherever in it."""
    return _kinds(path).get(kind, [])


def calls(path: pathlib.Path) -> Iterator[tuple[str, ast.Call]]:
    """The calls in a file, by the last name of what is called."""
    for node in nodes(path, ast.Call):
        match node.func:
            case ast.Attribute(attr=name) | ast.Name(id=name):
                yield name, node
