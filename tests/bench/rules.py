"""What 1,000 rules of all kinds cost a message, look-up by look-up; CPU time, which other work disturbs least.

    python -m tests.bench.rules

The rules are for others' mail (other domains, tags, MTA IPs) and for all of it with conditions that do not hold, as
most are for most messages.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from reactivex.subject import Subject

from operators.deciding.force import force
from operators.deciding.rewrite import rewrite
from operators.deliveries.delivery import Delivery, Lease, Route, Target
from operators.mail.message import from_properties
from operators.stages.hold import hold
from operators.stages.redirect import redirect
from operators.stages.stage import Stage
from settings.rules import Snapshot
from settings.rules.limits import Limits
from settings.rules.models import KINDS
from tests.bench.table import Row, markdown

EACH = 91  # rules of a kind: 1,001 of eleven kinds
MESSAGES = 2000
IP = "192.0.2.200"
MIME = (
    "From: Shop <news@sender.example>\r\nTo: someone@d1.example\r\nSubject: Your order of today\r\n"
    "Message-ID: <1@sender.example>\r\nX-Campaign: autumn\r\n\r\n" + ("x" * 70 + "\r\n") * 50
)
NOBODY = {"domain_messages": 600}


def _aim(number: int) -> dict[str, Any]:
    """Other mail: by domain, by tag, by MTA IP, by both."""
    found: dict[str, Any] = {}
    if number % 3 != 1:
        found["domain"] = f"other{number}.example"
    if number % 3 != 0:
        found["tag"] = f"other-{number}"
    if number % 4 == 0:
        found["ip"] = f"198.51.100.{number % 250}"
    return found


_CONDITIONS = (
    'subject contains "winter sale {n}"',
    'header:X-Campaign equals "spring{n}"',
    'envelope contains "other{n}@"',
    '/data/plan equals "plan{n}"',
    'subject matches "^Re: ticket.{n}$"',
    'recipient contains "@other{n}.example"',
    'subject not contains "order" and envelope contains "x{n}"',
)


def _rule(kind: str, number: int) -> dict[str, Any]:
    n = number
    match kind:
        case "throttles":
            return _aim(n) | {"domain_messages": 60 + n} | ({"scope": "lane"} if "tag" in _aim(n) else {})
        case "floods":
            return {"name": f"f{n}", "pattern": f"too many of {n}", "pause": 60}
        case "pauses":
            return _aim(n) | {"reason": f"r{n}"}
        case "redirects":
            return {"from_ip": f"198.51.100.{n}", "to_ip": "203.0.113.9"}
        case "errors":
            return _aim(n) | {"code": 554, "description": "stopped"}
        case "classes":
            return {"name": f"c{n}", "pattern": f"own words {n}", "meaning": "policy"}
        case "responses":
            return {"name": f"p{n}", "pattern": f"answer {n}", "retry": 60} | (_aim(n) if n % 2 else {})
        case "rewrites":
            return {"name": f"w{n}", "when": _CONDITIONS[n % len(_CONDITIONS)].replace("{n}", str(n))} | (
                {"add_tags": ("x",)} | (_aim(n) if n % 5 == 0 else {})
            )
        case "tags":
            return {"name": f"other-{n}", "weight": 1 + n % 9}
        case "providers":
            return {"name": f"prov{n}", "patterns": (f"*.mx.prov{n}.example",)}
        case _:
            return {"name": f"d{n}.override.example", "addresses": ("203.0.113.1",)}


COUNTED = (
    "throttles", "floods", "pauses", "redirects", "errors", "classes", "responses", "rewrites", "tags", "providers",
    "dns",
)  # fmt: skip


def rules(kinds: tuple[str, ...] = COUNTED, each: int = EACH) -> Mapping[str, list[Any]]:
    """So many rules of each kind."""
    return {kind: [KINDS[kind](id=n + 1, **_rule(kind, n)) for n in range(each)] for kind in kinds}


def delivery(number: int) -> Delivery:
    """One with its route, whose mail no rule is for."""
    message = from_properties(
        {
            "recipient": f"u{number}@d{number % 50}.example",
            "envelope": "news@sender.example",
            "tags": ["newsletter"],
            "mime": MIME,
        }
    )
    name = f"d{number % 50}.example"
    found = Delivery(lease=Lease(number, b"", 1.0), message=message)
    targets = (Target(f"mx.{name}", "203.0.113.7"), Target(f"mx2.{name}", "203.0.113.8"))
    return found.but(ip=IP, domain=name, route=Route(name, targets), lane=f"{IP}/{name}")


def stage_cost(stage: Stage) -> float:
    """Microseconds of CPU for each message that passes a stage."""
    subject: Subject[Delivery] = Subject()
    passed: list[Delivery] = []
    stage(subject).subscribe(passed.append)
    deliveries = [delivery(number) for number in range(MESSAGES)]
    begun = time.process_time()
    for one in deliveries:
        subject.on_next(one)
    took = time.process_time() - begun
    assert len(passed) == MESSAGES and all(one.outcome is None for one in passed)
    return took / MESSAGES * 1e6


def call_cost(call: Callable[[Delivery], Any]) -> float:
    """Microseconds of CPU for each call."""
    deliveries = [delivery(number) for number in range(MESSAGES)]
    begun = time.process_time()
    for one in deliveries:
        call(one)
    return (time.process_time() - begun) / MESSAGES * 1e6


def looks(snapshot: Snapshot) -> dict[str, Callable[[], float]]:
    """What a message that is delivered at once is looked up in."""
    defaults = Limits()

    def stage(make: Callable[..., Stage], **more: Any) -> Callable[[], float]:
        return lambda: stage_cost(make(lambda: snapshot, time.time, **more))

    def call(look: Callable[[Delivery], Any]) -> Callable[[], float]:
        return lambda: call_cost(look)

    return {
        "forced errors, early": stage(force, early=True),
        "rewrite rules": stage(rewrite),
        "redirects": lambda: stage_cost(redirect(lambda: snapshot, time.time, lambda *_: None, lambda *_: None)),
        "forced errors": stage(force),
        "pauses": stage(hold),
        "limits": call(lambda one: snapshot.limits(one.ip, (one.domain,), defaults)),
        "limits of the tag": call(lambda one: snapshot.tag_throttle(one.ip, (one.domain,), "newsletter")),
        "share of the tag": call(lambda one: snapshot.share("newsletter")),
        "warm-ups": call(lambda one: snapshot.warmup(one.ip, one.domain, one.domain, 1.0)),
        "provider": call(lambda one: snapshot.provider_of(f"mx.{one.domain}")),
        "DNS overrides": call(lambda one: snapshot.dns_override(one.domain)),
    }


def rows() -> list[Row]:
    """The least of five turns, without rules and with them."""
    none, many = looks(Snapshot().indexed()), looks(Snapshot(rules()).indexed())
    found, total = [], 0.0
    for name, cost in many.items():
        before, after = (min(one() for _ in range(5)) for one in (none[name], cost))
        total += after - before
        found.append(Row(f"{name}: {EACH} rules of each kind", f"{after:.1f} us", f"{after - before:+.1f} us"))
    return [*found, Row("1,000 rules of all kinds, a message", f"{total:+.1f} us", "")]


if __name__ == "__main__":
    print(markdown(rows()), flush=True)
