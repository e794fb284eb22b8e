"""A burst of images through the running local cloud, while its workers are killed at random."""

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chalicelib.aws.catalog import Catalog
from chalicelib.config import UPLOADS_PREFIX
from localcloud.cloud import INBOX, LocalCloud
from tests.chaos.world import pictures

FUNCTION = "image-pipeline-local-process_images"
TIMEOUT_S = 25
"""Of the function, and so of the lease of a worker that is killed."""

VISIBILITY_S = 30
KILL_EVERY_S = (0.5, 2.5)
KILLS_A_LOOK = 4
"""Looking at all records takes the local cloud a second."""

PATIENCE_S = 400
RENDITIONS = 4
BATCH = 10


@dataclass(frozen=True)
class Burst:
    """What became of a burst. ``announced`` counts the announcements of each key and status."""

    kills: int
    seconds: float
    statuses: Counter[str]
    counts: dict[str, int]
    announced: Counter[tuple[str, str]]
    renditions: int
    dead_letters: int


def check(result: Burst, images: int) -> None:
    """All of them are there, and nothing twice. Raises AssertionError."""
    assert result.statuses == {"COMPLETED": images}, result.statuses
    assert set(result.counts.values()) == {images}, result.counts
    assert result.renditions == RENDITIONS * images, result.renditions
    assert len(result.announced) == images, "some were not announced"
    assert {status for _, status in result.announced} == {"COMPLETED"}
    assert result.dead_letters == 0
    doubled = result.announced.total() - images
    assert doubled <= result.kills * BATCH, f"{doubled} were announced twice"


def burst(cloud: LocalCloud, images: int, seed: int) -> Burst:
    """Upload so many cats at once; kill workers until nearly all are done; wait for the rest."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    sqs, queue = cloud.client("sqs"), cloud.outputs["WorkQueueUrl"]
    cloud.client("lambda").update_function_configuration(FunctionName=FUNCTION, Timeout=TIMEOUT_S)
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": str(VISIBILITY_S)})
    began, s3, bucket = time.monotonic(), cloud.client("s3"), cloud.outputs["UploadsBucket"]

    def upload(number: int) -> None:
        key = f"{UPLOADS_PREFIX}burst/{number:04}.jpg"
        s3.put_object(Bucket=bucket, Key=key, Body=pictures()[number % 2])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(upload, range(images)))
    kills = done = 0
    while done < images and time.monotonic() - began < PATIENCE_S:
        for _ in range(KILLS_A_LOOK):
            time.sleep(dice.uniform(*KILL_EVERY_S))
            workers = list(_workers(cloud.state))
            if workers and done < images * 0.8:
                with suppress(ProcessLookupError):  # it has just ended by itself
                    os.kill(dice.choice(workers), signal.SIGKILL)
                    kills += 1
        done = _done(cloud)
    seconds = time.monotonic() - began
    dead = sqs.get_queue_attributes(
        QueueUrl=queue.replace("-work", "-dead-letters"),
        AttributeNames=["ApproximateNumberOfMessages"],
    )
    items = list(_items(cloud))
    return Burst(
        kills=kills,
        seconds=seconds,
        statuses=Counter(item["status"]["S"] for item in items if "status" in item),
        counts=_counts(cloud),
        announced=_announced(cloud),
        renditions=sum(1 for _ in _stored(cloud)),
        dead_letters=int(dead["Attributes"]["ApproximateNumberOfMessages"]),
    )


def _workers(state: Path) -> Iterator[int]:
    """The processes that run the function in this cloud (Linux: /proc)."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text()
        except OSError:
            continue  # it has just ended
        if str(state) in command and FUNCTION in command:
            yield int(process.name)


def _items(cloud: LocalCloud) -> Iterator[dict[str, Any]]:
    pages = cloud.client("dynamodb").get_paginator("scan")
    for page in pages.paginate(TableName=cloud.outputs["TableName"]):
        yield from page["Items"]


def _done(cloud: LocalCloud) -> int:
    """How many images are settled."""
    return sum(item["sk"]["S"] == "RECORD" and "unsettled" not in item for item in _items(cloud))


def _counts(cloud: LocalCloud) -> dict[str, int]:
    """How many images each label has."""
    catalog = Catalog(cloud.client("dynamodb"), cloud.outputs["TableName"])
    return {each.name.casefold(): each.images for each in catalog.label_counts("")}


def _announced(cloud: LocalCloud) -> Counter[tuple[str, str]]:
    sqs = cloud.client("sqs")
    inbox = sqs.get_queue_url(QueueName=INBOX)["QueueUrl"]
    announced: Counter[tuple[str, str]] = Counter()
    while messages := sqs.receive_message(QueueUrl=inbox, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            details = json.loads(json.loads(message["Body"])["Message"])
            announced[details["key"], details["status"]] += 1
    return announced


def _stored(cloud: LocalCloud) -> Iterator[str]:
    pages = cloud.client("s3").get_paginator("list_objects_v2")
    for page in pages.paginate(Bucket=cloud.outputs["RenditionsBucket"]):
        yield from (stored["Key"] for stored in page.get("Contents", ()))
