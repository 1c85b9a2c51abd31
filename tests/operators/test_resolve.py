"""The resolve stage: who waits for a look-up, and who is parked."""

from collections.abc import Callable

from reactivex.subject import Subject

from operators.deliveries.delivery import Delivery, Lease, Route, Target
from operators.deliveries.outcome import Next, failed, parked
from operators.deliveries.routes import Found
from operators.mail.message import Message, Smarthost
from operators.stages.resolve import MOST_PER_NAME, Resolving, resolve


class Directory:
    """Knows nothing until told, then remembers."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, int | None], Found] = {}
        self.asked: list[tuple[str, int | None]] = []
        self.waiting: list[Callable[[Found], None]] = []
        self.slow: set[str] = set()

    def peek(self, name: str, port: int | None = None) -> Found | None:
        return self.known.get((name, port))

    def late(self, key: str) -> bool:
        return key in self.slow

    def lookup(self, name: str, done: Callable[[Found], None], port: int | None = None) -> None:
        self.asked.append((name, port))
        self.waiting.append(done)

    def answer(self, found: Found) -> None:
        waiting, self.waiting = self.waiting, []
        for done in waiting:
            done(found)


def delivery(domain: str, smarthost: Smarthost | None = None) -> Delivery:
    return Delivery(lease=Lease(1, b""), message=Message(recipient=f"a@{domain}", smarthost=smarthost), domain=domain)


ROUTE = Route("mx.test", (Target("mx.test", "192.0.2.1"),))


class Bench:
    """The stage between a subject and a list."""

    def __init__(self, most: int = 500) -> None:
        self.names = Directory()
        self.most = most
        self.resolving = Resolving(self.names, lambda: self.most)
        self.source: Subject[Delivery] = Subject()
        self.out: list[Delivery] = []
        self.source.pipe(resolve(self.resolving)).subscribe(self.out.append)


def test_a_known_name_is_not_waited_for():
    """The route is set at once."""
    bench = Bench()
    bench.names.known["a.test", None] = ROUTE
    bench.source.on_next(delivery("a.test"))
    assert [d.route for d in bench.out] == [ROUTE]
    assert bench.names.asked == []


def test_an_unknown_name_is_waited_for():
    """The delivery goes on when the look-up is over, and the room it had is free again."""
    bench = Bench()
    bench.source.on_next(delivery("a.test"))
    assert bench.out == []
    assert bench.resolving.waits("?/a.test")
    bench.names.answer(ROUTE)
    assert [d.route for d in bench.out] == [ROUTE]
    assert not bench.resolving.waits("?/a.test")
    assert bench.resolving.total == 0


def test_a_name_that_takes_no_mail_ends_the_delivery():
    """The outcome is the look-up's."""
    bench = Bench()
    bench.source.on_next(delivery("a.test"))
    bench.names.answer(failed("dns", "error", "a.test does not exist"))
    assert bench.out[0].outcome == failed("dns", "error", "a.test does not exist")


def test_a_slow_look_up_does_not_hold_up_others():
    """Deliveries to known names pass by those that wait."""
    bench = Bench()
    bench.names.known["b.test", None] = ROUTE
    bench.source.on_next(delivery("slow.test"))
    bench.source.on_next(delivery("b.test"))
    assert [d.domain for d in bench.out] == ["b.test"]


def test_more_than_the_most_for_one_name_are_parked():
    """Waiting holds credit; parking gives it back."""
    bench = Bench()
    for _ in range(MOST_PER_NAME + 2):
        bench.source.on_next(delivery("a.test"))
    assert [d.outcome and (d.outcome.next, d.outcome.lane) for d in bench.out] == [(Next.PARK, "?/a.test")] * 2
    bench.source.on_next(delivery("b.test"))
    assert len(bench.out) == 2


def test_more_than_the_most_in_all_are_parked():
    """The bound is asked for each time: it follows the free credit."""
    bench = Bench(most=2)
    for domain in ("a.test", "b.test", "c.test"):
        bench.source.on_next(delivery(domain))
    assert [d.outcome and d.outcome.lane for d in bench.out] == ["?/c.test"]
    assert bench.resolving.waits("?/c.test")
    bench.most = 3
    assert not bench.resolving.waits("?/c.test")


def test_other_lanes_are_none_of_its_business():
    """What is parked for other reasons may be called in while too many wait here."""
    bench = Bench(most=0)
    assert bench.resolving.waits("?/a.test")
    assert not bench.resolving.waits("192.0.2.1/a.test")


def test_a_smarthost_is_looked_up_instead_of_the_domain():
    """By its host name and port."""
    bench = Bench()
    bench.source.on_next(delivery("a.test", Smarthost("relay.test", 587)))
    assert bench.names.asked == [("relay.test", 587)]
    assert bench.resolving.waits("?/relay.test:587")


def test_an_ended_delivery_passes_untouched():
    """It has come to its end before."""
    bench = Bench()
    ended = delivery("a.test").ended(failed("process", "error", "expired"))
    bench.source.on_next(ended)
    assert bench.out == [ended]


def test_who_waits_long_for_a_look_up_is_parked_until_it_is_over() -> None:
    """S2: the credit is free for others meanwhile; nobody joins a look-up that takes long."""
    bench = Bench()
    bench.source.on_next(delivery("a.test"))
    bench.names.slow.add("a.test")
    bench.names.answer(parked("", "takes long"))
    bench.source.on_next(delivery("a.test"))
    assert [(d.outcome.next, d.outcome.lane) for d in bench.out if d.outcome] == [(Next.PARK, "?/a.test")] * 2
    assert bench.resolving.total == 0 and bench.resolving.waits("?/a.test")
    bench.names.slow.clear()
    assert not bench.resolving.waits("?/a.test")
