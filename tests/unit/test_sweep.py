"""The sweep finds what neither an event nor a message will tell of, and leaves the rest alone."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from chalicelib import pipeline, worker
from chalicelib.messages import Recheck, timestamp
from chalicelib.model import Image, ImageStatus, Original, image_id_of
from chalicelib.sweep import BOOKMARK, enqueue_strays
from tests.fakes import Alone, FakeServices, Killed, message_of
from tests.pictures import photo, saved

KEY = "uploads/cat.jpg"
PICTURE = saved(photo(24, 24, seed=1))
OTHER = saved(photo(24, 24, seed=2))
TEXT = b"This is no picture."
FIVE = [f"uploads/{number}.jpg" for number in range(5)]


def sweep(services: FakeServices, seconds: float = 300) -> list[str]:
    """The keys that a sweep asks to be looked at."""
    waiting = len(services.queue.sent)
    enqueue_strays("uploads/", timedelta(seconds=seconds), services)
    asked = services.queue.sent[waiting:]
    assert all(isinstance(work, Recheck) for work in asked)
    return [work.key for work in asked]


def upload(services: FakeServices, body: bytes = PICTURE, key: str = KEY) -> Original:
    """A new object, registered; its message is off the queue."""
    event = services.uploads.upload(key, body)
    pipeline.register(event, services)
    services.queue.receive()
    return event.original


def complete(services: FakeServices, body: bytes = PICTURE, key: str = KEY) -> Original:
    original = upload(services, body, key)
    until = services.clock() + timedelta(seconds=60)
    pipeline.process(original, until, Alone(), services)
    return original


def record(services: FakeServices, key: str = KEY) -> Image:
    return services.catalog.records[image_id_of(key)]


def change(services: FakeServices, **changes: object) -> None:
    """Make the record other than the pipeline would."""
    image = record(services)
    services.catalog.records[image.image_id] = replace(image, **changes)  # type: ignore[arg-type]


# ── objects without their record ─────────────────────────────────────────────────────────────────


def test_object_without_a_record_is_asked_for(services: FakeServices) -> None:
    """Its event was lost."""
    services.uploads.upload(KEY, PICTURE)
    services.clock.forward(minutes=16)

    assert sweep(services) == [KEY]


def test_recent_object_is_left_to_its_event(services: FakeServices) -> None:
    """What has been there for less than a quarter of an hour may still be told of."""
    services.uploads.upload(KEY, PICTURE)
    services.clock.forward(minutes=14)

    assert sweep(services) == []


def test_object_whose_record_is_deleted_is_asked_for(services: FakeServices) -> None:
    """It was uploaded again, or its removal undone, and nobody was told."""
    complete(services)
    pipeline.remove(services.uploads.remove(KEY), services)
    services.uploads.upload(KEY, PICTURE)
    services.clock.forward(hours=1)

    assert sweep(services) == [KEY]


def test_object_that_is_other_than_its_record_is_asked_for(services: FakeServices) -> None:
    """It was replaced, and nobody was told."""
    complete(services)
    services.uploads.upload(KEY, OTHER)
    services.clock.forward(hours=1)

    assert sweep(services) == [KEY]


@pytest.mark.parametrize("body", [PICTURE, TEXT])
def test_object_with_its_record_is_left_alone(services: FakeServices, body: bytes) -> None:
    """Completed or failed, it is done."""
    complete(services, body)
    services.clock.forward(days=2)

    assert sweep(services) == []


def test_object_elsewhere_is_no_image(services: FakeServices) -> None:
    """Only what lies under the prefix is the pipeline's."""
    services.uploads.upload("elsewhere/cat.jpg", PICTURE)
    services.clock.forward(hours=1)

    assert sweep(services) == []


def test_removed_object_is_no_stray(services: FakeServices) -> None:
    """A delete marker is nothing to look at where the image is deleted as well."""
    complete(services)
    pipeline.remove(services.uploads.remove(KEY), services)
    services.clock.forward(hours=1)

    assert sweep(services) == []


# ── images that are stuck ────────────────────────────────────────────────────────────────────────


def crash(services: FakeServices) -> None:
    """A worker that dies at the image, its message gone with it."""
    original = upload(services)
    services.uploads.before("get", Killed())
    with pytest.raises(Killed):
        pipeline.process(original, services.clock() + timedelta(seconds=60), Alone(), services)


@pytest.mark.parametrize("others", [[], [Recheck("uploads/other.jpg")]])
def test_image_that_nobody_is_at_any_more_is_asked_for(
    services: FakeServices, others: list[Recheck]
) -> None:
    """PROCESSING after its lease: whatever waits in the queue, its worker is dead."""
    crash(services)
    services.clock.forward(minutes=16)
    services.queue.sent = [*others]

    assert sweep(services) == [KEY]


def test_image_whose_lease_lives_is_left_alone(services: FakeServices) -> None:
    """However long ago it was taken on, somebody is at it."""
    crash(services)
    services.clock.forward(days=2)
    change(services, lease_until=timestamp(services.clock() + timedelta(seconds=1)))

    assert sweep(services) == []


def test_image_that_has_just_changed_is_left_alone(services: FakeServices) -> None:
    """What has happened within a quarter of an hour may still go on."""
    crash(services)
    services.clock.forward(minutes=14)

    assert sweep(services) == []


def test_image_that_waits_for_nothing_is_asked_for(services: FakeServices) -> None:
    """QUEUED while the queue is empty: its message is lost."""
    upload(services)
    services.clock.forward(minutes=16)

    assert sweep(services) == [KEY]


@pytest.mark.parametrize(("hours", "found"), [(1, []), (23, []), (25, [KEY])])
def test_image_that_may_be_behind_others_is_left_alone_for_a_day(
    services: FakeServices, hours: int, found: list[str]
) -> None:
    """While something waits in the queue, it may be this; not for ever."""
    upload(services)
    services.clock.forward(hours=hours)
    services.queue.sent = [Recheck("uploads/other.jpg")]

    assert sweep(services) == found


@pytest.mark.parametrize("others", [[], [Recheck("uploads/other.jpg")]])
@pytest.mark.parametrize("body", [PICTURE, TEXT])
def test_end_that_was_not_announced_is_asked_for(
    services: FakeServices, body: bytes, others: list[Recheck]
) -> None:
    """Final, but its worker died before it could tell."""
    complete(services, body)
    change(services, announced=False)
    services.clock.forward(minutes=16)
    services.queue.sent = [*others]

    assert sweep(services) == [KEY]


def test_tombstone_that_was_not_announced_is_asked_for(services: FakeServices) -> None:
    """No listing shows it any more, but the records do."""
    complete(services)
    removed = services.uploads.remove(KEY)
    services.topic.before("publish", Killed())
    with pytest.raises(Killed):
        pipeline.remove(removed, services)
    services.clock.forward(minutes=16)

    assert sweep(services) == [KEY]


def test_image_that_was_given_up_is_left_alone(services: FakeServices) -> None:
    """A person decides whether its cause is gone."""
    original = upload(services)
    pipeline.give_up(original, ConnectionError(), services.clock(), services)
    services.clock.forward(days=2)

    assert sweep(services) == []


def test_stuck_images_are_as_many_as_the_time_allows(services: FakeServices) -> None:
    """The rest is found by the next sweep, since it is still stuck then."""
    for key in FIVE:
        upload(services, key=key)
    services.clock.forward(hours=1)
    services.queue.before("send", lambda: None, lambda: services.clock.forward(seconds=281))

    first = sweep(services, seconds=300)
    services.queue.receive()

    assert len(first) == 2
    assert set(sweep(services)) >= set(FIVE) - set(first)


@pytest.mark.parametrize("state", ["stuck", "at work"])
def test_stuck_images_leave_time_for_the_bucket(services: FakeServices, state: str) -> None:
    """The time is looked at for each that is read, stuck or not, and half of it is not theirs."""
    for number in range(10):
        upload(services, key=f"uploads/waiting-{number}.jpg")
    services.uploads.upload("uploads/a-stray.jpg", PICTURE)
    services.clock.forward(hours=1)
    if state == "at work":
        until = timestamp(services.clock() + timedelta(hours=1))
        for image_id, image in services.catalog.records.items():
            services.catalog.records[image_id] = replace(image, lease_until=until)
    unsettled, read = services.catalog.unsettled, list[Image]()

    def slowly(before: str) -> Iterator[Image]:
        for image in unsettled(before):
            services.clock.forward(seconds=40)
            read.append(image)
            yield image

    services.catalog.unsettled = slowly  # type: ignore[method-assign]

    asked = sweep(services, seconds=300)

    assert len(read) == 4, "after 160 of 300 seconds it is the bucket's turn"
    assert len(asked) == (4 if state == "stuck" else 1)
    assert asked[-1] == "uploads/a-stray.jpg"


# ── a bucket of many pages ───────────────────────────────────────────────────────────────────────


@pytest.fixture
def strays(services: FakeServices) -> list[str]:
    """Five objects, three pages of them, that nobody was told of."""
    for key in FIVE:
        services.uploads.upload(key, PICTURE)
    services.clock.forward(hours=1)
    return FIVE


def test_every_page_is_read(services: FakeServices, strays: list[str]) -> None:
    """With time enough one sweep sees the whole bucket, and the next begins anew."""
    assert sweep(services) == strays
    assert services.catalog.bookmarks[BOOKMARK] == ""
    assert sweep(services) == strays


def test_sweep_goes_on_where_the_last_one_stopped(
    services: FakeServices, strays: list[str]
) -> None:
    """No page is left half done, the next sweep takes the next, and after the last the first."""
    found: list[list[str]] = []
    for _ in range(5):
        services.queue.before("send", lambda: services.clock.forward(seconds=281))
        found.append(sweep(services, seconds=300))

    assert [page for page in found if page] == [strays[:2], strays[2:4], strays[4:], strays[:2]]


def test_sweep_without_any_time_reads_one_page(services: FakeServices, strays: list[str]) -> None:
    """So that it comes through the bucket at last, whatever else there is to do."""
    assert sweep(services, seconds=1) == strays[:2]
    assert sweep(services, seconds=1) == strays[2:4]


def test_sweep_that_dies_at_a_page_costs_only_that_page(
    services: FakeServices, strays: list[str]
) -> None:
    """Else a bucket with a page that is too much for it would never be gone through."""
    services.queue.before("send", *[lambda: None] * 2, Killed())
    with pytest.raises(Killed):
        sweep(services)

    assert sweep(services) == strays[2:]


def test_bucket_that_changes_between_sweeps_is_gone_through(
    services: FakeServices, strays: list[str]
) -> None:
    """The bookmark is a key and need not be there any more."""
    services.queue.before("send", lambda: services.clock.forward(seconds=281))
    sweep(services)
    services.uploads.remove(strays[1])

    assert sweep(services) == strays[2:]


def test_empty_bucket_is_swept(services: FakeServices) -> None:
    """There is nothing to find, and the next sweep begins anew."""
    assert sweep(services) == []
    assert services.catalog.bookmarks[BOOKMARK] == ""


def calls_of_a_sweep() -> list[tuple[str, str, int]]:
    """Every call that a sweep of five strays and a stuck image makes."""
    services = FakeServices()
    prepare(services)
    sweep(services)
    return [
        (fake, call, passed)
        for fake in ("queue", "catalog", "uploads")
        for call, times in Counter(getattr(services, fake).calls).items()
        for passed in range(times)
    ]


def prepare(services: FakeServices) -> None:
    crash(services)
    for key in FIVE:
        services.uploads.upload(key, PICTURE)
    services.clock.forward(hours=1)
    for fake in (services.queue, services.catalog, services.uploads):
        fake.calls.clear()


@pytest.mark.parametrize(("fake", "call", "passed"), calls_of_a_sweep())
def test_sweep_that_was_killed_is_made_good_by_the_next(
    services: FakeServices, fake: str, call: str, passed: int
) -> None:
    """Wherever it dies, it and the next one together ask for everything."""
    prepare(services)
    getattr(services, fake).before(call, *[lambda: None] * passed, Killed())

    with pytest.raises(Killed):
        sweep(services)
    first = [work.key for work in services.queue.receive() if isinstance(work, Recheck)]
    second = sweep(services)

    assert {*first, *second} == {KEY, *FIVE}


# ── the whole way ────────────────────────────────────────────────────────────────────────────────


def test_what_was_found_ends_as_s3_holds_it(services: FakeServices) -> None:
    """Lost, replaced, removed, stuck, unannounced: after a sweep and its messages all is right."""
    services.uploads.upload("uploads/lost.jpg", PICTURE)
    complete(services, key="uploads/replaced.jpg")
    services.uploads.upload("uploads/replaced.jpg", OTHER)
    complete(services, key="uploads/removed.jpg")
    pipeline.remove(services.uploads.remove("uploads/removed.jpg"), services)
    services.uploads.upload("uploads/removed.jpg", OTHER)
    upload(services, key="uploads/waiting.jpg")
    upload(services, key="uploads/waiting-and-gone.jpg")
    services.uploads.remove("uploads/waiting-and-gone.jpg")
    crash(services)
    services.topic.before("publish", Killed())
    with pytest.raises(Killed):
        complete(services, TEXT, "uploads/unannounced.txt")
    complete(services, key="uploads/done.jpg")
    done = record(services, "uploads/done.jpg")
    services.topic.published.clear()
    services.clock.forward(hours=1)

    sweep(services)
    while waiting := services.queue.receive():
        worker.process_batch(
            [message_of(work) for work in waiting], timedelta(seconds=60), services
        )

    for image in services.catalog.records.values():
        held = services.uploads.current(image.original.key)
        assert image.announced
        if held is None:
            assert image.status is ImageStatus.DELETED
        else:
            assert image.original.version_id == held.version_id
            is_text = image.original.key.endswith(".txt")
            assert image.status == ("FAILED" if is_text else "COMPLETED")
    assert len(services.catalog.records) == 8
    assert record(services, "uploads/done.jpg") == done
    assert set(services.renditions.stored) == {
        rendition.key
        for image in services.catalog.records.values()
        for rendition in image.renditions
    }
    assert Counter(services.topic.statuses) == {"COMPLETED": 5, "DELETED": 1, "FAILED": 1}
    services.clock.forward(hours=1)
    assert sweep(services) == []
