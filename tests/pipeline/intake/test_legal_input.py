"""Legal input that others refuse, and odd input that is kept clean (K6)."""

from __future__ import annotations

import pytest

from pipeline.smtp.server.client import clean_name
from tests.pipeline.intake.harness import House

NAMES = [
    ("EHLO (none)", "?none?"),
    ("EHLO mein_rechner", "mein_rechner"),
    ("EHLO bücher.example", "xn--bcher-kva.example"),
    ("EHLO m\udcfcller".encode(errors="surrogateescape"), "m?ller"),
    ("EHLO [IPv6:fe80::1%en0]", "[IPv6:fe80::1?en0]"),
    ("EHLO [192.0.2.1]", "[192.0.2.1]"),
    ("HELO a b", "a?b"),
    ("HELO x;y", "x?y"),
    ("EHLO", "unknown"),
    ("EHLO ", "unknown"),
    ("ehlo\tclient.example", "client.example"),
    ("EHLO \x1b[31mred", "?[31mred"),
    ("EHLO " + "x" * 1000, "x" * 255),
    ("EHLO " + "ü" * 1000, "?" * 255),
    ("EHLO client.example.", "client.example."),
]


@pytest.mark.parametrize(("line", "name"), NAMES)
async def test_whatever_a_client_calls_itself_is_taken_and_kept_clean(
    house: House, line: str | bytes, name: str
) -> None:
    """K6: RFC 5321 4.1.4: no mail is refused for it; in Received stands nothing that breaks the field."""
    await house.open()
    caller = await house.call(greet=False)
    await caller.reply()
    assert (await caller.say(line)).startswith("250")
    assert (await caller.mail(b"Subject: x\r\n\r\nx\r\n.\r\n")).startswith("250")
    assert house.queued()[0]["mime"].startswith(f"Received: from {name} ([127.0.0.1])\r\n\tby ")


def test_a_clean_name_is_ascii_and_one_word() -> None:
    """K6: whatever was said."""
    for code in [*range(0x3000), 0xD800, 0xFFFD, 0x1F600]:
        name = clean_name(f"a{chr(code)}b")
        assert name.isascii()
        assert name.isprintable()
        assert " " not in name
        assert "(" not in name


TAKEN = [
    ("MAIL FROM:<abc..def@docomo.ne.jp>", "abc..def@docomo.ne.jp"),
    ("MAIL FROM:<abc.@docomo.ne.jp>", "abc.@docomo.ne.jp"),
    ("MAIL FROM:<.abc@docomo.ne.jp>", ".abc@docomo.ne.jp"),
    ('MAIL FROM:<"a b"@example.org>', '"a b"@example.org'),
    (r'MAIL FROM:<"a\"b>c"@example.org>', r'"a\"b>c"@example.org'),
    ("MAIL FROM: <a@example.org>", "a@example.org"),
    ("MAIL FROM:   <a@example.org>", "a@example.org"),
    ("MAIL FROM:\t<a@example.org>\tSIZE=10", "a@example.org"),
    ("mail  from:<a@example.org>  size=10   body=8bitmime ", "a@example.org"),
    ("Mail From:<a@example.org> Body=7bit Ret=Hdrs EnvId=x", "a@example.org"),
    ("MAIL FROM:a@example.org", "a@example.org"),
    ("MAIL FROM: a@example.org SIZE=10", "a@example.org"),
    ('MAIL FROM:"a b"@example.org', '"a b"@example.org'),
    ("MAIL FROM:@x.example:a@example.org", "a@example.org"),
    ("MAIL FROM:<> AUTH=<>", ""),
    ("MAIL FROM: <>", ""),
    ("MAIL FROM:<@x.example,@y.example:a@example.org>", "a@example.org"),
    ("MAIL FROM:<a@example.org.>", "a@example.org"),
    ("MAIL FROM:<a@[192.0.2.1]>", "a@[192.0.2.1]"),
    ("MAIL FROM:<a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]"),
    ("MAIL FROM:<a@bücher.example> SMTPUTF8", "a@bücher.example"),
    ("MAIL FROM:<" + "a" * 64 + "@" + ".".join(["d" * 60] * 3) + ">", "a" * 64 + "@" + ".".join(["d" * 60] * 3)),
]


@pytest.mark.parametrize(("line", "sender"), TAKEN)
async def test_legal_addresses_are_taken_however_they_are_spaced(house: House, line: str, sender: str) -> None:
    """K6: with brackets and without; a final dot is not kept, a source route is ignored in the reverse-path alone."""
    await house.open()
    caller = await house.call()
    assert (await caller.say(line)).startswith("250")
    to = "b@example.net" if not sender or "@x.example" in line else sender
    for rcpt in (f"RCPT TO: <{to}>", f"RCPT TO:{to} NOTIFY=NEVER"):
        assert (await caller.say(rcpt)).startswith("250"), rcpt
    assert (await caller.says("DATA", "x\r\n."))[1].startswith("250")
    assert [(message["envelope"], message["recipient"]) for message in house.queued()] == 2 * [(sender, to)]


REFUSED = [
    ("MAIL FROM:<a@[IPv6:fe80::1%en0]>", "553 5.1.3"),
    ("MAIL FROM:<a(c)@example.org>", "553 5.1.3"),
    ("MAIL FROM:<a@example.org..>", "553 5.1.3"),
    ("MAIL FROM:<a@.>", "553 5.1.3"),
    ("MAIL FROM:<a@example.org> BODY=BINARYMIME", "501 5.5.4"),
    ("MAIL FROM:<a@example.org> XFOO", "555 5.5.4"),
    ("MAIL FROM:<a@example.org> SIZE=", "501 5.5.4"),
]


@pytest.mark.parametrize(("line", "code"), REFUSED)
async def test_what_cannot_be_honoured_is_refused(house: House, line: str, code: str) -> None:
    """K6: a zone means nothing elsewhere (RFC 6874), and BINARYMIME needs CHUNKING (RFC 3030)."""
    await house.open()
    assert (await (await house.call()).say(line)).startswith(code)


@pytest.mark.parametrize(("header", "kept"), [("Subject: grüße", True), ("Subject: hello", False)])
async def test_a_header_that_needs_smtputf8_says_so_on_the_queue(house: House, header: str, kept: bool) -> None:
    """K6: RFC 6531 3.4: the envelope is ASCII, so only this tells. ASCII mail goes to any receiver."""
    await house.open()
    caller = await house.call()
    content = f"{header}\r\n\r\nbödy\r\n.\r\n".encode()
    assert (await caller.mail(content, options=" SMTPUTF8 BODY=8BITMIME")).startswith("250")
    assert (await caller.mail(content)).startswith("250")
    assert [message.get("smtputf8", False) for message in house.queued()] == [kept, False]


async def test_no_header_field_of_ours_claims_smtputf8(house: House) -> None:
    """K6: it is the client's word at MAIL."""
    await house.open()
    answer = await (await house.call()).mail(b"x-mq-smtputf8: true\r\n\r\nx\r\n.\r\n")
    assert answer.startswith("554 5.6.0 x-mq-smtputf8")


async def test_an_original_recipient_may_be_international(house: House) -> None:
    """K6: RFC 6533 3; kept in the form that any receiver takes."""
    await house.open()
    caller = await house.call()
    await caller.say("MAIL FROM:<a@example.org> SMTPUTF8")
    assert (await caller.say("RCPT TO:<b@example.net> ORCPT=utf-8;jürgen@example.net")).startswith("250")
    assert (await caller.say(r"RCPT TO:<c@example.net> ORCPT=utf-8;j\x{FC}rgen@example.net")).startswith("250")
    await caller.says("DATA", "x\r\n.")
    assert [message["dsn"]["orcpt"] for message in house.queued()] == [r"utf-8;j\x{FC}rgen@example.net"] * 2


async def test_postmaster_needs_no_domain_where_it_is_local(house: House) -> None:
    """K6: RFC 5321 4.5.1; elsewhere there is nobody to give it to."""
    await house.open(is_local=lambda address: address == "postmaster@mx.example.com", rabbitmq_local="local")
    caller = await house.call()
    await caller.say("MAIL FROM:<a@example.org>")
    assert (await caller.say("RCPT TO:<Postmaster>")).startswith("250")
    assert (await caller.say("RCPT TO:postmaster")).startswith("250")
    assert (await caller.say("RCPT TO:<webmaster>")).startswith("553")
    await caller.says("DATA", "x\r\n.")
    assert house.queued("local")[0]["recipient"] == "postmaster@mx.example.com"


@pytest.mark.parametrize(("head", "queue"), [
    ("Content-Type: multipart/report; report-type=delivery-status; boundary=x\r\n", "reports"),
    ("Subject: a\r\ncontent-type:\r\n Multipart/Report; boundary=x\r\n", "reports"),
    ("Subject: multipart/report\r\n", "local"),
])  # fmt: skip
async def test_a_report_for_a_local_address_goes_to_the_queue_of_reports(house: House, head: str, queue: str) -> None:
    """Reports of deliveries and of abuse (RFC 6522); other mail of the address goes to the local queue."""
    await house.open(is_local=lambda address: True, rabbitmq_local="local", rabbitmq_reports="reports")
    caller = await house.call()
    await caller.say("MAIL FROM:<>")
    await caller.say("RCPT TO:<info@example.net>")
    await caller.says("DATA", f"{head}\r\nx\r\n.")
    assert len(house.queued(queue)) == 1
