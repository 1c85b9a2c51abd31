"""Suppressions: addresses and domains that get no mail. The model of one, and the index that a million are found by.

The index has 16 bytes for an entry: a hash of its value and its id, sorted by hash. What it finds is a candidate; the
database has the entry itself. Nothing here does I/O.
"""

from __future__ import annotations

import array
import bisect
import datetime
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Literal, Self

import msgspec
from pydantic import Field, model_validator

from settings.rules.decisions import same_class
from settings.rules.fields import Line, Maybe, Permanent, Status, Time, domain_name, lookup_name, one_line
from settings.rules.rule import READ_ONLY, Rule, check

SOURCES = ("console", "api", "import", "response", "complaint", "bounce")
LONGEST = 320  # characters of an address (RFC 5321 4.5.3.1)
DEFAULT = "Suppressed: this address gets no mail"


class Suppression(Rule):
    """An address or a domain that gets no mail: it ends before DNS and any connection."""

    type: Literal["address", "domain"] = Field("address", title="Type", description="What is suppressed.")
    value: Line = Field(
        title="Address", min_length=1, max_length=LONGEST, description="An address, or the domain of all its addresses."
    )
    tag: Maybe[Line] = Field(None, title="Tag", max_length=200, description="Only mail with this tag. Empty: all.")
    code: Permanent = Field(550, title="Code", description="Of the answer in the result.")
    extended: Maybe[Status] = Field(None, title="Status", description="Enhanced status (RFC 3463), such as 5.1.1.")
    description: Line = Field(DEFAULT, title="Text", max_length=500, description="The answer's text.")
    until: Maybe[Time] = Field(None, title="Until", description="When it ends, UTC. Empty: when somebody ends it.")
    source: Maybe[Line] = Field(None, title="Source", max_length=16, json_schema_extra=READ_ONLY)
    created: Maybe[Time] = Field(None, title="Created", json_schema_extra=READ_ONLY)

    @model_validator(mode="before")
    @classmethod
    def _typed(cls, values: Any) -> Any:
        """Without a type the value tells which it is."""
        if isinstance(values, dict) and not values.get("type") and isinstance(values.get("value"), str):
            return {**values, "type": "address" if "@" in values["value"] else "domain"}
        return values

    @model_validator(mode="after")
    def _clean(self) -> Self:
        check("extended", same_class, self.code, self.extended)
        found = _cleaned(self.type, self.value)
        return self if found == self.value else self.model_copy(update={"value": found})


def _cleaned(type_: str, value: str) -> str:
    try:
        if type_ == "domain":
            return domain_name(value.removeprefix("@"))
        local, at, domain = one_line(value).rpartition("@")
        if not (at and local):
            raise ValueError("is no address; allowed are such as user@example.com")
        return f"{local.casefold()}@{domain_name(domain)}"
    except ValueError as error:
        raise ValueError(f"value: {error}") from None


def address_key(address: str) -> tuple[str, str]:
    """(address, domain) as suppressions keep theirs; never raises. 0.4 us for an ordinary address."""
    local, _, domain = address.rpartition("@")
    domain = lookup_name(domain)
    return f"{local.casefold()}@{domain}", domain


def digest(value: str) -> int:
    """63 bits of a value, the same everywhere: databases keep it as a signed integer."""
    found = hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(found, "big") >> 1


class HashIndex:
    """Ids by hash: what was read from the database, and what has changed since."""

    __slots__ = ("_added", "_gone", "_hashes", "_ids")

    def __init__(self, parts: Iterable[Sequence[tuple[int, int]]] = ()) -> None:
        """`parts`: of (hash, id), sorted by hash."""
        self._hashes, self._ids = array.array("q"), array.array("q")
        for part in parts:
            self._hashes.extend([hash_ for hash_, _ in part])
            self._ids.extend([id_ for _, id_ in part])
        self._added: dict[int, tuple[int, ...]] = {}
        self._gone: set[tuple[int, int]] = set()  # of those that were read

    def __len__(self) -> int:
        return len(self._ids) + sum(map(len, self._added.values())) - len(self._gone)

    @property
    def changes(self) -> int:
        """What has been added and removed since it was read: each costs more than what was read."""
        return len(self._added) + len(self._gone)

    def add(self, hash_: int, id_: int) -> None:
        """An entry is new."""
        if (hash_, id_) in self._gone:
            self._gone.remove((hash_, id_))
        else:
            self._added[hash_] = (*self._added.get(hash_, ()), id_)

    def remove(self, hash_: int, id_: int) -> None:
        """An entry is gone."""
        added = self._added.get(hash_, ())
        if id_ not in added:
            self._gone.add((hash_, id_))
        elif len(added) == 1:
            del self._added[hash_]
        else:
            self._added[hash_] = tuple(other for other in added if other != id_)

    def find(self, value: str) -> Sequence[int]:
        """The ids of entries that may have this value; 1.5 us with a million."""
        hash_ = digest(value)
        hashes = self._hashes
        at = bisect.bisect_left(hashes, hash_)
        found: list[int] = []
        while at < len(hashes) and hashes[at] == hash_:
            found.append(self._ids[at])
            at += 1
        if self._added:
            found.extend(self._added.get(hash_, ()))
        return [id_ for id_ in found if (hash_, id_) not in self._gone] if found and self._gone else found


class SuppressionIndex:
    """Whether an address may be suppressed: candidates by address and by domain."""

    def __init__(self, addresses: HashIndex | None = None, domains: HashIndex | None = None) -> None:
        self.by_type = {"address": addresses or HashIndex(), "domain": domains or HashIndex()}
        self._addresses, self._domains = self.by_type["address"], self.by_type["domain"]
        self.empty = not len(self)

    def __len__(self) -> int:
        return len(self._addresses) + len(self._domains)

    @property
    def changes(self) -> int:
        """What has changed since it was read from the database."""
        return self._addresses.changes + self._domains.changes

    def changed(self, rule: Suppression, *, gone: bool = False) -> None:
        """One entry has been added, or is gone."""
        index = self.by_type[rule.type]
        if gone:
            index.remove(digest(rule.value), rule.id)
        else:
            index.add(digest(rule.value), rule.id)
        self.empty = not len(self)

    def candidates(self, address: str) -> Sequence[int]:
        """The ids of entries that may be for this address."""
        if self.empty:
            return ()
        whole, domain = address_key(address)
        found = self._addresses.find(whole)
        return [*found, *self._domains.find(domain)] if len(self._domains) else found


class SuppressionFilter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which suppressions; all that are given must hold.

    Attributes:
        containing: text in the value, in any case.
        type, tag, source: whole.
        before: created before then.
    """

    containing: str = ""
    type: str = ""
    tag: str = ""
    source: str = ""
    before: datetime.datetime | None = None


def holds(rules: Iterable[Suppression], address: str, tags: Sequence[str], now: float) -> Suppression | None:
    """The entry that is for this address and these tags: an address before its domain, one with a tag before none."""
    whole, domain = address_key(address)
    fitting = [
        rule
        for rule in rules
        if rule.value == (whole if rule.type == "address" else domain)
        and not rule.ended(now)
        and (rule.tag is None or rule.tag in tags)
    ]
    return max(fitting, key=lambda rule: (rule.type == "address", rule.tag is not None), default=None)
