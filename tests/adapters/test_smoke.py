"""A picture sent through a stage: what is told of it, and that nothing of it is left behind.

The stage is in memory and goes on when somebody waits; its API answers on a socket.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from itertools import chain, pairwise
from threading import Thread
from typing import Any

import pytest
from boto3 import Session
from PIL import Image as Pillow

from chalicelib import pipeline, worker
from chalicelib.errors import BatchFailed
from chalicelib.messages import ObjectChange, ObjectEvent
from chalicelib.model import Failure, ImageStatus, Limits
from infrastructure.smoke import POLL_S, TIMEOUT_S, SmokeTestFailed, signed, smoke_test
from tests.fakes import FakeServices, Outage, message_of

SESSION = Session("AKIDEXAMPLE", "secret", region_name="eu-central-1")
GENEROUS = Limits(max_bytes=5_000_000, max_pixels=5_000_000, max_side=5_000)

Answer = tuple[int, bytes]


@dataclass
class Stage:
    """A stage that does its work while somebody sleeps. ``time`` is what has passed, in seconds."""

    services: FakeServices
    time: float = 0.0
    is_deaf: bool = False
    is_idle: bool = False
    told: list[str] = field(default_factory=list)
    _heard: int = 0

    def clock(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        if not self.is_deaf:
            self._hear()
        if not self.is_idle:
            self._work()

    def _hear(self) -> None:
        """What S3 tells of, once each."""
        for version in self.versions[self._heard :]:
            if version.body is None:
                removal = ObjectEvent(ObjectChange.REMOVED, version.original)
                pipeline.remove(removal, self.services)
            else:
                created = ObjectEvent(ObjectChange.CREATED, version.original)
                pipeline.register(created, self.services)
            self._heard += 1

    def _work(self) -> None:
        messages = [message_of(work) for work in self.services.queue.receive()]
        if not messages:
            return
        with suppress(BatchFailed):
            worker.process_batch(messages, timedelta(seconds=60), self.services)

    @property
    def versions(self) -> list[Any]:
        """All of them, oldest first."""
        objects = self.services.uploads.versions.values()
        return sorted(chain(*objects), key=lambda version: version.original.sequencer)

    @property
    def is_clean(self) -> bool:
        """Whether the newest version of everything is a delete marker."""
        objects = self.services.uploads.versions.values()
        return bool(objects) and all(versions[-1].body is None for versions in objects)

    def smoke(self, api_url: str) -> None:
        """The test, to its end; ``told`` are its lines."""
        for line in smoke_test(self.services, api_url, signed(SESSION), self.clock, self.sleep):
            self.told.append(line)


@pytest.fixture
def stage(services: FakeServices) -> Stage:
    services.recipe = replace(services.recipe, limits=GENEROUS)
    return Stage(services)


class Api:
    """``answer`` makes what is answered, of the path that is asked for. ``asked`` are requests."""

    def __init__(self, services: FakeServices) -> None:
        self.services = services
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.answer: Callable[[str], Answer] = self.as_it_should

    def as_it_should(self, path: str) -> Answer:
        image = self.services.catalog.records[path.rpartition("/")[2]]
        return 200, json.dumps({"image_id": image.image_id}).encode()


@pytest.fixture
def api(services: FakeServices) -> Api:
    return Api(services)


@pytest.fixture
def url(api: Api) -> Iterator[str]:
    """Where the API answers, with a slash at its end."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            api.asked.append((self.path, dict(self.headers)))
            status, body = api.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/dev/"
        server.shutdown()


def failure(stage: Stage, url: str = "http://127.0.0.1:9/") -> str:
    with pytest.raises(SmokeTestFailed) as failed:
        stage.smoke(url)
    return str(failed.value)


# ── it works ─────────────────────────────────────────────────────────────────────────────────────


def test_picture_goes_all_the_way_and_away_again(stage: Stage, api: Api, url: str) -> None:
    """Each thing that holds is told; of the picture a tombstone is left, and no rendition."""
    stage.smoke(url)

    completed, told, removed = stage.told
    assert completed == f"completed and announced after {POLL_S} s, with thumbnail, small"
    assert told == "the API tells of it"
    assert removed == f"removed with all that was made of it after {POLL_S} s"
    [image] = stage.services.catalog.records.values()
    assert image.status is ImageStatus.DELETED
    assert image.announced
    assert not stage.services.renditions.stored
    assert stage.is_clean
    assert [path for path, _ in api.asked] == [f"/dev/images/{image.image_id}"]


def test_request_is_signed_with_the_credentials_of_who_deploys(
    stage: Stage, api: Api, url: str
) -> None:
    """As ``API_AUTH=iam`` asks; for API Gateway in the session's region."""
    stage.smoke(url)

    [(_, headers)] = api.asked
    assert headers["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
    assert "/eu-central-1/execute-api/aws4_request" in headers["Authorization"]


def test_api_of_users_is_asked_without_a_token_and_has_to_mind(
    stage: Stage, api: Api, url: str
) -> None:
    """Whoever deploys is none of its users. An API that answers all the same has its door open."""
    api.answer = lambda _: (401, b"")
    told = list(smoke_test(stage.services, url, None, stage.clock, stage.sleep))
    assert told[1] == "the API asks who wants to know of it"
    assert "Authorization" not in api.asked[0][1]

    api.answer = api.as_it_should
    with pytest.raises(SmokeTestFailed, match="answered with 200, not 401"):
        list(smoke_test(stage.services, url, None, stage.clock, stage.sleep))
    assert stage.is_clean


def test_pictures_are_jpegs_of_their_own(stage: Stage, url: str) -> None:
    """No two have a name or a body in common: no cache and no record answers for the pipeline."""
    for _ in range(3):
        stage.smoke(url)

    uploads = stage.services.uploads
    assert len(uploads.versions) == 3
    assert all(key.startswith("uploads/smoke-test-") for key in uploads.versions)
    assert set(uploads.content_types.values()) == {"image/jpeg"}
    bodies = [version.body for version in stage.versions if version.body]
    assert all(before != after for before, after in pairwise(bodies))
    assert {Pillow.open(BytesIO(body)).format for body in bodies} == {"JPEG"}


def test_slow_stage_is_waited_for(stage: Stage, url: str) -> None:
    """A cold start and a retry take a while."""
    stage.is_idle = True

    def sleep(seconds: float) -> None:
        stage.is_idle = stage.time + seconds < TIMEOUT_S / 2
        stage.sleep(seconds)

    told = list(smoke_test(stage.services, url, signed(SESSION), stage.clock, sleep))

    assert told[0].startswith(f"completed and announced after {TIMEOUT_S / 2:.1f} s")


# ── it does not ──────────────────────────────────────────────────────────────────────────────────


def test_upload_that_nobody_hears_of_points_at_its_handler(stage: Stage) -> None:
    """There is no record: the event did not come, or what takes it does not work."""
    stage.is_deaf = True

    said = failure(stage)

    assert "should be COMPLETED" in said
    assert "no record" in said
    assert "logs of handle_upload" in said
    assert stage.time == pytest.approx(TIMEOUT_S, abs=POLL_S)
    assert stage.is_clean


def test_picture_that_stays_where_it_is_points_at_the_worker(stage: Stage) -> None:
    """It is known and not done: the queue is not read, or the worker does not work."""
    stage.is_idle = True

    said = failure(stage)

    assert "It is QUEUED for now" in said
    assert "logs of process_images" in said
    assert stage.time == pytest.approx(TIMEOUT_S, abs=POLL_S)
    assert stage.is_clean


def test_picture_that_is_not_announced_is_not_through(stage: Stage) -> None:
    """Whoever waits for the announcement waits in vain."""
    stage.services.topic.before("publish", *([Outage()] * 10))

    said = failure(stage)

    assert "and announced. It is COMPLETED for now" in said
    assert stage.is_clean


def test_picture_that_failed_says_its_reason_at_once(stage: Stage) -> None:
    """Nothing would come of waiting. The reason is the one that is recorded."""
    stage.services.recipe = replace(
        stage.services.recipe, limits=replace(GENEROUS, max_pixels=1_000)
    )

    said = failure(stage)

    [image] = stage.services.catalog.records.values()
    assert isinstance(image.failure, Failure)
    assert f"It is FAILED: {image.failure.message}" in said
    assert stage.time == POLL_S
    assert stage.is_clean


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((403, b'{"message": "Forbidden"}'), ["403", "Forbidden"]),
        ((500, b"oh"), ["500", "oh"]),
        ((204, b""), ["204"]),
        ((200, b'{"image_id": "another"}'), ["another image"]),
    ],
)
def test_api_that_does_not_tell_of_it_is_named_with_its_answer(
    answer: Answer, words: list[str], stage: Stage, api: Api, url: str
) -> None:
    """The address is there to be asked again."""
    api.answer = lambda _: answer

    said = failure(stage, url)

    assert f"GET {url}images/" in said
    assert all(word in said for word in words)
    assert stage.is_clean


def test_api_that_is_not_there_is_an_error_of_the_network(stage: Stage) -> None:
    """Which a deployment's step tells as any other; the picture goes."""
    with pytest.raises(OSError, match="refused"):
        stage.smoke("http://127.0.0.1:9/")
    assert stage.is_clean


def test_api_that_answers_with_a_page_is_named_too(stage: Stage, api: Api, url: str) -> None:
    """A proxy may say 200 in HTML; nobody who deploys wants a traceback of that."""
    api.answer = lambda _: (200, b"<html>Welcome</html>")

    assert "Welcome" in failure(stage, url)


def test_picture_that_is_not_taken_away_points_at_what_is_left(stage: Stage, url: str) -> None:
    """The event of its removal did not come."""
    lines = smoke_test(stage.services, url, signed(SESSION), stage.clock, stage.sleep)
    next(lines)
    next(lines)
    stage.is_deaf = True

    with pytest.raises(SmokeTestFailed, match=r"should be DELETED.*It is COMPLETED"):
        next(lines)
    assert stage.is_clean


def test_picture_goes_when_nobody_waits_for_the_end(stage: Stage, url: str) -> None:
    """Ctrl-C between two lines closes the generator."""
    lines = smoke_test(stage.services, url, signed(SESSION), stage.clock, stage.sleep)
    assert isinstance(lines, Iterator)
    next(lines)
    assert not stage.is_clean

    lines.close()  # type: ignore[attr-defined]

    assert stage.is_clean


def test_picture_goes_when_the_record_cannot_be_read(stage: Stage, url: str) -> None:
    """Whatever stops the test, the bucket is as it was."""
    stage.services.catalog.before("get", Outage())

    with pytest.raises(Outage):
        stage.smoke(url)
    assert stage.is_clean


def test_record_of_another_picture_is_not_taken_for_it(stage: Stage, url: str) -> None:
    """Others may upload at the same time."""
    other = stage.services.uploads.upload("uploads/other.jpg", b"no picture")
    pipeline.register(other, stage.services)

    stage.smoke(url)

    records = stage.services.catalog.records.values()
    [image] = [each for each in records if each.status is ImageStatus.DELETED]
    assert image.original.key.startswith("uploads/smoke-test-")
