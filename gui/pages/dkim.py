"""DKIM keys: which sign for whom, and whether DNS says so. A private key goes in here, and never comes out again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from gui.components.dialog_box import Entry, Errors, Values
from gui.components.record import Record
from gui.components.rules.rule_page import EDIT, REMOVE, Cells, RulePage, whole
from gui.components.rules.rule_table import Action, RuleColumn, columns_of
from gui.components.view import ConsolePage
from settings.rules import DkimKey, Rule
from settings.store import REFUSED

TONES = {"valid": "good", "missing": "bad", "different": "bad", "unreachable": "watch"}
SIGNS = "Whether it signs now. A key signs as soon as its record is in DNS, and until it ends."
SOON = 14 * 86_400  # seconds before its end in which a key should be rotated
MOMENT = 2.0  # seconds from now, since an end must lie ahead
ROTATED = ("domain", "algorithm", "patterns", "headers", "canonicalization")  # what the new key has of the old one
UNKNOWN = {"tone": "idle", "text": "unknown", "tip": "DNS is not asked: dkim-check-dns is off."}


class DkimKeys(RulePage):
    """One opened DKIM keys."""

    path = "/dkim"
    kind = "dkim-keys"
    noun = "DKIM key"
    label = "DKIM keys"
    actions = (Action("rotate", "Rotate…", text=True), Action("record", "DNS record"), EDIT, REMOVE)
    words: ClassVar[Mapping[str, str]] = {"rsa": "RSA 2048", "ed25519": "Ed25519", "global": "all domains"}
    initial: ClassVar[Mapping[str, Any]] = {"algorithm": "rsa"}
    empty = (
        "No DKIM keys yet: mail goes out unsigned",
        "Generate a key for the domain that your mail is from, publish its record in DNS, and every message of that "
        "domain is signed.",
    )

    def __init__(self, view: Any) -> None:
        self._record: Record
        self._open_record: int | None = None
        super().__init__(view)

    def shown_columns(self) -> list[RuleColumn]:
        found = columns_of(self.kind)
        del found["record"]
        dns = msgspec.structs.replace(found.pop("dns"), label="DNS", live=True)
        signs = RuleColumn(name="signs", label="Signs", help=SIGNS, live=True, sortable=False)
        patterns = msgspec.structs.replace(found.pop("patterns"), label="Signs for", empty="its own domain")
        order = [found.pop("domain"), found.pop("selector"), found.pop("algorithm"), signs, dns, patterns]
        empties = {"expire": "never", "headers": "the usual"}
        return [*order, *(msgspec.structs.replace(one, empty=empties.get(one.name, "–")) for one in found.values())]

    def below(self) -> None:
        self._record = Record(self._ask_dns)

    def title(self, rule: Rule) -> str:
        assert isinstance(rule, DkimKey)
        return f"{rule.selector} of {rule.domain}"

    def rank(self, rule: Rule) -> Any:
        assert isinstance(rule, DkimKey)
        return (rule.domain, rule.selector)

    def cells(self, rule: Rule) -> Cells:
        assert isinstance(rule, DkimKey)
        patterns = [
            {"label": pattern.type, "text": pattern.pattern or "all domains", "tip": "From domains that it signs for"}
            for pattern in rule.patterns
        ]
        headers = [{"label": "", "text": name, "tip": "signed besides the usual headers"} for name in rule.headers]
        algorithm = self.words.get(rule.algorithm or "", rule.algorithm)
        if rule.algorithm == "rsa":
            algorithm = "RSA"  # one that was pasted may have another size
        return {**rule.shown(), "patterns": patterns, "headers": headers, "algorithm": algorithm}

    def live_cells(self, rule: Rule) -> Cells:
        assert isinstance(rule, DkimKey)
        return {"dns": self._state(rule), "signs": self._signs(rule)}

    def _signs(self, rule: DkimKey) -> dict[str, Any]:
        """Whether it signs now, and what it waits for."""
        state = self.facade.rules.dns_state(rule.id)
        if _over(rule):
            return {"tone": "idle", "text": "retired", "tip": "Its end has come; it can be deleted."}
        if state is not None and not state.signs:
            return {"tone": "watch", "text": "waits for DNS", "tip": "It begins when its record is published."}
        later = self._successor(rule)
        tip = f"{later.selector} signs too: this one can be retired." if later else "It signs all mail that it is for."
        return {"tone": "good", "text": "now", "tip": tip, "sub": "and its successor" if later else ""}

    def _successor(self, rule: DkimKey) -> DkimKey | None:
        """A newer key for the same mail that signs already."""
        newer = (one for one in self.store.snapshot.dkim_keys if one.id > rule.id and one.domain == rule.domain)
        for one in newer:
            state = self.facade.rules.dns_state(one.id)
            if one.patterns == rule.patterns and not _over(one) and (state is None or state.signs):
                return one
        return None

    def warnings(self, rule: Rule) -> dict[str, str]:
        assert isinstance(rule, DkimKey)
        if _over(rule):
            return {"expire": "does not sign any more"}
        if rule.expire is not None and rule.expire.timestamp() <= time.time() + SOON:
            return {"expire": "ends soon: rotate it"}
        return {}

    def consequence(self, rule: Rule) -> str:
        return "Its mail goes out without this signature from the next message. The key itself cannot be shown again."

    def aside(self, rule: Rule | None, values: Mapping[str, Any], trying: str) -> list[Cells]:
        if not isinstance(rule, DkimKey):
            return []
        title = f"The public key has to be in DNS at {rule.record_name}"
        line = {"text": "The record to publish is shown when the key is stored."}
        return [{"tone": "idle", "title": title, "lines": [] if rule.id else [line]}]

    def stored(self, rule: Rule) -> None:
        self._show_record(rule)

    async def acted(self, action: str, rule: Rule) -> None:
        assert isinstance(rule, DkimKey)
        if action == "record":
            self._show_record(rule)
        elif action == "rotate":
            later = self._successor(rule)
            await (self._retire(rule, later) if later is not None else self._rotate(rule))

    async def _rotate(self, rule: DkimKey) -> None:
        """A new key for the same mail; it signs as soon as its record is in DNS, and then this one is retired."""
        made: list[Rule] = []

        async def save(values: Values) -> Errors:
            kept = {name: value for name, value in rule.shown().items() if name in ROTATED}
            fields = {**kept, "selector": values["selector"].strip(), "generate": True}
            try:
                made.append(await self.store.create(self.kind, fields, self.view.who))
            except REFUSED as error:
                return {"selector": str(error)}
            return {}

        lines = [
            f"A new key signs the mail that {rule.selector} signs now, as soon as its record is in DNS.",
            f"Until then {rule.selector} goes on alone; afterwards “Rotate…” retires it.",
        ]
        entries = (Entry("selector", "New selector", "Part of the record's name; one that was never used."),)
        start = {"selector": time.strftime("s%Y%m%d", time.gmtime())}
        if await self.box.fill(f"Rotate {self.title(rule)}?", entries, start, "Make the key", save, lines=lines):
            self.done(f"Added: {self.title(made[0])}", lambda: self.store.delete(self.kind, made[0].id, self.view.who))
            self._show_record(made[0])

    async def _retire(self, rule: DkimKey, later: DkimKey) -> None:
        lines = [
            f"{later.selector} is in DNS and signs the same mail.",
            f"{rule.selector} signs no more from now on. Leave its record in DNS for some days, for mail on its way.",
        ]
        if not await self.box.confirm(f"Retire {self.title(rule)}?", lines, "Retire"):
            return
        who, before = self.view.who, whole(rule)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + MOMENT))
        try:
            await self.store.update(self.kind, rule.id, {**rule.shown(), "expire": now}, who)
        except REFUSED as error:
            self.notes.say(str(error), level="bad")
            return
        self.done(f"Retired: {self.title(rule)}", lambda: self.store.update(self.kind, rule.id, before, who))

    def _show_record(self, rule: Rule) -> None:
        assert isinstance(rule, DkimKey)
        self._open_record = rule.id
        self._record.begin(rule, self._state(rule))

    def _state(self, rule: Rule) -> dict[str, Any]:
        """What DNS says of a key, as one sees it: a word, and why."""
        state = self.facade.rules.dns_state(rule.id)
        if state is None:
            return UNKNOWN
        signs = "" if state.signs else " (it does not sign)"
        tip = f"{state.why or 'The public key is published'}{signs}."
        return {"tone": TONES[state.status], "text": state.status, "tip": tip, "since": state.since}

    async def _ask_dns(self) -> None:
        rule = self.store.snapshot.rule(self.kind, self._open_record or 0)
        if rule is None or not self.allowed():
            return
        await self.facade.rules.ask_dns(rule.id)
        self._record.show("state", {**self._state(rule), "asked": time.time()})
        self.refresh()


def _over(rule: DkimKey) -> bool:
    return rule.expire is not None and rule.expire.timestamp() <= time.time()


PAGE = ConsolePage(
    path="/dkim",
    title="DKIM keys",
    section="Deliver",
    icon="M7 13.500a3.500 3.500 0 1 1 3.300-4.700H17v3h-2V14h-2.500v-2.200h-2.200A3.500 3.500 0 0 1 7 13.500z",
    key="k",
    build=DkimKeys,
    purpose="The keys that sign mail, whether DNS has their public halves, and their rotation.",
)
