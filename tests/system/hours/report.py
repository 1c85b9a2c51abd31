"""The report: one table of what happened, and one of what became of the mail."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from tests.system.hours.course import Account, Happened


def report(queue: str, minutes: float, happened: Sequence[Happened], account: Account, absent: dict[str, str]) -> str:
    """As Markdown."""
    return "\n".join([f"## {queue}, {minutes:.1f} minutes", "", *_mail(account), "", *_events(happened, absent), ""])


def wrong(happened: Sequence[Happened], account: Account) -> list[str]:
    """Why the hour was not passed; nothing where it was."""
    found = [f"{one.name}: {text}" for one in happened for text in one.wrong]
    found += [f"lost: {', '.join(account.lost[:20])}"] if account.lost else []
    found += [f"doubled without a reason: {', '.join(account.unexplained[:20])}"] if account.unexplained else []
    found += [f"still queued: {account.queued}, in {account.where}"] if account.queued else []
    found += [f"the program ended with {account.exit}"] if account.exit else []
    return found + ([f"{account.tracebacks} tracebacks"] if account.tracebacks else [])


def _mail(account: Account) -> Iterator[str]:
    yield "| mail | messages |"
    yield "|---|---|"
    by = ", ".join(f"{name} {account.taken.get(name, 0)}" for name in sorted(account.offered))
    yield f"| accepted | {account.accepted:,} of {sum(account.offered.values()):,} offered ({by}) |"
    yield f"| delivered | {account.delivered:,} |"
    yield f"| failed, with a result | {account.failed:,} |"
    yield f"| still queued | {account.queued:,} |"
    yield f"| **lost** | **{len(account.lost):,}** |"
    for reason, count in sorted(account.doubles.items()):
        yield f"| doubled: {reason} | {count:,} |"
    yield f"| doubled without a reason | {len(account.unexplained):,} |"


def _events(happened: Sequence[Happened], absent: dict[str, str]) -> Iterator[str]:
    yield "| disturbance | times | mail went on | `/readyz` | said | |"
    yield "|---|---|---|---|---|---|"
    for name in dict.fromkeys(one.name for one in happened):
        yield _row(name, [one for one in happened if one.name == name])
    for name, why in absent.items():
        yield f"| {name} | 0 | | | | not done: {why} |"


def _row(name: str, ones: Sequence[Happened]) -> str:
    took = [one.again for one in ones if one.again is not None]
    middle = f"{statistics.median(took):.1f} s, at most {max(took):.1f} s" if took else "never"
    when = "meanwhile, after" if all(one.meanwhile for one in ones) else "after its end, in"
    ready = next((f"503: {one.unready}" for one in ones if one.unready), "ok")
    said = next((one.said for one in ones if one.said), "")
    bad = "; ".join(dict.fromkeys(text for one in ones for text in one.wrong)) or "as it must be"
    return " | ".join([f"| {name}", str(len(ones)), f"{when} {middle}", *map(_cell, (ready, said, bad))]) + " |"


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")[:220]
