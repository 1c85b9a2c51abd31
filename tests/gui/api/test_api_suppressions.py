"""Suppressions over the API, and what they do to mail."""

from __future__ import annotations

from tests.gui.api.world import World, until
from tests.support.mailbox import Mailbox


async def test_a_suppressed_address_gets_no_mail(world: World, mailbox: Mailbox) -> None:
    """The others do; it counts as not tried, and the log names the entry."""
    rule = await world.post("/suppressions", {"value": "A@Fine.example", "code": 551})
    assert (rule["value"], rule["type"], rule["source"]) == ("a@fine.example", "address", "api")
    assert (await world.get("/suppressions/check", address="a@FINE.example"))["suppressed"]
    assert not (await world.get("/suppressions/check", address="b@fine.example"))["suppressed"]
    await world.send("a@fine.example", "b@fine.example")

    async def ended() -> bool:
        return bool((await world.get("/status"))["totals"]["not_tried"] == 1 and mailbox.total == 1)

    await until(ended)
    logged = await world.get("/logs", rule=f"suppressions/{rule['id']}")
    assert [(row["recipient"], row["state"], row["code"]) for row in logged["records"]] == [
        ("a@fine.example", "suppression", 551)
    ]


async def test_entries_are_changed_paged_and_removed_like_rules(world: World) -> None:
    """By their ids, and by a filter in a job; an empty filter removes nothing."""
    ids = [(await world.post("/suppressions", {"value": f"{n}@a.example"}))["id"] for n in range(3)]
    page = await world.get("/suppressions", limit=2)
    assert ([rule["id"] for rule in page["suppressions"]], page["next"], page["total"]) == (ids[:2], ids[1], 3)
    assert len((await world.get("/suppressions", after=ids[1]))["suppressions"]) == 1
    changed = await world.client.put(f"/suppressions/{ids[0]}", json={"value": "0@a.example", "tag": "x"})
    assert changed.json()["tag"] == "x"
    assert (await world.client.delete(f"/suppressions/{ids[0]}")).status_code == 204
    assert (await world.client.get(f"/suppressions/{ids[0]}")).status_code == 404
    assert (await world.client.delete("/suppressions")).status_code == 422
    assert (await world.client.post("/suppressions", json={"value": "x"})).status_code == 201
    assert (await world.client.post("/suppressions", json={"value": "x y"})).status_code == 422
    job = (await world.client.delete("/suppressions", params={"containing": "a.example"})).json()

    async def over() -> bool:
        return bool((await world.get(f"/suppressions/jobs/{job['id']}"))["removed"] == 2)

    await until(over)


async def test_a_file_is_imported_and_exported(world: World) -> None:
    """As CSV, with the lines that cannot be used."""
    head = {"Content-Type": "text/csv"}
    answer = await world.client.post(
        "/suppressions/import", content="value,code\na@b.example,552\nbad one,1\n", headers=head
    )
    assert answer.status_code == 202
    where = answer.headers["location"].removeprefix("/api/v1")

    async def over() -> bool:
        return bool((await world.get(where))["state"] == "done")

    await until(over)
    job = await world.get(where)
    assert (job["created"], job["skipped"]) == (1, 1) and job["errors"][0].startswith("line 3: ")
    told = (await world.client.get("/suppressions/export")).text.splitlines()
    assert told[0].startswith("type,value,") and told[1].startswith("address,a@b.example,,552,")
