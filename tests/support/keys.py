"""Keys to sign with in tests, made once a process: an RSA key takes a tenth of a second."""

from __future__ import annotations

from settings.rules import key_pairs as keys

RSA, OTHER, THIRD, ED25519 = (keys.generate(kind) for kind in ("rsa", "rsa", "rsa", "ed25519"))
