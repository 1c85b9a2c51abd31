"""Settings: the configuration in force, the API's tokens, the password, a test mail."""

from __future__ import annotations

import importlib.metadata
import socket
import sys
import time
from collections.abc import Sequence

import psutil
from nicegui import ui

from gui.access.gate import browser_of
from gui.access.tries import TooManyTries
from gui.api.token_routes import record
from gui.components import drawing
from gui.components.dialog_box import DialogBox, Entry, Errors, Values
from gui.components.filter_bar import Field
from gui.components.listing import Listing, Rows, Wanted
from gui.components.live_table import Column, Empty, LiveTable, shown
from gui.components.notes import Notes
from gui.components.parts import Moment
from gui.components.settings.user_card import UserCard
from gui.components.view import ConsolePage, View
from pipeline.views.facade import WorkerRow
from pipeline.views.queues import QueueUnavailable
from pipeline.views.submit import Unacceptable
from settings import effective
from settings.store import NotAllowed, Role

SHORTEST = 8  # characters of a password
COLUMNS = (
    Column("name", "Key", "code", "As in the configuration file and on the command line.", True, "26%", main=True),
    Column("value", "Value", "code", "In force; secrets are masked."),
    Column(
        "origin",
        "From",
        "text",
        "Where the value was given: the default, a file, the environment, the command line.",
        True,
        "26%",
    ),
)
FIELDS = (
    Field("search", "Search", "search", "Key or value"),
    Field("given", "Show", "choice", options=(("", "All"), ("yes", "Given, not by default"))),
)
TOKEN_COLUMNS = (
    Column("name", "Token", "text", main=True),
    Column("may", "May", "text", "read: all that is shown; operate: all that changes something; send: new messages."),
    Column("used", "Last used", "clock", "To about a minute.", width="120px"),
    Column("expires", "Expires", "clock", width="120px"),
    Column("made", "Made", "clock", width="120px"),
    Column("act", "", "actions", width="96px"),
)
NO_TOKENS = Empty("No token yet", "A token lets a program use the API: /api/docs tells how.")
DAY = 86_400
DAYS = ("1", "30", "90", "365")
TOKEN = (
    Entry("name", "Name", "What it is for: it stands in the audit with each change."),
    Entry(
        "scopes",
        "May",
        options=(
            ("read operate send", "Everything"),
            ("read", "Read: Prometheus, dashboards"),
            ("read operate", "Read and operate, send nothing"),
            ("send", "Send messages, nothing else"),
            ("read send", "Read and send"),
        ),
    ),
    Entry(
        "days", "Expires", options=(("", "Never"), *((str(days), f"After {days} days") for days in (1, 30, 90, 365)))
    ),
)
PASSWORD = (
    Entry("now", "Password now", secret=True),
    Entry("new", "New password", f"At least {SHORTEST} characters. Everybody has to log in again.", secret=True),
    Entry("again", "New password again", secret=True),
)


class SettingsView:
    """One opened view."""

    def __init__(self, view: View) -> None:
        self._view, self._settings = view, view.facade.settings
        self._box, self._notes = DialogBox(), Notes()
        with ui.element("div").classes("settings-grid"):
            self._about()
            if workers := view.facade.workers():
                self._workers(workers)
            self._users = UserCard(view, self._box, self._notes)
            self._tokens = self._token_card()
            self._console()
        self._listing = Listing(
            view, "/settings", FIELDS, COLUMNS, "name", Empty("No keys"), "configuration", self._fetch
        )
        self._show_tokens()

    def _card(self, title: str) -> ui.element:
        card = ui.element("section").classes("card")
        with card, ui.element("div").classes("card-head"):
            drawing.text("h2", title)
        return card

    def _button(self, label: str, name: str, act: object) -> None:
        button = drawing.text("button", label, "small").props(f"type=button data-do-{name}")
        button.on("click", act)  # type: ignore[arg-type]

    # -- about ------------------------------------------------------------------------------------------------------

    def _workers(self, workers: Sequence[WorkerRow]) -> None:
        with self._card("Workers"), drawing.tag("dl", "facts"):
            for row in workers:
                drawing.text("dt", f"Worker {row.number}")
                figures = f"{row.load:.0f} % of a core, {row.memory / 1e6:.0f} MB, {row.in_memory:,} in memory"
                with drawing.tag("dd"):
                    drawing.text("span", f"process {row.pid} since ")
                    Moment(row.since)
                    drawing.text("span", f": {figures}")

    def _about(self) -> None:
        started = psutil.Process().create_time()
        facts = (
            ("Version", _version()),
            ("Running", _span(time.time() - started)),
            ("Instance", self._settings.server_id or socket.gethostname()),
            ("Data", str(self._settings.data_dir)),
            ("Python", sys.version.split()[0]),
        )
        with self._card("About"), drawing.tag("dl", "facts"):
            for name, value in facts:
                drawing.text("dt", name)
                drawing.text("dd", shown(value))
            drawing.text("dt", "Started")
            with drawing.tag("dd"):
                Moment(started)

    # -- tokens -----------------------------------------------------------------------------------------------------

    def _token_card(self) -> LiveTable:
        with self._card("API tokens"):
            drawing.text("p", "Programs use the API with a token. Each is shown once, when it is made.")
            self._button("Make a token…", "token", self._make)
            table = LiveTable(TOKEN_COLUMNS, "API tokens", NO_TOKENS)
        table.on_act(self._revoke)
        return table

    def _show_tokens(self) -> None:
        rows = [
            {
                "key": str(token.id),
                "name": shown(token.name),
                "may": ", ".join(token.scopes),
                "used": token.used,
                "expires": token.expires,
                "made": token.made,
                "act": [["revoke", "Revoke…"]],
            }
            for token in self._view.tokens.all()
        ]
        self._tokens.show(rows, pager={})

    async def _make(self) -> None:
        made: list[str] = []
        if not self._may("administer"):
            return

        async def save(values: Values) -> Errors:
            expires = time.time() + DAY * int(values["days"]) if values["days"] in DAYS else None
            try:
                made.append(self._view.tokens.make(values["name"], values["scopes"].split(), expires))
            except (ValueError, OSError) as error:
                field, _, message = str(error).rpartition(": ")
                return {field if field in values else "name": message}
            record(self._view.facade.recorder, self._view.who, self._view.tokens.all()[-1], "create")
            return {}

        start = {"scopes": "read operate send", "days": ""}
        if await self._box.fill("Make a token", TOKEN, start, "Make", save) is not None:
            self._show_tokens()
            await self._box.reveal("The token", ["Keep it now: it is not shown again."], made[-1])

    async def _revoke(self, key: str, _: str) -> None:
        token = next((token for token in self._view.tokens.all() if str(token.id) == key), None)
        if token is None or not self._may("administer"):
            return
        lines = ["Programs that use it are refused from now on. It cannot be undone."]
        if await self._box.confirm(f"Revoke {shown(token.name, 100)}?", lines, "Revoke", danger=True):
            try:
                self._view.tokens.revoke(token.id)
            except OSError as error:
                self._notes.say(f"It cannot be revoked: {error.strerror}", level="bad")
                return
            record(self._view.facade.recorder, self._view.who, token, "delete")
            self._notes.say(f"{shown(token.name, 100)} is revoked.")
            self._show_tokens()

    # -- password and test mail -------------------------------------------------------------------------------------

    def _console(self) -> None:
        with self._card("Console and test"):
            if self._view.access.changeable:
                drawing.text("p", "One password opens the console to its administrator.")
                self._button("Change the password…", "password", self._change_password)
            else:
                drawing.text("p", "The password stands in the configuration (www-password); change it there.")
            drawing.text("p", "A test mail takes the way of all mail: through the queue, with your rules.", "spaced")
            self._button("Send a test mail…", "test", self._test)

    def _may(self, role: Role) -> bool:
        try:
            self._view.who.must(role)
        except NotAllowed as error:
            self._notes.say(str(error), level="bad")
        return self._view.who.may(role)

    async def _change_password(self) -> None:
        if not self._may("administer"):
            return
        access, client = self._view.access, self._view.request.client
        host, browser = client.host if client else "", browser_of(self._view.request.headers, access)

        async def save(values: Values) -> Errors:
            if wrong := _passwords(values):
                return wrong
            try:
                if not await access.guess(values["now"], host, browser):
                    return {"now": "is not the password"}
            except TooManyTries:
                return {"now": "too many failed tries; wait a while"}
            try:
                await access.change(values["new"])
            except OSError as error:
                return {"": f"it cannot be kept: {error.strerror}"}
            self._view.facade.recorder.soon(self._view.who, "update", "password", 0, {"sessions": "all have ended"})
            return {}

        await self._box.fill("Change the password", PASSWORD, {}, "Change", save)  # the next tick leads to the login

    async def _test(self) -> None:
        if not self._may("operate"):
            return
        facade, host = self._view.facade, self._settings.server_id or socket.gethostname()

        async def save(values: Values) -> Errors:
            message = {
                "envelope": values["envelope"].strip(),
                "recipient": values["recipient"].strip(),
                "tags": ["test"],
                "mime": {
                    "from": values["envelope"].strip(),
                    "to": values["recipient"].strip(),
                    "subject": f"Test mail from {host}",
                    "text": f"This is a test mail from Mailrace on {host}.\n",
                },
            }
            try:
                ids = await facade.submission.submit([message], self._view.who.origin, "console")
            except Unacceptable as error:
                return {m.field if m.field in values else "": m.message for m in error.mistakes}
            except QueueUnavailable as error:
                return {"": str(error)}
            sent.extend(ids)
            return {}

        sent: list[str] = []
        entries = (Entry("recipient", "To", "you@example.com"), Entry("envelope", "From", "An address of yours."))
        start = {"envelope": f"postmaster@{host}"}
        if await self._box.fill("Send a test mail", entries, start, "Send", save) is not None:
            self._notes.say(f"Queued as {sent[-1]}; its story is in the log files.")

    # -- the configuration --------------------------------------------------------------------------------------------

    async def _fetch(self, wanted: Wanted) -> Rows:
        rows = [
            {"key": key, "name": key, "value": shown(value), "origin": shown(origin)}
            for key, value, origin in effective(self._settings)
        ]
        if searched := wanted.filters.get("search", "").lower():
            rows = [row for row in rows if searched in f"{row['key']} {row['value']}".lower()]
        if wanted.filters.get("given"):
            rows = [row for row in rows if row["origin"] != "default"]
        rows.sort(key=lambda row: (row[wanted.sort], row["key"]), reverse=wanted.descending)
        page = rows[wanted.offset : wanted.offset + wanted.limit]
        return Rows(page, len(rows))


def _passwords(values: Values) -> Errors:
    if len(values["new"]) < SHORTEST:
        return {"new": f"at least {SHORTEST} characters"}
    return {"again": "is not the same"} if values["new"] != values["again"] else {}


def _version() -> str:
    try:
        return importlib.metadata.version("mailrace")
    except importlib.metadata.PackageNotFoundError:
        return "run from its folder, not installed"


def _span(seconds: float) -> str:
    minutes = int(seconds // 60)
    days, rest = divmod(minutes, 1440)
    if days:
        return f"{days} d {rest // 60} h"
    return f"{rest // 60} h {rest % 60} min" if rest >= 60 else f"{rest} min"


PAGE = ConsolePage(
    path="/settings",
    title="Settings",
    section="System",
    icon=drawing.SLIDERS,
    key="e",
    build=SettingsView,
    purpose="The configuration in force, users, tokens of the API, the password, a test mail.",
)
