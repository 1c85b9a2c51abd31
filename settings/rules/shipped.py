"""What is shipped of the big providers: which MX hosts are theirs, and rules that their guidance asks for. Data.

A set of providers is in force as it is, and a provider of the operator's with the same name replaces it. The rules are
a catalogue: none is in force until the operator adopts it, and it is an ordinary rule then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

PROVIDERS: Mapping[str, tuple[str, ...]] = {
    # https://support.google.com/a/answer/174125: MX records of Google Workspace; gmail.com's own MX
    "gmail": ("*.google.com", "*.googlemail.com"),
    # https://senders.yahooinc.com: Yahoo and AOL; their domains' MX
    "yahoo": ("*.yahoodns.net",),
    # https://learn.microsoft.com/microsoft-365/enterprise/external-domain-name-system-records; outlook.com's MX
    "microsoft": ("*.protection.outlook.com", "*.olc.protection.outlook.com", "*.mx.microsoft"),
    # https://support.apple.com/102525: icloud.com's MX
    "icloud": ("*.mail.icloud.com",),
    # https://postmaster.gmx.net and https://postmaster.web.de: MX of gmx.net, gmx.com and web.de
    "gmx": ("*.gmx.net", "*.gmx.com", "*.web.de", "*.emig.gmx.net"),
    # https://postmaster.t-online.de: MX of t-online.de
    "t-online": ("*.t-online.de",),
    # https://postmaster.orange.fr: MX of orange.fr and wanadoo.fr
    "orange": ("*.orange.fr", "*.wanadoo.fr"),
    # https://postmaster.free.fr: MX of free.fr
    "free": ("*.free.fr",),
    # https://postmaster.comcast.net: MX of comcast.net
    "comcast": ("*.comcast.net",),
    # https://postmaster.mail.ru: MX of mail.ru, bk.ru, list.ru, inbox.ru
    "mail-ru": ("*.mail.ru",),
    # https://yandex.com/support/postmaster: MX of yandex.ru and Yandex 360
    "yandex": ("*.yandex.ru", "*.yandex.net"),
    # https://service.mail.qq.com: MX of qq.com and of Tencent's business mail
    "qq": ("*.qq.com",),
    # https://mail.163.com: MX of 163.com, 126.com and NetEase's business mail
    "netease": ("*.netease.com", "*.163.com", "*.126.com", "*.qiye.163.com"),
    # https://www.proofpoint.com: MX of domains behind Proofpoint
    "proofpoint": ("*.pphosted.com", "*.ppe-hosted.com"),
    # https://community.mimecast.com: MX of domains behind Mimecast
    "mimecast": ("*.mimecast.com", "*.mimecast-offshore.com"),
    # https://campus.barracuda.com: MX of domains behind Barracuda Email Security
    "barracuda": ("*.barracudanetworks.com",),
    # https://docs.broadcom.com: MX of domains behind Symantec Email Security
    "messagelabs": ("*.messagelabs.com",),
    # https://docs.ces.cisco.com: MX of domains behind Cisco Secure Email
    "cisco": ("*.iphmx.com",),
    # https://www.zoho.com/mail/help/adminconsole/mx-record-configuration.html
    "zoho": ("*.zoho.com", "*.zoho.eu", "*.zoho.in"),
    # https://proton.me/support/custom-domain: MX of Proton Mail
    "proton": ("*.protonmail.ch",),
    # https://www.fastmail.help: MX of domains at Fastmail
    "fastmail": ("*.messagingengine.com",),
}


# What public guidance says was looked up where a comment says so; pauses, periods and shares are ours everywhere: no
# provider publishes them. MX hosts are those that DNS has for the provider's own domains.


class ShippedRule(NamedTuple):
    """A rule of the catalogue: for which provider, of which kind, its values, and where the guidance is."""

    provider: str
    kind: str
    values: Mapping[str, Any]
    source: str


CATALOGUE: tuple[ShippedRule, ...] = (
    ShippedRule(  # the answers are in the list at its source; also in public logs
        "gmail",
        "floods",
        {"name": "gmail rate", "domain": "gmail", "type": "regex", "pattern": r"4\.7\.28|unusual rate of",
         "count": 3, "period": 60, "pause": 300, "reduced": 3600, "reduce_to": 25},
        "https://support.google.com/a/answer/3726730",
    ),
    ShippedRule(  # not confirmed: Gmail publishes no number of connections or messages
        "gmail",
        "throttles",
        {"domain": "gmail", "ip_connections": 20, "connection_messages": 100},
        "https://support.google.com/a/answer/81126",
    ),
    ShippedRule(  # the answers are in the list at its source; TSS04 is the most frequent one in public logs
        "yahoo",
        "floods",
        {"name": "yahoo deferred", "domain": "yahoo", "type": "regex", "pattern": r"TSS0[1-8]|unexpected volume",
         "count": 2, "period": 60, "pause": 900, "reduced": 7200, "reduce_to": 25},
        "https://senders.yahooinc.com/smtp-error-codes/",
    ),
    ShippedRule(  # 20 messages over a connection: as its source says. Not confirmed: 5 connections; none are published
        "yahoo",
        "throttles",
        {"domain": "yahoo", "ip_connections": 5, "connection_messages": 20},
        "https://help.yahoo.com/kb/SLN3433.html",
    ),
    ShippedRule(  # RP-001 to RP-003 and 4.7.650 are rate limits by reputation, as its source says
        "microsoft",
        "floods",
        {"name": "microsoft busy", "domain": "microsoft", "type": "regex", "pattern": r"4\.7\.(500|650)|RP-00[1-3]",
         "count": 3, "period": 60, "pause": 600, "reduced": 3600, "reduce_to": 25},
        "https://sendersupport.olc.protection.outlook.com/pm/troubleshooting.aspx",
    ),
    ShippedRule(  # not confirmed: its source asks to act on answers, and names none; no number is published
        "icloud",
        "floods",
        {"name": "icloud volume", "domain": "icloud", "pattern": "due to excessive volume",
         "pause": 900, "reduced": 3600, "reduce_to": 50},
        "https://support.apple.com/102322",
    ),
    ShippedRule(  # not confirmed: the answers are those of public logs
        "gmx",
        "floods",
        {"name": "gmx limit", "domain": "gmx", "type": "regex", "pattern": r"^4.*(rate|too many|limit)",
         "pause": 600, "reduced": 3600, "reduce_to": 50},
        "https://postmaster.gmx.net/en/error-messages",
    ),
    ShippedRule(  # 2 connections for an IP and 100 messages over one: as its source says
        "orange",
        "throttles",
        {"domain": "orange", "domain_connections": 2, "connection_messages": 100},
        "https://postmaster.orange.fr",
    ),
    ShippedRule(  # OFR004_104 is too many connections, OFR004_105 a refusal for now: as its source says
        "orange",
        "floods",
        {"name": "orange refused", "domain": "orange", "type": "regex", "pattern": r"OFR00[45]|OFR_(1|5|9)\d\d",
         "pause": 900, "reduced": 7200, "reduce_to": 50},
        "https://postmaster.orange.fr",
    ),
    ShippedRule(  # 25 connections at once for an IP: as its source says
        "comcast",
        "throttles",
        {"domain": "comcast", "domain_connections": 25},
        "https://postmaster.comcast.net/smtp-error-codes.php",
    ),
    ShippedRule(  # the codes are in the list at its source
        "comcast",
        "floods",
        {"name": "comcast limit", "domain": "comcast", "type": "regex", "pattern": r"RL00000[1-9]|too many sessions",
         "pause": 900, "reduced": 3600, "reduce_to": 50},
        "https://postmaster.comcast.net/smtp-error-codes.php",
    ),
    ShippedRule(  # not confirmed
        "mail-ru",
        "floods",
        {"name": "mail.ru ratelimit", "domain": "mail-ru", "type": "regex", "pattern": r"ratelimit|try again later",
         "count": 3, "period": 60, "pause": 600, "reduced": 3600, "reduce_to": 50},
        "https://help.mail.ru/developers/mailing_rules/technical",
    ),
    ShippedRule(  # 550, and yet it ends by itself after minutes, hours or a day, as its source says
        "qq",
        "responses",
        {"name": "qq frequency", "domain": "qq", "pattern": "frequency limited", "retry": 3600, "attempts": 24},
        "https://service.mail.qq.com/detail/122",
    ),
    ShippedRule(  # by sender, domain and IP, for a minute, an hour and a day; the numbers are not published
        "qq",
        "floods",
        {"name": "qq frequency", "domain": "qq", "pattern": "frequency limited",
         "pause": 1800, "reduced": 7200, "reduce_to": 25},
        "https://service.mail.qq.com/detail/122",
    ),
)  # fmt: skip
