"""Destinations, circuits and the log of deliveries, as DynamoDB keeps them."""

import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from chalicelib import webhooks
from chalicelib.aws.catalog import Catalog
from chalicelib.aws.destinations import Deliveries, Destinations
from chalicelib.aws.queue import Queue
from chalicelib.deliveries import MAX_TRIES, deliver_batch
from chalicelib.errors import BatchFailed, InvalidRequest, StaleRevision
from chalicelib.model import (
    Attempt,
    Circuit,
    Delivery,
    DeliveryState,
    Destination,
    Query,
    Secret,
    digest,
)
from chalicelib.services import WebhookTerms
from tests.adapters.conftest import Operations
from tests.adapters.test_queue import held, new_queue, received
from tests.fakes import Outage
from tests.receiver import Receiver, listening
from tests.waiting import TIMEOUT_S

NUMBERS = count(1)
DESTINATION = Destination(
    digest("one"),
    "https://example.com/hook?token=x",
    secrets=(Secret("whsec_new"), Secret("whsec_old", until="2026-02-01T09:15:00.000Z")),
    statuses=("COMPLETED", "FAILED"),
    labels=("Cat", "Polar Bear"),
    description="söme",
    created_at="2026-01-31T09:15:00.000Z",
)
PAUSED = Circuit(failures=5, paused_until="2026-01-31T09:25:00.000Z", disabled_for="gone")


@pytest.fixture
def destinations(client_of: Callable[[str], Any], table: str) -> Destinations:
    return Destinations(client_of("dynamodb"), table)


@pytest.fixture
def deliveries(client_of: Callable[[str], Any], table: str) -> Deliveries:
    return Deliveries(client_of("dynamodb"), table)


@pytest.fixture(autouse=True)
def operations(destinations: Destinations) -> Iterator[Operations]:
    """What is asked of DynamoDB. A scan fails the test."""
    with Operations(destinations.client) as operations:
        yield operations


def delivery(number: int = 1, destination_id: str = DESTINATION.destination_id) -> Delivery:
    """One a second."""
    return Delivery(
        destination_id=destination_id,
        event_id=digest(f"event {number}"),
        event_type="image.completed",
        event_time=f"2026-01-31T09:{number // 60:02}:{number % 60:02}.000Z",
        image_id=digest("uploads/cat.jpg"),
        payload=zlib.compress(json.dumps({"number": number}).encode()),
    )


# ── destinations ─────────────────────────────────────────────────────────────────────────────────


def test_destination_is_read_as_it_was_saved(destinations: Destinations) -> None:
    """With how it fares; without it, as one that has never failed."""
    saved = destinations.save(DESTINATION, previous=None)
    assert saved == replace(DESTINATION, revision=1)
    assert destinations.listed(()) == [saved]

    circuit = destinations.save_circuit(DESTINATION.destination_id, PAUSED, previous=Circuit())
    assert circuit == replace(PAUSED, revision=1)
    assert destinations.circuit(DESTINATION.destination_id) == circuit
    assert destinations.listed(()) == [replace(saved, circuit=circuit)]


def test_saving_a_destination_leaves_how_it_fares(destinations: Destinations) -> None:
    """Somebody may have failed to reach it since it was read."""
    saved = destinations.save(DESTINATION, previous=None)
    circuit = destinations.save_circuit(DESTINATION.destination_id, PAUSED, previous=Circuit())

    destinations.save(replace(saved, description="other"), previous=saved)

    [listed] = destinations.listed(())
    assert (listed.description, listed.revision, listed.circuit) == ("other", 2, circuit)


def test_destination_is_only_written_as_it_was_read(destinations: Destinations) -> None:
    """Whoever was faster wins, with destinations and circuits alike."""
    saved = destinations.save(DESTINATION, previous=None)
    with pytest.raises(StaleRevision):
        destinations.save(DESTINATION, previous=None)
    destinations.save(saved, previous=saved)
    with pytest.raises(StaleRevision):
        destinations.save(saved, previous=saved)

    circuit = destinations.save_circuit("x", PAUSED, previous=Circuit())
    with pytest.raises(StaleRevision):
        destinations.save_circuit("x", PAUSED, previous=Circuit())
    destinations.save_circuit("x", Circuit(), previous=circuit)
    with pytest.raises(StaleRevision):
        destinations.save_circuit("x", PAUSED, previous=circuit)


def test_error_of_dynamodb_is_left_as_it_is(
    destinations: Destinations, operations: Operations
) -> None:
    """Only a refused condition says that the record has changed."""
    operations.before("dynamodb.PutItem", Outage())
    with pytest.raises(Outage):
        destinations.save(DESTINATION, previous=None)


def test_destinations_are_listed_oldest_first_behind_those_of_the_settings(
    destinations: Destinations, operations: Operations
) -> None:
    """Over more than one answer of DynamoDB; those of the settings have circuits, too."""
    operations.add_parameters("dynamodb.Query", Limit=2)
    for number in (3, 1, 2):
        each = replace(
            DESTINATION,
            destination_id=digest(f"{number}"),
            created_at=f"2026-01-3{number - 1}T09:15:00.000Z",
        )
        destinations.save(each, previous=None)
    configured = Destination("c", "https://example.org", is_configured=True)
    circuit = destinations.save_circuit("c", PAUSED, previous=Circuit())

    listed = destinations.listed([configured])

    assert listed[0] == replace(configured, circuit=circuit)
    assert [each.destination_id for each in listed[1:]] == [digest(each) for each in "123"]


def test_removed_destination_is_gone_with_how_it_fared(destinations: Destinations) -> None:
    """Also when it is removed twice."""
    destinations.save(DESTINATION, previous=None)
    destinations.save_circuit(DESTINATION.destination_id, PAUSED, previous=Circuit())

    for _ in range(2):
        destinations.remove(DESTINATION.destination_id)

    assert destinations.listed(()) == []
    assert destinations.circuit(DESTINATION.destination_id) == Circuit()


# ── deliveries ───────────────────────────────────────────────────────────────────────────────────


def test_delivery_is_read_as_it_was_saved(deliveries: Deliveries) -> None:
    """With its payload, byte by byte."""
    assert deliveries.get(DESTINATION.destination_id, delivery().event_id) is None
    attempts = (Attempt("then", 12, status=500), Attempt("now", error="The host broke off"))
    full = replace(
        delivery(),
        state=DeliveryState.GIVEN_UP,
        attempts=attempts,
        next_try_at="2026-01-31T09:25:00.000Z",
        leased_until="2026-01-31T09:26:00.000Z",
    )

    saved = deliveries.save(full, previous=None)

    assert saved == replace(full, revision=1)
    assert deliveries.get(full.destination_id, full.event_id) == saved
    assert deliveries.get("other", full.event_id) is None


def test_delivery_is_only_written_as_it_was_read(deliveries: Deliveries) -> None:
    """So two workers do not take the same on."""
    saved = deliveries.save(delivery(), previous=None)
    with pytest.raises(StaleRevision):
        deliveries.save(delivery(), previous=None)
    deliveries.save(saved, previous=saved)
    with pytest.raises(StaleRevision):
        deliveries.save(saved, previous=saved)


def test_delivery_is_forgotten_after_thirty_days(deliveries: Deliveries, table: str) -> None:
    """By the attribute that the table's time to live goes by."""
    deliveries.save(delivery(), previous=None)

    entry = deliveries.client.get_item(
        TableName=table,
        Key={
            "pk": {"S": f"DELIVERIES#{DESTINATION.destination_id}"},
            "sk": {"S": delivery().event_id},
        },
    )["Item"]
    expires_at = datetime.fromtimestamp(int(entry["expires_at"]["N"]), UTC)
    assert expires_at == datetime.fromisoformat(delivery().event_time) + timedelta(days=30)


def test_deliveries_are_paged_newest_first(deliveries: Deliveries) -> None:
    """Each once, whatever is tried meanwhile, without payloads, and none of another destination."""
    for number in range(25):
        deliveries.save(delivery(number), previous=None)
        deliveries.save(delivery(number, "other"), previous=None)
    seen: list[Delivery] = []
    cursor = None
    while True:
        page = deliveries.page(DESTINATION.destination_id, 10, cursor)
        seen += page.deliveries
        deliveries.save(delivery(100 + len(seen)), previous=None)
        if (cursor := page.cursor) is None:
            break

    assert [each.event_id for each in seen] == [
        delivery(number).event_id for number in reversed(range(25))
    ]
    assert {each.payload for each in seen} == {b""}


def test_no_delivery_is_an_empty_page(deliveries: Deliveries, operations: Operations) -> None:
    """Nothing is read for it but the list."""
    page = deliveries.page(DESTINATION.destination_id, 10, None)
    assert (page.deliveries, page.cursor) == ((), None)
    assert operations.made == ["Query"]


@pytest.mark.parametrize("cursor", ["x", "0", f"{10**13}.{digest('a')}"])
def test_cursor_of_others_is_refused(deliveries: Deliveries, cursor: str) -> None:
    """Nothing else becomes a key."""
    with pytest.raises(InvalidRequest, match="cursor"):
        deliveries.page(DESTINATION.destination_id, 10, cursor)


def test_deliveries_are_no_images(deliveries: Deliveries, catalog: Catalog) -> None:
    """They share a table and an index, and nothing else."""
    deliveries.save(delivery(), previous=None)

    assert catalog.browse(Query(limit=10)).images == ()
    assert sum(catalog.totals().images.values()) == 0


# ── all of it ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """One that may take its time."""
    for limit in ("CONNECT_TIMEOUT_S", "TOTAL_TIMEOUT_S"):
        monkeypatch.setattr(f"chalicelib.deliveries.{limit}", TIMEOUT_S)
    with listening() as receiver:
        yield receiver


@pytest.fixture
def queues(client_of: Callable[[str], Any]) -> Iterator[tuple[Queue, Queue]]:
    """A queue of webhooks, and where its messages go when they have been received enough."""
    dead = new_queue(client_of)
    arn = dead.client.get_queue_attributes(QueueUrl=dead.url, AttributeNames=["QueueArn"])
    policy = {
        "deadLetterTargetArn": arn["Attributes"]["QueueArn"],
        "maxReceiveCount": MAX_TRIES,
    }
    queue = new_queue(client_of, RedrivePolicy=json.dumps(policy))
    yield queue, dead
    for each in (queue, dead):
        each.client.delete_queue(QueueUrl=each.url)


@pytest.fixture
def services(
    destinations: Destinations, deliveries: Deliveries, queues: tuple[Queue, Queue]
) -> Any:
    return SimpleNamespace(
        destinations=destinations,
        deliveries=deliveries,
        webhook_queue=queues[0],
        webhook_terms=WebhookTerms(allowed_networks=("127.0.0.0/8",)),
        clock=lambda: datetime.now(UTC),
    )


def announce(queue: Queue) -> str:
    """As SNS does, with raw message delivery."""
    event_id = digest(f"announced {next(NUMBERS)}")
    details = {
        "event_id": event_id,
        "event_type": "image.completed",
        "event_time": "2026-01-31T09:15:00.000Z",
        "key": "uploads/🦊.jpg",
    }
    queue.client.send_message(QueueUrl=queue.url, MessageBody=json.dumps(details))
    return event_id


def work(services: Any, number: int) -> None:
    """Receive so many messages, and do with them what Lambda does."""
    messages = received(services.webhook_queue, number)
    deliver_batch(messages, timedelta(seconds=30), services)
    services.webhook_queue.delete(messages)


def test_announcement_reaches_its_destinations(services: Any, receiver: Receiver) -> None:
    """From the queue to receivers and into the log, with a replay."""
    made = [webhooks.register(receiver.url, (), (), "", services) for _ in range(3)]
    event_id = announce(services.webhook_queue)

    work(services, 1)
    work(services, 3)

    assert len(receiver.received) == 3
    first = receiver.received[0]
    receiver.secrets = [made[0].secrets[0].value]
    webhooks.replay(made[0].destination_id, event_id, services)
    work(services, 1)
    replayed = receiver.received[3]
    assert replayed.payload["data"]["key"] == "uploads/🦊.jpg"
    assert replayed.body == first.body
    for each in made:
        [log] = webhooks.deliveries(each.destination_id, 10, None, services).deliveries
        assert (log.event_id, log.state) == (event_id, DeliveryState.DELIVERED)
    assert held(services.webhook_queue) == {}


def test_what_is_never_taken_is_a_dead_letter(
    services: Any,
    receiver: Receiver,
    queues: tuple[Queue, Queue],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After as many tries as the log says."""
    monkeypatch.setattr("chalicelib.deliveries.RETRY_DELAYS_S", (0,) * (MAX_TRIES - 1))
    monkeypatch.setattr("chalicelib.circuits.FAILURES_TO_PAUSE", 100)
    made = webhooks.register(receiver.url, (), (), "", services)
    receiver.secrets = [made.secrets[0].value]
    receiver.otherwise = 500
    event_id = announce(services.webhook_queue)
    work(services, 1)

    for _ in range(MAX_TRIES):
        with pytest.raises(BatchFailed):
            work(services, 1)

    queue, dead = queues
    assert queue.client.receive_message(QueueUrl=queue.url).get("Messages", []) == []
    [letter] = received(dead, 1)
    assert json.loads(letter.body)["details"]["event_id"] == event_id
    known = services.deliveries.get(made.destination_id, event_id)
    assert known.state is DeliveryState.GIVEN_UP
    assert [attempt.status for attempt in known.attempts] == [500] * MAX_TRIES
