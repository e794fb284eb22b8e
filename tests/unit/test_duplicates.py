"""Pictures that were there already: told once recorded, and never of each other."""

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import cache, partial
from hashlib import sha256
from itertools import permutations, product
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image as Pillow

from chalicelib import imaging, pipeline
from chalicelib.errors import LeaseHeld, RecognitionRefused
from chalicelib.model import (
    Duplicate,
    Feature,
    Image,
    ModerationLabel,
    Original,
    QuarantineRule,
    Recognition,
    image_id_of,
)
from chalicelib.prices import cost_usd
from chalicelib.telemetry import Telemetry
from tests.emf import metrics_of
from tests.fakes import RECIPE, Alone, FakeCatalog, FakeServices, FakeWorkflow, Killed, Outage
from tests.machine import Execution
from tests.pictures import photo, saved
from tests.waiting import TIMEOUT_S

LEASE = timedelta(seconds=90)
PICTURE = saved(photo(64, 48, seed=1))
NEAR = PICTURE + b"."  # the same picture in other bytes
NEARER_STILL = PICTURE + b".."
OTHER = saved(photo(48, 64, seed=2))
TEXT = b"This is no picture."
A, B, C = "uploads/a.jpg", "uploads/b.jpg", "uploads/c.jpg"


@pytest.fixture(scope="module", autouse=True)
def remembered_imaging() -> Iterator[None]:
    """Each picture is rendered once: hundreds of runs look at the order of things, not at it."""
    prepare = imaging.prepare

    @cache
    def remembered(*args: Any, **options: Any) -> SimpleNamespace:
        made = prepare(*args, **options)
        facts = {"pixels": made.pixels, "proxy": made.proxy, "notes": made.notes}
        return SimpleNamespace(**facts, render=cache(made.render))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(imaging, "prepare", remembered)
        yield


def upload(services: FakeServices, key: str, body: bytes = PICTURE) -> Original:
    event = services.uploads.upload(key, body)
    pipeline.register(event, services)
    services.queue.receive()
    return event.original


def process(services: FakeServices, original: Original) -> None:
    pipeline.process(original, services.clock() + LEASE, Alone(), services)


def complete(services: FakeServices, key: str, body: bytes = PICTURE) -> Image:
    process(services, upload(services, key, body))
    return recorded(services, key)


def again(services: FakeServices, key: str) -> Image:
    """The image, processed again."""
    pipeline.reprocess(image_id_of(key), services)
    services.queue.receive()
    process(services, recorded(services, key).original)
    return recorded(services, key)


def recorded(services: FakeServices, key: str) -> Image:
    return services.catalog.records[image_id_of(key)]


def exact(key: str) -> Duplicate:
    return Duplicate(image_id_of(key), 0, is_exact=True)


def near(key: str, distance: int = 0) -> Duplicate:
    return Duplicate(image_id_of(key), distance)


def duplicates_of(services: FakeServices, key: str) -> tuple[Duplicate, ...]:
    return recorded(services, key).duplicates


def announced(services: FakeServices, key: str) -> tuple[str | list[str] | None, list[str]]:
    """What was last announced of an image: its attribute, and whom its duplicates are."""
    told = [each for each in services.topic.published if each.attributes["key"] == key][-1]
    ids = [each["image_id"] for each in told.details["duplicates"]]
    return told.attributes.get("duplicate"), ids


# ── what is a duplicate ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "duplicate", "kind"),
    [(PICTURE, exact(A), "exact"), (NEAR, near(A), "near"), (OTHER, None, None)],
)
def test_image_names_those_that_were_there(
    services: FakeServices, body: bytes, duplicate: Duplicate | None, kind: str | None
) -> None:
    """The same bytes, or another picture that looks the same; it is recorded and announced."""
    complete(services, A)

    image = complete(services, B, body)

    assert image.duplicates == ((duplicate,) if duplicate else ())
    assert announced(services, B) == (kind, [duplicate.image_id] if duplicate else [])
    assert duplicates_of(services, A) == ()
    assert announced(services, A) == (None, [])


def test_exact_ones_come_first(services: FakeServices) -> None:
    """Of an image with both kinds the announcement is of the exact one."""
    complete(services, A, NEAR)
    complete(services, B)

    image = complete(services, C)

    assert image.duplicates == (exact(B), near(A))
    assert announced(services, C)[0] == "exact"


def test_every_copy_names_all_before_it(services: FakeServices) -> None:
    """The first and the copies of it, once each."""
    for key in (A, B, C):
        complete(services, key)

    assert duplicates_of(services, B) == (exact(A),)
    assert set(duplicates_of(services, C)) == {exact(A), exact(B)}
    assert duplicates_of(services, C)[0] == exact(A)


def looking(services: FakeServices, key: str, phash: str) -> None:
    """A settled image of other bytes with this perceptual hash."""
    image = complete(services, key, OTHER + key.encode())
    assert image.fingerprint is not None
    looks = replace(image.fingerprint, phash=phash)
    services.catalog.records[image.image_id] = replace(image, fingerprint=looks, duplicates=())


def differing(phash: str, bits: int) -> str:
    """The hash with so many of its bits turned."""
    return f"{int(phash, 16) ^ ((1 << bits) - 1):016x}"


def hash_of(body: bytes) -> str:
    image = complete(FakeServices(), A, body)
    assert image.fingerprint is not None
    return image.fingerprint.phash


@pytest.mark.parametrize("distance", [0, 3, 7])
def test_near_ones_differ_in_as_many_bits_as_the_recipe_says(
    services: FakeServices, distance: int
) -> None:
    """Up to the distance, and not beyond it; nearest first."""
    services.recipe = replace(RECIPE, duplicate_distance=distance)
    phash = hash_of(PICTURE)
    for bits in (distance + 1, distance, 0):
        looking(services, f"uploads/{bits}.jpg", differing(phash, bits))

    complete(services, A)

    within = sorted({0, distance})
    assert duplicates_of(services, A) == tuple(near(f"uploads/{bits}.jpg", bits) for bits in within)


def test_ten_are_named_and_the_nearest_of_them(services: FakeServices) -> None:
    """Exact ones before all others."""
    phash = hash_of(PICTURE)
    looking(services, "uploads/far.jpg", differing(phash, 3))
    for number in range(12):
        looking(services, f"uploads/{number}.jpg", differing(phash, 1))
    complete(services, A)
    assert len(duplicates_of(services, A)) == 10

    image = complete(services, B)

    assert len(image.duplicates) == 10
    assert image.duplicates[0] == exact(A)
    assert {each.distance for each in image.duplicates[1:]} == {1}
    assert announced(services, B)[1] == [each.image_id for each in image.duplicates]


def test_records_that_know_no_bytes_have_no_exact_duplicates(services: FakeServices) -> None:
    """Those of an earlier version of the pipeline look the same, and that is all that is known."""
    image = complete(services, A)
    assert image.fingerprint is not None
    old = replace(image, fingerprint=replace(image.fingerprint, sha256=""))
    services.catalog.records[image.image_id] = old
    services.catalog.firsts.clear()
    services.topic.before("publish", Killed())
    original = upload(services, B)
    with pytest.raises(Killed):
        process(services, original)
    new = recorded(services, B)
    assert new.fingerprint is not None
    unknown = replace(new, fingerprint=replace(new.fingerprint, sha256=""))
    services.catalog.records[new.image_id] = unknown

    services.clock.forward(seconds=91)
    process(services, original)

    assert duplicates_of(services, B) == (near(A),)


# ── what is none ─────────────────────────────────────────────────────────────────────────────────


def one_colour(name: str) -> bytes:
    return saved(Pillow.new("RGB", (64, 48), name), "PNG")


@pytest.mark.parametrize(("other", "duplicates"), [("#404040", ()), ("gray", (exact(A),))])
def test_pictures_of_one_colour_have_no_near_duplicates(
    services: FakeServices, other: str, duplicates: tuple[Duplicate, ...]
) -> None:
    """There is nothing in them to look alike by. The same bytes are the same all the same."""
    services.recipe = replace(RECIPE, duplicate_distance=7)
    complete(services, A, one_colour("gray"))

    assert complete(services, B, one_colour(other)).duplicates == duplicates
    assert pipeline.find_similar(image_id_of(A), 7, 10, services) == []


@pytest.mark.parametrize("way", ["new version", "removed before", "put back"])
def test_image_is_no_duplicate_of_itself(services: FakeServices, way: str) -> None:
    """The same bytes under the same key are the same image, however they have come there."""
    complete(services, A)
    if way == "removed before":
        pipeline.remove(services.uploads.remove(A), services)
    if way == "put back":
        second = complete(services, A, OTHER).original
        pipeline.remove(services.uploads.remove_version(second), services)
        process(services, recorded(services, A).original)
    else:
        complete(services, A)

    assert duplicates_of(services, A) == ()
    assert announced(services, A) == (None, [])


def test_file_that_is_no_picture_has_no_duplicates(services: FakeServices) -> None:
    """Nor is it one."""
    complete(services, A, TEXT)

    image = complete(services, B, TEXT)

    assert (image.status, image.duplicates) == ("FAILED", ())
    assert announced(services, B) == (None, [])


def test_image_that_failed_is_nobodys_duplicate(services: FakeServices) -> None:
    """Refused by Rekognition, it has nothing to show; the next with its bytes is the first."""
    services.recognizer.before("recognize", RecognitionRefused("Rekognition refused the picture."))
    complete(services, A)

    complete(services, B)
    complete(services, C)

    assert duplicates_of(services, B) == ()
    assert duplicates_of(services, C) == (exact(B),)
    assert again(services, A).duplicates[0] == exact(B)
    assert duplicates_of(services, B) == ()


def test_image_that_fails_when_it_is_processed_again_names_none(services: FakeServices) -> None:
    """It shows nothing any more that anything could be the same as."""
    complete(services, A)
    complete(services, B)
    services.recognizer.before("recognize", RecognitionRefused("Rekognition refused the picture."))

    assert again(services, B).duplicates == ()
    assert announced(services, B) == (None, [])


def test_image_that_is_given_up_keeps_what_it_had(services: FakeServices) -> None:
    """Its duplicates, too, and it still is one of others."""
    complete(services, A)
    original = complete(services, B).original
    for key in (A, B):
        pipeline.reprocess(image_id_of(key), services)
        waiting = recorded(services, key).original
        pipeline.give_up(waiting, Outage(), services.clock(), services)

    assert recorded(services, B).is_given_up
    assert duplicates_of(services, B) == (exact(A),)
    process(services, original)
    assert duplicates_of(services, B) == (exact(A),)


# ── what comes later ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("body", [PICTURE, NEAR])
def test_after_the_first_is_deleted_the_next_is_the_first(
    services: FakeServices, body: bytes
) -> None:
    """What was recorded stays as it was found; what comes then names what is there then."""
    complete(services, A)
    second = complete(services, B, body)
    pipeline.remove(services.uploads.remove(A), services)

    third = complete(services, C, body)

    assert duplicates_of(services, B) == second.duplicates
    assert third.duplicates == (exact(B),)
    assert again(services, B).duplicates == ()
    assert again(services, C).duplicates == (exact(B),)


def test_first_that_was_replaced_is_no_longer_the_same(services: FakeServices) -> None:
    """Of its new version nothing is a duplicate, nor is that one of those with the old bytes."""
    complete(services, A)
    complete(services, B)

    complete(services, A, OTHER)

    assert duplicates_of(services, A) == ()
    assert complete(services, C).duplicates == (exact(B),)


@pytest.mark.parametrize("body", [PICTURE, NEAR])
@pytest.mark.parametrize("order", ["".join(order) for order in permutations("abc")])
def test_processing_again_keeps_who_was_first(
    services: FakeServices, body: bytes, order: str
) -> None:
    """In whatever order, and as often as it is."""
    for key in (A, B, C):
        complete(services, key, body if key != A else PICTURE)
    before = {key: duplicates_of(services, key) for key in (A, B, C)}

    for letter in order * 2:
        again(services, f"uploads/{letter}.jpg")

    assert {key: set(duplicates_of(services, key)) for key in (A, B, C)} == {
        key: set(duplicates) for key, duplicates in before.items()
    }


def test_image_that_was_uploaded_earlier_and_processed_later_is_the_duplicate(
    services: FakeServices,
) -> None:
    """What was there is what one could see, not what had been sent before."""
    late = upload(services, A)
    complete(services, B, NEAR)

    process(services, late)

    assert duplicates_of(services, A) == (near(B),)
    assert again(services, B).duplicates == ()


# ── all at once ──────────────────────────────────────────────────────────────────────────────────

LETTERS = "ABC"


class Baton:
    """Lets several threads take turns at the catalog, in an order that is given.

    Each runs from one call to the next; when the order is over, they go on as they come.
    """

    def __init__(self, order: Iterable[str]) -> None:
        self._order = deque(order)
        self._changed = threading.Condition()
        self._running = ""
        self._alive: set[str] = set()

    def run(self, works: Mapping[str, Callable[[], None]]) -> None:
        """Do these works, each in a thread of its own; raises what one of them raises."""
        errors: list[BaseException] = []

        def work(name: str) -> None:
            try:
                self.wait()
                works[name]()
            except BaseException as error:  # noqa: BLE001 - raised below
                errors.append(error)
            with self._changed:
                self._alive.discard(name)
                self._running = ""
                self._changed.notify_all()

        self._alive = {*works}
        threads = [threading.Thread(target=work, args=(name,), name=name) for name in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT_S)
            assert not thread.is_alive()
        for error in errors:
            raise error

    def wait(self) -> None:
        """Until it is this thread's turn, if it takes turns at all."""
        me = threading.current_thread().name
        if me not in self._alive:
            return
        with self._changed:
            self._running = "" if self._running == me else self._running
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._is_turn_of(me), TIMEOUT_S)
            self._running = me
            if self._order:
                self._order.popleft()

    def _is_turn_of(self, name: str) -> bool:
        while self._order and self._order[0] not in self._alive:
            self._order.popleft()
        return not self._running and (not self._order or self._order[0] == name)


class SharedCatalog(FakeCatalog):
    """One that several take turns at."""

    baton = Baton("")

    def _step(self, call: str) -> None:
        self.baton.wait()
        super()._step(call)


def at_once(services: FakeServices, order: Iterable[str], originals: dict[str, Original]) -> None:
    """Process them side by side; each goes on to its next call when the order says so."""
    assert isinstance(services.catalog, SharedCatalog)
    services.catalog.baton = Baton(order)
    works = {letter: partial(process, services, original) for letter, original in originals.items()}
    services.catalog.baton.run(works)


TAKEN_ON = 3  # calls until a worker has its image: it begins, reads, and writes


def key_of(letter: str) -> str:
    return f"uploads/{letter.lower()}.jpg"


def assert_pairs_are_told_apart(services: FakeServices, letters: str) -> None:
    """Of two that come at once one names the other, or each; of the same bytes, one is the first.

    That is announced as it is recorded.
    """
    for one, other in permutations(letters, 2):
        pair = [(one, other), (other, one)]
        naming = [
            (this, that)
            for this, that in pair
            if image_id_of(key_of(that))
            in {each.image_id for each in duplicates_of(services, key_of(this))}
        ]
        assert naming
    images = [recorded(services, key_of(letter)) for letter in letters]
    firsts = [image for image in images if not any(each.is_exact for each in image.duplicates)]
    assert Counter(map(bytes_of, firsts)) == Counter({bytes_of(image) for image in images})
    for image in images:
        assert image.is_settled
        assert image.lease_until is None
        ids = [each.image_id for each in image.duplicates]
        assert announced(services, image.original.key)[1] == ids


def bytes_of(image: Image) -> str:
    assert image.fingerprint
    return image.fingerprint.sha256


ORDERS = ["".join(order) for order in product("AB", repeat=7)]


@pytest.mark.parametrize("first", "AB")
@pytest.mark.parametrize("kind", ["exact", "near"])
def test_two_at_once_are_told_apart(kind: str, first: str) -> None:
    """In every order in which their workers can meet at the catalog, whoever was uploaded first."""
    for order in ORDERS:
        services = FakeServices(catalog=SharedCatalog())
        bodies = {"A": PICTURE, "B": PICTURE if kind == "exact" else NEAR}
        originals = {
            letter: upload(services, key_of(letter), bodies[letter])
            for letter in (first, *({"A", "B"} - {first}))
        }
        # Of near ones it does not matter who asks first for those with the same bytes.
        begin = "AB" * (TAKEN_ON if kind == "exact" else TAKEN_ON + 1)
        at_once(services, begin + order, originals)

        assert_pairs_are_told_apart(services, "AB")
        if kind == "exact":
            [copies] = [
                duplicates for key in (A, B) if (duplicates := recorded(services, key).duplicates)
            ]
            assert [each.is_exact for each in copies] == [True]
        assert max(Counter(services.topic.statuses).values()) <= 3


@pytest.mark.parametrize("seed", range(60))
def test_three_at_once_are_told_apart(seed: int) -> None:
    """Whatever their order, also when they are processed again at once."""
    dice = Random(seed)  # noqa: S311 - pictures need no secrets
    services = FakeServices(catalog=SharedCatalog())
    bodies = dict(zip(LETTERS, dice.choices([PICTURE, NEAR, NEARER_STILL], k=3), strict=True))
    originals = {
        letter: upload(services, key_of(letter), bodies[letter])
        for letter in dice.sample(LETTERS, 3)
    }
    at_once(services, dice.choices(LETTERS, k=40), originals)
    assert_pairs_are_told_apart(services, LETTERS)

    for letter in LETTERS:
        pipeline.reprocess(image_id_of(key_of(letter)), services)
    at_once(services, dice.choices(LETTERS, k=40), originals)

    assert_pairs_are_told_apart(services, LETTERS)


def test_image_that_comes_while_its_like_is_announced_names_it(services: FakeServices) -> None:
    """What is recorded is found, announced or not."""
    earlier = upload(services, A)
    later = upload(services, B, NEAR)
    services.topic.before("publish", lambda: process(services, earlier))

    process(services, later)

    assert duplicates_of(services, A) == (near(B),)
    assert duplicates_of(services, B) == ()
    assert announced(services, A) == ("near", [image_id_of(B)])


# ── broken off ───────────────────────────────────────────────────────────────────────────────────


def every_call() -> Iterator[tuple[bytes, str, str, int]]:
    for body in (PICTURE, NEAR):
        services, original = beside_another(body)
        process(services, original)
        for fake in ("catalog", "uploads", "renditions", "recognizer", "topic"):
            for call, times in Counter(getattr(services, fake).calls).items():
                yield from ((body, fake, call, passed) for passed in range(times))


def beside_another(body: bytes) -> tuple[FakeServices, Original]:
    services = FakeServices()
    complete(services, A)
    original = upload(services, B, body)
    for fake in ("catalog", "uploads", "renditions", "recognizer", "topic"):
        getattr(services, fake).calls.clear()
    return services, original


def go_on() -> None:
    """The action that lets a call through."""


@pytest.mark.parametrize(
    ("body", "fake", "call", "passed"),
    [
        pytest.param(
            *each, id=f"{'exact' if each[0] == PICTURE else 'near'}-{'-'.join(map(str, each[1:]))}"
        )
        for each in every_call()
    ],
)
@pytest.mark.parametrize("error", [Killed, Outage])
def test_broken_anywhere_it_names_the_same(
    body: bytes, fake: str, call: str, passed: int, error: type[BaseException]
) -> None:
    """Whoever finishes it; or, where that is processed again meanwhile, the one that was there."""
    services, original = beside_another(body)
    getattr(services, fake).before(call, *[go_on] * passed, error())
    with pytest.raises(error):
        process(services, original)

    again(services, A)
    services.clock.forward(seconds=91)
    process(services, original)

    named = duplicates_of(services, A), duplicates_of(services, B)
    expected = ((), (exact(A),)) if body == PICTURE else ((), (near(A),))
    assert named == expected or (body == NEAR and named == ((near(B),), ()))
    assert announced(services, B)[1] == [each.image_id for each in duplicates_of(services, B)]
    assert recorded(services, B).is_settled


def test_first_whose_worker_died_leaves_the_place_to_its_copy(services: FakeServices) -> None:
    """Given up before anything was known of it, it is a copy when it comes again."""
    original = upload(services, A)
    services.recognizer.before("recognize", Killed())
    with pytest.raises(Killed):
        process(services, original)
    services.clock.forward(seconds=91)
    pipeline.give_up(original, Outage(), services.clock(), services)

    complete(services, B)
    process(services, original)

    assert duplicates_of(services, B) == ()
    assert duplicates_of(services, A) == (exact(B),)


@pytest.mark.parametrize(("body", "duplicates"), [(OTHER, ()), (PICTURE, (exact(A),))])
def test_bytes_of_before_are_not_those_of_what_is_looked_at(
    services: FakeServices, body: bytes, duplicates: tuple[Duplicate, ...]
) -> None:
    """Replaced while its worker was at it, and in work again: unless the same was sent again."""
    services.recognizer.before("recognize", Killed())
    services.uploads.before("get", go_on, Killed())
    for each in (PICTURE, body):
        with pytest.raises(Killed):
            complete(services, A, each)

    assert complete(services, B).duplicates == duplicates


def deleted_by_event(services: FakeServices) -> None:
    pipeline.remove(services.uploads.remove(A), services)


def deleted_over_rest(services: FakeServices) -> None:
    pipeline.delete(image_id_of(A), services)


def replaced(services: FakeServices) -> None:
    upload(services, A, OTHER)


def replaced_and_looked_at(services: FakeServices) -> None:
    services.recognizer.before("recognize", Killed())
    with pytest.raises(Killed):
        process(services, upload(services, A, OTHER))


def refused(_: FakeServices) -> None:
    raise RecognitionRefused("Rekognition refused the picture.")


@pytest.mark.parametrize(
    "end", [deleted_by_event, deleted_over_rest, replaced, replaced_and_looked_at, refused]
)
@pytest.mark.parametrize(("fake", "call"), [("recognizer", "recognize"), ("renditions", "put")])
def test_who_loses_its_bytes_while_in_work_is_named_no_more(
    services: FakeServices, fake: str, call: str, end: Callable[[FakeServices], None]
) -> None:
    """Whether Rekognition or what is made of it was waited for: nobody would clear that up."""
    original = upload(services, A)
    getattr(services, fake).before(call, partial(end, services))

    with suppress(LeaseHeld):
        process(services, original)

    assert sha256(PICTURE).hexdigest() not in services.catalog.firsts
    assert recorded(services, A).fingerprint is None


def test_execution_names_what_was_refused_no_more() -> None:
    """Its stages know of each other by drafts only."""
    services = FakeServices(workflow=FakeWorkflow())
    services.recognizer.before("recognize", RecognitionRefused("Rekognition refused the picture."))

    Execution(services, upload(services, A)).run()

    assert (recorded(services, A).status, recorded(services, A).fingerprint) == ("FAILED", None)
    assert services.catalog.firsts == {}


@pytest.mark.parametrize("is_done", [True, False])
def test_who_is_sent_again_while_in_work_stays_the_first(
    services: FakeServices,
    is_done: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """The worker of the version before, which comes late, takes nothing from the newer one."""
    original = upload(services, A)

    def send_again() -> None:
        if not is_done:
            services.recognizer.before("recognize", Killed())
        with suppress(Killed):
            process(services, upload(services, A))

    services.recognizer.before("recognize", send_again)
    process(services, original)

    assert sha256(PICTURE).hexdigest() in services.catalog.firsts
    assert complete(services, B).duplicates == (exact(A),)


def test_copy_that_ends_badly_leaves_the_first_in_its_place(services: FakeServices) -> None:
    """It was never named."""
    complete(services, A)
    services.recognizer.before("recognize", RecognitionRefused("Rekognition refused the picture."))
    complete(services, B)

    assert complete(services, C).duplicates == (exact(A),)


# ── what Rekognition has said ────────────────────────────────────────────────────────────────────

VIOLENT = Recognition(moderation=(ModerationLabel("Violence", 90),))
SPARING = replace(RECIPE, reuse_recognition=True)


def test_copy_takes_over_what_was_said_of_the_first(services: FakeServices) -> None:
    """Rekognition is not asked again, nor is that a step of the journey."""
    services.recipe = SPARING
    said = complete(services, A).recognition
    services.recognizer.recognition = VIOLENT

    image = complete(services, B)

    assert services.recognizer.calls == ["recognize"]
    assert image.recognition == said
    assert "recognise" not in services.telemetry.journeys[-1].steps
    assert (image.status, image.duplicates) == ("COMPLETED", (exact(A),))


@pytest.mark.parametrize(
    ("state", "asked"),
    [
        ("as it is", False),
        ("quarantined", False),
        ("not wanted", True),
        ("other settings", True),
        ("near only", True),
        ("waits", True),
        ("in work", True),
        ("failed", True),
        ("given up", True),
        ("deleted", True),
        ("replaced", True),
    ],
)
def test_only_what_would_be_said_again_is_taken_over(
    services: FakeServices,
    state: str,
    asked: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Of the same bytes, with the same settings, by an image that is done."""
    services.recipe = SPARING
    if state == "quarantined":
        services.recipe = replace(SPARING, quarantine=(QuarantineRule("Violence", 80),))
        services.recognizer.recognition = VIOLENT
    if state == "failed":
        refused = RecognitionRefused("Rekognition refused the picture.")
        services.recognizer.before("recognize", refused)
    first = complete(services, A).original
    if state == "not wanted":
        services.recipe = RECIPE
    if state == "other settings":
        services.recipe = replace(SPARING, version="2-test")
    if state in ("waits", "in work", "given up"):
        pipeline.reprocess(first.image_id, services)
    if state == "in work":
        services.uploads.before("get", Killed())
        with pytest.raises(Killed):
            process(services, first)
    if state == "given up":
        pipeline.give_up(first, Outage(), services.clock(), services)
    if state == "deleted":
        pipeline.remove(services.uploads.remove(A), services)
    if state == "replaced":
        complete(services, A, OTHER)
    services.recognizer.calls.clear()

    image = complete(services, B, NEAR if state == "near only" else PICTURE)

    assert bool(services.recognizer.calls) == asked
    assert image.status == ("QUARANTINED" if state == "quarantined" else "COMPLETED")
    assert image.recognition == services.recognizer.recognition


def test_two_at_once_may_both_be_asked_about(services: FakeServices) -> None:
    """Nobody waits for the other's answer."""
    services.recipe = SPARING
    other = upload(services, B)
    services.recognizer.before("recognize", lambda: process(services, other))

    complete(services, A)

    assert services.recognizer.calls == ["recognize"] * 2
    assert duplicates_of(services, B) == (exact(A),)
    assert duplicates_of(services, A) == ()


def test_policy_judges_what_is_taken_over(services: FakeServices) -> None:
    """A copy of what was released has been released by nobody."""
    services.recipe = replace(SPARING, quarantine=(QuarantineRule("Violence", 80),))
    services.recognizer.recognition = VIOLENT
    complete(services, A)
    pipeline.release(image_id_of(A), "", services)
    process(services, recorded(services, A).original)
    assert recorded(services, A).status == "COMPLETED"
    services.recognizer.calls.clear()

    image = complete(services, B)

    assert services.recognizer.calls == []
    assert (image.status, image.withheld_for) == ("QUARANTINED", ("Violence",))
    assert all(rendition.key.startswith("quarantine/") for rendition in image.renditions)


def test_image_that_is_processed_again_is_asked_about_again(services: FakeServices) -> None:
    """The first has nobody to take anything over from; a copy has."""
    services.recipe = SPARING
    complete(services, A)
    complete(services, B)
    services.recognizer.calls.clear()

    again(services, A)
    assert services.recognizer.calls == ["recognize"]
    again(services, B)
    assert services.recognizer.calls == ["recognize"]


def test_what_is_not_asked_costs_nothing(
    services: FakeServices, capsys: pytest.CaptureFixture[str]
) -> None:
    """The estimate of an image is without the call that was spared."""
    services.recipe = SPARING
    features = [Feature.LABELS, Feature.MODERATION]
    services.telemetry = Telemetry("test", {}, features)  # type: ignore[assignment]

    complete(services, A)
    complete(services, B)

    lines = [line for line in capsys.readouterr().out.splitlines() if "EstimatedCost" in line]
    costs = [metrics_of(line)[("Stage",)]["EstimatedCost"][0] for line in lines]
    assert costs == [
        round(cost_usd(1, features), 6),
        round(cost_usd(1, features, recognized=False), 6),
    ]
