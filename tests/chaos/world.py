"""A pipeline of its own in MiniStack, its clients, its events and its time, all from one seed.

The handlers of ``app.py`` run with the real adapters. What is not real is time, which is moved,
and who delivers: S3's events and the queue's messages are handed over here as AWS may do it, twice,
late and in any order.
"""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote_plus

import boto3
import PIL.Image
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from chalice.test import Client

import app
from chalicelib import imaging, pipeline, worker
from chalicelib.aws import catalog, recognition
from chalicelib.aws.layout import FOLDS, added, added_by, counters_of, labels_of
from chalicelib.bootstrap import Services
from chalicelib.config import read_settings
from chalicelib.errors import BatchFailed, PermanentError, PipelineError
from chalicelib.messages import decode_work, timestamp
from chalicelib.model import Image, ImageStatus, Limits, Query, image_id_of
from infrastructure.dead_letters import DeadLetterQueue, diagnosed, redrive
from localcloud.cloud import LocalCloud
from localcloud.demo import sample_photos
from localcloud.emulator import REGION
from tests.chaos.actors import Actor, Call, Faults, Inline, Killed, answer_with
from tests.fakes import FakeTelemetry
from tests.pictures import photo, saved
from tests.tables import create_table_like

SERVICES = ("s3", "sqs", "dynamodb", "sns", "rekognition")
MAX_RECEIVES = 5
ASYNC_TRIES = 3
TIME_LEFT_MS = 50_000
NAMES = ("cat.jpg", "a+b c.jpg", "100%.jpg", "é 東京 🦊.jpg")
CALL_TAKES = timedelta(milliseconds=5)
JUMPS_S = (1, 20, 61, 61, 1_000, 7_200)
EXPECTED = (PipelineError, BotoCoreError, ClientError, OSError, Killed, type(None))
"""What a handler may end with; anything else is a fault of its own."""

RECORD_WRITES = {("dynamodb", "PutItem"), ("dynamodb", "TransactWriteItems")}

QUIET = 40
"""Rounds after which a pipeline without faults has come to rest, or never will."""


@dataclass
class Event:
    """An event of S3 that is on its way, and how often its handler has failed at it."""

    record: dict[str, Any]
    handler: str
    tries: int = 0


@dataclass
class Clock:
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.now


@dataclass(frozen=True)
class Lease:
    """Who wrote a record last, of which version, and until when it is leased (empty: it is not)."""

    actor: str
    version: str
    until: str


@dataclass(frozen=True)
class Expected:
    """What the pipeline makes of a picture when nothing goes wrong."""

    status: ImageStatus
    labels: frozenset[str]
    renditions: Mapping[str, bytes]
    is_flagged: bool = False


@contextmanager
def flagged_person(cloud: LocalCloud) -> Iterator[None]:
    """Within it, Rekognition finds fault with the picture of a person."""
    rendered = imaging.render(pictures()[2], (), Limits())
    label = {"Name": "Violence", "ParentName": "", "TaxonomyLevel": 1, "Confidence": 99.0}
    rules = cloud.state / "moderation.json"
    rules.write_text(json.dumps({rendered.fingerprint.phash: [label]}))
    yield
    rules.unlink()


class Clients:
    """The clients of one MiniStack: ``raw`` ones, and those of the app, with all calls watched."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.raw = {service: cloud.client(service) for service in SERVICES}
        self.table = cloud.outputs["TableName"]
        self.watched = {
            attempts: {service: self._watched(cloud, service, attempts) for service in SERVICES}
            for attempts in (1, 2)
        }
        self.world: World | None = None

    def _watched(self, cloud: LocalCloud, service: str, attempts: int) -> Any:
        """A client that repeats a failed call by itself, or leaves that to the pipeline."""
        rekognition = service == "rekognition"
        client = boto3.Session().client(
            service,  # type: ignore[call-overload]  # its stubs know literals alone
            endpoint_url=cloud.rekognition_url if rekognition else cloud.endpoint,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106
            config=Config(retries={"total_max_attempts": attempts, "mode": "standard"}),
        )

        def on_send(request: Any, event_name: str, **_: Any) -> Any:
            actor = getattr(Actor.here, "actor", None)
            operation = event_name.rpartition(".")[2]
            send = client._endpoint.http_session.send  # noqa: SLF001 - an answer can be lost
            assert self.world
            assert actor
            return self.world.call(actor, (service, operation), request, lambda: send(request))

        client.meta.events.register("before-send", on_send)
        if service == "sqs":  # a copy of a message would be late by the real clock
            client.meta.events.register(
                "before-parameter-build.sqs.SendMessage", lambda params, **_: _at_once(params)
            )
        return client


def _at_once(params: dict[str, Any]) -> None:
    params["DelaySeconds"] = 0


class World:
    """One schedule. ``run`` raises AssertionError when an invariant does not hold at the end."""

    def __init__(self, seed: int, clients: Clients, *, fault_rate: float | None = None) -> None:
        self.seed = seed
        self.dice = random.Random(seed)  # noqa: S311 - no secret
        self.log: list[str] = []
        self.clients, self.raw = clients, clients.raw
        clients.world = self
        rate = self.dice.choice((0.0, 0.02, 0.05, 0.1, 0.2)) if fault_rate is None else fault_rate
        self.faults = Faults(self.dice, rate)
        self.clock = Clock()
        self.events: list[Event] = []
        self.actors: list[Actor] = []
        self.receipts: list[str] = []
        self.uploads: dict[tuple[str, str], bytes] = {}  # (key, version id) → body
        self.inbox_messages: list[dict[str, Any]] = []
        self.withholds = self.dice.random() < 0.5
        self.reprocessed = self.reinstated = self.may_double = self.sequencer = 0
        self.timed_out = False
        self.leases: dict[str, Lease] = {}
        self.taken: list[str] = []
        self.errors: list[BaseException | None] = []
        self._make_resources()
        self.services = Services(self.settings)
        attempts = 1 if seed % 4 else 2
        self.services._clients.update(clients.watched[attempts])  # noqa: SLF001
        self.services.clock = self.clock  # type: ignore[method-assign]
        self.services.telemetry = FakeTelemetry()  # type: ignore[assignment]
        self.raw_services = Services(self.settings)
        self.raw_services._clients.update(clients.raw)  # noqa: SLF001
        self.http = Client(app.app).http

    # ── the cloud ────────────────────────────────────────────────────────────────────────────────

    def _make_resources(self) -> None:
        name = f"chaos-{self.seed}-{self.dice.randrange(10**6)}"
        self.uploads_bucket, self.renditions_bucket = f"{name}-uploads", f"{name}-renditions"
        for bucket in (self.uploads_bucket, self.renditions_bucket):
            self.raw["s3"].create_bucket(Bucket=bucket)
        self.raw["s3"].put_bucket_versioning(
            Bucket=self.uploads_bucket, VersioningConfiguration={"Status": "Enabled"}
        )
        self.table = name
        create_table_like(self.raw["dynamodb"], self.clients.table, name)
        self.dead_letters = self._make_queue(f"{name}-dead")
        redrive = {
            "deadLetterTargetArn": self._arn_of(self.dead_letters),
            "maxReceiveCount": MAX_RECEIVES,
        }
        self.queue = self._make_queue(f"{name}-work", RedrivePolicy=json.dumps(redrive))
        may_send = {
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": "*",
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [may_send]})
        self.inbox = self._make_queue(f"{name}-inbox", Policy=policy)
        self.topic = self.raw["sns"].create_topic(Name=name)["TopicArn"]
        self.raw["sns"].subscribe(
            TopicArn=self.topic,
            Protocol="sqs",
            Endpoint=self._arn_of(self.inbox),
            Attributes={"RawMessageDelivery": "true"},
        )
        self.settings = read_settings(
            {
                "STAGE": "chaos",
                "UPLOADS_BUCKET": self.uploads_bucket,
                "RENDITIONS_BUCKET": self.renditions_bucket,
                "TABLE_NAME": self.table,
                "WORK_QUEUE_URL": self.queue,
                "WEBHOOK_QUEUE_URL": self.queue,
                "TOPIC_ARN": self.topic,
                "MAX_RECEIVE_COUNT": str(MAX_RECEIVES),
                "RENDITIONS": "thumbnail 48x48 cover, small 100x75 prefix=processed",
                "RECOGNITION": "labels 20 50%, moderation",
                "QUARANTINE": "any 80%" if self.withholds else "",
            }
        )

    def _make_queue(self, name: str, **attributes: str) -> str:
        attributes["VisibilityTimeout"] = "3600"
        url: str = self.raw["sqs"].create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        return url

    def _arn_of(self, queue: str) -> str:
        answer = self.raw["sqs"].get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
        arn: str = answer["Attributes"]["QueueArn"]
        return arn

    def close(self) -> None:
        """Forget all of it."""
        s3 = self.raw["s3"]
        for bucket in (self.uploads_bucket, self.renditions_bucket):
            versions = s3.list_object_versions(Bucket=bucket)
            for kind in ("Versions", "DeleteMarkers"):
                for version in versions.get(kind, ()):
                    s3.delete_object(
                        Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"]
                    )
            s3.delete_bucket(Bucket=bucket)
        self.raw["dynamodb"].delete_table(TableName=self.table)
        for queue in (self.queue, self.dead_letters, self.inbox):
            self.raw["sqs"].delete_queue(QueueUrl=queue)
        self.raw["sns"].delete_topic(TopicArn=self.topic)

    # ── calls of the app ─────────────────────────────────────────────────────────────────────────

    def call(self, actor: Actor, call: Call, request: Any, send: Callable[[], Any]) -> Any:
        """One call of a service: its turn, what goes wrong with it, and what follows from it."""
        if not actor.is_dead:
            actor.wait_for_turn()
        if actor.is_dead:
            raise Killed
        self.clock.now += CALL_TAKES
        fault = self.faults.at(actor, call)
        self.log.append(f"    {actor.name}: {'.'.join(call)} {fault or ''}")
        is_told = call == ("sns", "Publish")
        # Who was frozen may find that its lease is over, and somebody else tells the same.
        if (fault and (actor.has_announced or is_told)) or (actor.is_late and is_told):
            self.may_double += 1
        try:
            return answer_with(
                fault, request, call, lambda: self._sent(actor, call, request, send())
            )
        except Killed:
            actor.is_dead = True
            raise

    def _sent(self, actor: Actor, call: Call, request: Any, answer: Any) -> Any:
        actor.has_announced |= call == ("sns", "Publish")
        if answer.status_code < 300 and call in RECORD_WRITES:
            self._written(actor, json.loads(request.body))
        url = answer.url
        if call[0] == "s3" and answer.status_code < 300 and self.uploads_bucket in url:
            version = answer.headers.get("x-amz-version-id")
            if call[1] == "PutObject":
                self._created(self._rest_key, version, self._rest_body)
            if call[1] == "DeleteObject":
                self._removed(self._rest_key, version)
        return answer

    def _written(self, actor: Actor, request: dict[str, Any]) -> None:
        """No worker begins at a version while another one holds the lease of it."""
        item = request.get("Item") or request["TransactItems"][0]["Put"]["Item"]
        if "status" not in item:
            return  # a bookmark
        version = item["original"]["M"]["version_id"]["S"]
        lease = Lease(actor.name, version, item.get("lease_until", {}).get("S", ""))
        before = self.leases.get(item["pk"]["S"])
        if before and (before.version, before.until) == (lease.version, lease.until):
            return  # the lease stays where it is
        if before and item["status"]["S"] == "PROCESSING" and before.version == version:
            is_held = before.until > timestamp(self.clock()) and before.actor != actor.name
            self.taken += [f"{actor.name} from {before}"] if is_held else []
        self.leases[item["pk"]["S"]] = lease

    # ── what clients do ──────────────────────────────────────────────────────────────────────────

    def _created(self, key: str, version: str, body: bytes) -> None:
        self.uploads[key, version] = body
        held = self.raw["s3"].head_object(Bucket=self.uploads_bucket, Key=key, VersionId=version)
        size, etag = held["ContentLength"], held["ETag"].strip('"')
        self._emit("handle_upload", "ObjectCreated:Put", key, version, size=size, eTag=etag)

    def _removed(self, key: str, version: str, kind: str = "DeleteMarkerCreated") -> None:
        self._emit("handle_removal", f"ObjectRemoved:{kind}", key, version)

    def _emit(self, handler: str, name: str, key: str, version: str, **about: Any) -> None:
        self.sequencer += 1
        record = {
            "eventName": name,
            "eventTime": self.clock().isoformat(),
            "s3": {
                "bucket": {"name": self.uploads_bucket},
                "object": {
                    "key": _quoted(key),
                    "versionId": version,
                    "sequencer": f"{self.sequencer:X}",
                    **about,
                },
            },
        }
        self.events.append(Event(record, handler))
        self.log.append(f"S3: {name} {key} {version}")

    def client_acts(self) -> None:
        key = "uploads/" + self.dice.choice(NAMES[: 1 + self.seed % len(NAMES)])
        act = self.dice.choice(
            (
                *(self._upload, self._upload, self._upload, self._delete, self._remove_version),
                *(self._upload_over_rest, self._delete_over_rest, self._reprocess),
                *(self._release,) * (3 if self.withholds else 0),
            )
        )
        act(key)

    def _upload(self, key: str) -> None:
        body = self.dice.choice(pictures())
        answer = self.raw["s3"].put_object(Bucket=self.uploads_bucket, Key=key, Body=body)
        self._created(key, answer["VersionId"], body)

    def _delete(self, key: str) -> None:
        answer = self.raw["s3"].delete_object(Bucket=self.uploads_bucket, Key=key)
        self._removed(key, answer["VersionId"])

    def _remove_version(self, key: str) -> None:
        """The newest version, or the marker on top of it, is gone for good."""
        self.reinstated += 1
        listing = self.raw["s3"].list_object_versions(Bucket=self.uploads_bucket, Prefix=key)
        versions = [*listing.get("Versions", ()), *listing.get("DeleteMarkers", ())]
        for version in versions:
            if version["IsLatest"]:
                self.raw["s3"].delete_object(
                    Bucket=self.uploads_bucket, Key=key, VersionId=version["VersionId"]
                )
                self._removed(key, version["VersionId"], "Delete")

    def _upload_over_rest(self, key: str) -> None:
        body = self.dice.choice(pictures())
        name = _quoted(key.removeprefix("uploads/"))
        self._request("POST", f"/images?name={name}", key, body)

    def _delete_over_rest(self, key: str) -> None:
        self._request("DELETE", f"/images/{image_id_of(key)}", key)

    def _reprocess(self, key: str) -> None:
        self.reprocessed += 1
        self._request("POST", f"/images/{image_id_of(key)}/reprocess", key)

    def _release(self, key: str) -> None:
        """What is withheld, where anything is."""
        for other in sorted(self._keys()):
            image = self.raw_services.catalog.get(image_id_of(other))
            key = other if image and image.is_withheld else key
        self.reprocessed += 1
        self._request("POST", f"/images/{image_id_of(key)}/release", key)

    def _request(self, method: str, path: str, key: str, body: bytes = b"") -> None:
        """Over REST, to its end: the client waits for the answer. It may get none."""
        headers = {"Content-Type": "image/jpeg"} if body else {}
        self._rest_key, self._rest_body = key, body

        def work() -> None:
            answer = self.http.request(method, path, headers=headers, body=body)
            self.log.append(f"REST: {method} {path} {answer.status_code}")

        actor = Actor("api_handler", work, lambda _: None)
        while not actor.is_done:
            actor.go_on()

    # ── what AWS does ────────────────────────────────────────────────────────────────────────────

    def deliver(self) -> None:
        """One of the events on its way, whichever; perhaps it will come again."""
        if not self.events:
            return
        event = self.events.pop(self.dice.randrange(len(self.events)))
        if self.faults.rate and self.dice.random() < 0.15:
            self.events.append(Event(event.record, event.handler))

        def ended(error: BaseException | None) -> None:
            if error is None:
                return
            event.tries += 1
            if event.tries < ASYNC_TRIES:
                self.events.append(event)
            else:
                self._give_up_on(event)

        payload = {"Records": [event.record]}
        self._start(event.handler, payload, ended)

    def _give_up_on(self, event: Event) -> None:
        """The on-failure destination of an asynchronous invocation."""
        record = {
            "version": "1.0",
            "requestContext": {
                "condition": "RetriesExhausted",
                "functionArn": f"arn:aws:lambda:{REGION}:0:function:x-{event.handler}:$LATEST",
            },
            "requestPayload": {"Records": [event.record]},
            "responsePayload": {"errorType": "Injected", "errorMessage": "Injected."},
        }
        self.raw["sqs"].send_message(QueueUrl=self.dead_letters, MessageBody=json.dumps(record))

    def work(self) -> bool:
        """A batch from the queue to the worker; False when nothing waits."""
        messages = self.raw["sqs"].receive_message(
            QueueUrl=self.queue,
            MaxNumberOfMessages=self.dice.randint(1, 5),
            AttributeNames=["ApproximateReceiveCount"],
        )
        batch = messages.get("Messages", [])
        if not batch:
            return False
        self.receipts += [message["ReceiptHandle"] for message in batch]
        records = [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message["Attributes"],
            }
            for message in batch
        ]

        def ended(error: BaseException | None) -> None:
            if error is None:
                for record in records:
                    with suppress(ClientError):  # it has been received again meanwhile
                        self.raw["sqs"].delete_message(
                            QueueUrl=self.queue, ReceiptHandle=record["receiptHandle"]
                        )

        self._start("process_images", {"Records": records}, ended)
        return True

    def sweep(self) -> None:
        about = ("version", "account", "region", "detail", "detail-type", "source", "time", "id")
        self._start("sweep", dict.fromkeys((*about, "resources")), lambda _: None)

    def _start(
        self, handler: str, event: dict[str, Any], ended: Callable[[BaseException | None], None]
    ) -> None:
        context = SimpleNamespace(get_remaining_time_in_millis=lambda: TIME_LEFT_MS)
        self.sequencer += 1
        name = f"{handler}#{self.sequencer}"
        self.log.append(f"Lambda: {name}")

        def told(error: BaseException | None) -> None:
            self.log.append(f"Lambda: {name} ends {error!r:.200}")
            self.errors += error.failures if isinstance(error, BatchFailed) else (error,)
            ended(error)

        self.actors.append(Actor(name, lambda: getattr(app, handler)(event, context), told))

    def go_on(self) -> None:
        """One invocation, whichever, runs to its next call."""
        if self.actors:
            actor = self.dice.choice(self.actors)
            actor.go_on()
            self.actors = [each for each in self.actors if not each.is_done]

    def pass_time(self, seconds: float) -> None:
        """Whatever was to come back after that time is there again.

        Invocations that are still running are over their time: they are ended, or, seldom, were
        frozen and go on as if nothing had happened.
        """
        self.clock.now += timedelta(seconds=seconds)
        self.log.append(f"Time: {seconds} s")
        if seconds * 1000 <= TIME_LEFT_MS:
            return
        for actor in self.actors:
            self.timed_out = True
            if self.dice.random() < 0.3:
                actor.is_late = True
            else:
                actor.is_dead = True
                self.may_double += actor.has_announced
        for receipt in list(self.receipts):
            try:
                self.raw["sqs"].change_message_visibility(
                    QueueUrl=self.queue, ReceiptHandle=receipt, VisibilityTimeout=0
                )
            except self.raw["sqs"].exceptions.ClientError:
                self.receipts.remove(receipt)  # it has been deleted, or received again

    # ── a schedule ───────────────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        acts = self.dice.randint(3, 9)
        while acts or self.dice.random() < 0.9:
            step = self.dice.choices(
                ("client", "deliver", "work", "sweep", "time", "go on"), (2, 3, 3, 0.2, 0.5, 30)
            )[0]
            if step == "client" and acts:
                acts -= 1
                self.client_acts()
            elif step == "deliver":
                self.deliver()
            elif step == "work" and len(self.actors) < 4:
                self.work()
            elif step == "sweep":
                self.sweep()
            elif step == "time":
                self.pass_time(self.dice.choice(JUMPS_S))
            else:
                self.go_on()
        self.faults.rate = 0
        self.come_to_rest()
        self.check(redriven=False)
        self.redrive()
        self.come_to_rest()
        self.check(redriven=True)

    def come_to_rest(self) -> None:
        """Without faults: all events are delivered, all work done, what fell through is found."""
        for _ in range(QUIET):
            while self.events or self.actors or self.work():
                self.deliver()
                while self.actors:
                    self.go_on()
            self.pass_time(7_200)
            self.sweep()
            while self.actors:
                self.go_on()
            if self._is_quiet():
                return
        raise AssertionError("sweeps go on finding something")

    def _is_quiet(self) -> bool:
        unsettled = [item for item in self._items() if "unsettled" in item]
        return not unsettled and not self._count(self.queue)

    def _count(self, queue: str) -> int:
        answer = self.raw["sqs"].get_queue_attributes(
            QueueUrl=queue,
            AttributeNames=[
                "ApproximateNumberOfMessages",
                "ApproximateNumberOfMessagesNotVisible",
            ],
        )
        return sum(map(int, answer["Attributes"].values()))

    def redrive(self) -> None:
        """All that is in the dead-letter queue, as its doctor gives it back."""
        with DeadLetterQueue(self.raw["sqs"], self.dead_letters) as dead:
            letters = dead.receive(self._count(self.dead_letters))
            findings = diagnosed(letters, self.raw_services.catalog, "chaos")
            redrive(findings, dead, self.raw_services.queue)
        self.log.append(f"Doctor: {[finding.cause for finding in findings]}")

    # ── what must hold ───────────────────────────────────────────────────────────────────────────

    def check(self, *, redriven: bool) -> None:
        """At rest the catalog says what S3 holds, and everything derived follows from that."""
        assert not self.taken, f"leases were taken while they were held: {self.taken}"
        unknown = [error for error in self.errors if not isinstance(error, EXPECTED)]
        assert not unknown, f"handlers ended with {unknown}"
        self.inbox_messages += map(json.loads, self._take_all(self.inbox))
        dead = self._dead_keys()
        if redriven or not (self.faults.injected or self.timed_out):
            assert not self._count(self.dead_letters), "the dead-letter queue is not empty"
        stored = self._stored()
        images = [self._check_key(key, stored, dead) for key in sorted(self._keys())]
        live = [image for image in images if image]
        named = {rendition.key for image in live for rendition in image.renditions}
        assert named == stored.keys(), f"orphaned or missing: {named ^ stored.keys()}"
        self._check_labels(live)
        pairs = {(image.image_id, each.image_id) for image in live for each in image.duplicates}
        assert not {(other, one) for one, other in pairs} & pairs, "two are each other's duplicate"
        listed = {image.image_id for image in self.raw_services.catalog.browse(Query(100)).images}
        assert listed == {image.image_id for image in live}, "the list is another"
        self._check_doubles()

    def _keys(self) -> set[str]:
        return {key for key, _ in self.uploads}

    def _check_key(self, key: str, stored: Mapping[str, bytes], dead: set[str]) -> Image | None:
        """The image of a key, as it must be; None for one that must be gone."""
        image = self.raw_services.catalog.get(image_id_of(key))
        held = self.raw_services.uploads.current(key)
        if held is None:
            assert image is None or image.status is ImageStatus.DELETED, f"{key} is not deleted"
            assert image is None or image.is_settled, f"the deletion of {key} is not settled"
            assert image is None or self._announced(key, "DELETED"), f"{key} went unannounced"
            return None
        assert image, f"{key} has no record"
        assert image.is_settled, f"{key} is not settled: {image.status}"
        assert image.original.version_id == held.version_id, f"{key} is of another version"
        assert self._announced(key, image.status, held.version_id), f"{key} went unannounced"
        if image.is_given_up:
            assert key in dead, f"{key} is given up, and there is no dead letter"
            return image
        expected = expected_of(self, self.uploads[key, held.version_id])
        is_withheld = self.withholds and expected.is_flagged and not image.released
        status = ImageStatus.QUARANTINED if is_withheld else expected.status
        assert image.status is status, f"{key} is {image.status}"
        assert image.is_withheld == is_withheld, f"{key} is withheld for {image.withheld_for}"
        assert all(
            each.key.startswith("quarantine/") == is_withheld for each in image.renditions
        ), f"{key} has renditions in the wrong place"
        labels = {label.name for label in image.recognition.labels}
        assert labels == expected.labels, f"{key} has the labels {labels}"
        bodies = {each.name: stored.get(each.key, b"") for each in image.renditions}
        assert bodies == expected.renditions, f"{key} has other renditions"
        return image

    def _announced(self, key: str, status: str, version: str | None = None) -> bool:
        return any(
            (message["key"], message["status"]) == (key, status)
            and version in {None, message["version_id"]}
            for message in self.inbox_messages
        )

    def _check_labels(self, live: list[Image]) -> None:
        """An entry and a count for each label of each image, its part of the totals, no others."""
        entries: Counter[str] = Counter()
        counts: Counter[str] = Counter()
        for item in self._items():
            kind, _, rest = item["pk"]["S"].partition("#")
            if kind == "LABEL":
                entries[f"{rest.rpartition('#')[0]} {item['sk']['S'].rpartition('#')[2]}"] += 1
            if kind in {"COUNTS", "TOTALS"}:
                counts.update(added(item))
            if kind == "CHANGES":
                counts.update(added_by(item))
        names = [(label, image.image_id) for image in live for label in labels_of(image)]
        assert entries == Counter(f"{name} {image_id}" for name, image_id in names)
        del counts[FOLDS]
        expected: Counter[str] = Counter()
        for image in live:
            expected.update(counters_of(image))
        assert +counts == +expected, f"the counts are {counts}"
        assert min(counts.values(), default=0) >= 0

    def _check_doubles(self) -> None:
        """An announcement comes again only where there was reason to."""
        announced = Counter(
            (each["key"], each["version_id"], each["event_type"], (each["error"] or {}).get("code"))
            for each in self.inbox_messages
        )
        doubled = announced.total() - len(announced)
        reasons = self.may_double + self.reprocessed + self.reinstated
        assert doubled <= reasons, f"{doubled} announcements came twice, for {reasons} reasons"

    def _dead_keys(self) -> set[str]:
        """The keys that dead letters are about; the letters stay."""
        bodies = self._take_all(self.dead_letters)
        for body in bodies:
            self.raw["sqs"].send_message(QueueUrl=self.dead_letters, MessageBody=body)
        keys = set()
        for body in bodies:
            message = json.loads(body)
            if "requestPayload" not in message:
                keys.add(decode_work(body).key)
        return keys

    def _take_all(self, queue: str) -> list[str]:
        sqs, bodies = self.raw["sqs"], []
        while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get(
            "Messages"
        ):
            for message in messages:
                bodies.append(message["Body"])
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return bodies

    def _stored(self) -> dict[str, bytes]:
        s3, bucket = self.raw["s3"], self.renditions_bucket
        listing = s3.list_objects_v2(Bucket=bucket).get("Contents", ())
        return {
            stored["Key"]: s3.get_object(Bucket=bucket, Key=stored["Key"])["Body"].read()
            for stored in listing
        }

    def _items(self) -> Iterator[dict[str, Any]]:
        pages = self.raw["dynamodb"].get_paginator("scan").paginate(TableName=self.table)
        for page in pages:
            yield from page["Items"]


def _quoted(key: str) -> str:
    return quote_plus(key, safe="/")


@cache
def pictures() -> tuple[bytes, ...]:
    """A cat in two sizes, which share labels; a person; nothing to see; and no picture at all."""
    astronaut, cat = (PIL.Image.open(path).convert("RGB") for path in sample_photos()[:2])
    return (
        saved(cat.resize((160, 106)), quality=90),
        saved(cat.resize((200, 133)), quality=90),
        saved(astronaut.resize((200, 200)), quality=90),
        saved(photo(64, 48)),
        b"This is no picture.",
        saved(photo(200, 150))[:2_000],
    )


REMEMBERED: dict[bytes, Expected] = {}


def expected_of(world: World, body: bytes) -> Expected:
    """What becomes of a picture, by its bytes."""
    if body not in REMEMBERED:
        recipe = world.services.recipe
        try:
            rendered = imaging.render(body, recipe.specs, recipe.limits)
        except PermanentError:
            REMEMBERED[body] = Expected(ImageStatus.FAILED, frozenset(), {})
        else:
            seen = world.raw_services.recognizer.recognize(rendered.proxy)
            REMEMBERED[body] = Expected(
                ImageStatus.COMPLETED,
                frozenset(label.name for label in seen.labels),
                {each.spec.name: each.body for each in rendered.renditions},
                is_flagged=bool(seen.moderation),
            )
    return REMEMBERED[body]


@contextmanager
def in_turns() -> Iterator[None]:
    """Within it the app runs in whatever world there is, one call at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "ThreadPoolExecutor", Inline)
        patch.setattr(worker, "ThreadPoolExecutor", Inline)
        patch.setattr(catalog, "ThreadPoolExecutor", Inline)
        patch.setattr(recognition, "ThreadPoolExecutor", Inline)
        patch.setattr(imaging, "prepare", cache(imaging.prepare))
        yield


def run_schedule(seed: int, clients: Clients) -> World:
    """One schedule to its end. Raises AssertionError with the seed and all that happened."""
    world = World(seed, clients)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(app, "services", lambda: world.services)
            world.run()
    except Exception as error:
        happened = "\n".join(world.log)
        raise AssertionError(f"seed {seed}: {error!r}\n{happened}") from error
    finally:
        world.close()
    return world
