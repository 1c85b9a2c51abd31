"""Custom operators in a real machine: loaded from a module, from a package, and from nothing that can be loaded."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import pathlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeVar

import pytest

from operators.deliveries.events import Event, Fault, Notice, Settled
from operators.deliveries.outcome import Next
from operators.mail.message import encode, from_properties
from pipeline.machine.chain import Chain
from pipeline.machine.custom_operators import STAGES, load
from pipeline.machine.machine import Machine
from settings import StartError
from settings import load as settings
from tests.support.mailbox import Mailbox
from tests.support.sender import until

Module = Callable[[str], str]
Kind = TypeVar("Kind", bound=Event)
numbers = iter(range(10**6))

SHOP = """
from reactivex import operators as ops
from operators.mail.headers import change
from operators.deliveries.outcome import failed

def mark(source, live):
    def step(delivery):
        if delivery.domain == "bad.example":
            raise ValueError("secret-free")
        return delivery.but(source=change(delivery.source, {"prepend": {"X-Shop": live.settings.server_id}}))
    return source.pipe(live.stage(step))

def broken(source, live):
    def step(delivery):
        if delivery.domain == "bad.example":
            raise ValueError("secret-free")
        return delivery
    return source.pipe(ops.map(step))

def doubled(source, live):
    return source.pipe(ops.flat_map(lambda delivery: [delivery, delivery]))

def refused(source, live):
    return source.pipe(live.stage(lambda delivery: delivery.ended(failed("process", "error", "not today"))))

def slow(source, live):
    return source.pipe(ops.delay(0.05))

def one_argument(source):
    return source

LIMIT = 3
"""


@pytest.fixture
def module(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Module:
    """Writes a module that can be imported, and returns its name."""
    folder = tmp_path / "lib"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))

    def write(text: str) -> str:
        name = f"shop_{next(numbers)}"
        (folder / f"{name}.py").write_text(text)
        return name

    return write


class Running:
    """A machine, and what it told."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.events: list[Event] = []
        machine.events.subscribe(self.events.append)

    async def send(self, *recipients: str) -> None:
        bodies = [
            encode(from_properties({"recipient": to, "envelope": "a@b.example", "mime": "Subject: x\r\n\r\nx\r\n"}))
            for to in recipients
        ]
        safe: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.machine.queue.publish([("outbox", body) for body in bodies], lambda error: safe.set_result(None))
        await safe

    async def settled(self, count: int) -> list[Settled]:
        """The first `count` ends, in the order of the recipients."""
        await until(lambda: len(self.of(Settled)) >= count)
        return sorted(self.of(Settled), key=lambda event: event.delivery.message.recipient)

    def of(self, kind: type[Kind]) -> list[Kind]:
        return [event for event in self.events if isinstance(event, kind)]


@contextlib.contextmanager
def mailbox() -> Iterator[Mailbox]:
    with Mailbox(keep=True) as box:
        yield box


@contextlib.asynccontextmanager
async def machine(folder: pathlib.Path, box: Mailbox, operators: str) -> AsyncIterator[Running]:
    """Started, with everything delivered to the mailbox."""
    options = {
        "data-dir": folder / "var",
        "smtp-port": 0,
        "smtp-default-ips": "127.0.0.1",
        "delivery-sink": f"127.0.0.1:{box.port}",
        "operators": operators,
        "shutdown-timeout": 1,
        "server-id": "mx1",
    }
    running = Running(Machine(settings([f"--{key}={value}" for key, value in options.items()], system_file=None)))
    await running.machine.start()
    try:
        yield running
    finally:
        await running.machine.stop()


async def test_an_operator_changes_what_is_delivered(tmp_path: pathlib.Path, module: Module) -> None:
    """The whole way: loaded by its name, put behind compose, seen by the receiver."""
    with mailbox() as box:
        async with machine(tmp_path, box, f"{module(SHOP)}:mark@compose") as running:
            await running.send("one@good.example")
            await running.settled(1)
        assert box.messages == [b"X-Shop: mx1\r\nSubject: x\r\n\r\nx\r\n"]


@pytest.mark.parametrize("function", ["mark", "broken"])
@pytest.mark.parametrize("stage", ["decode", "hold", "throttle", "sign"])
async def test_a_broken_operator_fails_one_delivery_and_not_the_stream(
    tmp_path: pathlib.Path, module: Module, function: str, stage: str
) -> None:
    """Deferred by the retry rule, with a fault that names the operator; those before and after it are delivered."""
    name = f"{module(SHOP)}:{function}@{stage}"
    with mailbox() as box:
        async with machine(tmp_path, box, name) as running:
            for recipient in ("a@good.example", "b@bad.example", "c@good.example"):
                await running.send(recipient)
                await running.settled(len(running.of(Settled)) + 1)
            ends = [event.outcome for event in await running.settled(3)]
            assert [end.next for end in ends] == [Next.DELIVERED, Next.RETRY, Next.DELIVERED]
            assert ends[1].description == f"{name}: ValueError"
            assert [(fault.where, fault.detail) for fault in running.of(Fault)] == [(name, "ValueError: secret-free")]
            assert running.machine.slots.active == 0
        assert box.total == 2


async def test_a_delivery_handed_on_twice_is_sent_once(tmp_path: pathlib.Path, module: Module) -> None:
    """The second is left out, and somebody is told."""
    with mailbox() as box:
        async with machine(tmp_path, box, f"{module(SHOP)}:doubled@expire") as running:
            await running.send("one@good.example", "two@good.example")
            await running.settled(2)
            await until(lambda: len(running.of(Notice)) > 0)
            assert running.of(Notice)[0].kind == "operator"
        assert box.total == 2


async def test_an_operator_may_end_a_delivery_or_take_its_time(tmp_path: pathlib.Path, module: Module) -> None:
    """Several stand behind one another; timed ones take their time from the machine's scheduler."""
    name = module(SHOP)
    with mailbox() as box:
        async with machine(tmp_path, box, f"{name}:slow@expire,{name}:refused@hold") as running:
            await running.send("one@good.example")
            (end,) = await running.settled(1)
            assert (end.outcome.next, end.outcome.description) == (Next.FAIL, "not today")
        assert box.total == 0


def test_the_stages_that_can_be_named_are_those_of_the_chain() -> None:
    """In its order."""
    chain = inspect.getsource(Chain.deliveries)
    places = [chain.index(f"\n            {name}=") for name in STAGES]
    assert places == sorted(places)


# -- what cannot be loaded --------------------------------------------------------------------------------------------


def refusal(configured: str) -> str:
    with pytest.raises(StartError) as error:
        load([configured])
    assert "\n" not in error.value.line
    return error.value.line


def test_a_module_that_is_not_there_is_said(module: Module) -> None:
    """And where it could have been."""
    hint = "it must be installed, or in a folder that PYTHONPATH names"
    assert refusal("no.such:f@hold") == f"operators: no.such:f@hold: there is no module no; {hint}"
    name = module("import no_such_library")
    assert refusal(f"{name}:f@hold").startswith(
        f"operators: {name}:f@hold: {name} cannot be imported: ModuleNotFoundError: No module named 'no_such_library' ("
    )


def test_a_function_that_is_not_there_is_said_with_those_that_are(module: Module) -> None:
    """A typing mistake is seen at once."""
    name = module(SHOP)
    assert refusal(f"{name}:marc@hold") == (
        f"operators: {name}:marc@hold: {name} has no marc; it has mark, broken, doubled, refused, slow, one_argument"
    )


def test_an_unknown_stage_is_said_with_all_there_are(module: Module) -> None:
    """In the order of the chain."""
    allowed = "decode, expire, suppress, rewrite, resolve, assign, redirect, force, hold, throttle, compose, sign, "
    allowed += "deliver, classify, conclude, record"
    assert refusal(f"{module(SHOP)}:mark@settle").endswith(f": there is no stage 'settle'; there are {allowed}")


@pytest.mark.parametrize(
    ("function", "why"),
    [
        ("LIMIT", "is a int, not a function"),
        ("one_argument", "takes (source), but must take two: (source, live)"),
    ],
)
def test_what_is_no_operator_is_said(module: Module, function: str, why: str) -> None:
    """Before anything has started."""
    assert refusal(f"{module(SHOP)}:{function}@hold").endswith(f": {why}")


def test_a_module_that_fails_to_import_is_said_in_one_line(module: Module) -> None:
    """With the file and the line."""
    line = refusal(f"{module('x = 1' + chr(10) + 'raise OSError(' + repr('two' + chr(10) + 'lines') + ')')}:f@hold")
    assert "cannot be imported: OSError: two lines (" in line and line.endswith(", line 2)")
    assert "SyntaxError: " in refusal(f"{module('def')}:f@hold")


# -- packages ---------------------------------------------------------------------------------------------------------


def install(folder: pathlib.Path, entry: str) -> None:
    """What pip leaves behind of a package with this entry point."""
    info = folder / "shop-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shop\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[mailrace.operators]\n{entry}\n")


def test_an_installed_package_s_operators_are_loaded(tmp_path: pathlib.Path, module: Module) -> None:
    """By entry points, behind those of the configuration."""
    name = module(SHOP)
    install(tmp_path / "lib", f"compose.mark = {name}:mark")
    loaded = load([f"{name}:slow@compose"])
    assert [(one.name, one.stage) for one in loaded] == [
        (f"{name}:slow@compose", "compose"),
        (f"{name}:mark@compose", "compose"),
    ]


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("mark = {}:mark", "must be named stage.anything; a stage is one of decode, expire, "),
        ("settle.mark = {}:mark", "there is no stage 'settle'; there are decode, "),
        ("hold.mark = {}:marc", "has no marc; it has mark, "),
        ("hold.mark = no_such_module:mark", "there is no module no_such_module; "),
    ],
)
def test_a_package_s_mistake_names_the_package(tmp_path: pathlib.Path, module: Module, entry: str, why: str) -> None:
    """Nobody knows by heart what is installed."""
    install(tmp_path / "lib", entry.format(module(SHOP)))
    with pytest.raises(StartError) as error:
        load([])
    assert error.value.line.startswith(f"entry point {entry.partition(' ')[0]!r} of shop: ") and why in error.value.line
