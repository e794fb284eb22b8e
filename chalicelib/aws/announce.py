"""SNS: telling people and programs what became of an image."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chalicelib.messages import Announcement

if TYPE_CHECKING:
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
