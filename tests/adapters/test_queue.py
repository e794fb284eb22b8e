"""The work queue, as SQS keeps it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from chalicelib.aws.queue import WorkQueue
from chalicelib.messages import WorkMessage
from chalicelib.model import Original

NUMBERS = count(1)
ORIGINAL = Original(
    key='uploads/ "é" + % 🦊.jpg',
    version_id="version-1",
    etag="etag",
    size_bytes=12,
    sequencer="0" * 32,
    uploaded_at="2026-01-31T09:15:00.000Z",
)


@pytest.fixture
def queue(client_of: Callable[[str], Any]) -> Iterator[WorkQueue]:
    """A queue that no function reads."""
    sqs = client_of("sqs")
    url = sqs.create_queue(QueueName=f"adapters-work-{next(NUMBERS)}")["QueueUrl"]
    yield WorkQueue(sqs, url)
    sqs.delete_queue(QueueUrl=url)


def received(queue: WorkQueue, number: int) -> list[WorkMessage]:
    """So many messages, hidden from others now."""
    messages: list[WorkMessage] = []
    while len(messages) < number:
        answer = queue.client.receive_message(
            QueueUrl=queue.url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=5,
            AttributeNames=["ApproximateReceiveCount"],
        )
        assert answer.get("Messages"), f"{len(messages)} of {number} messages came"
        messages += [
            WorkMessage(
                each["MessageId"],
                each["ReceiptHandle"],
                each["Body"],
                int(each["Attributes"]["ApproximateReceiveCount"]),
            )
            for each in answer["Messages"]
        ]
    return messages


def test_message_brings_the_original(queue: WorkQueue) -> None:
    """What was sent is what is received, whatever the key holds."""
    queue.send(ORIGINAL)

    [message] = received(queue, 1)

    assert message.original == ORIGINAL
    assert message.receive_count == 1


def test_deleted_messages_do_not_come_back(queue: WorkQueue) -> None:
    """More than SQS deletes at once; what was not deleted stays."""
    originals = [replace(ORIGINAL, size_bytes=number) for number in range(13)]
    for original in originals:
        queue.send(original)
    messages = received(queue, 13)
    kept = messages.pop(5)

    queue.delete(messages)

    attributes = queue.client.get_queue_attributes(
        QueueUrl=queue.url,
        AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
    )["Attributes"]
    assert sum(map(int, attributes.values())) == 1
    queue.client.change_message_visibility(
        QueueUrl=queue.url, ReceiptHandle=kept.receipt_handle, VisibilityTimeout=0
    )
    assert [message.original for message in received(queue, 1)] == [kept.original]


def test_deleting_nothing_asks_nothing(queue: WorkQueue) -> None:
    """SQS refuses an empty batch, so none is sent."""
    queue.delete([])
