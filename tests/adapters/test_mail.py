"""Mails, as SES takes them and refuses them."""

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.request import urlopen

import pytest
from botocore.exceptions import ReadTimeoutError

from chalicelib.aws.mail import Mailer
from chalicelib.errors import NotMailed
from chalicelib.mails import mail_of
from chalicelib.model import digest
from tests.adapters.conftest import Operations, error_of

SENDER = "Images ä <images@adapters.example>"
TEST = {"event_id": digest("test"), "event_type": "webhook.test"}
MAIL = mail_of(TEST, SENDER, "ada@example.com", None)


@pytest.fixture
def mailer(client_of: Callable[[str], Any]) -> Iterator[Mailer]:
    """For a sender whose domain SES has verified."""
    ses = client_of("sesv2")
    ses.create_email_identity(EmailIdentity="adapters.example")
    yield Mailer(ses)
    ses.delete_email_identity(EmailIdentity="adapters.example")


def test_mail_arrives_as_it_was_made(mailer: Mailer) -> None:
    """From and to whom it says; SES is told the bare address of a sender that has a name."""
    with Operations(mailer.client) as operations:
        requests = operations.requests("sesv2.SendEmail")
        mailer.send(SENDER, "ada@example.com", MAIL)

    assert requests[0]["Content"] == {"Raw": {"Data": MAIL}}
    with urlopen(f"{mailer.client.meta.endpoint_url}/_ministack/ses/messages") as answer:
        messages = json.loads(answer.read())["messages"]
    mail = [each for account in messages.values() for each in account][-1]
    assert (mail["Source"], mail["To"], mail["CC"], mail["BCC"]) == (
        "images@adapters.example",
        ["ada@example.com"],
        [],
        [],
    )
    assert (mail["Subject"], mail["BodyText"].strip()) == (
        "Image pipeline: test",
        "Mails about images reach this address.",
    )


def test_mail_of_a_sender_that_is_not_verified_is_refused(mailer: Mailer) -> None:
    """By its code; SES's own words name addresses."""
    with pytest.raises(NotMailed, match="SES has not taken it: MessageRejected"):
        mailer.send("eve@evil.example", "ada@example.com", MAIL)


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (error_of("TooManyRequestsException"), "SES has not taken it: TooManyRequestsException"),
        (error_of("LimitExceededException"), "SES has not taken it: LimitExceededException"),
        (error_of("AccessDeniedException"), "SES has not taken it: AccessDeniedException"),
        (ReadTimeoutError(endpoint_url="https://ses"), "SES was not reached: ReadTimeoutError"),
    ],
)
def test_mail_that_is_not_taken_is_a_failed_try(mailer: Mailer, trouble: Any, told: str) -> None:
    """Whatever the reason: each delivery has many tries."""
    with Operations(mailer.client) as operations:
        operations.before("sesv2.SendEmail", *[trouble] * 5)
        with pytest.raises(NotMailed, match=f"^{told}$"):
            mailer.send(SENDER, "ada@example.com", MAIL)
