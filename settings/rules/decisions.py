"""The rules that decide on a message, each a model: forced errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

from pydantic import Field, model_validator

from settings.rules.fields import Code, Line, Maybe, Status, Time
from settings.rules.rule import READ_ONLY, check
from settings.rules.selection import Selecting

CLASSES = (
    "invalid-recipient", "inactive-mailbox", "mailbox-full", "invalid-domain", "no-relay", "policy", "spam-content",
    "spam-block", "reputation-domain", "authentication", "rate-limit", "greylisted", "too-large", "routing", "tls",
    "protocol", "connection", "auto-reply", "other",
)  # fmt: skip
"""What a negative answer may mean. `docs/rules.md` says what each is."""


class ForcedError(Selecting):
    """Ends mail with this answer without a connection, also what waits already. 2xx counts as delivered."""

    identity: ClassVar[tuple[str, ...]] = ("ip", "pool", "domain", "remote_ip", "tag")
    live: ClassVar[Mapping[str, str]] = {"used": "Messages that it has ended since the start"}

    all: bool = Field(
        False, title="All mail", strict=True, description="Where nothing above is given: all mail is meant, and ends."
    )
    code: Code = Field(550, title="Code", description="5xx: given up. 4xx: tried again. 2xx: done.")
    extended: Maybe[Status] = Field(None, title="Status", description="Enhanced status (RFC 3463), such as 5.7.1.")
    description: Line = Field("Stopped by the operator", title="Text", max_length=500, description="The answer's text.")
    until: Maybe[Time] = Field(None, title="Until", description="When it ends, UTC. Empty: when somebody ends it.")
    cluster: bool = Field(False, title="Cluster", strict=True, description="For all instances, not this one alone.")
    instance: Maybe[Line] = Field(None, title="Instance", max_length=200, json_schema_extra=READ_ONLY)

    @model_validator(mode="after")
    def _one_class(self) -> Self:
        check("all", _all_or_some, self)
        check("code", _usable, self.code)
        check("extended", same_class, self.code, self.extended)
        return self


SELECTION = ("tag", "domain", "remote_ip", "ip", "pool")


def _all_or_some(rule: ForcedError) -> None:
    if rule.all and (given := [name for name in SELECTION if getattr(rule, name)]):
        raise ValueError(f"is given, and so is {given[0]}; allowed is one of both")


def names_mail(rule: ForcedError) -> bool:
    """Whether it says which mail it ends; one without a word on that was perhaps not meant for all."""
    return rule.all or any(getattr(rule, name) for name in SELECTION)


def _usable(code: int) -> None:
    if 300 <= code < 400:
        raise ValueError(f"{code} is no end of a message; allowed are 200 to 299 and 400 to 599")


def same_class(code: int, extended: str | None) -> None:
    """An enhanced status is of the class that its code has (RFC 3463 2); raises `ValueError`."""
    if extended is not None and extended[0] != str(code)[0]:
        raise ValueError(f"{extended} does not go with {code}; allowed is {str(code)[0]}.x.x, or empty")
