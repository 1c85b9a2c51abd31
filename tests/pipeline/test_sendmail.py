"""`mailrace send` as sendmail: what its options mean, and what becomes of the message."""

from __future__ import annotations

import email
import email.policy
import io
import shlex
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.mail.message import Message, decode
from pipeline.smtp.server.refusal import Refusal
from pipeline.spool.sendmail import Origin, SendRequest, UnusableSubmission, compose, parse, read_message
from tests.support import strict

ORIGIN = Origin("wanda", "host.example.org", 1_700_000_000.0)


def composed(source: str, command: str) -> list[Message]:
    request = parse(shlex.split(command))
    text = read_message(io.BytesIO(source.encode()), request.ignore_dot, 1_000_000)
    return [decode(body) for body in compose(text, request, ORIGIN, "id", x_mq=True)]


def header(message: Message) -> Any:
    return email.message_from_bytes(message.source(), policy=email.policy.default)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("-t -i", {"extract": True, "ignore_dot": True}),
        ("-ti", {"extract": True, "ignore_dot": True}),
        ("-i -FCronDaemon -oem root", {"ignore_dot": True, "name": "CronDaemon", "recipients": ["root"]}),
        ("-oi -f a@x.org -- -b@x.org", {"ignore_dot": True, "envelope": "a@x.org", "recipients": ["-b@x.org"]}),
        ("-t -f '<>'", {"extract": True, "envelope": ""}),
        ("-bm -r a@x.org b@x.org", {"envelope": "a@x.org", "recipients": ["b@x.org"]}),
        ("b@x.org --envelope=a@x.org", {"envelope": "a@x.org", "recipients": ["b@x.org"]}),
        ("b@x.org --ignore-dot", {"ignore_dot": True, "recipients": ["b@x.org"]}),
        ("--extract-recipients -odb -oeq -v -O DeliveryMode=b -B 8BITMIME -h 3 -L tag", {"extract": True}),
        ("-t -N failure,delay -R hdrs", {"extract": True, "dsn": {"notify": "FAILURE,DELAY", "ret": "HDRS"}}),
        ("-t -V q1", {"extract": True, "dsn": {"envid": "q1"}}),
    ],
)
def test_sendmails_common_options_are_understood(command: str, expected: dict[str, Any]) -> None:
    """As PHP, cron, git, mutt and mailx call it."""
    arguments = shlex.split(command)
    assert parse(arguments) == SendRequest(arguments=arguments, **{"recipients": [], **expected})


@pytest.mark.parametrize(
    ("command", "envelope", "recipients"),
    [
        ("-f w@x.org 'Bob <b@x.org>' c@x.org", "w@x.org", ["b@x.org", "c@x.org"]),
        ("-f 'W, X <w@x.org>' b@x.org,c@x.org", "W, X <w@x.org", None),
        ("-f 'W <w@x.org>' 'b@x.org, \"C, D\" <c@x.org>'", "w@x.org", ["b@x.org", "c@x.org"]),
        ("-f '<w@x.org>' '\"a,b\"@x.org' '<c@x.org>'", "w@x.org", ['"a,b"@x.org', "c@x.org"]),
        ("-f '<>' b@x.org,b@x.org", "", ["b@x.org"]),
        ("-f '' 'g: b@x.org, c@x.org;'", "", ["b@x.org", "c@x.org"]),
        ("-f w@x.org 'b@x.org\r\nDATA,c@x.org'", "w@x.org", None),
        ("-f w@x.org 'Bob <b@@x.org>,c@x.org'", "w@x.org", None),
    ],
)
def test_an_argument_may_have_names_and_be_a_list(command: str, envelope: str, recipients: list[str] | None) -> None:
    """K6: as with sendmail and Postfix; one that is none refuses all."""
    if recipients is None:
        with pytest.raises(UnusableSubmission, match="no address"):
            composed("Subject: s\n\nb\n", command)
        return
    messages = composed("Subject: s\n\nb\n", command)
    assert [message.recipient for message in messages] == recipients
    assert {message.envelope for message in messages} == {envelope}


def test_recipients_come_from_the_header_and_bcc_goes() -> None:
    """To, Cc and Bcc, folded or not, each once; nobody sees the Bcc."""
    fields = 'To: a@x.org, "B, b" <b@x.org>\nCC:\n c@x.org,a@x.org\nBcc: d@x.org,\n\te@x.org\nSubject: Bcc: kept'
    messages = composed(f"{fields}\n\nBcc: body\n", "-t f@x.org")
    assert [message.recipient for message in messages] == ["f@x.org", *(f"{name}@x.org" for name in "abcde")]
    assert all(header(message)["bcc"] is None for message in messages)
    assert header(messages[0])["subject"] == "Bcc: kept"
    assert messages[0].source().endswith(b"\r\n\r\nBcc: body\r\n")


def test_each_recipient_has_a_message_id_of_its_own() -> None:
    """Ours, unlike the Message-ID field, which all share."""
    messages = composed("Subject: s\n\n", "a@x.org b@x.org")
    assert [message.message_id for message in messages] == ["id.1", "id.2"]
    assert len({header(message)["message-id"] for message in messages}) == 1


def test_a_resent_message_goes_to_its_resent_recipients_only() -> None:
    """RFC 5322 3.6.6: the other fields tell of the first time."""
    messages = composed("Resent-To: new@x.org\nTo: old@x.org\n\n", "-t")
    assert [message.recipient for message in messages] == ["new@x.org"]


def test_an_empty_group_names_nobody() -> None:
    """`undisclosed-recipients:;` is what mail to hidden recipients has in To."""
    messages = composed("To: undisclosed-recipients:;\nBcc: a@x.org\n\n", "-t")
    assert [message.recipient for message in messages] == ["a@x.org"]


def test_missing_fields_are_added_and_others_kept() -> None:
    """RFC 6409 8: From, Date and Message-ID; what is there stays as it is."""
    added = header(composed("Subject: s\n\nbody\n", "-F 'Wanda W' -f w@x.org a@x.org")[0])
    assert added["from"] == "Wanda W <w@x.org>"
    assert added["date"].datetime.timestamp() == ORIGIN.now
    assert added["message-id"].endswith("@host.example.org>")
    whole = "From: x@y.z\r\nDATE: Tue, 1 Jul 2003 10:52:37 +0200\r\nMessage-Id: <1@y.z>\r\n\r\nbody\r\n"
    assert composed(whole, "a@x.org")[0].source() == whole.encode()


def test_a_name_cannot_add_a_field() -> None:
    """Line ends in -F are spaces."""
    assert "x-evil" not in header(composed("\nbody", "-F 'a\r\nX-Evil: 1' a@x.org")[0])


@pytest.mark.parametrize("source", ["no header here\n", "no header here", "\nno header here\n"])
def test_text_without_a_header_is_all_body(source: str) -> None:
    """As in `echo text | sendmail`."""
    message = composed(source, "a@x.org")[0]
    assert header(message).get_content().strip() == "no header here"
    assert header(message)["from"] == "wanda@host.example.org"


def test_a_mailbox_line_before_the_header_goes() -> None:
    """`From sender date` is a mailbox's, not the message's."""
    assert header(composed("From w Mon Jan  1\nSubject: s\n\n", "a@x.org")[0])["subject"] == "s"


@pytest.mark.parametrize(
    ("fields", "envelope"),
    [
        ("X-MQ-Envelope: x@x.org\nReturn-Path: <r@x.org>\nFrom: f@x.org", "x@x.org"),
        ("Return-Path: <r@x.org>\nSender: s@x.org\nFrom: f@x.org", "r@x.org"),
        ("Sender: s@x.org\nFrom: f@x.org", "s@x.org"),
        ("From: F <f@x.org>, g@x.org", "f@x.org"),
        ("Subject: s", "wanda@host.example.org"),
    ],
)
def test_the_envelope_is_found_in_the_message(fields: str, envelope: str) -> None:
    """Unless -f names it: x-mq-envelope, Return-Path, Sender, From, else the user."""
    assert composed(f"{fields}\n\n", "a@x.org")[0].envelope == envelope
    assert composed(f"{fields}\n\n", "-f e@x.org a@x.org")[0].envelope == "e@x.org"
    assert composed(f"{fields}\n\n", "-f '' a@x.org")[0].envelope == ""


def test_a_bare_user_name_is_one_of_this_machine() -> None:
    """cron sends to `root`."""
    assert composed("\n", "root")[0].recipient == "root@host.example.org"


def test_control_fields_become_properties() -> None:
    """As at the SMTP server."""
    message = composed("X-MQ-Tag: one\nSubject: s\n\n", "a@x.org")[0]
    assert message.tags == ["one"]
    assert "x-mq-tag" not in header(message)


def test_the_message_says_who_sent_it() -> None:
    """`cli`: command, arguments and user."""
    properties = composed("\n", "-i a@x.org")[0].properties
    assert properties["cli"] == {"command": "send", "arguments": ["-i", "a@x.org"], "user": "wanda"}
    assert (properties["hostname"], properties["received"]) == ("host.example.org", "2023-11-14 22:13:20")


def test_a_dot_on_its_own_line_ends_the_message() -> None:
    """Unless --ignore-dot says that it is text; a dot that ends a long line is none."""
    long = b"x" * 65536 + b".\n.\nrest\n"
    assert read_message(io.BytesIO(b"a\n.\nb\n"), False, 99) == b"a\r\n"
    assert read_message(io.BytesIO(b"a\n.\nb\n"), True, 99) == b"a\r\n.\r\nb\r\n"
    assert read_message(io.BytesIO(long), False, 99999) == b"x" * 65536 + b".\r\n"


@given(st.binary().filter(lambda body: b"\0" not in body))
def test_any_body_is_kept_but_for_its_line_ends(body: bytes) -> None:
    """Octet for octet, whatever its encoding."""
    source = read_message(io.BytesIO(b"Subject: s\n\n" + body), True, 10_000)
    kept = decode(compose(source, SendRequest(recipients=["a@x.org"]), ORIGIN, "id", x_mq=True)[0]).source()
    wanted = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    wanted += b"" if wanted.endswith(b"\n") or not wanted else b"\n"
    assert kept.partition(b"\r\n\r\n")[2] == wanted.replace(b"\n", b"\r\n")


@given(st.binary(max_size=200))
def test_any_message_is_queued_whole_or_refused_with_a_line(source: bytes) -> None:
    """Never a traceback, and what is queued is a message."""
    request = SendRequest(extract=True, recipients=["a@x.org"])
    try:
        bodies = compose(read_message(io.BytesIO(source), True, 1000), request, ORIGIN, "id", x_mq=True)
    except (UnusableSubmission, Refusal):
        return
    assert all(msgspec.json.decode(body)["recipient"] for body in bodies)


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("To: a@x.org, b@@x\n\n", "no list of addresses|no address"),
        ("Subject: a\0b\n\n", "NUL"),
        ("To: someone\n\n" + "x" * 1_000_001, "larger than smtp-maxsize"),
        ("Received: x\n" * 101 + "To: a@x.org\n\n", "circle"),
        ("X-MQ-Maxattempts: many\nTo: a@x.org\n\n", "x-mq-maxattempts: allowed is"),
    ],
)
def test_what_cannot_be_sent_is_refused_whole(source: str, line: str) -> None:
    """One bad recipient refuses all: nothing is half sent."""
    with pytest.raises((UnusableSubmission, Refusal), match=line):
        composed(source, "-t")


# -- K1 and K6: what others' parsers stumble over --------------------------------------------------------------------


def test_a_full_name_beyond_ascii_is_encoded_and_the_address_is_not() -> None:
    """K1: -F with an umlaut, a comma, a quote."""
    source = composed("Subject: s\n\nbody\n", "-F 'Müller, \"J\"' -f w@x.org a@x.org")[0].source()
    fields = dict(strict.fields(source.partition(b"\r\n\r\n")[0] + b"\r\n"))
    assert strict.addresses(fields["From"]) == [('Müller, "J"', "w@x.org")]


@pytest.mark.parametrize(
    ("to", "recipients"),
    [
        ("( " * 3000 + ") " * 3000 + " a@x.org", ["a@x.org"]),
        ("A (b (c@x.org) d) <a@x.org>", ["a@x.org"]),
        ('"B, b@x.org" <a@x.org>', ["a@x.org"]),
        ("Team: a@x.org, B <b@x.org>;", ["a@x.org", "b@x.org"]),
        ("root, a@x.org", ["root@host.example.org", "a@x.org"]),
        ("=?utf-8?q?=0ABcc=3A_v@x.org?= <a@x.org>", ["a@x.org"]),
        ("<@x.org,@y.org:a@x.org>", ["a@x.org"]),
        ("a@x.org; b@x.org", ["a@x.org", "b@x.org"]),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_recipients_are_read_by_the_grammar(to: str, recipients: list[str]) -> None:
    """K6: comments in comments, quotes, groups, routes; never a traceback."""
    assert [message.recipient for message in composed(f"To: {to}\n\nx\n", "-t")] == recipients


@pytest.mark.parametrize(
    ("source", "body"),
    [
        ("Subject: s\nno field here\nTo: b@x.org\n\nx\n", b"no field here\r\nTo: b@x.org\r\n\r\nx\r\n"),
        ("Subject: s\nbody", b"body\r\n"),
        ("Subject : s\nTo : a@x.org\n\nx\n", b"x\r\n"),
        ("From here on it is text\n", b"From here on it is text\r\n"),
        (" not a field\nSubject: s\n", b" not a field\r\nSubject: s\r\n"),
    ],
)
def test_the_body_begins_where_the_header_ends(source: str, body: bytes) -> None:
    """K6: as at the SMTP server and for the queue; text that begins with `From ` is not lost."""
    assert composed(source, "a@x.org")[0].source().partition(b"\r\n\r\n")[2] == body


def test_a_bare_cr_in_the_header_is_no_new_field() -> None:
    """K6: it is a space, as in Postfix."""
    assert header(composed("Subject: a\rBcc: v@x.org\n\nx\n", "a@x.org")[0])["subject"] == "a Bcc: v@x.org"


@pytest.mark.parametrize(
    ("field", "whole"),
    [
        ("From: root", "root@mail.example"),
        ("From: root (Cron Daemon)", "Cron Daemon <root@mail.example>"),
        ("From: Cron Daemon <root>", "Cron Daemon <root@mail.example>"),
        ('From: "A, B" <www-data>', '"A, B" <www-data@mail.example>'),
        ("From: joe, jane@x.org", "joe@mail.example, jane@x.org"),
        ("From: jane@x.org (Jane)", "jane@x.org (Jane)"),
        ("From: Joe Doe", "Joe Doe"),
    ],
)
def test_users_of_this_machine_are_whole_addresses_in_the_header(field: str, whole: str) -> None:
    """RFC 6409 8.3: completed with `mail-domain`, in the envelope too; what cannot be read stays as it is."""
    request = SendRequest(recipients=["bob"], envelope="root")
    origin = Origin("root", "host.example.org", 1_700_000_000.0, "mail.example")
    (body,) = compose(f"{field}\r\n\r\nx\r\n".encode(), request, origin, "id", x_mq=True)
    message = decode(body)
    assert message.source().decode().partition("\r\n")[0] == f"From: {whole}"
    assert (message.envelope, message.recipient) == ("root@mail.example", "bob@mail.example")


def test_a_dot_that_was_doubled_is_one() -> None:
    """As documented of MailerQ: unless the end of the file ends the message."""
    assert read_message(io.BytesIO(b"a\n..\n..b\n.\nc\n"), False, 100) == b"a\r\n.\r\n.b\r\n"
    assert read_message(io.BytesIO(b"a\n..\n.\n"), True, 100) == b"a\r\n..\r\n.\r\n"
