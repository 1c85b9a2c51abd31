"""The budget of descriptors: how many each part may have, so that none takes those of another.

Each connection is a descriptor, and so is each file, pipe and question to DNS. At the start the soft limit is raised to
what the configuration needs. Where the hard limit forbids that, what is left behind the program's own share is split
between delivery, intake and console in the proportion of what each wanted, and one line says so. Below LEAST for one of
them the program does not start: it could not promise to deliver what it takes.

Address space is looked at, too: under a bound that is too low (RLIMIT_AS) libraries end the program without a word.

Delivery and intake obey by `max-connections` and `smtp-connections` (`fitted`), the console by `console()`.
"""

from __future__ import annotations

import contextlib
import resource

import msgspec

from settings import Settings, StartError

PROGRAM = 64  # the loop, the logs, the queue's and the rules' database, listening sockets, connections to a broker
CHILDREN = 32  # pipes and shared memory of signers, log writer, archive, previews and `exec:` programs
DNS = 128  # `dns.QUESTIONS` at once, with TCP beside UDP for some
FILES = 128  # the delivery log's, while it is searched or exported; connections that are refused, for a moment
OWN = PROGRAM + CHILDREN + DNS + FILES
CONSOLE = 400  # connections to the console's ports
LEAST = 32  # connections, for each of the three
ADDRESSES = 1_000_000_000  # octets of address space; a program that has just started has reserved 880 MB


class Shares(msgspec.Struct, frozen=True):
    """How many connections each part may have.

    Attributes:
        limit: descriptors of the process.
        needed: what all of them would need.
        delivery, intake, console: connections.
    """

    limit: int
    needed: int
    delivery: int
    intake: int
    console: int


def shares(delivery: int, intake: int, console: int, limit: int) -> Shares:
    """What each gets of what it wants, under a limit of so many descriptors in all.

    Raises:
        StartError: one would have fewer than LEAST.
    """
    wanted = (delivery, intake, console)
    needed = OWN + sum(wanted)
    if needed <= limit:
        return Shares(limit, needed, *wanted)
    least = [min(LEAST, one) for one in wanted]
    spare = limit - OWN - sum(least)
    if spare < 0:
        raise StartError(
            f"descriptors: this process may have {limit:,}, and needs {OWN + sum(least):,} at the very least, "
            f"{needed:,} for its configuration; raise the limit (LimitNOFILE=, ulimit -Hn)"
        )
    above = [one - low for one, low in zip(wanted, least, strict=True)]
    parts = [low + more * spare // sum(above) for low, more in zip(least, above, strict=True)]
    return Shares(limit, needed, *parts)


def claim(settings: Settings) -> tuple[Settings, str | None]:
    """Raise the limit as far as it is needed and allowed.

    Returns the configuration with the connections that each part gets, and a line for the operator where they are
    fewer than was configured.

    Raises:
        StartError: a limit is too low for anything.
    """
    global _console
    enough_addresses(resource.getrlimit(resource.RLIMIT_AS)[0])
    console = CONSOLE if settings.www_port or settings.www_secure_port else 0
    wanted = settings.max_connections, settings.smtp_connections if settings.smtp_port else 0, console
    found = shares(*wanted, limit=_raised(OWN + sum(wanted)))
    _console = found.console
    intake = found.intake or settings.smtp_connections
    fitted = settings.model_copy(update={"max_connections": found.delivery, "smtp_connections": intake})
    return fitted, _tight(found, wanted) if found.needed > found.limit else None


def enough_addresses(limit: int) -> None:
    """Raises `StartError` where so many octets of address space are too few."""
    if resource.RLIM_INFINITY != limit < ADDRESSES:
        raise StartError(
            f"memory: this process may reserve {limit // 10**6:,} MB of addresses, and needs {ADDRESSES // 10**6:,} at "
            "the least, of which it uses a fifth; raise the limit (LimitAS=, ulimit -v), or bound memory by MemoryMax="
        )


def console() -> int:
    """How many connections the console may have."""
    return _console


_console = CONSOLE  # until the limit is known


def _tight(found: Shares, wanted: tuple[int, int, int]) -> str:
    return (
        f"descriptors: this process may have {found.limit:,} and its configuration needs {found.needed:,}: "
        f"{found.delivery:,} of {wanted[0]:,} connections go out, {found.intake:,} of {wanted[1]:,} come in, "
        f"{found.console:,} of {wanted[2]:,} to the console; raise the limit (LimitNOFILE=, ulimit -Hn), or lower "
        "max-connections and smtp-connections"
    )


def _raised(needed: int) -> int:
    """The limit, after it was raised to what is needed, or as near to that as this process may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    endless = hard == resource.RLIM_INFINITY
    if soft != resource.RLIM_INFINITY and soft < needed:
        everything = (needed, hard if endless else max(hard, needed))  # only root may raise the hard limit
        for new in (everything, (needed if endless else min(needed, hard), hard)):
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, new)
                break
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return needed if soft == resource.RLIM_INFINITY else soft
