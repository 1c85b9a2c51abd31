"""The finder: what a text may mean: an address, a domain, an MTA IP, a tag, a rule, a view; and where that is.

Owner of nothing. Bound: EACH of a kind. The log and the queue are asked for addresses and message ids alone, and each
has PATIENCE seconds for its answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from gui.components.filter_bar import address
from gui.components.live_table import shown
from gui.components.rules.rule_listing import WHERE
from gui.components.view import ConsolePage
from pipeline.views.bulk import Selection
from pipeline.views.facade import Facade
from pipeline.views.logs import Filters, LogQueryFailed
from pipeline.views.queues import QueueUnavailable, Unbrowsable
from pipeline.views.state.standing import many
from settings.rules import KINDS
from settings.rules.words import rule_words

EACH = 6
LOOKED = 5000  # queued messages that are looked at
PATIENCE = 4.0  # seconds
LONGEST = 300  # characters of what is looked for


class SearchHit(msgspec.Struct, frozen=True):
    """Something that was meant, maybe: of which kind, what, more of it, and its address."""

    kind: str
    text: str
    href: str
    more: str = ""


class Finder:
    """Finds what a text may mean."""

    def __init__(self, facade: Facade, pages: Sequence[ConsolePage]) -> None:
        self._facade, self._pages = facade, pages

    def quickly(self, text: str) -> list[SearchHit]:
        """What is known without asking anybody."""
        wanted = text.strip().lower()[:LONGEST]
        if not wanted:
            return []
        return [*self._places(wanted), *self._rules(wanted), *self._views(wanted)]

    async def thoroughly(self, text: str) -> list[SearchHit]:
        """What the queue and the log have of an address, a part of one, or a message id."""
        wanted = text.strip()[:LONGEST]
        if len(wanted) < 3:
            return []
        found = await asyncio.gather(self._queued(wanted), self._logged(wanted))
        return [one for one in found if one is not None]

    def _places(self, wanted: str) -> Iterator[SearchHit]:
        telemetry = self._facade.telemetry
        for domain in _matching(telemetry.keys("domain"), wanted):
            yield SearchHit("Domain", domain, address("/", {"domain": domain}))
        for ip in self._facade.ips.known():
            if wanted in f"{ip.ip} {ip.name or ''} {ip.ehlo}".lower():
                yield SearchHit("MTA IP", ip.ip, address("/", {"ip": ip.ip}), ip.name or "")
        for tag in _matching(telemetry.keys("tag"), wanted):
            yield SearchHit("Tag", tag, address("/", {"tag": tag}))

    def _rules(self, wanted: str) -> Iterator[SearchHit]:
        for kind in KINDS:
            rules = ((rule, rule_words(kind, rule.shown())) for rule in self._facade.store.list(kind))
            for rule, words in [pair for pair in rules if wanted in pair[1].lower()][:EACH]:
                href = address(WHERE[kind], {"rule": str(rule.id)}) if kind in WHERE else "/ips"
                yield SearchHit("Rule", words, href)

    def _views(self, wanted: str) -> Iterator[SearchHit]:
        for page in self._pages:
            if wanted in page.title.lower():
                yield SearchHit("View", page.title, page.path)

    async def _queued(self, wanted: str) -> SearchHit | None:
        bulk, after, count = self._facade.bulk, (0.0, 0), 0
        try:
            async with asyncio.timeout(PATIENCE):
                page, then = await bulk.page(Selection(containing=wanted), after, LOOKED)
                count = len(page)
        except (QueueUnavailable, Unbrowsable, TimeoutError):
            return None
        if not count:
            return None
        more = "and maybe more " if then is not None else ""
        return SearchHit(
            "Queue", wanted, address("/queue", {"containing": wanted}), f"{many(count)} {more}in the queue"
        )

    async def _logged(self, wanted: str) -> SearchHit | None:
        filters = Filters(containing=wanted)
        try:
            async with asyncio.timeout(PATIENCE):
                page = await asyncio.to_thread(self._facade.logs.attempts, filters, EACH)
        except (LogQueryFailed, OSError, TimeoutError):
            return None
        if not page.records:
            return None
        last: Any = page.records[0]
        said = " ".join(str(part) for part in (last.result, last.code, last.description) if part)
        href = address("/logs", {"containing": wanted, "range": "all"})
        return SearchHit("Log", wanted, href, f"the last attempt: {said}")


def found_row(found: SearchHit) -> dict[str, str]:
    """As the browser shows it."""
    return {"kind": found.kind, "text": shown(found.text, 200), "more": shown(found.more, 160), "href": found.href}


def _matching(keys: Iterable[str], wanted: str) -> list[str]:
    """Those that begin with it first."""
    found = [key for key in keys if wanted in key.lower()]
    return sorted(found, key=lambda key: not key.lower().startswith(wanted))[:EACH]
