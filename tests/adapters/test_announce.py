"""Announcements, as each kind of subscriber gets them."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import pytest

from chalicelib.announcements import SOURCE, Announcement, announcements_of
from chalicelib.aws.announce import EventBus, Topic
from chalicelib.model import EventKind
from tests.adapters.conftest import Operations
from tests.unit.test_announcements import (
    COMPLETED,
    DELETED,
    FAILED,
    QUARANTINED,
    SEEN,
    named,
)
from tests.waiting import eventually

NUMBERS = count(1)


def announcement(status: str, name: str = "é 🦊.jpg") -> Announcement:
    return Announcement(
        kind=EventKind(status),
        event_id="abc",
        event_time="2026-01-31T09:15:00.000Z",
        subject=f"Image {status.lower()}: ? ?.jpg",
        text=f"Image {status.lower()}: {name}\n\nKey: uploads/{name}\n",
        sms=f"Image {status.lower()}",
        details={"key": f"uploads/{name}", "status": status, "labels": [{"name": "Katze"}]},
        attributes={"status": status, "image_id": "abc", "key": f"uploads/{name}"},
    )


@dataclass
class Subscriber:
    """A queue that is subscribed to the topic."""

    sqs: Any
    url: str

    def received(self, number: int) -> list[dict[str, Any]]:
        """So many messages, and whatever else is there when they have come."""
        messages: list[dict[str, Any]] = []
        while len(messages) < number:
            messages += eventually(self._received)
        while batch := self._received():
            messages += batch
        return messages

    def _received(self) -> list[dict[str, Any]]:
        """A few that are there, taken off the queue."""
        batch: list[dict[str, Any]] = self.sqs.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages", [])
        for message in batch:
            self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        return batch


@pytest.fixture
def topic(client_of: Callable[[str], Any]) -> Iterator[Topic]:
    sns = client_of("sns")
    arn = sns.create_topic(Name=f"adapters-{next(NUMBERS)}")["TopicArn"]
    yield Topic(sns, arn)
    sns.delete_topic(TopicArn=arn)


@pytest.fixture
def subscribe(client_of: Callable[[str], Any], topic: Topic) -> Iterator[Callable[..., Subscriber]]:
    """Subscribes a new queue with these attributes of a subscription."""
    sqs, urls = client_of("sqs"), []

    def subscribed(**attributes: str) -> Subscriber:
        url = sqs.create_queue(QueueName=f"adapters-news-{next(NUMBERS)}")["QueueUrl"]
        urls.append(url)
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"][
            "QueueArn"
        ]
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": arn,
            "Condition": {"ArnEquals": {"aws:SourceArn": topic.arn}},
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
        topic.client.subscribe(
            TopicArn=topic.arn, Protocol="sqs", Endpoint=arn, Attributes=attributes
        )
        return Subscriber(sqs, url)

    yield subscribed
    for url in urls:
        sqs.delete_queue(QueueUrl=url)


def test_queue_gets_json_in_an_envelope(topic: Topic, subscribe: Callable[..., Subscriber]) -> None:
    """The message of the envelope is the image as JSON; the attributes come along."""
    subscriber, told = subscribe(), announcement("COMPLETED")

    topic.publish(told)

    [message] = subscriber.received(1)
    envelope = json.loads(message["Body"])
    assert json.loads(envelope["Message"]) == told.details
    assert envelope["Subject"] == told.subject
    assert {name: value["Value"] for name, value in envelope["MessageAttributes"].items()} == (
        told.attributes
    )


def test_queue_that_wants_it_raw_gets_json_alone(
    topic: Topic, subscribe: Callable[..., Subscriber]
) -> None:
    """With raw delivery the body is the image, and the attributes are those of the message."""
    subscriber, told = subscribe(RawMessageDelivery="true"), announcement("COMPLETED")

    topic.publish(told)

    [message] = subscriber.received(1)
    assert json.loads(message["Body"]) == told.details
    attributes = message["MessageAttributes"]
    assert {name: value["StringValue"] for name, value in attributes.items()} == told.attributes


def test_filter_policy_lets_through_what_it_names(
    topic: Topic, subscribe: Callable[..., Subscriber]
) -> None:
    """A subscription that asks for failures hears of nothing else."""
    failures = subscribe(FilterPolicy=json.dumps({"status": ["FAILED"]}))
    one_image = subscribe(FilterPolicy=json.dumps({"key": [{"prefix": "uploads/b"}]}))
    everything = subscribe()

    topic.publish(announcement("COMPLETED", "a.jpg"))
    topic.publish(announcement("FAILED", "b.jpg"))
    topic.publish(announcement("DELETED", "b.jpg"))

    def statuses(subscriber: Subscriber, number: int) -> list[str]:
        envelopes = [json.loads(message["Body"]) for message in subscriber.received(number)]
        return sorted(json.loads(envelope["Message"])["status"] for envelope in envelopes)

    assert statuses(everything, 3) == ["COMPLETED", "DELETED", "FAILED"]
    assert statuses(one_image, 2) == ["DELETED", "FAILED"]
    assert statuses(failures, 1) == ["FAILED"]


def test_each_protocol_has_a_message_of_its_own(topic: Topic) -> None:
    """Mail gets text, SMS a line, everything else JSON; SNS refuses messages without a default."""
    told = announcement("FAILED")
    with Operations(topic.client) as operations:
        requests = operations.requests("sns.Publish")
        topic.publish(told)

    [request] = requests
    assert request["MessageStructure"] == "json"
    messages = json.loads(request["Message"])
    assert messages.pop("email") == told.text
    assert messages.pop("sms") == told.sms
    assert json.loads(messages.pop("default")) == told.details
    assert messages == {}
    assert request["Subject"] == told.subject


def test_filter_policy_finds_one_of_several_reasons(
    topic: Topic, subscribe: Callable[..., Subscriber]
) -> None:
    """A list matches where one of its members does; the kind of duplicate is a word."""
    violent = subscribe(FilterPolicy=json.dumps({"moderation": ["Violence"]}))
    withheld = subscribe(FilterPolicy=json.dumps({"moderation": [{"exists": True}]}))
    exact = subscribe(FilterPolicy=json.dumps({"duplicate": ["exact"]}))
    copies = subscribe(FilterPolicy=json.dumps({"duplicate": ["exact", "near"]}))
    told: dict[str, dict[str, str | list[str]]] = {
        "weapon": {"moderation": ["Weapon Violence", "Violence"]},
        "drink": {"moderation": ['Alcohol "&" 🦊', "Drugs & Tobacco"], "duplicate": "near"},
        "copy": {"duplicate": "exact"},
        "other": {},
    }

    for name, attributes in told.items():
        plain = announcement("QUARANTINED" if "moderation" in attributes else "COMPLETED", name)
        topic.publish(replace(plain, attributes=plain.attributes | attributes))

    def names(subscriber: Subscriber, number: int) -> list[str]:
        envelopes = [json.loads(message["Body"]) for message in subscriber.received(number)]
        return sorted(json.loads(each["Message"])["key"] for each in envelopes)

    assert names(violent, 1) == ["uploads/weapon"]
    assert names(withheld, 2) == ["uploads/drink", "uploads/weapon"]
    assert names(exact, 1) == ["uploads/copy"]
    assert names(copies, 2) == ["uploads/copy", "uploads/drink"]


def test_lists_come_along_as_json(topic: Topic, subscribe: Callable[..., Subscriber]) -> None:
    """SNS knows their type by its name; a queue that wants it raw gets both."""
    subscriber = subscribe(RawMessageDelivery="true")
    plain = announcement("QUARANTINED")
    reasons = ["Violence", 'Alcohol "&" 🦊']

    topic.publish(replace(plain, attributes={**plain.attributes, "moderation": reasons}))

    [message] = subscriber.received(1)
    attribute = message["MessageAttributes"]["moderation"]
    assert attribute["DataType"] == "String.Array"
    assert json.loads(attribute["StringValue"]) == reasons
    assert message["MessageAttributes"]["status"]["DataType"] == "String"


def test_filter_policies_choose_by_what_an_image_shows(
    topic: Topic, subscribe: Callable[..., Subscriber]
) -> None:
    """By any of its labels, by why it failed, and by who tells it where several do."""
    cats = subscribe(FilterPolicy=json.dumps({"label": ["Cat"]}))
    broken_or_large = subscribe(
        FilterPolicy=json.dumps({"code": ["corrupt_image", {"prefix": "too_many_"}]})
    )
    of_others = subscribe(FilterPolicy=json.dumps({"source": [{"anything-but": SOURCE}]}))
    cats_to_review = subscribe(
        FilterPolicy=json.dumps({"label": ["Cat"], "status": ["QUARANTINED"]})
    )
    everything = subscribe(FilterPolicy=json.dumps({"source": [SOURCE]}))
    told: dict[str, tuple[str, dict[str, str | list[str]]]] = {
        "cat": ("COMPLETED", {"label": ["Animal", "Cat"]}),
        "catfish": ("COMPLETED", {"label": ["Catfish"]}),
        "fierce cat": ("QUARANTINED", {"label": ["Cat", "Claw"], "moderation": ["Violence"]}),
        "broken": ("FAILED", {"code": "corrupt_image"}),
        "large": ("FAILED", {"code": "too_many_pixels"}),
        "text": ("FAILED", {"code": "unsupported_format"}),
    }

    for name, (status, attributes) in told.items():
        plain = announcement(status, name)
        topic.publish(replace(plain, attributes=plain.attributes | {"source": SOURCE} | attributes))

    def names(subscriber: Subscriber, number: int) -> list[str]:
        envelopes = [json.loads(message["Body"]) for message in subscriber.received(number)]
        return sorted(each["MessageAttributes"]["key"]["Value"][8:] for each in envelopes)

    assert names(everything, len(told)) == sorted(told)
    assert names(cats, 2) == ["cat", "fierce cat"]
    assert names(broken_or_large, 2) == ["broken", "large"]
    assert names(cats_to_review, 1) == ["fierce cat"]
    assert names(of_others, 0) == []


@pytest.mark.parametrize("seen", SEEN)
def test_sns_takes_as_much_as_rekognition_gives(topic: Topic, seen: str) -> None:
    """MiniStack counts bytes as SNS does, and refuses more than 256 KB."""
    image = replace(named("🦊" * 254, QUARANTINED), recognition=SEEN[seen])

    for told in announcements_of(image):
        topic.publish(told)


# ── EventBridge ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def bus(client_of: Callable[[str], Any]) -> Iterator[EventBus]:
    events, name = client_of("events"), f"adapters-{next(NUMBERS)}"
    events.create_event_bus(Name=name)
    yield EventBus(events, name)
    events.delete_event_bus(Name=name)


@pytest.fixture
def listen(client_of: Callable[[str], Any], bus: EventBus) -> Iterator[Callable[..., Subscriber]]:
    """Makes a rule with this pattern, whose events go to a new queue."""
    sqs, made = client_of("sqs"), []

    def listening(pattern: dict[str, Any]) -> Subscriber:
        name = f"adapters-rule-{next(NUMBERS)}"
        url = sqs.create_queue(QueueName=name)["QueueUrl"]
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        bus.client.put_rule(Name=name, EventBusName=bus.name, EventPattern=json.dumps(pattern))
        target = {"Id": "queue", "Arn": attributes["Attributes"]["QueueArn"]}
        bus.client.put_targets(Rule=name, EventBusName=bus.name, Targets=[target])
        made.append((name, url))
        return Subscriber(sqs, url)

    yield listening
    for name, url in made:
        bus.client.remove_targets(Rule=name, EventBusName=bus.name, Ids=["queue"])
        bus.client.delete_rule(Name=name, EventBusName=bus.name)
        sqs.delete_queue(QueueUrl=url)


def test_rule_gets_the_details_as_they_are(
    bus: EventBus, listen: Callable[..., Subscriber]
) -> None:
    """Under ``detail``; who tells it and what has happened stand beside."""
    subscriber = listen({"source": [SOURCE]})
    [told] = announcements_of(COMPLETED)

    bus.publish(told)

    [message] = subscriber.received(1)
    event = json.loads(message["Body"])
    assert event["detail"] == json.loads(json.dumps(told.details))
    assert (event["source"], event["detail-type"]) == (SOURCE, "Image Completed")


def test_rules_get_what_they_ask_for(bus: EventBus, listen: Callable[..., Subscriber]) -> None:
    """By what has happened, what an image shows, where it lies, and all of them together."""
    failed = listen({"detail-type": ["Image Failed"]})
    cats = listen({"detail": {"labels": {"name": ["Cat"]}}})
    below = listen({"detail": {"key": [{"prefix": "uploads/shop/"}]}})
    cats_below = listen(
        {
            "source": [SOURCE],
            "detail-type": ["Image Completed"],
            "detail": {"key": [{"prefix": "uploads/shop/"}], "labels": {"name": ["Cat"]}},
        }
    )
    images = [
        *(COMPLETED, named("shop/cat.jpg"), named("shop/broken.jpg", FAILED)),
        replace(named("shop/nothing.jpg"), recognition=SEEN["nothing"]),
        *(named("shop/fierce.jpg", QUARANTINED), named("shop/gone.jpg", DELETED)),
    ]

    for image in images:
        for told in announcements_of(image):
            bus.publish(told)

    def names(subscriber: Subscriber, number: int) -> list[str]:
        events = [json.loads(message["Body"]) for message in subscriber.received(number)]
        return sorted(event["detail"]["key"].rpartition("/")[2] for event in events)

    assert names(failed, 1) == ["broken.jpg"]
    assert names(cats, 3) == ["a cat.jpg", "cat.jpg", "fierce.jpg"]
    assert names(below, 5) == ["broken.jpg", "cat.jpg", "fierce.jpg", "gone.jpg", "nothing.jpg"]
    assert names(cats_below, 1) == ["cat.jpg"]


@pytest.mark.parametrize("seen", SEEN)
def test_entry_holds_as_much_as_rekognition_gives(bus: EventBus, seen: str) -> None:
    """EventBridge takes 256 KB an entry: source, kind, details and 14 bytes for the time."""
    image = replace(named("🦊" * 254), recognition=SEEN[seen])
    with Operations(bus.client) as operations:
        requests = operations.requests("eventbridge.PutEvents")
        for told in announcements_of(image):
            bus.publish(told)

    for request in requests:
        [entry] = request["Entries"]
        texts = (entry["Source"], entry["DetailType"], entry["Detail"])
        assert sum(len(text.encode()) for text in texts) + 14 <= 256 * 1024
        assert entry["EventBusName"] == bus.name
        assert entry["Time"].isoformat() == "2026-01-31T09:15:02+00:00"
    assert requests


def test_entry_that_is_refused_is_an_error(bus: EventBus) -> None:
    """PutEvents itself succeeds then; what it says of the entry is told."""
    refusal = {"ErrorCode": "ThrottlingException", "ErrorMessage": "Rate exceeded"}
    with Operations(bus.client) as operations:
        operations.change_answer(
            "eventbridge.PutEvents",
            lambda answer: answer.update(FailedEntryCount=1, Entries=[refusal]),
        )
        with pytest.raises(OSError, match=r"ThrottlingException.*Rate exceeded"):
            bus.publish(announcement("COMPLETED"))
