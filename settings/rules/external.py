"""The rule about MTA IPs that are elsewhere: how mail of a public IP leaves. The key `external-mtas` as rules."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from settings.config.egress import ExternalMta
from settings.rules.fields import Ip, Line, Maybe
from settings.rules.rule import Rule

Port = Annotated[int, Field(ge=1, le=65_535)]


class ExternalMtaRule(Rule):
    """An MTA IP that is not on this machine, or shows as another: mail of it leaves by this way."""

    identity: ClassVar[tuple[str, ...]] = ("public_ip",)

    public_ip: Ip = Field(title="Public IP", description="What messages and pools name, and receivers see.")
    protocol: Literal["nat", "socks", "http", "proxy"] = Field(
        "nat",
        title="Protocol",
        description="nat: bound to the local IP. Through a server: socks (SOCKS5), http (CONNECT), proxy (PROXY v2).",
    )
    local_ip: Maybe[Ip] = Field(None, title="Local IP", description="To bind to. Empty: any; nat needs one.")
    connect_ip: Maybe[Ip] = Field(None, title="Connect IP", description="Of the server. Empty with nat.")
    connect_port: Maybe[Port] = Field(None, title="Connect port", description="Of the server; nat does not use it.")
    description: Maybe[Line] = Field(None, title="Description", max_length=500, description="For people.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.protocol == "nat":
            if self.local_ip is None:
                raise ValueError("local_ip: is missing; nat needs the address to bind to")
            if (":" in self.local_ip) != (":" in self.public_ip):
                raise ValueError(
                    "local_ip: is of another family than the public IP; allowed is IPv4 with IPv4, or IPv6"
                )
            if self.connect_ip is not None:
                raise ValueError("connect_ip: goes with socks, http and proxy; nat connects to the receiver itself")
            return self
        for name in ("connect_ip", "connect_port"):
            if getattr(self, name) is None:
                raise ValueError(f"{name}: is missing; {self.protocol} needs the server's address and port")
        return self

    @property
    def way(self) -> ExternalMta:
        """The way as the client takes it."""
        return ExternalMta(
            self.public_ip, self.protocol, self.local_ip or "", self.connect_ip or "", self.connect_port or 0
        )
