"""From DNS answers to routes."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.deliveries.delivery import Route
from operators.deliveries.outcome import Next, Outcome
from operators.deliveries.routes import (
    DnsAnswer,
    DnsStatus,
    Exchangers,
    address_literal,
    ascii_name,
    both_families,
    exchangers,
    fixed,
    group_name,
    route,
)


def found(*records: object, expires: float = 100.0) -> DnsAnswer:
    return DnsAnswer(DnsStatus.FOUND, records, expires)


def nobody(ip: str, port: int) -> bool:
    return False


def routed(hosts: list[tuple[int, str]], answers: Mapping[str, DnsAnswer], ours=nobody, chance=lambda: 0.0):
    return route("a.test", Exchangers("group", tuple(hosts)), answers, 25, ours, chance)


def addresses(where: Route | Outcome) -> list[str]:
    assert isinstance(where, Route)
    return [target.address for target in where.targets]


def test_a_null_mx_takes_no_mail():
    """RFC 7505 3: permanent, without any address look-up."""
    outcome = exchangers("a.test", found((0, "")))
    assert isinstance(outcome, Outcome)
    assert (outcome.state, outcome.result, outcome.next, outcome.status) == ("dns", "error", Next.FAIL, "5.1.10")


def test_a_null_mx_beside_others_is_passed_over():
    """RFC 7505 3: a domain that has other MX records does not publish a null MX."""
    where = exchangers("a.test", found((0, ""), (10, "mx.test")))
    assert where == Exchangers("mx.test", ((10, "mx.test"),))


def test_a_domain_without_mx_is_its_own_host():
    """RFC 5321 5.1: the implicit MX, and the group is the domain."""
    assert exchangers("a.test", DnsAnswer(DnsStatus.EMPTY)) == Exchangers("a.test", ((0, "a.test"),))


@pytest.mark.parametrize(
    ("status", "result", "then"),
    [
        (DnsStatus.MISSING, "error", Next.FAIL),
        (DnsStatus.BROKEN, "error", Next.FAIL),
        (DnsStatus.FAILED, "error", Next.RETRY),
        (DnsStatus.TIMEOUT, "timeout", Next.RETRY),
    ],
)
def test_what_may_be_different_later_is_retried(status: DnsStatus, result: str, then: Next):
    """NXDOMAIN and circles of aliases are permanent; SERVFAIL and time-outs are not."""
    outcome = exchangers("a.test", DnsAnswer(status))
    assert isinstance(outcome, Outcome)
    assert (outcome.state, outcome.result, outcome.next) == ("dns", result, then)


def test_hosts_come_in_the_order_of_their_preference():
    """RFC 5321 5.1: the lowest number first."""
    answers = {"mx1.test": found("192.0.2.1"), "mx2.test": found("192.0.2.2")}
    assert addresses(routed([(20, "mx2.test"), (10, "mx1.test")], answers)) == ["192.0.2.1", "192.0.2.2"]


def test_hosts_of_equal_preference_are_shuffled():
    """RFC 5321 5.1: to spread the load over them."""
    answers = {f"mx{n}.test": found(f"192.0.2.{n}") for n in (1, 2, 3)}
    draws = iter([0.9, 0.1, 0.5])
    hosts = [(10, "mx1.test"), (10, "mx2.test"), (10, "mx3.test")]
    assert addresses(routed(hosts, answers, chance=lambda: next(draws))) == ["192.0.2.2", "192.0.2.3", "192.0.2.1"]


def test_the_addresses_of_a_host_come_in_turn_of_families():
    """IPv4 first, both kept: a dead family costs one try, not all."""
    answer = both_families(found("192.0.2.1", "192.0.2.2", "192.0.2.3"), found("2001:db8::1", "2001:db8::2"))
    assert answer.records == ("192.0.2.1", "2001:db8::1", "192.0.2.2", "2001:db8::2", "192.0.2.3")


def test_one_family_is_enough():
    """A host with AAAA alone has an address; one whose AAAA look-up fails still has its A."""
    assert both_families(DnsAnswer(DnsStatus.EMPTY), found("2001:db8::1")).records == ("2001:db8::1",)
    assert both_families(found("192.0.2.1"), DnsAnswer(DnsStatus.TIMEOUT)).status is DnsStatus.FOUND


def test_without_addresses_the_transient_reason_counts():
    """No A and a time-out for AAAA: asking again may find one."""
    assert both_families(DnsAnswer(DnsStatus.EMPTY), DnsAnswer(DnsStatus.TIMEOUT)).status is DnsStatus.TIMEOUT


def test_a_host_without_addresses_is_passed_over():
    """One dead name among the MX does not hold up the mail."""
    answers = {"gone.test": DnsAnswer(DnsStatus.MISSING), "mx.test": found("192.0.2.1")}
    assert addresses(routed([(10, "gone.test"), (20, "mx.test")], answers)) == ["192.0.2.1"]


def test_no_host_with_an_address_is_permanent():
    """RFC 5321 5.1: MX records of which none is usable are an error."""
    outcome = routed([(10, "gone.test")], {"gone.test": DnsAnswer(DnsStatus.MISSING)})
    assert isinstance(outcome, Outcome)
    assert (outcome.next, outcome.description) == (Next.FAIL, "no mail server of a.test has an address: gone.test")


def test_no_host_with_an_address_yet_is_retried():
    """One of them could not be looked up now."""
    outcome = routed(
        [(10, "gone.test"), (20, "slow.test")],
        {"gone.test": DnsAnswer(DnsStatus.MISSING), "slow.test": DnsAnswer(DnsStatus.TIMEOUT)},
    )
    assert isinstance(outcome, Outcome)
    assert (outcome.result, outcome.next) == ("timeout", Next.RETRY)


def test_only_the_hosts_better_than_ourselves_are_tried():
    """RFC 5321 5.1: ourselves, and all of the same or a worse preference, are left out."""
    answers = {f"mx{n}.test": found(f"192.0.2.{n}") for n in (1, 2, 3, 4)}
    hosts = [(10, "mx1.test"), (20, "mx2.test"), (20, "mx3.test"), (30, "mx4.test")]
    assert addresses(routed(hosts, answers, ours=lambda ip, port: (ip, port) == ("192.0.2.3", 25))) == ["192.0.2.1"]


def test_mail_for_ourselves_alone_loops():
    """RFC 5321 5.1: `mail loops back to myself`, permanent."""
    outcome = routed([(10, "mx.test")], {"mx.test": found("192.0.2.1")}, ours=lambda ip, port: True)
    assert isinstance(outcome, Outcome)
    assert (outcome.state, outcome.result, outcome.next) == ("dns", "error", Next.FAIL)
    assert "loops back to myself" in outcome.description


def test_our_address_on_another_port_is_not_ourselves():
    """Another server of this machine may take mail."""
    answers = {"mx.test": found("192.0.2.1")}
    assert addresses(routed([(10, "mx.test")], answers, ours=lambda ip, port: port == 2525)) == ["192.0.2.1"]


def test_a_route_ends_with_its_first_answer():
    """The shortest TTL of the addresses counts."""
    answers = {"mx1.test": found("192.0.2.1", expires=50), "mx2.test": found("192.0.2.2", expires=70)}
    where = routed([(10, "mx1.test"), (20, "mx2.test")], answers)
    assert isinstance(where, Route)
    assert where.expires == 50


def test_a_domain_with_a_thousand_hosts_keeps_them_all():
    """The best first, equal ones in another order each time; how many are looked up at once is the resolver's."""
    hosts = [(n // 10, f"mx{n}.test") for n in range(1000)]
    first, again = exchangers("a.test", found(*hosts)), exchangers("a.test", found(*hosts))
    assert isinstance(first, Exchangers) and isinstance(again, Exchangers)
    assert sorted(first.hosts) == sorted(hosts) and [n for n, _ in first.hosts] == [n for n, _ in hosts]
    assert first.group == again.group and first.hosts != again.hosts


def test_a_group_is_named_for_its_one_host():
    """And for more by the shortest name, how many more, and a digest of all."""
    assert group_name({"mx.test"}) == "mx.test"
    assert group_name({"mx.test", "alt1.mx.test", "alt2.mx.test"}) == "mx.test+2~ed6d"


@given(st.sets(st.from_regex(r"[a-z]{1,5}\.test", fullmatch=True), min_size=2), st.randoms())
def test_the_same_hosts_are_the_same_group(hosts, chance):
    """Whatever their order and preferences; one host more is another group."""
    records = [(chance.randrange(50), host) for host in hosts]
    chance.shuffle(records)
    where = exchangers("a.test", found(*records))
    assert isinstance(where, Exchangers)
    assert where.group == group_name(hosts)
    assert where.group != group_name({*hosts, "another.example"})


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("[192.0.2.1]", "192.0.2.1"),
        ("[ipv6:2001:DB8::1]", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[999.0.0.1]", None),
        ("192.0.2.1", None),
        ("[]", None),
    ],
)
def test_an_address_literal_is_an_address_in_brackets(domain: str, expected: str | None):
    """RFC 5321 4.1.3."""
    assert address_literal(domain) == expected


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("Example.TEST.", "example.test"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),
        ("_dmarc.a.test", "_dmarc.a.test"),
        ("a..test", None),
        ("-a.test", None),
        ("a b.test", None),
        ("a\r\nb.test", None),
        ("a.test\n", None),
        ("x" * 64 + ".test", None),
        ("x." * 127 + "test", None),
        ("", None),
    ],
)
def test_a_name_is_what_dns_can_hold(domain: str, expected: str | None):
    """Labels of 1 to 63, 253 in all (RFC 1035 2.3.4), IDN as A-labels of IDNA 2008 (RFC 5891)."""
    assert ascii_name(domain) == expected


def test_fixed_addresses_that_are_our_own_loop():
    """Also an override or a literal does not make the machine send to itself."""
    outcome = fixed("a.test", "a.test", ["192.0.2.1"], 25, lambda ip, port: True)
    assert isinstance(outcome, Outcome)
    assert outcome.next is Next.FAIL
