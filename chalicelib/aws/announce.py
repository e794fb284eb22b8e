"""SNS and EventBridge: telling people and programs what became of an image."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from chalicelib.announcements import SOURCE, Announcement

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sns.type_defs import MessageAttributeValueTypeDef


@dataclass(frozen=True, slots=True)
class Topic:
    client: "SNSClient"
    arn: str

    def publish(self, announcement: Announcement) -> None:
        """One message that reads as a mail, as an SMS, and as JSON everywhere else."""
        self.client.publish(
            TopicArn=self.arn,
            Subject=announcement.subject,
            MessageStructure="json",
            Message=json.dumps(
                {
                    "default": json.dumps(announcement.details),
                    "email": announcement.text,
                    "sms": announcement.sms,
                }
            ),
            MessageAttributes={
                name: _attribute(value) for name, value in announcement.attributes.items()
            },
        )


def _attribute(value: str | list[str]) -> "MessageAttributeValueTypeDef":
    """A filter of a subscription matches a list where it matches one member of it."""
    if isinstance(value, list):
        return {"DataType": "String.Array", "StringValue": json.dumps(value)}
    return {"DataType": "String", "StringValue": value}


@dataclass(frozen=True, slots=True)
class EventBus:
    """The stage's bus of EventBridge; rules pick from it by what docs/events describes."""

    client: "EventBridgeClient"
    name: str

    def publish(self, announcement: Announcement) -> None:
        answer = self.client.put_events(
            Entries=[
                {
                    "EventBusName": self.name,
                    "Source": SOURCE,
                    "DetailType": f"Image {announcement.kind.capitalize()}",
                    "Detail": json.dumps(announcement.details),
                    "Time": datetime.fromisoformat(announcement.event_time),
                }
            ]
        )
        if answer["FailedEntryCount"]:
            raise OSError(f"EventBridge did not take it: {answer['Entries']!r:.500}")
