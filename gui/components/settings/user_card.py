"""The users of the console: who they are, what they may, and whose password is kept here."""

from __future__ import annotations

from nicegui import ui

from gui.access.gate import browser_of
from gui.access.tries import TooManyTries
from gui.access.users import AuthUnavailable, User
from gui.components import drawing
from gui.components.dialog_box import DialogBox, Entry, Errors, Values
from gui.components.live_table import Column, Empty, LiveTable, shown
from gui.components.notes import Notes
from gui.components.view import View
from settings.store import ROLES, NotAllowed

MEANING = {
    "read": "Look",
    "operate": "Look, and change rules and mail",
    "administer": "Everything, users and tokens too",
}
COLUMNS = (
    Column("name", "User", "text", main=True),
    Column("role", "May", "text", "read: look; operate: rules and mail too; administer: users, tokens, password too."),
    Column("by", "Password", "text", "Who checks it: this console, or www-auth or a proxy.", width="108px"),
    Column("act", "", "actions", width="176px"),
)
EMPTY = Empty("No user yet", "Everybody who has the one password is “console”. Users have names, for the audit.")
MINE = (
    Entry("now", "Password now", secret=True),
    Entry("new", "New password", "You have to log in again.", secret=True),
    Entry("again", "New password again", secret=True),
)
ROLE = Entry("role", "May", options=tuple((role, MEANING[role]) for role in ROLES))


class UserCard:
    """A card of Settings, which says what was done in the notes of its page."""

    def __init__(self, view: View, box: DialogBox, notes: Notes) -> None:
        self._view, self._users = view, view.access.users
        self._box, self._notes = box, notes
        with ui.element("section").classes("card user-card"):
            with ui.element("div").classes("card-head"):
                drawing.text("h2", "Users")
            who = view.who
            drawing.text("p", f"You are {shown(who.name)}, and may {who.role}.")
            if who.may("administer"):
                button = drawing.text("button", "Add a user…", "small").props("type=button data-do-user")
                button.on("click", lambda: self._edit(None))
            if (me := self._users.get(who.name)) is not None and me.hash:
                button = drawing.text("button", "Change my password…", "small").props("type=button data-do-mine")
                button.on("click", lambda: self._change_mine(who.name))
            self._table = LiveTable(COLUMNS, "Users", EMPTY)
        self._table.on_act(self._act)
        self._show()

    def _show(self) -> None:
        acts = [["edit", "Change…"], ["remove", "Remove…"]] if self._view.who.may("administer") else []
        rows = [
            {
                "key": user.name,
                "name": shown(user.name),
                "role": user.role,
                "by": "here" if user.hash else "elsewhere",
                "act": acts,
            }
            for user in self._users.all()
        ]
        self._table.show(rows, pager={})

    async def _act(self, name: str, action: str) -> None:
        user = self._users.get(name)
        if user is not None:
            await (self._edit(user) if action == "edit" else self._remove(user))

    async def _edit(self, user: User | None) -> None:
        async def save(values: Values) -> Errors:
            name = user.name if user else values["name"].strip()
            if not user and self._users.get(name) is not None:
                return {"name": "there is a user of this name already"}
            try:
                self._view.who.must("administer")
                self._users.put(name, values["role"], values["password"])
            except NotAllowed as error:
                return {"": str(error)}
            except ValueError as error:
                field, _, message = str(error).partition(": ")
                return {field if field in values else "": message}
            except OSError as error:
                return {"": f"it cannot be kept: {error.strerror}"}
            self._record("update" if user else "create", name, values["role"])
            return {}

        password = Entry("password", "Password", "Empty: it stays, or www-auth or a proxy checks it.", secret=True)
        entries = (ROLE, password) if user else (Entry("name", "Name"), ROLE, password)
        start = {"role": user.role if user else "operate"}
        title = f"Change {user.name}" if user else "Add a user"
        if await self._box.fill(title, entries, start, "Save", save) is not None:
            self._notes.say("Saved; it holds at once.")
            self._show()

    async def _change_mine(self, name: str) -> None:
        """A user's own password, whatever the role; the one before is asked for. Their sessions end."""
        access, client = self._view.access, self._view.request.client
        host, browser = client.host if client else "", browser_of(self._view.request.headers, access)

        async def save(values: Values) -> Errors:
            user = self._users.get(name)
            if values["new"] != values["again"]:
                return {"again": "is not the same"}
            try:
                if user is None or not await access.guess(values["now"], host, browser, name):
                    return {"now": "is not the password"}
                self._users.put(name, user.role, values["new"])
            except TooManyTries:
                return {"now": "too many failed tries; wait a while"}
            except AuthUnavailable as error:
                return {"now": str(error)}
            except ValueError as error:
                return {"new": str(error).partition(": ")[2]}
            except OSError as error:
                return {"": f"it cannot be kept: {error.strerror}"}
            self._record("update", name, user.role)
            return {}

        await self._box.fill("Change my password", MINE, {}, "Change", save)  # the next tick leads to the login

    async def _remove(self, user: User) -> None:
        lines = ["Their sessions end. It cannot be undone; what they did stays in the audit."]
        if not await self._box.confirm(f"Remove {user.name}?", lines, "Remove", danger=True):
            return
        try:
            self._view.who.must("administer")
            self._users.remove(user.name)
        except (NotAllowed, OSError) as error:
            self._notes.say(str(error), level="bad")
            return
        self._record("delete", user.name, user.role)
        self._notes.say(f"{user.name} is removed.")
        self._show()

    def _record(self, action: str, name: str, role: str) -> None:
        facts = {"name": name, "role": role}
        self._view.facade.recorder.soon(self._view.who, action, "users", 0, facts)  # type: ignore[arg-type]
