"""From the topic to a receiver, on the whole local cloud, with each function's own rights."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from chalicelib import webhooks
from chalicelib.aws.destinations import Deliveries, Destinations
from chalicelib.aws.queue import Queue
from chalicelib.messages import timestamp
from chalicelib.model import DeliveryState, digest
from chalicelib.services import WebhookTerms
from localcloud.cloud import LocalCloud
from tests.receiver import Receiver
from tests.waiting import eventually


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        threading.Thread(target=receiver.serve_forever, args=(0.01,), daemon=True).start()
        yield receiver
        receiver.over.set()
        receiver.shutdown()


@pytest.fixture
def services(cloud: LocalCloud) -> Any:
    """As who manages destinations has them."""
    dynamodb, table = cloud.client("dynamodb"), cloud.outputs["TableName"]
    return SimpleNamespace(
        destinations=Destinations(dynamodb, table),
        deliveries=Deliveries(dynamodb, table),
        webhook_queue=Queue(cloud.client("sqs"), cloud.outputs["WebhookQueueUrl"]),
        webhook_terms=WebhookTerms(allowed_networks=("127.0.0.0/8",)),
        clock=lambda: datetime.now(UTC),
    )


def test_announcement_reaches_a_receiver_that_fails_at_first(
    cloud: LocalCloud, services: Any, receiver: Receiver
) -> None:
    """Signed, tried again in a few seconds, logged, and told to nobody who did not ask."""
    made = webhooks.register(receiver.url, ("COMPLETED",), ("Phoenix",), "", services)
    other = webhooks.register(receiver.url, ("COMPLETED",), ("Basilisk",), "", services)
    receiver.secrets = [made.secrets[0].value]
    receiver.answers.append(500)
    event_id = digest(made.destination_id)
    details = {
        "event_id": event_id,
        "event_type": "image.completed",
        "event_time": timestamp(datetime.now(UTC)),
        "image_id": digest("uploads/phoenix.jpg"),
        "labels": [{"name": "Phoenix", "parents": ["Bird"]}],
    }

    cloud.client("sns").publish(TopicArn=cloud.outputs["TopicArn"], Message=json.dumps(details))

    def delivered() -> bool:
        known = services.deliveries.get(made.destination_id, event_id)
        return known is not None and known.state is DeliveryState.DELIVERED

    eventually(delivered)
    assert [got.payload["data"] for got in receiver.received] == [details, details]
    known = services.deliveries.get(made.destination_id, event_id)
    assert [attempt.status for attempt in known.attempts] == [500, 200]
    assert services.destinations.circuit(made.destination_id).failures == 0
    for each in (made, other):
        webhooks.remove(each.destination_id, services)
    assert receiver.refused == []
