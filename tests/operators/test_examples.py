"""The worked examples of custom operators, as the page on them says."""

from __future__ import annotations

import ast
import datetime
import pathlib
import re

import pytest

from operators import custom
from operators.deliveries.outcome import Next
from operators.examples.header_by_tag import header_by_tag
from operators.examples.office_hours import office_hours, opening
from operators.examples.skeleton import skeleton
from tests.support.live import Trial, delivery

FOLDER = pathlib.Path(__file__).parent.parent.parent / "operators"
PAGE = (FOLDER.parent / "docs" / "operators.md").read_text()
EXAMPLES = [path for path in sorted((FOLDER / "examples").glob("*.py")) if path.stem != "__init__"]


def at(text: str) -> float:
    return datetime.datetime.fromisoformat(f"{text}+00:00").timestamp()


def test_the_skeleton_hands_everything_on() -> None:
    """Copied and unchanged it does no harm."""
    one, other = delivery(), delivery()
    assert Trial(skeleton).give(one, other) == [one, other]


def test_a_tag_brings_its_header_field() -> None:
    """In front, the rest of the message byte for byte as it was."""
    (got,) = Trial(header_by_tag).give(delivery(tags=["alert", "other"]))
    assert got.source == b"Importance: high\r\nSubject: x\r\n\r\nx\r\n"


def test_a_message_without_such_a_tag_is_the_same_object() -> None:
    """Nothing is copied for nothing."""
    one = delivery(tags=["other"])
    assert Trial(header_by_tag).give(one)[0] is one


def test_mail_at_night_waits_for_the_morning() -> None:
    """Not an attempt: back to the queue until then."""
    trial, one = Trial(office_hours, now=at("2030-01-01 03:00")), delivery("office.example")
    trial.give(one)
    outcome = trial.outcome(one)
    assert (outcome.next, outcome.until) == (Next.POSTPONE, at("2030-01-01 08:00"))
    assert outcome.description == "office.example takes mail from 08:00:00 to 18:00:00 UTC"


def test_mail_in_the_daytime_and_to_others_goes_at_once() -> None:
    """The hours begin while it runs."""
    trial = Trial(office_hours, now=at("2030-01-01 07:59:59"))
    trial.give(delivery())
    trial.wait(1)
    assert [one.outcome for one in trial.give(delivery("office.example"))] == [None, None]


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        ("2030-01-01 08:00", "2030-01-01 08:00"),
        ("2030-01-01 17:59:59", "2030-01-01 17:59:59"),
        ("2030-01-01 18:00", "2030-01-02 08:00"),
        ("2029-12-31 23:59:59", "2030-01-01 08:00"),
    ],
)
def test_the_hours_begin_at_eight_and_end_at_six(now: str, opens: str) -> None:
    """The first second belongs to them, the last does not."""
    assert opening(at(now)) == at(opens)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_needs_nothing_but_the_vocabulary(path: pathlib.Path) -> None:
    """`operators` and reactivex: what an author, too, can import."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    ours = {str(node.module).partition(".")[0] for node in nodes}
    assert ours <= {"__future__", "operators", "reactivex"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_on_the_page(path: pathlib.Path) -> None:
    """And says in its docstring how it is started."""
    assert f"examples/{path.name}" in PAGE
    assert re.search(rf"--operators operators\.examples\.{path.stem}:{path.stem}@[a-z]+\n", path.read_text())


def test_a_custom_operator_needs_one_import_line() -> None:
    """What docs/operators.md and the examples use is imported from `operators.custom`, and nothing else of ours is."""
    sources = [PAGE, *(path.read_text() for path in EXAMPLES)]
    lines = re.findall(r"^from (operators[\w.]*) import (.*)$", "\n".join(sources), re.MULTILINE)
    assert len(lines) == len(sources)
    assert {module for module, _ in lines} == {"operators.custom"}
    assert {name for _, names in lines for name in names.split(", ")} <= set(custom.__all__)
    assert all(hasattr(custom, name) for name in custom.__all__)
    for name in custom.__all__:
        assert f"`{name}`" in PAGE, name
