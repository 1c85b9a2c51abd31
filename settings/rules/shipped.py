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


class ShippedRule(NamedTuple):
    """A rule of the catalogue: for which provider, of which kind, its values, and where the guidance is."""

    provider: str
    kind: str
    values: Mapping[str, Any]
    source: str


CATALOGUE: tuple[ShippedRule, ...] = (
    ShippedRule(
        "gmail",
        "floods",
        {"name": "gmail rate", "domain": "gmail", "type": "regex", "pattern": r"4\.7\.28|unusual rate of",
         "count": 3, "period": 60, "pause": 300, "reduced": 3600, "reduce_to": 25},
        "https://support.google.com/a/answer/3726730",
    ),
    ShippedRule(
        "gmail",
        "throttles",
        {"domain": "gmail", "ip_connections": 20, "connection_messages": 100},
        "https://support.google.com/a/answer/81126",
    ),
    ShippedRule(
        "yahoo",
        "floods",
        {"name": "yahoo deferred", "domain": "yahoo", "type": "regex", "pattern": r"TSS0[1-8]|unexpected volume",
         "count": 2, "period": 60, "pause": 900, "reduced": 7200, "reduce_to": 25},
        "https://senders.yahooinc.com/smtp-error-codes/",
    ),
    ShippedRule(
        "yahoo",
        "throttles",
        {"domain": "yahoo", "ip_connections": 5, "connection_messages": 20},
        "https://senders.yahooinc.com/best-practices/",
    ),
    ShippedRule(
        "microsoft",
        "floods",
        {"name": "microsoft busy", "domain": "microsoft", "type": "regex", "pattern": r"4\.7\.(500|650)|RP-00[1-3]",
         "count": 3, "period": 60, "pause": 600, "reduced": 3600, "reduce_to": 25},
        "https://sendersupport.olc.protection.outlook.com/pm/troubleshooting.aspx",
    ),
    ShippedRule(
        "icloud",
        "floods",
        {"name": "icloud volume", "domain": "icloud", "pattern": "due to excessive volume",
         "pause": 900, "reduced": 3600, "reduce_to": 50},
        "https://support.apple.com/102322",
    ),
    ShippedRule(
        "gmx",
        "floods",
        {"name": "gmx limit", "domain": "gmx", "type": "regex", "pattern": r"^4.*(rate|too many|limit)",
         "pause": 600, "reduced": 3600, "reduce_to": 50},
        "https://postmaster.gmx.net/en/error-messages",
    ),
    ShippedRule(
        "orange",
        "throttles",
        {"domain": "orange", "domain_connections": 2, "connection_messages": 100},
        "https://postmaster.orange.fr",
    ),
    ShippedRule(
        "orange",
        "floods",
        {"name": "orange refused", "domain": "orange", "type": "regex", "pattern": r"OFR00[45]|OFR_(1|5|9)\d\d",
         "pause": 900, "reduced": 7200, "reduce_to": 50},
        "https://postmaster.orange.fr",
    ),
    ShippedRule(
        "comcast",
        "floods",
        {"name": "comcast limit", "domain": "comcast", "type": "regex", "pattern": r"RL00000[1-9]|too many sessions",
         "pause": 900, "reduced": 3600, "reduce_to": 50},
        "https://postmaster.comcast.net/smtp-error-codes.php",
    ),
    ShippedRule(
        "mail-ru",
        "floods",
        {"name": "mail.ru ratelimit", "domain": "mail-ru", "type": "regex", "pattern": r"ratelimit|try again later",
         "count": 3, "period": 60, "pause": 600, "reduced": 3600, "reduce_to": 50},
        "https://help.mail.ru/developers/mailing_rules/technical",
    ),
    ShippedRule(
        "qq",
        "floods",
        {"name": "qq frequency", "domain": "qq", "pattern": "frequency limited",
         "pause": 1800, "reduced": 7200, "reduce_to": 25},
        "https://service.mail.qq.com/detail/122",
    ),
)  # fmt: skip
