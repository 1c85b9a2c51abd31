"""gathering: brings together what a message names and does not carry, before it is composed.

Owner of: whether the message store answers. A failure that may pass is retried by the message's retry rule, after
`storage-reschedule` seconds where it was the store's; it never reaches a receiver.
"""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from operators.deliveries.outcome import Outcome, deferred, failed
from operators.mail.message import InvalidMessage, Message, mime_properties
from operators.mail.source import is_elsewhere
from operators.mail.unmade import Unmade
from pipeline.sources.downloads import Downloads
from pipeline.sources.kept import Unfetched
from pipeline.sources.store import MessageStore
from settings import Settings

FILES = 50  # downloads of one message


class Gathering:
    """Gives a message whole.

    Args:
        settings: the keys `storage-*` and `download-*`.
        spawn: runs in the background.
        clock, monotonic: epoch seconds, monotonic seconds.
        warn: told (kind, text) when the store fails, and when it answers again.
    """

    def __init__(
        self,
        settings: Settings,
        spawn: Callable[[Coroutine[Any, Any, None], str], object],
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        warn: Callable[[str, str], None],
    ) -> None:
        self._settings, self._spawn, self._clock, self._warn = settings, spawn, clock, warn
        self._store = MessageStore(settings, monotonic)
        self._downloads = Downloads(settings, monotonic)
        self.trouble: str | None = None

    def __call__(self, message: Message, done: Callable[[Message | Outcome], None]) -> None:
        """Calls `done` once, with the message whole, or with what it came to."""
        self._spawn(self._gather(message, done), "gathering")

    async def close(self) -> None:
        """Nothing is fetched any more."""
        await self._downloads.close()

    async def _gather(self, message: Message, done: Callable[[Message | Outcome], None]) -> None:
        found: Message | Outcome = deferred("responsive", "error", "what the message names was not fetched")
        try:
            found = await self._whole(message)
        except InvalidMessage as error:
            found = failed(error.state, error.result, str(error))
        except Unfetched as error:
            found = deferred("responsive", "error", str(error))
        finally:
            done(found)

    async def _whole(self, message: Message) -> Message | Outcome:
        if not message.mime and message.key is not None:
            try:
                message = _with(message, await self._store.get(message.key))
            except Unfetched as error:
                self._fails(str(error))
                until = self._clock() + self._settings.storage_reschedule
                return deferred("storage", "error", str(error), until=until)
            self._answers()
        return await self._with_files(message) if isinstance(message.mime, dict) else message

    def _fails(self, why: str) -> None:
        if self.trouble is None:
            self._warn("storage", f"messages with a key wait: {why}")
        self.trouble = f"messages with a key wait: {why}"

    def _answers(self) -> None:
        if self.trouble is not None:
            self.trouble = None
            self._warn("storage", "the message store answers again")

    async def _with_files(self, message: Message) -> Message:
        assert isinstance(message.mime, dict)
        given = message.mime.get("attachments")
        if not isinstance(given, list):
            return message
        if sum(is_elsewhere(one) for one in given) > FILES:
            raise Unmade("responsive", f"mime.attachments: at most {FILES} are fetched")
        files, size = [], 0
        for one in given:
            if is_elsewhere(one):
                content = await self._downloads.get(str(one["url"]))
                size += len(content)
                if size > self._settings.smtp_maxsize:
                    raise Unmade("responsive", "mime.attachments: are larger than smtp-maxsize together")
                one = {**_described(str(one["url"])), **one, "content": base64.b64encode(content).decode()}
            files.append(one)
        return msgspec.structs.replace(message, mime={**message.mime, "attachments": files})


def _described(url: str) -> dict[str, str]:
    """What a file is called, and what it is, by its address; the message's own words win."""
    name = unquote(urlsplit(url).path.rpartition("/")[2])
    kind = mimetypes.guess_type(name)[0]
    return {"name": name} | ({"type": kind} if kind is not None else {})


def _with(message: Message, octets: bytes) -> Message:
    made = mime_properties(octets)
    return msgspec.structs.replace(message, mime=made["mime"], mime_encoding=made.get("mime-encoding"))
