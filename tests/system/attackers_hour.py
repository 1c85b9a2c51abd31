"""An attacker's hour: everything that a stranger on the network can try, again and again, and a table of what it did.

    python -m tests.system.attackers_hour --minutes 60

The whole program runs as it would for people, with TLS, logins and a receiver behind it. All attacks come in turn until
the time is over; of several rounds the worst figure counts. Exit code 1 where one is not as it should be.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Iterator

from tests.support.chromium import CHROMIUM
from tests.system import attacks
from tests.system.attack_browser import page
from tests.system.attack_logins import logins
from tests.system.attacked import AttackedProgram, Figure, attacked_program

HEAD = "| attack | what came of it | wanted | |\n|---|---|---|---|"
HANGING = 1000


def attacked(target: AttackedProgram, seconds: float) -> Iterator[Figure]:
    """One round, of about so many seconds."""
    checks: list[attacks.Attack] = [
        attacks.relay, attacks.smuggling, attacks.steering, attacks.sessions, attacks.new_password, attacks.bombs,
        attacks.halves,
    ]  # fmt: skip
    for check in checks:
        yield from _tried(check, target)
    yield from _tried(lambda target: logins(target, max(10.0, seconds / 4)), target)
    if pathlib.Path(CHROMIUM).exists():
        yield from _tried(page, target)


def _tried(check: attacks.Attack, target: AttackedProgram) -> list[Figure]:
    """Its figures; one that raises is a failure, and the rest goes on."""
    try:
        return check(target)
    except Exception as error:
        name = getattr(check, "__name__", "check")
        return [Figure(name, f"{type(error).__name__}: {str(error)[:200]}", "an answer", False)]


def after(target: AttackedProgram) -> list[Figure]:
    """What the program has to say when all is over."""
    with target.token() as api:
        ready = api.get("/readyz").text.strip()
    stopped = target.program.stop()
    output = target.program.output
    if "Traceback" in output:
        print(output[max(0, output.find("Traceback") - 300) :][:3000], file=sys.stderr)
    figure = (
        f"readyz {ready}, {output.count('Traceback')} tracebacks, {len(output) // 1000} KB of log, ended with {stopped}"
    )
    right = ready == "ok" and "Traceback" not in output and not stopped and len(output) < 200_000
    return [Figure("the program afterwards", figure, "ok, 0, under 200 KB, 0", right)]


def worst(rounds: list[Figure]) -> list[Figure]:
    """A figure of each kind: one that is not right before one that is, else the last."""
    found: dict[str, Figure] = {}
    for one in rounds:
        if one.what not in found or found[one.what].right:
            found[one.what] = one
    return list(found.values())


def run(minutes: float, hanging: int = HANGING) -> list[Figure]:
    """All of it, for so many minutes; one round at least."""
    begin, figures, rounds = time.monotonic(), list[Figure](), 0
    with tempfile.TemporaryDirectory() as name, attacked_program(pathlib.Path(name)) as target:
        while not rounds or time.monotonic() - begin < minutes * 60 * 0.8:
            figures += attacked(target, minutes * 60 * 0.8)
            rounds += 1
        figures += after(target)
    try:
        figures += attacks.hanging(hanging, max(5.0, minutes * 60 * 0.08))
    except Exception as error:
        figures.append(Figure("hanging receivers", f"{type(error).__name__}: {error}", "an answer", False))
    load = os.getloadavg()[0]
    took = f"{(time.monotonic() - begin) / 60:.1f} minutes, {rounds} rounds, {os.cpu_count()} cores, load {load:.0f}"
    return [*worst(figures), Figure("all of it", took, "", True)]


def main() -> int:
    """As a command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--hanging", type=int, default=HANGING)
    given = parser.parse_args()
    figures = run(given.minutes, given.hanging)
    print(HEAD, *figures, sep="\n")
    return int(not all(figure.right for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
