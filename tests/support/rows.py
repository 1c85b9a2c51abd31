"""The rows of the tables of messages on the queues, as messages that an application publishes and what comes of each.

One `Row` is one row, or one case of it: what the message has, which queues get a copy, what the last entry of `results`
has, what the receiver is told. All rows go out in one run, see `tests/system/test_foreign_client.py`.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

ACCEPTED = ("results", "success")
GIVEN_UP = ("results", "failure")
WAITS = ("waiting",)  # in the outbox, or in a delay on the way there
RETRIED = ("retry", *WAITS)

PLAIN_PORT, SECURE_PORT = "PLAIN_PORT", "SECURE_PORT"  # stand for the ports of the receivers
TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
SOME = re.compile(r".+", re.DOTALL)
PAST, FUTURE = "2020-01-01 00:00:00", "2099-01-01 00:00:00"
MIME = "From: me@sender.example\r\nTo: you@there.example\r\nSubject: Row\r\nX-Old: 1\r\n\r\nHello\r\n"
KEY = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
DKIM = {"domain": "sender.example", "selector": "s1", "key": KEY}
EARLIER = {"state": "connect", "result": "timeout", "time": PAST}


class Row(NamedTuple):
    """A row of a table, or a case of it.

    Attributes:
        name: the table's row, and the case.
        message: its properties, over the usual ones; None takes one away.
        queues: who gets a copy, each one.
        answer: what the receiver says to its recipient: accept, refuse, defer, once (defers once), hang up, babble.
        entry: of the last entry in `results`: what its properties are, or look like.
        lacks: properties that this entry has not.
        copy: likewise of the copy in the first one of `queues`.
        mail, rcpt, data: what the receiver is told.
        peer: the IP that it comes from.
    """

    name: str
    message: Mapping[str, Any] = {}
    queues: Sequence[str] = ACCEPTED
    answer: str = "accept"
    entry: Mapping[str, Any] = {}
    lacks: Sequence[str] = ()
    copy: Mapping[str, Any] = {}
    mail: str = ""
    rcpt: str = ""
    data: str = ""
    peer: str = ""


def smarthost(port: str, **more: Any) -> dict[str, Any]:
    """Deliver to one of the receivers by its port."""
    return {"smarthost": {"hostname": "127.0.0.1", "port": port, **more}}


class Absent:
    """A property that is not there."""


UNUSABLE = {"state": "process", "result": "invalid", "time": TIME, "description": SOME}
UNBOUND = {"state": "bind", "result": "error", "description": SOME}
NO_CONNECTION = ("mta", "from", "to", "messages", "sent", "code", "status", "dsn", "cipher", "certificate")

OUTGOING = [
    Row("recipient", rcpt=r"RCPT TO:<{recipient}>"),
    Row("recipient: missing", {"recipient": None}, GIVEN_UP, entry=UNUSABLE, lacks=NO_CONNECTION),
    Row("recipient: no address", {"recipient": "you"}, GIVEN_UP, entry=UNUSABLE, lacks=NO_CONNECTION),
    Row("envelope", {"envelope": "bounces@sender.example"}, mail=r"MAIL FROM:<bounces@sender\.example>"),
    Row("envelope: absent is the null sender", {"envelope": None}, mail=r"MAIL FROM:<>"),
    Row("envelope: empty is the null sender", {"envelope": ""}, mail=r"MAIL FROM:<>"),
    Row("mime: string", {"mime": "Subject: Grüße\n\n.dots\nä"}, data="Subject: Grüße\r\n\r\n.dots\r\nä\r\n"),
    Row(
        "mime: object",
        {"mime": {
            "from": "Me <me@sender.example>", "to": ["a@b.example", "c@d.example"], "cc": "e@f.example",
            "subject": "Grüße", "text": "plain text", "html": "<b>markup</b>", "headers": {"X-Own": "mine"},
            "attachments": [{"name": "a.bin", "type": "application/x-own", "content": "AAEC"}],
        }},
        data=r"(?=.*^From: Me <me@sender.example>\r$)(?=.*^To: a@b.example, c@d.example\r$)(?=.*^Cc: e@f.example\r$)"
        r"(?=.*^Subject: =\?utf-8\?)(?=.*^X-Own: mine\r$)(?=.*plain text)(?=.*<b>markup</b>)"
        r"(?=.*^Content-Type: application/x-own)(?=.*filename=\"a.bin\")(?=.*^AAEC\r$)",
    ),
    Row("keepmime: true", {"keepmime": True}, copy={"mime": MIME}),
    Row("keepmime: default", copy={"mime": Absent}),
    Row("data", {"data": {"name": "x"}, "mime": "Subject: {$name}\r\n\r\ny\r\n"}, copy={"data": {"name": "x"}},
        data=r"(?=.*^Subject: x\r$)"),
    Row("data: no template", {"data": {"name": "x"}, "mime": "Subject: x\r\n\r\n{if $x}\r\n"}, GIVEN_UP,
        entry={"state": "personalize", "result": "error"}, lacks=NO_CONNECTION),
    Row("key", {"key": "k", "mime": None}, GIVEN_UP, entry={"state": "storage", "result": "error"},
        lacks=NO_CONNECTION),
    Row("ips", {"ips": ["192.0.2.1", "127.0.0.2"]}, entry={"from": "127.0.0.2"}, peer="127.0.0.2"),
    Row("ips: default", peer="127.0.0.1"),
    Row("ips: empty", {"ips": []}, GIVEN_UP, entry=UNBOUND, lacks=NO_CONNECTION),
    Row("ips: none of them ours", {"ips": ["192.0.2.1"]}, GIVEN_UP, entry=UNBOUND, lacks=NO_CONNECTION),
    Row("pool: ignored where ips is given", {"pool": "p", "ips": ["127.0.0.3"]}, peer="127.0.0.3"),
    Row("nextattempt: not before", {"nextattempt": {"time": FUTURE}, "maxdelivertime": FUTURE}, WAITS,
        copy={"results": Absent}),
    Row("nextattempt: past", {"nextattempt": {"time": PAST}}),
    Row("maxdelivertime", {"maxdelivertime": PAST}, GIVEN_UP, entry={"state": "process", "result": "timeout"},
        lacks=NO_CONNECTION),
    Row("maxdelivertime: default", {}, ("waiting", "retry"), "defer", copy={"maxdelivertime": TIME}),
    Row("maxattempts", {"maxattempts": 1}, GIVEN_UP, "defer", entry={"code": 451}),
    Row("maxattempts: with attempts behind it", {"maxattempts": 2, "results": [EARLIER]}, GIVEN_UP, "defer"),
    Row("retries", {"retries": [1, 1], "maxattempts": 3}, ("results", "failure", "retry", "retry"), "defer"),
    Row("retries: default", {}, ("waiting", "retry"), "defer", copy={"nextattempt": {"time": TIME}}),
    Row("dkim: object", {"dkim": DKIM}, data=r"DKIM-Signature: .*d=sender\.example; s=s1;"),
    Row("dkim: list", {"dkim": [DKIM, {**DKIM, "selector": "s2", "canonicalization": "simple/simple"}]},
        data=r"(?=.*s=s1;)(?=.*s=s2;)(?=.*c=simple/simple)"),
    Row("dkim: expire", {"dkim": {**DKIM, "expire": PAST}}, data=r"(?!.*DKIM-Signature)"),
    Row("dkim: headers", {"dkim": {**DKIM, "headers": ["X-Old"]}}, data=r"DKIM-Signature: .*h=[^;]*x-old"),
    Row("dkim: protocols", {"dkim": {**DKIM, "protocols": ["arc"]}}, data=r"(?!.*DKIM-Signature)"),
    Row("dkim: default", data=r"(?!.*DKIM-Signature)"),
    Row("dsn", {"dsn": {"notify": "FAILURE", "ret": "HDRS", "orcpt": "rfc822;o@there.example", "envid": "E1"}},
        mail=r".* RET=HDRS ENVID=E1", rcpt=r".* NOTIFY=FAILURE ORCPT=rfc822;o@there\.example"),
    Row("dsn: default", mail=r"(?!.*(RET|ENVID))", rcpt=r"(?!.*(NOTIFY|ORCPT))"),
    Row("queues: results", {"queues": {"results": "own.results"}}, ("own.results", "success")),
    Row("queues: results null", {"queues": {"results": None}}, ("success",)),
    Row("queues: success", {"queues": {"success": "own.success"}}, ("results", "own.success")),
    Row("queues: success null", {"queues": {"success": None}}, ("results",)),
    Row("queues: failure", {"queues": {"failure": "own.failure"}}, ("results", "own.failure"), "refuse"),
    Row("queues: failure null", {"queues": {"failure": None}}, ("results",), "refuse"),
    Row("queues: retry", {"queues": {"retry": "own.retry"}}, ("own.retry", *WAITS), "defer"),
    Row("queues: retry null", {"queues": {"retry": None}}, WAITS, "defer"),
    Row("queues: dsn", {"dsn": {"notify": "FAILURE"}, "queues": {"dsn": "own.dsn"}}, (*GIVEN_UP, "own.dsn"), "refuse"),
    Row("queues: dsn null", {"dsn": {"notify": "FAILURE"}, "queues": {"dsn": None}}, GIVEN_UP, "refuse"),
    Row("queues: absent", {"queues": {}}),
    Row("smarthost", smarthost(SECURE_PORT), entry={"to": "127.0.0.1", "mta": "secure.example"}),
    Row("smarthost: username, password", smarthost(SECURE_PORT, username="joe", password="secret"),
        entry={"mta": "secure.example"}),
    Row("tags", {"tags": ["a", "b"]}, copy={"tags": ["a", "b"]}),
    Row(
        "headers",
        {"headers": {"remove": ["X-Old"], "prepend": {"X-First": "1"}, "append": {"X-Last": "2"},
                     "replace": {"Subject": "New"}, "update": {"To": "all@there.example", "X-None": "3"}}},
        data=r"X-First: 1\r\n(?!.*X-Old)(?!.*X-None)(?=.*^Subject: New\r$)(?=.*^To: all@there.example\r$)"
        r".*^X-Last: 2\r\n\r\nHello",
    ),
    Row("priority: kept where the queue has none", {"priority": 3}, copy={"priority": 3}),
    Row("security: optional", {"security": "optional"}, lacks=("cipher",)),
    Row("security: opportunistic", {"security": "opportunistic", **smarthost(SECURE_PORT)}, entry={"cipher": SOME}),
    Row("security: required", {"security": "required", "maxattempts": 1}, GIVEN_UP,
        entry={"state": "starttls", "result": "error"}),
    Row("security: verified", {"security": "verified", "maxattempts": 1, **smarthost(SECURE_PORT)}, GIVEN_UP,
        entry={"state": "starttls"}),
    Row("results: those before are kept", {"results": [EARLIER]}, copy={"results": [EARLIER, dict]}),
    Row("custom properties", {"own": {"ü": [1, None, 2.5, True, "x"]}, "x-mine": 0},
        copy={"own": {"ü": [1, None, 2.5, True, "x"]}, "x-mine": 0}),
]  # fmt: skip

RESULTS = [
    Row(
        "state, result, time, mta, from, to, messages, sent, code, status, description: accepted",
        entry={
            "state": "message", "result": "accepted", "time": TIME, "mta": "plain.example", "from": "127.0.0.1",
            "to": "127.0.0.1", "messages": int, "sent": {"connection": int, "data": int}, "code": 250,
            "status": "2.0.0", "description": "taken",
        },
    ),
    Row("dsn: offered", entry={"dsn": True}),
    Row("dsn: not offered", smarthost(SECURE_PORT), entry={"dsn": False}),
    Row("dsn: accepted ones only", {}, GIVEN_UP, "refuse", lacks=["dsn"]),
    Row("cipher", smarthost(SECURE_PORT), entry={"cipher": {
        "name": str, "bits": int, "algbits": int, "version": re.compile("TLS.*"), "id": int}}),
    Row(
        "certificate",
        smarthost(SECURE_PORT),
        entry={"certificate": {
            "subject": dict, "issuer": {"organization": SOME, "unit": SOME}, "notbefore": TIME, "notafter": TIME,
            "altnames": ["localhost"], "verified": False, "version": 3, "result": "not checked", "keyusage": int,
            "self-signed": False,
        }},
    ),
    Row("cipher, certificate: only where TLS was used", lacks=("cipher", "certificate")),
    Row("result: error", {}, GIVEN_UP, "refuse",
        entry={"state": "rcptto", "result": "error", "code": 550, "status": "5.1.1", "description": "no such user"}),
    Row("result: lost", {"maxattempts": 1}, GIVEN_UP, "hang up", entry={"state": "rcptto", "result": "lost"},
        lacks=["code"]),
    Row("result: invalid", {"maxattempts": 1}, GIVEN_UP, "babble", entry={"state": "rcptto", "result": "invalid"}),
    Row("state: connect", {"maxattempts": 1, **smarthost("1")}, GIVEN_UP, entry={"state": "connect"}, lacks=["mta"]),
    Row("outcome: accepted", {}, ACCEPTED),
    Row("outcome: given up", {}, GIVEN_UP, "refuse"),
    Row("outcome: given up, with a notification", {"dsn": {"notify": "FAILURE"}, "envelope": "noted@[127.0.0.1]"},
        GIVEN_UP, "refuse"),
    Row("outcome: to be retried", {}, RETRIED, "defer", copy={"mime": Absent}),
    Row("outcome: to be retried, keepmime", {"keepmime": True}, RETRIED, "defer", copy={"mime": Absent}),
    Row("outcome: retried, and accepted", {"retries": [1]}, ("results", "success", "retry"), "once",
        copy={"results": [dict, dict]}),
    Row(
        "extracted",
        {"envelope": "me@sender.example"},
        copy={"extracted": {
            "from": "me@sender.example", "to": ["you@there.example"], "subject": "Row",
            "headers": {"from": "me@sender.example", "to": "you@there.example", "subject": "Row", "x-old": "1"},
            "envelope": {"local": "me", "domain": "sender.example"},
            "recipient": {"local": str, "domain": "[127.0.0.1]"},
        }},
    ),
]  # fmt: skip

ROWS = OUTGOING + RESULTS


def is_like(value: Any, expected: Any) -> bool:
    """Whether a value is what is expected: a value, a type, a pattern, or an object or list of these."""
    if expected is Absent:
        return False
    if isinstance(expected, type):
        return isinstance(value, expected) and not (expected is int and isinstance(value, bool))
    if isinstance(expected, re.Pattern):
        return expected.fullmatch(str(value)) is not None
    if isinstance(expected, dict):
        return isinstance(value, dict) and value.keys() == expected.keys() and all(
            is_like(value[name], expected[name]) for name in expected
        )  # fmt: skip
    if isinstance(expected, list):
        return isinstance(value, list) and len(value) == len(expected) and all(map(is_like, value, expected))
    return bool(value == expected and type(value) is type(expected))


def seconds_from(begin: str, end: str) -> float:
    """Between two times as the queues write them."""
    first, last = (datetime.datetime.fromisoformat(text) for text in (begin, end))
    return (last - first).total_seconds()
