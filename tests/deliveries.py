"""Messages that ask for deliveries, batches of them, and what has come of them."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest

from chalicelib.circuits import FAILURES_TO_PAUSE
from chalicelib.deliveries import Job, deliver_batch
from chalicelib.errors import BatchFailed
from chalicelib.messages import WorkMessage
from chalicelib.model import Circuit, Delivery, DeliveryState, Destination, digest
from tests.fakes import FakeServices
from tests.receiver import Receiver

NUMBERS = count(1)
DELIVERED, WAITING, GIVEN_UP = (
    DeliveryState.DELIVERED,
    DeliveryState.WAITING,
    DeliveryState.GIVEN_UP,
)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwN5o3oXv1GYs="  # noqa: S105 - nobody's


def event(kind: str = "image.completed", **details: Any) -> dict[str, Any]:
    """What is told of an image; no two are the same."""
    return {
        "image_id": digest("uploads/cat.jpg"),
        "status": kind.rpartition(".")[2].upper(),
        "labels": [],
        "event_id": digest(f"event {next(NUMBERS)}"),
        "event_type": kind,
        "event_version": "1",
        "event_time": "2026-01-31T09:14:59.000Z",
    } | details


def labelled(*names: str, kind: str = "image.completed") -> dict[str, Any]:
    return event(kind, labels=[{"name": name, "parents": []} for name in names])


def message(body: str, receive_count: int = 1) -> WorkMessage:
    number = next(NUMBERS)
    return WorkMessage(f"message-{number}", f"receipt-{number}", body, receive_count)


def delivery_of(
    destination: Destination, details: dict[str, Any] | None = None, receive_count: int = 1
) -> WorkMessage:
    """The message that asks for a delivery."""
    return message(Job(destination.destination_id, details or event()).body, receive_count)


def again(message: WorkMessage) -> WorkMessage:
    return replace(message, receive_count=message.receive_count + 1)


def run(services: FakeServices, *messages: WorkMessage, seconds: float = 30) -> None:
    deliver_batch(messages, timedelta(seconds=seconds), services)


def fail(
    services: FakeServices, *messages: WorkMessage, seconds: float = 30
) -> tuple[BaseException, ...]:
    """The failures of a batch that has some."""
    with pytest.raises(BatchFailed) as raised:
        run(services, *messages, seconds=seconds)
    return raised.value.failures


def logged(services: FakeServices, message: WorkMessage) -> Delivery:
    members = json.loads(message.body)
    key = (members["destination"], members["details"]["event_id"])
    return services.deliveries.log[key]


def fared(services: FakeServices, destination: Destination) -> Circuit:
    return services.destinations.circuits.get(destination.destination_id, Circuit())


def sent(services: FakeServices) -> list[WorkMessage]:
    """What waits in the queue, taken off it."""
    waiting, services.webhook_queue.sent = services.webhook_queue.sent, []
    return [message(body) for body in waiting]


def break_circuit(services: FakeServices, receiver: Receiver, destination: Destination) -> None:
    """As many failures as pause a destination."""
    receiver.answers.extend([500] * FAILURES_TO_PAUSE)
    for _ in range(FAILURES_TO_PAUSE):
        fail(services, delivery_of(destination))
    receiver.received.clear()
    services.webhook_queue.handed_back.clear()


def end_of_pause(services: FakeServices, destination: Destination) -> None:
    services.clock.now = datetime.fromisoformat(fared(services, destination).paused_until or "")
