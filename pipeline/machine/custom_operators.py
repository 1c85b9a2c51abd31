"""Custom operators: found by the key `operators` and the entry points `mailrace.operators`, and put into the chain.

Nothing is kept here. What cannot be loaded is a `StartError` with one line, before anything has started; what goes
wrong later is the guard's (`operators.custom.guard`).
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from operators.custom.guard import Tell, custom
from operators.custom.live import Function, Live
from settings import StartError

GROUP = "mailrace.operators"  # entry points, named `stage.anything`
EARLY = (
    "decode",
    "expire",
    "suppress",
    "rewrite",
    "resolve",
    "assign",
    "redirect",
    "force",
    "hold",
    "throttle",
    "compose",
    "sign",
)
LATE = ("deliver", "classify", "conclude", "record")  # behind the attempt: deliveries have their outcome
STAGES = EARLY + LATE


class Custom(msgspec.Struct, frozen=True):
    """A custom operator: its name, the stage that it stands behind, and what makes it."""

    name: str
    stage: str
    function: Function


def load(configured: Sequence[str]) -> list[Custom]:
    """Those of the configuration in their order, then those of installed packages, by name.

    Args:
        configured: `module:function@stage`, each.

    Raises:
        StartError: one cannot be loaded; the line says which, why, and what is allowed.
    """
    return [_configured(name) for name in configured] + _installed()


def woven(customs: Sequence[Custom], live: Callable[[Custom], Live], tell: Tell, **stages: Any) -> list[Any]:
    """The stages in their order, each followed by the custom operators that stand behind it."""
    return [
        operator
        for name, stage in stages.items()
        for operator in (stage, *(custom(own.function, live(own), tell) for own in customs if own.stage == name))
    ]


def _configured(name: str) -> Custom:
    where = f"operators: {name}"
    path, _, stage = name.partition("@")
    _check_stage(where, stage)
    module_name, _, function_name = path.partition(":")
    module = _imported(where, module_name)
    function = getattr(module, function_name, None)
    if function is None:
        raise StartError(f"{where}: {module_name} has no {function_name}; it has {_functions(module)}")
    return Custom(name, stage, _checked(where, function))


def _installed() -> list[Custom]:
    points = importlib.metadata.entry_points(group=GROUP)
    return [_from_entry_point(point) for point in sorted(points, key=lambda point: (point.name, point.value))]


def _from_entry_point(point: importlib.metadata.EntryPoint) -> Custom:
    package = f" of {point.dist.name}" if point.dist is not None else ""
    where = f"entry point {point.name!r}{package}"
    stage, dot, _ = point.name.partition(".")
    if not dot:
        raise StartError(f"{where}: must be named stage.anything; a stage is one of {', '.join(STAGES)}")
    _check_stage(where, stage)
    module = _imported(where, point.module)
    function = getattr(module, point.attr, None)
    if function is None:
        raise StartError(f"{where}: {point.module} has no {point.attr}; it has {_functions(module)}")
    return Custom(f"{point.value}@{stage}", stage, _checked(where, function))


def _check_stage(where: str, stage: str) -> None:
    if stage not in STAGES:
        raise StartError(f"{where}: there is no stage {stage!r}; there are {', '.join(STAGES)}")


def _imported(where: str, name: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            hint = "it must be installed, or in a folder that PYTHONPATH names"
            raise StartError(f"{where}: there is no module {error.name}; {hint}") from None
        raise StartError(f"{where}: {name} cannot be imported: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    """`NameError: name 'x' is not defined (rules.py, line 12)`."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    at = "" if isinstance(error, SyntaxError) else f" ({frame.filename}, line {frame.lineno})"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}{at}"


def _functions(module: Any) -> str:
    """The functions that a module defines, for an error's text."""
    names = [
        name for name, one in vars(module).items() if inspect.isfunction(one) and one.__module__ == module.__name__
    ]
    return ", ".join(name for name in names if not name.startswith("_")) or "no functions"


def _checked(where: str, function: Any) -> Function:
    """Callable with (source, live); raises `StartError`."""
    if not callable(function):
        raise StartError(f"{where}: is a {type(function).__name__}, not a function")
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        taken = inspect.signature(function)
        raise StartError(f"{where}: takes {taken}, but must take two: (source, live)") from None
    except ValueError:  # built in C, says nothing of itself
        pass
    result: Function = function
    return result
