"""SQS: the work queue between upload and processing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chalicelib.messages import WorkMessage, encode_work
from chalicelib.model import Original

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

DELETE_BATCH = 10
"""DeleteMessageBatch takes at most 10 entries."""


@dataclass(frozen=True, slots=True)
class WorkQueue:
    client: "SQSClient"
    url: str

    def send(self, original: Original) -> None:
        """Ask for this version to be processed."""
        self.client.send_message(QueueUrl=self.url, MessageBody=encode_work(original))

    def delete(self, messages: Sequence[WorkMessage]) -> None:
        """Take these messages off the queue. One that stays comes back and finds its work done."""
        for start in range(0, len(messages), DELETE_BATCH):
            self.client.delete_message_batch(
                QueueUrl=self.url,
                Entries=[
                    {"Id": str(index), "ReceiptHandle": message.receipt_handle}
                    for index, message in enumerate(messages[start : start + DELETE_BATCH])
                ],
            )
