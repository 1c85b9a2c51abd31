"""mailboxes: reads the value of an address field: From, To and the like (RFC 5322 3.4). Pure functions.

Takes what people and programs write, not only what the grammar allows: an `@` in a display name without quotes, an
unclosed quote, `;` between addresses. Whether an address can be used is for the caller to say. Time is linear in the
length, whatever is in it; only what is asked for is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

# The lexical tokens of RFC 5322 3.2.3 and 3.2.4; comments nest, so they are found by a count.
_TOKEN = re.compile(r'([ \t\r\n]+)|("(?:[^"\\]++|\\.)*+")|(\[[^\[\]\\]*\])|([^ \t\r\n"()<>@,;:\\\[\]]+)|.', re.DOTALL)
_UNQUOTED = re.compile(r"([ \t\r\n]+)|(\Z.)|(\[[^\[\]\\]*\])|([^ \t\r\n\"()<>@,;:\\\[\]]+)|.", re.DOTALL)
_BRACKET = re.compile(r"\\.|[()]", re.DOTALL).finditer
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_BLANKS = re.compile(r"[ \t\r\n]+").split  # not those of Unicode, which are part of a name
_JOINED = (".", "@")  # white space beside them is no word's end (RFC 5322 4.4)


class HeaderToken(msgspec.Struct, frozen=True):
    """`kind`: space, quoted, literal, text, comment, or the special character itself."""

    kind: str
    text: str


_SPACE = HeaderToken("space", " ")


class Mailbox(msgspec.Struct, frozen=True):
    """One entry of an address list; what it lacks is "".

    Attributes:
        name: the display name as text, without quotes; a comment where there is no other.
        local, domain: of the address, as they stand there, without white space and comments.
        group: the name of the group that it is in; None outside of groups.
    """

    name: str = ""
    local: str = ""
    domain: str = ""
    group: str | None = None

    @property
    def address(self) -> str:
        """local@domain, or "" where there is none."""
        return f"{self.local}@{self.domain}" if self.local and self.domain else ""


def mailboxes(value: str) -> Iterator[Mailbox]:
    """The entries of an address list, in their order. An empty group is one entry without an address."""
    entry: list[HeaderToken] = []
    group: str | None = None
    empty = angle = route = False  # a group so far; within <>; there within `@a,@b:` (RFC 5322 4.4)
    for token in _tokens(value):
        kind = token.kind
        if angle:
            route = kind != ":" and (route or (kind == "@" and entry[-1].kind == "<"))
            angle = kind != ">" and (kind != "," or route)
        elif kind == "<":
            angle = True
        elif kind == ":" and group is None:
            group, empty, entry = _words(entry), True, []
            continue
        if angle or kind not in (",", ";"):
            entry.append(token)
            continue
        if (found := _mailbox(entry, group)) is not None:
            empty = False
            yield found
        if kind == ";":
            if group is not None and empty:
                yield Mailbox(group=group)
            group = None
        entry = []
    if (found := _mailbox(entry, group)) is not None:
        yield found
    elif group is not None and empty:
        yield Mailbox(group=group)


def _tokens(value: str) -> Iterator[HeaderToken]:
    """What is not closed is an ordinary character, and is not looked for again: so time stays linear."""
    token, comments, at = _TOKEN.match, True, 0
    while at < len(value):
        sign = value[at]
        if sign == "(" and comments:
            if end := _comment_end(value, at):
                yield HeaderToken("comment", value[at + 1 : end - 1])
                at = end
                continue
            comments = False
        found = token(value, at)
        assert found is not None
        if sign == '"' and not found.lastindex:
            token = _UNQUOTED.match
        yield HeaderToken(("", "space", "quoted", "literal", "text")[found.lastindex or 0] or sign, found[0])
        at = found.end()


def _comment_end(value: str, at: int) -> int:
    """After the comment that begins here, comments in it included; 0 where it is not closed."""
    depth = 0
    for found in _BRACKET(value, at):
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        if not depth:
            return found.end()
    return 0


def _mailbox(entry: list[HeaderToken], group: str | None) -> Mailbox | None:
    """One entry; None where nothing stands in it."""
    if not any(token.kind not in ("space", "comment") for token in entry):
        return None
    kinds = [token.kind for token in entry]
    if "<" in kinds:
        # the last one: what stands before it is the display name, whatever it looks like
        start = len(kinds) - 1 - kinds[::-1].index("<")
        local, domain = _address(entry[start + 1 :])
        return Mailbox(_words(entry[:start] if local else entry), local, domain, group)
    local, domain = _address(entry)
    return Mailbox(_words([one for one in entry if not local or one.kind == "comment"]), local, domain, group)


def _joined(entry: list[HeaderToken]) -> list[list[HeaderToken]]:
    """The words of an entry without angle brackets: an address is one, also with white space around `.` and `@`."""
    words: list[list[HeaderToken]] = []
    apart = True
    for token in entry:
        if token.kind in ("space", "comment"):
            apart = True
            continue
        if apart and not (words and (words[-1][-1].text.endswith(_JOINED) or token.text.startswith(_JOINED))):
            words.append([])
        words[-1].append(token)
        apart = False
    return words


def _address(tokens: list[HeaderToken]) -> tuple[str, str]:
    """(local part, domain) up to `>`, without white space, comments and a route; ("", "") where there is none.

    What else stands there belongs to neither: `a@b.example(x)c.example` is of b.example, and its local part is no more
    than a text, so that it is not taken for an address.
    """
    kinds = [token.kind for token in tokens]
    words = _joined(tokens[: kinds.index(">") if ">" in kinds else len(kinds)])
    if words and words[0][0].kind == "@":
        words = _joined([token for word in words for token in (*word, _SPACE)][_after_route(words) :])
    places = [place for place, word in enumerate(words) if any(token.kind == "@" for token in word)]
    if not places:
        return "", ""
    word = words.pop(places[0])
    kinds = [token.kind for token in word]
    at = len(kinds) - 1 - kinds[::-1].index("@")
    local, domain = ("".join(token.text for token in some) for some in (word[:at], word[at + 1 :]))
    rest = " ".join("".join(token.text for token in word) for word in words)
    return (f"{rest} {local}" if rest else local, domain) if local and domain else ("", "")


def _after_route(words: list[list[HeaderToken]]) -> int:
    """Where the address begins behind `@a,@b:`, counted in tokens with one between two words."""
    kinds = [token.kind for word in words for token in (*word, _SPACE)]
    return kinds.index(":") + 1 if ":" in kinds else 0


def _words(tokens: list[HeaderToken]) -> str:
    """A display name as text: quotes undone, white space single; a comment only where there is nothing else."""
    texts = []
    for token in tokens:
        if token.kind == "quoted":
            texts.append(_ESCAPE.sub(r"\1", token.text[1:-1]))
        elif token.kind == "comment":
            texts.append(f"({token.text})")
        else:
            texts.append(token.text)
    name = " ".join(_BLANKS("".join(texts))).strip()
    if all(token.kind in ("comment", "space") for token in tokens):
        return name.removeprefix("(").removesuffix(")").strip()
    return name
