"""One SMTP session's mail transactions: MAIL, RCPT, DATA, and on to the queue.

Bounds: recipients, `smtp-maxsize`, memory from the shared `Room`. 250 is said only when the queue has confirmed every
message of the transaction; where it does not, 451, or 452 where it has no room, and nothing is stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from operators.deliveries.events import Received
from operators.mail.head import ended, length, line_ends
from operators.mail.long_lines import PASS, HasLongLine, orderly
from pipeline.queues.contract import Apart, Body, LargeBody, NewContent, QueueFull, TooLarge
from pipeline.smtp.server import content, headers
from pipeline.smtp.server.commands import is_routed, mail, rcpt
from pipeline.smtp.server.dialogue import SessionDialogue
from pipeline.smtp.server.large import LargeMessage, copies
from pipeline.smtp.server.protocol import MailData
from pipeline.smtp.server.refusal import Refusal
from pipeline.smtp.server.spill import Spill
from pipeline.smtp.server.transaction import (
    MOST_RECIPIENTS,
    NOWHERE,
    IncomingTransaction,
    bodies,
    ids_of,
    openings,
    reply,
)

TOO_LARGE = "552 5.3.4 The message is larger than the broker takes"
THROWN = "250 2.0.0 Taken and thrown away: rabbitmq-inbox is empty here"
NO_ROOM = "452 4.3.1 Insufficient system storage"  # RFC 5321 4.2.2, RFC 3463 3.4


class Session(SessionDialogue):
    """A connection that mail comes in on."""

    transaction = IncomingTransaction()

    def reset(self) -> None:
        """Forget the transaction."""
        self.transaction = IncomingTransaction()

    def smtp_MAIL(self, arg: str) -> None:
        """RFC 5321 4.1.1.2, RFC 1870 6.1."""
        command = mail(arg)
        if command.size > self.shared.settings.smtp_maxsize:
            raise content.too_large(self.shared.settings.smtp_maxsize)
        if self.shared.queue.full is not None:  # said here already, so that nobody sends DATA for nothing
            raise Refusal(NO_ROOM)
        self.transaction = IncomingTransaction(command)
        self.accept("250 2.1.0 Sender ok")

    def smtp_RCPT(self, arg: str) -> None:
        """RFC 5321 4.1.1.3."""
        transaction = self.transaction
        assert transaction.mail is not None
        command = rcpt(self._postmaster(arg), transaction.mail.smtputf8)
        try:
            queue = self._queue_for(command.recipient)
        except Refusal as refusal:
            self._record(refusal, [command.recipient])
            self.refuse(refusal, transaction.sender, command.recipient)
            return
        transaction.recipients.append((command, queue))
        self.accept("250 2.1.5 Recipient ok")

    def _postmaster(self, arg: str) -> str:
        """`RCPT TO:<postmaster>` needs no domain (RFC 5321 4.5.1), where it is an address of ours."""
        whole = f"postmaster@{self.hostname}"
        before, _, path = arg.rpartition(":")
        if path.strip().lower() in ("<postmaster>", "postmaster") and self.shared.is_local(whole):
            return f"{before}:<{whole}>"
        return arg

    @property
    def _may_send(self) -> bool:
        """The client may send to anybody, not only to local addresses."""
        return not self.shared.credentials or bool(self.client.user)

    def _queue_for(self, recipient: str) -> str:
        """Where mail to the recipient goes, or `Refusal`: nobody relays here who may not."""
        transaction, shared = self.transaction, self.shared
        count = len(transaction.recipients) + 1
        if count > MOST_RECIPIENTS:
            raise Refusal(f"452 4.5.3 At most {MOST_RECIPIENTS} recipients at once")
        copied = shared.queue.apart is None
        if copied and transaction.mail is not None and count > 1 and count * transaction.mail.size > shared.most_copied:
            raise Refusal("452 4.5.3 Too many recipients at once for a message of this size")
        local = shared.is_local(recipient)
        if local and is_routed(recipient):
            raise Refusal("550 5.7.1 No mail is routed through an address of ours")
        if not self._may_send and not local:
            raise Refusal("530 5.7.0 Log in first")
        return shared.local_queue if local else shared.settings.rabbitmq_inbox or NOWHERE

    async def smtp_DATA(self, arg: str) -> None:
        """RFC 5321 4.1.1.4."""
        transaction, shared = self.transaction, self.shared
        assert transaction.mail is not None
        account = content.Account(shared.room, shared.settings.smtp_maxsize)
        spill = Spill(shared.settings.data_dir, shared.spilled)
        try:
            await account.need(min(max(transaction.mail.size, content.CHUNK), content.MEMORY))
            self.accept("354 End with CRLF.CRLF")
            self.flush()
            raw = await self._content(account, spill)
            await self._take(transaction, raw, account, spill)
        finally:
            spill.close()
            account.close()

    async def _content(self, account: content.Account, spill: Spill) -> bytes | None:
        """What is not spilled of the content; None for a message that is dropped."""

        async def write(part: bytes) -> bool:
            try:
                if not account.refusal and await spill.write(part):
                    return True
            except OSError as error:
                self.shared.trouble("smtp intake", f"{self.shared.settings.data_dir}: {error.strerror}")
            account.refusal = account.refusal or Refusal(NO_ROOM)
            return False

        kept = True
        while True:
            event = await self.event()
            assert isinstance(event, MailData)
            kept = kept and self._keep(account, event.octets)
            if event.whole is not None:
                account.dots = event.dots
                return event.whole if kept else None
            came = self.protocol.content
            if not kept:
                came.drop()
            elif len(came) > content.MEMORY:
                kept = await write(came.take())

    def _keep(self, account: content.Account, octets: int) -> bool:
        before = account.received
        kept = account.keep(octets)
        if account.received // content.CHUNK > before // content.CHUNK:
            self.heard()  # not for less: a byte a second would hold the session for ever
        return kept

    async def _take(
        self, transaction: IncomingTransaction, raw: bytes | None, account: content.Account, spill: Spill
    ) -> None:
        """Queue the message and answer. The transaction is over either way."""
        self.heard()
        try:
            if raw is None:
                raise account.refusal or content.too_large(self.shared.settings.smtp_maxsize)
            answer = await self._queue(transaction, raw, account, spill)
        except Refusal as refusal:
            recipients = [command.recipient for command, _ in transaction.recipients]
            self._record(refusal, recipients, await self._refused(refusal, raw, spill, len(recipients)))
            self.refuse(refusal, transaction.sender, ", ".join(recipients[:3]))
        else:
            self.accept(answer)
        finally:
            self.heard()
            self.reset()

    async def _refused(self, refusal: Refusal, raw: bytes | None, spill: Spill, count: int) -> bytes | None:
        """The message as it came, where it is to be kept and not too large for that."""
        if raw is None or not spill.size:
            return raw
        small = count * spill.size <= self.shared.most_copied
        wanted = refusal.code >= 500 and small and self.shared.settings.rabbitmq_refused
        return await spill.whole() if wanted else None

    async def _queue(
        self, transaction: IncomingTransaction, last: bytes, account: content.Account, spill: Spill
    ) -> str:
        """The answer for a message that the queue has confirmed; raises `Refusal`."""
        thrown = [command.recipient for command, queue in transaction.recipients if queue == NOWHERE]
        transaction.recipients = [one for one in transaction.recipients if one[1] != NOWHERE]
        for recipient in thrown:
            self.report(Refusal(THROWN), transaction.sender, recipient)
        if not transaction.recipients:
            return THROWN
        count, size = len(transaction.recipients), spill.size + len(last)
        if self.shared.queue.apart is not None:
            await account.need(3 * len(last))  # as it came, cleaned, and its content; what is on disk stays there
        else:
            self._bounded(count, size)
            await account.need((count + 3) * size)  # as it came, as text, as JSON, and each recipient's
        try:
            ids, found = await (self._large if spill.size else self._small)(transaction, last, spill, account.dots)
        except HasLongLine:  # looked at whole, encoded, and put together
            await account.need(5 * size)
            data, _ = await asyncio.to_thread(self._fitted, await spill.whole(), True)
            ids, found = self._bodies(transaction, data, True)
        queues = [queue for _, queue in transaction.recipients]
        await self._publish(list(zip(queues, found, strict=True)), self._tell(transaction, ids, size))
        return reply(ids)

    def _bounded(self, count: int, copied: int) -> None:
        """Raises `Refusal` where so many octets for each recipient are too many."""
        if count > 1 and count * copied > self.shared.most_copied:
            raise Refusal(f"552 5.3.4 Too large for {count} recipients at once; announce SIZE, or send to fewer")

    async def _small(
        self, transaction: IncomingTransaction, raw: bytes, _: Spill, dots: bool
    ) -> tuple[list[str], list[Body]]:
        """(ids, bodies) of a message that came whole."""
        if self.shared.watch is not None:
            self.shared.watch.body(self.conversation, raw)
        return self._bodies(transaction, *self._fitted(raw, dots))

    def _fitted(self, raw: bytes, dots: bool) -> tuple[bytes, bool]:
        """(the message as it is queued, whether a line of it may begin with a dot). Raises `Refusal`."""
        most = self.shared.settings.smtp_maxsize
        data = content.plain(raw, dots=dots)
        if not (good := orderly(data)):
            data = line_ends(data)
        if len(data) > most:
            raise content.too_large(most)
        whole = ended(data)
        fitted = (
            whole if good else content.fitted(whole, self.shared.settings.long_lines, self.shared.settings.smtp_extract)
        )
        # another line end, of ours too, may have got a dot behind it
        return fitted, dots or data is not raw or fitted is not whole

    def _bodies(self, transaction: IncomingTransaction, data: bytes, dots: bool) -> tuple[list[str], list[Body]]:
        end = length(data)
        head, properties, id_ = self._headed(transaction, data[:end])
        ids = ids_of(id_, len(transaction.recipients))
        begins = openings(transaction, ids, properties)
        apart = self.shared.queue.apart
        if apart is None or len(data) - end < apart.least:
            self._bounded(len(ids), len(data))
            return ids, [*bodies(begins, head + data[end:])]
        rest = memoryview(data)[end + 2 :]
        is_ascii = data.isascii() or data[end + 2 :].isascii()
        return ids, self._parted(begins, head, NewContent(rest, len(rest), is_ascii, dots))

    def _parted(self, begins: list[bytes], head: bytes, rest: NewContent) -> list[Body]:
        """One for each recipient; all share the content, which is there once."""
        self._bounded(len(begins), len(head))
        return [LargeBody(json, rest) for json in bodies(begins, head + b"\r\n")]

    async def _large(
        self, transaction: IncomingTransaction, last: bytes, spill: Spill, dots: bool
    ) -> tuple[list[str], list[Body]]:
        """The same of one that lies on the disk."""
        bounded = self.shared.settings.long_lines != PASS
        large = LargeMessage(await spill.end(last), self.shared.settings.smtp_maxsize, dots, bounded)
        if self.shared.watch is not None:
            self.shared.watch.body(self.conversation, await spill.whole())
        head, properties, id_ = self._headed(transaction, await asyncio.to_thread(large.read_head))
        ids = ids_of(id_, len(transaction.recipients))
        begins = openings(transaction, ids, properties)
        if (apart := self.shared.queue.apart) is not None:
            self._bounded(len(begins), len(head))
            return ids, self._parted(begins, head, await self._on_disk(apart, large, spill.size))
        first = await asyncio.to_thread(large.written, begins[0], head)
        return ids, [*copies(first, begins)]

    async def _on_disk(self, apart: Apart, large: LargeMessage, size: int) -> NewContent:
        try:
            return await asyncio.to_thread(apart.keep, size, large.write_content)
        except OSError as error:
            self.shared.trouble("smtp intake", f"{self.shared.settings.data_dir}: {error.strerror}")
            raise Refusal(NO_ROOM) from None

    def _headed(self, transaction: IncomingTransaction, head: bytes) -> tuple[bytes, dict[str, Any], str]:
        """(the header as it is queued, the properties that go with it, the message's id)."""
        shared = self.shared
        now = shared.clock()
        date, timestamp = shared.dates.at(now)
        content.refuse_loop(head)
        if shared.settings.rabbitmq_reports and content.is_report(head):
            transaction.reported(shared.local_queue, shared.settings.rabbitmq_reports)
        properties = shared.properties(self.client, timestamp)
        if shared.settings.smtp_extract and headers.has_fields(head):
            if self._may_send:
                head, extracted = headers.extract(head, now)
                headers.refuse_queues(extracted, shared.result_rule)
                if "pool" in extracted:  # it says where mail leaves from; where it came in does not, then
                    properties.pop("ips", None)
                properties |= extracted
            else:  # only its recipient lets it in: it steers nothing
                head = headers.without(head)
        smtputf8 = transaction.mail is not None and transaction.mail.smtputf8
        if smtputf8 and not head.isascii():
            properties["smtputf8"] = True  # RFC 6531 3.4: such a header needs it, whatever the addresses are
        transaction_id = shared.ids.next()
        return self.client.received(self.hostname, smtputf8, transaction_id, date) + head, properties, transaction_id

    async def _publish(self, messages: list[tuple[str, Body]], tell: Callable[[], None]) -> None:
        answer: asyncio.Future[Exception | None] = self.loop.create_future()

        def confirmed(error: Exception | None) -> None:
            if isinstance(body := messages[0][1], LargeBody):  # all share one
                body.content.close()
            if error is None:
                tell()  # also where the client is gone by now
            if not answer.done():
                answer.set_result(error)

        self.answer = answer
        try:
            self.shared.queue.publish(messages, confirmed)
            if (error := await answer) is not None:
                if isinstance(error, TooLarge):
                    raise Refusal(TOO_LARGE)
                full = isinstance(error, QueueFull)
                raise Refusal(NO_ROOM if full else "451 4.3.0 The queue takes nothing now, try again later")
        finally:
            self.answer = None

    def _tell(self, transaction: IncomingTransaction, ids: list[str], size: int) -> Callable[[], None]:
        shared, ip, user = self.shared, self.client.ip, self.client.user

        def tell() -> None:
            now = shared.clock()
            for id_, (command, _) in zip(ids, transaction.recipients, strict=True):
                received = Received(
                    time=now,
                    message_id=id_,
                    envelope=transaction.sender,
                    recipient=command.recipient,
                    size=size,
                    source="smtp",
                    remote_ip=ip,
                    user=user,
                )
                shared.report(received)

        return tell

    def _record(self, refusal: Refusal, recipients: list[str], raw: bytes | None = None) -> None:
        """Keep what was turned away for good, where a queue for it is configured."""
        if refusal.code >= 500:
            self.shared.record(self.client, self.transaction.sender, recipients, refusal.reply, raw)


Session.commands = {
    "EHLO": Session.smtp_EHLO,
    "HELO": Session.smtp_HELO,
    "STARTTLS": Session.smtp_STARTTLS,
    "AUTH": Session.smtp_AUTH,
    "MAIL": Session.smtp_MAIL,
    "RCPT": Session.smtp_RCPT,
    "DATA": Session.smtp_DATA,
    "RSET": Session.smtp_RSET,
    "NOOP": Session.smtp_NOOP,
    "HELP": Session.smtp_HELP,
    "VRFY": Session.smtp_VRFY,
    "QUIT": Session.smtp_QUIT,
}
