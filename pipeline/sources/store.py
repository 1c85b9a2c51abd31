"""store: the message store of `storage-address`, from which messages with a `key` have their MIME. Read only.

A directory, a table of SQLite, MySQL or PostgreSQL, or a web server of the operator's. Bound: READERS at once,
`smtp-maxsize` octets of a message, `storage-timeout` seconds for each.
"""

from __future__ import annotations

import asyncio
import os
import re
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

import httpx
import sqlalchemy as sa

from operators.mail.unmade import Unmade
from pipeline.sources.kept import Kept, Unfetched
from settings import Settings
from settings.store import RulesUnavailable, engine

READERS = 4
DEPTH = 4  # of the folders in which MailerQ keeps files, where the address does not say
KEPT, SECONDS = 16_000_000, 10.0  # octets of messages, and for how long: a mailing's are the same
KEYS = ("key", "id", "name", "message_key", "storage_key")
VALUES = ("value", "mime", "message", "data", "body", "content")
_FILE = re.compile(r"[A-Za-z0-9_@+=,~#%:-][A-Za-z0-9_@+=,~#%:. -]{0,254}").fullmatch  # no path in it, no hidden file


class MessageStore:
    """Reads messages by their key.

    Args:
        settings: the keys `storage-*`.
        clock: monotonic seconds.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self._most, self._seconds = settings.smtp_maxsize, settings.storage_timeout
        self._readers = asyncio.Semaphore(READERS)
        self._read = _reader(settings)
        self.get = Kept(self._get, KEPT, SECONDS, clock)

    async def _get(self, key: str) -> bytes:
        """The message as it is sent. Raises `Unfetched`, or `Unmade` where there is none."""
        if self._read is None:
            raise Unmade("storage", f"key: there is no message store to have {key[:100]!r} from: storage-address")
        try:
            async with self._readers, asyncio.timeout(self._seconds):
                found = await self._read(key)
        except TimeoutError:
            raise Unfetched("the message store does not answer in time") from None
        except (OSError, sa.exc.SQLAlchemyError, httpx.HTTPError, RulesUnavailable) as error:
            why = engine.reason(error) if isinstance(error, sa.exc.SQLAlchemyError) else str(error)
            raise Unfetched(f"the message store cannot be read: {why[:200] or type(error).__name__}") from None
        if found is None:
            raise Unmade("storage", f"key: there is no message {key[:100]!r} in the message store")
        found = _plain(found, self._most)
        if len(found) > self._most:
            raise Unmade("storage", f"key: {key[:100]!r} is larger than smtp-maxsize, {self._most} bytes")
        return found


def _plain(found: bytes, most: int) -> bytes:
    """Stored compressed, or as it is."""
    if not found.startswith(b"\x1f\x8b"):
        return found
    try:
        return zlib.decompressobj(31).decompress(found, most + 1)
    except zlib.error:
        raise Unmade("storage", "key: the message is compressed, and cannot be read") from None


Read = Callable[[str], Awaitable[bytes | None]]


def _reader(settings: Settings) -> Read | None:
    if settings.storage_address is None:
        return None
    address = settings.storage_address.get_secret_value()
    most = settings.smtp_maxsize
    match address.partition("://")[0]:
        case "dir" | "directory":
            parts = urlsplit(address)
            depth = min(8, int((parse_qs(parts.query).get("depth") or [str(DEPTH)])[0]))
            return _threaded(_Folder(Path(unquote(parts.path)), depth, most))
        case "http" | "https":
            return _Web(address, most, settings.storage_timeout)
    return _threaded(_Table(address, most))


def _threaded(read: Callable[[str], bytes | None]) -> Read:
    async def found(key: str) -> bytes | None:
        return await asyncio.to_thread(read, key)

    return found


class _Folder:
    """Files named by their key; with a depth, in folders named by its first characters, or without them."""

    def __init__(self, folder: Path, depth: int, most: int) -> None:
        self._folder, self._depth, self._most = folder, depth, most

    def __call__(self, key: str) -> bytes | None:
        if not _FILE(key):
            return None
        for path in dict.fromkeys((Path(self._folder, *key[: self._depth], key), self._folder / key)):
            try:
                with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
                    return file.read(self._most + 1)
            except (FileNotFoundError, NotADirectoryError):
                continue
        if not self._folder.is_dir():
            raise OSError(f"{self._folder}: there is no such folder")
        return None


class _Table:
    """The table of a database that has a column of KEYS and one of VALUES."""

    def __init__(self, address: str, most: int) -> None:
        self._address, self._most = address, most
        self._engine: sa.Engine | None = None
        self._columns: tuple[sa.Column[object], sa.Column[object]] | None = None

    def __call__(self, key: str) -> bytes | None:
        with self._opened().connect() as connection:
            by, value = self._columns = self._columns or self._found(connection)
            size = sa.func.length(value)
            asked = sa.select(sa.case((size <= self._most, value)), size).where(by == key)
            row = connection.execute(asked).first()
        if row is None or row[1] is None:
            return None
        if row[0] is None:
            raise Unmade("storage", f"key: {key[:100]!r} is larger than smtp-maxsize, {self._most} bytes")
        return row[0].encode() if isinstance(row[0], str) else bytes(row[0])

    def _opened(self) -> sa.Engine:
        if self._engine is None:
            url = engine.location(self._address, Path())
            if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
                raise OSError(f"{url.database}: there is no such file")
            self._engine = sa.create_engine(
                url.set(query={}), pool_size=READERS, pool_pre_ping=True, hide_parameters=True
            )
        return self._engine

    @staticmethod
    def _found(connection: sa.Connection) -> tuple[sa.Column[object], sa.Column[object]]:
        metadata = sa.MetaData()
        metadata.reflect(connection)
        for table in metadata.sorted_tables:
            names = {name.lower(): column for name, column in table.columns.items()}
            keys, values = ([names[one] for one in some if one in names] for some in (KEYS, VALUES))
            if keys and values:
                return keys[0], values[0]
        raise OSError(f"no table has a column of {', '.join(KEYS)} and one of {', '.join(VALUES)}")


class _Web:
    """Asks for the address with the key behind it."""

    def __init__(self, address: str, most: int, seconds: float) -> None:
        self._address, self._most = address.rstrip("/"), most
        self._client = httpx.AsyncClient(timeout=seconds, trust_env=False, headers={"Accept-Encoding": "identity"})

    async def __call__(self, key: str) -> bytes | None:
        found = bytearray()
        async with self._client.stream("GET", f"{self._address}/{quote(key, safe='')}") as answer:
            if answer.status_code in (404, 410):
                return None
            if answer.status_code != 200:
                raise OSError(f"it answers {answer.status_code}")
            async for piece in answer.aiter_raw():
                found += piece
                if len(found) > self._most:
                    break
        return bytes(found)
