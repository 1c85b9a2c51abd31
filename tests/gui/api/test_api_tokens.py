"""The tokens of the API."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from gui.access.tokens import MOST, NOTED, Tokens
from settings import StartError
from tests.gui.api.world import World, until


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


def test_a_token_opens_nothing_once_it_has_expired(tmp_path: Path) -> None:
    """Also where it is in use at that moment (S3)."""
    now = [1000.0]
    tokens = Tokens(tmp_path / "tokens", clock=lambda: now[0])
    given = f"Bearer {tokens.make('one', expires=1010.0)}"
    found = tokens.find(given)
    assert found is not None
    assert tokens.lasts(found)
    now[0] = 1010.0
    assert not tokens.lasts(found)
    assert tokens.find(given) is None
    with pytest.raises(ValueError, match="expires: must be in the future"):
        tokens.make("two", expires=1010.0)


def test_when_a_token_was_used_is_kept(tmp_path: Path) -> None:
    """Not with each use, since that would be a file written for each request (S3)."""
    now = [1000.0]
    tokens = Tokens(tmp_path / "tokens", clock=lambda: now[0])
    found = tokens.find(f"Bearer {tokens.make('one')}")
    assert found is not None
    now[0] += 5
    assert not tokens.note(found)
    now[0] += NOTED
    assert tokens.note(found)
    tokens.keep_used()
    assert [token.used for token in Tokens(tmp_path / "tokens").all()] == [now[0]]


def test_a_file_of_an_older_version_has_tokens_that_may_everything(tmp_path: Path) -> None:
    """They could before (S3)."""
    (tmp_path / "tokens").write_text('[{"id":1,"name":"old","made":1.0,"digest":"x"}]')
    (token,) = Tokens(tmp_path / "tokens").all()
    assert (token.scopes, token.expires, token.used) == (("read", "operate", "send"), None, None)


MAIL = {"envelope": "me@example.org", "recipient": "you@fine.example", "mime": "Subject: Hi\r\n\r\nHello\r\n"}
CALLS: dict[str, tuple[str, str, Any]] = {
    "read": ("GET", "/status", None),
    "operate": ("POST", "/locals", {"type": "substring", "pattern": "x.example"}),
    "send": ("POST", "/messages", MAIL),
}


@pytest.mark.parametrize("scope", CALLS)
async def test_a_token_may_what_its_scope_says(world: World, scope: str) -> None:
    """What it may not is refused with one line that says what it needs (S3)."""
    token = {"Authorization": f"Bearer {world.tokens.make('limited', [scope])}"}
    for needed, (method, path, content) in CALLS.items():
        answer = await world.client.request(method, path, json=content, headers=token)
        if needed == scope:
            assert answer.status_code in (200, 201, 202)
        else:
            assert answer.status_code == 403
            assert answer.json()["detail"] == f"This token may {scope}; this needs one that may {needed}."


async def test_tokens_are_made_and_revoked_over_the_api(world: World) -> None:
    """With a record in the audit; the secret is shown once; none makes one that may more than itself (S3)."""
    made = await world.post("/tokens", {"name": "dashboard", "scopes": ["read"]})
    assert (made["token"]["scopes"], made["token"]["used"]) == (["read"], None)
    assert made["secret"] not in (await world.client.get("/tokens")).text
    limited = {"Authorization": f"Bearer {world.tokens.make('operator', ['operate'])}"}
    answer = await world.client.post("/tokens", json={"name": "x", "scopes": ["send"]}, headers=limited)
    assert (answer.status_code, answer.json()["detail"]) == (403, "This token may not send, so it makes none that may.")
    assert (await world.client.post("/tokens", json={"name": "dashboard"})).status_code == 422
    secret = {"Authorization": f"Bearer {made['secret']}"}
    assert (await world.client.get("/status", headers=secret)).status_code == 200
    (shown,) = [token for token in await world.get("/tokens") if token["name"] == "dashboard"]
    assert shown["used"] is not None
    assert (await world.client.delete(f"/tokens/{shown['id']}")).status_code == 204
    assert (await world.client.get("/status", headers=secret)).status_code == 401
    records = await until(lambda: audited(world))
    assert [(record["action"], record["who"]) for record in records] == [("delete", "tester"), ("create", "tester")]
    assert made["secret"] not in str(records)


async def audited(world: World) -> Any:
    """The records of tokens, once there are two."""
    records = [record for record in await world.get("/audit") if record["kind"] == "tokens"]
    return records if len(records) == 2 else None


def test_a_file_that_is_none_is_one_line(tmp_path: Path) -> None:
    """It names the file."""
    (tmp_path / "tokens").write_text("junk")
    with pytest.raises(StartError, match=r"tokens: is no list of tokens"):
        Tokens(tmp_path / "tokens")
