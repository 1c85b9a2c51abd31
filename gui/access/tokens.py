"""Tokens: who may use the API. Made under Settings or by the API; `api-token` may be one more.

Owner of: the file `api-tokens` in `data-dir`, mode 600. It has the SHA-256 of each token: they are 256 random bits,
so nothing slower is needed. Bound: MOST tokens. A file that cannot be written changes nothing. When a token was last
used is kept with the next change, and once in NOTED seconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Literal, get_args

import msgspec
import structlog

from settings import Settings, StartError

FILE = "api-tokens"
MOST = 1000
LONGEST = 100  # characters of a name
CONFIGURED = "api-token"  # the name of the one in the configuration
NOTED = 60.0  # seconds
Scope = Literal["read", "operate", "send"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
log = structlog.get_logger("console")


class Token(msgspec.Struct, frozen=True):
    """A token as it is kept: never itself. Times: epoch seconds.

    `scopes`: read (all that is shown), operate (all that changes something), send (new messages). `expires`: from then
    on it opens nothing; None: never. `used`: when it was last let in, to about a minute.
    """

    id: int
    name: str
    made: float
    digest: str
    scopes: tuple[Scope, ...] = SCOPES
    expires: float | None = None
    used: float | None = None


class Tokens:
    """The tokens of this machine.

    Args:
        path: the file.
        configured: the one in the configuration; empty: none.

    Raises:
        StartError: the file cannot be read.
    """

    def __init__(self, path: Path, configured: str = "", clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = path, clock
        self._configured = Token(0, CONFIGURED, 0.0, _digest(configured)) if configured else None
        try:
            self._tokens = msgspec.json.decode(path.read_bytes(), type=list[Token]) if path.exists() else []
        except (OSError, msgspec.DecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is no list of tokens"
            raise StartError(f"{path}: {reason}; the tokens of the API are kept there") from None
        self._used: dict[int, float] = {}
        self._noted = clock()
        self._index()

    def _index(self) -> None:
        """By digest: of a random token it tells nothing in how long it takes to be found."""
        self._by_digest = {token.digest: token for token in self._tokens}
        if self._configured is not None:
            self._by_digest[self._configured.digest] = self._configured

    def all(self) -> list[Token]:
        """The tokens that were made, oldest first."""
        return [msgspec.structs.replace(kept, used=self._used.get(kept.id, kept.used)) for kept in self._tokens]

    def find(self, authorization: str) -> Token | None:
        """The valid token in an `Authorization` header, or None."""
        scheme, _, token = authorization.partition(" ")
        found = self._by_digest.get(_digest(token.strip())) if scheme.lower() == "bearer" else None
        return found if found is not None and self.lasts(found) else None

    def holder(self, authorization: str) -> str | None:
        """The name of the token in an `Authorization` header, or None."""
        found = self.find(authorization)
        return found.name if found else None

    def reader(self, authorization: str) -> str | None:
        """As `holder`, of tokens that may read."""
        found = self.find(authorization)
        if found is None or "read" not in found.scopes:
            return None
        self.note(found)
        return found.name

    def lasts(self, token: Token) -> bool:
        """Whether it has not been revoked, and has not expired."""
        return token.digest in self._by_digest and (token.expires is None or token.expires > self._clock())

    def note(self, token: Token) -> bool:
        """It was let in; whether `keep_used` is due."""
        if token.id:
            self._used[token.id] = self._clock()
        return bool(self._used) and self._clock() - self._noted >= NOTED

    def keep_used(self) -> None:
        """Keep when tokens were last used; a file that cannot be written is told in the log."""
        self._noted = self._clock()
        try:
            self._keep(self._tokens)
        except OSError as error:
            log.warning("when tokens were last used cannot be kept", file=str(self._path), why=error.strerror)

    def make(self, name: str, scopes: Collection[str] = SCOPES, expires: float | None = None) -> str:
        """A new token; this is the only time that it is seen.

        Raises:
            ValueError: a value cannot be used; says what is allowed.
            OSError: it cannot be kept.
        """
        name = name.strip()
        if not name or len(name) > LONGEST or not name.isprintable():
            raise ValueError(f"name: allowed are 1 to {LONGEST} printable characters")
        if name == CONFIGURED or any(kept.name == name for kept in self._tokens):
            raise ValueError("name: there is a token of this name already")
        if not scopes or not set(scopes) <= set(SCOPES):
            raise ValueError(f"scopes: allowed are one or more of {', '.join(SCOPES)}")
        if expires is not None and not self._clock() < expires < 1e11:
            raise ValueError("expires: must be in the future")
        if len(self._tokens) >= MOST:
            raise ValueError(f"name: there are {MOST} tokens already; revoke one first")
        token = f"mr_{secrets.token_urlsafe(32)}"
        id = max((kept.id for kept in self._tokens), default=0) + 1
        ordered = tuple(scope for scope in SCOPES if scope in scopes)
        self._keep([*self._tokens, Token(id, name, self._clock(), _digest(token), ordered, expires)])
        return token

    def revoke(self, id: int) -> bool:
        """From now on it opens nothing; False where there is none. Raises OSError."""
        others = [kept for kept in self._tokens if kept.id != id]
        if len(others) == len(self._tokens):
            return False
        self._keep(others)
        return True

    def _keep(self, tokens: Sequence[Token]) -> None:
        """All or nothing: mkstemp gives mode 600, and the name is moved when all is written."""
        kept = [msgspec.structs.replace(token, used=self._used.get(token.id, token.used)) for token in tokens]
        handle, part = tempfile.mkstemp(dir=self._path.parent, prefix=f".{FILE}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.encode(kept))
            Path(part).replace(self._path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(part).unlink()
            raise
        self._tokens = kept
        self._index()


def open_tokens(settings: Settings) -> Tokens:
    """The tokens that the configuration and `data-dir` have. Raises `StartError`."""
    configured = settings.api_token.get_secret_value() if settings.api_token else ""
    return Tokens(Path(settings.data_dir) / FILE, configured)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
