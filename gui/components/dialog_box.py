"""Questions and small forms over the page. Destructive actions are asked once; forms check as one types."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
from nicegui.element import Element
from nicegui.events import GenericEventArguments

from gui.components.parts import SCRIPTS

Values = dict[str, str]
Errors = Mapping[str, str]  # by field; under "" what is of none


class Entry(msgspec.Struct, frozen=True):
    """A field of a form; with `options`, pairs of value and text, one of them."""

    name: str
    label: str
    help: str = ""
    options: tuple[tuple[str, str], ...] | None = None
    secret: bool = False


class DialogBox(Element, component=f"{SCRIPTS}/dialog_box.js"):
    """One dialog of a page, used again for each question."""

    def __init__(self) -> None:
        super().__init__()
        self._answer: asyncio.Future[Values | None] | None = None
        self._check: Callable[[Values], Errors] | None = None
        self.on("answer", self._answered)
        self.on("check", self._checked)

    async def confirm(self, title: str, lines: Sequence[str], action: str, danger: bool = False) -> bool:
        """Ask once; whether it is wanted."""
        answer = await self._ask(title=title, lines=list(lines), action=action, danger=danger)
        if answer is not None:
            self.run_method("shut")
        return answer is not None

    async def confirm_count(self, title: str, lines: Sequence[str], action: str, count: int) -> bool:
        """Ask once, and to have the number typed: for what takes very much away."""
        entry = Entry("count", f"Type the number, {count}, to go on")

        async def save(values: Values) -> Errors:
            typed = "".join(letter for letter in values["count"] if letter.isdecimal())
            return {} if typed == str(count) else {"count": f"is not {count}"}

        return await self.fill(title, (entry,), {}, action, save, lines=lines, danger=True) is not None

    async def fill(
        self,
        title: str,
        entries: Sequence[Entry],
        values: Mapping[str, str],
        action: str,
        save: Callable[[Values], Awaitable[Errors]],
        check: Callable[[Values], Errors] | None = None,
        lines: Sequence[str] = (),
        danger: bool = False,
    ) -> Values | None:
        """A form, open until `save` finds nothing wrong with it or it is left; what was saved, or None.

        Args:
            check: called as one types; what is wrong, by field.
        """
        self._check = check
        fields = [msgspec.to_builtins(entry) for entry in entries]
        start = {entry.name: values.get(entry.name, "") for entry in entries}
        answer = await self._ask(
            title=title, lines=list(lines), fields=fields, values=start, action=action, danger=danger
        )
        while answer is not None:
            if not (errors := await save(answer)):
                self.run_method("shut")
                return answer
            self._answer = asyncio.get_running_loop().create_future()
            self.run_method("wrong", dict(errors))
            answer = await self._answer
        return None

    async def reveal(self, title: str, lines: Sequence[str], secret: str) -> None:
        """Show a secret once."""
        await self._ask(title=title, lines=list(lines), secret=secret, action="")
        self.run_method("shut")

    async def _ask(self, **what: Any) -> Values | None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(None)
        self._answer = asyncio.get_running_loop().create_future()
        self.run_method("ask", {"fields": [], "values": {}, "danger": False, "secret": "", **what})
        return await self._answer

    def _answered(self, event: GenericEventArguments) -> None:
        if self._answer is not None and not self._answer.done():
            said = event.args
            self._answer.set_result(_texts(said) if isinstance(said, dict) else None)

    def _checked(self, event: GenericEventArguments) -> None:
        if self._check is not None and isinstance(event.args, dict):
            self.run_method("wrong", dict(self._check(_texts(event.args))))

    def _handle_delete(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(None)  # the page has gone: whoever waits for an answer ends
        super()._handle_delete()


def _texts(said: Mapping[str, Any]) -> Values:
    return {str(name): str(value) for name, value in said.items()}
