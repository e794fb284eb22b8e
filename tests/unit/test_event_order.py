"""S3 promises every event at least once and in no order: whatever comes, the end is what S3 holds.

Each history of an object is delivered in every order, with each event twice, with processing in
between or not, and with the bucket as it was when the event was sent or as it is at the end. Then
all of it meets in the middle: events, work, sweeps, uploads over REST that hang before they are
recorded, and people who want an image processed again or, where it is withheld, released.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache, partial
from itertools import permutations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib import imaging, pipeline
from chalicelib.errors import ImageNotFound, LeaseHeld, NotQuarantined
from chalicelib.messages import ObjectChange, ObjectEvent, Recheck, Work
from chalicelib.model import (
    ImageStatus,
    ModerationLabel,
    QuarantineRule,
    Query,
    Recognition,
    image_id_of,
)
from tests.fakes import RECIPE, Alone, Clock, FakeServices, FakeUploads, Outage, Version
from tests.pictures import photo, saved

pytestmark = pytest.mark.no_cover  # it goes the ways that other tests do, but thousands of times

KEY = "uploads/cat.jpg"
LEASE = timedelta(seconds=60)
PICTURES = [saved(photo(24, 24, seed=seed)) for seed in range(3)]
TEXT = b"This is no picture."
VIOLENT = Recognition(moderation=(ModerationLabel("Violence", 90),))
STRICT = replace(RECIPE, quarantine=(QuarantineRule("Violence", 80),))


@dataclass(frozen=True)
class Happening:
    """An event and what the bucket holds once it has happened."""

    event: ObjectEvent
    versions: tuple[Version, ...]


History = list[Happening]
Act = tuple[str, int | None]


def history(*steps: Callable[[FakeUploads], ObjectEvent]) -> History:
    uploads = FakeUploads(Clock())
    return [Happening(step(uploads), tuple(uploads.versions[KEY])) for step in steps]


def created(body: bytes) -> Callable[[FakeUploads], ObjectEvent]:
    return lambda uploads: uploads.upload(KEY, body)


def removed(uploads: FakeUploads) -> ObjectEvent:
    return uploads.remove(KEY)


def newest_version_removed(uploads: FakeUploads) -> ObjectEvent:
    return uploads.remove_version(uploads.versions[KEY][-1].original)


FIRST, SECOND, THIRD = (created(picture) for picture in PICTURES)

HISTORIES = {
    "used again after a removal": history(FIRST, SECOND, removed, THIRD),
    "removed at last": history(FIRST, removed, SECOND, removed),
    "good, bad, good": history(FIRST, created(TEXT), SECOND),
    "good, then bad": history(FIRST, created(TEXT)),
    "newest version removed": history(FIRST, SECOND, newest_version_removed),
    "removal undone": history(FIRST, removed, newest_version_removed),
    "same picture again": history(FIRST, removed, FIRST),
}


@pytest.fixture(scope="module", autouse=True)
def remembered_imaging() -> Iterator[None]:
    """Each picture is rendered once: thousands of runs look at the order of things, not at it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(imaging, "prepare", cache(imaging.prepare))
        yield


class World:
    """The pipeline and a bucket whose history is told to it event by event."""

    def __init__(
        self, happenings: History, *, all_has_happened: bool, is_strict: bool = False
    ) -> None:
        self.services = FakeServices(recipe=STRICT if is_strict else RECIPE)
        self.services.recognizer.recognition = VIOLENT
        self.released: set[str] = set()
        self._happenings = happenings
        self._time = 0
        self._happen(len(happenings) if all_has_happened else 0)
        self.undelivered = set(range(len(happenings)))

    def _happen(self, time: int) -> None:
        self._time = max(self._time, time)
        if self._time:
            self.services.uploads.versions[KEY] = [*self._happenings[self._time - 1].versions]

    def deliver(self, index: int) -> None:
        """The event, which cannot come before it has happened."""
        self._happen(index + 1)
        self.undelivered.discard(index)
        event = self._happenings[index].event
        handle = pipeline.register if event.change is ObjectChange.CREATED else pipeline.remove
        try:
            handle(event, self.services)
        except LeaseHeld:
            self.undelivered.add(index)  # Lambda hands it over again

    def submit(self, index: int) -> None:
        """The rest of an upload over REST, which has put this version and not yet recorded it.

        Only what has begun can hang: nothing happens here that has not happened by then.
        """
        self._happen(index + 1)
        original = self._happenings[index].event.original
        uploads = self.services.uploads
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(uploads, "put", lambda *_: (original.version_id, original.etag))
            pipeline.submit(KEY, bytes(original.size_bytes), "image/jpeg", "Cat", self.services)

    def sweep(self) -> None:
        """A sweep that finds the key odd, whether or not it is."""
        self.services.queue.send([Recheck(KEY)])

    def reprocess(self) -> None:
        with suppress(ImageNotFound):
            pipeline.reprocess(image_id_of(KEY), self.services)

    def release(self) -> None:
        """A reviewer lets the image pass, if there is one that is withheld."""
        with suppress(ImageNotFound, NotQuarantined):
            image = pipeline.release(image_id_of(KEY), "", self.services)
            self.released.add(image.original.version_id)

    def give_up(self) -> None:
        """The last receive of a message of some version fails."""
        image = self.services.catalog.records.get(image_id_of(KEY))
        if image is not None:
            pipeline.give_up(image.original, Outage(), self.services.clock(), self.services)

    def meet(self, act: Callable[[], None]) -> None:
        """An act, and all work, in the middle of what another actor is doing."""
        act()
        self.work()

    def work(self) -> None:
        """All that waits in the queue; what fails comes back when the lease is over."""
        services = self.services
        while waiting := services.queue.receive():
            for work in waiting:
                try:
                    self._process(work)
                except LeaseHeld:
                    services.queue.sent.append(work)
            services.clock.forward(seconds=61)

    def _process(self, work: Work) -> None:
        if isinstance(work, Recheck):
            image = pipeline.recheck(work.key, self.services)
            if image is None or image.status.is_final:
                return
            work = image.original
        lease_until = self.services.clock() + LEASE
        pipeline.process(work, lease_until, Alone(), self.services)

    def end_well(self) -> None:
        """A person has what was given up processed again."""
        image = self.services.catalog.records[image_id_of(KEY)]
        if image.is_given_up:
            self.reprocess()
            self.work()

    def agrees_with_s3(self) -> None:
        services = self.services
        held = services.uploads.current(KEY)
        image = services.catalog.records[image_id_of(KEY)]
        listed = services.catalog.browse(Query(10)).images
        assert image.announced
        if held is None:
            assert image.status is ImageStatus.DELETED
            assert listed == ()
            assert services.renditions.stored == {}
            assert services.topic.statuses.count("DELETED") >= 1
            return
        body = services.uploads.get(held, 10**6)
        is_withheld = services.recipe.quarantine and not image.released
        done = ImageStatus.QUARANTINED if is_withheld else ImageStatus.COMPLETED
        status = ImageStatus.FAILED if body == TEXT else done
        assert (image.status, image.original.version_id) == (status, held.version_id)
        assert not image.released or held.version_id in self.released
        for rendition in image.renditions:
            assert rendition.key.startswith("quarantine/") == image.is_withheld
        assert listed == (image,)
        assert {rendition.key for rendition in image.renditions} == set(services.renditions.stored)
        assert len(services.renditions.stored) == (0 if body == TEXT else 2)
        announced = [
            (message.attributes["status"], message.details["version_id"])
            for message in services.topic.published
        ]
        assert (status, held.version_id) in announced


def orders(length: int) -> Iterator[tuple[int, ...]]:
    """Every order of the events, each once and one of them twice."""
    yield from permutations(range(length))
    for twice in range(length):
        yield from sorted(set(permutations([*range(length), twice])))


@pytest.mark.parametrize("all_has_happened", [True, False], ids=["late", "prompt"])
@pytest.mark.parametrize("happenings", HISTORIES.values(), ids=HISTORIES.keys())
def test_any_order_of_events_ends_in_what_s3_holds(
    happenings: History,
    all_has_happened: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Every order with every duplicate, worked off after each event or only at the end."""
    for order, at_once in product(orders(len(happenings)), (True, False)):
        world = World(happenings, all_has_happened=all_has_happened)
        for index in order:
            world.deliver(index)
            if at_once:
                world.work()
        world.work()
        world.agrees_with_s3()


CALLS = [
    ("catalog", "get"),
    ("catalog", "save"),
    ("catalog", "first_of"),
    ("catalog", "similar"),
    ("uploads", "get"),
    ("uploads", "current"),
    ("renditions", "put"),
    ("renditions", "tidy"),
    ("renditions", "delete"),
    ("recognizer", "recognize"),
    ("queue", "send"),
    ("topic", "publish"),
]


ACTS = ["sweep", "reprocess", "release", "give_up"]


def acts_of(happenings: History) -> list[Act]:
    """What may go on beside the events, by name and, where it is about one, its index.

    Over REST only a key that holds nothing is uploaded to.
    """
    vacant = [True, *(held.versions[-1].body is None for held in happenings[:-1])]
    submitted = [
        ("submit", index)
        for index, happening in enumerate(happenings)
        if happening.event.change is ObjectChange.CREATED and vacant[index]
    ]
    return [(name, None) for name in ACTS] + submitted


@settings(max_examples=600, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(sorted(HISTORIES)),
    all_has_happened=st.booleans(),
    is_strict=st.booleans(),
    choices=st.data(),
)
def test_what_meets_in_the_middle_ends_in_what_s3_holds(
    name: str,
    all_has_happened: bool,  # noqa: FBT001 - drawn
    is_strict: bool,  # noqa: FBT001 - drawn
    choices: st.DataObject,
) -> None:
    """An act, or an act and all work, just before any call of another actor.

    At last every event has been delivered, and no sweep needs to mend what came of it.
    """
    happenings = HISTORIES[name]
    world = World(happenings, all_has_happened=all_has_happened, is_strict=is_strict)
    events: list[Act] = [("deliver", index) for index in range(len(happenings))]
    more = st.lists(st.sampled_from(events + acts_of(happenings)), max_size=4)
    for act, index in choices.draw(more.flatmap(lambda acts: st.permutations(events + acts))):
        do = getattr(world, act) if index is None else partial(getattr(world, act), index)
        where = choices.draw(st.sampled_from(["alone", "worked off", *CALLS]))
        if isinstance(where, tuple):
            fake, call = where
            getattr(world.services, fake).before(call, partial(world.meet, do))
        else:
            do()
            if where == "worked off":
                world.work()
    for fake in {fake for fake, _ in CALLS}:
        getattr(world.services, fake).forget()
    while world.undelivered:
        for index in sorted(world.undelivered):
            world.deliver(index)
        world.services.clock.forward(seconds=61)
    world.work()
    world.end_well()
    world.agrees_with_s3()
