"""The table of the simulated internet: who receives mail there, and how they behave.

All names are reserved ones (RFC 2606). The answers are worded as those of the servers one meets.
"""

from __future__ import annotations

from typing import Literal

import msgspec

MTA_IPS = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")  # that the demo's mail leaves from


class ProviderAnswers(msgspec.Struct, frozen=True, kw_only=True):
    """How a server words its replies, as SMTP lines. `{ip}`, `{rcpt}`, `{domain}`, `{host}`, `{id}` are filled in."""

    banner: str = "220 {host} ESMTP Postfix"
    accepted: str = "250 2.0.0 Ok: queued as {id}"
    unknown: str = "550 5.1.1 <{rcpt}>: Recipient address rejected: User unknown in virtual mailbox table"
    greylisted: str = "450 4.2.0 <{rcpt}>: Recipient address rejected: Greylisted, please try again in {wait} seconds"
    flooded: str = "421 4.7.0 {host} Error: too many connections from your ip {ip}"
    full: str = "452 4.2.2 <{rcpt}>: Recipient address rejected: mailbox is over quota"
    blocked: str = "550 5.7.1 Service unavailable; client [{ip}] blocked using bl.reputation.example"
    troubled: str = "451 4.3.2 {host} System not accepting network messages, please try again later"
    spam: str = "554 5.7.1 Message rejected as spam by content scanner"


POSTFIX = ProviderAnswers()
BIGMAIL = ProviderAnswers(
    banner="220 {host} ESMTP {id} - bsmtp",
    accepted="250 2.0.0 OK  {id} - bsmtp",
    unknown=(
        "550-5.1.1 The email account that you tried to reach does not exist. Please try\r\n"
        "550-5.1.1 double-checking the recipient's email address for typos or\r\n"
        "550-5.1.1 unnecessary spaces. For more information, go to\r\n"
        "550 5.1.1  https://support.bigmail.example/mail/?p=NoSuchUser {id} - bsmtp"
    ),
    flooded=(
        "421-4.7.28 Our system has detected an unusual rate of mail originating from\r\n"
        "421-4.7.28 your IP address {ip}. To protect our users, mail sent from it has\r\n"
        "421 4.7.28 been temporarily rate limited: too many connections from your ip. {id} - bsmtp"
    ),
    full="452 4.2.2 The email account that you tried to reach is over quota. {id} - bsmtp",
    spam="550 5.7.26 This mail has been blocked because the sender is unauthenticated. {id} - bsmtp",
)
LOOKOUT = ProviderAnswers(
    banner="220 {host} Lookout ESMTP MAIL Service ready [{id}]",
    accepted="250 2.6.0 [InternalId={id}, Hostname={host}] Queued mail for delivery -> 250 2.1.5",
    unknown="550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302). [{host}]",
    flooded="421 4.7.650 The mail server [{ip}] has been temporarily rate limited: too many connections from your ip",
    full="452 4.2.2 Mailbox full; STOREDRV.Deliver.Exception:QuotaExceededException [{host}]",
    blocked="550 5.7.1 Unfortunately, messages from [{ip}] weren't sent. Contact your provider (S3140). [{host}]",
)
YIPPEE = ProviderAnswers(
    banner="220 {host} ESMTP ready",
    accepted="250 ok dirdel",
    unknown="554 delivery error: dd This user doesn't have a {domain} account ({rcpt}) [0] - {host}",
    flooded="421 4.7.0 [TSS04] Messages from {ip} temporarily deferred due to unexpected volume or user complaints",
    full="452 4.2.2 [RT01] Mailbox over quota - {host}",
)
EXIM = ProviderAnswers(
    banner="220 {host} ESMTP Exim 4.98",
    accepted="250 OK id={id}",
    unknown="550 Unrouteable address",
    greylisted="451 Temporary local problem, greylisted; please try again in {wait} seconds",
    full="452 mailbox for {rcpt} is full",
    spam="550 This message scored 7.3 spam points",
)


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """One operator of mail servers.

    Attributes:
        name: of the operator; its hosts are `mx1.<name>` and so on.
        domains: whose mail it takes; by default its own name.
        weight: its share of the traffic.
        hosts: how many MX hosts, all alike.
        answers: how it words its replies.
        latency: seconds from the final dot to the answer.
        tls: none, offered (self-signed), required, or broken: offered, and the handshake fails.
        unknown, full, spam: shares of recipients that do not exist, are over quota, of messages rejected after DATA.
        greylist: seconds for which a new (IP, sender, recipient) is put off.
        flood: messages a minute from one IP; more get 421 for `pause` seconds.
        connections: at once from one IP; more get 421 instead of a greeting.
        blocked: turns every sender away.
        spells: seconds for which its trouble comes, and as many for which it goes again: mail is put off in between.
        blocks: the MTA IP that it turns away in its spells, and no other.
        trouble: of the hosts: they refuse connections (`refuses`), so does the first of them (`halfdead`), they never
            say a word (`silent`), or close the connection after the final dot (`drops`).
        dns: how its domains are published.
    """

    name: str
    domains: tuple[str, ...] = ()
    weight: float = 1.0
    hosts: int = 1
    answers: ProviderAnswers = POSTFIX
    latency: float = 0.01
    tls: Literal["none", "offered", "required", "broken"] = "none"
    unknown: float = 0.0
    full: float = 0.0
    spam: float = 0.0
    greylist: float = 0.0
    flood: int = 0
    pause: float = 30.0
    connections: int = 0
    blocked: bool = False
    spells: float = 0.0
    blocks: str = ""
    trouble: Literal["", "refuses", "halfdead", "silent", "drops"] = ""
    dns: Literal["mx", "no-mx", "alias", "null-mx", "missing", "servfail"] = "mx"

    @property
    def receives(self) -> bool:
        """It has hosts that a sender can find."""
        return self.dns in ("mx", "no-mx", "alias")

    @property
    def taken(self) -> tuple[str, ...]:
        """The domains whose mail it takes."""
        return self.domains or (self.name,)


PROVIDERS = (
    Provider(
        name="bigmail.example", domains=("bigmail.example", "bigmail-uk.example"), weight=26, hosts=4, answers=BIGMAIL,
        latency=0.08, tls="offered", unknown=0.02, full=0.005,
    ),
    Provider(
        name="lookout.example", domains=("lookout.example", "warmmail.example", "livemail.example"), weight=16, hosts=2,
        answers=LOOKOUT, latency=0.3, tls="offered", unknown=0.03, full=0.01, flood=900,
    ),
    Provider(
        name="yippee.example", domains=("yippee.example", "rocketpost.example"), weight=10, hosts=3, answers=YIPPEE,
        latency=0.15, unknown=0.04, flood=400,
    ),
    Provider(
        name="shared-hosting.example", weight=8, hosts=2, answers=EXIM, latency=0.05, unknown=0.02, spam=0.01, domains=(
            "bakery.example", "florist.example", "plumber.example", "dentist.example", "garage.example",
            "bookshop.example", "shared-hosting.example",
        ),
    ),
    Provider(name="fast.example", weight=8, latency=0.0),
    Provider(name="slow.example", weight=2, latency=4.0),
    Provider(name="crawling.example", weight=1, latency=20.0, connections=3),
    Provider(name="greylist.example", weight=2, greylist=30.0),
    Provider(name="university.example", weight=2, greylist=60.0, answers=EXIM, tls="offered", unknown=0.05),
    Provider(name="flood.example", weight=4, flood=60),
    Provider(name="few-connections.example", weight=2, latency=0.5, connections=2),
    Provider(name="blocked.example", blocked=True, answers=LOOKOUT),
    Provider(name="unknown-users.example", unknown=0.5),
    Provider(name="full-mailboxes.example", full=0.5),
    Provider(name="spam-filter.example", spam=0.3, latency=0.4),
    Provider(name="refusing.example", trouble="refuses"),
    Provider(name="half-dead.example", hosts=2, trouble="halfdead"),
    Provider(name="silent.example", weight=0.3, trouble="silent"),
    Provider(name="hangs-up.example", weight=0.5, trouble="drops"),
    Provider(name="tls.example", weight=2, tls="offered"),
    Provider(name="tls-required.example", weight=2, tls="required"),
    Provider(name="tls-broken.example", tls="broken"),
    Provider(name="newspaper.example", weight=2, latency=0.05),
    Provider(name="city-hall.example", weight=1, latency=0.8, answers=LOOKOUT, spells=150),
    Provider(name="fussy.example", weight=6, latency=0.1, unknown=0.06, spells=120, blocks="127.0.0.1"),
    Provider(name="hospital.example", weight=1, tls="required", latency=0.2),
    Provider(name="bank.example", weight=2, tls="required", latency=0.1, unknown=0.01),
    Provider(name="no-mx.example", dns="no-mx"),
    Provider(name="alias.example", dns="alias"),
    Provider(name="null-mx.example", weight=0.3, dns="null-mx"),
    Provider(name="typo.example", weight=0.5, dns="missing"),
    Provider(name="broken-dns.example", weight=0.3, dns="servfail"),
)  # fmt: skip
