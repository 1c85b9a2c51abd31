"""The message drawer: one queued message, with its header, its history and what is in it."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec
from nicegui import background_tasks

from gui.components.detail_drawer import DetailDrawer, Section, facts, html, steps, text
from gui.components.dialog_box import DialogBox
from gui.components.live_table import shown
from gui.components.mail.message_table import WORDS
from gui.components.mail.preview import framed, preview
from gui.components.notes import Notes
from gui.components.view import View
from pipeline.views.bulk import state_of
from pipeline.views.changing.tracing import NotAgain
from pipeline.views.messages import Unreadable, decode_object, from_properties
from pipeline.views.queued_message import ShownMessage
from pipeline.views.queues import QueueUnavailable, Unbrowsable
from pipeline.views.submit import Unacceptable
from settings.store import NotAllowed

FRAMED = "Scripts, forms and everything from outside are off."


class MessageDrawer:
    """Shows queued messages.

    Args:
        opened: told the id of the message that is shown, None when it is closed or gone.
    """

    def __init__(self, view: View, box: DialogBox, notes: Notes, opened: Callable[[int | None], object]) -> None:
        self._facade, self._who, self._box, self._notes, self._opened = view.facade, view.who, box, notes, opened
        self._drawer = DetailDrawer(lambda: opened(None), lambda action: background_tasks.create(self._act(action)))
        self._id = 0

    def open(self, id: int) -> None:
        """Show this message."""
        self._id = id
        background_tasks.create(self._show(id))

    async def _show(self, id: int) -> None:
        try:
            message = await self._facade.queue.message(id)
            opened = await self._facade.bulk.queue.read(id) if message else None
        except (QueueUnavailable, Unbrowsable) as error:
            self._notes.say(str(error), level="bad")
            return
        if message is None or opened is None:
            self._drawer.shut()
            self._notes.say(f"Message {id} is not in the queue any more.", level="bad")
            self._opened(None)
            return
        content = await asyncio.to_thread(_content, opened.body)
        listed = message.listed
        links = []
        if message_id := message.properties.get("message-id"):
            links.append(("/logs?" + urlencode({"message_id": str(message_id)[:300]}), "Its story in the log"))
        again = self._facade.trace.can_again(listed, decoded(opened.body))
        actions = {"waiting": [("retry", "Retry now")], "parked": [("release", "Release")]}.get(state_of(listed), [])
        self._drawer.show(
            listed.recipient or "(unreadable)",
            [*_message(message), *content],
            under=f"from {listed.envelope or '<>'}",
            actions=[*actions, *([("again", "Send again…")] if again else []), ("delete", "Delete…")],
            links=links,
        )
        self._opened(id)

    async def _act(self, action: str) -> None:
        if action == "again":
            await self._again()
        if action not in ("retry", "release", "delete"):
            return
        if action == "delete":
            lines = ["It is thrown away; nobody is told, and it cannot be undone."]
            if not await self._box.confirm("Delete this message?", lines, "Delete", danger=True):
                return
        try:
            done = await self._facade.queue.change(action, self._id, self._who)  # type: ignore[arg-type]
        except (QueueUnavailable, Unbrowsable, NotAllowed) as error:
            self._notes.say(str(error), level="bad")
            return
        said = {"retry": "It goes now.", "release": "It is released.", "delete": "It is deleted."}[action]
        self._notes.say(said if done else "It has moved on meanwhile.", level="good" if done else "bad")
        self._drawer.shut()
        self._opened(None)

    async def _again(self) -> None:
        lines = ["Its mail is queued once more, as a new message to the same recipient; this result stays."]
        if not await self._box.confirm("Send this message again?", lines, "Send again"):
            return
        try:
            message_id = await self._facade.trace.again(self._id, self._who)
        except (QueueUnavailable, Unbrowsable, NotAllowed, NotAgain, Unacceptable) as error:
            self._notes.say(shown(error), level="bad")
            return
        self._notes.say(f"Queued as {shown(message_id, 100)}.")


def decoded(body: bytes) -> dict[str, Any]:
    """The properties of a message; none of what is no message."""
    try:
        return decode_object(body)
    except Unreadable:
        return {}


def _message(message: ShownMessage) -> list[Section]:
    listed, properties = message.listed, message.properties
    rows = [
        ("State", WORDS.get(state_of(listed), state_of(listed))),
        ("Queue", listed.queue),
        ("Lane", listed.lane),
        ("Message-id", properties.get("message-id")),
        ("Queued", _time(listed.queued)),
        ("Goes", _time(listed.due) if listed.due else "as soon as it can"),
        ("Expires", _time(listed.expires) if listed.expires else None),
        ("Size", f"{listed.size:,} bytes"),
        ("Tags", ", ".join(map(str, properties.get("tags") or []))),
    ]
    known = {"recipient", "envelope", "message-id", "tags", "mime-encoding"}
    others = {name: value for name, value in properties.items() if name not in known}
    sections = [facts("Message", rows), steps("History", [_step(r) for r in message.results if isinstance(r, dict)])]
    if not message.results:
        sections[1] = {"kind": "facts", "title": "History", "rows": [], "hint": "It has not been tried yet."}
    if others:
        sections.append(text("Properties", msgspec.json.format(msgspec.json.encode(others)).decode(), "Header"))
    return sections


def _step(result: Mapping[str, Any]) -> dict[str, Any]:
    said = " ".join(str(result[name]) for name in ("status", "description") if result.get(name))
    where = [f"from {result['from']}" if result.get("from") else "", f"to {result['to']}" if result.get("to") else ""]
    return {
        "title": shown(f"{result.get('state', '')} {result.get('result', '')}", 60),
        "state": shown(result.get("result", ""), 20),
        "code": shown(result.get("code") or "", 10),
        **_when(result.get("time")),
        "text": shown(said, 1000),
        "under": shown(" ".join(part for part in where if part), 300),
    }


def _content(body: bytes) -> list[Section]:
    """What is in it; runs in a thread, since parsing a large message takes a while."""
    try:
        properties = decode_object(body)
    except Unreadable:
        return [
            text("Body", body[:20_000].decode(errors="replace"), "Source", "It is no message: its body is no JSON.")
        ]
    if not isinstance(properties.get("mime"), str):
        return []
    try:
        source = from_properties({name: properties.get(name) for name in ("mime", "mime-encoding")}).source()
    except ValueError:
        return []
    parts = preview(source)
    sections = [text("Header", parts.header, "Header")]
    if not parts.whole:
        sections.append(text("Text", "", "Text", "It takes too long to take this message apart; its source is there."))
    if parts.text:
        sections.append(text("Text", parts.text, "Text"))
    if parts.html:
        sections.append(html("HTML", framed(parts.html), "HTML", FRAMED))
    return [*sections, text("Source", parts.source, "Source")]


def _when(said: object) -> dict[str, Any]:
    """The time of a result, which is text in UTC; any program may have written it."""
    try:
        return {"time": datetime.datetime.fromisoformat(str(said)).replace(tzinfo=datetime.UTC).timestamp()}
    except (ValueError, OverflowError):
        return {"when": shown(said, 40) if said else ""}


def _time(seconds: float) -> datetime.datetime | None:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC) if seconds else None
