"""Every use case over services in memory: what it does, and what nothing can make it do."""

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count, product

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from chalicelib import pipeline
from chalicelib.errors import (
    ImageNotFound,
    KeyTaken,
    LeaseHeld,
    OutOfTime,
    RecognitionRefused,
    StaleRevision,
    Unhealthy,
    reason_of,
)
from chalicelib.messages import ObjectChange, ObjectEvent, Recheck, Work, timestamp
from chalicelib.model import (
    Failure,
    Image,
    ImageStatus,
    Limits,
    Original,
    Query,
    image_id_of,
)
from tests.fakes import CAT, LIMITS, RECIPE, Alone, FakeServices, Killed, Outage
from tests.pictures import photo, saved
from tests.waiting import TIMEOUT_S

KEY = "uploads/cat.jpg"
LEASE = timedelta(seconds=90)
PICTURE = saved(photo(64, 48, seed=1))
OTHER = saved(photo(48, 64, seed=2))
TEXT = b"This is no picture."


def go_on() -> None:
    """The action that lets a call through."""


def upload(services: FakeServices, body: bytes = PICTURE, key: str = KEY) -> Original:
    """A new version of an object, registered."""
    event = services.uploads.upload(key, body)
    pipeline.register(event, services)
    return event.original


def process(services: FakeServices, original: Original) -> None:
    pipeline.process(original, services.clock() + LEASE, Alone(), services)


def complete(services: FakeServices, body: bytes = PICTURE, key: str = KEY) -> Original:
    """A new version of an object, taken all the way."""
    original = upload(services, body, key)
    process(services, original)
    return original


def recorded(services: FakeServices, key: str = KEY) -> Image:
    return services.catalog.records[image_id_of(key)]


def rendition_keys(services: FakeServices, key: str = KEY) -> set[str]:
    return {rendition.key for rendition in recorded(services, key).renditions}


def crash(services: FakeServices, original: Original) -> None:
    """Processing that has been told to end in the middle."""
    with pytest.raises(Killed):
        process(services, original)


# ── register ─────────────────────────────────────────────────────────────────────────────────────


def test_first_upload_is_queued(services: FakeServices) -> None:
    """The event of a new object gives a QUEUED record and one message."""
    event = services.uploads.upload(KEY, PICTURE)

    pipeline.register(event, services)

    image = recorded(services)
    assert (image.status, image.original, image.revision) == ("QUEUED", event.original, 1)
    assert services.queue.sent == [event.original]


def test_event_that_comes_again_asks_again_while_the_image_waits(services: FakeServices) -> None:
    """A duplicate changes nothing, but sends the message that may have been lost."""
    event = services.uploads.upload(KEY, PICTURE)
    pipeline.register(event, services)
    before = recorded(services)

    pipeline.register(event, services)

    assert recorded(services) == before
    assert services.queue.sent == [event.original] * 2


def test_event_that_comes_again_after_completion_asks_for_nothing(services: FakeServices) -> None:
    """A duplicate of the event of a finished image starts no work."""
    original = complete(services)
    before = recorded(services)
    services.queue.receive()

    pipeline.register(services.uploads.created(KEY), services)

    assert recorded(services) == before
    assert recorded(services).original == original
    assert services.queue.sent == []


def test_registration_killed_before_its_message_is_made_good(services: FakeServices) -> None:
    """Recorded but not enqueued, an image is enqueued when its event is delivered again."""
    event = services.uploads.upload(KEY, PICTURE)
    services.queue.before("send", Killed())
    with pytest.raises(Killed):
        pipeline.register(event, services)

    pipeline.register(event, services)

    assert services.queue.sent == [event.original]


def test_older_event_changes_nothing(services: FakeServices) -> None:
    """The event of the first upload that comes after that of the second is not asked for."""
    first = services.uploads.upload(KEY, PICTURE)
    second = services.uploads.upload(KEY, OTHER)
    pipeline.register(second, services)
    before = recorded(services)

    pipeline.register(first, services)

    assert recorded(services) == before
    assert set(services.queue.sent) == {second.original}


def test_newer_version_takes_renditions_and_labels_off_the_record(services: FakeServices) -> None:
    """A replaced image is no longer found by its labels; its renditions wait to be replaced."""
    complete(services)
    stored = rendition_keys(services)

    second = upload(services, OTHER)

    image = recorded(services)
    assert (image.status, image.original) == ("QUEUED", second)
    assert set(services.renditions.stored) == stored != set()
    assert (image.renditions, image.recognition.labels, image.announced) == ((), (), False)
    assert services.catalog.browse(Query(10, labels=("Cat",))).images == ()


def test_old_renditions_go_once_the_new_ones_are_there(services: FakeServices) -> None:
    """After replacing an image twice only the renditions of the last version are stored."""
    complete(services)
    old = rendition_keys(services)
    upload(services, OTHER)

    complete(services)

    assert set(services.renditions.stored) == rendition_keys(services)
    assert len(services.renditions.stored) == 2
    assert old.isdisjoint(services.renditions.stored)


def test_upload_after_a_removal_is_a_new_image(services: FakeServices) -> None:
    """A key that was deleted can be used again."""
    complete(services)
    pipeline.remove(services.uploads.remove(KEY), services)

    complete(services, OTHER)

    assert pipeline.find(image_id_of(KEY), services).status is ImageStatus.COMPLETED
    assert set(services.renditions.stored) == rendition_keys(services)
    assert services.topic.statuses == ["COMPLETED", "DELETED", "COMPLETED"]


def test_registration_starts_again_when_somebody_was_faster(services: FakeServices) -> None:
    """Two events that meet at the record end with the newer, whoever writes first."""
    first = services.uploads.upload(KEY, PICTURE)
    second = services.uploads.upload(KEY, OTHER)
    services.catalog.before("save", lambda: pipeline.register(second, services))

    pipeline.register(first, services)

    assert recorded(services).original == second.original
    assert set(services.queue.sent) == {second.original}


# ── submit ───────────────────────────────────────────────────────────────────────────────────────


def submit(services: FakeServices, body: bytes = PICTURE) -> Image:
    return pipeline.submit(KEY, body, "image/jpeg", "Cat.jpg", services)


def test_submitted_image_can_be_asked_for_at_once(services: FakeServices) -> None:
    """After a submission the record is there, and S3's event is what enqueues the image."""
    image = submit(services)

    assert pipeline.find(image.image_id, services) == image
    assert (image.status, image.original.size_bytes) == ("QUEUED", len(PICTURE))
    assert services.uploads.filenames[KEY] == "Cat.jpg"
    assert services.queue.sent == []


def test_event_of_a_submitted_image_enqueues_it(services: FakeServices) -> None:
    """The event brings the sequencer and keeps the rest; it starts the work once."""
    submitted = submit(services).original
    event = services.uploads.created(KEY)

    pipeline.register(event, services)

    assert recorded(services).original == replace(submitted, sequencer=event.original.sequencer)
    [message] = services.queue.receive()
    process(services, message)
    assert recorded(services).status is ImageStatus.COMPLETED


def test_event_that_is_faster_than_the_submission_counts(services: FakeServices) -> None:
    """When the event comes before the submission has recorded its image, one record is left."""
    services.catalog.before(
        "get", lambda: pipeline.register(services.uploads.created(KEY), services)
    )

    image = submit(services)

    assert image == recorded(services)
    assert image.original.sequencer == services.uploads.created(KEY).original.sequencer
    assert services.queue.sent == [image.original]


def test_submission_beside_a_removal_is_answered_as_queued(services: FakeServices) -> None:
    """The removal of what was there before may be recorded meanwhile: the new image still waits."""
    complete(services)
    removed = services.uploads.remove(KEY)
    services.uploads.before("put", lambda: pipeline.remove(removed, services))

    answered = submit(services, OTHER)

    assert answered.status is ImageStatus.QUEUED
    pipeline.register(services.uploads.created(KEY), services)
    assert recorded(services).original.version_id == answered.original.version_id


def test_folder_marker_is_no_image(services: FakeServices) -> None:
    """The empty object that the S3 console makes for a folder is passed over."""
    pipeline.register(services.uploads.upload("uploads/holiday/", b""), services)

    assert services.catalog.records == {}
    assert services.queue.sent == []


FOLDER = "uploads/holiday/"


def test_removed_folder_is_no_image(services: FakeServices) -> None:
    """Nothing was recorded of it, so nothing is, and nobody is told."""
    pipeline.register(services.uploads.upload(FOLDER, b""), services)

    pipeline.remove(services.uploads.remove(FOLDER), services)

    assert services.catalog.records == {}
    assert services.topic.statuses == []


@pytest.mark.parametrize("is_there", [True, False])
def test_recheck_of_a_folder_records_nothing(services: FakeServices, is_there: bool) -> None:  # noqa: FBT001
    """Whether it is there or not."""
    services.uploads.upload(FOLDER, b"")
    if not is_there:
        services.uploads.remove(FOLDER)

    assert pipeline.recheck(FOLDER, services) is None

    assert services.catalog.records == {}
    assert services.queue.sent == []
    assert services.topic.statuses == []


@pytest.mark.parametrize("event", ["heard", "lost"])
def test_image_that_is_named_like_a_folder_goes_like_any_other(
    services: FakeServices, event: str
) -> None:
    """It had bytes, so it was recorded; its removal has none, and is one all the same."""
    complete(services, key=FOLDER)
    removed = services.uploads.remove(FOLDER)

    if event == "heard":
        pipeline.remove(removed, services)
    else:
        pipeline.recheck(FOLDER, services)

    assert recorded(services, FOLDER).status is ImageStatus.DELETED
    assert services.renditions.stored == {}
    assert services.topic.statuses == ["COMPLETED", "DELETED"]


def test_clash_overwrites_nothing(services: FakeServices) -> None:
    """A key that is in use is refused, and neither object nor record changes."""
    original = complete(services)
    before = recorded(services)

    with pytest.raises(KeyTaken):
        submit(services, OTHER)

    assert recorded(services) == before
    assert services.uploads.get(original, 10**6) == PICTURE


def test_submission_over_a_tombstone_outlives_late_events(services: FakeServices) -> None:
    """A key used again over REST is safe from the late events of what it held before."""
    created = services.uploads.upload(KEY, PICTURE)
    removed = services.uploads.remove(KEY)
    pipeline.remove(removed, services)

    image = submit(services, OTHER)
    pipeline.register(created, services)
    pipeline.remove(removed, services)

    assert recorded(services).original.version_id == image.original.version_id
    assert recorded(services).status is ImageStatus.QUEUED


def test_submission_before_the_event_of_the_removal_shows_the_new_image(
    services: FakeServices,
) -> None:
    """Deleted and submitted again at once, the answer is about the new picture, not the old."""
    complete(services)
    removed = services.uploads.remove(KEY)

    image = submit(services, OTHER)

    assert image.status is ImageStatus.QUEUED
    assert image.original.version_id == services.uploads.created(KEY).original.version_id
    pipeline.remove(removed, services)
    pipeline.register(services.uploads.created(KEY), services)
    process(services, services.queue.receive()[-1])
    assert recorded(services).status is ImageStatus.COMPLETED
    assert set(services.renditions.stored) == rendition_keys(services)


def test_slow_submission_does_not_revive_a_deleted_image(services: FakeServices) -> None:
    """Registered by its event and deleted while the submission hangs, an image stays deleted."""

    def life_of_the_image() -> None:
        pipeline.register(services.uploads.created(KEY), services)
        pipeline.remove(services.uploads.remove(KEY), services)

    services.catalog.before("get", life_of_the_image)

    submit(services)

    with pytest.raises(ImageNotFound):
        pipeline.find(image_id_of(KEY), services)


def test_slow_submission_that_meets_the_settling_of_a_removal_leaves_nothing_undone(
    services: FakeServices,
) -> None:
    """The tombstone is announced all the same, and nobody is left to wait for a sweep."""
    complete(services)
    pipeline.remove(services.uploads.remove(KEY), services)
    submission = submit(services).original
    pipeline.register(services.uploads.created(KEY), services)
    process(services, submission)
    services.renditions.before("tidy", lambda: submit_late(services, submission))

    pipeline.remove(services.uploads.remove(KEY), services)

    assert recorded(services).status is ImageStatus.DELETED
    assert (recorded(services).announced, recorded(services).lease_until) == (True, None)


def submit_late(services: FakeServices, original: Original) -> None:
    """The rest of a submission that hung once its object was there."""
    with pytest.MonkeyPatch.context() as patch:
        version = (original.version_id, original.etag)
        patch.setattr(services.uploads, "put", lambda *_: version)
        submit(services)


def test_slow_submission_does_not_undo_a_newer_version(services: FakeServices) -> None:
    """What was uploaded over S3 while the submission hangs is the image."""
    services.catalog.before("get", lambda: complete(services, OTHER))

    submit(services)

    assert recorded(services).status is ImageStatus.COMPLETED
    assert recorded(services).original.size_bytes == len(OTHER)


# ── process ──────────────────────────────────────────────────────────────────────────────────────


def test_picture_is_completed(services: FakeServices) -> None:
    """A picture ends described, rendered, recognised, stored and announced."""
    original = upload(services)
    services.clock.forward(seconds=3)

    process(services, original)

    image = recorded(services)
    now = timestamp(services.clock.now)
    assert image.status is ImageStatus.COMPLETED
    assert image.description is not None
    assert (image.description.format, image.description.width, image.description.height) == (
        "JPEG",
        64,
        48,
    )
    assert [
        (rendition.name, rendition.width, rendition.height) for rendition in image.renditions
    ] == [
        ("thumbnail", 8, 8),
        ("small", 24, 18),
    ]
    assert image.recognition.labels == (CAT,)
    assert image.fingerprint is not None
    assert (image.processed_at, image.updated_at) == (now, now)
    assert (image.lease_until, image.pipeline_version) == (None, RECIPE.version)
    assert (image.failure, image.announced) == (None, True)
    assert {key: len(body) for key, body in services.renditions.stored.items()} == {
        rendition.key: rendition.size_bytes for rendition in image.renditions
    }
    assert services.topic.statuses == ["COMPLETED"]
    assert services.topic.published[0].details["updated_at"] == now


def test_image_is_processing_while_it_is_worked_on(services: FakeServices) -> None:
    """A client that asks meanwhile reads PROCESSING; the lease ends with the invocation."""
    original = upload(services)
    seen: list[Image] = []
    services.recognizer.before("recognize", lambda: seen.append(recorded(services)))
    services.clock.forward(seconds=3)

    process(services, original)

    assert [image.status for image in seen] == ["PROCESSING"]
    assert seen[0].updated_at == timestamp(services.clock.now)
    assert seen[0].lease_until == timestamp(services.clock.now + LEASE)


@pytest.mark.parametrize(
    ("body", "limits", "code"),
    [
        (b"", LIMITS, "empty_file"),
        (TEXT, LIMITS, "unsupported_format"),
        (PICTURE[: len(PICTURE) // 2], LIMITS, "corrupt_image"),
        (PICTURE, replace(LIMITS, max_bytes=100), "too_large"),
        (PICTURE, replace(LIMITS, max_pixels=100), "too_many_pixels"),
        (PICTURE, replace(LIMITS, max_side=63), "dimensions_out_of_range"),
    ],
)
def test_bad_image_is_recorded_announced_and_consumed(
    services: FakeServices, body: bytes, limits: Limits, code: str
) -> None:
    """What is wrong with the file itself ends FAILED with a code and a sentence, and no error."""
    services.recipe = replace(services.recipe, limits=limits)
    original = upload(services, body)

    process(services, original)

    image = recorded(services)
    assert image.status is ImageStatus.FAILED
    assert image.failure is not None
    assert image.failure.code == code
    assert image.failure.message
    assert (image.announced, image.lease_until) == (True, None)
    assert (image.renditions, image.recognition.labels) == ((), ())
    assert services.renditions.stored == {}
    assert services.topic.statuses == ["FAILED"]
    assert services.topic.published[0].details["error"]["code"] == code


def test_refusal_by_the_recognizer_leaves_no_renditions(services: FakeServices) -> None:
    """A picture that Rekognition refuses fails, and what was stored meanwhile goes again."""
    services.recognizer.before("recognize", RecognitionRefused("Rekognition refused the picture."))
    original = upload(services)

    process(services, original)

    assert recorded(services).failure == Failure(
        "recognition_refused", "Rekognition refused the picture."
    )
    assert services.renditions.stored == {}


def test_failed_replacement_takes_the_renditions_of_the_old_version_too(
    services: FakeServices,
) -> None:
    """A good image replaced by a bad file leaves nothing behind that shows the old one."""
    complete(services)

    complete(services, TEXT)

    assert recorded(services).status is ImageStatus.FAILED
    assert recorded(services).renditions == ()
    assert services.renditions.stored == {}


FAKES = ("catalog", "uploads", "renditions", "recognizer", "topic", "queue")
PASSES = {"picture": "COMPLETED", "text": "FAILED", "gone": "DELETED"}


def replacement(services: FakeServices, kind: str) -> Original:
    """What a completed image has been replaced with, registered and not processed yet."""
    complete(services, OTHER)
    original = upload(services, TEXT if kind == "text" else PICTURE)
    if kind == "gone":
        services.uploads.remove_version(original)
    for fake in FAKES:
        getattr(services, fake).calls.clear()
    services.topic.published.clear()
    return original


def calls_of_processing(kind: str) -> list[tuple[str, str, str, int]]:
    """Every call that processing a replacement makes, and how many of the same are before it."""
    services = FakeServices()
    process(services, replacement(services, kind))
    return [
        (kind, fake, call, passed)
        for fake in FAKES
        for call, times in Counter(getattr(services, fake).calls).items()
        for passed in range(times)
    ]


EVERY_CALL = [step for kind in PASSES for step in calls_of_processing(kind)]


def test_every_kind_of_call_is_broken_below() -> None:
    """What is tried below covers all that processing does."""
    assert {f"{fake}.{call}" for _, fake, call, _ in EVERY_CALL} == {
        "catalog.get",
        "catalog.save",
        "catalog.first_of",
        "catalog.similar",
        "uploads.get",
        "renditions.put",
        "renditions.tidy",
        "renditions.delete",
        "recognizer.recognize",
        "topic.publish",
    }


def assert_ended(services: FakeServices, original: Original, kind: str) -> None:
    """The end that a run without a break has."""
    image = recorded(services)
    assert (image.status, image.original) == (PASSES[kind], original)
    assert (image.announced, image.lease_until) == (True, None)
    assert set(services.renditions.stored) == rendition_keys(services)
    assert len(services.renditions.stored) == (2 if kind == "picture" else 0)
    assert set(services.topic.statuses) == {PASSES[kind]}
    assert services.topic.published[-1].details["version_id"] == original.version_id


@pytest.mark.parametrize(("kind", "fake", "call", "passed"), EVERY_CALL)
def test_killed_anywhere_ends_like_a_run_without_a_break(
    services: FakeServices, kind: str, fake: str, call: str, passed: int
) -> None:
    """Whichever call a worker dies before, the next delivery leads to the same end."""
    original = replacement(services, kind)
    getattr(services, fake).before(call, *[go_on] * passed, Killed())
    crash(services, original)

    services.clock.forward(seconds=91)
    process(services, original)

    assert_ended(services, original, kind)


@pytest.mark.parametrize(("kind", "fake", "call", "passed"), EVERY_CALL)
def test_killed_anywhere_is_found_by_a_recheck(
    services: FakeServices, kind: str, fake: str, call: str, passed: int
) -> None:
    """Where the message is lost with the worker, a recheck and what it finds lead to that end."""
    original = replacement(services, kind)
    getattr(services, fake).before(call, *[go_on] * passed, Killed())
    crash(services, original)
    if kind == "gone":
        services.uploads.remove(KEY)

    services.clock.forward(seconds=91)
    image = pipeline.recheck(KEY, services)
    if image is not None and not image.status.is_final:
        process(services, image.original)

    assert recorded(services).status == PASSES[kind]
    assert recorded(services).announced
    assert set(services.renditions.stored) == rendition_keys(services)
    assert set(services.topic.statuses) == {PASSES[kind]}


@pytest.mark.parametrize(("kind", "fake", "call", "passed"), EVERY_CALL)
def test_transient_failure_comes_back_and_ends_well(
    services: FakeServices, kind: str, fake: str, call: str, passed: int
) -> None:
    """An error that passes goes through as it is; the message that comes back ends the work."""
    original = replacement(services, kind)
    getattr(services, fake).before(call, *[go_on] * passed, Outage())
    with pytest.raises(Outage):
        process(services, original)

    try:
        process(services, original)
    except LeaseHeld:  # what is just being settled is left alone for a minute
        services.clock.forward(seconds=61)
        process(services, original)

    assert_ended(services, original, kind)


@pytest.mark.parametrize(
    ("fake", "call"), [("uploads", "get"), ("recognizer", "recognize"), ("renditions", "put")]
)
def test_transient_failure_gives_the_lease_back(
    services: FakeServices, fake: str, call: str
) -> None:
    """The next try need not wait, and an end with a word is none of those that are counted."""
    original = upload(services)
    getattr(services, fake).before(call, Outage())

    with pytest.raises(Outage):
        process(services, original)

    image = recorded(services)
    assert (image.status, image.lease_until, image.lost) == ("QUEUED", None, 0)
    assert (image.failure, services.topic.statuses) == (None, [])
    process(services, original)
    assert recorded(services).status is ImageStatus.COMPLETED


def test_lease_that_cannot_be_given_back_ends_by_itself(
    services: FakeServices, caplog: pytest.LogCaptureFixture
) -> None:
    """The first error is what goes through, and the image is taken up after the lease."""
    original = upload(services)
    services.uploads.before("get", Outage("of S3"))
    services.catalog.before("save", go_on, Outage("of DynamoDB"))

    with pytest.raises(Outage, match="of S3"):
        process(services, original)

    assert "keeps its lease" in caplog.text
    with pytest.raises(LeaseHeld):
        process(services, original)
    services.clock.forward(seconds=91)
    process(services, original)
    assert recorded(services).status is ImageStatus.COMPLETED


def test_turn_that_does_not_come_leaves_everything_as_it_is(services: FakeServices) -> None:
    """Where there is no time to begin, nothing is read, and nothing written of who has waited."""

    class Closed(Alone):
        def begin(self, *, alone: bool) -> None:  # noqa: ARG002
            raise OutOfTime("Too little time is left.")

    original = upload(services)
    before = recorded(services)
    services.uploads.calls.clear()

    with pytest.raises(OutOfTime):
        pipeline.process(original, services.clock() + LEASE, Closed(), services)

    assert recorded(services) == before
    assert services.uploads.calls == []


class Noted(Alone):
    """Keeps whether the turn was to be taken alone; something may happen before it comes."""

    def __init__(self, meanwhile: Callable[[], object] = go_on) -> None:
        self.alone: list[bool] = []
        self._meanwhile = meanwhile

    def begin(self, *, alone: bool) -> None:
        self.alone.append(alone)
        self._meanwhile()


def take_turn(services: FakeServices, original: Original, turn: Noted) -> None:
    pipeline.process(original, services.clock() + LEASE, turn, services)


@pytest.mark.parametrize("lost", [0, 1, 4])
def test_what_workers_may_have_died_of_is_alone(services: FakeServices, lost: int) -> None:
    """One that ended without a word is enough, so that its neighbours do not die of it too."""
    original = upload(services)
    die(services, original, lost)
    turn = Noted()

    take_turn(services, original, turn)

    assert turn.alone == [lost > 0]
    assert recorded(services).status is ImageStatus.COMPLETED


def test_image_nobody_has_recorded_need_not_be_alone(services: FakeServices) -> None:
    """Nothing is known against it."""
    original = services.uploads.upload(KEY, PICTURE).original
    turn = Noted()

    take_turn(services, original, turn)

    assert turn.alone == [False]


def test_image_is_not_taken_on_before_its_turn(services: FakeServices) -> None:
    """Who waits holds no lease, and is none of those that are counted when the worker dies."""
    original = upload(services)
    seen: list[Image] = []
    waiting = recorded(services)

    take_turn(services, original, Noted(lambda: seen.append(recorded(services))))

    assert seen == [waiting]


@pytest.mark.parametrize("by", ["another worker", "version", "removal"])
def test_what_happens_while_an_image_waits_for_its_turn_counts(
    services: FakeServices, by: str
) -> None:
    """What it was when it began to wait is no longer believed when its turn has come."""
    original = upload(services)
    meanwhile: dict[str, Callable[[], object]] = {
        "another worker": lambda: process(services, original),
        "version": lambda: complete(services, OTHER),
        "removal": lambda: pipeline.remove(services.uploads.remove(KEY), services),
    }
    seen: list[Image] = []

    def note() -> None:
        meanwhile[by]()
        seen.append(recorded(services))

    take_turn(services, original, Noted(note))

    assert [recorded(services)] == seen
    assert services.topic.statuses == [seen[0].status]
    assert set(services.renditions.stored) == rendition_keys(services)


def test_turn_is_over_before_the_network_is_waited_for(services: FakeServices) -> None:
    """Rekognition looks before others are given way to; what is encoded is stored after it."""
    original = upload(services)
    happened: list[str] = []
    is_looking = threading.Event()

    class Turn(Alone):
        def begin(self, *, alone: bool) -> None:
            assert not alone
            happened.append("begun")

        def give_way(self, pixels: int) -> None:
            assert pixels == 8 * 8 + 24 * 18
            assert is_looking.wait(TIMEOUT_S)
            happened.append("given way")

        def end(self) -> None:
            happened.append("over")

    services.uploads.before("get", lambda: happened.append("read"))
    services.recognizer.before("recognize", is_looking.set)
    services.renditions.before("put", *[lambda: happened.append("stored")] * 2)

    pipeline.process(original, services.clock() + LEASE, Turn(), services)

    assert happened[:6] == ["begun", "read", "given way", "over", "stored", "stored"]
    assert set(happened[6:]) <= {"over"}


def test_turn_is_over_where_there_is_nothing_to_do(services: FakeServices) -> None:
    """Before anything is announced: that takes no memory, and may take long."""
    original = upload(services)
    happened: list[str] = []
    services.topic.before("publish", Killed(), lambda: happened.append("announced"))
    crash(services, original)
    services.clock.forward(seconds=91)

    class Turn(Alone):
        def end(self) -> None:
            happened.append("over")

    pipeline.process(original, services.clock() + LEASE, Turn(), services)

    assert happened == ["over", "announced"]


@pytest.mark.parametrize("step", ["give_way", "end"])
def test_turn_that_is_taken_back_gives_the_image_back(services: FakeServices, step: str) -> None:
    """Its invocation has ended: nothing is stored any more, and whoever is next may begin."""
    original = upload(services)

    def over(*_: object) -> None:
        raise OutOfTime("The invocation has ended.")

    turn = Alone()
    setattr(turn, step, over)

    with pytest.raises(OutOfTime):
        pipeline.process(original, services.clock() + LEASE, turn, services)

    image = recorded(services)
    assert (image.status, image.lease_until, image.lost) == ("QUEUED", None, 0)
    assert services.renditions.stored == {}
    process(services, original)
    assert services.topic.statuses == ["COMPLETED"]


@pytest.mark.parametrize("body", [PICTURE, TEXT])
def test_killed_before_announcing_is_announced_once_by_the_retry(
    services: FakeServices, body: bytes
) -> None:
    """Final but not announced, an image is announced when its message comes back; once."""
    original = upload(services, body)
    services.topic.before("publish", Killed())
    crash(services, original)
    calls = list(services.recognizer.calls)

    services.clock.forward(seconds=91)
    process(services, original)
    process(services, original)

    assert services.topic.statuses == [recorded(services).status]
    assert recorded(services).announced
    assert services.recognizer.calls == calls


def test_killed_between_announcing_and_marking_is_announced_twice_at_most(
    services: FakeServices,
) -> None:
    """The one gap in which an announcement is repeated, and no third follows."""
    original = upload(services)
    services.catalog.before("save", go_on, go_on, Killed())
    crash(services, original)
    assert services.topic.statuses == ["COMPLETED"]

    services.clock.forward(seconds=91)
    process(services, original)
    process(services, original)

    assert services.topic.statuses == ["COMPLETED"] * 2


def test_overtaken_by_a_newer_version_takes_its_renditions_back(services: FakeServices) -> None:
    """A version replaced while it was processed overwrites nothing and leaves nothing."""
    first = upload(services)
    services.recognizer.before("recognize", lambda: upload(services, OTHER))

    process(services, first)

    image = recorded(services)
    assert (image.status, image.original.size_bytes) == ("QUEUED", len(OTHER))
    assert services.renditions.stored == {}
    assert services.topic.statuses == []


def test_overtaken_by_a_newer_version_leaves_that_alone(services: FakeServices) -> None:
    """A newer version that is already complete keeps its record, renditions, announcement."""
    first = upload(services)
    services.recognizer.before("recognize", lambda: complete(services, OTHER))

    process(services, first)

    image = recorded(services)
    assert (image.status, image.original.size_bytes) == ("COMPLETED", len(OTHER))
    assert set(services.renditions.stored) == rendition_keys(services)
    assert len(services.topic.published) == 1


def test_overtaken_by_a_removal_leaves_nothing(services: FakeServices) -> None:
    """An image deleted while it was processed stays deleted, and so do its renditions."""
    original = upload(services)
    services.recognizer.before(
        "recognize", lambda: pipeline.remove(services.uploads.remove(KEY), services)
    )

    process(services, original)

    assert recorded(services).status is ImageStatus.DELETED
    assert services.renditions.stored == {}
    assert services.topic.statuses == ["DELETED"]


def test_refused_and_overtaken_leaves_nothing(services: FakeServices) -> None:
    """Renditions stored by a worker that fails in the end and was overtaken go as well."""
    original = upload(services)

    def removed_meanwhile() -> None:
        pipeline.remove(services.uploads.remove(KEY), services)
        raise RecognitionRefused("Rekognition refused the picture.")

    services.recognizer.before("recognize", removed_meanwhile)

    process(services, original)

    assert recorded(services).status is ImageStatus.DELETED
    assert services.renditions.stored == {}


@pytest.mark.parametrize("overtaken_by", ["removal", "version"])
def test_half_stored_and_overtaken_is_taken_back_by_the_retry(
    services: FakeServices, overtaken_by: str
) -> None:
    """Renditions of a worker that died are not left when its image was deleted or replaced."""
    original = upload(services)
    services.renditions.before("put", go_on, Killed())
    crash(services, original)
    half = dict(services.renditions.stored)
    assert len(half) == 1
    if overtaken_by == "removal":
        pipeline.remove(services.uploads.remove(KEY), services)
    else:
        complete(services, OTHER)
    services.renditions.stored |= half  # still on its way while that happened

    process(services, original)

    assert half.keys().isdisjoint(services.renditions.stored)
    assert set(services.renditions.stored) == rendition_keys(services)


def test_event_that_meets_the_processing_is_kept_with_the_result(services: FakeServices) -> None:
    """A record that learns a newer sequencer meanwhile has both, and the work is done once."""
    original = upload(services)

    def event_with_a_newer_sequencer() -> None:
        again = replace(original, sequencer="9" * 32)
        pipeline.register(replace(services.uploads.created(KEY), original=again), services)

    services.recognizer.before("recognize", event_with_a_newer_sequencer)

    process(services, original)

    image = recorded(services)
    assert (image.status, image.original.sequencer) == ("COMPLETED", "9" * 32)
    assert set(services.renditions.stored) == rendition_keys(services)
    assert services.topic.statuses == ["COMPLETED"]
    assert services.recognizer.calls == ["recognize"]


def test_held_lease_makes_the_message_come_back(services: FakeServices) -> None:
    """While one worker is at a version, another neither starts nor consumes the message."""
    original = upload(services)
    seen: list[str] = []

    def second_worker() -> None:
        with pytest.raises(LeaseHeld, match=r"uploads/cat\.jpg is being processed until 2026"):
            process(services, original)
        seen.append("refused")

    services.recognizer.before("recognize", second_worker)

    process(services, original)

    assert seen == ["refused"]
    assert services.recognizer.calls == ["recognize"]
    assert recorded(services).status is ImageStatus.COMPLETED


def test_expired_lease_is_taken_over(services: FakeServices) -> None:
    """What a worker left when it died is processed by the next, after its lease."""
    original = upload(services)
    services.recognizer.before("recognize", Killed())
    crash(services, original)
    with pytest.raises(LeaseHeld):
        process(services, original)

    services.clock.forward(seconds=90)
    process(services, original)

    assert recorded(services).status is ImageStatus.COMPLETED


@pytest.mark.parametrize(
    ("fake", "call"), [("uploads", "get"), ("recognizer", "recognize"), ("renditions", "put")]
)
def test_slow_worker_whose_image_another_has_finished_changes_nothing(
    services: FakeServices, fake: str, call: str
) -> None:
    """It neither overwrites nor announces anything, and takes back what it stores so late."""
    original = upload(services)
    seen: list[Image] = []

    def taken_over() -> None:
        services.clock.forward(seconds=91)
        process(services, original)
        seen.append(recorded(services))

    getattr(services, fake).before(call, taken_over)
    process(services, original)

    assert recorded(services) == seen[0]
    assert recorded(services).status is ImageStatus.COMPLETED
    assert set(services.renditions.stored) == rendition_keys(services)
    process(services, original)
    assert services.topic.statuses == ["COMPLETED"]


def test_slow_worker_whose_image_another_is_at_comes_back(services: FakeServices) -> None:
    """Its result is not the one that counts; its message finds out what became of the other's."""
    original = upload(services)
    second = "2026-01-31T09:30:00.000Z"

    def taken_over() -> None:
        services.clock.forward(seconds=91)
        now = recorded(services)
        taken = replace(now, attempt=now.attempt + 1, lease_until=second)
        services.catalog.save(taken, previous=now)

    services.recognizer.before("recognize", taken_over)

    with pytest.raises(LeaseHeld) as raised:
        process(services, original)

    assert raised.value.until == second
    assert (recorded(services).status, recorded(services).attempt) == ("PROCESSING", 2)
    assert services.topic.statuses == []


def test_slow_worker_whose_image_was_given_back_meanwhile_comes_back(
    services: FakeServices,
) -> None:
    """Another has taken it on and failed for now: what is stored by then is nobody's."""
    original = upload(services)

    def taken_over_and_given_back() -> None:
        services.clock.forward(seconds=91)
        services.uploads.before("get", Outage())
        with pytest.raises(Outage):
            process(services, original)

    services.recognizer.before("recognize", taken_over_and_given_back)

    with pytest.raises(LeaseHeld):
        process(services, original)
    process(services, original)

    assert recorded(services).status is ImageStatus.COMPLETED
    assert set(services.renditions.stored) == rendition_keys(services)


def test_version_that_is_reinstated_while_it_is_processed_ends_with_its_renditions(
    services: FakeServices,
) -> None:
    """Replaced and put back meanwhile, with the other's message come and gone."""
    first = upload(services)

    def replaced_and_put_back() -> None:
        second = upload(services, OTHER)
        pipeline.remove(services.uploads.remove_version(second), services)
        process(services, second)

    services.catalog.before("save", go_on, replaced_and_put_back)

    with suppress(LeaseHeld):
        process(services, first)
    process(services, first)

    assert recorded(services).status is ImageStatus.COMPLETED
    assert set(services.renditions.stored) == rendition_keys(services)


@pytest.mark.parametrize("seconds", [30, 60, 90])
def test_lease_may_end_whenever_that_of_settling_does(
    services: FakeServices, seconds: float
) -> None:
    """Who finishes an image settles it, even where both leases happen to end at the same time."""
    original = upload(services)

    pipeline.process(original, services.clock() + timedelta(seconds=seconds), Alone(), services)

    assert (recorded(services).status, recorded(services).announced) == ("COMPLETED", True)
    assert services.topic.statuses == ["COMPLETED"]


def test_completed_image_is_not_processed_again(services: FakeServices) -> None:
    """A message that comes twice costs no second recognition and no second announcement."""
    original = complete(services)
    before = recorded(services)

    process(services, original)

    assert services.recognizer.calls == ["recognize"]
    assert services.topic.statuses == ["COMPLETED"]
    assert recorded(services) == before


def test_message_of_a_replaced_version_changes_nothing(services: FakeServices) -> None:
    """The message of an old version that comes after the new one is complete is dropped."""
    first = upload(services)
    complete(services, OTHER)
    before = recorded(services)

    process(services, first)

    assert recorded(services) == before
    assert services.recognizer.calls == ["recognize"]
    assert set(services.renditions.stored) == rendition_keys(services)


def test_message_without_a_record_is_processed(services: FakeServices) -> None:
    """A message redriven after its record was lost still completes the image."""
    original = services.uploads.upload(KEY, PICTURE).original

    process(services, original)

    assert recorded(services).status is ImageStatus.COMPLETED


def test_original_that_is_gone_is_a_deleted_image(services: FakeServices) -> None:
    """An object removed before its event arrives ends as a tombstone, announced once."""
    original = upload(services)
    removed = services.uploads.remove_version(original)

    process(services, original)
    pipeline.remove(removed, services)

    assert recorded(services).status is ImageStatus.DELETED
    assert services.topic.statuses == ["DELETED"]


def test_original_that_is_gone_is_announced_by_the_retry(services: FakeServices) -> None:
    """Killed before it said so, a worker's retry announces that the original is gone."""
    original = upload(services)
    services.uploads.remove_version(original)
    services.topic.before("publish", Killed())
    crash(services, original)

    services.clock.forward(seconds=91)
    process(services, original)
    process(services, original)

    assert services.topic.statuses == ["DELETED"]


def test_event_that_meets_the_settling_leaves_nothing_undone(services: FakeServices) -> None:
    """A record that learns a newer sequencer while it is settled is settled all the same."""
    complete(services)
    original = upload(services, OTHER)

    def event_with_a_newer_sequencer() -> None:
        again = replace(original, sequencer="9" * 32)
        pipeline.register(replace(services.uploads.created(KEY), original=again), services)

    services.catalog.before("get", go_on, event_with_a_newer_sequencer)

    process(services, original)

    image = recorded(services)
    assert (image.announced, image.status) == (True, "COMPLETED")
    assert image.original.sequencer == "9" * 32
    assert set(services.renditions.stored) == rendition_keys(services)


def test_upload_that_meets_an_announcement_is_not_marked_as_announced(
    services: FakeServices,
) -> None:
    """Replaced in that very moment, an image has its announcement still before it."""
    first = upload(services)
    services.topic.before("publish", lambda: upload(services, OTHER))

    process(services, first)

    image = recorded(services)
    assert (image.status, image.announced) == ("QUEUED", False)
    process(services, services.queue.receive()[-1])
    assert services.topic.statuses == ["COMPLETED", "COMPLETED"]
    assert set(services.renditions.stored) == rendition_keys(services)


def test_record_that_vanishes_while_it_is_settled_is_an_error(services: FakeServices) -> None:
    """Nobody but a person deletes records; the message then comes back and makes it anew."""
    original = upload(services)
    services.topic.before("publish", services.catalog.records.clear)

    with pytest.raises(ImageNotFound):
        process(services, original)
    process(services, original)

    assert recorded(services).status is ImageStatus.COMPLETED
    assert set(services.renditions.stored) == rendition_keys(services)


def test_failure_of_an_old_version_leaves_a_newer_one_alone(services: FakeServices) -> None:
    """Cleaning up after a bad file does not take what the next upload has stored meanwhile."""
    bad = upload(services, TEXT)
    services.renditions.before("tidy", lambda: complete(services))

    process(services, bad)

    assert recorded(services).status is ImageStatus.COMPLETED
    assert rendition_keys(services)
    assert rendition_keys(services) <= set(services.renditions.stored)


# ── remove and delete ────────────────────────────────────────────────────────────────────────────


def test_removal_leaves_a_tombstone_and_nothing_else(services: FakeServices) -> None:
    """Renditions of every attempt, recorded or not, go with the object, and the record too."""
    first = complete(services)
    complete(services, OTHER)
    upload(services)
    services.renditions.stored["thumbnails/" + first.image_id + "/1/forgotten.jpg"] = b""
    other = complete(services, key="uploads/other.jpg")
    removed = services.uploads.remove(KEY)

    pipeline.remove(removed, services)

    image = recorded(services)
    assert (image.status, image.original, image.announced) == ("DELETED", removed.original, True)
    assert (image.renditions, image.recognition.labels) == ((), ())
    assert sorted(services.renditions.stored) == sorted(services.renditions.of(other.image_id))
    with pytest.raises(ImageNotFound):
        pipeline.find(first.image_id, services)


def test_removal_is_announced_once_however_often_it_comes(services: FakeServices) -> None:
    """A duplicate of the event finds the tombstone and tells nobody."""
    complete(services)
    removed = services.uploads.remove(KEY)
    pipeline.remove(removed, services)
    tombstone = recorded(services)

    for _ in range(2):
        pipeline.remove(removed, services)

    assert recorded(services) == tombstone
    assert services.topic.statuses == ["COMPLETED", "DELETED"]


@pytest.mark.parametrize(
    ("fake", "call"), [("renditions", "tidy"), ("renditions", "delete"), ("topic", "publish")]
)
def test_removal_that_was_killed_is_finished_by_the_next_delivery(
    services: FakeServices, fake: str, call: str
) -> None:
    """A tombstone whose renditions or announcement are outstanding is settled later."""
    complete(services)
    removed = services.uploads.remove(KEY)
    getattr(services, fake).before(call, Killed())
    with pytest.raises(Killed):
        pipeline.remove(removed, services)

    services.clock.forward(seconds=91)
    pipeline.remove(removed, services)

    assert services.renditions.stored == {}
    assert services.topic.statuses == ["COMPLETED", "DELETED"]


def test_late_upload_event_does_not_revive_a_deleted_image(services: FakeServices) -> None:
    """Created comes after removed: the tombstone is newer, so nothing happens."""
    created = services.uploads.upload(KEY, PICTURE)
    pipeline.remove(services.uploads.remove(KEY), services)

    pipeline.register(created, services)

    assert recorded(services).status is ImageStatus.DELETED
    assert services.queue.sent == []


def test_late_message_does_not_revive_a_deleted_image(services: FakeServices) -> None:
    """A message that waited while its image was deleted is consumed without work."""
    original = upload(services)
    pipeline.remove(services.uploads.remove(KEY), services)

    process(services, original)

    assert recorded(services).status is ImageStatus.DELETED
    assert services.recognizer.calls == []
    assert services.topic.statuses == ["DELETED"]


def test_older_removal_changes_nothing(services: FakeServices) -> None:
    """The event of a removal that comes after the next upload was processed is dropped."""
    upload(services)
    removed = services.uploads.remove(KEY)
    complete(services, OTHER)
    before = recorded(services)

    pipeline.remove(removed, services)

    assert recorded(services) == before
    assert set(services.renditions.stored) == rendition_keys(services)
    assert services.topic.statuses == ["COMPLETED"]


def test_upload_that_meets_a_removal_keeps_its_renditions(services: FakeServices) -> None:
    """A key used again while its removal is being settled loses nothing of the new image."""
    complete(services)
    removed = services.uploads.remove(KEY)
    services.renditions.before("tidy", lambda: complete(services, OTHER))

    pipeline.remove(removed, services)

    assert recorded(services).status is ImageStatus.COMPLETED
    assert set(services.renditions.stored) == rendition_keys(services)
    assert len(services.renditions.stored) == 2


def test_removal_of_an_old_version_changes_nothing_that_is_shown(services: FakeServices) -> None:
    """Where the key still holds a newer version, that stays the image as it is."""
    first = complete(services)
    second = complete(services, OTHER)

    pipeline.remove(services.uploads.remove_version(first), services)

    image = recorded(services)
    assert (image.status, image.original.version_id) == ("COMPLETED", second.version_id)
    assert set(services.renditions.stored) == rendition_keys(services)
    assert services.topic.statuses == ["COMPLETED", "COMPLETED"]


@pytest.mark.parametrize("undo", ["newest version", "delete marker"])
def test_version_that_the_key_holds_again_is_the_image_again(
    services: FakeServices, undo: str
) -> None:
    """Removing the newest version, or a delete marker, brings the one below it back."""
    first = complete(services)
    if undo == "newest version":
        removed = services.uploads.remove_version(complete(services, OTHER))
    else:
        marker = services.uploads.remove(KEY)
        pipeline.remove(marker, services)
        removed = services.uploads.remove_version(marker.original)
    services.queue.receive()

    pipeline.remove(removed, services)
    [waiting] = services.queue.receive()
    process(services, waiting)

    image = recorded(services)
    assert (image.status, image.original.version_id) == ("COMPLETED", first.version_id)
    assert image.original.sequencer == removed.original.sequencer
    assert set(services.renditions.stored) == rendition_keys(services)
    assert len(services.renditions.stored) == 2


def test_delete_leaves_the_rest_to_the_event(services: FakeServices) -> None:
    """Deleting over REST removes the object; S3's event takes the image away."""
    original = complete(services)

    image = pipeline.delete(original.image_id, services)

    assert image.original.version_id == original.version_id
    assert services.uploads.current(KEY) is None
    marker = services.uploads.versions[KEY][-1].original
    pipeline.remove(ObjectEvent(ObjectChange.REMOVED, marker), services)
    assert recorded(services).status is ImageStatus.DELETED


def test_deleted_image_is_gone_for_readers_before_its_event(services: FakeServices) -> None:
    """Whoever has deleted it does not find it any more; nothing is announced before its time."""
    complete(services)
    stored = set(services.renditions.stored)

    gone = pipeline.delete(image_id_of(KEY), services)

    assert (gone.status, recorded(services).status) == ("DELETED", "DELETED")
    assert (recorded(services).announced, recorded(services).lease_until) == (False, None)
    assert (services.topic.statuses, set(services.renditions.stored)) == (["COMPLETED"], stored)
    with pytest.raises(ImageNotFound):
        pipeline.delete(image_id_of(KEY), services)


def test_deletion_whose_event_is_lost_is_settled_by_a_recheck(services: FakeServices) -> None:
    """As the sweep asks for: what is left to do stands on the record."""
    complete(services)
    pipeline.delete(image_id_of(KEY), services)

    pipeline.recheck(KEY, services)

    assert services.topic.statuses == ["COMPLETED", "DELETED"]
    assert services.renditions.stored == {}
    assert recorded(services).is_settled


def test_deletion_beside_a_new_upload_leaves_that_alone(services: FakeServices) -> None:
    """What was uploaded before the deletion is recorded is the image now."""
    complete(services)
    services.uploads.before("current", lambda: services.uploads.upload(KEY, OTHER))

    image = pipeline.delete(image_id_of(KEY), services)

    assert image.status is ImageStatus.DELETED  # which is what the client has deleted
    assert recorded(services).status is ImageStatus.QUEUED
    pipeline.register(services.uploads.created(KEY), services)
    assert recorded(services).status is ImageStatus.QUEUED
    assert services.queue.sent[-1] == recorded(services).original


def test_delete_of_an_unknown_image_is_refused(services: FakeServices) -> None:
    """There is nothing to delete under an id nobody has, and nothing is."""
    with pytest.raises(ImageNotFound):
        pipeline.delete("unknown", services)

    assert services.uploads.calls == []


# ── recheck ──────────────────────────────────────────────────────────────────────────────────────


def test_recheck_of_an_object_without_a_record_queues_it(services: FakeServices) -> None:
    """An upload whose event was lost is recorded as S3 holds it, for whoever asked to process."""
    original = services.uploads.upload(KEY, PICTURE).original

    image = pipeline.recheck(KEY, services)

    assert image == recorded(services)
    assert image.status is ImageStatus.QUEUED
    assert image.original == replace(original, sequencer="")
    process(services, image.original)
    assert recorded(services).status is ImageStatus.COMPLETED


def test_recheck_of_what_is_neither_here_nor_there_records_nothing(services: FakeServices) -> None:
    """A key without an object and without a record stays without."""
    assert pipeline.recheck(KEY, services) is None

    assert services.catalog.records == {}
    assert services.topic.statuses == []


def test_recheck_finds_a_removal_whose_event_was_lost(services: FakeServices) -> None:
    """The image goes as with the event, and the event that comes after all tells nobody again."""
    complete(services)
    removed = services.uploads.remove(KEY)

    image = pipeline.recheck(KEY, services)

    assert image is not None
    assert image.status is ImageStatus.DELETED
    assert recorded(services).announced
    assert services.renditions.stored == {}
    pipeline.remove(removed, services)
    assert services.topic.statuses == ["COMPLETED", "DELETED"]
    assert recorded(services).status is ImageStatus.DELETED


def test_recheck_finds_a_replacement_whose_event_was_lost(services: FakeServices) -> None:
    """What S3 holds is the image; the events that come after all are no news."""
    first = complete(services)
    event = services.uploads.upload(KEY, OTHER)

    image = pipeline.recheck(KEY, services)

    assert image is not None
    assert (image.status, image.original.version_id) == ("QUEUED", event.original.version_id)
    process(services, image.original)
    pipeline.register(replace(event, original=first), services)
    pipeline.register(event, services)
    assert recorded(services).status is ImageStatus.COMPLETED
    assert recorded(services).original == event.original
    assert services.recognizer.calls == ["recognize"] * 2
    assert set(services.renditions.stored) == rendition_keys(services)


def test_late_events_do_not_undo_what_a_recheck_has_found(services: FakeServices) -> None:
    """Each is of an older version than S3 holds, whatever the recheck knows of their order."""
    events = [services.uploads.upload(KEY, body) for body in (PICTURE, OTHER, TEXT)]
    pipeline.recheck(KEY, services)

    for event in events[:2]:
        pipeline.register(event, services)

    assert recorded(services).original.version_id == events[2].original.version_id


def test_late_events_do_not_undo_what_a_slow_submission_has_found(services: FakeServices) -> None:
    """An event that was delivered does not come again, so nothing may be lost of what it told."""
    first, second = services.uploads.upload(KEY, OTHER), services.uploads.upload(KEY, TEXT)
    pipeline.remove(services.uploads.remove(KEY), services)

    services.catalog.before("get", lambda: complete(services, PICTURE))
    submit(services, OTHER)
    newest = services.uploads.created(KEY).original
    pipeline.register(first, services)
    pipeline.register(second, services)

    assert recorded(services).original.version_id == newest.version_id
    assert recorded(services).status is ImageStatus.COMPLETED


def test_recheck_finds_a_deleted_image_that_is_there_again(services: FakeServices) -> None:
    """A tombstone does not outlive what S3 holds."""
    complete(services)
    pipeline.remove(services.uploads.remove(KEY), services)
    services.uploads.upload(KEY, OTHER)

    image = pipeline.recheck(KEY, services)

    assert image is not None
    assert (image.status, image.original.size_bytes) == ("QUEUED", len(OTHER))


def test_recheck_of_a_tombstone_without_an_object_changes_nothing(services: FakeServices) -> None:
    """Deleted is deleted, and was announced."""
    complete(services)
    pipeline.remove(services.uploads.remove(KEY), services)
    before = recorded(services)

    assert pipeline.recheck(KEY, services) == before

    assert recorded(services) == before
    assert services.topic.statuses == ["COMPLETED", "DELETED"]


@pytest.mark.parametrize("body", [PICTURE, TEXT])
def test_recheck_of_a_finished_image_changes_nothing(services: FakeServices, body: bytes) -> None:
    """Record and object agree, so there is nothing to do, whatever the end was."""
    complete(services, body)
    before = recorded(services)
    calls = len(services.topic.published)

    assert pipeline.recheck(KEY, services) == before

    assert recorded(services) == before
    assert len(services.topic.published) == calls


def test_recheck_leaves_a_worker_at_its_work(services: FakeServices) -> None:
    """A live lease is heeded however many have died before."""
    original = upload(services)
    seen: list[Image | None] = []
    before = recorded(services)
    services.catalog.records[original.image_id] = replace(before, lost=9)

    services.recognizer.before("recognize", lambda: seen.append(pipeline.recheck(KEY, services)))
    process(services, original)

    assert seen[0] is not None
    assert (seen[0].status, seen[0].failure) == ("PROCESSING", None)
    assert recorded(services).status is ImageStatus.COMPLETED
    assert recorded(services).lost == 0


@pytest.mark.parametrize(("fake", "call"), [("topic", "publish"), ("renditions", "tidy")])
@pytest.mark.parametrize("end", ["removal", "failure"])
def test_recheck_settles_what_a_worker_has_left_unsettled(
    services: FakeServices, end: str, fake: str, call: str
) -> None:
    """Final but neither tidied nor announced, an image is settled once its lease is over."""
    complete(services)
    getattr(services, fake).before(call, Killed())
    if end == "removal":
        with pytest.raises(Killed):
            pipeline.remove(services.uploads.remove(KEY), services)
    else:
        crash(services, upload(services, TEXT))

    lease = recorded(services).lease_until
    with pytest.raises(LeaseHeld, match=r"uploads/cat\.jpg is being settled") as raised:
        pipeline.recheck(KEY, services)
    assert raised.value.until == lease
    assert services.topic.statuses == ["COMPLETED"], "somebody may be at it"
    services.clock.forward(seconds=91)
    pipeline.recheck(KEY, services)

    assert services.renditions.stored == {}
    assert services.topic.statuses[1:] == ["DELETED" if end == "removal" else "FAILED"]
    assert recorded(services).announced


def die(services: FakeServices, original: Original, times: int) -> None:
    """As many workers that end without a word, each after the lease of the one before."""
    for _ in range(times):
        services.uploads.before("get", Killed())
        crash(services, original)
        services.clock.forward(seconds=91)


def test_recheck_gives_up_what_every_worker_dies_of(services: FakeServices) -> None:
    """A picture that takes the process down is given up after as many tries as a message has."""
    original = upload(services)
    die(services, original, 4)
    assert pipeline.recheck(KEY, services) == recorded(services)
    assert recorded(services).status is ImageStatus.PROCESSING
    die(services, original, 1)

    image = pipeline.recheck(KEY, services)

    assert image is not None
    assert image.status is ImageStatus.FAILED
    assert image.failure is not None
    assert image.failure.code == "retries_exhausted"
    assert "Given up after 5 tries" in image.failure.message
    assert "out of memory" in image.failure.message
    assert services.topic.statuses == ["FAILED"]
    assert recorded(services).announced


def test_workers_that_die_are_counted_in_a_row(services: FakeServices) -> None:
    """An end with a word in between is none of them, and a result begins the count anew."""
    original = upload(services)
    die(services, original, 4)
    for _ in range(3):
        services.uploads.before("get", Outage())
        with pytest.raises(Outage):
            process(services, original)
        services.clock.forward(seconds=91)

    pipeline.recheck(KEY, services)
    assert recorded(services).status is ImageStatus.QUEUED

    process(services, original)
    assert (recorded(services).status, recorded(services).lost) == ("COMPLETED", 0)


@pytest.mark.parametrize("passed", [0, 1])
def test_recheck_starts_again_when_somebody_was_faster(services: FakeServices, passed: int) -> None:
    """What is replaced while it is looked at ends as S3 holds it."""
    services.uploads.upload(KEY, PICTURE)
    for fake, call in [("uploads", "current"), ("catalog", "save")][passed : passed + 1]:
        getattr(services, fake).before(call, lambda: complete(services, OTHER))

    pipeline.recheck(KEY, services)

    image = recorded(services)
    assert image.original.version_id == services.uploads.created(KEY).original.version_id
    assert image.status is ImageStatus.COMPLETED
    assert set(services.renditions.stored) == rendition_keys(services)


def test_removal_found_by_a_recheck_leaves_nothing_of_a_worker_at_it(
    services: FakeServices,
) -> None:
    """What is stored after the image is known to be deleted goes as well."""
    original = upload(services)

    def deleted_meanwhile() -> None:
        services.uploads.remove(KEY)
        pipeline.recheck(KEY, services)

    services.renditions.before("put", deleted_meanwhile)

    process(services, original)

    assert recorded(services).status is ImageStatus.DELETED
    assert services.renditions.stored == {}
    assert services.topic.statuses == ["DELETED"]


# ── lost answers ─────────────────────────────────────────────────────────────────────────────────


def lose_answer(services: FakeServices, passed: int) -> None:
    """A write takes effect but its answer is lost: the SDK's own retry finds the record changed."""
    save, number = services.catalog.save, count()

    def save_twice(image: Image, previous: Image | None) -> Image:
        saved = save(image, previous)
        if next(number) == passed:
            raise StaleRevision("The SDK has written it twice.")
        return saved

    services.catalog.save = save_twice  # type: ignore[method-assign]


def until_it_comes_back(services: FakeServices, act: Callable[[], object]) -> int:
    """Act as often as it takes, each time once the lease is over; gives how often that was."""
    for tries in range(1, 6):
        try:
            act()
        except LeaseHeld as held:
            services.clock.now = max(services.clock.now, datetime.fromisoformat(held.until))
        else:
            return tries
    raise AssertionError("It never comes to an end.")


SAVES_OF_PROCESSING = 3  # taken on, concluded, settled


@pytest.mark.parametrize("passed", range(SAVES_OF_PROCESSING))
@pytest.mark.parametrize("kind", PASSES)
def test_lost_answer_leaves_no_image_unsettled(
    services: FakeServices, kind: str, passed: int
) -> None:
    """Its message comes back, and what it then finds is announced, once."""
    original = replacement(services, kind)
    lose_answer(services, passed)

    tries = until_it_comes_back(services, lambda: process(services, original))

    assert tries <= 2
    assert_ended(services, original, kind)
    assert services.topic.statuses == [PASSES[kind]]


@pytest.mark.parametrize("passed", [0, 1])
@pytest.mark.parametrize("told_by", ["removal", "upload that is gone", "recheck"])
def test_lost_answer_leaves_no_removal_unsettled(
    services: FakeServices, told_by: str, passed: int
) -> None:
    """The event comes again, as from Lambda, and the tombstone is announced, once."""
    complete(services)
    created = services.uploads.upload(KEY, OTHER)
    removed = services.uploads.remove(KEY)
    act: dict[str, Callable[[], object]] = {
        "removal": lambda: pipeline.remove(removed, services),
        "upload that is gone": lambda: pipeline.register(created, services),
        "recheck": lambda: pipeline.recheck(KEY, services),
    }
    lose_answer(services, passed)

    assert until_it_comes_back(services, act[told_by]) == 2 - passed

    image = recorded(services)
    assert (image.status, image.announced, image.lease_until) == ("DELETED", True, None)
    assert services.renditions.stored == {}
    assert services.topic.statuses == ["COMPLETED", "DELETED"]


@pytest.mark.parametrize("passed", [0, 1])
def test_lost_answer_leaves_nothing_that_is_given_up_unsettled(
    services: FakeServices, passed: int
) -> None:
    """A recheck that gives up what workers die of comes back and says so, once."""
    original = upload(services)
    die(services, original, 5)
    lose_answer(services, passed)

    assert until_it_comes_back(services, lambda: pipeline.recheck(KEY, services)) == 2 - passed

    assert (recorded(services).is_given_up, recorded(services).announced) == (True, True)
    assert services.topic.statuses == ["FAILED"]


def test_lost_answer_of_a_submission_or_an_event_is_no_matter(services: FakeServices) -> None:
    """The record is found as it was to be written, and the image asked for."""
    lose_answer(services, 0)
    submit(services)
    lose_answer(services, 0)
    pipeline.register(services.uploads.created(KEY), services)

    [waiting] = services.queue.receive()
    process(services, waiting)
    assert services.topic.statuses == ["COMPLETED"]


@pytest.mark.parametrize("kind", ["removal", "upload that is gone"])
def test_event_that_meets_the_settling_of_a_removal_comes_back(
    services: FakeServices, kind: str
) -> None:
    """Who settles it may die of it; so whoever else is told of it does not say that it is done."""
    complete(services)
    created = services.uploads.upload(KEY, OTHER)
    removed = services.uploads.remove(KEY)
    services.topic.before("publish", Killed())
    with pytest.raises(Killed):
        pipeline.remove(removed, services)
    event = removed if kind == "removal" else created
    follow_event = pipeline.remove if kind == "removal" else pipeline.register

    with pytest.raises(LeaseHeld):
        follow_event(event, services)
    services.clock.forward(seconds=61)
    follow_event(event, services)
    follow_event(event, services)

    assert services.topic.statuses == ["COMPLETED", "DELETED"]


def test_worker_whose_image_another_has_just_finished_comes_back(services: FakeServices) -> None:
    """The other may die before it has announced the result; the message is not yet done with."""
    original = upload(services)

    def finished_by_another() -> None:
        services.clock.forward(seconds=91)
        services.topic.before("publish", Killed())
        crash(services, original)

    services.recognizer.before("recognize", finished_by_another)

    tries = until_it_comes_back(services, lambda: process(services, original))

    assert tries == 2
    assert_ended(services, original, "picture")
    assert services.topic.statuses == ["COMPLETED"]


# ── give up ──────────────────────────────────────────────────────────────────────────────────────


OF_AWS = ClientError(
    {"Error": {"Code": "AccessDenied", "Message": "arn:aws:s3:::secret-bucket says no"}},
    "PutObject",
)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OF_AWS, "PutObject was answered with AccessDenied"),
        (ClientError({"Error": {}}, "Publish"), "Publish was answered with an error"),
        (ConnectionError("https://secret-bucket.s3.amazonaws.com"), "ConnectionError"),
        (EndpointConnectionError(endpoint_url="https://secret"), "EndpointConnectionError"),
        (KeyError("secret"), "KeyError"),
        (LeaseHeld("uploads/cat.jpg is held.", ""), "uploads/cat.jpg is held."),
    ],
)
def test_reason_of_an_error_gives_nothing_away(error: Exception, reason: str) -> None:
    """Our own words, the code and operation of AWS, or the kind of error: no ARN, bucket or URL."""
    assert reason_of(error) == reason


def test_given_up_image_says_how_often_and_why(services: FakeServices) -> None:
    """FAILED with the stable code, in words for anybody: no ARN, no bucket; and announced."""
    original = upload(services)

    pipeline.give_up(original, OF_AWS, services.clock(), services)

    image = recorded(services)
    assert image.status is ImageStatus.FAILED
    assert image.failure is not None
    assert image.failure.code == "retries_exhausted"
    assert image.failure.message.startswith(
        "Given up after 5 tries, the last of which ended so: "
        "PutObject was answered with AccessDenied."
    )
    assert (image.announced, image.is_given_up) == (True, True)
    assert services.topic.statuses == ["FAILED"]
    assert "secret" not in str(services.topic.published[0])


def test_image_that_is_given_up_keeps_what_it_had(services: FakeServices) -> None:
    """While it was processed anew its old renditions were shown; they still are."""
    original = complete(services)
    before = recorded(services)
    pipeline.reprocess(original.image_id, services)
    services.renditions.before("put", go_on, Outage())
    with pytest.raises(Outage):
        process(services, original)

    pipeline.give_up(original, Outage(), services.clock(), services)

    image = recorded(services)
    assert image.is_given_up
    assert (image.renditions, image.recognition) == (before.renditions, before.recognition)
    assert (image.description, image.fingerprint) == (before.description, before.fingerprint)
    assert set(services.renditions.stored) == {rendition.key for rendition in before.renditions}


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        *product(("unknown", "completed", "removed", "at work"), (Original, Recheck)),
        ("replaced", Original),
    ],
)
def test_only_what_still_waits_is_given_up(
    services: FakeServices, state: str, kind: type[Work]
) -> None:
    """Neither an end that was reached, nor a newer version, nor another worker is touched."""
    original = services.uploads.upload(KEY, PICTURE).original
    if state != "unknown":
        pipeline.register(services.uploads.created(KEY), services)
    if state == "completed":
        process(services, original)
    elif state == "replaced":
        upload(services, OTHER)
    elif state == "removed":
        pipeline.remove(services.uploads.remove(KEY), services)
    elif state == "at work":
        services.uploads.before("get", Killed())
        crash(services, original)
    before = dict(services.catalog.records)
    published = list(services.topic.published)

    pipeline.give_up(
        original if kind is Original else Recheck(KEY), Outage(), services.clock(), services
    )

    assert services.catalog.records == before
    assert services.topic.published == published


def test_recheck_gives_up_whichever_version_waits(services: FakeServices) -> None:
    """It is about the key: of what is recorded for it, the newest version is FAILED."""
    upload(services)
    newer = upload(services, OTHER)

    pipeline.give_up(Recheck(KEY), Outage(), services.clock(), services)

    image = recorded(services)
    assert (image.original, image.is_given_up, image.announced) == (newer, True, True)
    assert services.topic.statuses == ["FAILED"]


def test_giving_up_is_announced_once(services: FakeServices) -> None:
    """A second time finds it given up and tells nobody."""
    original = upload(services)

    for _ in range(2):
        pipeline.give_up(original, Outage(), services.clock(), services)

    assert services.topic.statuses == ["FAILED"]


@pytest.mark.parametrize(("fake", "call"), [("topic", "publish"), ("catalog", "save")])
def test_giving_up_that_was_killed_is_made_good_by_a_recheck(
    services: FakeServices, fake: str, call: str
) -> None:
    """Its message is in the dead-letter queue, so that nothing but the sweep comes by again."""
    original = upload(services)
    getattr(services, fake).before(call, *[go_on] * (call == "save"), Killed())
    with pytest.raises(Killed):
        pipeline.give_up(original, Outage(), services.clock(), services)
    services.clock.forward(seconds=91)

    pipeline.recheck(KEY, services)

    assert recorded(services).is_given_up
    assert recorded(services).announced
    assert set(services.topic.statuses) == {"FAILED"}


def test_given_up_image_is_processed_when_its_message_comes_again(services: FakeServices) -> None:
    """Redriven from the dead-letter queue, it is taken all the way like any other."""
    original = upload(services)
    pipeline.give_up(original, Outage(), services.clock(), services)

    process(services, original)

    image = recorded(services)
    assert (image.status, image.failure, image.announced) == ("COMPLETED", None, True)
    assert services.topic.statuses == ["FAILED", "COMPLETED"]
    assert set(services.renditions.stored) == rendition_keys(services)


def test_image_that_failed_for_what_it_is_stays_failed(services: FakeServices) -> None:
    """Its message coming again gives the same, and so is not tried."""
    original = complete(services, TEXT)
    gets = services.uploads.calls.count("get")

    process(services, original)

    assert services.uploads.calls.count("get") == gets
    assert services.topic.statuses == ["FAILED"]


# ── reprocess ────────────────────────────────────────────────────────────────────────────────────


def follow(services: FakeServices) -> None:
    """The one recheck that waits, taken all the way as the worker takes it."""
    assert services.queue.receive() == [Recheck(KEY)]
    image = pipeline.recheck(KEY, services)
    if image is not None and not image.status.is_final:
        process(services, image.original)


def test_image_keeps_what_it_has_until_the_new_is_in_place(services: FakeServices) -> None:
    """While it waits and while it is processed, nothing of it is missing; then the old goes."""
    original = complete(services)
    before = recorded(services)
    services.queue.receive()
    seen: list[tuple[Image, bool]] = []

    def look() -> None:
        image = recorded(services)
        stored = {rendition.key for rendition in image.renditions} <= set(
            services.renditions.stored
        )
        seen.append((image, stored and len(image.renditions) == 2))

    answered = pipeline.reprocess(original.image_id, services)
    look()
    services.recognizer.before("recognize", look)
    follow(services)
    look()

    assert answered == seen[0][0]
    assert [(image.status, stored) for image, stored in seen] == [
        ("QUEUED", True),
        ("PROCESSING", True),
        ("COMPLETED", True),
    ]
    for image, _ in seen[:2]:
        assert image.renditions == before.renditions
        assert (image.recognition, image.fingerprint) == (before.recognition, before.fingerprint)
    old = {rendition.key for rendition in before.renditions}
    assert old.isdisjoint(services.renditions.stored)
    assert set(services.renditions.stored) == rendition_keys(services)
    assert services.topic.statuses == ["COMPLETED", "COMPLETED"]


def test_image_that_is_processed_anew_is_found_by_what_it_has(services: FakeServices) -> None:
    """Under its old labels until the new are in place, and under those from then on."""
    original = complete(services)
    found: list[str] = []

    def search() -> None:
        found.extend(
            image.status for image in services.catalog.browse(Query(10, labels=("Cat",))).images
        )

    pipeline.reprocess(original.image_id, services)
    search()
    services.uploads.before("get", search)
    process(services, original)
    search()

    assert found == ["QUEUED", "PROCESSING", "COMPLETED"]


def test_reprocessing_that_fails_for_good_takes_the_old_away(services: FakeServices) -> None:
    """A recipe that no longer takes the picture leaves it FAILED, and nothing stored."""
    original = complete(services)
    pipeline.reprocess(original.image_id, services)
    services.recipe = replace(services.recipe, limits=replace(LIMITS, max_side=63))

    process(services, original)

    assert recorded(services).failure is not None
    assert recorded(services).renditions == ()
    assert services.renditions.stored == {}


@pytest.mark.parametrize("why", ["the file", "given up"])
def test_failed_image_is_processed_anew(services: FakeServices, why: str) -> None:
    """Whatever it failed for: a newer pipeline may take the file, and a cause may be gone."""
    original = upload(services, TEXT if why == "the file" else PICTURE)
    if why == "the file":
        process(services, original)
    else:
        pipeline.give_up(original, Outage(), services.clock(), services)
    services.queue.receive()

    answered = pipeline.reprocess(original.image_id, services)

    assert (answered.status, answered.failure, answered.announced) == ("QUEUED", None, False)
    follow(services)
    assert recorded(services).status == ("FAILED" if why == "the file" else "COMPLETED")
    assert len(services.topic.published) == 2


def test_reprocessing_what_workers_died_of_begins_the_count_anew(services: FakeServices) -> None:
    """Asked for again, it is tried again, however many have died at it before."""
    original = upload(services)
    die(services, original, 5)
    pipeline.recheck(KEY, services)

    pipeline.reprocess(original.image_id, services)
    image = pipeline.recheck(KEY, services)

    assert image is not None
    assert image.status is ImageStatus.QUEUED
    process(services, original)
    assert recorded(services).status is ImageStatus.COMPLETED


def test_image_that_waits_is_only_asked_for_again(services: FakeServices) -> None:
    """Its message may have been lost; the record stays as it is."""
    original = upload(services)
    before = recorded(services)

    assert pipeline.reprocess(original.image_id, services) == before

    assert recorded(services) == before
    assert services.queue.sent == [original, Recheck(KEY)]


def test_reprocessing_takes_the_version_that_is_there_now(services: FakeServices) -> None:
    """An image that was replaced without an event is processed as S3 holds it."""
    original = complete(services)
    services.queue.receive()
    newer = services.uploads.upload(KEY, OTHER).original

    pipeline.reprocess(original.image_id, services)
    follow(services)

    image = recorded(services)
    assert (image.status, image.original.version_id) == ("COMPLETED", newer.version_id)
    assert set(services.renditions.stored) == rendition_keys(services)
    assert services.topic.statuses == ["COMPLETED"] * 2


def test_reprocessing_what_was_removed_without_an_event_deletes_it(services: FakeServices) -> None:
    """It is answered as one that waits, and gone once S3 has been asked."""
    original = complete(services)
    services.queue.receive()
    services.uploads.remove(KEY)

    assert pipeline.reprocess(original.image_id, services).status is ImageStatus.QUEUED
    follow(services)

    assert recorded(services).status is ImageStatus.DELETED
    assert services.renditions.stored == {}
    assert services.topic.statuses == ["COMPLETED", "DELETED"]


def test_image_that_is_being_processed_is_left_to_its_worker(services: FakeServices) -> None:
    """It is just being done anew."""
    original = upload(services)
    services.queue.receive()
    services.recognizer.before("recognize", lambda: pipeline.reprocess(original.image_id, services))

    process(services, original)

    assert recorded(services).status is ImageStatus.COMPLETED
    assert services.queue.sent == []
    assert services.topic.statuses == ["COMPLETED"]


def test_reprocessing_needs_an_image(services: FakeServices) -> None:
    """Neither an unknown id nor a tombstone can be processed; nothing is asked for."""
    with pytest.raises(ImageNotFound):
        pipeline.reprocess("unknown", services)
    original = complete(services)
    pipeline.remove(services.uploads.remove(KEY), services)
    before = recorded(services)
    services.queue.receive()

    with pytest.raises(ImageNotFound):
        pipeline.reprocess(original.image_id, services)

    assert recorded(services) == before
    assert services.queue.sent == []


def test_reprocessing_killed_before_its_message_is_made_good(services: FakeServices) -> None:
    """Asked for a second time, an image that waits without a message gets one."""
    original = complete(services)
    services.queue.receive()
    services.queue.before("send", Killed())
    with pytest.raises(Killed):
        pipeline.reprocess(original.image_id, services)

    pipeline.reprocess(original.image_id, services)

    assert services.queue.sent == [Recheck(KEY)]


@pytest.mark.parametrize("moment", ["tidy", "publish"])
def test_reprocessing_that_meets_the_settling_is_not_marked_as_settled(
    services: FakeServices, moment: str
) -> None:
    """Asked for just while its first result is announced, an image is announced anew."""
    complete(services, OTHER)
    original = upload(services)
    fake = services.renditions if moment == "tidy" else services.topic
    fake.before(moment, lambda: pipeline.reprocess(original.image_id, services))

    process(services, original)

    assert (recorded(services).status, recorded(services).announced) == ("QUEUED", False)
    assert set(services.renditions.stored) == rendition_keys(services) != set()
    process(services, original)
    assert services.topic.statuses == ["COMPLETED"] * 3
    assert set(services.renditions.stored) == rendition_keys(services)


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


def test_find_gives_the_record(services: FakeServices) -> None:
    """An image is found by its id in whatever status it is."""
    original = upload(services)

    assert pipeline.find(original.image_id, services) == recorded(services)


def test_deleted_image_is_not_found(services: FakeServices) -> None:
    """A tombstone is for the pipeline, not for readers."""
    complete(services)
    pipeline.remove(services.uploads.remove(KEY), services)

    with pytest.raises(ImageNotFound, match="Image details not found for the given image identif"):
        pipeline.find(image_id_of(KEY), services)


def test_first_of_several_ids_that_exists_is_found(services: FakeServices) -> None:
    """Ids that mean nothing are passed over, in the order given."""
    one, two = upload(services, key="uploads/1.jpg"), upload(services, key="uploads/2.jpg")

    found = pipeline.find_first(["unknown", two.image_id, one.image_id], services)

    assert found.original == two
    with pytest.raises(ImageNotFound):
        pipeline.find_first(["unknown", "neither"], services)


def looking(services: FakeServices, *phashes: str) -> list[str]:
    """The ids of completed images with these perceptual hashes."""
    ids = []
    for number, phash in enumerate(phashes):
        original = complete(services, key=f"uploads/{number}.jpg")
        image = services.catalog.records[original.image_id]
        assert image.fingerprint is not None
        looks = replace(image.fingerprint, phash=phash)
        services.catalog.records[original.image_id] = replace(image, fingerprint=looks)
        ids.append(original.image_id)
    return ids


def test_similar_images_come_nearest_first_without_the_image_itself(
    services: FakeServices,
) -> None:
    """As many as were asked for, each with its distance."""
    this, far, near, _ = looking(services, "00" * 8, "07" + "00" * 7, "01" + "00" * 7, "ff" * 8)

    def found(max_distance: int, limit: int) -> list[tuple[str, int]]:
        similar = pipeline.find_similar(this, max_distance, limit, services)
        return [(image.image_id, distance) for image, distance in similar]

    assert found(7, 10) == [(near, 1), (far, 3)]
    assert found(7, 1) == [(near, 1)]
    assert found(2, 10) == [(near, 1)]
    assert found(0, 10) == []


def test_an_image_that_has_not_been_looked_at_has_no_similar_ones(services: FakeServices) -> None:
    """It has no hash yet; one that is not there is an error."""
    original = upload(services)

    assert list(pipeline.find_similar(original.image_id, 7, 10, services)) == []
    with pytest.raises(ImageNotFound):
        pipeline.find_similar("unknown", 7, 10, services)


def test_health_is_that_of_the_catalog(services: FakeServices) -> None:
    """An outage is said without what it was."""
    pipeline.check_health(services)
    services.catalog.before("bookmark", Outage("secret"))

    with pytest.raises(Unhealthy, match="does not answer: try again") as told:
        pipeline.check_health(services)
    assert "secret" not in str(told.value)


# ── once ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_same_request_uploads_nothing_twice(services: FakeServices) -> None:
    """However often it comes; it is answered with the image as it is by then."""

    def submit() -> Image:
        return pipeline.submit(KEY, PICTURE, "image/jpeg", "Cat", services, request="request")

    first = pipeline.once("request", "fingerprint", submit, services)
    process(services, first.original)
    again = pipeline.once("request", "fingerprint", submit, services)

    assert (first.status, again.status) == ("QUEUED", "COMPLETED")
    assert first.original.version_id == again.original.version_id
    assert len(services.uploads.versions[KEY]) == 1


@pytest.mark.parametrize("call", ["catalog.save", "catalog.fulfil", "uploads.put"])
def test_a_request_that_broke_off_is_seen_to_its_end_by_its_repetition(
    services: FakeServices, call: str
) -> None:
    """Wherever it broke: before the picture was stored, or before anybody was told that it was."""
    fake, method = call.split(".")
    getattr(services, fake).before(method, Outage("broken"))

    def once() -> Image:
        return pipeline.once(
            "request",
            "fingerprint",
            lambda: pipeline.submit(KEY, PICTURE, "image/jpeg", "Cat", services, request="request"),
            services,
        )

    with pytest.raises(Outage):
        once()
    image = once()

    assert image.original.key == KEY
    assert len(services.uploads.versions[KEY]) == 1
    assert recorded(services) == image


def test_what_another_request_has_stored_stays_its_own(services: FakeServices) -> None:
    """A name that is taken is taken for every other request."""
    pipeline.submit(KEY, PICTURE, "image/jpeg", "Cat", services, request="first")

    for request in ("second", ""):
        with pytest.raises(KeyTaken):
            pipeline.submit(KEY, PICTURE, "image/jpeg", "Cat", services, request=request)


# ── direct uploads ───────────────────────────────────────────────────────────────────────────────


def test_a_form_is_offered_for_a_key_that_is_free(services: FakeServices) -> None:
    """It takes no more bytes than the pipeline does; a key in use is refused."""
    offer = pipeline.offer(KEY, "image/jpeg", "Cat", services)

    assert offer.fields["key"] == KEY
    assert offer.fields["most"] == str(services.recipe.limits.max_bytes)
    assert offer.expires_at == timestamp(services.clock() + timedelta(minutes=15))
    upload(services)
    with pytest.raises(KeyTaken):
        pipeline.offer(KEY, "image/jpeg", "Cat", services)
