"""What images are found by: labels, what is above them, people and words. Both catalogs agree."""

import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from chalicelib.aws.catalog import Catalog
from chalicelib.aws.layout import MAX_TERMS, SHARDS
from chalicelib.messages import timestamp
from chalicelib.model import (
    BoundingBox,
    Celebrity,
    Fingerprint,
    Image,
    ImageStatus,
    Label,
    ModerationLabel,
    Query,
    Recognition,
    TextLine,
    words_of,
)
from tests.adapters.conftest import Operations, error_of
from tests.adapters.images import (
    MOMENT,
    changed,
    counts,
    everything,
    filled,
    folded,
    image,
    numbers,
    paged,
    scanned_by,
    some_labels,
    told,
)
from tests.fakes import FakeCatalog

BOX = BoundingBox(0.1, 0.2, 0.3, 0.4)
CONFLICT = error_of("TransactionCanceledException", "None", "TransactionConflict")

DOG = Label("Dog", 98, ("Animal", "Canine"))
CAT = Label("Cat", 80, ("Animal", "Pet"))


@pytest.fixture(params=["dynamodb", "memory"])
def either(request: pytest.FixtureRequest) -> Catalog | FakeCatalog:
    """The catalog, and its stand-in."""
    if request.param == "memory":
        return FakeCatalog()
    request.getfixturevalue("operations")
    catalog: Catalog = request.getfixturevalue("catalog")
    return catalog


def written(*lines: str, confidence: float = 80) -> tuple[TextLine, ...]:
    return tuple(TextLine(line, confidence, BOX) for line in lines)


def seen(number: int, *, status: ImageStatus = ImageStatus.COMPLETED, **features: Any) -> Image:
    """An image of which Rekognition has said that."""
    return image(number, status=status, recognition=Recognition(**features))


def found(either: Catalog | FakeCatalog, *labels: str, text: str = "", **query: Any) -> list[int]:
    """The numbers of the images that are found by these labels and the words of a text."""
    asked = Query(50, labels=labels, words=words_of(text), **query)
    return numbers(either.browse(asked))


def partitions(catalog: Catalog) -> set[str]:
    """What the entries in the table are of: ``LABEL#cat``, ``WORD#sale``."""
    kinds = ("LABEL#", "WORD#")
    places = (item["pk"]["S"] for item in everything(catalog))
    return {place.rpartition("#")[0] for place in places if place.startswith(kinds)}


# ── pages ────────────────────────────────────────────────────────────────────────────────────────


def test_page_may_be_left_behind_any_image(either: Catalog | FakeCatalog) -> None:
    """Each has the cursor of what follows it."""
    filled(either, [seen(number, labels=(DOG,)) for number in range(6)])
    query = Query(4, labels=("dog",))
    page = either.browse(query)

    following = [numbers(either.browse(replace(query, cursor=each))) for each in page.cursors]

    assert following == [[4, 3, 2, 1], [3, 2, 1, 0], [2, 1, 0], [1, 0]]
    assert page.cursors[-1] == page.cursor


# ── what is above a label ────────────────────────────────────────────────────────────────────────


def test_image_is_found_by_what_its_labels_are(either: Catalog | FakeCatalog) -> None:
    """A Dog is an Animal; each counts, once an image."""
    filled(either, [seen(0, labels=(DOG,)), seen(1, labels=(CAT, DOG)), seen(2, labels=(CAT,))])

    assert found(either, "animal") == [2, 1, 0]
    assert found(either, "CANINE") == [1, 0]
    assert found(either, "Animal", "pet") == [2, 1]
    assert found(either, "canine", "pet") == [1]
    assert told(either) == [("Animal", 3), ("Canine", 2), ("Cat", 2), ("Dog", 2), ("Pet", 2)]
    assert told(either, "an") == [("Animal", 3)]


def test_parent_is_as_sure_as_the_surest_below(either: Catalog | FakeCatalog) -> None:
    """Of several below it the surest, whichever comes first."""
    filled(either, [seen(0, labels=(CAT, DOG)), seen(1, labels=(DOG, CAT)), seen(2, labels=(CAT,))])

    assert found(either, "animal", min_confidence=98) == [1, 0]
    assert found(either, "animal", min_confidence=98.01) == []
    assert found(either, "animal", min_confidence=80) == [2, 1, 0]
    assert found(either, "pet", min_confidence=81) == []


@pytest.mark.parametrize("confidence", [60, 99.5])
def test_parent_that_is_a_label_as_well_is_one(
    either: Catalog | FakeCatalog, confidence: float
) -> None:
    """Rekognition mostly gives both: it counts once, and is as sure as the surest of them."""
    animal = Label("Animal", confidence)
    filled(
        either,
        [seen(0, labels=(animal, DOG)), seen(1, labels=(DOG, replace(animal, name="ANIMAL")))],
    )

    assert found(either, "animal", min_confidence=max(98, confidence)) == [1, 0]
    assert found(either, "animal", min_confidence=max(98, confidence) + 0.01) == []
    assert sum(number for name, number in told(either) if name.casefold() == "animal") == 2


def test_moderation_labels_and_people_are_labels(either: Catalog | FakeCatalog) -> None:
    """Found, counted and filtered by confidence as they are; with what is above, too."""
    weapons = ModerationLabel("Weapons", 91, "Violence")
    somebody = Celebrity("Ada Lovelace", 88.5, BOX)
    filled(
        either,
        [
            seen(0, labels=(DOG,), moderation=(weapons, ModerationLabel("Violence", 90))),
            seen(1, moderation=(weapons,), celebrities=(somebody, somebody)),
            seen(2, celebrities=(replace(somebody, confidence=99),)),
        ],
    )

    assert found(either, "weapons") == [1, 0]
    assert found(either, "VIOLENCE") == [1, 0]
    assert found(either, "violence", min_confidence=91) == [1, 0]
    assert found(either, "violence", min_confidence=91.5) == []
    assert found(either, "Dog", "Weapons", "animal") == [0]
    assert found(either, "ada lovelace") == [2, 1]
    assert found(either, "Ada Lovelace", min_confidence=90) == [2]
    assert found(either, "ada") == []
    assert told(either, "v") == [("Violence", 2)]
    assert told(either, "A") == [("Ada Lovelace", 2), ("Animal", 1)]


# ── words ────────────────────────────────────────────────────────────────────────────────────────


def test_image_is_found_by_what_is_written_in_it(either: Catalog | FakeCatalog) -> None:
    """Whole words of any line, in whatever case, order and form, without what is around them."""
    filled(
        either,
        [
            seen(0, text=written("SUMMER sale!", "50 % off")),
            seen(1, text=written("Summer-Sale", "ﬁn … ＯＰＥＮ")),
            seen(2, text=written("Große Straße", "Ⅷ. Sale")),
        ],
    )

    assert found(either, text="sale") == [2, 1, 0]
    assert found(either, text="Summer") == [1, 0]
    assert found(either, text="sale, SUMMER") == [1, 0]
    assert found(either, text="off 50 sale") == [0]
    assert found(either, text="fin open") == [1]
    assert found(either, text="ＦＩＮ") == [1]
    assert found(either, text="strasse") == [2]
    assert found(either, text="VIII") == [2]
    assert found(either, text="summ") == found(either, text="sales") == []
    assert found(either, text="summer straße") == []


def test_long_word_is_found_in_whole(either: Catalog | FakeCatalog) -> None:
    """By the same 64 characters at a time that it was put down as."""
    filled(either, [seen(0, text=written("x" * 100)), seen(1, text=written("x" * 64))])

    assert found(either, text="x" * 100) == [0]
    assert found(either, text="x" * 64) == [1, 0]
    assert found(either, text="x" * 36) == [0]


def test_word_is_no_label_and_a_label_no_word(either: Catalog | FakeCatalog) -> None:
    """However somebody writes it; words do not count."""
    filled(either, [seen(0, text=written("Cat")), seen(1, labels=(CAT,))])

    assert found(either, text="cat") == [0]
    for label in ("cat", "Cat"):
        assert found(either, label) == [1]
    for label in ('"cat', "Wcat", "wcat", "cat#0", "Word#cat"):
        assert found(either, label) == [], label
    assert found(either, "cat", text="cat") == []
    assert told(either) == [("Animal", 1), ("Cat", 1), ("Pet", 1)]


def test_label_is_found_however_its_letters_are_put_together(
    either: Catalog | FakeCatalog,
) -> None:
    """Composed or not (Unicode NFC), in whatever case; accents count. It is counted as one."""
    names = ["Beyonc\u00e9", "BEYONCE\u0301", "Beyonce"]
    filled(
        either, [seen(n, celebrities=(Celebrity(name, 90, BOX),)) for n, name in enumerate(names)]
    )

    for name in names[:2]:
        assert found(either, name) == found(either, name.lower()) == [1, 0]
        assert found(either, name, status=ImageStatus.COMPLETED) == [1, 0]
        assert [images for _, images in told(either, name)] == [2]
    assert found(either, "beyonce") == [2]


def test_label_may_begin_as_it_likes(either: Catalog | FakeCatalog) -> None:
    """It is found, and no word."""
    names = ['"Weird Al"', "Wolf", "=", "#"]
    filled(
        either, [seen(n, celebrities=(Celebrity(name, 90, BOX),)) for n, name in enumerate(names)]
    )

    assert [found(either, name) for name in names] == [[0], [1], [2], [3]]
    assert found(either, text="weird") == found(either, text="olf") == []
    assert {name for name, _ in told(either)} == set(names)


def test_words_are_found_with_all_else(either: Catalog | FakeCatalog) -> None:
    """Labels, dates and status bound what is found; a confidence is asked of labels and words."""
    sale = written("Sale", confidence=50)
    filled(
        either,
        [
            seen(0, labels=(DOG,), text=sale),
            seen(1, labels=(DOG,), text=sale, status=ImageStatus.QUARANTINED),
            seen(2, labels=(CAT,), text=sale),
            seen(3, labels=(DOG,)),
            seen(4, labels=(DOG,), text=sale, status=ImageStatus.FAILED),
        ],
    )

    assert found(either, text="sale") == [4, 2, 1, 0]
    assert found(either, text="sale", min_confidence=50) == [4, 2, 1, 0]
    assert found(either, text="sale", min_confidence=50.01) == []
    assert found(either, "animal", text="sale", min_confidence=50) == [4, 2, 1, 0]
    assert found(either, "animal", text="sale", min_confidence=90) == []
    assert found(either, "dog", text="sale", status=ImageStatus.QUARANTINED) == [1]
    assert found(either, text="sale", status=ImageStatus.COMPLETED) == [2, 0]
    assert found(either, text="sale", status=ImageStatus.FAILED, min_confidence=50) == [4]
    assert found(either, text="sale", status=ImageStatus.FAILED, min_confidence=51) == []
    second = timestamp(MOMENT + timedelta(seconds=1))
    assert found(either, text="sale", since=second) == [4, 2, 1]
    assert found(either, "animal", text="sale", until=second) == [1, 0]


def test_word_is_as_sure_as_the_surest_line(either: Catalog | FakeCatalog) -> None:
    """Of several lines with it, whichever comes first."""
    sure, unsure = written("Sale", confidence=99), written("Summer sale", confidence=60)
    filled(either, [seen(0, text=sure + unsure), seen(1, text=unsure + sure)])

    assert found(either, text="sale", min_confidence=99) == [1, 0]
    assert found(either, text="sale", min_confidence=99.01) == []
    assert found(either, text="summer", min_confidence=99) == []


def test_words_follow_the_record(catalog: Catalog) -> None:
    """Added on completion, moved with a newer version, gone with the text and with the image."""
    waiting = catalog.save(image(0, status=ImageStatus.QUEUED), previous=None)
    text = Recognition(labels=(CAT,), text=written("Summer sale"))
    done = changed(catalog, waiting, status=ImageStatus.COMPLETED, recognition=text)
    labels = {"LABEL#cat", "LABEL#animal", "LABEL#pet"}
    assert partitions(catalog) == {*labels, "WORD#summer", "WORD#sale"}

    done = changed(catalog, done, recognition=replace(text, text=written("SALE", "now")))
    assert partitions(catalog) == {*labels, "WORD#sale", "WORD#now"}

    newer = replace(done.original, uploaded_at=timestamp(MOMENT + timedelta(days=1)))
    moved = changed(catalog, done, original=newer)
    entries = [item for item in everything(catalog) if item["pk"]["S"].startswith("WORD#")]
    assert {item["sk"]["S"].partition("#")[0] for item in entries} == {newer.uploaded_at}
    assert len(entries) == 2

    changed(catalog, moved, status=ImageStatus.DELETED, recognition=Recognition())
    assert partitions(catalog) == set()


# ── whatever is asked together ───────────────────────────────────────────────────────────────────


SHOWN = [status for status in ImageStatus if status is not ImageStatus.DELETED]
PARENTS = {"Cat": ("Animal", "Pet"), "Dog": ("Animal",), "Car": ("Vehicle",), "Tree": ()}
TEXTS = ["Summer sale", "SALE", "Open now", "now", "1,000 cats"]
CONFIDENCES = [60, 75, 90, 99.5]


def any_image(number: int, chance: random.Random) -> Image:
    def some(among: Sequence[str]) -> list[tuple[str, float]]:
        names = chance.sample(among, chance.randrange(3))
        return [(name, chance.choice(CONFIDENCES)) for name in names]

    recognition = Recognition(
        labels=tuple(Label(name, sure, PARENTS[name]) for name, sure in some([*PARENTS])),
        moderation=tuple(ModerationLabel(*each) for each in some(["Alcohol", "Animal"])),
        celebrities=tuple(Celebrity(*each, BOX) for each in some(["Ada Lovelace", "Cat"])),
        text=tuple(TextLine(*each, BOX) for each in some(TEXTS)),
    )
    status = chance.choice([*ImageStatus, *[ImageStatus.COMPLETED] * 5])
    return image(number, status=status, seconds=chance.randrange(20), recognition=recognition)


def any_query(chance: random.Random) -> Query:
    labels = ["cat", "ANIMAL", "Pet", "vehicle", "Tree", "alcohol", "Ada Lovelace"]
    since = chance.choice([None, timestamp(MOMENT + timedelta(seconds=chance.randrange(20)))])
    return Query(
        limit=chance.choice([4, 50]),
        status=chance.choice([None, None, *SHOWN]),
        labels=tuple(chance.sample(labels, chance.randrange(3))),
        words=words_of(" ".join(chance.sample(TEXTS, chance.randrange(3)))),
        min_confidence=chance.choice([0, *CONFIDENCES]),
        since=since,
    )


def is_asked_for(one: Image, query: Query) -> bool:
    said = one.recognition
    sure = {
        name.casefold()
        for each in (*said.labels, *said.moderation, *said.celebrities)
        if each.confidence >= query.min_confidence
        for name in (each.name, *(each.parents if isinstance(each, Label) else ()))
    }
    lines = [line.text for line in said.text if line.confidence >= query.min_confidence]
    text = " ".join(lines).casefold().replace(",", " ").split()
    return (
        one.status in ([query.status] if query.status else SHOWN)
        and {label.casefold() for label in query.labels} <= sure
        and {*query.words} <= {*text}
        and (query.since or "") <= one.original.uploaded_at
    )


def test_pages_of_any_query_show_just_what_it_asks_for(either: Catalog | FakeCatalog) -> None:
    """Every such image once, newest first, whatever labels, people and words are asked together."""
    chance = random.Random(0)  # noqa: S311 - no secret
    saved = filled(either, [any_image(number, chance) for number in range(60)])
    saved.sort(key=lambda each: (each.original.uploaded_at, each.image_id), reverse=True)
    hits = 0
    for query in (any_query(chance) for _ in range(40)):
        pages = list(paged(either, query))

        shown = [each for page in pages for each in page.images]
        assert shown == [each for each in saved if is_asked_for(each, query)], query
        assert max(len(page.images) for page in pages) <= query.limit
        hits += len(shown)
    assert hits > 40


@pytest.fixture
def crowd(catalog: Catalog) -> list[Image]:
    """Forty dogs with "sale" written beside them; the oldest is a sure one, and "now" as well."""
    unsure = replace(DOG, confidence=60)
    images = [seen(n, labels=(unsure,), text=written("sale")) for n in range(1, 40)]
    images.append(seen(0, labels=(DOG,), text=written("sale now")))
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda each: catalog.save(each, previous=None), images))


@pytest.mark.usefixtures("crowd")
@pytest.mark.parametrize(
    "query",
    [
        Query(3, words=("sale",)),
        Query(3, labels=("animal",)),
        Query(3, labels=("animal", "dog"), words=("sale",), min_confidence=50),
    ],
    ids=str,
)
def test_full_page_is_one_query_a_shard(
    catalog: Catalog, operations: Operations, query: Query
) -> None:
    """First or deep inside: a word is not counted before, and a parent is a label like any."""
    cursor = None
    for _ in range(3):
        operations.clear()

        page = catalog.browse(replace(query, cursor=cursor))

        assert len(page.images) == 3
        assert operations.made == ["Query"] * SHARDS + ["BatchGetItem"]
        cursor = page.cursor


@pytest.mark.usefixtures("crowd")
def test_page_of_words_is_bounded_whatever_its_filters_drop(
    catalog: Catalog, operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes short rather than late, and its cursor leads to what there is."""
    monkeypatch.setattr("chalicelib.aws.catalog.ROUNDS", 2)
    scanned = scanned_by(operations)
    query = Query(1, labels=("animal",), words=("sale",), min_confidence=80)
    shown: list[int] = []
    turned = 0
    for page in paged(catalog, query):
        shown += numbers(page)
        turned += 1
        assert sum(scanned) <= SHARDS * (1 + 2) * 2
        scanned.clear()

    assert shown == [0]
    assert turned > 1


@pytest.mark.usefixtures("crowd")
def test_longest_word_is_looked_through(catalog: Catalog, operations: Operations) -> None:
    """Words are taken to be rarer than any label, and the longer the rarer."""
    scanned = scanned_by(operations)

    assert found(catalog, "Animal", text="sale elsewhere") == []
    assert sum(scanned) == 0
    assert found(catalog, "Animal", text="now") == [0]
    assert sum(scanned) == 1


# ── more than an image is found by ───────────────────────────────────────────────────────────────


def crowded(labels: int, parents: int = 0, moderation: int = 0, words: int = 0) -> Image:
    """An image with so many of each."""
    above = tuple(f"Above {number}" for number in range(parents))
    first, *others = some_labels(labels)
    return seen(
        0,
        labels=(replace(first, parents=above), *others),
        moderation=tuple(ModerationLabel(f"Bad {n}", 90) for n in range(moderation)),
        text=written(" ".join(f"word{n}" for n in range(words))),
    )


@pytest.mark.parametrize(
    ("has", "left_out"),
    [
        ({"labels": 90, "words": 4}, {}),
        ({"labels": 90, "words": 20}, {"words": 16}),
        ({"labels": 90, "parents": 10, "words": 3}, {"parents": 6, "words": 3}),
        ({"labels": 40, "parents": 40, "moderation": 30}, {"moderation": 16}),
        ({"labels": 1, "words": 200}, {"words": 107}),
    ],
    ids=str,
)
def test_labels_come_before_words_where_there_are_too_many(
    either: Catalog | FakeCatalog, has: dict[str, int], left_out: dict[str, int]
) -> None:
    """Whatever counts is found, and what is not found does not count, by whichever list."""
    [saved] = filled(either, [crowded(**has)])
    names = {"labels": "label", "parents": "above", "moderation": "bad"}
    kept = {kind: number - left_out.get(kind, 0) for kind, number in has.items()}

    counted = {name.casefold() for name, _ in told(either)}

    for kind, name in names.items():
        ours = {each for each in counted if each.startswith(f"{name} ")}
        assert ours == {f"{name} {n}" for n in range(kept.get(kind, 0))}
    for status in (None, ImageStatus.COMPLETED):
        for kind, name in names.items():
            for n in {0, kept.get(kind, 0) - 1, kept.get(kind, 0)}:
                is_found = 0 <= n < kept.get(kind, 0)
                assert found(either, f"{name} {n}", status=status) == [0] * is_found
        for n in (0, kept.get("words", 0) - 1, kept.get("words", 0)):
            is_found = 0 <= n < kept.get("words", 0)
            assert found(either, text=f"word{n}", status=status) == [0] * is_found
    withheld = changed(either, saved, status=ImageStatus.QUARANTINED)
    for n in (kept.get("words", 0) - 1, kept.get("words", 0)):
        is_found = 0 <= n < kept.get("words", 0)
        assert found(either, text=f"word{n}", status=withheld.status) == [0] * is_found


def test_fullest_image_is_one_transaction(catalog: Catalog, operations: Operations) -> None:
    """All the entries that there can be, with the record and all else: 100 writes, and no more."""
    requests = operations.requests("dynamodb.TransactWriteItems")
    looks = Fingerprint("0f1e2d3c4b5a6978", "", (), "a" * 64)

    saved = catalog.save(replace(crowded(90, words=50), fingerprint=looks), previous=None)
    gone = replace(saved, recognition=Recognition(), fingerprint=None)
    catalog.save(replace(gone, status=ImageStatus.DELETED), saved)

    assert [len(request["TransactItems"]) for request in requests] == [100, 100]
    assert partitions(catalog) == set()
    assert counts(catalog) == {}


def test_words_are_replaced_in_steps(catalog: Catalog, operations: Operations) -> None:
    """More of them than one transaction takes away and puts down: it ends the same."""
    old = catalog.save(crowded(40, words=60), previous=None)
    requests = operations.requests("dynamodb.TransactWriteItems")
    new = Recognition(
        labels=tuple(some_labels(40, "New")),
        text=written(" ".join(f"new{n}" for n in range(60))),
    )

    saved = changed(catalog, old, recognition=new)

    assert len(requests) == 2
    assert catalog.get(saved.image_id) == saved == replace(old, recognition=new, revision=3)
    assert len(partitions(catalog)) == MAX_TERMS
    assert sum(counts(catalog).values()) == 40
    assert found(catalog, "new 39", text="new0 new53") == [0]
    assert found(catalog, text="word0") == found(catalog, "label 0") == []


# ── counts ───────────────────────────────────────────────────────────────────────────────────────


def test_counts_are_exact_after_many_writers(catalog: Catalog, operations: Operations) -> None:
    """Threads whose images share parents and words, each write of which meets another."""
    threads = threading.local()

    def every_other() -> dict[str, Any] | None:
        threads.meets = not getattr(threads, "meets", False)
        return CONFLICT if threads.meets else None

    operations.before("dynamodb.TransactWriteItems", *[every_other] * 1000)
    dogs = Recognition(labels=(DOG,), text=written("Sale"))
    both = Recognition(labels=(CAT, Label("Animal", 70)), moderation=(ModerationLabel("Bad", 90),))

    def life_of(number: int) -> None:
        one = catalog.save(image(number, status=ImageStatus.QUEUED), previous=None)
        one = changed(catalog, one, status=ImageStatus.COMPLETED, recognition=dogs)
        if number % 3:
            one = changed(catalog, one, status=ImageStatus.QUARANTINED, recognition=both)
        if number % 4 == 0:
            changed(catalog, one, status=ImageStatus.DELETED, recognition=Recognition())
        elif number % 4 == 1:
            newer = replace(one.original, version_id="newer", uploaded_at=timestamp(MOMENT))
            one = changed(catalog, one, original=newer, recognition=Recognition())
            changed(catalog, one, recognition=dogs)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(life_of, range(24)))

    right = {"Animal": 18, "Dog": 10, "Canine": 10, "Cat": 8, "Pet": 8, "Bad": 8}
    for _ in range(2):
        assert dict(told(catalog)) == counts(catalog) == right
        assert {name: len(found(catalog, name)) for name in right} == right
        assert len(found(catalog, text="sale")) == 10
        folded(catalog)


def test_refused_write_changes_neither_words_nor_parents(catalog: Catalog) -> None:
    """Whoever comes late leaves all as it is."""
    old = catalog.save(seen(0, labels=(DOG,), text=written("now")), previous=None)
    changed(catalog, old, recognition=Recognition(labels=(CAT,), text=written("then")))
    before = sorted(everything(catalog), key=repr)

    late = replace(old, recognition=Recognition(labels=(DOG, CAT), text=written("late")))
    for previous in (None, old):
        with pytest.raises(Exception, match="has changed since it was read"):
            catalog.save(late, previous)

    assert sorted(everything(catalog), key=repr) == before
    assert counts(catalog) == {"Cat": 1, "Animal": 1, "Pet": 1}
