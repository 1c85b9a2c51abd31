"""Access: who may use the console. The password, and the sessions.

Owner of: the files `console-password` (an argon2 hash), `console-secret` and `console-ended` in `data-dir`, mode 600. A
session is a signed cookie, so it outlives a restart; its key depends on the password, so a changed password ends all
sessions. Which sessions were logged out is kept in `console-ended` until they would have ended by themselves.
Bounds: REMEMBER logged out sessions; where one more is forgotten, all that are older than it end. Three passwords are
checked at a time, since argon2 takes 40 ms of a core by design: one of browsers that have been logged in before, one of
clients that have not failed, and in a process that gives way one of those that have. WAITING are in each line, EACH of
one client. The one that was right is known again by a keyed hash in memory, and waits for nobody.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import argon2
import msgspec
import structlog
from itsdangerous import BadData, URLSafeTimedSerializer

from gui.access.tries import REMEMBER, Guesses, TooManyTries, Tries, network
from gui.access.users import CONSOLE, FILE, Users, decoy
from pipeline.views.background import DamagedHash, HashingLane, HumbleLane, failed
from pipeline.views.credentials import parse
from settings import Settings, StartError
from settings.store import Role

LIFETIME = 7 * 86_400  # seconds a session is valid
OPENID_LIFETIME = 12 * 3600  # of one whose role a provider has given, which may take it away
OPENID = " (openid)"  # after the names of those: no name of the list can be like that
REMEMBERED = 365 * 86_400  # seconds a browser is known
COOKIE = "mailrace_session"
WAITING = 60
EACH = 3
LONGEST = 256  # characters of a cookie of ours; more is none
LONGEST_STEP = 1500
LONGEST_PASSWORD = 1024
UNGUESSABLE = 16  # characters: a password as long as that is let in at any time, as a token is
log = structlog.get_logger("console")


class Ended:
    """The sessions that were logged out.

    Args:
        file: where they are kept; None: nowhere.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._until: dict[str, float] = {}  # by digest, the oldest first
        self.since = 0.0  # sessions that began before this have ended
        self._writing = asyncio.Lock()
        if file is not None and file.exists():
            self._read(file)

    def __contains__(self, cookie: str) -> bool:
        return _digest(cookie) in self._until

    async def add(self, cookie: str, began: float) -> None:
        """This one has ended; where that cannot be kept, it is forgotten at the next restart, and the log says so."""
        now = time.time()
        self._until = {digest: until for digest, until in self._until.items() if until > now}
        self._until[_digest(cookie)] = began + LIFETIME
        if len(self._until) > REMEMBER:
            oldest = next(iter(self._until))
            self.since = max(self.since, self._until.pop(oldest) - LIFETIME + 1)
        if self._file is not None:
            try:
                async with self._writing:
                    text = "".join(f"{line}\n" for line in self._lines())
                    await asyncio.to_thread(keep, self._file, text)
            except OSError as error:
                log.error("a logout cannot be kept over a restart", file=str(self._file), why=error.strerror)

    def _lines(self) -> Iterator[str]:
        yield f"since {self.since}"
        for digest, until in self._until.items():
            yield f"{digest} {until}"

    def _read(self, file: Path) -> None:
        try:
            for line in file.read_text().splitlines()[: REMEMBER + 1]:
                name, _, value = line.partition(" ")
                if name == "since":
                    self.since = float(value)
                else:
                    self._until[name] = float(value)
        except ValueError:  # who was logged out is not known: everybody logs in again
            self.since = float(int(time.time()))
            log.error("cannot be read: all sessions have ended", file=str(file))


class _Line:
    """Who waits until a password is checked: WAITING, EACH of one client."""

    def __init__(self, lane: HashingLane | HumbleLane) -> None:
        self._lane = lane
        self._waiting: collections.Counter[str] = collections.Counter()

    @contextlib.contextmanager
    def place(self, who: str) -> Iterator[None]:
        """A place in it; raises `TooManyTries`."""
        if self._waiting.total() >= WAITING or self._waiting[who] >= EACH:
            raise TooManyTries(1.0)
        self._waiting[who] += 1
        try:
            yield
        finally:
            self._waiting -= collections.Counter([who])

    async def matches(self, kept: str, password: str) -> bool:
        """Whether the password belongs to the hash. Raises `DamagedHash`."""
        return await self._lane.matches(kept, password)


class Access:
    """The password and the sessions.

    Args:
        password: plain, or an argon2 hash in PHC form.
        secret: the key that sessions are signed with.
        file: where the password's hash is kept; None where the configuration gives the password.

    Attributes:
        tries: wrong tokens.
        guesses: wrong passwords.
        cookie: the name of the session's cookie; each installation has its own, since cookies know no port.
        browser: the name of the cookie by which a browser is known again.
        step: the name of the cookie of a login by OpenID Connect that has begun; `steps` signs it.
        users: who has a name of their own.
    """

    def __init__(
        self,
        password: str,
        secret: bytes,
        tries: Tries | None = None,
        file: Path | None = None,
        ended: Ended | None = None,
        users: Users | None = None,
    ) -> None:
        self.users = users or Users()
        self.tries = Tries() if tries is None else tries
        self.guesses = Guesses()
        name = hmac.digest(secret, b"cookie", hashlib.sha256).hex()[:8]
        self.cookie, self.browser = f"{COOKIE}_{name}", f"mailrace_browser_{name}"
        self.step = f"mailrace_openid_{name}"
        self.steps = URLSafeTimedSerializer(secret, salt="openid")
        self._secret = secret
        self._file = file
        self._browsers = URLSafeTimedSerializer(secret, salt="browser")
        self._set(password)
        self._ended = ended or Ended()
        self._known_line, self._first_line, self._failed_line = (
            _Line(HashingLane()),
            _Line(HashingLane()),
            _Line(HumbleLane()),
        )
        self._key = secrets.token_bytes(16)

    def _set(self, password: str) -> None:
        self._password = password
        self._right: bytes | None = None  # a keyed hash of what was found to match
        key = hmac.digest(self._secret, password.encode(), hashlib.sha256)
        self._serializer = URLSafeTimedSerializer(key, salt="session")

    @property
    def changeable(self) -> bool:
        """Whether the password can be changed here: not where it stands in the configuration."""
        return self._file is not None

    @property
    def password(self) -> str:
        """What is kept of it: plain as the configuration has it, or a hash. For `Passes` alone."""
        return self._password

    async def change(self, password: str) -> None:
        """From now on this is the password; all sessions end.

        Raises:
            OSError: it cannot be kept; nothing has changed.
        """
        if self._file is None:
            raise ValueError("the password stands in the configuration (www-password); change it there")
        made = await asyncio.to_thread(argon2.PasswordHasher().hash, password)
        await asyncio.to_thread(keep, self._file, made)
        self._set(made)
        self.guesses.forget()

    # -- the password -------------------------------------------------------------------------------------------------

    async def guess(self, password: str, client: str, browser: str | None = None, name: str = CONSOLE) -> bool:
        """Whether this is the password of this user; a wrong one is counted, and its answer comes later.

        Args:
            client: the address it comes from.
            browser: the cookie by which the browser is known, where it has one.
            name: the user; `console` has the one password.

        Raises:
            TooManyTries: it was not looked at.
            AuthUnavailable: `www-auth` does not answer.
        """
        known = self._known(browser)
        who, tried = known or network(client), password if name == CONSOLE else f"{name}\0{password}"
        if self.guesses.known_wrong(who, tried):
            return False
        wait = self.guesses.wait(who)
        if wait and (len(password) < UNGUESSABLE or name != CONSOLE):
            raise TooManyTries(wait)
        if (name == CONSOLE and self._was_right(password)) or (
            len(password) <= LONGEST_PASSWORD and await self._checked(password, who, known is not None, name)
        ):
            self.guesses.succeeded(who)
            return True
        if wait:
            raise TooManyTries(wait)
        await asyncio.sleep(self.guesses.failed(who, tried))
        return False

    async def _checked(self, password: str, who: str, known: bool, name: str) -> bool:
        """Who has failed waits for others who have; browsers that are known, and who has not failed, do not."""
        line = self._known_line if known else self._failed_line if self.guesses.has_failed(who) else self._first_line
        with line.place(who):
            return await (self._found(line, password) if name == CONSOLE else self._named(line, name, password, who))

    async def _named(self, line: _Line, name: str, password: str, who: str) -> bool:
        """A user of the list by the password kept here, any other by `www-auth`."""
        kept = self.users.hash(name)
        if not kept and await self.users.elsewhere(name, password, self.guesses.has_failed(who)):
            return True
        try:
            return await line.matches(kept or decoy(), password) and bool(kept)
        except DamagedHash as error:
            failed("console password", error)
            return False

    async def check(self, password: str) -> bool:
        """Whether this is the password."""
        return self._was_right(password) or await self._found(self._first_line, password)

    async def _found(self, line: _Line, password: str) -> bool:
        kept = self._password
        try:
            if kept.startswith("$argon2"):
                right = await line.matches(kept, password)
            else:
                right = hmac.compare_digest(password.encode(errors="replace"), kept.encode())
        except DamagedHash as error:
            failed("console password", error)
            return False
        if right and kept is self._password:  # it may have been changed meanwhile
            self._right = self._digest(password)
        return right and kept is self._password

    def _was_right(self, password: str) -> bool:
        return self._right is not None and hmac.compare_digest(self._right, self._digest(password))

    def _digest(self, password: str) -> bytes:
        return hashlib.blake2b(password.encode(errors="backslashreplace"), key=self._key).digest()

    # -- browsers and sessions ----------------------------------------------------------------------------------------

    def recognise(self, browser: str | None) -> str:
        """The cookie by which this browser will be known: the one that it has, or a new one."""
        return browser if browser and self._known(browser) else str(self._browsers.dumps(secrets.token_urlsafe(9)))

    def _known(self, browser: str | None) -> str | None:
        """The name of a browser that has been logged in before."""
        if not browser or len(browser) > LONGEST:
            return None
        try:
            return f"browser {self._browsers.loads(browser, max_age=REMEMBERED)}"
        except BadData:
            return None

    def kept_step(self, cookie: str | None, seconds: float) -> list[str] | None:
        """What the cookie of a login that has begun says: state, nonce, verifier, and where to go."""
        if not cookie or len(cookie) > LONGEST_STEP:
            return None
        try:
            found = self.steps.loads(cookie, max_age=int(seconds))
        except BadData:
            return None
        return found if isinstance(found, list) and len(found) == 4 else None

    def begin(self, name: str = CONSOLE, granted: Role | None = None) -> str:
        """A new session of a user: the cookie's value. `granted`: the role, where a provider gives it."""
        own = secrets.token_urlsafe(16)
        if granted is not None:
            return str(self._serializer.dumps([own, name + OPENID, "", granted]))
        return str(self._serializer.dumps(own if name == CONSOLE else [own, name, self.users.mark(name)]))

    def name(self, cookie: str | None) -> str:
        """Whose session this is; empty where it is none."""
        found = self._session(cookie)
        return found[1] if found else ""

    def granted(self, cookie: str | None) -> Role | None:
        """The role that a provider has given; None: it is that of the user, see `users`."""
        found = self._session(cookie)
        return found[2] if found else None

    def valid(self, cookie: str | None) -> bool:
        """Whether this cookie is a session that lasts."""
        return self._began(cookie) is not None

    def _began(self, cookie: str | None) -> float | None:
        """When a session that lasts began; None where this is none."""
        found = self._session(cookie)
        return found[0] if found else None

    def _session(self, cookie: str | None) -> tuple[float, str, Role | None] | None:
        """When a session that lasts began, whose it is, and the role that a provider gave it.

        That of a user ends when the password changes.
        """
        if not cookie or len(cookie) > LONGEST or cookie in self._ended:
            return None
        try:
            said, began = self._serializer.loads(cookie, max_age=LIFETIME, return_timestamp=True)
        except BadData:
            return None
        seconds: float = began.timestamp()
        if seconds < self._ended.since:
            return None
        if not isinstance(said, list):
            return seconds, CONSOLE, None
        _, name, mark, *granted = said
        if granted:
            return (seconds, name, granted[0]) if time.time() - seconds < OPENID_LIFETIME else None
        return (seconds, name, None) if mark == self.users.mark(name) else None

    async def end(self, cookie: str) -> None:
        """Log out: the cookie is no session any more, also after a restart."""
        began = self._began(cookie)
        if began is not None:
            await self._ended.add(cookie, began)


class OpenedAccess(msgspec.Struct, frozen=True):
    """The access that the configuration gives, and the password where it was made up just now."""

    access: Access
    generated: str | None


def open_access(settings: Settings) -> OpenedAccess:
    """The access that the configuration gives; makes up a password at first start where it gives none.

    Raises:
        StartError: a file in `data-dir` cannot be read or written.
    """
    folder = Path(settings.data_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        secret = _kept(folder / "console-secret", lambda: secrets.token_hex(32)).encode()
        ended = Ended(folder / "console-ended")
        users = _users(settings)
        if settings.www_password and (given := settings.www_password.get_secret_value()):
            return OpenedAccess(Access(given, secret, ended=ended, users=users), None)
        generated: list[str] = []
        kept = _kept(folder / "console-password", lambda: _made_up(generated))
    except OSError as error:
        raise StartError(
            f"data-dir {folder}: {error.strerror}: {error.filename}; the console keeps its keys there"
        ) from None
    file = folder / "console-password"
    return OpenedAccess(Access(kept, secret, file=file, ended=ended, users=users), generated[0] if generated else None)


def _made_up(generated: list[str]) -> str:
    """The hash of a new password, which is put into the list."""
    generated.append("-".join(secrets.token_hex(2) for _ in range(4)))
    return argon2.PasswordHasher().hash(generated[0])


def _users(settings: Settings) -> Users:
    """Who has a name of their own. Raises `StartError`."""
    auth = settings.www_auth
    try:
        external = parse(auth.get_secret_value()) if auth else None
    except ValueError as error:
        raise StartError(str(error).replace("smtp-auth", "www-auth")) from None
    role: Any = settings.www_role
    users = Users(Path(settings.data_dir) / FILE, external, role, keep)
    if settings.www_user_header:
        users.named_by_proxy()
    return users


def _digest(cookie: str) -> str:
    return hashlib.sha256(cookie.encode(errors="replace")).hexdigest()[:32]


def _kept(path: Path, make: Callable[[], str]) -> str:
    """The content of a file that only we may read; made where it is missing or empty."""
    if path.exists():
        try:
            if text := path.read_text().strip():
                return text
        except UnicodeDecodeError:
            raise StartError(f"{path}: is no text; remove it, and a new one is made") from None
    made = make()
    keep(path, made)
    return made


def keep(path: Path, text: str) -> None:
    """Write a file that only we may read, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    part.replace(path)
