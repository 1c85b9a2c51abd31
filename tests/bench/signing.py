"""Signed against unsigned mail through the relay, turn by turn: 4 KB mails, RSA-2048, relaxed/simple."""

from __future__ import annotations

import asyncio
import pathlib
import statistics
import tempfile

from settings.store import RuleStore
from settings.store.audit import Who
from tests.bench.relay import Figures, Sink, mailrace, measure
from tests.bench.table import Row

FORMS: dict[str, dict[str, object] | None] = {
    "unsigned": None,
    "RSA-2048": {"algorithm": "rsa"},
    "Ed25519": {"algorithm": "ed25519"},
}


async def _with_key(data_dir: pathlib.Path, values: dict[str, object]) -> None:
    """The rules database of a machine that signs everything."""
    rules = RuleStore("", data_dir)
    await rules.start()
    everything = {"domain": "example.com", "selector": "bench", "generate": True, "patterns": [{"type": "global"}]}
    await rules.create("dkim-keys", {**everything, **values}, Who("bench"))
    await rules.close()


def _round(sink: Sink, values: dict[str, object] | None, messages: int) -> Figures:
    with tempfile.TemporaryDirectory(prefix="signing-", ignore_cleanup_errors=True) as folder:
        path = pathlib.Path(folder)
        if values is not None:
            (path / "var").mkdir()
            asyncio.run(_with_key(path / "var", values))
        with mailrace(path, sink, dkim_check_dns="no") as (port, process):
            return measure(port, sink, process, messages)


def rows(messages: int = 5000, rounds: int = 3) -> list[Row]:
    """For the table: each form of signing, as a share of unsigned."""
    sink, found = Sink(), dict[str, list[Figures]]()
    try:
        for _ in range(rounds):
            for form, values in FORMS.items():
                found.setdefault(form, []).append(_round(sink, values, messages))
    finally:
        sink.process.terminate()
    rates = {form: statistics.median(one.delivered for one in figures) for form, figures in found.items()}
    cpu = {form: statistics.median(one.cpu for one in figures) for form, figures in found.items()}
    return [
        Row(
            f"relay, 4 KB, 20 sessions, durable: {form}",
            f"{rate:.0f}/s end to end, {cpu[form]:.2f} s CPU for 1,000",
            "" if form == "unsigned" else f"{rate / rates['unsigned']:.0%} of unsigned",
        )
        for form, rate in rates.items()
    ]
