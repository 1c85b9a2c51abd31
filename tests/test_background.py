"""Everything that runs in the background is started through a door of the supervisor, or says here why it is not."""

import ast
from collections.abc import Iterator

from tests.support.sources import ROOT, SOURCES, calls

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
    ("pipeline/commands/speak.py", "Thread"): "of a command, and ends with it: what cannot be read ends the session",
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


def called() -> Iterator[tuple[str, str, ast.Call]]:
    """Each call: its file, the name that is called, and the call."""
    for path in SOURCES:
        for name, call in calls(path):
            yield str(path.relative_to(ROOT)), name, call


def test_tasks_threads_and_children_start_through_the_doors() -> None:
    """K5, K11: a bare task, thread or process fails where nobody hears it."""
    started = [one for one in called() if one[1] in TASKS | THREADS | CHILDREN and one[0] not in DOORS]
    assert [f"{file}:{call.lineno} {name}" for file, name, call in started if (file, name) not in REASONS] == []


def test_a_subscription_says_what_happens_when_its_source_fails() -> None:
    """K11: RxPY raises at whoever pushes, where there is no `on_error`."""
    deaf = [
        f"{file}:{call.lineno}"
        for file, name, call in called()
        if name == "subscribe" and file not in OBSERVERS and len(call.args) < 2
        if "on_error" not in {keyword.arg for keyword in call.keywords}
    ]
    assert deaf == []


def test_each_reason_is_still_needed() -> None:
    """What was mended leaves the list."""
    found = {(file, name) for file, name, _ in called()}
    assert set(REASONS) <= found
    assert {(file, "subscribe") for file in OBSERVERS} <= found
