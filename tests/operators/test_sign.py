"""The sign stage: what it puts before a message, a message's own keys, and errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import reactivex as rx

from operators.deliveries.delivery import Delivery, Lease
from operators.deliveries.outcome import Next
from operators.mail.dkim import Key, signatures
from operators.mail.message import Content, InvalidMessage, from_properties, timestamp
from operators.mail.signing_keys import load
from operators.stages.sign import QUICK, own_keys, sign
from tests.support.keys import ED25519, RSA

NOW = 1_700_000_000.0
SOURCE = b"From: a@example.com\r\n\r\nbody\r\n"
OWN = {"domain": "example.com", "selector": "own", "key": RSA}


def delivery(source: bytes = SOURCE) -> Delivery:
    return Delivery(lease=Lease(1, b""), message=from_properties({"recipient": "b@example.net"}), source=source)


class Desk:
    """The signer elsewhere: what it is asked waits until it is done."""

    def __init__(self) -> None:
        self.waiting: list[tuple[bytes, Sequence[Key], float, Callable[[bytes | Exception], None]]] = []

    def __call__(
        self,
        source: bytes,
        content: Content | None,
        keys: Sequence[Key],
        now: float,
        done: Callable[[bytes | Exception], None],
    ) -> None:
        assert content is None
        self.waiting.append((source, keys, now, done))

    def finish(self) -> None:
        *asked, done = self.waiting.pop()
        done(signatures(*asked))  # type: ignore[arg-type]


def through(keys_of: Callable[[Delivery], Sequence[Key]], desk: Desk, item: Delivery) -> list[Delivery]:
    out: list[Delivery] = []
    rx.of(item).pipe(sign(keys_of, desk, lambda: NOW)).subscribe(out.append)
    return out


def key(pem: str) -> Key:
    return Key("example.com", "s1", load(pem))


# -- the stage ----------------------------------------------------------------------------------------------------


def test_without_keys_a_delivery_passes_as_it_is() -> None:
    """The same object: nothing is copied."""
    item, desk = delivery(), Desk()
    assert through(lambda _: (), desk, item)[0] is item
    assert not desk.waiting


def test_an_rsa_key_signs_elsewhere() -> None:
    """The delivery goes on once it is signed, with the signature before what was there."""
    desk = Desk()
    out = through(lambda _: [key(RSA)], desk, delivery())
    assert not out
    desk.finish()
    assert out[0].source.startswith(b"DKIM-Signature: v=1; a=rsa-sha256;")
    assert out[0].source.endswith(SOURCE)


def test_a_short_message_is_signed_with_ed25519_at_once() -> None:
    """It takes no longer than to hand it over; a long one is handed over."""
    desk = Desk()
    out = through(lambda _: [key(ED25519)], desk, delivery())
    assert b"a=ed25519-sha256" in out[0].source
    through(lambda _: [key(ED25519)], desk, delivery(SOURCE + b"x" * QUICK))
    through(lambda _: [key(ED25519), key(RSA)], desk, delivery())
    assert len(desk.waiting) == 2


def test_a_failure_to_sign_is_retried() -> None:
    """As every error of ours; the outcome names its kind only."""
    desk = Desk()
    out = through(lambda _: [key(RSA)], desk, delivery())
    desk.waiting.pop()[-1](RuntimeError("secret"))
    outcome = out[0].outcome
    assert outcome is not None
    assert (outcome.next, outcome.description) == (Next.RETRY, "sign: RuntimeError")


def test_a_dkim_property_that_cannot_be_used_ends_the_message() -> None:
    """`process/invalid`, with what is wrong."""

    def refuse(item: Delivery) -> Sequence[Key]:
        raise InvalidMessage("dkim[0].key: must be ...")

    outcome = through(refuse, Desk(), delivery())[0].outcome
    assert outcome is not None
    assert (outcome.state, outcome.result, outcome.next) == ("process", "invalid", Next.FAIL)


# -- a message's own keys -----------------------------------------------------------------------------------------


def test_a_message_may_bring_a_key_or_several() -> None:
    """An object or a list; selector and domain in lower case, as A-labels."""
    assert own_keys(None, NOW) == []
    assert own_keys([], NOW) == []
    one = own_keys(OWN, NOW)[0]
    assert (one.name, one.canonicalization, one.headers) == (
        "own._domainkey.example.com",
        "relaxed/simple",
        frozenset(),
    )
    full = {**OWN, "domain": "B\u00fccher.Example", "headers": ["X-Id"], "canonicalization": "simple/relaxed"}
    both = own_keys([OWN, {**full, "key": ED25519}], NOW)
    assert both[1].domain == "xn--bcher-kva.example"
    assert both[1].headers == {b"x-id"}
    assert both[1].canonicalization == "simple/relaxed"


def test_an_expired_key_does_not_sign() -> None:
    """`expire` is UTC, like every time on the queues."""
    assert own_keys({**OWN, "expire": timestamp(NOW)}, NOW) == []
    assert len(own_keys({**OWN, "expire": timestamp(NOW + 1)}, NOW)) == 1


def test_protocols_say_what_a_key_is_for() -> None:
    """One for `arc` alone makes no DKIM signature, one for both makes both."""
    for protocols, uses in ((["arc"], (False, True)), (["arc", "dkim"], (True, True)), ("dkim", (True, False))):
        (key,) = own_keys({**OWN, "protocols": protocols}, NOW)
        assert (key.signs, key.seals) == uses


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("domain", None),
        ("domain", "a b"),
        ("domain", "x\r\nBcc: y"),
        ("selector", 5),
        ("selector", "s;l=0"),
        ("selector", "s\r\n"),
        ("key", "nothing"),
        ("key", None),
        ("expire", "tomorrow"),
        ("expire", 5),
        ("headers", [1]),
        ("headers", ["X\r\nY"]),
        ("canonicalization", "strict"),
        ("canonicalization", ["x"]),
        ("protocols", ["smtp"]),
        ("protocols", 1),
    ],
)
def test_what_cannot_be_used_is_named(field: str, value: object) -> None:
    """With what is allowed."""
    with pytest.raises(InvalidMessage, match=rf"dkim\[1\]\.{field}: must be"):
        own_keys([OWN, {**OWN, field: value}], NOW)


@pytest.mark.parametrize("field", ["domain", "selector", "expire", "canonicalization", "protocols"])
def test_a_private_key_in_the_wrong_field_is_not_shown(field: str) -> None:
    """Whoever mixes the fields up finds the outcome in logs and results: without the key."""
    inside = "".join(ED25519.splitlines()[1:-1])
    for value in (ED25519, inside):
        with pytest.raises(InvalidMessage) as caught:
            own_keys({**OWN, "key": ED25519, field: value}, NOW)
        assert inside[:10] not in str(caught.value)
