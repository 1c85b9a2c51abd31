"""The REST API as MailerQ has it, under `/v1`, beside ours: the same rules, under its names for them.

Bodies are JSON or urlencoded, those of DELETE too. POST stores an entry, or changes the one that is for the same;
DELETE takes away the one that its fields describe. What cannot be used is answered with 400, so documented.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from gui.api.answers import Json, Problem
from gui.api.context import Context, who
from settings.rules import KINDS, InvalidRule, Pool, Rule
from settings.rules.suppression import SuppressionFilter

_SELECTION = {"pool": "pool", "mta": "ip", "domain": "domain", "ip": "remote_ip", "tag": "tag", "cluster": "cluster"}


class Foreign(msgspec.Struct, frozen=True):
    """A list of MailerQ's: the kind of rules that it is, our name of each field, and the fields that say what it is."""

    kind: str
    fields: Mapping[str, str]
    about: tuple[str, ...]


LISTS = {
    "pauses": Foreign("pauses", {**_SELECTION, "expire": "until"}, tuple(_SELECTION)),
    "errors": Foreign(
        "errors",
        {**_SELECTION, "code": "code", "extended": "extended", "description": "description"},
        tuple(_SELECTION),
    ),
}
EXTERNAL = Foreign(
    "external-mtas",
    {name: name for name in ("public_ip", "local_ip", "connect_ip", "connect_port", "protocol")},
    ("public_ip",),
)
SUPPRESSED = ("type", "value", "code", "extended", "description")
MOST = 100_000  # suppressions in one answer
_NUMBERS = ("code", "connect_port")
_FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": False}


def routes(context: Context) -> APIRouter:
    """The routes of MailerQ's API."""
    router = APIRouter(include_in_schema=False)
    for name, foreign in LISTS.items():
        _list(router, context, name, foreign)
    _suppressions(router, context)
    _pools(router, context)
    _addresses(router, context)
    _external(router, context)
    _inject(router, context)
    return router


def _external(router: APIRouter, context: Context) -> None:
    """MTA IPs that are elsewhere: those of the configuration are shown, and rules are added to them."""
    store = context.facade.store

    @router.get("/externalmtas")
    async def every() -> Response:
        ways = {one.public_ip: one for one in context.facade.settings.external_mtas}
        ways |= {rule.public_ip: rule.way for rule in store.snapshot.external_mtas}
        return Json([{name: value for name, value in one._asdict().items() if value} for one in ways.values()])

    @router.post("/externalmtas")
    async def put(request: Request) -> Response:
        values = _ours(await context.bodies.either(request), EXTERNAL)
        try:
            old = _external_of(context, values.get("public_ip"))
            if old is None:
                rule = await store.create(EXTERNAL.kind, values, who(request))
            else:
                rule = await store.update(EXTERNAL.kind, old.id, values, who(request))
        except InvalidRule as error:
            raise _wrong(error, EXTERNAL) from None
        return Json({name: value for name, value in _shown(rule, EXTERNAL).items() if value})

    @router.delete("/externalmtas")
    async def delete(request: Request) -> Response:
        ip = str((await context.bodies.either(request)).get("public_ip", ""))
        rule = _external_of(context, ip)
        if rule is None:
            fixed = any(one.public_ip == ip for one in context.facade.settings.external_mtas)
            why = "is of the configuration, the key external-mtas" if fixed else "is no external MTA"
            raise Problem(409 if fixed else 404, f"{ip[:60]!r} {why}.")
        await store.delete(EXTERNAL.kind, rule.id, who(request))
        return Response(status_code=200)


def _external_of(context: Context, ip: Any) -> Rule | None:
    found = context.facade.store.snapshot.external_mtas
    return next((rule for rule in found if _plain(rule.public_ip) == _plain(ip)), None)


def _inject(router: APIRouter, context: Context) -> None:
    @router.post("/inject")
    async def inject(request: Request) -> Response:
        async with context.bodies.json(request) as given:
            me = who(request)
            return Json({"ids": list(await context.facade.injection.submit([given], me.origin, me.name))})


# -- rules -------------------------------------------------------------------------------------------------------------


def _list(router: APIRouter, context: Context, name: str, foreign: Foreign) -> None:
    store, kind = context.facade.store, foreign.kind

    @router.get(f"/{name}")
    async def every() -> Response:
        return Json([_shown(rule, foreign) for rule in store.list(kind)])

    @router.post(f"/{name}")
    async def put(request: Request) -> Response:
        values = _ours(await context.bodies.either(request), foreign)
        try:
            old = _same(context, values, foreign)
            if old is None:
                rule = await store.create(kind, values, who(request), reason="manual")
            else:
                rule = await store.update(kind, old.id, {**old.shown(), **values}, who(request))
        except InvalidRule as error:
            raise _wrong(error, foreign) from None
        return Json(_shown(rule, foreign))

    @router.delete(f"/{name}")
    async def delete(request: Request) -> Response:
        values = _ours(await context.bodies.either(request), foreign)
        try:
            old = _same(context, values, foreign)
        except InvalidRule as error:
            raise _wrong(error, foreign) from None
        if old is None:
            raise Problem(404, f"There is no such entry among the {name}.")
        await store.delete(kind, old.id, who(request))
        return Response(status_code=200)


def _ours(given: Mapping[str, Any], foreign: Foreign) -> dict[str, Any]:
    """The fields under our names, with the types of a form's texts; raises `Problem`."""
    model = KINDS[foreign.kind].model_fields
    found: dict[str, Any] = {}
    for name, value in given.items():
        ours = foreign.fields.get(name)
        if ours is None or ours not in model:
            allowed = ", ".join(one for one, mine in foreign.fields.items() if mine in model)
            raise Problem(400, f"{name[:60]}: is no field here; allowed are {allowed}.")
        found[ours] = _typed(name, value)
    if given.get("pool") and given.get("mta"):
        raise Problem(400, "pool: is given, and so is mta; allowed is one of both.")
    return found


def _typed(name: str, value: Any) -> Any:
    if name in _NUMBERS and isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    if name == "cluster" and (isinstance(value, str | int)):
        if str(value).lower() not in _FLAGS:
            raise Problem(400, "cluster: allowed is true or false.")
        return _FLAGS[str(value).lower()]
    return value


def _same(context: Context, values: Mapping[str, Any], foreign: Foreign) -> Rule | None:
    """The rule that is for the same as these values."""
    names = [ours for name in foreign.about if (ours := foreign.fields[name]) in KINDS[foreign.kind].model_fields]
    about = {name: value for name, value in values.items() if name in names}
    for rule in context.facade.store.list(foreign.kind):
        mine = rule.shown()
        if all(_plain(mine.get(name)) == _plain(about.get(name)) for name in names):
            return rule
    return None


def _plain(value: Any) -> str:
    return "" if value in (None, False) else str(value).strip().lower().rstrip(".")


def _shown(rule: Rule, foreign: Foreign) -> dict[str, Any]:
    mine = rule.shown()
    return {name: mine[ours] for name, ours in foreign.fields.items() if mine.get(ours) is not None}


def _wrong(error: InvalidRule, foreign: Foreign) -> Problem:
    back = {ours: name for name, ours in foreign.fields.items()}
    lines = [f"{back.get(one.field, one.field)}: {one.message}" if one.field else one.message for one in error.errors]
    return Problem(400, "; ".join(lines) + ".")


def _suppressions(router: APIRouter, context: Context) -> None:
    known = context.facade.store.suppressions

    @router.get("/suppressions")
    async def every() -> Response:
        found = await known.page(SuppressionFilter(), 0, MOST)
        entries = [rule.shown() for rule in found]
        return Json([{name: one[name] for name in SUPPRESSED if one.get(name) not in (None, "")} for one in entries])

    @router.post("/suppressions")
    async def put(request: Request) -> Response:
        given = await context.bodies.either(request)
        if unknown := [name for name in given if name not in SUPPRESSED]:
            raise Problem(400, f"{unknown[0][:60]}: is no field here; allowed are {', '.join(SUPPRESSED)}.")
        try:
            rule = await known.create({name: _typed(name, one) for name, one in given.items()}, who(request))
        except InvalidRule as error:
            raise Problem(400, "; ".join(map(str, error.errors)) + ".") from None
        shown = rule.shown()
        return Json({name: shown[name] for name in SUPPRESSED if shown.get(name) not in (None, "")})

    @router.delete("/suppressions")
    async def delete(request: Request) -> Response:
        value = str((await context.bodies.either(request)).get("value", "")).strip()
        rules = [await known.get(id_) for id_ in known.candidates(value if "@" in value else f"x@{value}")]
        found = [rule for rule in rules if rule.value.lower() == value.lower()]
        if not found:
            raise Problem(404, f"{value[:100]!r} is not suppressed.")
        for rule in found:
            await known.delete(rule.id, who(request))
        return Response(status_code=200)


# -- pools -------------------------------------------------------------------------------------------------------------


def _pools(router: APIRouter, context: Context) -> None:
    store = context.facade.store

    @router.get("/pools")
    async def every() -> Response:
        pools = [pool for pool in store.list("pools") if isinstance(pool, Pool)]
        described = [{"name": pool.name, "description": pool.description} for pool in pools]
        return Json([{name: text for name, text in pool.items() if text} for pool in described])

    @router.post("/pools")
    async def put(request: Request) -> Response:
        given = await context.bodies.either(request)
        old = _pool(context, str(given.get("name", "")))
        values = {"name": given.get("name"), "description": given.get("description")}
        await _store(context, request, old, {**(old.shown() if old else {}), **values})
        return Json({name: text for name, text in values.items() if text})

    @router.delete("/pools")
    async def delete(request: Request) -> Response:
        pool = _named(context, await context.bodies.either(request))
        await store.delete("pools", pool.id, who(request))
        return Response(status_code=200)


def _addresses(router: APIRouter, context: Context) -> None:
    store = context.facade.store

    @router.get("/poolips")
    async def every(name: str = "") -> Response:
        pools = [pool for pool in store.list("pools") if isinstance(pool, Pool) and name in ("", pool.name)]
        return Json([{"ip": member.ip, "name": pool.name} for pool in pools for member in pool.members])

    @router.post("/poolips")
    async def put(request: Request) -> Response:
        given = await context.bodies.either(request)
        pool, ip = _named(context, given), str(given.get("ip", ""))
        if all(member.ip != ip for member in pool.members):
            values = {**pool.shown(), "members": [*map(str, pool.members), ip]}
            await _store(context, request, pool, values)
        return Json({"ip": ip, "name": pool.name})

    @router.delete("/poolips")
    async def delete(request: Request) -> Response:
        given = await context.bodies.either(request)
        pool, ip = _named(context, given), str(given.get("ip", ""))
        left = [str(member) for member in pool.members if member.ip != ip]
        if len(left) == len(pool.members):
            raise Problem(404, f"{ip[:60]} is not in the pool {pool.name}.")
        await _store(context, request, pool, {**pool.shown(), "members": left})
        return Response(status_code=200)


def _pool(context: Context, name: str) -> Pool | None:
    found = context.facade.store.list("pools")
    return next((pool for pool in found if isinstance(pool, Pool) and pool.name == name), None)


def _named(context: Context, given: Mapping[str, Any]) -> Pool:
    pool = _pool(context, str(given.get("name", "")))
    if pool is None:
        raise Problem(404, f"There is no pool {str(given.get('name', ''))[:100]!r}.")
    return pool


async def _store(context: Context, request: Request, old: Pool | None, values: Mapping[str, Any]) -> None:
    store = context.facade.store
    try:
        if old is None:
            await store.create("pools", values, who(request))
        else:
            await store.update("pools", old.id, values, who(request))
    except InvalidRule as error:
        lines = [str(one) for one in error.errors]
        raise Problem(400, "; ".join(lines) + ".") from None
