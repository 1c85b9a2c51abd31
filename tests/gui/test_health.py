"""What other programs ask."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from gui.web.health import TOP, routes
from operators.deliveries.delivery import Delivery, Lease
from operators.deliveries.events import Settled, Taken
from operators.deliveries.outcome import Next, Outcome
from operators.mail.message import Message
from pipeline.telemetry.telemetry import FIGURES, Telemetry
from pipeline.views.alerting.alerts import AlertsNow


async def answered() -> None:
    """The queue answers."""


def client(answers: Any = answered, stopped: str | None = None) -> tuple[TestClient, Telemetry]:
    telemetry = Telemetry()
    app = FastAPI()
    alone = SimpleNamespace(count=1, refused=0)
    facade = SimpleNamespace(
        telemetry=telemetry,
        queue=SimpleNamespace(answers=answers),
        stopped=stopped,
        remarks=[],
        discarded=0,
        cluster=alone,
        classes=dict,
        warmups=SimpleNamespace(all=list),
        alerts=SimpleNamespace(now=lambda: AlertsNow(on=[], told=[], waiting=0, sent=5, lost=2)),
    )
    app.include_router(routes(facade))  # type: ignore[arg-type]
    return TestClient(app), telemetry


def deliver(telemetry: Telemetry, domain: str) -> None:
    delivery = Delivery(lease=Lease(id=1, body=b""), message=Message(), domain=domain)
    outcome = Outcome(state="message", result="accepted", next=Next.DELIVERED, attempted=True)
    now = telemetry._clock()
    telemetry.count(Taken(time=now, delivery=delivery))
    telemetry.count(Settled(time=now, delivery=delivery, outcome=outcome))


def test_a_process_that_answers_lives() -> None:
    """Whatever else is wrong."""
    assert client()[0].get("/healthz").text == "ok\n"


def test_it_is_ready_while_the_queue_answers() -> None:
    """What is wrong is said in general words, since anybody may ask."""

    async def broken() -> None:
        raise OSError("amqp://user:password@host")

    assert client()[0].get("/readyz").status_code == 200
    answer = client(broken)[0].get("/readyz")
    assert answer.status_code == 503
    assert answer.text == "the queue does not answer\n"


def test_it_is_not_ready_while_there_is_no_room_for_mail() -> None:
    """A balancer sends it elsewhere."""
    answer = client(stopped="the disk is full: no new mail is taken")[0].get("/readyz")
    assert (answer.status_code, answer.text) == (503, "the disk is full: no new mail is taken\n")


def test_prometheus_reads_every_figure() -> None:
    """Counters since start, gauges now."""
    browser, telemetry = client()
    deliver(telemetry, "example.com")
    families = {family.name: family for family in text_string_to_metric_families(browser.get("/metrics").text)}
    assert {f"mailrace_{name}" for name in FIGURES} <= set(families)
    assert families["mailrace_delivered"].samples[0].value == 1
    assert families["mailrace_delivered"].type == "counter"
    assert families["mailrace_in_memory"].type == "gauge"


def test_the_labels_are_bounded_and_the_rest_is_other() -> None:
    """However many domains there are."""
    browser, telemetry = client()
    for number in range(300):
        deliver(telemetry, f'd{number}"\n.example')
    families = {family.name: family for family in text_string_to_metric_families(browser.get("/metrics").text)}
    samples = {sample.labels["domain"]: sample.value for sample in families["mailrace_domain_delivered"].samples}
    assert len(samples) == TOP + 1
    assert samples["other"] == 300 - TOP
    assert sum(samples.values()) == 300


@pytest.mark.parametrize("odd", ["other", "OTHER", "\udc80.example", "a\nb.example", "x" * 5000, "\u202egnp.exe"])
def test_an_odd_domain_makes_no_odd_series(odd: str) -> None:
    """Each series stands there once, in clean text of bounded length, and the sum is whole (K14)."""
    browser, telemetry = client()
    deliver(telemetry, odd)
    deliver(telemetry, "example.com")
    text = browser.get("/metrics").text
    series = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(series) == len(set(series))
    families = {family.name: family for family in text_string_to_metric_families(text)}
    samples = families["mailrace_domain_delivered"].samples
    assert sum(sample.value for sample in samples) == 2
    assert all(len(sample.labels["domain"]) <= 255 and sample.labels["domain"].isprintable() for sample in samples)


def test_notices_that_were_lost_are_counted() -> None:
    """Beside those that have arrived."""
    asked, _ = client()
    text = asked.get("/metrics").text
    assert 'mailrace_alert_notices_total{became="lost"} 2.0' in text and "mailrace_alerts 0.0" in text
