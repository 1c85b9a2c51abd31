"""The rules about who shares a lane, and what it goes to, each a model: tags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from settings.rules.fields import Count, Line, Maybe
from settings.rules.rule import Rule, unit

Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$", max_length=7)]
Weight = Annotated[int, Field(ge=1, le=100)]


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
