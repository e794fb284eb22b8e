"""Who is told, over fakes of AWS and a real receiver, which verifies all that it gets."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from chalicelib import logs, webhooks
from chalicelib.deliveries import MAX_TRIES
from chalicelib.errors import (
    DeliveryNotFound,
    DestinationIsConfigured,
    DestinationNotFound,
    InvalidRequest,
    TooManyDestinations,
    TooManyRotations,
)
from chalicelib.messages import timestamp
from chalicelib.model import Circuit, Destination, Secret, digest
from chalicelib.services import WebhookTerms
from tests.deliveries import (
    DELIVERED,
    GIVEN_UP,
    SECRET,
    WAITING,
    again,
    break_circuit,
    delivery_of,
    event,
    fail,
    fared,
    logged,
    message,
    run,
    sent,
)
from tests.fakes import FakeServices
from tests.receiver import Receiver

# ── who is told ──────────────────────────────────────────────────────────────────────────────────


def test_destination_is_registered_with_a_secret(
    services: FakeServices, receiver: Receiver
) -> None:
    """Found by its id, which nobody can guess, until it is removed."""
    made = webhooks.register(receiver.url, ["FAILED"], ["Cat"], "mine", services)

    assert made == Destination(
        made.destination_id,
        receiver.url,
        secrets=made.secrets,
        statuses=("FAILED",),
        labels=("Cat",),
        description="mine",
        created_at=timestamp(services.clock()),
        revision=1,
    )
    assert webhooks.find(made.destination_id, services) == made
    webhooks.remove(made.destination_id, services)
    with pytest.raises(DestinationNotFound):
        webhooks.find(made.destination_id, services)


def test_destination_is_changed_in_what_is_given(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """And in nothing else, whoever changes it meanwhile."""
    services.destinations.before(
        "save", lambda: webhooks.rotate(destination.destination_id, services)
    )

    changed = webhooks.change(
        destination.destination_id, services, statuses=["DELETED"], labels=["Dog"]
    )

    assert (changed.statuses, changed.labels, changed.description) == (
        ("DELETED",),
        ("Dog",),
        "mine",
    )
    assert len(changed.secrets) == 2
    elsewhere = f"{receiver.url}/2"
    again = webhooks.change(
        destination.destination_id, services, url=elsewhere, description="", labels=[]
    )
    assert (again.url, again.description, again.labels) == (elsewhere, "", ())
    assert again.statuses == ("DELETED",)


@pytest.mark.parametrize(
    ("wrong", "parameter"),
    [
        ({"statuses": ["SEEN"]}, "statuses"),
        ({"labels": [""]}, "labels"),
        ({"labels": ["x" * 101]}, "labels"),
        ({"labels": ["x"] * 51}, "labels"),
        ({"labels": ["🦊" * 100] * 50}, "labels"),
        ({"description": "x" * 201}, "description"),
        ({"url": "https://10.0.0.1/"}, "url"),
    ],
)
def test_destination_that_cannot_be_so_is_refused(
    services: FakeServices, destination: Destination, wrong: dict[str, Any], parameter: str
) -> None:
    """What is wrong is named, by its parameter."""
    with pytest.raises(InvalidRequest) as refusal:
        webhooks.change(destination.destination_id, services, **wrong)
    assert list(refusal.value.parameters) == [parameter]
    given = {"url": destination.url, "statuses": (), "labels": (), "description": ""} | wrong
    with pytest.raises(InvalidRequest):
        webhooks.register(**given, services=services)


def test_destinations_are_few(services: FakeServices, receiver: Receiver) -> None:
    """As many as one reads at once; those of the settings do not count."""
    services.webhook_terms = replace(
        services.webhook_terms, configured=(Destination("c", "url", is_configured=True),)
    )
    for number in range(100):
        services.destinations.registered[f"{number}"] = Destination(f"{number}", receiver.url)
    with pytest.raises(TooManyDestinations, match="100"):
        webhooks.register(receiver.url, (), (), "", services)

    webhooks.remove("7", services)
    webhooks.register(receiver.url, (), (), "", services)


def test_destination_is_disabled_and_resumed_by_hand(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """Resuming forgets every failure, too."""
    break_circuit(services, receiver, destination)
    disabled = webhooks.disable(destination.destination_id, services)
    assert (disabled.is_disabled, disabled.circuit.disabled_for) == (True, "by_hand")
    run(services, message(json.dumps(event())))
    assert services.webhook_queue.sent == []

    resumed = webhooks.resume(destination.destination_id, services)
    assert not resumed.is_disabled
    assert (resumed.circuit.failures, resumed.circuit.paused_until) == (0, None)
    run(services, message(json.dumps(event())))
    assert len(services.webhook_queue.sent) == 1


def test_configured_destination_is_told_and_not_changed(
    services: FakeServices, receiver: Receiver
) -> None:
    """It has a circuit and a log; what else it is stands in the settings."""
    configured = Destination("c", receiver.url, secrets=(Secret(SECRET),), is_configured=True)
    services.webhook_terms = replace(services.webhook_terms, configured=(configured,))
    receiver.secrets = [SECRET]
    assert webhooks.listed(services) == [configured]

    run(services, message(json.dumps(details := event())))
    run(services, *sent(services))

    assert len(receiver.received) == 1
    for refused in (
        lambda: webhooks.change("c", services, description="x"),
        lambda: webhooks.rotate("c", services),
        lambda: webhooks.remove("c", services),
    ):
        with pytest.raises(DestinationIsConfigured):
            refused()
    assert webhooks.disable("c", services).is_disabled
    assert not webhooks.resume("c", services).is_disabled
    page = webhooks.deliveries("c", 10, None, services)
    assert [(each.event_id, each.payload) for each in page.deliveries] == [
        (details["event_id"], b"")
    ]


def test_destination_that_there_is_not_is_not_found(services: FakeServices) -> None:
    """Whatever is asked of it."""
    for act in (
        lambda: webhooks.find("x", services),
        lambda: webhooks.change("x", services, description=""),
        lambda: webhooks.rotate("x", services),
        lambda: webhooks.remove("x", services),
        lambda: webhooks.disable("x", services),
        lambda: webhooks.resume("x", services),
        lambda: webhooks.send_test("x", services),
        lambda: webhooks.replay("x", digest("event"), services),
        lambda: webhooks.deliveries("x", 10, None, services),
    ):
        with pytest.raises(DestinationNotFound):
            act()


# ── replay and test ──────────────────────────────────────────────────────────────────────────────


def test_replay_sends_the_very_same_message(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """Even if it was taken; and once, even if the message of the replay comes twice."""
    details = event(key="uploads/🦊.jpg", labels=[{"name": "Cat", "confidence": 98.5}])
    run(services, asked := delivery_of(destination, details))
    services.clock.forward(hours=1)

    webhooks.replay(destination.destination_id, details["event_id"], services)
    [replayed] = sent(services)
    run(services, replayed)
    run(services, again(replayed), asked)

    first, second = receiver.received
    assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])
    assert [each.status for each in logged(services, asked).attempts] == [200, 200]


def test_replay_revives_what_was_given_up(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """With all its tries before it."""
    services.clock.forward(days=2)
    receiver.answers.extend([500, 500])
    fail(services, asked := delivery_of(destination, receive_count=MAX_TRIES))

    webhooks.replay(destination.destination_id, logged(services, asked).event_id, services)
    [replayed] = sent(services)
    fail(services, replayed)

    assert logged(services, asked).state is WAITING


@pytest.mark.parametrize("event_id", [digest("another"), "odd", ""])
def test_replay_of_what_was_not_told_is_refused(
    services: FakeServices, destination: Destination, event_id: str
) -> None:
    """Or of what is older than the log."""
    with pytest.raises(DeliveryNotFound):
        webhooks.replay(destination.destination_id, event_id, services)


@pytest.mark.parametrize("state", ["as usual", "paused", "disabled"])
def test_test_message_is_sent_whatever_the_circuit_says(
    services: FakeServices, receiver: Receiver, destination: Destination, state: str
) -> None:
    """Whoever mends a receiver can try it; what takes it is no longer paused."""
    if state == "paused":
        break_circuit(services, receiver, destination)
    if state == "disabled":
        webhooks.disable(destination.destination_id, services)

    event_id = webhooks.send_test(destination.destination_id, services)
    run(services, *sent(services))

    [got] = receiver.received
    assert (got.payload["type"], got.payload["data"]["event_id"]) == ("webhook.test", event_id)
    assert got.payload["timestamp"] == timestamp(services.clock())
    [log] = [each for key, each in services.deliveries.log.items() if key[1] == event_id]
    assert (log.state, log.image_id) == (DELIVERED, "")
    circuit = fared(services, destination)
    assert (circuit.failures, circuit.paused_until) == (0, None)
    assert circuit.disabled_for == ("by_hand" if state == "disabled" else "")


def test_test_message_is_tried_once(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """Nobody waits a day for its outcome, and it says nothing of how the destination fares."""
    receiver.answers.append(500)
    webhooks.send_test(destination.destination_id, services)

    run(services, asked := sent(services)[0])

    assert logged(services, asked).state is GIVEN_UP
    assert fared(services, destination) == Circuit()


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────


def test_messages_are_signed_with_old_and_new_while_a_secret_is_rotated(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """For 24 hours, whichever of them a receiver knows; then with the new one alone."""
    old = destination.secrets[0]
    rotated = webhooks.rotate(destination.destination_id, services)
    new = rotated.secrets[0]
    assert new.value != old.value
    services.clock.forward(hours=23, minutes=59)

    for secrets in ([old.value], [new.value], [new.value, old.value]):
        receiver.secrets = secrets
        run(services, delivery_of(destination))
    assert len(receiver.received) == 3
    assert receiver.received[0].headers["webhook-signature"].count("v1,") == 2

    services.clock.forward(minutes=1)
    receiver.secrets = [new.value]
    run(services, delivery_of(destination))
    assert receiver.received[3].headers["webhook-signature"].count("v1,") == 1
    receiver.secrets = [old.value]
    fail(services, delivery_of(destination))
    assert receiver.refused == ["No matching signature found"]


def test_secret_that_is_replaced_twice_keeps_its_end(
    services: FakeServices, destination: Destination
) -> None:
    """Those that are over go."""
    first = destination.secrets[0]
    webhooks.rotate(destination.destination_id, services)
    services.clock.forward(hours=1)
    known = webhooks.rotate(destination.destination_id, services).secrets
    ends = [services.clock() + timedelta(hours=24), services.clock() + timedelta(hours=23)]
    assert [each.until for each in known] == [None, *map(timestamp, ends)]
    assert known[2].value == first.value

    services.clock.forward(hours=23, minutes=30)
    assert len(webhooks.rotate(destination.destination_id, services).secrets) == 3


def test_no_rotation_takes_a_secret_away_before_its_time(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """It is refused until the oldest is over, and changes nothing."""
    receiver.secrets = [destination.secrets[0].value]
    for _ in range(4):
        rotated = webhooks.rotate(destination.destination_id, services)
        services.clock.forward(hours=1)

    with pytest.raises(TooManyRotations, match=f"wait until {rotated.secrets[-1].until}"):
        webhooks.rotate(destination.destination_id, services)

    assert webhooks.find(destination.destination_id, services) == rotated
    run(services, delivery_of(destination))
    assert len(receiver.received) == 1
    services.clock.forward(hours=20)
    known = webhooks.rotate(destination.destination_id, services).secrets
    assert [each.value for each in known[1:]] == [each.value for each in rotated.secrets[:-1]]


def test_secret_is_neither_logged_nor_shown(destination: Destination) -> None:
    """Not by a repr, and not in a line that quotes one."""
    secret = destination.secrets[0].value
    assert secret not in repr(destination)
    assert secret[6:] not in logs.redacted(f"a {secret} b")


# ── who may be called ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("https://10.0.0.1/", "The host was not found on the public Internet"),
        ("https://169.254.169.254/latest", "The host was not found on the public Internet"),
        ("https://[::1]/", "The host was not found on the public Internet"),
        ("https://no-such-name.invalid/", "The host was not found on the public Internet"),
        ("http://93.184.215.14/", "The URL starts with http://"),
        ("https://93.184.215.14:8443/", "The URL names port 8443"),
        ("https://0x7f.1/", "The URL needs a host"),
    ],
)
def test_host_that_must_not_be_called_is_not(
    services: FakeServices, url: str, error: str, receiver: Receiver
) -> None:
    """A name may lead elsewhere by now: it is looked at each time, and no address is told."""
    elsewhere = Destination("id", url, secrets=(Secret(SECRET),))
    services.destinations.registered["id"] = elsewhere
    asked = delivery_of(elsewhere)

    fail(services, asked)

    [attempt] = logged(services, asked).attempts
    assert (attempt.error or "").startswith(error)
    assert url.split("/")[2] not in (attempt.error or "")
    with pytest.raises(InvalidRequest, match=error):
        webhooks.register(url, (), (), "", services)
    assert receiver.received == []


def test_private_host_is_called_within_an_allowed_network_alone(
    services: FakeServices, receiver: Receiver, destination: Destination
) -> None:
    """The setting may be taken back; then its destinations hear nothing more."""
    services.webhook_terms = WebhookTerms()
    for url in (receiver.url, receiver.url.replace("127.0.0.1", "localhost")):
        with pytest.raises(InvalidRequest, match="not found on the public Internet"):
            webhooks.register(url, (), (), "", services)

    fail(services, delivery_of(destination))

    assert receiver.received == []


def test_api_has_nobody_mailed(services: FakeServices, destination: Destination) -> None:
    """Whoever may call it could have strangers mailed; addresses are named by the settings."""
    url = "mailto:eve@example.com"
    for act in (
        lambda: webhooks.register(url, (), (), "", services),
        lambda: webhooks.change(destination.destination_id, services, url=url),
    ):
        with pytest.raises(InvalidRequest):
            act()
