"""Events on the stage's bus, from an upload to a queue behind a rule."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from chalicelib.aws.catalog import Catalog
from chalicelib.model import image_id_of
from localcloud.cloud import LocalCloud
from tests.e2e.test_recognition import sample
from tests.e2e.test_way_of_an_image import Inbox
from tests.pictures import saved
from tests.schemas import FILE
from tests.waiting import eventually

DOCUMENT = Path(__file__).parents[2] / "docs" / "events.md"
Upload = Callable[[str, bytes], str]
EVENTS = Draft202012Validator(json.loads(FILE.read_text()))


class Listener:
    """What a rule has sent to its queue, by key."""

    def __init__(self, sqs: Any, url: str) -> None:
        self._sqs, self._url = sqs, url
        self._heard: list[dict[str, Any]] = []

    def of(self, key: str) -> list[dict[str, Any]]:
        while messages := self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10).get(
            "Messages"
        ):
            for message in messages:
                self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
                self._heard.append(json.loads(message["Body"]))
        return [event for event in self._heard if event["detail"]["key"] == key]


def example() -> str:
    """The template that docs/events.md shows, from its own text."""
    [template] = re.findall(r"^```yaml\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    return str(template)


@pytest.fixture(scope="module")
def cats(cloud: LocalCloud) -> Iterator[Listener]:
    """Whoever has made the documented stack: it hears of cats below one folder."""
    cloudformation, name = cloud.client("cloudformation"), "events-example"
    cloudformation.create_stack(
        StackName=name,
        TemplateBody=example(),
        Parameters=[
            {"ParameterKey": "EventBusName", "ParameterValue": cloud.outputs["EventBusName"]}
        ],
    )

    def made() -> Any:
        [stack] = cloudformation.describe_stacks(StackName=name)["Stacks"]
        assert "FAILED" not in stack["StackStatus"], stack
        return stack["StackStatus"] == "CREATE_COMPLETE" and stack

    [output] = eventually(made)["Outputs"]
    yield Listener(cloud.client("sqs"), output["OutputValue"])
    cloudformation.delete_stack(StackName=name)


@pytest.fixture
def upload(cloud: LocalCloud) -> Upload:
    def uploaded(key: str, body: bytes) -> str:
        bucket = cloud.outputs["UploadsBucket"]
        cloud.client("s3").put_object(Bucket=bucket, Key=key, Body=body)
        return key

    return uploaded


def is_settled(catalog: Catalog, key: str) -> bool:
    image = catalog.get(image_id_of(key))
    return image is not None and image.is_settled


def test_rule_of_the_document_hears_of_what_it_names(
    cloud: LocalCloud, cats: Listener, upload: Upload
) -> None:
    """One event for the cat below the folder, as the schema has it; none for what else comes."""
    cat = saved(sample("chelsea.png"))
    elsewhere = upload("uploads/events/cat.jpg", cat)
    no_cat = upload("uploads/shop/coffee.jpg", saved(sample("coffee.png")))
    no_picture = upload("uploads/shop/cat.txt", b"This is no picture.")
    key = upload("uploads/shop/cat.jpg", cat)

    [event] = eventually(lambda: cats.of(key))

    assert (event["source"], event["detail-type"]) == ("image-pipeline", "Image Completed")
    details = event["detail"]
    assert [each.message for each in EVENTS.iter_errors(details)] == []
    assert (details["image_id"], details["event_type"]) == (image_id_of(key), "image.completed")
    catalog = Catalog(cloud.client("dynamodb"), cloud.outputs["TableName"])
    others = [elsewhere, no_cat, no_picture]
    eventually(lambda: all(is_settled(catalog, other) for other in others))
    assert [cats.of(other) for other in others] == [[], [], []]


def test_bus_and_topic_tell_of_the_same_event(
    cloud: LocalCloud, cats: Listener, upload: Upload
) -> None:
    """By its id, so that whoever hears of it twice knows."""
    inbox = Inbox(cloud)
    key = upload("uploads/shop/same.jpg", saved(sample("chelsea.png").resize((300, 200))))

    [event] = eventually(lambda: cats.of(key))
    [message] = eventually(lambda: inbox.of(key, "COMPLETED"))

    assert json.loads(message["Message"]) == event["detail"]
