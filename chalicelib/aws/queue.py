"""SQS: the work queue between upload and processing, and the queue of webhooks."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chalicelib.aws import batches
from chalicelib.messages import Work, WorkMessage, encode_work

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

BATCH = 10
"""Each of SQS's batch operations takes at most 10 entries."""

MAX_BATCH_BYTES = 256 * 1024
"""Of all the messages sent at once, and so of each."""


@dataclass(frozen=True, slots=True)
class Queue:
    client: "SQSClient"
    url: str

    def send_bodies(self, bodies: Iterable[str]) -> None:
        """Send a message each. Raises OSError where SQS took only a part."""
        for batch in _sendable(bodies):
            answer = self.client.send_message_batch(
                QueueUrl=self.url,
                Entries=[
                    {"Id": str(index), "MessageBody": body} for index, body in enumerate(batch)
                ],
            )
            _require_all(answer)

    def delete(self, messages: Sequence[WorkMessage]) -> None:
        """Take these messages off the queue. One that stays comes back and finds its work done."""
        for batch in batches(messages, BATCH):
            self.client.delete_message_batch(
                QueueUrl=self.url,
                Entries=[
                    {"Id": str(index), "ReceiptHandle": message.receipt_handle}
                    for index, message in enumerate(batch)
                ],
            )

    def hand_back(self, delays_s: Mapping[WorkMessage, int]) -> None:
        """Have each message come back after so many seconds, 43,200 at most."""
        for batch in batches(delays_s.items(), BATCH):
            answer = self.client.change_message_visibility_batch(
                QueueUrl=self.url,
                Entries=[
                    {
                        "Id": str(index),
                        "ReceiptHandle": message.receipt_handle,
                        "VisibilityTimeout": delay_s,
                    }
                    for index, (message, delay_s) in enumerate(batch)
                ],
            )
            _require_all(answer)

    def postpone(self, message: WorkMessage, delay_s: int) -> None:
        """Put a copy of the message in its place, which has not been received yet.

        It comes after ``delay_s`` seconds, 900 at most. Killed in between, both are there.
        """
        self.client.send_message(QueueUrl=self.url, MessageBody=message.body, DelaySeconds=delay_s)
        self.client.delete_message(QueueUrl=self.url, ReceiptHandle=message.receipt_handle)

    def is_empty(self) -> bool:
        """Whether nothing waits, is being worked on, or is delayed, as far as SQS knows."""
        answer = self.client.get_queue_attributes(
            QueueUrl=self.url,
            AttributeNames=[
                "ApproximateNumberOfMessages",
                "ApproximateNumberOfMessagesNotVisible",
                "ApproximateNumberOfMessagesDelayed",
            ],
        )
        return not any(int(count) for count in answer["Attributes"].values())


@dataclass(frozen=True, slots=True)
class WorkQueue(Queue):
    def send(self, work: Iterable[Work]) -> None:
        """Ask for all this to be done. Raises OSError where SQS took only a part."""
        self.send_bodies(map(encode_work, work))


def _sendable(bodies: Iterable[str]) -> Iterator[list[str]]:
    """Lists of what SQS takes at once."""
    batch: list[str] = []
    size_bytes = 0
    for body in bodies:
        body_bytes = len(body.encode())
        if len(batch) == BATCH or (batch and size_bytes + body_bytes > MAX_BATCH_BYTES):
            yield batch
            batch, size_bytes = [], 0
        batch.append(body)
        size_bytes += body_bytes
    if batch:
        yield batch


def _require_all(answer: Mapping[str, Any]) -> None:
    if answer.get("Failed"):
        raise OSError(f"SQS did not take all: {answer['Failed']!r:.500}")
