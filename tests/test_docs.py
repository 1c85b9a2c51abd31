"""The documents are complete: what the code has, they say; and what they name is there."""

import pathlib
import re

import pytest

import mailrace
from tests.support.docs import DOCS, PARTS, ROOT, part
from tests.support.notice import NOTICE, is_lesser, packages

README = ROOT / "README.md"
PAGES = [README, *sorted(DOCS.glob("*.md"))]


@pytest.mark.parametrize("name", PARTS)
def test_the_documents_say_what_the_code_says(name: str) -> None:
    """Config keys, log fields, metrics, operators, rooms; `python -m tests.support.docs` brings them up to date."""
    assert part(name) == PARTS[name][1]().strip()


@pytest.mark.parametrize("command", mailrace.COMMANDS)
def test_every_command_is_documented(command: str) -> None:
    """As it is typed."""
    assert f"`mailrace {command}" in (DOCS / "configuration.md").read_text()


def test_every_dependency_has_its_reason() -> None:
    """Each of pyproject's, under "What it stands on"."""
    wanted = re.search(r"^dependencies = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)
    assert wanted is not None
    section = (DOCS / "CONTRIBUTING.md").read_text().partition("## What it stands on")[2].partition("\n## ")[0]
    for name in re.findall(r'^    "([a-z0-9-]+)', wanted[1], re.MULTILINE):
        assert name in section, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: pathlib.Path) -> None:
    """Files that a page names are there, and so are the headings."""
    for target in re.findall(r"\]\(([^):]+)\)", page.read_text()):
        file, _, heading = target.partition("#")
        there = (page.parent / file) if file else page
        assert there.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)
            assert heading in {re.sub(r"[^a-z0-9 -]", "", one.lower()).replace(" ", "-") for one in titles}, target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_modules_are_there(page: pathlib.Path) -> None:
    """Paths of the tree that a page names in backticks."""
    for path in re.findall(
        r"`((?:operators|pipeline|settings|gui|tests|deploy|docs|notebooks)/[\w./-]*)`", page.read_text()
    ):
        assert (ROOT / path).exists(), path


def test_the_readme_is_short() -> None:
    """What, for whom, two commands, a picture, where to read on."""
    assert len(README.read_text().splitlines()) <= 130


def test_the_notice_names_each_package_and_its_licence() -> None:
    """`python -m tests.support.notice` writes it anew."""
    text = NOTICE.read_text()
    for name in packages():
        line = re.search(rf"^([* ]) {re.escape(name)}: (.+)$", text, re.MULTILINE)
        assert line is not None, name
        assert (line[1] == "*") == is_lesser(line[2]), name
