"""The vault: encrypts private keys at rest with a key file in `data-dir`, mode 600 (Fernet: AES-128-CBC and HMAC).

The file is made with the first key that is stored. Instances that share a rules database share it too: copy it to
each of them. Without it, or with another one, the stored keys cannot be read; they are left as they are.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

FILE = "rules.key"


class Locked(Exception):
    """The key file is missing, unreadable or another one; the text says which and where."""


class Vault:
    """Encrypts and decrypts with the key file in `data_dir`."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / FILE
        self._fernet: Fernet | None = None

    def encrypt(self, secret: str) -> str:
        """The secret as it is stored; makes the key file where there is none yet. Raises `Locked`."""
        if self._fernet is None and not self.path.exists():
            self._make()
        return self._opened().encrypt(secret.encode()).decode()

    def decrypt(self, stored: str) -> str:
        """What was encrypted. Raises `Locked`."""
        try:
            return self._opened().decrypt(stored.encode()).decode()
        except InvalidToken:
            raise Locked(f"was not encrypted with {self.path}") from None

    def _opened(self) -> Fernet:
        if self._fernet is None:
            try:
                self.path.chmod(0o600)
                self._fernet = Fernet(self.path.read_bytes().strip())
            except (OSError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) else "is no key file"
                raise Locked(f"{self.path}: {why}") from None
        return self._fernet

    def _make(self) -> None:
        """Written aside and linked into place: two that start at once agree on one file, and it is never half there."""
        aside = self.path.with_name(f"{FILE}.{os.getpid()}")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(Fernet.generate_key() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(aside, self.path)
        except FileExistsError:
            pass
        finally:
            aside.unlink()
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # a key that is in the database must not outlive the file that opens it
        finally:
            os.close(folder)
