"""Strangers' hour: the installed program under steady mail, while all that may happen to it happens, by chance.

    python -m tests.system.strangers_hour --minutes 60 --seed 1

Half of the time with the embedded queue, half with RabbitMQ (`--queue` for one of them). It prints a table, and ends
with 1 where something was lost, came twice without a reason, or was not said. Needs root for all of it: disks, the
resolver and the clock are the program's own, in a mount namespace. `--only` takes words of the disturbances' names.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence

from tests.support.disk import rights
from tests.support.installed import build, install
from tests.system.hours import course, disturbances, report
from tests.system.hours.scene import Scene, scene
from tests.system.hours.senders import Mail, with_node

INSIDE = "STRANGERS_HOUR"  # set where it may mount


def run(
    folder: pathlib.Path,
    command: list[str],
    queue: str,
    minutes: float,
    seed: int,
    only: Sequence[str] = (),
    npm: bool = False,
) -> list[str]:
    """One queue; prints the report, and returns what is wrong."""
    kinds = [kind for kind in disturbances.EVERY if not only or any(word in kind.name for word in only)]
    happened: list[course.Happened] = []
    begin = time.monotonic()
    with scene(folder, command, seed, rabbitmq=queue == "rabbitmq", mounts=INSIDE in os.environ) as made:
        made.doors.node = npm
        absent = {kind.name: why for kind in kinds if (why := kind().missing(made))}
        possible = [kind for kind in kinds if kind.name not in absent]
        with Mail(made.ledger, made.doors, seed) as mail:
            time.sleep(3)
            for kind in course.order(possible, random.Random(seed)):
                print(f"{time.monotonic() - begin:6.0f} s {queue}: {kind.name}", file=sys.stderr, flush=True)
                happened.append(course.happen(made, kind()))
                print(f"         {happened[-1]}", file=sys.stderr, flush=True)
                time.sleep(made.dice.uniform(*course.QUIET))
                if time.monotonic() - begin > minutes * 60 and len(happened) >= len(possible):
                    break
            mail.stop()
        account = course.settle(made)
        print(report.report(queue, (time.monotonic() - begin) / 60, happened, account, absent), flush=True)
        for text, count in account.refusals.items():
            print(f"         {count} times: {text}", file=sys.stderr)
        found = [f"{queue}: {text}" for text in report.wrong(happened, account)]
        if found:
            print(f"what it said stands in {_kept(made, account)}", *made.notes, sep="\n", file=sys.stderr)
        return found


def _kept(made: Scene, account: course.Account) -> pathlib.Path:
    """The file in which the program's output is kept, and when each unexplained double was taken and came."""
    file = pathlib.Path(tempfile.gettempdir()) / f"mailrace-hour-{os.getpid()}.log"
    ledger = made.ledger
    moments = (f"{id}: taken {ledger.accepted.get(id)}, came {ledger.delivered[id]}" for id in account.unexplained)
    file.write_text("\n".join([*moments, *map(str, ledger.unrest), made.program.output]))
    return file


def main() -> int:
    """Both queues, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--queue", choices=["embedded", "rabbitmq", "both"], default="both")
    parser.add_argument("--only", action="append", default=[], help="a word of a disturbance's name")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all that was started ends, too
    if INSIDE not in os.environ and (way := rights()) is not None:
        arguments = [*way, sys.executable, "-m", "tests.system.strangers_hour", *sys.argv[1:]]
        os.execvpe(arguments[0], arguments, {**os.environ, INSIDE: "1"})
    npm = with_node()
    queues = ["embedded", "rabbitmq"] if asked.queue == "both" else [asked.queue]
    wrong = []
    with tempfile.TemporaryDirectory(prefix="mailrace-hour-") as name:
        folder = pathlib.Path(name)
        script = install(build(folder), folder / "venv", sys.executable)
        for queue in queues:
            (folder / queue).mkdir()
            share = asked.minutes / len(queues)
            wrong += run(folder / queue, [str(script)], queue, share, asked.seed, asked.only, npm)
    print("\n".join(wrong) or "nothing lost, nothing doubled without a reason, everything said")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
