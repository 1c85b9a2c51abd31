"""AUTH (RFC 4954): the mechanisms, in the order in which they are tried, and the steps of each. The texts are encoded
by aiosmtplib."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Generator, Sequence

from aiosmtplib.auth import auth_crammd5_verify, auth_login_encode, auth_plain_encode
from aiosmtplib.errors import SMTPAuthenticationError

LONGEST = 500  # characters of a command that every server takes (RFC 5321 4.5.3.1.4: 512 with CRLF)
# The server does not know this mechanism, or asks for a stronger one, or this form of it: another may do.
OTHER_MAY = frozenset((500, 501, 502, 503, 504, 534, 538))

CHALLENGE = 334  # the code of an answer that wants more
STEPS = 5  # of a mechanism, giving up included

Steps = Generator[str, str | None, None]  # what to say; gets the text of each challenge


def offered(parameters: str) -> list[str]:
    """Those of the offered mechanisms that can be used, best first.

    A password that is only proven (CRAM-MD5) comes last: servers that keep it hashed offer it, and cannot check it.
    """
    names = {name.upper() for name in parameters.replace("=", " ").split()}
    return [name for name in MECHANISMS if name in names]


def following(steps: Steps, challenge: str | None) -> str:
    """What to say next; `*` gives up, where the server wants more than the mechanism has (RFC 4954 4)."""
    try:
        return steps.send(challenge)
    except StopIteration:
        return "*"


def _plain(user: str, password: str) -> Steps:
    """RFC 4616; with an answer to the empty challenge where the command would be too long."""
    token = auth_plain_encode(user, password).decode()
    if len(token) < LONGEST - len("AUTH PLAIN "):
        yield f"AUTH PLAIN {token}"
        return
    yield "AUTH PLAIN"
    yield token


def _login(user: str, password: str) -> Steps:
    """The server asks for the name, then for the password, whatever it calls them."""
    yield "AUTH LOGIN"
    for token in auth_login_encode(user, password):
        yield token.decode()


def _cram_md5(user: str, password: str) -> Steps:
    """RFC 2195."""
    challenge = yield "AUTH CRAM-MD5"
    with contextlib.suppress(SMTPAuthenticationError):  # the challenge is no base64
        yield auth_crammd5_verify(user, password, challenge or "").decode()


# What has been said when the answer comes, of each mechanism in order: the states of results.
STATES = {
    "PLAIN": ("authplain",),
    "LOGIN": ("authlogin", "authusername", "authpassword"),
    "CRAM-MD5": ("authcram", "authresponse"),
}
MECHANISMS: dict[str, Callable[[str, str], Steps]] = {"PLAIN": _plain, "LOGIN": _login, "CRAM-MD5": _cram_md5}


def secrets(user: str, password: str) -> tuple[str, ...]:
    """What a receiver could repeat of a login, the longest first."""
    octets = [f"\0{user}\0{password}", f"{user}\0{user}\0{password}", password, user]
    forms = [password, *(base64.b64encode(one.encode()).decode() for one in octets)]
    return tuple(sorted((form for form in forms if form), key=len, reverse=True))


def masked(text: str, hidden: Sequence[str]) -> str:
    """The text of an answer without what it repeats of a login."""
    for secret in hidden:
        text = text.replace(secret, "********")
    return text
