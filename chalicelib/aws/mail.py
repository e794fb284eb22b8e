"""SES: mails to who is told of images by mail."""

from dataclasses import dataclass
from email.utils import parseaddr
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.errors import NotMailed

if TYPE_CHECKING:
    from mypy_boto3_sesv2 import SESV2Client


@dataclass(frozen=True, slots=True)
class Mailer:
    client: "SESV2Client"

    def send(self, sender: str, recipient: str, message: bytes) -> None:
        """Hand a message (RFC 5322) to SES. Raises NotMailed, with SES's code and not its words.

        Those name addresses and ARNs, and the log of deliveries is for whoever may use the API.
        """
        try:
            self.client.send_email(
                FromEmailAddress=parseaddr(sender)[1],
                Destination={"ToAddresses": [recipient]},
                Content={"Raw": {"Data": message}},
            )
        except ClientError as error:
            raise NotMailed(f"SES has not taken it: {error.response['Error']['Code']}") from error
        except BotoCoreError as error:
            raise NotMailed(f"SES was not reached: {type(error).__name__}") from error
