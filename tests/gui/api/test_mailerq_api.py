"""The REST API as MailerQ has it: its addresses, its names, urlencoded bodies, DELETE with a body."""

from __future__ import annotations

from typing import Any

import httpx

from tests.gui.api.world import World, until


async def call(world: World, method: str, path: str, form: Any = None, content: Any = None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {world.token}"}
    return await world.client.request(method, f"{world.url}/v1{path}", data=form, json=content, headers=headers)


async def entries(world: World, path: str) -> Any:
    answer = await call(world, "GET", path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_pools_and_their_addresses(world: World) -> None:
    """Made with JSON or a form, listed, taken apart, deleted by name; an IP that is put elsewhere moves."""
    assert (await call(world, "POST", "/pools", content={"name": "one", "description": "First"})).status_code == 200
    assert (await call(world, "POST", "/pools", form={"name": "two"})).status_code == 200
    assert await entries(world, "/pools") == [{"name": "one", "description": "First"}, {"name": "two"}]
    for ip in ("192.0.2.1", "192.0.2.2"):
        assert (await call(world, "POST", "/poolips", form={"ip": ip, "name": "one"})).status_code == 200
    assert (await call(world, "POST", "/poolips", content={"ip": "192.0.2.2", "name": "two"})).status_code == 200
    assert await entries(world, "/poolips?name=one") == [{"ip": "192.0.2.1", "name": "one"}]
    assert (await call(world, "DELETE", "/poolips", form={"name": "one", "ip": "192.0.2.1"})).status_code == 200
    assert (await call(world, "DELETE", "/poolips", form={"name": "one", "ip": "192.0.2.1"})).status_code == 404
    assert (await call(world, "DELETE", "/pools", content={"name": "two"})).status_code == 200
    assert await entries(world, "/poolips") == []
    assert (await call(world, "POST", "/poolips", form={"ip": "x", "name": "one"})).status_code == 400


async def test_pauses_with_its_names(world: World) -> None:
    """`mta` is the MTA IP, `ip` the remote one; the same entry is changed, and taken away by what it is for."""
    assert (await call(world, "POST", "/pauses", form={"domain": "hotmail.example", "tag": "C1"})).status_code == 200
    later = {"domain": "hotmail.example", "tag": "C1", "expire": "2999-01-01 00:00:00"}
    assert (await call(world, "POST", "/pauses", content=later)).status_code == 200
    assert (await call(world, "POST", "/pauses", form={"mta": "192.0.2.1", "cluster": "true"})).status_code == 200
    found = await entries(world, "/pauses")
    assert [one.get("mta", one.get("domain")) for one in found] == ["hotmail.example", "192.0.2.1"]
    assert found[0]["expire"].startswith("2999") and found[1]["cluster"] is True
    assert (await call(world, "DELETE", "/pauses", form={"cluster": "true", "mta": "192.0.2.1"})).status_code == 200
    assert (await call(world, "DELETE", "/pauses", form={"mta": "192.0.2.1"})).status_code == 404
    assert len(await entries(world, "/pauses")) == 1


async def test_errors_and_suppressions(world: World) -> None:
    """As documented, with their codes; the examples of the pages."""
    error = {"domain": "hotmail.example", "code": "421", "tag": "Campaign1"}
    assert (await call(world, "POST", "/errors", form=error)).status_code == 200
    (found,) = await entries(world, "/errors")
    assert (found["code"], found["tag"], found["domain"]) == (421, "Campaign1", "hotmail.example")
    assert (await call(world, "DELETE", "/errors", form=error)).status_code == 200
    assert await entries(world, "/errors") == []
    trap = {"type": "address", "value": "test@example.net", "code": 551, "extended": "5.1.1", "description": "Spamtrap"}
    assert (await call(world, "POST", "/suppressions", content=trap)).status_code == 200
    assert (
        await call(world, "POST", "/suppressions", form={"type": "domain", "value": "example.com"})
    ).status_code == 200
    found = await entries(world, "/suppressions")
    assert found[0] == trap and found[1]["value"] == "example.com"
    assert (await call(world, "DELETE", "/suppressions", form={"value": "example.com"})).status_code == 200
    assert (await call(world, "DELETE", "/suppressions", form={"value": "example.com"})).status_code == 404
    assert len(await entries(world, "/suppressions")) == 1


async def test_a_pool_is_paused(world: World) -> None:
    """As a whole, and resumed by the same fields; beside `mta` it is refused, as documented."""
    assert (await call(world, "POST", "/pools", content={"name": "shared"})).status_code == 200
    pause = {"pool": "shared", "domain": "yahoo.example"}
    assert (await call(world, "POST", "/pauses", content=pause)).status_code == 200
    assert pause.items() <= (await entries(world, "/pauses"))[0].items()
    assert (await call(world, "POST", "/pauses", content={**pause, "mta": "192.0.2.1"})).status_code == 400
    assert (await call(world, "DELETE", "/pauses", form=pause)).status_code == 200
    assert await entries(world, "/pauses") == []


async def test_external_mtas(world: World) -> None:
    """As documented, with JSON or a form: made, changed by what they are for, listed, and taken away."""
    nat = {"public_ip": "203.0.113.7", "local_ip": "127.0.0.1", "connect_port": "2525"}
    assert (await call(world, "POST", "/externalmtas", form=nat)).status_code == 200
    assert await entries(world, "/externalmtas") == [{**nat, "protocol": "nat", "connect_port": 2525}]
    socks = {"public_ip": "203.0.113.7", "protocol": "socks", "connect_ip": "192.0.2.9", "connect_port": 1080}
    assert (await call(world, "POST", "/externalmtas", content=socks)).status_code == 200
    assert await entries(world, "/externalmtas") == [socks]
    way = world.machine.egress.way("203.0.113.7")
    assert world.machine.ips.is_ours("203.0.113.7") and way is not None and way.protocol == "socks"
    elsewhere = {"public_ip": "203.0.113.9", "local_ip": "192.0.2.1"}  # as another instance with these rules has
    assert (await call(world, "POST", "/externalmtas", content=elsewhere)).status_code == 200
    assert not world.machine.ips.is_ours("203.0.113.9")
    assert (await call(world, "DELETE", "/externalmtas", form={"public_ip": "203.0.113.9"})).status_code == 200
    wrong = await call(world, "POST", "/externalmtas", content={"public_ip": "203.0.113.8", "protocol": "http"})
    assert wrong.status_code == 400 and "connect_ip: is missing" in wrong.json()["detail"]
    assert (await call(world, "DELETE", "/externalmtas", form={"public_ip": "203.0.113.7"})).status_code == 200
    assert (await call(world, "DELETE", "/externalmtas", content={"public_ip": "203.0.113.7"})).status_code == 404
    assert await entries(world, "/externalmtas") == [] and not world.machine.ips.is_ours("203.0.113.7")


async def test_what_cannot_be_used_is_400(world: World) -> None:
    """With a line that says what, in MailerQ's names."""
    both = await call(world, "POST", "/pauses", form={"domain": "a.example", "ip": "192.0.2.1"})
    assert both.status_code == 400 and "ip: is given, and so is domain" in both.json()["detail"]
    unknown = await call(world, "POST", "/pauses", content={"nosuch": 1})
    assert unknown.status_code == 400 and "nosuch: is no field here; allowed are" in unknown.json()["detail"]
    assert (await call(world, "POST", "/pauses", content={"mta": "no ip"})).status_code == 400


async def test_a_message_is_injected(world: World) -> None:
    """As JSON, into the inbox."""
    mail = {"envelope": "me@a.example", "recipient": "you@fine.example", "mime": "Subject: x\r\n\r\nx\r\n"}
    assert (await call(world, "POST", "/inject", content=mail)).status_code == 200
    await until(lambda: world.machine.telemetry.totals()["delivered"] == 1)


async def test_a_token_is_needed(world: World) -> None:
    """As everywhere."""
    assert (await world.stranger.get(f"{world.url}/v1/pools")).status_code == 401
