"""The dead-letter queue of the running local cloud, and the commands that look after it.

The function ``handle_upload`` is misconfigured here, as a bad deployment would leave it: uploads
are in the bucket, their events die, and nothing is recorded until somebody redrives them. So the
cloud is one of its own: others' uploads would die with them.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from chalicelib.aws.catalog import Catalog
from chalicelib.messages import encode_work
from chalicelib.model import Image, ImageStatus, Original, image_id_of
from infrastructure.stage import PROJECT
from localcloud.cloud import LocalCloud
from tests.pictures import photo, saved
from tests.waiting import TIMEOUT_S, eventually

FUNCTION = "image-pipeline-local-{}"


def infrastructure(cloud: LocalCloud, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of ``python -m infrastructure`` for the stage ``local``, to its end."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return subprocess.run(
        [sys.executable, "-m", "infrastructure", *words, "--stage", "local"],
        cwd=PROJECT,
        env=environ | cloud.client_environ | cloud.variables,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


class DeadLetters:
    """The dead-letter queue as a test fills and counts it."""

    def __init__(self, cloud: LocalCloud) -> None:
        self._sqs = cloud.client("sqs")
        self._url = cloud.outputs["WorkQueueUrl"].replace("-work", "-dead-letters")

    def __len__(self) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=names)
        return sum(int(count) for count in answer["Attributes"].values())

    def put(self, body: str) -> None:
        self._sqs.send_message(QueueUrl=self._url, MessageBody=body)

    def clear(self) -> None:
        self._sqs.purge_queue(QueueUrl=self._url)


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud(enforce_iam=True) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def misconfigured(cloud: LocalCloud) -> None:
    """``handle_upload`` cannot read a setting."""
    client, name = cloud.client("lambda"), FUNCTION.format("handle_upload")
    variables = client.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    client.update_function_configuration(
        FunctionName=name, Environment={"Variables": variables | {"MAX_RECEIVE_COUNT": "many"}}
    )
    client.get_waiter("function_updated_v2").wait(
        FunctionName=name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 10 * TIMEOUT_S}
    )


@pytest.fixture
def dead(cloud: LocalCloud, misconfigured: None) -> Iterator[DeadLetters]:  # noqa: ARG001
    """The dead-letter queue, empty before and after."""
    letters = DeadLetters(cloud)
    assert len(letters) == 0
    yield letters
    letters.clear()


def upload(cloud: LocalCloud, dead: DeadLetters, key: str) -> Original:
    """An object of which nothing is recorded; its event is dead when this returns."""
    body, before = saved(photo(640, 480)), len(dead)
    answer = cloud.client("s3").put_object(
        Bucket=cloud.outputs["UploadsBucket"], Key=key, Body=body
    )
    eventually(lambda: len(dead) > before)
    assert record_of(cloud, key) is None
    return Original(
        key=key,
        version_id=answer["VersionId"],
        etag=answer["ETag"].strip('"'),
        size_bytes=len(body),
        sequencer="",
        uploaded_at="2026-01-31T09:15:00.000Z",
    )


def record_of(cloud: LocalCloud, key: str) -> Image | None:
    catalog = Catalog(cloud.client("dynamodb"), cloud.outputs["TableName"])
    return catalog.get(image_id_of(key))


def is_completed(cloud: LocalCloud, key: str) -> bool:
    image = record_of(cloud, key)
    return image is not None and image.status is ImageStatus.COMPLETED and image.announced


def test_asynchronous_functions_have_a_destination(cloud: LocalCloud) -> None:
    """After every deployment."""
    client = cloud.client("lambda")

    for name in ("handle_upload", "handle_removal", "sweep"):
        config = client.get_function_event_invoke_config(FunctionName=FUNCTION.format(name))
        assert config["MaximumRetryAttempts"] == 2
        assert config["MaximumEventAgeInSeconds"] == 6 * 60 * 60
        arn = config["DestinationConfig"]["OnFailure"]["Destination"]
        assert arn.endswith(":image-pipeline-local-dead-letters")
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_function_event_invoke_config(FunctionName=FUNCTION.format("process_images"))


def test_upload_whose_event_died_is_brought_through(cloud: LocalCloud, dead: DeadLetters) -> None:
    """An event that its function fails at for good is listed, redriven, and becomes an image."""
    key = "uploads/dead letters/é ü.jpg"
    upload(cloud, dead, key)

    looked = infrastructure(cloud, "dlq")
    assert (looked.returncode, looked.stderr) == (1, "")
    assert "1  handle_upload: " in looked.stdout
    assert f"{image_id_of(key)}, {key}" in looked.stdout
    assert "MAX_RECEIVE_COUNT" in looked.stdout
    assert len(dead) == 1

    redriven = infrastructure(cloud, "dlq", "--redrive")
    assert (redriven.returncode, redriven.stderr) == (0, "")
    eventually(lambda: is_completed(cloud, key))
    assert len(dead) == 0


def test_one_cause_is_redriven_and_another_discarded(cloud: LocalCloud, dead: DeadLetters) -> None:
    """A message of the work queue goes back by itself; what it leaves is removed by its cause."""
    original = upload(cloud, dead, "uploads/dead letters/selected.jpg")
    dead.put(encode_work(original))

    redriven = infrastructure(cloud, "dlq", "--redrive", "--cause", "unknown")
    assert redriven.returncode == 1, redriven.stderr
    assert "1 of other causes." in redriven.stdout
    eventually(lambda: is_completed(cloud, original.key))
    assert len(dead) == 1

    discarded = infrastructure(cloud, "dlq", "--discard", "--cause", "handle_upload")
    assert discarded.returncode == 0, discarded.stderr
    printed = [line for line in discarded.stdout.splitlines() if line.startswith("{")]
    assert "requestPayload" in json.loads(printed[0])["body"]
    assert len(dead) == 0


def test_what_nobody_understands_stays(cloud: LocalCloud, dead: DeadLetters) -> None:
    """Neither a look nor a redrive takes it, nor a discard without a cause; a named one does."""
    dead.put("hello")
    dead.put("world")

    assert infrastructure(cloud, "dlq").returncode == 1
    assert infrastructure(cloud, "dlq", "--redrive").returncode == 1
    assert infrastructure(cloud, "dlq", "--discard").returncode == 2
    assert len(dead) == 2

    one = infrastructure(cloud, "dlq", "--discard", "--cause", "malformed", "--limit", "1")
    assert one.returncode == 1
    assert "There are more than these 1" in one.stdout
    assert len(dead) == 1
    assert infrastructure(cloud, "dlq", "--discard", "--cause", "malformed").returncode == 0

    empty = infrastructure(cloud, "dlq")
    assert (empty.returncode, empty.stdout) == (0, "The dead-letter queue is empty.\n")


def test_failed_sweep_is_only_removed(cloud: LocalCloud, dead: DeadLetters) -> None:
    """Its event is no work: the next sweep does what this one has not done."""
    cloud.client("lambda").invoke(
        FunctionName=FUNCTION.format("sweep"),
        InvocationType="Event",
        Payload=json.dumps({"detail-type": "Scheduled Event"}),  # too little for Chalice
    )
    eventually(lambda: len(dead))

    redriven = infrastructure(cloud, "dlq", "--redrive", "--cause", "sweep")

    assert redriven.returncode == 0, redriven.stderr
    assert len(dead) == 0
