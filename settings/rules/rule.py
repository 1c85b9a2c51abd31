"""What every rule has, and what the models are written with."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

READ_ONLY: JsonDict = {"read_only": True}
REMOVED = "none"  # what takes a secret away, since an empty one stays


def unit(name: str, group: str = "") -> JsonDict:
    """What a form shows after a field, and the part of the form that it belongs to."""
    return {"unit": name, "group": group}


class Rule(BaseModel):
    """What every rule has. `id` is 0 until it is stored."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    live: ClassVar[Mapping[str, str]] = {}
    identity: ClassVar[tuple[str, ...]] = ()  # fields that no two rules of the kind have alike; empty: no such thing
    secrets: ClassVar[tuple[str, ...]] = ()  # write-only fields that are stored encrypted, in a kind without a table

    id: int = Field(0, title="Id", json_schema_extra=READ_ONLY)

    def shown(self) -> dict[str, Any]:
        """The rule as JSON values, whole but for what is write-only."""
        return self.model_dump(mode="json")

    def revealed(self) -> dict[str, str]:
        """Its secrets that are given: to store it, never to show."""
        found = {name: getattr(self, name) for name in self.secrets}
        return {name: value.get_secret_value() for name, value in found.items() if value is not None}

    def ended(self, now: float) -> bool:
        """Whether its end (`until`) is past at `now`, epoch seconds."""
        until: datetime.datetime | None = getattr(self, "until", None)
        return until is not None and until.timestamp() <= now


def check(field: str, test: Any, *arguments: Any) -> None:
    """Run a check of several fields; what it says is said of `field`."""
    try:
        test(*arguments)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from None


def one_source(ip: str | None, pool: str | None) -> None:
    """Mail leaves from an MTA IP, a pool, or any; raises `ValueError`."""
    if ip is not None and pool is not None:
        raise ValueError("is given, and so is ip; allowed is one of both, or neither for all")


def one_target(domain: str | None, remote_ip: str | None, *ips: str | None) -> None:
    """A target is a domain or a remote IP that the MTA IPs can reach, or all; raises `ValueError`."""
    if remote_ip is None:
        return
    if domain is not None:
        raise ValueError("is given, and so is domain; allowed is one of both, or neither for all")
    if any(ip is not None and (":" in ip) != (":" in remote_ip) for ip in ips):
        raise ValueError(
            f"{remote_ip} is out of reach from the other family; allowed is IPv4 with IPv4, IPv6 with IPv6"
        )
