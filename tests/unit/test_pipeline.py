"""Every use case over services in memory: what it does, and what nothing can make it do."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from chalicelib import pipeline
from chalicelib.errors import (
    BatchFailed,
    ImageNotFound,
    KeyTaken,
    LeaseHeld,
    MalformedMessage,
    RecognitionRefused,
    StaleRevision,
)
from chalicelib.messages import ObjectChange, ObjectEvent, WorkMessage, encode_work, timestamp
from chalicelib.model import (
    PIPELINE_VERSION,
    Failure,
    Image,
    ImageStatus,
    Limits,
    Original,
    Query,
    image_id_of,
)
from tests.fakes import CAT, LIMITS, FakeServices, Killed, Throttled
from tests.pictures import photo, saved

KEY = "uploads/cat.jpg"
LEASE = timedelta(seconds=60)
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
    pipeline.process(original, LEASE, services)


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
    """The event of the first upload that comes after that of the second is dropped."""
    first = services.uploads.upload(KEY, PICTURE)
    second = services.uploads.upload(KEY, OTHER)
    pipeline.register(second, services)
    before = recorded(services)

    pipeline.register(first, services)

    assert recorded(services) == before
    assert services.queue.sent == [second.original]


def test_newer_version_supersedes_renditions_and_labels(services: FakeServices) -> None:
    """A replaced image is no longer found by its labels; its renditions wait to be replaced."""
    complete(services)
    stored = rendition_keys(services)

    second = upload(services, OTHER)

    image = recorded(services)
    assert (image.status, image.original) == ("QUEUED", second)
    assert set(image.superseded) == stored == set(services.renditions.stored)
    assert (image.renditions, image.recognition.labels, image.announced) == ((), (), False)
    assert pipeline.browse(Query(10, labels=("Cat",)), services).images == ()


def test_superseded_renditions_go_once_the_new_ones_are_there(services: FakeServices) -> None:
    """After replacing an image twice only the renditions of the last version are stored."""
    complete(services)
    upload(services, OTHER)

    third = complete(services)

    assert set(services.renditions.stored) == rendition_keys(services)
    assert sorted(services.renditions.stored) == sorted(services.renditions.of(third))
    assert recorded(services).superseded == ()


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
    assert services.queue.sent == [second.original]


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
    services.catalog.before("get", go_on)
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

    services.catalog.before("get", go_on, life_of_the_image)

    submit(services)

    with pytest.raises(ImageNotFound):
        pipeline.find(image_id_of(KEY), services)


def test_slow_submission_does_not_undo_a_newer_version(services: FakeServices) -> None:
    """What was uploaded over S3 while the submission hangs is the image."""
    services.catalog.before("get", go_on, lambda: complete(services, OTHER))

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
    assert (image.lease_until, image.pipeline_version) == (None, PIPELINE_VERSION)
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
    assert recorded(services).superseded == ()
    assert services.renditions.stored == {}


@pytest.mark.parametrize(
    ("fake", "call"),
    [
        ("uploads", "get"),
        ("recognizer", "recognize"),
        ("renditions", "put"),
        ("topic", "publish"),
    ],
)
def test_transient_failure_comes_back_and_completes(
    services: FakeServices, fake: str, call: str
) -> None:
    """An error that passes goes through as it is; the message that comes back completes."""
    original = upload(services)
    getattr(services, fake).before(call, Throttled())
    with pytest.raises(Throttled):
        process(services, original)
    assert services.topic.statuses == []

    services.clock.forward(seconds=61)
    process(services, original)

    assert recorded(services).status is ImageStatus.COMPLETED
    assert set(services.renditions.stored) == rendition_keys(services)
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

    process(services, original)
    process(services, original)

    assert services.topic.statuses == ["COMPLETED"] * 2


@pytest.mark.parametrize(
    ("fake", "call", "passed"),
    [
        ("uploads", "get", 0),
        ("renditions", "put", 0),
        ("renditions", "put", 1),
        ("recognizer", "recognize", 0),
        ("catalog", "save", 1),
        ("catalog", "save", 2),
        ("renditions", "delete", 0),
        ("topic", "publish", 0),
    ],
)
def test_killed_anywhere_ends_like_a_run_without_a_break(
    services: FakeServices, fake: str, call: str, passed: int
) -> None:
    """Whichever call a worker dies before, the next delivery leads to the same end."""
    complete(services, OTHER)
    original = upload(services)
    getattr(services, fake).before(call, *[go_on] * passed, Killed())
    crash(services, original)

    services.clock.forward(seconds=61)
    process(services, original)

    image = recorded(services)
    assert (image.status, image.original, image.announced) == ("COMPLETED", original, True)
    assert image.superseded == ()
    assert set(services.renditions.stored) == rendition_keys(services)
    assert services.topic.published[-1].details["version_id"] == original.version_id


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

    assert services.renditions.of(original) == []
    assert set(services.renditions.stored) == rendition_keys(services)


def test_record_that_moved_on_under_the_same_version_comes_back(services: FakeServices) -> None:
    """The finished work is not thrown away: the message comes back and completes."""
    original = upload(services)

    def event_with_a_newer_sequencer() -> None:
        again = replace(original, sequencer="9" * 32)
        pipeline.register(replace(services.uploads.created(KEY), original=again), services)

    services.recognizer.before("recognize", event_with_a_newer_sequencer)
    with pytest.raises(StaleRevision):
        process(services, original)
    assert recorded(services).status is ImageStatus.PROCESSING

    services.clock.forward(seconds=61)
    process(services, original)

    assert recorded(services).status is ImageStatus.COMPLETED
    assert set(services.renditions.stored) == rendition_keys(services)
    assert services.topic.statuses == ["COMPLETED"]


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

    services.clock.forward(seconds=60)
    process(services, original)

    assert recorded(services).status is ImageStatus.COMPLETED


def test_slow_worker_whose_lease_was_taken_over_does_not_announce_again(
    services: FakeServices,
) -> None:
    """A worker that wakes up after another has finished its image changes nothing."""
    original = upload(services)

    def taken_over() -> None:
        services.clock.forward(seconds=61)
        process(services, original)

    services.recognizer.before("recognize", taken_over)
    with pytest.raises(StaleRevision):
        process(services, original)

    assert recorded(services).status is ImageStatus.COMPLETED
    assert set(services.renditions.stored) == rendition_keys(services)
    process(services, original)
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
    assert (image.announced, image.superseded) == (True, ())
    assert image.original.sequencer == "9" * 32
    assert set(services.renditions.stored) == rendition_keys(services)


def test_upload_that_meets_an_announcement_is_not_marked_as_announced(
    services: FakeServices,
) -> None:
    """Replaced in that very moment, an image has its renditions and announcement before it."""
    first = upload(services)
    services.topic.before("publish", lambda: upload(services, OTHER))

    process(services, first)

    image = recorded(services)
    assert (image.status, image.announced) == ("QUEUED", False)
    assert set(image.superseded) == set(services.renditions.stored) != set()
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
    services.renditions.before("delete_version", lambda: complete(services))

    process(services, bad)

    assert recorded(services).status is ImageStatus.COMPLETED
    assert rendition_keys(services)
    assert rendition_keys(services) <= set(services.renditions.stored)


# ── process_batch ────────────────────────────────────────────────────────────────────────────────


def message(original: Original | None, number: int) -> WorkMessage:
    body = "{}" if original is None else encode_work(original)
    return WorkMessage(f"message-{number}", f"handle-{number}", body, receive_count=1)


def batch(services: FakeServices, size: int) -> list[WorkMessage]:
    """Messages of as many images."""
    return [
        message(upload(services, key=f"uploads/{number}.jpg"), number) for number in range(size)
    ]


def process_batch(
    services: FakeServices, messages: Sequence[WorkMessage], in_flight: int = 2
) -> None:
    pipeline.process_batch(messages, LEASE, in_flight, services)


def test_good_batch_is_left_to_lambda(services: FakeServices) -> None:
    """When all goes well nothing is deleted by us: Lambda deletes the batch."""
    messages = batch(services, 5)

    process_batch(services, messages)

    assert {image.status for image in services.catalog.records.values()} == {"COMPLETED"}
    assert services.queue.calls.count("delete") == 0


def test_bad_image_does_not_cost_its_neighbours(services: FakeServices) -> None:
    """What succeeded is deleted, and the error names every cause of what did not."""
    messages = batch(services, 3)
    messages.append(message(None, 3))
    held = services.catalog.records[messages[1].original.image_id]
    lease = timestamp(services.clock.now + LEASE)
    services.catalog.records[held.image_id] = replace(
        held, status=ImageStatus.PROCESSING, lease_until=lease
    )

    with pytest.raises(BatchFailed) as raised:
        process_batch(services, messages)

    assert services.queue.deleted == [messages[0], messages[2]]
    assert [type(failure) for failure in raised.value.failures] == [LeaseHeld, MalformedMessage]
    assert str(raised.value).startswith("2 of 4 messages failed: LeaseHeld: uploads/1.jpg is")
    assert "MalformedMessage: This is no work message: {}" in str(raised.value)


def test_file_that_is_no_picture_is_no_failure_of_the_batch(services: FakeServices) -> None:
    """A permanent failure is consumed like a success."""
    messages = [*batch(services, 2), message(upload(services, TEXT), 2)]

    process_batch(services, messages)

    assert recorded(services).status is ImageStatus.FAILED
    assert services.topic.statuses.count("COMPLETED") == 2


def test_batch_that_fails_as_a_whole_deletes_nothing(services: FakeServices) -> None:
    """With nothing done, everything comes back."""
    messages = batch(services, 2)
    services.uploads.before("get", Throttled("slow down"), Throttled("slow down"))

    with pytest.raises(
        BatchFailed, match="2 of 2 messages failed: Throttled: slow down; Throttled"
    ):
        process_batch(services, messages)

    assert services.queue.deleted == []


@pytest.mark.parametrize("in_flight", [1, 2, 3])
def test_no_more_images_are_in_flight_than_allowed(services: FakeServices, in_flight: int) -> None:
    """The setting bounds how many images are in memory, and that many do overlap."""
    messages = batch(services, 6)
    meeting = Meeting(in_flight)
    services.uploads.before("get", *[meeting.enter] * 6)
    services.topic.before("publish", *[meeting.leave] * 6)

    process_batch(services, messages, in_flight)

    assert meeting.most == in_flight


class Meeting:
    """Counts who is inside at once; the first to come wait until all that may be are there."""

    def __init__(self, size: int) -> None:
        self._barrier = threading.Barrier(size, timeout=10)
        self._lock = threading.Lock()
        self._first = size
        self._inside = 0
        self.most = 0

    def enter(self) -> None:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
            self._first -= 1
            waits = self._first >= 0
        if waits:
            self._barrier.wait()

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1


# ── remove and delete ────────────────────────────────────────────────────────────────────────────


def test_removal_leaves_a_tombstone_and_nothing_else(services: FakeServices) -> None:
    """Renditions of every version, recorded or not, go with the object, and the record too."""
    first = complete(services)
    upload(services, OTHER)
    services.renditions.stored["thumbnails/" + first.image_id + "/forgotten/x.jpg"] = b""
    other = complete(services, key="uploads/other.jpg")
    removed = services.uploads.remove(KEY)

    pipeline.remove(removed, services)

    image = recorded(services)
    assert (image.status, image.original, image.announced) == ("DELETED", removed.original, True)
    assert (image.renditions, image.recognition.labels, image.superseded) == ((), (), ())
    assert sorted(services.renditions.stored) == sorted(services.renditions.of(other))
    with pytest.raises(ImageNotFound):
        pipeline.find(first.image_id, services)


def test_removal_takes_renditions_from_folders_no_longer_configured(
    services: FakeServices,
) -> None:
    """What the record names is deleted even where a listing of today's folders misses it."""
    complete(services)
    services.renditions.all_of = lambda image_id: []  # type: ignore[method-assign] # noqa: ARG005

    pipeline.remove(services.uploads.remove(KEY), services)

    assert services.renditions.stored == {}


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
    ("fake", "call"), [("renditions", "all_of"), ("renditions", "delete"), ("topic", "publish")]
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
    services.renditions.before("all_of", lambda: complete(services, OTHER))

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

    assert image == recorded(services)
    assert services.uploads.current(KEY) is None
    marker = services.uploads.versions[KEY][-1].original
    pipeline.remove(ObjectEvent(ObjectChange.REMOVED, marker), services)
    assert recorded(services).status is ImageStatus.DELETED


def test_delete_of_an_unknown_image_is_refused(services: FakeServices) -> None:
    """There is nothing to delete under an id nobody has, and nothing is."""
    with pytest.raises(ImageNotFound):
        pipeline.delete("unknown", services)

    assert services.uploads.calls == []


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


def test_browse_asks_for_what_the_query_says(services: FakeServices) -> None:
    """All images, those in one status, or those with labels; newest first, page by page."""
    complete(services, key="uploads/1.jpg")
    complete(services, TEXT, key="uploads/2.jpg")
    upload(services, key="uploads/3.jpg")

    def keys(query: Query) -> list[str]:
        page = pipeline.browse(query, services)
        return [image.original.key for image in page.images]

    assert keys(Query(10)) == ["uploads/3.jpg", "uploads/2.jpg", "uploads/1.jpg"]
    assert keys(Query(10, status=ImageStatus.FAILED)) == ["uploads/2.jpg"]
    assert keys(Query(10, labels=("cat",), min_confidence=90)) == ["uploads/1.jpg"]
    assert keys(Query(10, labels=("cat",), min_confidence=99)) == []
    first = pipeline.browse(Query(2), services)
    assert keys(Query(2, cursor=first.cursor)) == ["uploads/1.jpg"]
