"""Tokens: who may use the API. Made under Settings; one more may stand in the configuration (`api-token`).

Owner of: the file `api-tokens` in `data-dir`, mode 600. It has the SHA-256 of each token: they are 256 random bits,
so nothing slower is needed. Bound: MOST tokens. A file that cannot be written changes nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import tempfile
import time
from pathlib import Path

import msgspec

from settings import Settings, StartError

FILE = "api-tokens"
MOST = 1000
LONGEST = 100  # characters of a name
CONFIGURED = "api-token"  # the name of the one in the configuration


class Token(msgspec.Struct, frozen=True):
    """A token as it is kept: never itself. `made`: epoch seconds."""

    id: int
    name: str
    made: float
    digest: str


class Tokens:
    """The tokens of this machine.

    Args:
        path: the file.
        configured: the one in the configuration; empty: none.

    Raises:
        StartError: the file cannot be read.
    """

    def __init__(self, path: Path, configured: str = "") -> None:
        self._path = path
        self._configured = _digest(configured) if configured else ""
        try:
            self._tokens = msgspec.json.decode(path.read_bytes(), type=list[Token]) if path.exists() else []
        except (OSError, msgspec.DecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is no list of tokens"
            raise StartError(f"{path}: {reason}; the tokens of the API are kept there") from None

    def all(self) -> list[Token]:
        """The tokens that were made, oldest first."""
        return list(self._tokens)

    def holder(self, authorization: str) -> str | None:
        """The name of the token in an `Authorization` header, or None.

        Each is compared, whether one has matched already or not, and in constant time.
        """
        scheme, _, token = authorization.partition(" ")
        digest = _digest(token.strip())
        holders = [CONFIGURED] if hmac.compare_digest(digest, self._configured) else []
        holders += [kept.name for kept in self._tokens if hmac.compare_digest(digest, kept.digest)]
        return holders[0] if holders and scheme.lower() == "bearer" else None

    def make(self, name: str) -> str:
        """A new token; this is the only time that it is seen.

        Raises:
            ValueError: the name cannot be used; says what is allowed.
            OSError: it cannot be kept.
        """
        name = name.strip()
        if not name or len(name) > LONGEST or not name.isprintable():
            raise ValueError(f"name: allowed are 1 to {LONGEST} printable characters")
        if name == CONFIGURED or any(kept.name == name for kept in self._tokens):
            raise ValueError("name: there is a token of this name already")
        if len(self._tokens) >= MOST:
            raise ValueError(f"there are {MOST} tokens already; revoke one first")
        token = f"mr_{secrets.token_urlsafe(32)}"
        id = max((kept.id for kept in self._tokens), default=0) + 1
        self._keep([*self._tokens, Token(id, name, time.time(), _digest(token))])
        return token

    def revoke(self, id: int) -> bool:
        """From now on it opens nothing; False where there is none. Raises OSError."""
        others = [kept for kept in self._tokens if kept.id != id]
        if len(others) == len(self._tokens):
            return False
        self._keep(others)
        return True

    def _keep(self, tokens: list[Token]) -> None:
        """All or nothing: mkstemp gives mode 600, and the name is moved when all is written."""
        handle, part = tempfile.mkstemp(dir=self._path.parent, prefix=f".{FILE}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.encode(tokens))
            Path(part).replace(self._path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(part).unlink()
            raise
        self._tokens = tokens


def open_tokens(settings: Settings) -> Tokens:
    """The tokens that the configuration and `data-dir` have. Raises `StartError`."""
    configured = settings.api_token.get_secret_value() if settings.api_token else ""
    return Tokens(Path(settings.data_dir) / FILE, configured)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
