"""Each channel is told by itself: none waits for another, or is told again for another's sake.

Between being told and the mark that says so a worker may die; then, and only then, a channel is
told twice, of the same event.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest

from chalicelib import pipeline
from chalicelib.announcements import Announcement
from chalicelib.errors import LeaseHeld
from chalicelib.messages import Recheck
from chalicelib.model import EventKind, Image, Original, image_id_of
from chalicelib.sweep import enqueue_strays
from tests.fakes import Alone, FakeChannel, FakeServices, Killed, Outage, uploaded
from tests.pictures import photo, saved

KEY = "uploads/cat.jpg"
LEASE = timedelta(seconds=90)
PICTURE = saved(photo(64, 48, seed=1))
TEXT = b"This is no picture."
CHANNELS = ("topic", "bus")

Way = Callable[[FakeServices], None]


def go_on() -> None:
    """The action that lets a call through."""


def upload(services: FakeServices, body: bytes = PICTURE) -> Original:
    event = services.uploads.upload(KEY, body)
    pipeline.register(event, services)
    services.queue.receive()
    return event.original


def process(services: FakeServices) -> None:
    original = recorded(services).original
    pipeline.process(original, services.clock() + LEASE, Alone(), services)


def recorded(services: FakeServices) -> Image:
    return services.catalog.records[image_id_of(KEY)]


def of(services: FakeServices, name: str) -> FakeChannel:
    channel: FakeChannel = getattr(services, name)
    return channel


def kinds(channel: FakeChannel) -> list[str]:
    return [each.kind for each in channel.published]


def other_than(name: str) -> str:
    [other] = set(CHANNELS) - {name}
    return other


# ── how what is left comes to be told ────────────────────────────────────────────────────────────


def by_redelivery(services: FakeServices) -> None:
    process(services)


def by_recheck(services: FakeServices) -> None:
    pipeline.recheck(KEY, services)


def by_sweep(services: FakeServices) -> None:
    services.clock.forward(minutes=16)
    services.queue.receive()
    enqueue_strays("uploads/", timedelta(minutes=5), services)
    assert services.queue.receive() == [Recheck(KEY)]
    pipeline.recheck(KEY, services)


WAYS = (by_redelivery, by_recheck, by_sweep)


# ── a channel that fails ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("body", [PICTURE, TEXT])
@pytest.mark.parametrize("failing", CHANNELS)
def test_channel_that_fails_is_told_later_and_alone(
    services: FakeServices, failing: str, body: bytes, way: Way
) -> None:
    """The other is told at once and once; nothing is processed for it again."""
    upload(services, body)
    of(services, failing).before("publish", Outage("not now"))

    with pytest.raises(Outage, match="not now"):
        process(services)

    image = recorded(services)
    assert kinds(of(services, other_than(failing))) == [image.status]
    assert kinds(of(services, failing)) == []
    assert not image.announced
    assert image.lease_until is None

    way(services)

    assert kinds(services.topic) == kinds(services.bus) == [image.status]
    assert services.topic.published[0].event_id == services.bus.published[0].event_id
    assert services.uploads.calls.count("get") == 1
    assert (recorded(services).announced, recorded(services).told) == (True, ())
    assert recorded(services).attempt == image.attempt == 1


@pytest.mark.parametrize("failing", CHANNELS)
def test_channel_that_fails_again_and_again_hinders_nobody(
    services: FakeServices, failing: str
) -> None:
    """It is tried each time, and the other left in peace."""
    upload(services)
    of(services, failing).before("publish", *[Outage()] * 4)

    for _ in range(4):
        with pytest.raises(Outage):
            process(services)
    process(services)
    process(services)

    assert kinds(services.topic) == kinds(services.bus) == [EventKind.COMPLETED]
    assert services.recognizer.calls == ["recognize"]


def test_both_may_fail(services: FakeServices) -> None:
    """Whoever is asked first says why, and each is told when it is back."""
    upload(services)
    services.topic.before("publish", Outage("of SNS"))
    services.bus.before("publish", Outage("of EventBridge"), Outage("still"))

    with pytest.raises(Outage, match="of SNS"):
        process(services)
    assert recorded(services).told == ()
    with pytest.raises(Outage, match="still"):
        process(services)
    process(services)

    assert kinds(services.topic) == kinds(services.bus) == [EventKind.COMPLETED]


@pytest.mark.parametrize("failing", CHANNELS)
def test_removal_is_told_by_each(services: FakeServices, failing: str) -> None:
    """The event of it comes again until all are."""
    upload(services)
    process(services)
    removed = services.uploads.remove(KEY)
    of(services, failing).before("publish", Outage())

    with pytest.raises(Outage):
        pipeline.remove(removed, services)
    pipeline.remove(removed, services)
    pipeline.remove(removed, services)

    assert kinds(services.topic) == kinds(services.bus) == [EventKind.COMPLETED, EventKind.DELETED]


@pytest.mark.parametrize("failing", CHANNELS)
def test_giving_up_is_told_by_each(services: FakeServices, failing: str) -> None:
    """The sweep or a person's recheck tells what is left."""
    original = upload(services)
    of(services, failing).before("publish", Outage())

    with pytest.raises(Outage):
        pipeline.give_up(original, Outage(), services.clock(), services)
    services.clock.forward(minutes=1)
    by_recheck(services)

    assert kinds(services.topic) == kinds(services.bus) == [EventKind.FAILED]
    assert services.topic.published[0].event_time == services.bus.published[0].event_time


@pytest.mark.parametrize("failing", CHANNELS)
@pytest.mark.parametrize("passing", [0, 1])
def test_duplicate_is_told_with_its_status(
    services: FakeServices, failing: str, passing: int
) -> None:
    """Both together: of a channel that fails between them the first is told again, as the same."""
    uploaded(services, "uploads/first.jpg", PICTURE)
    services.topic.published.clear()
    services.bus.published.clear()
    upload(services)
    of(services, failing).before("publish", *[go_on] * passing, Outage())

    with pytest.raises(Outage):
        process(services)
    process(services)

    both = [EventKind.COMPLETED, EventKind.DUPLICATE]
    assert kinds(of(services, other_than(failing))) == both
    assert kinds(of(services, failing)) == both[:passing] + both
    ids = Counter(each.event_id for each in of(services, failing).published)
    assert len(ids) == 2


def test_what_was_told_of_one_version_says_nothing_of_the_next(services: FakeServices) -> None:
    """Nor of the next attempt: both channels hear of each."""
    upload(services)
    services.bus.before("publish", Outage())
    with pytest.raises(Outage):
        process(services)

    upload(services, TEXT)
    process(services)

    assert kinds(services.topic) == [EventKind.COMPLETED, EventKind.FAILED]
    assert kinds(services.bus) == [EventKind.FAILED]


def test_what_was_told_of_one_attempt_says_nothing_of_the_next(services: FakeServices) -> None:
    """Somebody has it processed again while a channel has yet to be told."""
    upload(services)
    services.bus.before("publish", Outage())
    with pytest.raises(Outage):
        process(services)

    pipeline.reprocess(image_id_of(KEY), services)
    process(services)

    assert kinds(services.topic) == [EventKind.COMPLETED] * 2
    assert kinds(services.bus) == [EventKind.COMPLETED]
    assert services.topic.published[1].event_id == services.bus.published[0].event_id


# ── a worker that dies ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dies_at", CHANNELS)
def test_killed_at_a_channel(services: FakeServices, dies_at: str, way: Way) -> None:
    """Nobody has marked whom it told: they may hear of it again, as of the same event."""
    upload(services)
    of(services, dies_at).before("publish", Killed())
    with pytest.raises(Killed):
        process(services)
    told = len(services.topic.published)
    assert told == (dies_at == "bus")

    services.clock.forward(seconds=91)
    way(services)
    way_again = by_redelivery if way is by_sweep else way
    way_again(services)

    assert kinds(services.bus) == [EventKind.COMPLETED]
    assert kinds(services.topic) == [EventKind.COMPLETED] * (told + 1)
    assert len({each.event_id for each in services.topic.published + services.bus.published}) == 1
    assert services.recognizer.calls == ["recognize"]


@pytest.mark.parametrize("way", WAYS)
def test_killed_before_the_mark(services: FakeServices, way: Way) -> None:
    """All hear of it again, and not a third time."""
    upload(services)
    services.catalog.before("save", go_on, go_on, Killed())
    with pytest.raises(Killed):
        process(services)
    assert kinds(services.topic) == kinds(services.bus) == [EventKind.COMPLETED]

    services.clock.forward(seconds=91)
    way(services)
    process(services)

    assert kinds(services.topic) == kinds(services.bus) == [EventKind.COMPLETED] * 2
    assert len({each.event_id for each in services.topic.published + services.bus.published}) == 1


@pytest.mark.parametrize("failing", CHANNELS)
def test_killed_before_the_mark_of_who_was_told(services: FakeServices, failing: str) -> None:
    """One has failed and the other was told, which nobody knows of."""
    upload(services)
    of(services, failing).before("publish", Outage())
    services.catalog.before("save", go_on, go_on, Killed())
    with pytest.raises(Killed):
        process(services)

    services.clock.forward(seconds=91)
    process(services)

    assert kinds(of(services, failing)) == [EventKind.COMPLETED]
    assert kinds(of(services, other_than(failing))) == [EventKind.COMPLETED] * 2


def test_two_that_tell_at_once_do_not_double(services: FakeServices) -> None:
    """Who settles has the lease: a redelivery meanwhile is told to come back."""
    upload(services)
    met: list[type[BaseException]] = []

    def redelivered() -> None:
        with suppress(LeaseHeld):
            process(services)
            return
        met.append(LeaseHeld)

    services.bus.before("publish", redelivered)
    process(services)

    assert met == [LeaseHeld]
    assert kinds(services.topic) == kinds(services.bus) == [EventKind.COMPLETED]


# ── the same event ───────────────────────────────────────────────────────────────────────────────


def same(first: Announcement, second: Announcement) -> bool:
    """Whether a program takes them for the same event, which then has happened at one time."""
    is_same = first.event_id == second.event_id
    if is_same:
        assert first.event_time == second.event_time
        assert first.kind is second.kind
        assert first.details["event_id"] == second.details["event_id"] == first.event_id
    return is_same


def again(services: FakeServices) -> None:
    """Everybody is told again, later, of what is recorded."""
    image = recorded(services)
    services.clock.forward(minutes=20)
    services.catalog.save(replace(image, announced=False), image)
    pipeline.recheck(KEY, services)


def end_completed(services: FakeServices) -> None:
    upload(services)
    process(services)


def end_failed(services: FakeServices) -> None:
    upload(services, TEXT)
    process(services)


def end_given_up(services: FakeServices) -> None:
    original = upload(services)
    pipeline.give_up(original, Outage(), services.clock(), services)


def end_removed(services: FakeServices) -> None:
    end_completed(services)
    pipeline.remove(services.uploads.remove(KEY), services)


def end_found_gone(services: FakeServices) -> None:
    end_completed(services)
    services.clock.forward(hours=1)
    services.uploads.remove(KEY)
    pipeline.recheck(KEY, services)


def end_gone_before_it_was_looked_at(services: FakeServices) -> None:
    original = upload(services)
    services.uploads.remove_version(original)
    process(services)


ENDS = (
    *(end_completed, end_failed, end_given_up),
    *(end_removed, end_found_gone, end_gone_before_it_was_looked_at),
)


@pytest.mark.parametrize("end", ENDS)
def test_what_is_told_again_is_the_same_event(services: FakeServices, end: Way) -> None:
    """With the same id and time, whenever it is told."""
    end(services)
    first = services.topic.published[-1]

    again(services)
    again(services)

    *_, second, third = services.topic.published
    assert same(first, second)
    assert same(first, third)
    assert second.details["updated_at"] != first.details["updated_at"]


@pytest.mark.parametrize("end", ENDS)
def test_time_of_an_event_is_when_it_happened(services: FakeServices, end: Way) -> None:
    """Not when the original was uploaded, long before that."""
    end(services)

    told = services.topic.published[-1].event_time
    now = services.clock().isoformat()
    assert now[:16] == told[:16]
    assert told == max(each.event_time for each in services.topic.published)


def test_each_thing_that_happens_is_an_event_of_its_own(services: FakeServices) -> None:
    """Another attempt, another version, another kind."""
    end_completed(services)
    pipeline.reprocess(image_id_of(KEY), services)
    process(services)
    end_failed(services)
    pipeline.remove(services.uploads.remove(KEY), services)
    end_completed(services)
    pipeline.remove(services.uploads.remove(KEY), services)

    expected = ["COMPLETED", "COMPLETED", "FAILED", "DELETED", "COMPLETED", "DELETED"]
    assert kinds(services.topic) == kinds(services.bus) == expected
    ids = [each.event_id for each in services.topic.published]
    assert ids == [each.event_id for each in services.bus.published]
    assert len(set(ids)) == len(ids)
