"""The rules about who shares a lane, and what it goes to, each a model: providers, tags."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from settings.rules.fields import LABEL, Count, Line, Maybe, Several, one_line, quoted
from settings.rules.rule import Rule, unit


def _provider_name(value: str) -> str:
    name = one_line(value).lower()
    if not LABEL.fullmatch(name):
        raise ValueError(f"{quoted(value)} is no provider's name; allowed are letters, digits and hyphens, no dot")
    return name


def _mx_pattern(value: str) -> str:
    pattern = one_line(value).lower().rstrip(".")
    if not _MX(pattern):
        raise ValueError(f"{quoted(value)} is no pattern of hosts; allowed are such as *.google.com or mx.example.com")
    return pattern


_MX = re.compile(r"(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?").fullmatch
ProviderName = Annotated[str, AfterValidator(_provider_name)]
MxPattern = Annotated[str, AfterValidator(_mx_pattern)]
Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$", max_length=7)]
Weight = Annotated[int, Field(ge=1, le=100)]


class ProviderRule(Rule):
    """Domains whose best MX host matches one of these patterns are one destination, with the provider's name."""

    identity: ClassVar[tuple[str, ...]] = ("name",)

    name: ProviderName = Field(title="Name", description="In place of a domain, in rules and views: gmail")
    patterns: Several[MxPattern] = Field(
        title="MX hosts", min_length=1, max_length=100, description="Of its mail servers: *.google.com"
    )
    description: Maybe[Line] = Field(None, title="Description", max_length=500, description="For people.")


class TagRule(Rule):
    """A tag: its share of a lane, and its rate. The first tag of a message counts."""

    identity: ClassVar[tuple[str, ...]] = ("name",)
    live: ClassVar[Mapping[str, str]] = {
        "figures": "In the last minute, and now: processed, delivered, errors, in memory, parked"
    }

    name: Line = Field(title="Tag", min_length=1, max_length=200, description="As messages have it.")
    weight: Weight = Field(1, title="Weight", description="Its share of a lane beside other tags, 1 to 100.")
    messages: Count = Field(
        0,
        title="Rate",
        description="Messages a minute of this tag. 0: unlimited.",
        json_schema_extra=unit("messages a minute"),
    )
    scope: Literal["lane", "all"] = Field(
        "lane", title="Scope", description="Whether the rate is for each lane, or for all lanes together."
    )
    colour: Maybe[Colour] = Field(None, title="Colour", description="#rrggbb, for people.")
    description: Maybe[Line] = Field(None, title="Description", max_length=500, description="For people.")
