"""The README is complete: what the code has, it says."""

import re

import pytest

import mailrace
from tests.support.readme import PARTS, README, ROOT, part

TEXT = README.read_text()


@pytest.mark.parametrize("name", PARTS)
def test_the_readme_says_what_the_code_says(name: str) -> None:
    """Config keys, log fields, metrics, operators; `python -m tests.support.readme` brings them up to date."""
    assert part(TEXT, name) == PARTS[name]().strip()


@pytest.mark.parametrize("command", mailrace.COMMANDS)
def test_every_command_is_documented(command: str) -> None:
    """As it is typed."""
    assert f"`mailrace {command}" in TEXT


@pytest.mark.parametrize(
    "package", ["reactivex", "nicegui", "aio-pika", "aiosmtpd", "aiosmtplib", "dkimpy", "dnspython"]
)
def test_every_library_has_its_reason(package: str) -> None:
    """Under "What it stands on"."""
    assert package in TEXT.partition("## What it stands on")[2]


def test_every_dependency_has_its_reason() -> None:
    """Each of pyproject's, too."""
    wanted = re.search(r"^dependencies = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)
    assert wanted is not None
    section = TEXT.partition("## What it stands on")[2].partition("\n## ")[0]
    for name in re.findall(r'^    "([a-z0-9-]+)', wanted[1], re.MULTILINE):
        assert name in section, name


def test_the_readme_s_links_lead_somewhere() -> None:
    """Files that it names are there."""
    for target in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (ROOT / target).exists(), target
