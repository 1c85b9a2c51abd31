"""Rules over the API."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gui.api.world import World

# Of each kind: what to create, what to replace it with, and a field with its value then.
EXAMPLES: dict[str, tuple[dict[str, Any], dict[str, Any], str, Any]] = {
    "throttles": (
        {"domain": "gmail.com", "domain_messages": 60},
        {"domain": "gmail.com", "domain_messages": 30},
        "domain_messages",
        30,
    ),
    "floods": (
        {"name": "busy", "pattern": "too many"},
        {"name": "busy", "pattern": "too many", "pause": 5},
        "pause",
        5,
    ),
    "pauses": ({"domain": "gmail.com"}, {"domain": "gmail.com", "tag": "news"}, "tag", "news"),
    "redirects": (
        {"from_ip": "192.0.2.1", "to_ip": "192.0.2.2"},
        {"from_ip": "192.0.2.1", "to_ip": "192.0.2.3"},
        "to_ip",
        "192.0.2.3",
    ),
    "errors": ({"tag": "news"}, {"tag": "news", "code": 421}, "code", 421),
    "providers": (
        {"name": "mine", "patterns": ["*.mine.example"]},
        {"name": "mine", "patterns": ["mx.mine.example"]},
        "patterns",
        ["mx.mine.example"],
    ),
    "tags": ({"name": "news"}, {"name": "news", "weight": 7}, "weight", 7),
    "classes": (
        {"name": "full", "pattern": "voll", "meaning": "mailbox-full"},
        {"name": "full", "pattern": "voll", "meaning": "policy"},
        "meaning",
        "policy",
    ),
    "responses": ({"name": "r", "fail": True}, {"name": "r", "retry": 60}, "retry", 60),
    "rewrites": ({"name": "w", "delay": 60}, {"name": "w", "set_pool": "warm"}, "set_pool", "warm"),
    "dkim-keys": (
        {"domain": "example.com", "selector": "s1", "generate": True, "algorithm": "ed25519"},
        {"domain": "example.com", "selector": "s1", "headers": ["X-Mine"]},
        "headers",
        ["X-Mine"],
    ),
    "locals": (
        {"type": "wildcard", "pattern": "*@here.example"},
        {"type": "exact", "pattern": "me@here.example"},
        "type",
        "exact",
    ),
    "mta-names": ({"ip": "192.0.2.1", "name": "one"}, {"ip": "192.0.2.1", "name": "uno"}, "name", "uno"),
    "dns": (
        {"name": "a.example", "addresses": ["192.0.2.7"]},
        {"name": "a.example", "addresses": ["192.0.2.8"]},
        "addresses",
        ["192.0.2.8"],
    ),
    "external-mtas": (
        {"public_ip": "203.0.113.7", "local_ip": "192.0.2.1"},
        {"public_ip": "203.0.113.7", "protocol": "socks", "connect_ip": "192.0.2.9", "connect_port": 1080},
        "connect_port",
        1080,
    ),
    "schedules": ({"name": "slow", "steps": ["1=50"]}, {"name": "slow", "steps": ["1=70", "2=80"]}, "steps", None),
    "warmups": (
        {"schedule": "other", "ip": "192.0.2.1"},
        {"schedule": "other", "ip": "192.0.2.1", "overflow": "wait"},
        "overflow",
        "wait",
    ),
    "alerts": (
        {"name": "bad", "watch": "queue", "webhook": "https://hook.example/secret"},
        {"name": "bad", "watch": "queue", "threshold": 500},
        "webhook_at",
        "https://hook.example/…",
    ),
    "pools": (
        {"name": "gold", "members": ["192.0.2.1=3"]},
        {"name": "gold", "members": [{"ip": "192.0.2.2"}]},
        "members",
        [{"ip": "192.0.2.2", "weight": 1}],
    ),
}


@pytest.mark.parametrize("kind", EXAMPLES)
async def test_a_rule_is_made_read_replaced_and_deleted(world: World, kind: str) -> None:
    """Each answer has the rule whole, with its id; after the delete it is gone."""
    first, second, field, value = EXAMPLES[kind]
    if kind == "warmups":
        await world.post("/schedules", {"name": "other", "steps": ["1=50"]})
    created = await world.client.post(f"/{kind}", json=first)
    assert created.status_code == 201, created.text
    rule = created.json()
    where = f"/{kind}/{rule['id']}"
    assert created.headers["location"] == f"/api/v1{where}"
    assert rule in await world.get(f"/{kind}")
    assert await world.get(where) == rule
    replaced = (await world.client.put(where, json=second)).json()
    assert replaced["id"] == rule["id"]
    assert value is None or replaced[field] == value
    assert set(replaced) == set(rule)
    assert (await world.client.delete(where)).status_code == 204
    assert (await world.client.get(where)).status_code == 404
    assert (await world.client.delete(where)).status_code == 404


async def test_what_was_read_may_be_sent_back(world: World) -> None:
    """Ids and live figures in it are ignored."""
    rule = await world.post("/floods", {"name": "busy", "pattern": "too many"})
    assert rule["hits"] == 0
    assert rule["reduced_lanes"] == []
    answer = await world.client.put(f"/floods/{rule['id']}", json=rule)
    assert answer.json() == rule


async def test_a_private_key_never_comes_back(world: World) -> None:
    """Neither made nor given; its DNS record does."""
    given = await world.client.post("/dkim-keys", json=EXAMPLES["dkim-keys"][0])
    assert given.json()["record"].startswith("v=DKIM1")
    assert "key" not in given.json()
    pem = "-----BEGIN PRIVATE KEY-----\nMIIBVAIBADANBg\n-----END PRIVATE KEY-----\n"
    refused = await world.client.post("/dkim-keys", json={"domain": "a.example", "selector": "s", "key": pem})
    assert refused.status_code == 422
    assert "MIIBVAIBADANBg" not in refused.text
    assert "PRIVATE" not in (await world.client.get("/audit")).text


async def test_the_audit_says_who_and_from_where(world: World) -> None:
    """The token's name and the client's address, before and after, newest first."""
    rule = await world.post("/throttles", {"domain": "gmail.com", "queue": 5})
    await world.client.put(f"/throttles/{rule['id']}", json={"domain": "gmail.com", "queue": 6})
    newest = (await world.get("/audit", limit=1))[0]
    assert (newest["who"], newest["origin"], newest["action"]) == ("tester", "127.0.0.1", "update")
    assert (newest["before"]["queue"], newest["after"]["queue"]) == (5, 6)
    assert len(await world.get("/audit", limit=2)) == 2


async def test_a_flood_pattern_is_tried_without_being_stored(world: World) -> None:
    """It says whether the text matches."""
    text = {"type": "wildcard", "pattern": "421 *too many*", "text": "421 4.7.0 Too many connections"}
    assert (await world.post("/floods/try", text, 200))["matches"] is True
    assert (await world.post("/floods/try", {"pattern": "never", "text": "421 4.7.0"}, 200))["matches"] is False
    assert await world.get("/floods") == []


async def test_all_rules_go_out_and_in_again(world: World) -> None:
    """The document that export gives; a rule that is not in it stays, one that cannot be used has a line."""
    await world.post("/schedules", {"name": "slow", "steps": ["1=50"]})
    await world.post("/warmups", {"schedule": "slow", "ip": "192.0.2.1", "domain": "gmail"})
    document = await world.get("/rules/export")
    for kind in ("warmups", "schedules"):
        (rule,) = await world.get(f"/{kind}")
        assert (await world.client.delete(f"/{kind}/{rule['id']}")).status_code == 204
    other = await world.post("/tags", {"name": "other"})
    document["tags"] = [{"name": "news", "weight": 1000}]
    done = await world.post("/rules/import", document, 200)
    assert (done["created"], done["updated"], len(done["errors"])) == (2, 0, 1)
    assert done["errors"][0].startswith("tags[0]: weight")
    assert [rule["domain"] for rule in await world.get("/warmups")] == ["gmail"]
    assert (await world.get(f"/tags/{other['id']}"))["name"] == "other"
    assert (await world.client.post("/rules/import", json={"x": 1})).status_code == 422


async def test_a_change_is_taken_back(world: World) -> None:
    """By its number in the audit; not twice, and not where something has changed since."""
    rule = await world.post("/tags", {"name": "news", "weight": 3})
    await world.client.put(f"/tags/{rule['id']}", json={"name": "news", "weight": 5})
    number = (await world.get("/audit", limit=1))[0]["id"]
    assert (await world.post(f"/audit/{number}/undo", {}, 200))["weight"] == 3
    assert (await world.client.post(f"/audit/{number}/undo", json={})).status_code == 422
    assert (await world.client.post("/audit/999999/undo", json={})).status_code == 404
