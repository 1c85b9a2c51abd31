"""A provider's block in the demo, from the answer to what is done: rules for the simulated `fussy.example`.

For minutes it turns away what comes from one MTA IP, and then takes it again. The class of its answer is recognised, a
response rule moves the mail to another member of the pool, a flood pattern slows the lane down, addresses that do not
exist are suppressed. Owner of nothing.
"""

from __future__ import annotations

from typing import Any

FUSSY = "fussy.example"


def rules() -> list[tuple[str, dict[str, Any]]]:
    """What an operator would have made, in the order to make them."""
    blocked = {"name": "a block: another IP", "meaning": "spam-block", "domain": FUSSY}
    dead = {"name": "dead addresses", "meaning": "invalid-recipient", "domain": FUSSY}
    slow = {"name": "fussy blocks us", "domain": FUSSY, "pattern": "blocked using", "count": 5, "period": 60}
    return [
        ("rewrites", {"name": "newsletters use their pool", "tag": "newsletter", "set_pool": "newsletters"}),
        ("responses", {**blocked, "another_ip": True, "retry": 20, "attempts": 4}),
        ("responses", {**dead, "suppress": "address", "suppress_days": 30}),
        ("floods", {**slow, "pause": 45, "reduced": 300, "reduce_to": 25}),
        ("schedules", {"name": "first weeks", "steps": ["1=500", "2=1000", "4=3000/domain_connections=4", "8=10000"]}),
        ("warmups", {"schedule": "first weeks", "ip": "127.0.0.3", "domain": "bigmail.example"}),
    ]
