"""sign: adds DKIM signatures. Runs after compose, on what is sent; changes `source` at its front only.

Every key that the rules have for the From domain signs, and those in the message's own `dkim` too. Nothing persists:
each attempt is signed anew. Bound: one delivery for each slot. A message whose own `dkim` cannot be used ends as
`process/invalid`; signing that fails otherwise is retried, like every error of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from operators.deliveries.delivery import Delivery
from operators.deliveries.outcome import deferred, failed
from operators.mail.arc import signatures_and_seals
from operators.mail.dkim import Key
from operators.mail.message import Content, InvalidMessage, seconds
from operators.mail.signing_keys import CANONICALIZATIONS, load
from operators.stages.stage import Done, Report, Stage, handover, unreported
from settings.rules.fields import domain_name, header_name, selector

QUICK = 65_536  # bytes up to which Ed25519 signs on the spot: 0.1 ms, about what a hand-over costs
Signer = Callable[[bytes, Content | None, Sequence[Key], float, Callable[[bytes | Exception], None]], None]
KeysOf = Callable[[Delivery], Sequence[Key]]
PROTOCOLS = ("dkim", "arc")
PRIVATE = "an unencrypted PEM private key, RSA of 1024 to 4096 bits or Ed25519"
T = TypeVar("T")


def sign(keys_of: KeysOf, signer: Signer, clock: Callable[[], float], report: Report = unreported) -> Stage:
    """Puts the DKIM-Signature fields of all its keys before the message.

    Args:
        keys_of: the keys that sign this delivery; raises `InvalidMessage`.
        signer: as `dkim.signatures`, elsewhere, also of a content that is apart; calls back with what came of it.
        clock: epoch seconds.
        report: told of exceptions.
    """

    def start(delivery: Delivery, done: Done) -> None:
        try:
            keys = keys_of(delivery)
        except InvalidMessage as error:
            done(delivery.ended(failed("process", "invalid", str(error))))
            return
        source = delivery.source
        if not keys:
            done(delivery)
        elif delivery.size <= QUICK and delivery.content is None and all(key.quick for key in keys):
            done(delivery.but(source=signatures_and_seals(source, keys, clock()) + source))
        else:
            signer(source, delivery.content, keys, clock(), lambda result: signed(delivery, done, result))

    def signed(delivery: Delivery, done: Done, result: bytes | Exception) -> None:
        if isinstance(result, Exception):
            report("sign", delivery, result)
            done(delivery.ended(deferred("process", "error", f"sign: {type(result).__name__}")))
        else:
            done(delivery.but(source=result + delivery.source))

    return handover("sign", start, report)


# -- a message's own keys ----------------------------------------------------------------------------------------


def own_keys(given: Any, now: float) -> list[Key]:
    """The keys in a message's `dkim` property: an object or a list of them; what has expired does not sign.

    Raises:
        Invalid: says which field, and what is allowed; never has anything of a key in it.
    """
    if given is None:
        return []
    objects = given if isinstance(given, list) else [given]
    return [key for index, one in enumerate(objects) if (key := _own_key(one, f"dkim[{index}]", now)) is not None]


def _own_key(given: dict[str, Any], where: str, now: float) -> Key | None:
    """One of them; None where it does not sign now."""
    protocols = _several(given.get("protocols") or ["dkim"], f"{where}.protocols")
    if not set(protocols) <= set(PROTOCOLS):
        raise InvalidMessage(f"{where}.protocols: must be of {', '.join(PROTOCOLS)}")
    if _expired(given.get("expire"), f"{where}.expire", now):
        return None
    canonicalization = given.get("canonicalization") or CANONICALIZATIONS[0]
    if canonicalization not in CANONICALIZATIONS:
        raise InvalidMessage(f"{where}.canonicalization: must be one of {', '.join(CANONICALIZATIONS)}")
    names = _several(given.get("headers") or [], f"{where}.headers")
    headers = [_clean(header_name, name, f"{where}.headers", "header names, as strings") for name in names]
    return Key(
        _clean(domain_name, given.get("domain"), f"{where}.domain", "a domain name, as a string"),
        _clean(selector, given.get("selector"), f"{where}.selector", "a DKIM selector, as a string"),
        _clean(load, given.get("key"), f"{where}.key", PRIVATE),
        frozenset(name.lower().encode() for name in headers),
        canonicalization,
        given.get("report") in (True, 1, "1", "true", "yes", "on"),
        "dkim" in protocols,
        "arc" in protocols,
    )


def _expired(expire: Any, where: str, now: float) -> bool:
    try:
        return expire is not None and seconds(expire) <= now
    except (InvalidMessage, TypeError):
        raise InvalidMessage(f"{where}: must be a time, YYYY-MM-DD HH:MM:SS in UTC") from None


def _clean(check: Callable[[str], T], value: Any, where: str, allowed: str) -> T:
    """The checked value. What was given is never said: an application that mixes its fields up has a key there."""
    try:
        return check(value)
    except (ValueError, TypeError, AttributeError):
        raise InvalidMessage(f"{where}: must be {allowed}") from None


def _several(value: Any, where: str) -> Sequence[str]:
    """A text, or a list of them, as a list."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise InvalidMessage(f"{where}: must be a list of strings")
    return values
