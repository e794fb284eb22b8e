"""How destinations fare, over fakes of AWS and a real receiver."""

from collections import Counter
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from chalicelib.circuits import FAILURES_TO_PAUSE, pause_s
from chalicelib.deliveries import MAX_DELAY_S, MAX_TRIES
from chalicelib.errors import BatchFailed, NotDelivered, StaleRevision
from chalicelib.messages import timestamp
from chalicelib.model import Destination, digest
from tests.deliveries import (
    DELIVERED,
    GIVEN_UP,
    WAITING,
    again,
    break_circuit,
    delivery_of,
    end_of_pause,
    event,
    fail,
    fared,
    logged,
    run,
)
from tests.fakes import FakeServices, Killed
from tests.receiver import Conversation, Receiver


def test_destination_that_fails_again_and_again_is_paused(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """What comes meanwhile is held back, logged, and comes back once the pause is over."""
    break_circuit(services, receiver, destination)
    circuit = fared(services, destination)
    left = datetime.fromisoformat(circuit.paused_until or "") - services.clock()
    assert circuit.failures == FAILURES_TO_PAUSE
    assert timedelta(minutes=10) <= left <= timedelta(minutes=12)

    asked = delivery_of(destination)
    [failure] = fail(services, asked)

    assert isinstance(failure, NotDelivered)
    assert receiver.received == []
    held = services.webhook_queue.handed_back[asked]
    assert left.total_seconds() <= held <= left.total_seconds() * 1.2 + 1
    log = logged(services, asked)
    assert log.state is WAITING
    assert [(each.status, each.error, each.is_held) for each in log.attempts] == [
        (None, f"Held back: the webhook is paused until {circuit.paused_until}", True)
    ]


def test_failure_that_pauses_comes_back_after_the_pause(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """Else it would only be held back, and lose a try."""
    receiver.answers.extend([500] * FAILURES_TO_PAUSE)
    for _ in range(FAILURES_TO_PAUSE):
        fail(services, last := delivery_of(destination))

    assert services.webhook_queue.handed_back[last] >= 600


def test_to_be_held_back_costs_no_try(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """Received as often as SQS lets it, a copy takes its place, and comes within 15 minutes."""
    break_circuit(services, receiver, destination)
    asked = delivery_of(destination, receive_count=MAX_TRIES)

    run(services, asked)

    assert logged(services, asked).state is WAITING
    assert 600 <= services.webhook_queue.postponed[asked] <= 900
    assert services.webhook_queue.handed_back == {}


def test_what_is_held_back_for_two_days_is_given_up(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """It is in the dead-letter queue, and the log says so; but nothing before it was tried."""
    services.clock.forward(days=2)
    break_circuit(services, receiver, destination)
    asked = delivery_of(destination, receive_count=MAX_TRIES)
    for _ in range(3):
        receiver.answers.append(500)
        fail(services, asked)

    assert [each.is_held for each in logged(services, asked).attempts] == [False, True, True]
    assert logged(services, asked).state is GIVEN_UP
    assert services.webhook_queue.handed_back == {asked: 0}


def test_destination_that_fails_in_part_loses_nothing_untried(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """Half of the messages are refused, again and again: the others are all taken."""
    wrong = {digest(f"wrong {number}") for number in range(30)}
    receiver.otherwise = lambda told: told.answer(
        500 if told.headers["webhook-id"] in wrong else 200
    )
    right = {digest(f"right {number}") for number in range(30)}
    now = timestamp(services.clock())
    due = {
        delivery_of(destination, event(event_id=each, event_time=now)): services.clock()
        for each in sorted(wrong | right)
    }
    while due:
        first = min(due, key=lambda each: due[each])
        services.clock.now = max(services.clock.now, due.pop(first))
        queue = services.webhook_queue
        queue.handed_back.clear()
        queue.postponed.clear()
        with suppress(BatchFailed):
            run(services, first)
        if wait_s := queue.handed_back.get(first):
            due[again(first)] = services.clock() + timedelta(seconds=wait_s)
        if wait_s := queue.postponed.get(first):
            copied = replace(first, receive_count=1)
            due[copied] = services.clock() + timedelta(seconds=wait_s)

    states = {each.event_id: each.state for each in services.deliveries.log.values()}
    assert {states[each] for each in right} == {DELIVERED}
    tried = Counter(each.headers["webhook-id"] for each in receiver.received)
    assert max(tried.values()) < 2 * MAX_TRIES


def test_one_delivery_finds_out_and_success_resumes(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """When the pause is over, the others wait until it is known."""
    break_circuit(services, receiver, destination)
    end_of_pause(services, destination)
    others = [delivery_of(destination) for _ in range(4)]
    probe = delivery_of(destination)

    def meet(told: Conversation) -> None:
        fail(services, *others)
        told.answer(200)

    receiver.answers.append(meet)
    run(services, probe)

    assert len(receiver.received) == 1
    assert fared(services, destination).paused_until is None
    assert all(60 <= services.webhook_queue.handed_back[other] <= 75 for other in others)
    run(services, *map(again, others))
    assert len(receiver.received) == 5


def test_of_those_that_come_at_once_one_finds_out(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """In one batch, too; each of the others waits."""
    break_circuit(services, receiver, destination)
    end_of_pause(services, destination)
    receiver.otherwise = 500

    fail(services, *(delivery_of(destination) for _ in range(8)))

    assert len(receiver.received) == 1


def test_pause_is_twice_as_long_when_it_has_not_helped(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """Up to six hours, and up to a fifth more."""
    break_circuit(services, receiver, destination)
    for hours in (1 / 3, 2 / 3, 4 / 3, 8 / 3, 16 / 3, 6, 6):
        end_of_pause(services, destination)
        receiver.answers.append(500)
        fail(services, asked := delivery_of(destination))
        paused = datetime.fromisoformat(fared(services, destination).paused_until or "")
        assert timedelta(hours=hours) <= paused - services.clock() <= timedelta(hours=hours * 1.2)
        assert services.webhook_queue.handed_back[asked] <= MAX_DELAY_S
    assert pause_s(10_000) <= 7.2 * 3600


def test_failures_of_one_batch_count_as_one_pause(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """What was under way when the destination was paused does not prolong that."""
    receiver.otherwise = 500

    fail(services, *(delivery_of(destination) for _ in range(10)))

    assert fared(services, destination).failures == FAILURES_TO_PAUSE
    paused = datetime.fromisoformat(fared(services, destination).paused_until or "")
    assert paused - services.clock() <= timedelta(minutes=12)


def test_worker_that_dies_while_it_finds_out_is_followed_by_another(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """The next does, a minute later."""
    break_circuit(services, receiver, destination)
    end_of_pause(services, destination)
    services.deliveries.before("save", lambda: None, Killed())
    fail(services, delivery_of(destination))
    receiver.received.clear()
    # It has resumed the destination already, or has not come to that.
    services.clock.forward(seconds=61)

    run(services, delivery_of(destination))

    assert len(receiver.received) == 1


def test_circuit_is_changed_as_it_is_now(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """Whoever was faster is counted, too."""
    services.destinations.before("save_circuit", StaleRevision())
    receiver.answers.append(500)

    fail(services, delivery_of(destination))

    assert fared(services, destination).failures == 1
