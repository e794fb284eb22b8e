"""What a policy withholds: from the first rendition on, until a reviewer releases it."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from typing import Any

import pytest

from chalicelib import pipeline
from chalicelib.errors import (
    ImageNotFound,
    LeaseHeld,
    NotQuarantined,
    RecognitionRefused,
    VersionReplaced,
)
from chalicelib.messages import Recheck, Work
from chalicelib.model import (
    Image,
    ImageStatus,
    ModerationLabel,
    Original,
    QuarantineRule,
    Recognition,
    image_id_of,
)
from chalicelib.moderation import TAXONOMY
from chalicelib.services import Recipe
from infrastructure.backfill import Group, group_of
from tests.fakes import CAT, LIMITS, PATIENCE, RECIPE, Alone, FakeServices, Killed, Outage
from tests.pictures import photo, saved
from tests.waiting import TIMEOUT_S

KEY = "uploads/cat.jpg"
IMAGE_ID = image_id_of(KEY)
LEASE = timedelta(seconds=90)
PICTURE = saved(photo(64, 48, seed=1))
OTHER = saved(photo(48, 64, seed=2))
TEXT = b"This is no picture."
VIOLENT = Recognition(
    labels=(CAT,),
    moderation=(
        ModerationLabel("Violence", 92.5),
        ModerationLabel("Weapon Violence", 92.5, "Violence"),
    ),
)
REASONS = ("Violence", "Weapon Violence")
OPEN = replace(RECIPE, version="1-open")
STRICT = replace(RECIPE, version="1-strict", quarantine=(QuarantineRule("Violence", 80),))
LAX = replace(RECIPE, version="1-lax", quarantine=(QuarantineRule("Violence", 99),))


@pytest.fixture
def services() -> Iterator[FakeServices]:
    """A stage that withholds what every picture shows; each of its writes is looked at."""
    services = guarded(STRICT)
    yield services
    assert_announcements_give_nothing_away(services)


def guarded(recipe: Recipe) -> FakeServices:
    """Services whose every write of a record is looked at."""
    services = FakeServices(recipe=recipe)
    services.recognizer.recognition = VIOLENT
    save = services.catalog.save

    def looked_at(image: Image, previous: Image | None) -> Image:
        keys = {rendition.key for rendition in image.renditions}
        assert {key.startswith("quarantine/") for key in keys} <= {image.is_withheld}
        assert keys <= set(services.renditions.stored), "what is named is there"
        if image.status is ImageStatus.QUARANTINED:
            assert image.is_withheld
            assert not image.released
        if image.status is ImageStatus.COMPLETED:
            assert not image.is_withheld
        return save(image, previous)

    services.catalog.save = looked_at  # type: ignore[method-assign]
    return services


def assert_announcements_give_nothing_away(services: FakeServices) -> None:
    """Nobody is told where anything withheld lies, and what is announced is what was so."""
    for told in [*services.topic.published, *services.bus.published]:
        assert "quarantine/" not in str(told)
        if told.details["withheld_for"]:
            assert told.details["withheld_for"] == list(REASONS)
            assert told.details["renditions"] == []
            assert "thumbnails/" not in str(told)
        is_quarantined = told.attributes["status"] == "QUARANTINED"
        assert told.attributes.get("moderation") == (list(REASONS) if is_quarantined else None)


def upload(services: FakeServices, body: bytes = PICTURE) -> Original:
    event = services.uploads.upload(KEY, body)
    pipeline.register(event, services)
    return event.original


def process(services: FakeServices, original: Original) -> None:
    pipeline.process(original, services.clock() + LEASE, Alone(), services)


def finish(services: FakeServices, body: bytes = PICTURE) -> Original:
    """A new version of the object, taken all the way; nothing waits after it."""
    original = upload(services, body)
    process(services, original)
    services.queue.receive()
    return original


def recorded(services: FakeServices) -> Image:
    return services.catalog.records[IMAGE_ID]


def named(services: FakeServices) -> set[str]:
    return {rendition.key for rendition in recorded(services).renditions}


def work(services: FakeServices, *more: Work) -> None:
    """All that waits, as the worker takes it; what fails comes back after the lease."""
    services.queue.sent += more
    while waiting := services.queue.receive():
        for each in waiting:
            with suppress(LeaseHeld):
                take(services, each)
                continue
            services.queue.sent.append(each)
        services.clock.forward(seconds=91)


def take(services: FakeServices, each: Work) -> None:
    if isinstance(each, Recheck):
        image = pipeline.recheck(each.key, services)
        if image is None or image.status.is_final:
            return
        each = image.original
    process(services, each)


def assert_withheld(services: FakeServices) -> None:
    """Quarantined, and nothing of it is anywhere else."""
    image = recorded(services)
    assert (image.status, image.withheld_for) == ("QUARANTINED", REASONS)
    assert (image.is_settled, image.lease_until, image.released) == (True, None, False)
    assert set(services.renditions.stored) == named(services)
    assert len(named(services)) == 2
    assert all(key.startswith("quarantine/") for key in named(services))
    assert services.topic.statuses[-1] == "QUARANTINED"


def assert_served(services: FakeServices, *, released: bool) -> None:
    image = recorded(services)
    assert (image.status, image.withheld_for, image.released) == ("COMPLETED", (), released)
    assert (image.is_settled, image.lease_until) == (True, None)
    assert set(services.renditions.stored) == named(services)
    assert sorted(key.partition("/")[0] for key in named(services)) == ["processed", "thumbnails"]
    assert services.topic.statuses[-1] == "COMPLETED"


# ── withholding ──────────────────────────────────────────────────────────────────────────────────


def test_image_that_shows_what_a_rule_names_is_withheld(services: FakeServices) -> None:
    """It is processed like any other, and its renditions go where nobody is given them."""
    finish(services)

    assert_withheld(services)
    image = recorded(services)
    assert image.description is not None
    assert image.fingerprint is not None
    assert image.recognition == VIOLENT
    assert services.topic.statuses == ["QUARANTINED"]
    assert services.telemetry.statuses == ["QUARANTINED"]


def test_image_is_withheld_for_the_least_sure_of_many_labels() -> None:
    """However many there are, the last is judged, too, and kept."""
    services = guarded(STRICT)
    others = (label for label in TAXONOMY if label != "Violence")
    moderation = (
        *(ModerationLabel(label, 99, TAXONOMY[label]) for label in islice(others, 20)),
        ModerationLabel("Violence", 80),
    )
    services.recognizer.recognition = Recognition(moderation=moderation)

    finish(services)

    image = recorded(services)
    assert (image.status, image.withheld_for) == ("QUARANTINED", ("Violence",))
    assert image.recognition.moderation == moderation
    assert all(key.startswith("quarantine/") for key in services.renditions.stored)


@pytest.mark.parametrize("recipe", [OPEN, LAX])
def test_image_that_no_rule_is_against_is_served(recipe: Recipe) -> None:
    """Without rules, or with one that it does not reach."""
    services = guarded(recipe)

    finish(services)

    assert_served(services, released=False)
    assert recorded(services).recognition.moderation == VIOLENT.moderation


@pytest.mark.parametrize("recipe", [STRICT, LAX])
def test_nothing_is_stored_before_it_is_known_whether_to_withhold(recipe: Recipe) -> None:
    """Even of what is served in the end: until Rekognition has answered, nobody knows."""
    services = guarded(recipe)
    rendered, seen = threading.Event(), list[str]()

    class Turn(Alone):
        def end(self) -> None:
            rendered.set()

    def answer_late() -> None:
        assert rendered.wait(TIMEOUT_S)
        seen.extend([*services.renditions.calls, *services.renditions.stored])

    services.recognizer.before("recognize", answer_late)

    pipeline.process(upload(services), services.clock() + LEASE, Turn(), services)

    assert seen == []
    assert len(services.renditions.stored) == 2


@pytest.mark.parametrize("why", ["no policy", "released"])
def test_nobody_waits_for_an_answer_that_decides_nothing(why: str) -> None:
    """Without a policy, and once released, renditions travel while Rekognition looks."""
    services = guarded(OPEN if why == "no policy" else STRICT)
    if why == "released":
        finish(services)
        pipeline.release(IMAGE_ID, "", services)
    else:
        upload(services)
    stored = threading.Semaphore(0)
    services.renditions.before("put", stored.release, stored.release)
    answered: list[bool] = []

    def answer_when_all_is_stored() -> None:
        answered.extend(stored.acquire(timeout=TIMEOUT_S) for _ in range(2))

    services.recognizer.before("recognize", answer_when_all_is_stored)

    process(services, recorded(services).original)

    assert answered == [True, True]
    assert_served(services, released=why == "released")


def test_refusal_by_the_recognizer_stores_nothing(services: FakeServices) -> None:
    """What cannot be judged fails, and nothing of it has gone anywhere."""
    services.recognizer.before("recognize", RecognitionRefused("Rekognition refused the picture."))

    finish(services)

    image = recorded(services)
    assert (image.status, image.is_withheld) == ("FAILED", False)
    assert "put" not in services.renditions.calls


# ── killed anywhere ──────────────────────────────────────────────────────────────────────────────

FAKES = ("catalog", "uploads", "renditions", "recognizer", "topic", "bus", "queue")


def first_upload(services: FakeServices) -> None:
    upload(services)


def replaced(services: FakeServices) -> None:
    finish(services)
    upload(services, OTHER)


def newly_withheld(services: FakeServices) -> None:
    """It was served before there was a policy."""
    services.recipe = OPEN
    finish(services)
    services.recipe = STRICT
    pipeline.reprocess(IMAGE_ID, services)


def withheld_again(services: FakeServices) -> None:
    finish(services)
    pipeline.reprocess(IMAGE_ID, services)


def released(services: FakeServices) -> None:
    finish(services)
    pipeline.release(IMAGE_ID, recorded(services).original.version_id, services)


def released_and_processed_again(services: FakeServices) -> None:
    released(services)
    work(services)
    pipeline.reprocess(IMAGE_ID, services)


def no_longer_withheld(services: FakeServices) -> None:
    """The policy asks for more by now."""
    finish(services)
    services.recipe = LAX
    pipeline.reprocess(IMAGE_ID, services)


WAYS: dict[Callable[[FakeServices], None], Callable[[FakeServices], None]] = {
    first_upload: assert_withheld,
    replaced: assert_withheld,
    newly_withheld: assert_withheld,
    withheld_again: assert_withheld,
    released: lambda services: assert_served(services, released=True),
    released_and_processed_again: lambda services: assert_served(services, released=True),
    no_longer_withheld: lambda services: assert_served(services, released=False),
}


def on_its_way(way: Callable[[FakeServices], None]) -> tuple[FakeServices, Original]:
    """An image that waits to be processed, after what has happened to it."""
    services = guarded(STRICT)
    way(services)
    services.queue.receive()
    for fake in FAKES:
        getattr(services, fake).calls.clear()
    services.topic.published.clear()
    return services, recorded(services).original


def every_call() -> Iterator[Any]:
    """Of every way, each call that processing makes, and how many of the same are before it."""
    for way in WAYS:
        services, original = on_its_way(way)
        process(services, original)
        for fake in FAKES:
            for call, times in Counter(getattr(services, fake).calls).items():
                for passed in range(times):
                    name = f"{way.__name__}-{fake}.{call}-{passed}"
                    yield pytest.param(way, fake, call, passed, id=name)


EVERY_CALL = list(every_call())


def go_on() -> None:
    """The action that lets a call through."""


@pytest.mark.parametrize(("way", "fake", "call", "passed"), EVERY_CALL)
@pytest.mark.parametrize("by", ["delivery", "recheck"])
def test_killed_anywhere_ends_like_a_run_without_a_break(
    way: Callable[[FakeServices], None], fake: str, call: str, passed: int, by: str
) -> None:
    """The same status, renditions in the same place, and at least one announcement, and no other.

    Nothing that is withheld was stored where it is served, not even by the worker that died.
    """
    services, original = on_its_way(way)
    was_served = set(services.renditions.stored)
    getattr(services, fake).before(call, *[go_on] * passed, Killed())
    with pytest.raises(Killed):
        process(services, original)
    if WAYS[way] is assert_withheld:
        fresh = set(services.renditions.stored) - was_served
        assert all(key.startswith("quarantine/") for key in fresh)

    services.clock.forward(seconds=91)
    work(services, original if by == "delivery" else Recheck(KEY))

    WAYS[way](services)
    assert len(set(services.topic.statuses)) == 1
    assert len(services.topic.statuses) <= 2
    assert_announcements_give_nothing_away(services)


@pytest.mark.parametrize(("way", "fake", "call", "passed"), EVERY_CALL)
def test_failing_anywhere_ends_like_a_run_without_a_break(
    way: Callable[[FakeServices], None], fake: str, call: str, passed: int
) -> None:
    """An error that passes, too, leaves nothing where it does not belong."""
    services, original = on_its_way(way)
    getattr(services, fake).before(call, *[go_on] * passed, Outage())
    with pytest.raises(Outage):
        process(services, original)

    work(services, original)

    WAYS[way](services)
    assert len(set(services.topic.statuses)) == 1
    assert_announcements_give_nothing_away(services)


# ── processed again ──────────────────────────────────────────────────────────────────────────────


def test_new_policy_takes_away_what_was_served() -> None:
    """Processed again under rules that are against it, an image is nowhere to be had."""
    services = guarded(OPEN)
    finish(services)
    served = named(services)
    services.recipe = STRICT

    pipeline.reprocess(IMAGE_ID, services)
    assert (recorded(services).status, named(services)) == ("QUEUED", served)
    work(services)

    assert_withheld(services)
    assert served.isdisjoint(services.renditions.stored)
    assert services.topic.statuses == ["COMPLETED", "QUARANTINED"]


def test_withheld_image_stays_so_until_the_new_is_in_place(services: FakeServices) -> None:
    """While it waits, while it is worked on, and when that is given up."""
    original = finish(services)
    kept = named(services)
    services.recipe = OPEN
    seen: list[Image] = []

    pipeline.reprocess(IMAGE_ID, services)
    seen.append(recorded(services))
    services.recognizer.before("recognize", lambda: seen.append(recorded(services)))
    services.renditions.before("put", Outage())
    with pytest.raises(Outage):
        process(services, original)
    seen.append(recorded(services))
    pipeline.give_up(original, Outage(), services.clock(), services)
    seen.append(recorded(services))

    assert [image.status for image in seen] == ["QUEUED", "PROCESSING", "QUEUED", "FAILED"]
    for image in seen:
        assert image.withheld_for == REASONS
        assert {rendition.key for rendition in image.renditions} == kept
        assert pipeline.find_withheld(IMAGE_ID, services)
    assert kept == set(services.renditions.stored)
    assert services.topic.statuses == ["QUARANTINED", "FAILED"]
    assert services.topic.published[-1].details["renditions"] == []

    work(services, original)  # redriven from the dead-letter queue
    assert_served(services, released=False)


def test_new_version_begins_anew(services: FakeServices) -> None:
    """Neither what withheld the old one nor who has released it says anything of the new one."""
    finish(services)
    pipeline.release(IMAGE_ID, "", services)
    work(services)

    upload(services, OTHER)

    image = recorded(services)
    assert (image.withheld_for, image.released, image.renditions) == ((), False, ())
    with pytest.raises(NotQuarantined):
        pipeline.find_withheld(IMAGE_ID, services)
    work(services)
    assert_withheld(services)


def test_new_version_of_a_withheld_image_may_be_harmless(services: FakeServices) -> None:
    """Then it is served, and what was withheld is gone."""
    finish(services)
    withheld = named(services)
    services.recognizer.recognition = Recognition(labels=(CAT,))

    finish(services, OTHER)

    assert_served(services, released=False)
    assert withheld.isdisjoint(services.renditions.stored)


def test_version_that_is_the_image_again_is_judged_again(services: FakeServices) -> None:
    """Once it was replaced, its release is forgotten: it was of what the key held then."""
    finish(services)
    pipeline.release(IMAGE_ID, "", services)
    work(services)
    second = finish(services, OTHER)

    pipeline.remove(services.uploads.remove_version(second), services)
    work(services)

    assert_withheld(services)


def test_failure_for_good_leaves_nothing_to_withhold(services: FakeServices) -> None:
    """There is nothing to review; what was withheld is gone."""
    finish(services)
    pipeline.reprocess(IMAGE_ID, services)
    services.recipe = replace(STRICT, limits=replace(LIMITS, max_side=63))

    work(services)

    image = recorded(services)
    assert (image.status, image.withheld_for, image.renditions) == ("FAILED", (), ())
    assert services.renditions.stored == {}
    with pytest.raises(NotQuarantined):
        pipeline.find_withheld(IMAGE_ID, services)


# ── releasing ────────────────────────────────────────────────────────────────────────────────────


def test_released_image_is_served_once_it_is_processed_again(services: FakeServices) -> None:
    """Until then it is withheld as it was; then what was withheld is gone."""
    original = finish(services)
    withheld = named(services)

    answered = pipeline.release(IMAGE_ID, original.version_id, services)

    assert (answered.status, answered.released) == ("QUEUED", True)
    assert (answered.withheld_for, named(services)) == (REASONS, withheld)
    assert services.queue.sent == [Recheck(KEY)]
    work(services)
    assert_served(services, released=True)
    assert withheld.isdisjoint(services.renditions.stored)
    assert services.topic.statuses == ["QUARANTINED", "COMPLETED"]
    assert services.topic.published[-1].details["released"] is True


def test_release_outlives_whatever_happens_to_the_version(services: FakeServices) -> None:
    """Processed again, by a backfill of other settings, after a failure: it stays released."""
    original = finish(services)
    pipeline.release(IMAGE_ID, "", services)
    work(services)
    pipeline.reprocess(IMAGE_ID, services)
    work(services)
    assert_served(services, released=True)

    services.recipe = replace(STRICT, quarantine=(QuarantineRule("any", 50),), version="2")
    assert group_of(original, recorded(services), "2") is Group.OUTDATED
    pipeline.reprocess(IMAGE_ID, services)
    work(services)
    assert_served(services, released=True)

    services.recognizer.before("recognize", RecognitionRefused("Rekognition refused the picture."))
    pipeline.reprocess(IMAGE_ID, services)
    work(services)
    assert (recorded(services).status, recorded(services).released) == ("FAILED", True)
    pipeline.reprocess(IMAGE_ID, services)
    work(services)
    assert_served(services, released=True)

    pipeline.register(services.uploads.created(KEY), services)
    work(services, Recheck(KEY))
    assert_served(services, released=True)


def test_release_that_comes_twice_is_one(services: FakeServices) -> None:
    """While it waits it is only asked for again; once it is served there is nothing to release."""
    finish(services)
    first = pipeline.release(IMAGE_ID, "", services)

    assert pipeline.release(IMAGE_ID, "", services) == first
    assert services.queue.sent == [Recheck(KEY)] * 2

    work(services)
    assert_served(services, released=True)
    assert services.topic.statuses == ["QUARANTINED", "COMPLETED"]
    with pytest.raises(NotQuarantined):
        pipeline.release(IMAGE_ID, "", services)


def test_two_reviewers_at_once_release_it_once(services: FakeServices) -> None:
    """Both are told that it waits."""
    finish(services)
    answers: list[Image] = []
    services.catalog.before(
        "save", lambda: answers.append(pipeline.release(IMAGE_ID, "", services))
    )

    answers.append(pipeline.release(IMAGE_ID, "", services))

    assert answers[0] == answers[1] == recorded(services)
    work(services)
    assert_served(services, released=True)
    assert services.topic.statuses == ["QUARANTINED", "COMPLETED"]


def test_release_killed_before_its_message_is_made_good(services: FakeServices) -> None:
    """Asked for a second time, an image that waits without a message gets one."""
    finish(services)
    services.queue.before("send", Killed())
    with pytest.raises(Killed):
        pipeline.release(IMAGE_ID, "", services)

    pipeline.release(IMAGE_ID, "", services)

    work(services)
    assert_served(services, released=True)


@pytest.mark.parametrize(
    ("fake", "call", "passed"),
    [each.values[1:] for each in EVERY_CALL if each.values[0] is withheld_again],
)
def test_release_counts_whenever_it_comes(fake: str, call: str, passed: int) -> None:
    """In the middle of being processed again, an image is released all the same."""
    services, original = on_its_way(withheld_again)
    getattr(services, fake).before(
        call, *[go_on] * passed, lambda: pipeline.release(IMAGE_ID, original.version_id, services)
    )

    work(services, original)

    assert_served(services, released=True)
    assert services.topic.statuses[-1] == "COMPLETED"
    assert set(services.topic.statuses[:-1]) <= {"QUARANTINED"}
    assert_announcements_give_nothing_away(services)


@pytest.mark.parametrize(
    ("fake", "call", "passed"),
    [each.values[1:] for each in EVERY_CALL if each.values[0] is no_longer_withheld],
)
def test_release_of_what_nothing_withholds_any_more_is_kept(
    fake: str, call: str, passed: int
) -> None:
    """A stricter policy does not undo it. Where the new was in place, there was none to give."""
    services, original = on_its_way(no_longer_withheld)
    given: list[bool] = []

    def release() -> None:
        with suppress(NotQuarantined):
            pipeline.release(IMAGE_ID, "", services)
            given.append(True)

    getattr(services, fake).before(call, *[go_on] * passed, release)
    work(services, original)
    assert_served(services, released=bool(given))

    services.recipe = STRICT
    pipeline.reprocess(IMAGE_ID, services)
    work(services)

    assert (recorded(services).status == "COMPLETED") == bool(given)


def test_release_meets_a_worker_that_is_out_of_its_lease(services: FakeServices) -> None:
    """Whoever of them comes last, what is released ends served."""
    original = finish(services)
    pipeline.reprocess(IMAGE_ID, services)
    services.queue.receive()

    def released_by_another() -> None:
        services.clock.forward(seconds=91)
        pipeline.release(IMAGE_ID, "", services)
        work(services)

    services.recognizer.before("recognize", released_by_another)

    work(services, original)

    assert_served(services, released=True)


def test_image_that_was_given_up_is_released(services: FakeServices) -> None:
    """What counts is that it is withheld, not how far it has come since."""
    original = finish(services)
    pipeline.reprocess(IMAGE_ID, services)
    pipeline.give_up(original, Outage(), services.clock(), services)
    services.queue.receive()

    answered = pipeline.release(IMAGE_ID, "", services)

    assert (answered.status, answered.failure) == ("QUEUED", None)
    work(services)
    assert_served(services, released=True)


def test_released_image_that_is_given_up_stays_withheld_and_released(
    services: FakeServices,
) -> None:
    """There is nothing to serve yet; it is as soon as it can be processed."""
    original = finish(services)
    pipeline.release(IMAGE_ID, "", services)
    services.queue.receive()
    pipeline.give_up(original, Outage(), services.clock(), services)

    image = recorded(services)
    assert (image.is_withheld, image.released, image.status) == (True, True, "FAILED")
    assert services.topic.published[-1].details["renditions"] == []
    pipeline.reprocess(IMAGE_ID, services)
    work(services)
    assert_served(services, released=True)


@pytest.mark.parametrize("why", ["unknown", "no id", "deleted", "deleted meanwhile"])
def test_release_needs_an_image(services: FakeServices, why: str) -> None:
    """What is not there, or not any more, is not found; nothing is asked for."""
    if why.startswith("deleted"):
        finish(services)
        removed = services.uploads.remove(KEY)
        if why == "deleted":
            pipeline.remove(removed, services)
        else:
            services.catalog.before("save", lambda: pipeline.remove(removed, services))

    with pytest.raises(ImageNotFound):
        pipeline.release("../etc" if why == "no id" else IMAGE_ID, "", services)

    assert services.queue.sent == []
    assert services.renditions.stored == {}


@pytest.mark.parametrize("state", ["waits", "served", "failed", "released and served"])
def test_release_needs_something_that_is_withheld(services: FakeServices, state: str) -> None:
    """Whatever else it is, the record stays as it is."""
    services.recipe = OPEN if state == "served" else STRICT
    if state == "waits":
        upload(services)
    else:
        finish(services, TEXT if state == "failed" else PICTURE)
    if state == "released and served":
        pipeline.release(IMAGE_ID, "", services)
        work(services)
    before = recorded(services)
    services.queue.receive()

    for act in (
        lambda: pipeline.release(IMAGE_ID, "", services),
        lambda: pipeline.find_withheld(IMAGE_ID, services),
    ):
        with pytest.raises(NotQuarantined):
            act()

    assert recorded(services) == before
    assert services.queue.sent == []


def test_release_is_of_the_version_that_was_seen(services: FakeServices) -> None:
    """Of one uploaded since nobody has seen anything, so it stays withheld."""
    first = finish(services)
    finish(services, OTHER)
    before = recorded(services)

    with pytest.raises(VersionReplaced):
        pipeline.release(IMAGE_ID, first.version_id, services)

    assert recorded(services) == before
    assert services.queue.sent == []


@pytest.mark.parametrize("passed", [0, 1])
def test_version_that_comes_in_the_middle_is_not_released(
    services: FakeServices, passed: int
) -> None:
    """Whether before the record is read or before it is written."""
    original = finish(services)
    call = ["get", "save"][passed]
    services.catalog.before(call, lambda: finish(services, OTHER))

    with pytest.raises(VersionReplaced):
        pipeline.release(IMAGE_ID, original.version_id, services)

    assert_withheld(services)
    assert recorded(services).original.size_bytes == len(OTHER)


@pytest.mark.parametrize("version_id", ["", "seen"])
def test_version_nobody_has_told_of_yet_is_not_released(
    services: FakeServices, version_id: str
) -> None:
    """S3 is asked before anything is processed: what it holds by now is judged."""
    original = finish(services)
    services.uploads.upload(KEY, OTHER)

    pipeline.release(IMAGE_ID, original.version_id if version_id else "", services)
    work(services)

    assert_withheld(services)
    assert recorded(services).original.size_bytes == len(OTHER)


# ── deleting ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("told_by", ["event", "recheck"])
def test_withheld_image_is_deleted_like_any_other(services: FakeServices, told_by: str) -> None:
    """The other verdict: nothing of it is left, and the announcement gives nothing away."""
    finish(services)

    gone = pipeline.delete(IMAGE_ID, services)

    assert gone.status is ImageStatus.DELETED
    for find in (pipeline.find, pipeline.find_withheld):
        with pytest.raises(ImageNotFound):
            find(IMAGE_ID, services)
    if told_by == "event":
        marker = services.uploads.versions[KEY][-1].original
        created = services.uploads.created(KEY)
        pipeline.remove(replace(created, original=marker), services)
    else:
        pipeline.recheck(KEY, services)
    image = recorded(services)
    assert (image.status, image.withheld_for, image.renditions) == ("DELETED", (), ())
    assert services.renditions.stored == {}
    assert services.topic.statuses == ["QUARANTINED", "DELETED"]


def test_deleted_and_uploaded_again_it_is_judged_again(services: FakeServices) -> None:
    """A release does not outlive what it was of."""
    finish(services)
    pipeline.release(IMAGE_ID, "", services)
    work(services)
    marker = services.uploads.remove(KEY)
    pipeline.remove(marker, services)

    pipeline.remove(services.uploads.remove_version(marker.original), services)
    work(services)

    assert_withheld(services)


def test_workers_that_die_of_a_withheld_image_leave_it_withheld(services: FakeServices) -> None:
    """Given up by a recheck, it keeps what it had, where it was."""
    original = finish(services)
    pipeline.reprocess(IMAGE_ID, services)
    services.queue.receive()
    for _ in range(PATIENCE.max_receives):
        services.renditions.before("put", Killed())
        with pytest.raises(Killed):
            process(services, original)
        services.clock.forward(seconds=91)

    pipeline.recheck(KEY, services)

    image = recorded(services)
    assert (image.is_given_up, image.is_withheld) == (True, True)
    assert named(services) == set(services.renditions.stored)
