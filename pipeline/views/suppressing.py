"""Suppressions in bulk: a CSV file in, all of them out, many removed by a filter; with progress.

Owner of: the jobs, one running at a time, the last JOBS remembered, and the file of an import until it is over. Work is
done in parts of PART lines, in a thread and in the rule store's, so mail goes on meanwhile.
"""

from __future__ import annotations

import asyncio
import collections
import csv
import io
import itertools
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TextIO

import msgspec

from pipeline.process.supervisor import spawn
from pipeline.views.text import no_formula
from settings.rules.suppression import Suppression, SuppressionFilter
from settings.rules.validate import InvalidRule
from settings.store import RulesUnavailable, Who
from settings.store.suppressions import Row, Suppressions

PART = 5000  # lines
JOBS = 100
WRONG = 100  # lines that cannot be used which a job names
COLUMNS = ("type", "value", "tag", "code", "extended", "description", "until", "source", "created")
ADDRESSED = ["address", "email", "e-mail", "mail", "email_address", "emailaddress", "recipient", "domain"]
NAMED = dict.fromkeys([*ADDRESSED, "email address", "e-mail address", "mail address"], "value")
DELIMITERS = (",", ";", "\t")  # that a header may have: spreadsheets write each of them
UTF16 = (b"\xff\xfe", b"\xfe\xff")
LONGEST = 10_000  # characters of a header
GIVEN = frozenset(COLUMNS[:7])


Line = tuple[int, Mapping[str, str]]  # its number, and its values by field


class SuppressionJob(msgspec.Struct, kw_only=True):
    """An import or a removal. `state`: waiting, running, done or failed; times are epoch seconds.

    `errors` has a line for each of the first lines that could not be used, `skipped` counts all of them.
    """

    id: int
    action: Literal["import", "remove"]
    state: str = "waiting"
    total: int = 0
    looked: int = 0
    created: int = 0
    replaced: int = 0
    removed: int = 0
    skipped: int = 0
    errors: list[str] = []
    begun: float = 0.0
    ended: float | None = None
    error: str = ""


class SuppressionJobs:
    """Imports and removes suppressions, with progress.

    Args:
        known: the suppressions.
        folder: where files are until they are imported.
        record: told of each job that has ended, for the audit.
    """

    def __init__(self, known: Suppressions, folder: Path, record: Callable[[Who, SuppressionJob], None]) -> None:
        self._known, self._folder, self._record = known, folder, record
        self._ids = itertools.count(1)
        self._turn = asyncio.Lock()
        self._jobs: collections.OrderedDict[int, SuppressionJob] = collections.OrderedDict()

    def get(self, id_: int) -> SuppressionJob | None:
        """A job; None where there is none, or it is forgotten."""
        return self._jobs.get(id_)

    def all(self) -> list[SuppressionJob]:
        """The jobs, newest first."""
        return list(reversed(self._jobs.values()))

    async def keep(self, octets: AsyncIterator[bytes]) -> Path:
        """Write a file that comes in to disk. Raises what reading raises, and then nothing stays."""
        descriptor, name = tempfile.mkstemp(".csv", "suppressions-", self._folder)
        try:
            async for chunk in octets:
                await asyncio.to_thread(os.write, descriptor, chunk)
        except BaseException:
            await asyncio.to_thread(os.unlink, name)
            raise
        finally:
            os.close(descriptor)
        return Path(name)

    def bring_in(self, path: Path, who: Who) -> SuppressionJob:
        """Import a CSV file, which is removed afterwards. Raises `NotAllowed`."""
        return self._begin("import", who, lambda job: self._import(job, path))

    def remove(self, filter: SuppressionFilter, who: Who) -> SuppressionJob:
        """Remove all that pass. Raises `NotAllowed`."""
        return self._begin("remove", who, lambda job: self._remove(job, filter))

    async def export(self, filter: SuppressionFilter) -> AsyncIterator[str]:
        """All that pass, as CSV, in parts. Raises `RulesUnavailable`."""
        yield ",".join(COLUMNS) + "\r\n"
        after = 0
        while page := await self._known.page(filter, after, PART):
            after = page[-1].id
            yield await asyncio.to_thread(_csv, page)

    def _begin(
        self, action: Literal["import", "remove"], who: Who, work: Callable[[SuppressionJob], Any]
    ) -> SuppressionJob:
        who.must("operate")
        job = SuppressionJob(id=next(self._ids), action=action, begun=time.time())
        self._jobs[job.id] = job
        while len(self._jobs) > JOBS:
            self._jobs.popitem(last=False)

        async def run() -> None:
            async with self._turn:
                job.state = "running"
                try:
                    await work(job)
                    job.state = "done"
                except (RulesUnavailable, OSError, ValueError) as error:
                    job.state, job.error = "failed", str(error)
                finally:
                    job.ended = time.time()
                    self._record(who, job)

        spawn(run(), "suppressions")
        return job

    async def _import(self, job: SuppressionJob, path: Path) -> None:
        try:
            job.total = (await asyncio.to_thread(path.stat)).st_size
            parts = _parts(path)
            while (found := await asyncio.to_thread(next, parts, None)) is not None:
                job.looked, part = found
                rules = await asyncio.to_thread(self._usable, job, part)
                await self._known.add_many(rules, lambda new, replaced: _count(job, new, replaced))
        finally:
            await asyncio.to_thread(path.unlink, missing_ok=True)
            await self._known.reload()
            self._known.changed_here()

    def _usable(self, job: SuppressionJob, part: Sequence[Line]) -> list[Row]:
        found = []
        for number, values in part:
            why = _unreadable(values)
            try:
                if why is None:
                    found.append(self._known.imported(values))
            except InvalidRule as error:
                why = str(error)
            if why is not None:
                job.skipped += 1
                if len(job.errors) < WRONG:
                    job.errors.append(f"line {number}: {why}"[:300])
        return found

    async def _remove(self, job: SuppressionJob, filter: SuppressionFilter) -> None:
        job.total = await self._known.count(filter)
        try:
            while removed := await self._known.remove_many(filter):
                job.removed += removed
                job.looked = job.removed
        finally:
            await self._known.reload()
            self._known.changed_here()


def _count(job: SuppressionJob, new: int, replaced: int) -> None:
    job.created += new
    job.replaced += replaced


def _parts(path: Path) -> Iterator[tuple[int, list[Line]]]:
    """The lines of a CSV file in parts, as values by field, and the bytes read. Raises `ValueError`."""
    with path.open("rb") as octets:
        encoding = "utf-16" if octets.read(2) in UTF16 else "utf-8-sig"
        octets.seek(0)
        with io.TextIOWrapper(octets, encoding, "surrogateescape", newline="") as file:
            for part in _lines(file):
                yield octets.tell(), part


def _lines(file: TextIO) -> Iterator[list[Line]]:
    first = file.readline(LONGEST)
    delimiter, names = next(((d, n) for d in DELIMITERS if "value" in (n := _names(first, d))), (",", None))
    header = names is not None
    rows = csv.reader(file if header else itertools.chain([first], file), delimiter=delimiter)
    given = _numbered(rows, 2 if header else 1)
    try:
        while part := list(itertools.islice(given, PART)):
            yield [(number, _values(names or ["value"], row)) for number, row in part if any(row)]
    except (csv.Error, UnicodeError) as error:
        raise ValueError(f"the file is no CSV: line {rows.line_num + header}: {error}") from None


def _numbered(rows: Any, first: int) -> Iterator[tuple[int, list[str]]]:
    """Each row with the line of the file that it begins in: a quoted field may have several lines."""
    number = first
    for row in rows:
        yield number, row
        number = rows.line_num + first


def _names(line: str, delimiter: str) -> list[str]:
    """The fields that a header names. The first that is an address or a domain counts."""
    found: list[str] = []
    for name in next(csv.reader([line], delimiter=delimiter), []):
        plain = name.strip().lower()
        known = NAMED.get(plain, plain)
        found.append("" if known == "value" and "value" in found else known)
    return found


def _values(names: Sequence[str], row: Sequence[str]) -> dict[str, str]:
    return {name: text.strip() for name, text in zip(names, row, strict=False) if name in GIVEN and text.strip()}


def _unreadable(values: Mapping[str, str]) -> str | None:
    """Why a line cannot be what its author meant, or None."""
    for name, text in values.items():
        if not text.isascii() and any("\udc80" <= letter <= "\udcff" for letter in text):
            return f"{name}: is no UTF-8; save the file as UTF-8"
        if "\n" in text or "\r" in text:
            return f"{name}: goes over several lines; is a quote not closed?"
    return None


def _csv(rules: Sequence[Suppression]) -> str:
    out = io.StringIO()
    rows = csv.writer(out)
    for rule in rules:
        shown = rule.shown()
        rows.writerow([no_formula(value) if isinstance(value := shown[name], str) else value for name in COLUMNS])
    return out.getvalue()
