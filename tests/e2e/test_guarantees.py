"""Faults, retries, dead letters and the sweep, on a cloud of their own under enforced roles."""

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.request import Request, urlopen

import pytest

from chalicelib.aws.catalog import Catalog
from chalicelib.model import RETRIES_EXHAUSTED, Image, ImageStatus, image_id_of
from localcloud.cloud import LocalCloud
from localcloud.rekognition.server import FAULTS_PATH
from tests.pictures import photo, saved
from tests.waiting import TIMEOUT_S, eventually

PICTURE = saved(photo(320, 240))


@pytest.fixture(scope="module")
def impatient() -> Iterator[LocalCloud]:
    """What fails is tried again at once."""
    with LocalCloud(settings={"RETRY_DELAY_S": "0"}, enforce_iam=True) as cloud:
        yield cloud


@pytest.fixture
def rekognition(impatient: LocalCloud) -> Iterator[Callable[..., None]]:
    """Sets the faults of Rekognition; they are gone after the test."""

    def set_faults(**faults: Any) -> None:
        url = impatient.rekognition_url + FAULTS_PATH
        urlopen(Request(url, json.dumps(faults).encode(), method="PUT"), timeout=TIMEOUT_S).close()

    yield set_faults
    set_faults()


def catalog_of(cloud: LocalCloud) -> Catalog:
    return Catalog(cloud.client("dynamodb"), cloud.outputs["TableName"])


def upload(cloud: LocalCloud, name: str) -> str:
    key = f"uploads/guarantees/{name}"
    bucket = cloud.outputs["UploadsBucket"]
    cloud.client("s3").put_object(Bucket=bucket, Key=key, Body=PICTURE)
    return key


def settled(cloud: LocalCloud, key: str, status: ImageStatus) -> Image:
    """The image once it is in that status and announced."""
    catalog = catalog_of(cloud)

    def is_settled() -> Image | None:
        image = catalog.get(image_id_of(key))
        return image if image and image.is_settled and image.status is status else None

    image = eventually(is_settled)
    assert isinstance(image, Image)
    return image


def dead_letters(cloud: LocalCloud) -> list[str]:
    """What is in the dead-letter queue, once there is anything, taken off it."""
    sqs, url = cloud.client("sqs"), cloud.outputs["WorkQueueUrl"].replace("-work", "-dead-letters")
    messages = eventually(
        lambda: sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages")
    )
    for message in messages:
        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return [message["Body"] for message in messages]


def test_failures_that_pass_are_tried_again(
    impatient: LocalCloud, rekognition: Callable[..., None]
) -> None:
    """Two tries fail, repeated calls of the SDK included; the third completes the image."""
    rekognition(error="InternalServerError", operation="DetectLabels", next_calls=6)

    image = settled(impatient, upload(impatient, "third time.jpg"), ImageStatus.COMPLETED)

    assert image.attempt == 3
    assert image.failure is None


def test_what_never_passes_ends_in_the_dead_letter_queue(
    impatient: LocalCloud, rekognition: Callable[..., None]
) -> None:
    """After five receives the record says FAILED with the reason, and the message is kept."""
    rekognition(error="InternalServerError", rate=1.0)
    key = upload(impatient, "never.jpg")

    image = settled(impatient, key, ImageStatus.FAILED)

    assert image.failure
    assert image.failure.code == RETRIES_EXHAUSTED
    assert "InternalServerError" in image.failure.message
    [letter] = dead_letters(impatient)
    assert json.loads(letter)["key"] == key

    rekognition()
    impatient.client("sqs").send_message(
        QueueUrl=impatient.outputs["WorkQueueUrl"], MessageBody=letter
    )
    assert settled(impatient, key, ImageStatus.COMPLETED).failure is None


def test_throttling_is_not_the_images_fault(
    impatient: LocalCloud, rekognition: Callable[..., None]
) -> None:
    """However often calls are refused, the image waits, and no message is given up."""
    # Five tries of three calls, and one.
    rekognition(error="ThrottlingException", operation="DetectLabels", next_calls=16)

    image = settled(impatient, upload(impatient, "throttled.jpg"), ImageStatus.COMPLETED)

    assert image.attempt > 5


def test_sweep_brings_back_an_image_whose_worker_and_message_are_gone(
    impatient: LocalCloud,
) -> None:
    """A record left PROCESSING is found in its index, and the image completed."""
    key = upload(impatient, "left.jpg")
    image = settled(impatient, key, ImageStatus.COMPLETED)
    left_at = "2026-01-31T09:15:00.000Z"
    impatient.client("dynamodb").update_item(
        TableName=impatient.outputs["TableName"],
        Key={"pk": {"S": f"IMAGE#{image.image_id}"}, "sk": {"S": "RECORD"}},
        UpdateExpression=(
            "SET #status = :processing, updated_at = :left, lease_until = :left, "
            "announced = :no, unsettled = listing"
        ),
        ExpressionAttributeNames={"#status": "status"},
        ExpressionAttributeValues={
            ":processing": {"S": "PROCESSING"},
            ":left": {"S": left_at},
            ":no": {"BOOL": False},
        },
    )
    event = dict.fromkeys(("version", "account", "region", "detail", "source", "time", "id"), "")

    answer = impatient.client("lambda").invoke(
        FunctionName="image-pipeline-local-sweep",
        Payload=json.dumps(
            event | {"detail": {}, "detail-type": "Scheduled Event", "resources": []}
        ),
    )

    assert "FunctionError" not in answer, answer["Payload"].read()
    assert settled(impatient, key, ImageStatus.COMPLETED).attempt == image.attempt + 1
