"""Request bodies: read within bounds, decoded within depth. Owner of: the octets of bodies being read, all together."""

from __future__ import annotations

import codecs
import contextlib
from collections.abc import AsyncIterator
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from fastapi import Request

from gui.api.answers import Problem

FORM = "application/x-www-form-urlencoded"
SMALL = 1_000_000  # octets of anything but mail
PLAIN = {"Accept-Encoding": "identity"}  # RFC 9110 15.5.16
Struct = TypeVar("Struct")


class Bodies:
    """Reads bodies. `most`: octets of one; twice as many are in memory at once, and who comes then is sent away."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._room = 2 * max(most, SMALL)

    @contextlib.asynccontextmanager
    async def json(self, request: Request, most: int | None = None) -> AsyncIterator[Any]:
        """The body as JSON, whose room is held while it is used."""
        async with self._read(request, most) as body:
            yield _decoded(body)

    @contextlib.asynccontextmanager
    async def _read(self, request: Request, most: int | None) -> AsyncIterator[bytearray]:
        if (coding := request.headers.get("content-encoding", "identity").strip().lower()) not in ("identity", ""):
            raise Problem(415, f"The body is {coding[:40]!r}; none but a plain one is read.", headers=PLAIN)
        body = bytearray()
        most = self._most if most is None else most
        try:
            async for chunk in request.stream():
                if len(body) + len(chunk) > most:
                    raise Problem(413, f"The body is too large; allowed are {most} octets.")
                if len(chunk) > self._room:
                    raise Problem(503, "Too many bodies are on their way in.", headers={"Retry-After": "5"})
                self._room -= len(chunk)
                body += chunk
            yield body
        finally:
            self._room += len(body)

    async def small(self, request: Request) -> dict[str, Any]:
        """A small JSON object."""
        async with self.json(request, SMALL) as found:
            if not isinstance(found, dict):
                raise Problem(422, "The body must be a JSON object.")
            return found

    async def either(self, request: Request) -> dict[str, Any]:
        """A small JSON object, or an urlencoded form (as MailerQ's API takes)."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
            return await self.small(request)
        async with self._read(request, SMALL) as body:
            try:
                return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=100))
            except ValueError:
                raise Problem(400, "The body is no urlencoded form.") from None

    async def struct(self, request: Request, kind: type[Struct]) -> Struct:
        """A small JSON object of this kind."""
        return converted(await self.small(request), kind)


def converted(values: dict[str, Any], kind: type[Struct], *, strict: bool = True) -> Struct:
    """The struct that these values make; a problem names the field that is wrong."""
    try:
        return msgspec.convert(values, kind, strict=strict)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        message = {"field": where.strip(".`"), "message": what[:1].lower() + what[1:]}
        raise Problem(422, "A field cannot be used.", [message]) from None


def _decoded(body: bytearray) -> Any:
    try:
        return msgspec.json.decode(body.removeprefix(codecs.BOM_UTF8))  # as RFC 8259 8.1 allows
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, f"The body is not JSON: {error}.") from None
    except RecursionError:
        raise Problem(400, "The body is nested too deep.") from None
