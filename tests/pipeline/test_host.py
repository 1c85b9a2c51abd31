"""This machine: which addresses are ours, and what it is called."""

from __future__ import annotations

import ipaddress
import socket

import pytest

from pipeline.machine.host import Here, HostNames, greeting, interfaces, literal
from settings.config.keys import FIELDS

MACHINE = frozenset(map(ipaddress.ip_address, ("127.0.0.1", "::1", "192.0.2.1", "2001:db8::1")))


def here(*sockets: tuple[str, int]) -> Here:
    found = Here(lambda: MACHINE)
    found.listen(sockets)
    return found


@pytest.mark.parametrize(
    "ip",
    ["0.0.0.0", "127.0.0.1", "127.9.9.9", "192.0.2.1", "::ffff:127.0.0.1", "::ffff:192.0.2.1", "::ffff:0.0.0.0"],
)
def test_an_ipv4_wildcard_listens_on_every_ipv4_address_of_the_machine(ip: str) -> None:
    """K4: the unspecified address, 127/8, and each as an IPv6 form of it; on our ports only."""
    assert here(("0.0.0.0", 2525))(ip, 2525)
    assert not here(("0.0.0.0", 2525))(ip, 25)


@pytest.mark.parametrize("ip", ["::", "::1", "::1%lo", "2001:db8::1", "2001:0db8:0::0001"])
def test_an_ipv6_wildcard_listens_on_every_ipv6_address_of_the_machine(ip: str) -> None:
    """K4: also with a scope."""
    assert here(("::", 25))(ip, 25)


def test_one_address_is_itself_and_what_reaches_it() -> None:
    """K4: the unspecified address reaches 127.0.0.1; others of 127/8 are other servers'."""
    ours = here(("127.0.0.1", 2525), ("127.0.0.1", 4465), ("::1", 25))
    assert ours("127.0.0.1", 2525) and ours("0.0.0.0", 2525) and ours("::ffff:7f00:1", 4465)
    assert ours("::", 25) and ours("::1%1", 25)
    assert not ours("127.0.0.2", 2525) and not ours("192.0.2.1", 2525) and not ours("::1", 2525)


def test_an_address_that_appears_later_is_ours() -> None:
    """K4: after the next look."""
    machine = set(MACHINE)
    ours = Here(lambda: frozenset(machine))
    ours.listen([("0.0.0.0", 25)])
    assert not ours("192.0.2.7", 25) and not ours.refresh()
    machine.add(ipaddress.ip_address("192.0.2.7"))
    assert ours.refresh()
    assert ours("192.0.2.7", 25)


def test_what_is_ours_is_what_the_machine_says() -> None:
    """K4: its real interfaces."""
    assert ipaddress.ip_address("127.0.0.1") in interfaces()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mail.example.com", "mail.example.com"),
        ("MAIL.Example.COM.", "mail.example.com"),
        ("vm", "vm"),
        ("müller.example", "xn--mller-kva.example"),
        *((bad, None) for bad in ("", " ", "a b", "(none)", "localhost", "localhost.localdomain", "my_host", "-a.b")),
        *((bad, None) for bad in ("a..b", "a" * 64, "127.0.0.1", "a\nb", "a\0b", "\udcfc", ".".join(["a" * 60] * 5))),
    ],
)
def test_a_name_to_greet_with_is_one_of_rfc_5321(name: str, said: str | None) -> None:
    """K14: anything else a machine may be called is no name for EHLO."""
    assert greeting(name) == said


@pytest.mark.parametrize("name", ["", "(none)", "localhost", "my host", "ho_st"])
def test_without_a_name_ehlo_says_the_address_and_the_operator_is_told(name: str) -> None:
    """K14: an address literal (RFC 5321 4.1.3), and one line."""
    names = HostNames(name)
    assert names.ehlo("192.0.2.1") == "[192.0.2.1]"
    assert names.ehlo("2001:db8::1") == "[IPv6:2001:db8::1]" == literal("2001:db8:0::1")
    line = names.nameless(name, ["192.0.2.1"])
    assert line is not None and "server-id" in line and "\n" not in line
    assert HostNames("mail.example").nameless("mail.example", ["192.0.2.1"]) is None


@pytest.mark.parametrize(
    ("name", "made"),
    [("", "mailrace"), ("(none)", "none"), ("müller 1", "m-ller-1"), ("a" * 200, "a" * 64), ("mx_1.a", "mx_1.a")],
)
def test_message_ids_can_be_made_whatever_the_machine_is_called(
    monkeypatch: pytest.MonkeyPatch, name: str, made: str
) -> None:
    """K14: the default of `server-id` is one that would be allowed."""
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    assert FIELDS["server_id"].get_default(call_default_factory=True, validated_data={}) == made
