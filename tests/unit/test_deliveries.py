"""Deliveries over fakes of AWS, to a real receiver, which verifies all that it gets."""

import json
import re
import shutil
import ssl
import subprocess
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from email import message_from_bytes
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from chalicelib import circuits, deliveries, outbound, webhooks
from chalicelib.circuits import FAILURES_TO_PAUSE
from chalicelib.deliveries import MAX_DELAY_S, MAX_TRIES, RETRY_DELAYS_S, wants
from chalicelib.errors import (
    BatchFailed,
    MalformedMessage,
    NotDelivered,
    NotMailed,
    OutOfTime,
    TookTooLong,
)
from chalicelib.messages import timestamp
from chalicelib.model import Attempt, Circuit, Destination, digest
from chalicelib.services import WebhookTerms
from tests.deliveries import (
    DELIVERED,
    GIVEN_UP,
    SECRET,
    WAITING,
    again,
    break_circuit,
    delivery_of,
    end_of_pause,
    event,
    fail,
    fared,
    labelled,
    logged,
    message,
    run,
    sent,
)
from tests.fakes import FakeServices, Killed, Outage, uploaded
from tests.receiver import Conversation, Receiver
from tests.waiting import TIMEOUT_S


@pytest.fixture
def hasty(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001 - before it
    """No patience with who is slow."""
    monkeypatch.setattr(deliveries, "TOTAL_TIMEOUT_S", 0.3)


# ── fanning out ──────────────────────────────────────────────────────────────────────────────────


def test_announcement_becomes_a_message_for_each_destination(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """For those that it is for, word by word; nobody is called before that."""
    other = webhooks.register(receiver.url, ("COMPLETED",), ("cat",), "", services)
    webhooks.register(receiver.url, ("FAILED",), (), "", services)
    details = labelled("Cat")

    run(services, message(json.dumps(details)))

    assert [json.loads(body) for body in services.webhook_queue.sent] == [
        {"destination": each.destination_id, "details": details} for each in (destination, other)
    ]
    assert receiver.received == []


def test_announcement_for_nobody_is_over(services: FakeServices) -> None:
    """A stage without webhooks sends nothing."""
    run(services, message(json.dumps(event())))

    assert services.webhook_queue.calls == []


@pytest.mark.parametrize(
    ("kind", "statuses", "labels", "is_told"),
    [
        ("image.completed", (), (), True),
        ("image.completed", ("COMPLETED",), (), True),
        ("image.completed", ("FAILED", "DELETED"), (), False),
        ("image.duplicate", ("COMPLETED",), (), False),
        ("image.duplicate", ("DUPLICATE",), ("cat",), True),
        ("image.quarantined", (), ("CAT",), True),
        ("image.quarantined", (), ("dog",), False),
        ("image.completed", (), ("dog", "animal"), True),
        ("image.completed", (), ("violence",), True),
        ("image.completed", (), ("graphic violence",), True),
        ("image.completed", (), ("grace hopper",), True),
        ("image.completed", (), ("ZOE\u0308 SALDAN\u0303A",), True),
        ("image.failed", (), ("dog",), True),
        ("image.deleted", (), ("dog",), True),
        ("image.deleted", ("FAILED",), (), False),
        ("image.invented", (), (), True),
    ],
)
def test_destination_is_told_of_what_it_asks_for(
    kind: str, statuses: tuple[str, ...], labels: tuple[str, ...], *, is_told: bool
) -> None:
    """By status, and by whatever an image is found under; what shows nothing passes labels."""
    details = event(
        kind,
        labels=[{"name": "Cat", "parents": ["Animal"]}],
        moderation_labels=[
            {"name": "Graphic Violence", "parent": "Violence"},
            {"name": "Alcohol"},
        ],
        celebrities=[{"name": "Grace Hopper"}, {"name": "Zoë Saldaña"}],
    )
    destination = Destination("id", "url", statuses=statuses, labels=labels)
    assert wants(destination, details) is is_told


def test_announcement_is_fanned_out_again_when_killed(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """Some are asked for twice then, and told once."""
    webhooks.register(receiver.url, ("COMPLETED",), (), "", services)
    receiver.secrets = []
    receiver.otherwise = 200
    services.webhook_queue.before("send_bodies", lambda: None, Killed())
    announcement = message(json.dumps(event()))
    [failure] = fail(services, announcement)
    assert isinstance(failure, Killed)

    run(services, announcement)
    asked = sent(services)

    assert [json.loads(each.body)["destination"] for each in asked].count(
        destination.destination_id
    ) == 2
    assert len(asked) == 3


# ── delivering ───────────────────────────────────────────────────────────────────────────────────


def test_message_is_signed_and_logged(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """As Standard Webhooks 1.0 has it; the batch is left to Lambda, which deletes it."""
    details = event(key="uploads/🦊.jpg")
    asked = delivery_of(destination, details)

    run(services, asked)

    [got] = receiver.received
    assert got.payload == {
        "type": "image.completed",
        "timestamp": details["event_time"],
        "data": details,
    }
    sent_at = str(int(services.clock().timestamp()))
    assert got.path == "/hook"
    assert {name: got.headers[name] for name in got.headers if name != "webhook-signature"} == {
        "host": receiver.url.split("/")[2],
        "user-agent": "image-pipeline",
        "content-type": "application/json",
        "content-length": str(len(got.body)),
        "webhook-id": details["event_id"],
        "webhook-timestamp": sent_at,
        "accept-encoding": "identity",
        "connection": "close",
    }
    log = logged(services, asked)
    assert (log.state, log.event_type, log.event_time) == (
        DELIVERED,
        "image.completed",
        details["event_time"],
    )
    assert log.image_id == details["image_id"]
    assert json.loads(zlib.decompress(log.payload)) == details
    [attempt] = log.attempts
    assert (attempt.at, attempt.status, attempt.error) == (timestamp(services.clock()), 200, None)
    assert (log.next_try_at, log.leased_until) == (None, None)
    assert fared(services, destination) == Circuit()
    assert services.webhook_queue.calls == []


@pytest.mark.parametrize("status", [201, 202, 204, 299])
def test_every_2xx_is_a_success(
    services: FakeServices, receiver: Receiver, destination: Destination, status: int
) -> None:
    """Receivers need not answer with 200."""
    receiver.answers.append(status)
    asked = delivery_of(destination)

    run(services, asked)

    assert logged(services, asked).state is DELIVERED


def test_what_failed_is_delivered_at_its_next_try(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """Its neighbours are deleted; it comes back soon, and its log has every try."""
    receiver.answers.append(500)
    asked = delivery_of(destination)
    [failure] = fail(services, asked)
    neighbour = delivery_of(destination)

    assert str(failure) == "It was answered with 500"
    assert 4 <= services.webhook_queue.handed_back[asked] <= 6
    waiting = logged(services, asked)
    assert waiting.state is WAITING
    later = datetime.fromisoformat(waiting.next_try_at or "") - services.clock()
    assert timedelta(seconds=4) <= later <= timedelta(seconds=6)
    assert fared(services, destination).failures == 1

    services.clock.forward(seconds=6)
    run(services, again(asked), neighbour)

    assert [attempt.status for attempt in logged(services, asked).attempts] == [500, 200]
    assert logged(services, asked).state is DELIVERED
    assert fared(services, destination).failures == 0
    ids = [got.headers["webhook-id"] for got in receiver.received]
    assert ids.count(logged(services, asked).event_id) == 2


def test_others_of_a_batch_are_deleted(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """Else they would all come back with the one that failed."""
    receiver.answers.append(lambda told: told.answer(500))
    bad = delivery_of(destination)
    fail(services, bad)
    good = [delivery_of(destination) for _ in range(3)]
    receiver.otherwise = lambda told: told.answer(
        500 if told.headers["webhook-id"] == logged(services, bad).event_id else 200
    )

    fail(services, good[0], again(bad), *good[1:])

    assert services.webhook_queue.deleted == good
    assert list(services.webhook_queue.handed_back)[-1] == again(bad)


def test_tries_are_spread_over_a_day() -> None:
    """About 24 hours, each within the 12 that SQS hides a message for at most."""
    assert timedelta(hours=23) < timedelta(seconds=sum(RETRY_DELAYS_S)) < timedelta(hours=25)
    for receive_count, usual_s in enumerate(RETRY_DELAYS_S, start=1):
        delays = {deliveries.delay_s(receive_count) for _ in range(200)}
        assert len(delays) > 1
        assert usual_s * 0.8 - 1 <= min(delays) <= max(delays) <= usual_s * 1.2 + 1
        assert max(delays) < MAX_DELAY_S < 12 * 3600
    assert deliveries.delay_s(50) >= RETRY_DELAYS_S[-1] * 0.8


def test_last_try_ends_in_the_dead_letter_queue(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """Handed back at once, so that the next receive moves it; the log says so."""
    receiver.answers.extend([503] * MAX_TRIES)
    first = delivery_of(destination)
    for receive_count in range(1, MAX_TRIES + 1):
        asked = replace(first, receive_count=receive_count)
        services.webhook_queue.handed_back.clear()
        fail(services, asked)
        circuits.resume(destination.destination_id, services)

    assert len(receiver.received) == MAX_TRIES
    assert services.webhook_queue.handed_back == {asked: 0}
    assert (logged(services, asked).state, logged(services, asked).next_try_at) == (GIVEN_UP, None)


def test_what_was_received_more_often_than_tried_starts_over(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """A copy takes its place, until it has had its tries or is two days old."""
    receiver.answers.append(503)
    asked = delivery_of(destination, receive_count=MAX_TRIES)

    run(services, asked)

    [(copied, wait_s)] = services.webhook_queue.postponed.items()
    assert copied == asked
    assert logged(services, asked).state is WAITING
    next_try_at = timestamp(services.clock() + timedelta(seconds=wait_s))
    assert logged(services, asked).next_try_at == next_try_at

    services.clock.forward(days=2)
    receiver.answers.append(503)
    fail(services, asked)

    assert services.webhook_queue.handed_back == {asked: 0}
    assert logged(services, asked).state is GIVEN_UP


def test_copy_that_cannot_be_made_is_no_loss(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """SQS keeps what it has, in the dead-letter queue at the worst."""
    other = delivery_of(destination)
    run(services, other)
    receiver.answers.append(503)
    services.webhook_queue.before("postpone", Outage())
    asked = delivery_of(destination, receive_count=MAX_TRIES)

    fail(services, asked, other)

    assert services.webhook_queue.deleted == [other]
    assert services.webhook_queue.handed_back == {asked: 0}


def test_last_try_is_given_up_even_if_nobody_is_left_to_say_so(
    services: FakeServices, destination: Destination
) -> None:
    """Killed while it is sent, it is in the dead-letter queue, too."""
    services.destinations.before("circuit", Killed())
    asked = delivery_of(destination, receive_count=MAX_TRIES)

    fail(services, asked)

    assert logged(services, asked).state is GIVEN_UP


def test_only_the_last_attempts_are_kept(services: FakeServices, destination: Destination) -> None:
    """However often something is replayed, its record stays small."""
    asked = delivery_of(destination)
    run(services, asked)
    known = logged(services, asked)
    key = (known.destination_id, known.event_id)
    services.deliveries.log[key] = replace(
        known, attempts=(Attempt("2026-01-01T00:00:00.000Z", status=500),) * 30
    )

    services.clock.forward(seconds=1)
    webhooks.replay(*key, services)
    run(services, *sent(services))

    attempts = logged(services, asked).attempts
    assert len(attempts) == 20
    assert attempts[-1].status == 200


def test_what_was_taken_stays_so_when_the_attempt_is_forgotten(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """Whatever became of replays; and a late copy of the message is not sent again."""
    asked = delivery_of(destination)
    run(services, asked)
    known = logged(services, asked)
    key = (known.destination_id, known.event_id)
    failed = Attempt("2026-01-31T12:00:00.000Z", status=500)
    services.deliveries.log[key] = replace(known, attempts=(failed,) * 20)
    receiver.answers.append(500)
    services.clock.forward(hours=3)
    webhooks.replay(*key, services)
    [replayed] = sent(services)
    services.clock.forward(days=2)

    fail(services, replace(replayed, receive_count=MAX_TRIES))
    run(services, again(asked))

    assert logged(services, asked).state is DELIVERED
    assert len(receiver.received) == 2


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (301, 301),
        ((302, {"Location": "/elsewhere"}), 302),
        ((307, {"Location": "http://169.254.169.254/"}), 307),
        (400, 400),
        (404, 404),
        (500, 500),
        (lambda told: told.say(b"HTTP/1.1 101 Switching\r\n\r\n"), 101),
    ],
)
def test_everything_else_is_a_failure(
    services: FakeServices,
    receiver: Receiver,
    destination: Destination,
    answer: Any,
    status: int,
) -> None:
    """A redirect is never followed."""
    receiver.answers.append(answer)
    asked = delivery_of(destination)

    fail(services, asked)

    assert [attempt.status for attempt in logged(services, asked).attempts] == [status]
    assert len(receiver.received) == 1


def drip(told: Conversation, start: bytes) -> None:
    """A minute, a byte at a time, to whoever reads so long."""
    told.say(start, *[b"x"] * 3_000, every_s=0.02)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    "answer",
    [lambda told: told.server.hang(told), lambda told: drip(told, b"HTTP/1.1 200 OK\r\n")],
    ids=["hangs", "drips"],
)
def test_receiver_that_takes_too_long_is_logged(
    services: FakeServices,
    receiver: Receiver,
    destination: Destination,
    answer: Callable[[Conversation], object],
) -> None:
    """Nobody waits until it is done."""
    receiver.answers.append(answer)
    asked = delivery_of(destination)

    [failure] = fail(services, asked)

    [attempt] = logged(services, asked).attempts
    error = "The host took longer than the 0.3 s there are"
    assert (attempt.status, attempt.error, str(failure)) == (None, error, error)
    assert 300 <= attempt.duration_ms < 60_000


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 20", b"hello\r\n"])
def test_receiver_that_does_not_answer_is_logged(
    services: FakeServices, receiver: Receiver, destination: Destination, said: bytes
) -> None:
    """It breaks off, or says what is no HTTP."""
    receiver.answers.append(lambda told: told.say(said))
    asked = delivery_of(destination)

    [failure] = fail(services, asked)

    [attempt] = logged(services, asked).attempts
    error = "The host broke off, or what it answered is no HTTP"
    assert (attempt.status, attempt.error, str(failure)) == (None, error, error)


@pytest.mark.parametrize(
    "answer",
    [
        lambda told: drip(told, b"HTTP/1.1 200 OK\r\n\r\n"),
        lambda told: told.say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbye"),
        lambda told: told.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nwhat\r\n"),
        lambda told: told.say(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 500_000),
    ],
)
def test_status_says_whether_it_was_taken(
    services: FakeServices,
    receiver: Receiver,
    destination: Destination,
    answer: Callable[[Conversation], object],
) -> None:
    """Whatever becomes of the rest of an answer: nobody reads it."""
    receiver.answers.append(answer)
    asked = delivery_of(destination)

    run(services, asked)

    assert logged(services, asked).state is DELIVERED


def test_who_hangs_does_not_hold_up_the_others(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """Deliveries of a batch run side by side: nine hang until the tenth is answered."""
    hanging = [delivery_of(destination) for _ in range(9)]
    ids = [json.loads(each.body)["details"]["event_id"] for each in hanging]
    all_are_called, good_is_answered = threading.Barrier(10), threading.Event()

    def meet(told: Conversation) -> None:
        all_are_called.wait(TIMEOUT_S)
        if told.headers["webhook-id"] in ids:
            good_is_answered.wait(TIMEOUT_S)
            told.answer(500)
        else:
            told.answer(200)
            good_is_answered.set()

    receiver.otherwise = meet
    good = delivery_of(destination)

    fail(services, *hanging, good)

    assert logged(services, good).state is DELIVERED
    assert services.webhook_queue.deleted == [good]


def test_nothing_is_begun_with_too_little_time_left(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """It comes back, and nobody was called."""
    [failure] = fail(services, delivery_of(destination), seconds=14)

    assert isinstance(failure, OutOfTime)
    assert receiver.received == []
    assert services.deliveries.log == {}


def test_what_is_not_done_in_time_comes_back(
    services: FakeServices,
    receiver: Receiver,
    destination: Destination,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its lease keeps others away meanwhile."""
    monkeypatch.setattr(deliveries, "TIME_TO_DELIVER", timedelta())
    hangs, wait = threading.Event(), deliveries.wait

    def hang(told: Conversation) -> None:
        hangs.set()
        receiver.hang(told)

    def wait_once_it_hangs(work: Any, timeout: float) -> object:
        assert hangs.wait(TIMEOUT_S)
        return wait(work, timeout=timeout)

    monkeypatch.setattr(deliveries, "wait", wait_once_it_hangs)
    receiver.answers.append(hang)
    asked = delivery_of(destination)

    [failure] = fail(services, asked, seconds=3.3)
    assert isinstance(failure, TookTooLong)

    [busy] = fail(services, again(asked))
    assert str(busy) == "Another worker is at this delivery."
    assert 60 <= services.webhook_queue.handed_back[again(asked)] <= 75


def test_outage_of_aws_comes_back_by_the_schedule(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """Whatever fails: who is told cannot be read, the log cannot be written."""
    services.destinations.before("listed", Outage())
    first = delivery_of(destination, receive_count=2)
    fail(services, first, message(json.dumps(event())))
    assert 240 <= services.webhook_queue.handed_back[first] <= 360

    services.deliveries.before("save", Outage())
    fail(services, again(first))
    run(services, again(first))

    assert len(receiver.received) == 1


@pytest.mark.parametrize(
    "body",
    [
        "",
        "5",
        "[]",
        '"event_id"',
        "{}",
        '{"event_id": "a"}',
        json.dumps(event() | {"event_id": "short"}),
        json.dumps(event() | {"event_id": 7}),
        json.dumps(event() | {"event_type": None}),
        json.dumps(event() | {"event_time": "then"}),
        json.dumps({"details": event()}),
        json.dumps({"destination": "id", "details": "event_time"}),
    ],
)
def test_message_of_others_is_malformed(services: FakeServices, body: str) -> None:
    """It ends in the dead-letter queue, where somebody can look at it."""
    [failure] = fail(services, message(body))
    assert isinstance(failure, MalformedMessage)


def test_message_for_who_is_gone_is_dropped(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """Removed while something waited for it."""
    webhooks.remove(destination.destination_id, services)

    run(services, delivery_of(destination))

    assert receiver.received == []
    assert services.deliveries.log == {}


# ── at least once ────────────────────────────────────────────────────────────────────────────────


def test_message_that_comes_twice_is_sent_once(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """SQS and SNS deliver at least once; the log knows."""
    details = event()

    run(services, delivery_of(destination, details))
    run(services, delivery_of(destination, details))

    assert len(receiver.received) == 1


def test_two_workers_at_once_send_once(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """Who comes second is told when to come back, and finds it done."""
    asked = delivery_of(destination)
    failures: list[BaseException] = []

    def meet(told: Conversation) -> None:
        failures.extend(fail(services, asked))
        told.answer(200)

    receiver.answers.append(meet)
    run(services, asked)

    assert [str(each) for each in failures] == ["Another worker is at this delivery."]
    run(services, again(asked))
    assert len(receiver.received) == 1


def test_two_workers_that_begin_at_once_send_once(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """Between a worker's read and its write, another one takes the delivery on."""
    asked = delivery_of(destination)
    services.deliveries.before("save", lambda: run(services, asked))

    run(services, asked)

    assert len(receiver.received) == 1
    assert logged(services, asked).state is DELIVERED


@pytest.mark.parametrize("is_taken", [True, False])
def test_killed_at_any_call_it_is_delivered(
    services: FakeServices, receiver: Receiver, destination: Destination, *, is_taken: bool
) -> None:
    """After each kill the message comes again, once leases are over; at most one comes twice."""
    parts = {
        "listed": services.destinations,
        "circuit": services.destinations,
        "save_circuit": services.destinations,
        "get": services.deliveries,
        "save": services.deliveries,
        "delete": services.webhook_queue,
        "hand_back": services.webhook_queue,
    }
    kills: list[str] = []

    def kill() -> None:
        kills.append(call)
        raise Killed

    for call, fake in parts.items():
        for nth in range(3):
            receiver.received.clear()
            receiver.answers.extend([] if is_taken else [500])
            asked = delivery_of(destination)
            fake.before(call, *[lambda: None] * nth, kill)
            while not receiver.received or logged(services, asked).state is not DELIVERED:
                with suppress(BatchFailed, Killed):
                    run(services, asked)
                services.clock.forward(minutes=15)
            fake.forget()
            receiver.answers.clear()
            assert 1 <= len(receiver.received) <= 3
    assert len(kills) >= 6


def test_who_is_overtaken_does_not_undo_what_was_delivered(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """A worker that comes back from the dead after its lease fails, when another has delivered."""
    asked = delivery_of(destination)

    def overtake(told: Conversation) -> None:
        services.clock.forward(seconds=61)
        run(services, asked)
        told.answer(500)

    receiver.answers.append(overtake)
    fail(services, asked)

    assert logged(services, asked).state is DELIVERED
    assert [each.status for each in logged(services, asked).attempts] == [200, 500]


def test_log_that_is_forgotten_meanwhile_is_let_be(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """Thirty days are over just then."""

    def forget(told: Conversation) -> None:
        services.deliveries.log.clear()
        told.answer(200)

    receiver.answers.append(forget)
    run(services, delivery_of(destination))

    assert services.deliveries.log == {}


# ── what a destination asks for ──────────────────────────────────────────────────────────────────


def test_destination_that_is_gone_is_disabled(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """It is told nothing more, and what waits for it is given up, not tried."""
    waiting = delivery_of(destination)
    receiver.answers.extend([500, 410])
    fail(services, waiting)

    run(services, gone := delivery_of(destination))
    run(services, again(waiting), message(json.dumps(event())))

    assert fared(services, destination).disabled_for == "gone"
    assert (logged(services, gone).state, logged(services, waiting).state) == (GIVEN_UP, GIVEN_UP)
    assert logged(services, waiting).attempts[-1].error == "The webhook is disabled"
    assert len(receiver.received) == 2
    assert services.webhook_queue.sent == []


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("asked_s", "least", "most"), [(0, 4, 6), (90, 90, 110), (10**8, MAX_DELAY_S, MAX_DELAY_S)]
)
def test_busy_destination_says_when_to_come_back(
    services: FakeServices,
    receiver: Receiver,
    destination: Destination,
    *,
    status: int,
    asked_s: int,
    least: int,
    most: int,
) -> None:
    """Up to twelve hours. Nobody else calls it meanwhile either."""
    receiver.answers.append((status, {"Retry-After": str(asked_s)}))
    asked, other = delivery_of(destination), delivery_of(destination)

    fail(services, asked)

    assert least <= services.webhook_queue.handed_back[asked] <= most
    if asked_s:
        fail(services, other)
        assert services.webhook_queue.handed_back[other] >= least
        assert len(receiver.received) == 1


@pytest.mark.parametrize(
    ("status", "retry_after", "least", "most"),
    [
        (503, lambda now: format_datetime(now + timedelta(hours=1)), 3590, 4330),
        (503, lambda now: format_datetime(now - timedelta(hours=1)), 4, 6),
        (503, lambda _: "Sun, 06 Nov 1994 08:49:37", 4, 6),
        (503, lambda _: "soon", 4, 6),
        (503, lambda _: "-7", 4, 6),
        (503, lambda _: "9" * 400, 4, 6),
        (503, lambda _: f"Mon, 01 Jan 2024 00:00:00 +{'9' * 20}", 4, 6),
        (500, lambda _: "3600", 4, 6),
    ],
)
def test_retry_after_is_read_as_http_has_it(
    services: FakeServices,
    receiver: Receiver,
    destination: Destination,
    *,
    status: int,
    retry_after: Callable[[datetime], str],
    least: int,
    most: int,
) -> None:
    """A date, too; what is none, or stands with another status, changes nothing."""
    receiver.answers.append((status, {"Retry-After": retry_after(services.clock())}))
    asked = delivery_of(destination)

    fail(services, asked)

    assert least <= services.webhook_queue.handed_back[asked] <= most


def test_retry_after_prolongs_a_pause(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """Of what was under way when the destination was paused; it never shortens one."""
    hour = timestamp(services.clock() + timedelta(hours=1))

    def meet(told: Conversation) -> None:
        break_circuit(services, receiver, destination)
        told.answer(503, {"Retry-After": "3600"})

    receiver.answers.append(meet)
    fail(services, delivery_of(destination))
    assert fared(services, destination) == replace(
        fared(services, destination), paused_until=hour, failures=FAILURES_TO_PAUSE
    )


# ── mails ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def reader(services: FakeServices) -> Destination:
    """Somebody who is told everything by mail."""
    url = "mailto:ada@example.com"
    reader = Destination(digest(url), url, is_configured=True)
    services.webhook_terms = replace(
        services.webhook_terms, configured=(reader,), mail_from="Us <us@example.com>"
    )
    return reader


def processed(services: FakeServices) -> dict[str, Any]:
    """What is told of an image whose renditions are in the bucket."""
    uploaded(services)
    return services.topic.published[-1].details


def test_person_is_mailed_what_a_system_is_called_for(
    services: FakeServices, receiver: Receiver, destination: Destination, reader: Destination
) -> None:
    """One announcement, each its way; the log of either says that it was taken."""
    details = processed(services)
    run(services, message(json.dumps(details)))
    asked = sent(services)

    run(services, *asked)

    [(sender, recipient, mail)] = services.mailer.sent
    assert (sender, recipient) == ("Us <us@example.com>", "ada@example.com")
    parts = [each.get_content_type() for each in message_from_bytes(mail).walk()]
    assert parts[-1] == "image/jpeg"
    [got] = receiver.received
    assert got.payload["data"] == details
    assert {json.loads(each.body)["destination"] for each in asked} == {
        destination.destination_id,
        reader.destination_id,
    }
    for each in asked:
        assert logged(services, each).state is DELIVERED
        assert [attempt.status for attempt in logged(services, each).attempts] == [200]


def test_mail_is_sent_without_a_thumbnail_that_is_gone(
    services: FakeServices, reader: Destination
) -> None:
    """The image was processed anew, or deleted, since."""
    details = processed(services)
    services.renditions.stored.clear()

    run(services, delivery_of(reader, details))

    [(_, _, mail)] = services.mailer.sent
    assert b"Content-Type: image" not in mail


def test_mail_that_is_not_taken_is_tried_again(services: FakeServices, reader: Destination) -> None:
    """As a call that was not answered: with its reason in the log, a day long, and a pause."""
    services.mailer.before("send", *[NotMailed("SES has not taken it: MessageRejected")] * 5)
    ids = [{"event_id": digest(f"mail {number}")} for number in range(FAILURES_TO_PAUSE)]
    asked = [delivery_of(reader, each) for each in map(processed(services).__or__, ids)]
    for each in asked:
        [failure] = fail(services, each)
        assert isinstance(failure, NotDelivered)

    log = logged(services, asked[0])
    assert log.state is WAITING
    assert [(each.status, each.error) for each in log.attempts] == [
        (None, "SES has not taken it: MessageRejected")
    ]
    end_of_pause(services, reader)
    run(services, again(asked[0]))

    assert logged(services, asked[0]).state is DELIVERED
    assert fared(services, reader).failures == 0
    assert len(services.mailer.sent) == 1


def test_nobody_is_mailed_without_a_sender(services: FakeServices, reader: Destination) -> None:
    """The log says which setting is missing."""
    services.webhook_terms = WebhookTerms(configured=(reader,))

    fail(services, asked := delivery_of(reader))

    assert "MAIL_FROM" in (logged(services, asked).attempts[0].error or "")
    assert services.mailer.sent == []


def test_test_mail_reaches_its_address(services: FakeServices, reader: Destination) -> None:
    """It is about no image."""
    webhooks.send_test(reader.destination_id, services)

    run(services, *sent(services))

    assert len(services.mailer.sent) == 1


# ── what receivers copy ───────────────────────────────────────────────────────────────────────────

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "webhooks.md").read_text()


def documented(language: str) -> str:
    [code] = re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)
    return str(code)


def signed(body: bytes, sent_at: float, secret: str = SECRET) -> dict[str, str]:
    at = str(int(sent_at))
    return {
        "webhook-id": "a",
        "webhook-timestamp": at,
        "webhook-signature": f"v1,b2xk {deliveries.signature(secret, 'a', at, body)}",
    }


OTHER = "whsec_AAAAr8GKYqrTwjUPD8ILPZIo2LaLaSwN5o3oXv1GYs0="


@pytest.mark.parametrize(
    ("age_s", "secret", "changed", "is_ours"),
    [
        (0, SECRET, b"", True),
        (0, OTHER, b"", False),
        (0, SECRET, b" ", False),
        (310, SECRET, b"", False),
        (-600, SECRET, b"", False),  # of which a slow machine may take some
    ],
)
@pytest.mark.parametrize("language", ["python", "javascript"])
def test_documented_code_verifies(
    language: str, age_s: int, secret: str, changed: bytes, *, is_ours: bool
) -> None:
    """What receivers copy takes what is ours, and nothing else."""
    body = '{"key": "🦊"}'.encode()
    headers = signed(body, time.time() - age_s, secret)
    if language == "python":
        names: dict[str, Any] = {}
        exec(documented(language), names)  # noqa: S102 - it is ours
        if is_ours:
            assert names["verified"](body + changed, headers, SECRET) == {"key": "🦊"}
        else:
            with pytest.raises(ValueError, match=r"too old|not signed"):
                names["verified"](body + changed, headers, SECRET)
        return
    if (node := shutil.which("node")) is None:
        pytest.skip("node runs it")
    told = json.dumps({"body": (body + changed).decode(), "headers": headers, "secret": SECRET})
    script = (
        f"{documented(language)}\nconst t = {told};\n"
        "console.log(verified(Buffer.from(t.body), t.headers, t.secret).key);"
    )
    run = subprocess.run([node, "-e", script], capture_output=True, text=True, check=False)
    assert (run.stdout == "🦊\n") is is_ours, run.stderr
    assert is_ours or re.search("Error: (too old|not signed)", run.stderr)


# ── who vouches for a receiver ────────────────────────────────────────────────────────────────────


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Certificate and key of ``localhost``, signed by itself."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl makes the certificate")
    path = tmp_path / "both.pem"
    command = (
        f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 "
        f"-subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout {path} -out {path}.crt"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


def test_https_is_verified(
    services: FakeServices,
    receiver: Receiver,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A certificate that nobody vouches for is a failure; one that somebody does is not."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    receiver.socket = tls.wrap_socket(receiver.socket, server_side=True)
    url = receiver.url.replace("http://127.0.0.1", "https://localhost")
    # On most machines that is ::1, too.
    services.webhook_terms = WebhookTerms(allowed_networks=("127.0.0.0/8", "::1/128"))
    destination = webhooks.register(url, (), (), "", services)
    receiver.secrets = [destination.secrets[0].value]
    asked = delivery_of(destination)
    fail(services, asked)
    assert (logged(services, asked).attempts[0].error or "").startswith(
        "The host has no certificate that is valid for its name"
    )

    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    outbound.default_tls.cache_clear()
    run(services, again(asked))
    outbound.default_tls.cache_clear()

    assert len(receiver.received) == 1
