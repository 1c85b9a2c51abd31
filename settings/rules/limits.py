"""Limits: what a lane may do. The values that throttle rules, flood patterns and the configuration decide on."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits in force for one lane; 0 is unlimited.

    Attributes:
        domain_messages: messages a minute to the destination.
        domain_connects: new connections a minute to the destination.
        domain_connections: connections at once to the destination.
        ip_messages, ip_connects, ip_connections: the same for each remote IP of the destination.
        connection_messages: messages over one connection, then QUIT.
        connection_idle: seconds a connection is kept open between messages.
        connection_security: off, opportunistic, required or verified.
        queue: deliveries in memory for the lane; more are parked.
    """

    domain_messages: int = 0
    domain_connects: int = 0
    domain_connections: int = 0
    ip_messages: int = 0
    ip_connects: int = 0
    ip_connections: int = 20
    connection_messages: int = 0
    connection_idle: float = 5.0
    connection_security: str = "opportunistic"
    queue: int = 500
