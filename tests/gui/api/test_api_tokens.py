"""The tokens of the API."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from gui.api.tokens import MOST, Tokens
from settings import StartError


def test_a_token_is_kept_as_its_hash_only(tmp_path: Path) -> None:
    """In a file that only we may read; it outlives a restart."""
    token = Tokens(tmp_path / "tokens").make("backup")
    kept = tmp_path / "tokens"
    assert token not in kept.read_text()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert Tokens(kept).holder(f"Bearer {token}") == "backup"
    assert [path.name for path in tmp_path.iterdir()] == ["tokens"]


def test_a_revoked_token_opens_nothing(tmp_path: Path) -> None:
    """At once; the others stay."""
    tokens = Tokens(tmp_path / "tokens")
    first, second = tokens.make("one"), tokens.make("two")
    assert tokens.revoke(1)
    assert not tokens.revoke(1)
    assert tokens.holder(f"Bearer {first}") is None
    assert tokens.holder(f"bearer {second} ") == "two"


def test_without_any_token_nothing_opens(tmp_path: Path) -> None:
    """An empty one neither."""
    tokens = Tokens(tmp_path / "tokens")
    assert [tokens.holder(given) for given in ("", "Bearer", "Bearer ", "Bearer \udc80")] == [None] * 4


@pytest.mark.parametrize("name", ["", " ", "x" * 101, "a\nb", "one", "api-token"])
def test_a_name_is_printable_and_its_own(tmp_path: Path, name: str) -> None:
    """Since it stands in the audit."""
    tokens = Tokens(tmp_path / "tokens")
    tokens.make("one")
    with pytest.raises(ValueError, match="name: "):
        tokens.make(name)
    assert len(tokens.all()) == 1 < MOST


def test_a_file_that_is_none_is_one_line(tmp_path: Path) -> None:
    """It names the file."""
    (tmp_path / "tokens").write_text("junk")
    with pytest.raises(StartError, match=r"tokens: is no list of tokens"):
        Tokens(tmp_path / "tokens")
