"""Lanes over the API: paused, flooded, explained; and the other views."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from gui.api.events import BACKLOG, EventClient, EventFilter
from operators.deliveries.events import Notice
from pipeline.queues.embedded.embedded import EmbeddedQueue
from tests.gui.api.world import World, until
from tests.support.mailbox import Mailbox, _Session

LANE = "127.0.0.1/fine.example"
TWENTY = 20


class _Fed(_Session):
    """Says 421 to every MAIL after TWENTY messages, until it is told to go on."""

    def _command(self, line: bytes) -> None:
        if line.startswith(b"MAIL") and self.mailbox.total >= TWENTY and self.mailbox.fed:  # type: ignore[attr-defined]
            self.say(b"421 4.7.0 too many connections from your ip")
            self.transport.close()
        else:
            super()._command(line)


class Fed(Mailbox):
    """A receiver that has enough."""

    fed = True

    async def _serve(self) -> int:
        server = await self._loop.loop.create_server(lambda: _Fed(self), self.host, 0, backlog=100)
        return int(server.sockets[0].getsockname()[1])


async def explained(world: World, lane: str = LANE) -> dict[str, Any]:
    return dict(await world.get(f"/lanes/{lane}"))


async def test_a_pause_parks_what_comes_and_its_end_releases_it(world: World, mailbox: Mailbox) -> None:
    """Nothing is sent while it holds; `held` says how many wait; afterwards all of them go."""
    pause = await world.post("/pauses", {"domain": "fine.example"})
    assert (pause["held"], pause["reason"]) == (0, "manual")
    await world.send(*(f"u{n}@fine.example" for n in range(10)))
    await until(lambda: held(world, pause["id"], 10))
    lane = await explained(world)
    assert (lane["state"], lane["next_send"]) == ("paused", None)
    assert lane["waits_for"][0]["rule"] == pause["id"]
    assert (await world.get("/domains", containing="fine"))["domains"][0]["state"] == "paused"
    assert (await world.get("/queues"))["parked"] == {f"pause/{pause['id']}": 10}
    assert mailbox.total == 0
    assert (await world.client.delete(f"/pauses/{pause['id']}")).status_code == 204
    await until(lambda: mailbox.total == 10)


async def held(world: World, pause: int, count: int) -> bool:
    return bool((await world.get(f"/pauses/{pause}"))["held"] == count)


async def test_what_a_pause_holds_is_released_by_hand_only_into_the_pause(world: World) -> None:
    """A release hands parked messages back to the outbox; a pause that holds parks them again."""
    pause = await world.post("/pauses", {"domain": "fine.example"})
    await world.send("you@fine.example")
    await until(lambda: held(world, pause["id"], 1))
    order = {"action": "release", "selection": {"lane": f"pause/{pause['id']}"}}
    job = await world.post("/messages/actions", order, 202)
    await until(lambda: changed(world, job["id"], 1))
    await until(lambda: held(world, pause["id"], 1))


async def changed(world: World, job: int, count: int) -> bool:
    return bool((await world.get(f"/messages/actions/{job}"))["changed"] == count)


class TestFlood:
    """A receiver that has enough after twenty messages."""

    @pytest.fixture
    def mailbox(self) -> Any:
        with Fed("127.4.0.1") as running:
            yield running

    @pytest.fixture
    def options(self) -> dict[str, object]:
        return {"retry-interval": "1", "domain-maxconnections": 1}

    @pytest.mark.system  # eight seconds of real time
    async def test_a_flood_pauses_reduces_and_returns(self, world: World, mailbox: Fed) -> None:
        """Lane, rule and events show the pattern and its ends; then the lane has its old limits, and all is sent."""
        rule = await world.post(
            "/floods",
            {"name": "busy", "pattern": "too many connections", "pause": 3, "reduced": 5, "connection_messages": 7},
        )
        watching = EventClient(world.machine.events, EventFilter(frozenset({"notice"}), LANE))
        await world.send(*(f"u{n}@fine.example" for n in range(25)))
        lane = await until(lambda: in_state(world, "flooded"))
        flood = lane["flood"]
        assert (flood["pattern"], flood["id"], flood["state"]) == ("busy", rule["id"], "paused")
        assert flood["paused_until"] - time.time() <= 3
        assert flood["reduced_until"] == pytest.approx(flood["paused_until"] + 5, abs=0.1)
        assert flood["answer"].startswith("421 ")
        [pause] = await world.get("/pauses")  # K7: a pause by a flood pattern is one of the pauses, and no rule
        assert (pause["id"], pause["ip"], pause["domain"]) == (0, *LANE.split("/"))
        assert (pause["reason"], pause["until"][:4]) == ("flood pattern busy", time.strftime("%Y", time.gmtime()))
        await until(lambda: put_off(world, "421 "))  # it is settled a moment after the flood began
        assert lane["next_send"] == pytest.approx(flood["paused_until"], abs=0.5)
        mailbox.fed = False
        shown = await world.get(f"/floods/{rule['id']}")
        assert shown["hits"] >= 1
        assert [each["lane"] for each in shown["reduced_lanes"]] == [LANE]
        event = _data(await watching.next())
        assert (event["kind"], event["pattern"], event["lane"]) == ("flood", "busy", LANE)
        assert event["reduced_until"] > event["paused_until"] > event["time"]
        watching.close()
        lane = await until(lambda: in_state(world, "reduced"))
        assert limit(lane, "connection_messages") == (7, "floods", "busy")
        await until(lambda: in_state(world, "running"))
        assert limit(await explained(world), "connection_messages") == (0, "configuration", "connection-maxmessages")
        assert [kind for kind in kinds(await explained(world)) if kind == "flood"]
        await until(lambda: mailbox.total == 25)
        tried = await world.post("/floods/try", {"pattern": "too many"}, 200)
        assert tried["recent"] == ["421 4.7.0 too many connections from your ip"]

    async def test_a_flood_is_ended_early(self, world: World, mailbox: Fed) -> None:
        """Its lane sends at once, and the history says who did it."""
        await world.post("/floods", {"name": "busy", "pattern": "too many", "pause": 3600})
        await world.send(*(f"u{n}@fine.example" for n in range(22)))
        await until(lambda: in_state(world, "flooded"))
        mailbox.fed = False
        assert (await world.client.delete(f"/lanes/{LANE}/flood")).status_code == 204
        assert (await world.client.delete(f"/lanes/{LANE}/flood")).status_code == 404
        lane = await explained(world)
        assert lane["flood"] is None
        assert any(event["text"] == f"tester has ended the flood on {LANE}" for event in lane["events"])
        ended = await until(lambda: recorded(world, "end"))
        assert (ended["who"], ended["kind"]) == ("tester", "floods")
        assert (ended["after"]["lane"], ended["after"]["pattern"]) == (LANE, "busy")
        await until(lambda: mailbox.total == 22)


async def recorded(world: World, action: str) -> dict[str, Any] | None:
    """The newest such change in the audit."""
    return next((record for record in await world.get("/audit") if record["action"] == action), None)


async def put_off(world: World, answer: str) -> bool:
    """Whether the lane's history has a retry after such an answer."""
    events = (await explained(world))["events"]
    return any(event["text"].startswith(answer) for event in events if event["kind"] == "retried")


async def in_state(world: World, state: str) -> dict[str, Any] | None:
    answer = await world.client.get(f"/lanes/{LANE}")
    return answer.json() if answer.status_code == 200 and answer.json()["state"] == state else None


def limit(lane: dict[str, Any], field: str) -> tuple[Any, str, str]:
    """(value, kind, name) of one of a lane's limits."""
    (found,) = [each for each in lane["limits"] if each["field"] == field]
    return found["value"], found["source"]["kind"], found["source"]["name"]


def kinds(lane: dict[str, Any]) -> list[str]:
    return [event["kind"] for event in lane["events"]]


def _data(sent: bytes) -> dict[str, Any]:
    """The first event in what is sent."""
    return dict(json.loads(sent.partition(b"data: ")[2].partition(b"\n")[0]))


async def test_a_lane_is_explained_whole(world: World, mailbox: Mailbox) -> None:
    """Limits with their rule or key, what waits and until when, answers, events, hosts, domains."""
    rule = await world.post("/throttles", {"domain": "fine.example", "domain_messages": 30, "queue": 3})
    await world.send(*(f"u{n}@fine.example" for n in range(6)))
    await until(lambda: mailbox.total == 1)
    lane = await until(lambda: waits_for_its_rate(world))
    assert limit(lane, "domain_messages") == (30, "throttles", "all > fine.example")
    assert next(each["source"]["id"] for each in lane["limits"] if each["field"] == "queue") == rule["id"]
    assert limit(lane, "ip_connections") == (20, "configuration", "ip-maxconnections")
    assert len(lane["limits"]) == 10
    assert lane["next_send"] == pytest.approx(time.time() + 1.5, abs=1.5)
    assert lane["next_why"] == "30 messages a minute to the domain"
    assert lane["waits_for"] == [
        {"kind": "lane", "why": lane["next_why"], "until": lane["next_send"], "rule": None, "all": True, "held": 0}
    ]
    assert (lane["ip"], lane["group"], lane["domains"]) == ("127.0.0.1", "fine.example", ["fine.example"])
    assert lane["waiting"] + lane["in_flight"] == lane["in_memory"] <= 3
    assert 6 <= lane["in_memory"] + lane["parked"] + mailbox.total <= 7  # one may be accepted and not settled yet
    assert lane["connections"]["open"] == 1
    assert lane["window"] > 1
    assert lane["flood"] is None
    (host,) = lane["hosts"]
    assert (host["address"], host["port"], host["state"]) == ("127.4.0.1", mailbox.port, "ready")
    assert (lane["answers"][0]["code"], lane["answers"][0]["result"]) == (250, "accepted")
    assert {"connecting", "connected", "delivered"} <= set(kinds(lane))
    assert LANE in [each["lane"] for each in await world.get("/lanes")]


async def waits_for_its_rate(world: World) -> dict[str, Any] | None:
    """The lane, once its first message is settled and the next waits in memory."""
    lane = await explained(world)
    return lane if lane["answers"] and lane["waits_for"] and lane["next_why"] != "as soon as it can" else None


async def test_domains_of_the_same_servers_say_so(world: World, mailbox: Mailbox) -> None:
    """The one without a rule of its own uses the limits of the other."""
    await world.post("/throttles", {"domain": "fine.example", "queue": 7})
    to = {"hostname": "fine.example", "port": mailbox.port}
    await world.send("a@fine.example", smarthost=to)
    await world.send("a@also.example", smarthost=to)
    await until(lambda: mailbox.total == 2)
    lanes = [name for name in world.facade.history.lanes() if "fine.example" in name]
    lane = await explained(world, lanes[0])
    assert lane["domains"] == ["fine.example", "also.example"]
    assert lane["shares"] == ["also.example uses the limits of fine.example: same servers"]


async def test_a_host_that_is_skipped_says_why_until_when_and_is_retried_now(world: World) -> None:
    """After the retry it is tried at once, and what waited goes."""
    await world.post("/dns", {"name": "closed.example", "addresses": ["127.4.0.9"]})
    await world.send("you@closed.example")
    lane = "127.0.0.1/closed.example"
    await until(lambda: skipped(world, lane))
    (host,) = (await explained(world, lane))["hosts"]
    assert host["state"] == "skipped"
    assert host["why"]
    assert host["until"] > time.time()
    await until(lambda: one_waits(world))
    job = await world.post(f"/lanes/{lane}/retry", None, 202)
    await until(lambda: changed(world, job["id"], 1))
    assert any(event["kind"] == "retry-now" for event in (await explained(world, lane))["events"])
    retried = await until(lambda: recorded(world, "retry"))
    assert (retried["kind"], retried["after"]["lane"]) == ("lanes", lane)
    await until(lambda: twice(world, lane))


async def skipped(world: World, lane: str) -> bool:
    answer = await world.client.get(f"/lanes/{lane}")
    return answer.status_code == 200 and any(host["state"] == "skipped" for host in answer.json()["hosts"])


async def one_waits(world: World) -> bool:
    return bool((await world.get("/messages/count", state="waiting"))["count"] == 1)


async def twice(world: World, lane: str) -> bool:
    """It has been tried twice."""
    return sum(e["count"] for e in (await explained(world, lane))["events"] if e["kind"] == "connecting") == 2


async def test_redirects_count_what_they_moved(world: World, mailbox: Mailbox) -> None:
    """Each rule on the way."""
    one = await world.post("/redirects", {"from_ip": "127.0.0.1", "to_ip": "127.0.0.2"})
    two = await world.post("/redirects", {"from_ip": "127.0.0.2", "to_ip": "127.0.0.3", "domain": "fine.example"})
    await world.send("a@fine.example", "b@fine.example")
    await until(lambda: mailbox.total == 2)
    assert [rule["redirected"] for rule in await world.get("/redirects")] == [2, 2]
    assert {one["redirected"], two["redirected"]} == {0}


async def test_the_views_show_the_machine(world: World, mailbox: Mailbox) -> None:
    """Status, MTA IPs, domains."""
    await world.post("/mta-names", {"ip": "127.0.0.1", "name": "loop", "ehlo": "mail.example"})
    await world.send("a@fine.example", "b@fine.example")
    await until(lambda: mailbox.total == 2)
    await until(lambda: delivered(world, 2))
    status = await world.get("/status")
    assert (status["instance"], status["totals"]["delivered"]) == ("mx1.example", 2)
    assert status["verdict"]["level"] == "good"
    (mine,) = [ip for ip in await world.get("/ips") if ip["ip"] == "127.0.0.1"]
    assert (mine["name"], mine["ehlo"], mine["host_name"]) == ("loop", "mail.example", "mx1.example")
    assert (mine["mine"], mine["default"], mine["figures"]["delivered"]) == (True, True, 2)
    page = await world.get("/domains", sort="delivered", limit=1)
    assert page["total"] == 1
    row = page["domains"][0]
    assert (row["domain"], row["delivered"], row["ratio"], row["state"]) == ("fine.example", 2, 1.0, "running")
    assert row["lanes"] == [LANE]


async def delivered(world: World, count: int) -> bool:
    page = await world.get("/domains")
    return bool(page["domains"] and page["domains"][0]["delivered"] == count)


async def test_events_come_as_they_happen_and_end_with_the_client(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that were asked for; when the client goes and does not come back, so does its subscription."""
    monkeypatch.setattr("gui.api.events.AWAY", 0.01)
    url, headers = f"{world.url}/api/v1/events", {"Authorization": f"Bearer {world.token}"}
    query = {"type": ["settled", "received"], "domain": "fine.example"}
    clients = world.app.state.clients
    observers = len(world.machine._events.observers)
    async with world.stranger.stream("GET", url, headers=headers, params=query) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert (len(clients.open), len(world.machine._events.observers)) == (1, observers + 1)
        await world.send("a@fine.example", "x@nowhere.example")
        lines = stream.aiter_lines()
        found: list[dict[str, Any]] = []
        while len(found) < 2:
            line = await anext(lines)
            if line.startswith("data: "):
                found.append(json.loads(line.removeprefix("data: ")))
    assert [event["type"] for event in found] == ["received", "settled"]
    assert (found[1]["next"], found[1]["lane"], found[1]["domain"]) == ("delivered", LANE, "fine.example")
    assert "body" not in json.dumps(found)
    await until(lambda: not clients.open and len(world.machine._events.observers) == observers)


async def test_a_client_that_reads_slowly_is_told_what_it_missed(world: World) -> None:
    """Its line is bounded; the count of what did not fit comes after what did."""
    client = EventClient(world.machine.events, EventFilter())
    for number in range(BACKLOG + 7):
        world.machine.report(Notice(time=float(number), kind="x", text="\udc80"))
    sent = await client.next()
    assert sent.count(b"event: notice") == BACKLOG
    assert sent.endswith(b'\nevent: dropped\ndata: {"type":"dropped","count":7}\n\n')
    client.close()


async def test_the_documentation_is_for_those_who_are_logged_in(world: World) -> None:
    """Or have a token; nothing in it comes from elsewhere, and it has no script."""
    from tests.gui.api.world import ACCESS

    answer = await world.stranger.get("/api/docs", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?redirect_to=%2Fapi%2Fdocs")
    cookie = {"Cookie": f"{ACCESS.cookie}={ACCESS.begin()}"}
    page = await world.stranger.get("/api/docs", headers=cookie)
    assert page.status_code == 200
    assert "/api/v1/lanes/{id}" in page.text
    assert "<script" not in page.text
    assert not re.search(r"https?:|(src|href)=['\"]?//", page.text)
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert (await world.stranger.get("/api/v1/status", headers=cookie)).status_code == 401
    document = (await world.client.get(f"{world.url}/api/openapi.json")).json()
    names = set(document["components"]["schemas"])
    assert set(_refs(document)) <= names


def _refs(value: Any) -> list[str]:
    """The names of all schemas that are referred to."""
    if isinstance(value, dict):
        own = [value["$ref"].rpartition("/")[2]] if isinstance(value.get("$ref"), str) else []
        return own + [ref for each in value.values() for ref in _refs(each)]
    return [ref for each in value for ref in _refs(each)] if isinstance(value, list) else []


async def test_what_is_purged_is_parked_nowhere_any_more(world: World) -> None:
    """K7: by another process, too: the queue, the status and the metrics say the same, and the counters add up."""
    await world.post("/pauses", {"domain": "fine.example"})
    await world.send(*[f"you{n}@fine.example" for n in range(5)])
    status = await until(lambda: parked_is(world, 5))
    command = EmbeddedQueue(world.machine.settings.data_dir / "queue.db")
    await command.start()
    assert await command.purge() == 5
    await command.close()
    status = await until(lambda: parked_is(world, 0))
    assert (await world.get("/queues"))["parked"] == {}
    assert status["totals"]["removed"] == 5
    ends = ("delivered", "retried", "failed", "refused", "returned", "in_memory", "parked", "removed")
    assert status["totals"]["processed"] == sum(status["totals"][name] for name in ends)


async def parked_is(world: World, count: int) -> Any:
    """The status, when it says so."""
    status = await world.get("/status")
    return status if status["figures"]["parked"] == status["totals"]["parked"] == count else None
