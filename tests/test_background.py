"""Everything that runs in the background is started through a door of the supervisor, or says here why it is not."""

import ast
import pathlib
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parent.parent
SOURCES = [
    path for floor in ("settings", "operators", "pipeline", "gui") for path in sorted((ROOT / floor).rglob("*.py"))
]
TASKS = {"create_task", "ensure_future", "run_coroutine_threadsafe"}
THREADS = {"Thread", "Timer", "ThreadPoolExecutor", "ProcessPoolExecutor", "run_in_executor"}
CHILDREN = {"Popen", "subprocess_exec", "subprocess_shell", "create_subprocess_exec", "create_subprocess_shell", "fork"}
CHILDREN |= {"spawnv", "system", "popen", "check_output", "check_call", "posix_spawn"}
DOORS = {"pipeline/process/supervisor.py", "pipeline/process/children.py"}

# What is started past the doors, and who hears it when it fails.
REASONS = {
    ("settings/store/store.py", "create_task"): "named; `hear` counts it by its name, and the floor below has no doors",
    ("settings/store/suppressions.py", "create_task"): "named; `hear` counts it by its name",
    ("settings/store/store.py", "ThreadPoolExecutor"): "its work is awaited",
    ("settings/store/store.py", "run_in_executor"): "is awaited",
    ("pipeline/process/hashing.py", "ThreadPoolExecutor"): "its work is awaited",
    ("pipeline/process/hashing.py", "run_in_executor"): "is awaited",
    ("gui/api/idempotency.py", "ThreadPoolExecutor"): "its work is awaited",
    ("gui/api/idempotency.py", "run_in_executor"): "is awaited",
    (
        "pipeline/process/destinations.py",
        "Thread",
    ): "it catches everything, and is the log itself: `trouble` and `lost` say it",
    ("pipeline/process/begin.py", "Thread"): "in a child: it waits for one byte, and ends the process",
    ("pipeline/demo/traffic.py", "create_task"): "in a task group, which is awaited by a task of the supervisor's",
}
# The observers that stand without `on_error`: the one event stream never fails, and hears each of them (`Fanout`);
# `submit` works at once, and raises at whoever asked.
OBSERVERS = {
    "pipeline/views/submit.py",
    "pipeline/views/facade.py",
    "pipeline/telemetry/telemetry.py",
    "pipeline/telemetry/history.py",
    "pipeline/telemetry/backlog.py",
    "pipeline/views/state/lens.py",
    "pipeline/views/queue_monitor.py",
    "gui/api/events.py",
}


def calls(path: pathlib.Path) -> Iterator[tuple[str, ast.Call]]:
    """The calls in a file, by the last name of what is called."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            match node.func:
                case ast.Attribute(attr=name) | ast.Name(id=name):
                    yield name, node


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_tasks_threads_and_children_start_through_the_doors(path: pathlib.Path) -> None:
    """K5, K11: a bare task, thread or process fails where nobody hears it."""
    file = str(path.relative_to(ROOT))
    if file in DOORS:
        return
    bare = {name for name, _ in calls(path) if name in TASKS | THREADS | CHILDREN}
    assert bare <= {name for other, name in REASONS if other == file}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_subscription_says_what_happens_when_its_source_fails(path: pathlib.Path) -> None:
    """K11: RxPY raises at whoever pushes, where there is no `on_error`."""
    file = str(path.relative_to(ROOT))
    if file in OBSERVERS:
        return
    for name, call in calls(path):
        if name == "subscribe":
            keywords = {keyword.arg for keyword in call.keywords}
            assert len(call.args) >= 2 or "on_error" in keywords, f"{file}:{call.lineno}"


def test_each_reason_is_still_needed() -> None:
    """What was mended leaves the list."""
    found = {(str(path.relative_to(ROOT)), name) for path in SOURCES for name, _ in calls(path)}
    assert set(REASONS) <= found
    assert {(file, "subscribe") for file in OBSERVERS} <= found
