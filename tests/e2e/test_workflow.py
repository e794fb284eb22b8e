"""The same pictures by the worker and by the state machine, each on a local cloud of its own."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import boto3
import pytest
import skimage.data

from chalicelib.aws.catalog import Catalog
from chalicelib.imaging import render
from chalicelib.messages import Recheck, encode_work
from chalicelib.model import Image, Limits, image_id_of
from infrastructure.stack import Stack
from infrastructure.workflow import WORKFLOW, tell_eventbridge, worker_of
from localcloud.cloud import LocalCloud
from localcloud.emulator import REGION
from localcloud.rekognition.server import FAULTS_PATH
from tests.e2e.test_way_of_an_image import Inbox
from tests.pictures import photo, saved
from tests.waiting import TIMEOUT_S, eventually

WHOLE_WAY = ["Validate", "WhatIsIt", "Recognise", "Render", "Store", "Announce"]


class Side:
    """One of the two clouds, and what became of images in it."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.cloud = cloud
        self.catalog = Catalog(cloud.client("dynamodb"), cloud.outputs["TableName"])
        self.inbox = Inbox(cloud)
        self._s3 = cloud.client("s3")

    def upload(self, key: str, body: bytes) -> None:
        self._s3.put_object(Bucket=self.cloud.outputs["UploadsBucket"], Key=key, Body=body)

    def replace_and_remove(self, key: str, body: bytes) -> None:
        """Nothing of it is there any more once somebody looks."""
        self.upload(key, body)
        self._s3.delete_object(Bucket=self.cloud.outputs["UploadsBucket"], Key=key)

    def settled(self, key: str, least_attempt: int = 0) -> Image:
        def is_settled() -> Image | None:
            image = self.catalog.get(image_id_of(key))
            done = image is not None and image.is_settled and image.attempt >= least_attempt
            return image if done else None

        image = eventually(is_settled)
        assert isinstance(image, Image)
        return image

    def stored(self, key: str) -> dict[str, bytes]:
        """All that is stored of an image, by place and name."""
        bucket, image_id = self.cloud.outputs["RenditionsBucket"], image_id_of(key)
        listing = self._s3.list_objects_v2(Bucket=bucket).get("Contents", ())
        return {
            f"{each['Key'].split('/')[0]}/{each['Key'].split('/')[-1]}": self._s3.get_object(
                Bucket=bucket, Key=each["Key"]
            )["Body"].read()
            for each in listing
            if image_id in each["Key"]
        }

    def told(self, image: Image) -> Any:
        [message] = eventually(lambda: self.inbox.of(image.original.key, image.status))
        details = json.loads(message["Message"])
        return {
            "subject": message["Subject"],
            **{name: value for name, value in details.items() if name not in CHANGING},
        }

    @contextmanager
    def flagging(self, body: bytes) -> Iterator[None]:
        """Rekognition finds fault with a picture."""
        phash = render(body, (), Limits()).fingerprint.phash
        rules = self.cloud.state / "moderation.json"
        labels = [{"Name": "Violence", "ParentName": "", "TaxonomyLevel": 1, "Confidence": 93.5}]
        rules.write_text(json.dumps({phash: labels}))
        yield
        rules.unlink()

    def rekognition(self, **faults: Any) -> None:
        url = self.cloud.rekognition_url + FAULTS_PATH
        urlopen(Request(url, json.dumps(faults).encode(), method="PUT"), timeout=TIMEOUT_S).close()


CHANGING = {
    *("version_id", "revision", "uploaded_at", "updated_at", "processed_at", "renditions"),
    *("event_id", "event_time", "duplicates"),
}
"""What differs between two runs of the same, or by what else is there."""


def lasting(image: Image) -> Image:
    """A record without what differs between two runs of the same, or by what else is there."""
    return replace(
        image,
        original=replace(image.original, version_id="", sequencer="", uploaded_at=""),
        renditions=tuple(replace(each, key="") for each in image.renditions),
        updated_at="",
        processed_at=None,
        revision=0,
        attempt=0,
        duplicates=(),
    )


@dataclass
class Execution:
    name: str
    status: str
    given: Any
    events: list[dict[str, Any]]

    @property
    def states(self) -> list[str]:
        details = (each.get("stateEnteredEventDetails", {}) for each in self.events)
        return [each["name"] for each in details if each]

    @property
    def errors(self) -> list[str]:
        details = (each.get("taskFailedEventDetails", {}) for each in self.events)
        return [each["error"] for each in details if each]


def executions(cloud: LocalCloud, key: str) -> list[Execution]:
    """Those for a key, once all have ended: what they do last tells nobody."""
    client, machine = cloud.client("stepfunctions"), cloud.outputs["StateMachineArn"]

    def found() -> list[Execution]:
        found = []
        for each in client.list_executions(stateMachineArn=machine)["executions"]:
            arn = each["executionArn"]
            given = json.loads(client.describe_execution(executionArn=arn)["input"])
            if key in (given.get("key"), given.get("recheck")):
                events = client.get_execution_history(executionArn=arn, maxResults=1000)["events"]
                found.append(Execution(each["name"], each["status"], given, events))
        return found

    eventually(lambda: all(each.status != "RUNNING" for each in found()))
    return found()


@pytest.fixture(scope="module")
def staged() -> Iterator[LocalCloud]:
    """A local cloud whose images go by the state machine, which waits a twentieth of its time."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SFN_WAIT_SCALE", "0.05")
        with LocalCloud(settings={"ORCHESTRATION": "stepfunctions"}, enforce_iam=True) as cloud:
            yield cloud


@pytest.fixture(scope="module")
def sides(cloud: LocalCloud, staged: LocalCloud) -> tuple[Side, Side]:
    return Side(cloud), Side(staged)


def assert_same(sides: tuple[Side, Side], key: str) -> Image:
    """Record, renditions and announcement; gives the record."""
    inline, staged = (side.settled(key) for side in sides)
    assert lasting(staged) == lasting(inline)
    assert sides[1].stored(key) == sides[0].stored(key)
    assert sides[1].told(staged) == sides[0].told(inline)
    return staged


def test_picture_ends_the_same(sides: tuple[Side, Side]) -> None:
    """One with labels and faces, by every stage."""
    key = "uploads/workflow/astronaut.png"
    body = (Path(skimage.data.__file__).parent / "astronaut.png").read_bytes()
    for side in sides:
        side.upload(key, body)

    image = assert_same(sides, key)

    assert image.status == "COMPLETED"
    assert image.recognition.faces
    [execution] = executions(sides[1].cloud, key)
    assert (execution.status, execution.states) == ("SUCCEEDED", WHOLE_WAY)


def test_broken_file_ends_the_same(sides: tuple[Side, Side]) -> None:
    """It is no failure of the execution, which goes the shorter way."""
    key = "uploads/workflow/broken.jpg"
    for side in sides:
        side.upload(key, saved(photo(640, 480))[:9_000])

    image = assert_same(sides, key)

    assert image.failure is not None
    assert image.failure.code == "corrupt_image"
    [execution] = executions(sides[1].cloud, key)
    assert execution.states == ["Validate", "WhatIsIt", "Store", "Announce"]
    assert execution.status == "SUCCEEDED"


def test_flagged_picture_ends_the_same(sides: tuple[Side, Side]) -> None:
    """Withheld, with all that is stored of it under quarantine/."""
    key = "uploads/workflow/flagged.jpg"
    body = (Path(skimage.data.__file__).parent / "rocket.jpg").read_bytes()
    with sides[0].flagging(body), sides[1].flagging(body):
        for side in sides:
            side.upload(key, body)
        image = assert_same(sides, key)

    assert (image.status, image.withheld_for) == ("QUARANTINED", ("Violence",))
    places = {name.split("/")[0] for name in sides[1].stored(key)}
    assert places == {"quarantine"}
    assert len(sides[1].stored(key)) == len(image.renditions)


def test_picture_that_is_gone_meanwhile_ends_the_same(sides: tuple[Side, Side]) -> None:
    key = "uploads/workflow/gone.jpg"
    for side in sides:
        side.replace_and_remove(key, saved(photo(640, 480)))

    for side in sides:
        eventually(lambda side=side: side.settled(key).status == "DELETED")
        eventually(lambda side=side: not side.stored(key))


def test_throttled_picture_ends_the_same(sides: tuple[Side, Side]) -> None:
    """The worker brings its message back, the state machine its state."""
    key = "uploads/workflow/throttled.jpg"
    try:
        for side in sides:
            side.rekognition(error="ThrottlingException", next_calls=15)  # one try
            side.upload(key, saved(photo(700, 500, seed=4)))
        with suppress(pytest.fail.Exception):  # the SDK takes its time: half a call a second
            sides[0].settled(key)
        image = assert_same(sides, key)
    finally:
        for side in sides:
            side.rekognition()

    assert image.status == "COMPLETED"
    [execution] = executions(sides[1].cloud, key)
    assert set(execution.errors) == {"Throttled"}
    assert execution.status == "SUCCEEDED"


def test_message_that_comes_twice_starts_one_execution(sides: tuple[Side, Side]) -> None:
    _, staged = sides
    key = "uploads/workflow/twice.jpg"
    queue = staged.cloud.outputs["WorkQueueUrl"]
    staged.upload(key, saved(photo(600, 500, seed=5)))
    body = encode_work(Recheck(key))
    for _ in range(3):
        staged.cloud.client("sqs").send_message(QueueUrl=queue, MessageBody=body)

    staged.settled(key)

    ran = [each for each in executions(staged.cloud, key) if "Recognise" in each.states]
    assert len(ran) == 1


def test_reprocessing_is_another_execution(sides: tuple[Side, Side]) -> None:
    _, staged = sides
    key = "uploads/workflow/again.jpg"
    staged.upload(key, saved(photo(500, 500, seed=6)))
    image = staged.settled(key)
    url = f"{staged.cloud.api_url}/images/{image.image_id}/reprocess"
    urlopen(Request(url, b"", method="POST"), timeout=TIMEOUT_S).close()

    again = staged.settled(key, least_attempt=2)

    assert lasting(again) == lasting(image)
    assert len({each.name for each in executions(staged.cloud, key)}) == 2
    eventually(lambda: len(staged.stored(key)) == len(image.renditions))


def test_event_of_s3_starts_an_execution_by_itself(sides: tuple[Side, Side]) -> None:
    """By EventBridge, with the queue beside it: which of them is first does not matter."""
    _, staged = sides
    cloud, key = staged.cloud, "uploads/workflow/by event + 100%.jpg"
    stack = Stack(cloud.client("cloudformation"), "image-pipeline-local-workflow")
    parameters = {"Stage": "local", "StartFromS3": "true"} | worker_of(cloud.outputs)
    change_set = stack.propose(WORKFLOW, parameters, {})
    assert change_set is not None
    stack.apply(change_set, lambda _: None)
    session = boto3.Session("test", "test", region_name=REGION)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", cloud.endpoint)
        uploads = cloud.outputs["UploadsBucket"]
        assert tell_eventbridge(uploads, session, wanted=True)
        assert not tell_eventbridge(uploads, session, wanted=True)

        staged.upload(key, saved(photo(400, 500, seed=7)))
        image = staged.settled(key)

        assert tell_eventbridge(uploads, session, wanted=False)
    assert image.status == "COMPLETED"
    started = eventually(
        lambda: [each for each in executions(cloud, key) if each.given == {"recheck": key}]
    )
    assert started
    ran = [each for each in executions(cloud, key) if "Recognise" in each.states]
    assert len(ran) == 1
    assert staged.told(image)["subject"]


def test_no_role_was_too_narrow(sides: tuple[Side, Side]) -> None:
    """After all of the above."""
    calls = sides[1].cloud.calls_log.read_text().splitlines()
    assert not [call for call in calls if not json.loads(call)["allowed"]]
    logs = sides[1].cloud.client("logs")
    for group in logs.describe_log_groups(logGroupNamePrefix="/aws/lambda/")["logGroups"]:
        for event in logs.filter_log_events(logGroupName=group["logGroupName"])["events"]:
            assert "AccessDenied" not in event["message"]
