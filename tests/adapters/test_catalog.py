"""The catalog on DynamoDB, and the one in memory that stands in for it: the same behaviour."""

import random
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from itertools import count, islice
from typing import Any

import pytest
from botocore.exceptions import ClientError

from chalicelib.aws.catalog import BUSY_ATTEMPTS, MAX_DISTANCE, Catalog
from chalicelib.aws.layout import (
    BANDS,
    FOLD_EVERY,
    SHARDS,
    TOMBSTONE_TTL,
    is_folding,
    shard_of,
)
from chalicelib.errors import IdempotencyKeyReused, InvalidRequest, NotNow, StaleRevision, Throttled
from chalicelib.messages import timestamp
from chalicelib.model import (
    BoundingBox,
    Description,
    DominantColor,
    Exif,
    Failure,
    Fingerprint,
    Image,
    ImageProperties,
    ImageStatus,
    Label,
    OutputFormat,
    Page,
    Query,
    Recognition,
    Rendition,
    Totals,
    image_id_of,
)
from chalicelib.web.operations import CURSOR
from tests.adapters.conftest import Operations, error_of
from tests.adapters.images import (
    MOMENT,
    changed,
    counts,
    everything,
    filled,
    folded,
    image,
    names,
    numbers,
    paged,
    scanned_by,
    some_labels,
    told,
)
from tests.fakes import FakeCatalog, Killed
from tests.waiting import TIMEOUT_S


@pytest.fixture(params=["dynamodb", "memory"])
def either(request: pytest.FixtureRequest) -> Catalog | FakeCatalog:
    """The catalog, and its stand-in."""
    if request.param == "memory":
        return FakeCatalog()
    request.getfixturevalue("operations")
    catalog: Catalog = request.getfixturevalue("catalog")
    return catalog


def rich_image() -> Image:
    """Every member has a value."""
    return replace(
        image(
            7, Label("Cat", 98.51, ("Animal", "Pet"), ("Animals",), (BoundingBox(0, 1, 0.5, 1e-4),))
        ),
        processed_at="2026-01-31T09:15:02.000Z",
        lease_until="2026-01-31T09:16:02.000Z",
        attempt=3,
        lost=2,
        pipeline_version="1",
        description=Description(
            "JPEG",
            4000,
            3000,
            123_456_789_012,
            "RGB",
            frames=2,
            has_alpha=True,
            exif=Exif("Maker", "Model", "Lens", "2026-01-01T00:00:00", 6, 0.000125, 1.8, 64, 4.25),
            notes=("of its 2 frames the first is rendered",),
        ),
        fingerprint=Fingerprint("0123456789abcdef", "AAiC+/==", ("#aabbcc", "#000000")),
        renditions=(Rendition("small", "thumbnails/x.jpg", OutputFormat.WEBP, 640, 480, 999),),
        recognition=Recognition(
            (Label("Cat", 98.51),),
            ImageProperties(12.3, 45.6, 78.9, (DominantColor("#aabbcc", 33.33),)),
        ),
        failure=Failure("corrupt_image", "é 🦊"),
        announced=True,
    )


# ── records ──────────────────────────────────────────────────────────────────────────────────────


def test_record_comes_back_as_it_was_saved(either: Catalog | FakeCatalog) -> None:
    """Every member, every number to the last digit, and nothing for an unknown id."""
    saved = either.save(rich_image(), previous=None)

    assert saved == replace(rich_image(), revision=1)
    assert either.get(saved.image_id) == saved
    assert either.get("unknown") is None


def test_record_is_read_as_it_is_now(catalog: Catalog, operations: Operations) -> None:
    """Consistently: a stale read would lose a race that nobody else has run."""
    requests = operations.requests("dynamodb.GetItem")

    catalog.get("any")

    assert [request["ConsistentRead"] for request in requests] == [True]


def test_bare_record_comes_back_too(either: Catalog | FakeCatalog) -> None:
    """A record of a waiting image, most of whose members are empty."""
    waiting = either.save(image(status=ImageStatus.QUEUED), previous=None)

    assert either.get(waiting.image_id) == waiting == image(status=ImageStatus.QUEUED, revision=1)


def test_first_write_wins(either: Catalog | FakeCatalog) -> None:
    """ABSENT: a record can be made once; the second is told, and changes nothing."""
    first = either.save(image(0, Label("Cat", 90)), previous=None)

    for second in (image(0, Label("Dog", 90)), image(0, status=ImageStatus.QUEUED)):
        with pytest.raises(StaleRevision):
            either.save(second, previous=None)

    assert either.get(first.image_id) == first
    assert either.browse(Query(10, labels=("Dog",))).images == ()


def test_write_on_a_stale_record_is_refused(either: Catalog | FakeCatalog) -> None:
    """UNCHANGED: who has read an old revision writes nothing, neither record nor labels."""
    old = either.save(image(0, status=ImageStatus.QUEUED), previous=None)
    new = changed(either, old, status=ImageStatus.PROCESSING)

    for late in (replace(old, status=ImageStatus.DELETED), image(0, Label("Cat", 90))):
        with pytest.raises(StaleRevision):
            either.save(late, previous=old)

    assert either.get(old.image_id) == new
    assert either.browse(Query(10, labels=("Cat",))).images == ()


def test_write_on_a_record_that_is_gone_is_refused(either: Catalog | FakeCatalog) -> None:
    """What was read but is no longer there has changed as well."""
    read = image(0, revision=1)

    with pytest.raises(StaleRevision):
        either.save(read, previous=read)

    assert either.get(read.image_id) is None


@pytest.mark.parametrize("labels", [(), (Label("Cat", 90),)], ids=["record", "transaction"])
@pytest.mark.parametrize("is_first", [True, False], ids=["absent", "unchanged"])
def test_of_two_writers_one_wins(
    catalog: Catalog,
    labels: Sequence[Label],
    is_first: bool,  # noqa: FBT001 - a parameter
) -> None:
    """Two threads that have read the same race for the write, many times."""
    for number in range(10):
        previous = None
        if not is_first:
            previous = catalog.save(image(number, status=ImageStatus.QUEUED), previous=None)
        rivals = [image(number, *labels, pipeline_version=name) for name in ("one", "other")]

        outcomes = race(catalog, rivals, previous)

        [winner] = [outcome for outcome in outcomes if outcome is not None]
        assert catalog.get(rivals[0].image_id) == winner
        assert outcomes[rivals.index(replace(winner, revision=0))] == winner


def race(catalog: Catalog, rivals: Sequence[Image], previous: Image | None) -> list[Image | None]:
    """What each has saved, all of them at once; None for one that was told to read again."""
    start = threading.Barrier(len(rivals), timeout=TIMEOUT_S)

    def write(rival: Image) -> Image | None:
        start.wait()
        try:
            return catalog.save(rival, previous)
        except StaleRevision:
            return None

    with ThreadPoolExecutor(len(rivals)) as pool:
        return list(pool.map(write, rivals))


CONFLICT = error_of("TransactionCanceledException", "None", "TransactionConflict")
CONFLICT_OF_ONE = error_of("TransactionConflictException")


@pytest.mark.parametrize(
    "error",
    [
        error_of("TransactionCanceledException", "None", "ValidationError"),
        error_of("TransactionCanceledException", "ItemCollectionSizeLimitExceeded"),
        error_of("AccessDeniedException"),
    ],
    ids=str,
)
def test_other_trouble_goes_through_as_it_is(
    catalog: Catalog, operations: Operations, error: dict[str, Any]
) -> None:
    """It neither tells of somebody faster nor passes by being tried again."""
    tries = operations.requests("dynamodb.TransactWriteItems")
    operations.before("dynamodb.TransactWriteItems", error)

    with pytest.raises(ClientError, match=error["Error"]["Code"]):
        catalog.save(image(0, Label("Cat", 90)), previous=None)

    assert len(tries) == 1


@pytest.mark.parametrize("other", ["TransactionConflict", "ThrottlingError"])
def test_whoever_was_overtaken_reads_again(
    catalog: Catalog, operations: Operations, other: str
) -> None:
    """A condition that does not hold is decisive, whatever else a transaction met."""
    tries = operations.requests("dynamodb.TransactWriteItems")
    error = error_of("TransactionCanceledException", "ConditionalCheckFailed", other)
    operations.before("dynamodb.TransactWriteItems", error)

    with pytest.raises(StaleRevision):
        catalog.save(image(0, Label("Cat", 90)), previous=None)

    assert len(tries) == 1


TRANSACTION, RECORD = "dynamodb.TransactWriteItems", "dynamodb.PutItem"
LABELS = {TRANSACTION: [Label("Cat", 90)], RECORD: list[Label]()}
STATUSES = {TRANSACTION: ImageStatus.COMPLETED, RECORD: ImageStatus.QUEUED}
BUSY_ANSWERS = [
    (TRANSACTION, CONFLICT),
    (TRANSACTION, error_of("TransactionCanceledException", "None", "ThrottlingError")),
    (TRANSACTION, error_of("TransactionCanceledException", "ProvisionedThroughputExceeded")),
    (TRANSACTION, error_of("ThrottlingException")),
    (RECORD, CONFLICT_OF_ONE),
    (RECORD, error_of("ThrottlingException")),
    (RECORD, error_of("ProvisionedThroughputExceededException")),
]


@pytest.fixture
def no_naps(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is repeated is repeated at once."""
    monkeypatch.setattr("chalicelib.aws.catalog.random.uniform", lambda *_: 0)


@pytest.mark.usefixtures("no_naps")
@pytest.mark.parametrize(("operation", "error"), BUSY_ANSWERS, ids=str)
def test_write_that_meets_another_is_repeated(
    catalog: Catalog,
    operations: Operations,
    operation: str,
    error: dict[str, Any],
) -> None:
    """It says nothing of the record: nobody has to read again, and all is written once."""
    labels = LABELS[operation]
    one = image(0, *labels, status=STATUSES[operation])
    tries = operations.requests(operation)
    operations.before(operation, error, error)

    saved = catalog.save(one, previous=None)

    assert len(tries) == 3
    assert catalog.get(saved.image_id) == saved == replace(one, revision=1)
    assert counts(catalog) == {label.name: 1 for label in labels}


@pytest.mark.usefixtures("no_naps")
@pytest.mark.parametrize(("operation", "error"), BUSY_ANSWERS, ids=str)
def test_catalog_that_stays_busy_is_nobodys_fault(
    catalog: Catalog,
    operations: Operations,
    operation: str,
    error: dict[str, Any],
) -> None:
    """Not a stale revision, which would have it begun anew without end; nothing is written."""
    tries = operations.requests(operation)
    operations.before(operation, *[error] * (BUSY_ATTEMPTS + 1))

    with pytest.raises(Throttled) as raised:
        catalog.save(image(0, *LABELS[operation], status=STATUSES[operation]), previous=None)

    assert isinstance(raised.value, NotNow)
    assert isinstance(raised.value.__cause__, ClientError)
    assert len(tries) == BUSY_ATTEMPTS
    assert everything(catalog) == []


def test_tombstone_expires(catalog: Catalog, operations: Operations) -> None:
    """A deleted image is in no list, and DynamoDB forgets it after its time."""
    shown = catalog.save(image(0, status=ImageStatus.QUEUED), previous=None)
    deleted = changed(catalog, shown, status=ImageStatus.DELETED)

    item = stored(catalog, deleted)

    assert int(item["expires_at"]["N"]) == int((MOMENT + TOMBSTONE_TTL).timestamp())
    assert item.keys().isdisjoint({"listing", "listing_by_status", "listed_at"})
    assert catalog.get(deleted.image_id) == deleted
    assert operations.made[0] == "PutItem"


def test_record_that_is_used_again_does_not_expire(catalog: Catalog) -> None:
    """A new upload over a tombstone takes its end away."""
    deleted = catalog.save(image(0, status=ImageStatus.DELETED), previous=None)
    assert "expires_at" in stored(catalog, deleted)

    changed(catalog, deleted, status=ImageStatus.QUEUED)

    assert "expires_at" not in stored(catalog, deleted)


def stored(catalog: Catalog, one: Image) -> dict[str, Any]:
    """The item of a record as it lies in the table."""
    key = {"pk": {"S": f"IMAGE#{one.image_id}"}, "sk": {"S": "RECORD"}}
    item: dict[str, Any] = catalog.client.get_item(TableName=catalog.table, Key=key)["Item"]
    return item


# ── labels ───────────────────────────────────────────────────────────────────────────────────────


def entries(catalog: Catalog) -> dict[str, dict[str, float]]:
    """Every label entry of the one image in the table: label → its confidences."""
    found = {}
    for item in everything(catalog):
        kind, _, rest = item["pk"]["S"].partition("#")
        if kind == "LABEL":
            confidences = item["confidences"]["M"]
            label = rest.rpartition("#")[0]
            assert label not in found, f"two entries of {label}"
            found[label] = {name: float(value["N"]) for name, value in confidences.items()}
    return found


def test_entries_and_counts_follow_the_record(catalog: Catalog) -> None:
    """Added on completion, changed with the labels, gone on replacement, failure and deletion."""
    waiting = catalog.save(image(0, status=ImageStatus.QUEUED), previous=None)
    assert entries(catalog) == counts(catalog) == {}

    done = changed(
        catalog,
        waiting,
        status=ImageStatus.COMPLETED,
        recognition=Recognition((Label("Cat", 98.5), Label("Sofa", 75))),
    )
    both = {"cat": 98.5, "sofa": 75.0}
    assert entries(catalog) == {"cat": both, "sofa": both}
    assert counts(catalog) == {"Cat": 1, "Sofa": 1}

    other = changed(catalog, done, recognition=Recognition((Label("Cat", 91), Label("Dog", 80))))
    both = {"cat": 91.0, "dog": 80.0}
    assert entries(catalog) == {"cat": both, "dog": both}
    assert counts(catalog) == {"Cat": 1, "Dog": 1}

    for status in (ImageStatus.QUEUED, ImageStatus.FAILED, ImageStatus.DELETED):
        over = changed(catalog, other, status=status, recognition=Recognition())
        assert entries(catalog) == counts(catalog) == {}
        other = changed(catalog, over, status=other.status, recognition=other.recognition)
        assert counts(catalog) == {"Cat": 1, "Dog": 1}


def test_labels_that_are_kept_stay_searchable(catalog: Catalog) -> None:
    """An image that is processed again has what it had, until the new is in place."""
    image_of_now = catalog.save(image(0, Label("Cat", 90), Label("Dog", 80)), previous=None)
    before = entries(catalog)

    for status in (ImageStatus.QUEUED, ImageStatus.PROCESSING):
        image_of_now = changed(catalog, image_of_now, status=status)

        assert entries(catalog) == before
        assert counts(catalog) == {"Cat": 1, "Dog": 1}
        assert catalog.browse(
            Query(
                10,
                labels=(
                    "dog",
                    "cat",
                ),
            )
        ).images == (image_of_now,)

    image_of_now = changed(
        catalog,
        image_of_now,
        status=ImageStatus.COMPLETED,
        recognition=Recognition((Label("Cat", 95), Label("Bird", 70))),
    )
    assert counts(catalog) == {"Cat": 1, "Bird": 1}
    assert catalog.browse(Query(10, labels=("cat",), min_confidence=95)).images == (image_of_now,)
    assert catalog.browse(Query(10, labels=("dog",))).images == ()


def test_replaced_image_takes_its_entries_along(catalog: Catalog) -> None:
    """A newer upload has another time, and so another place in the lists; it counts once."""
    first = catalog.save(image(0, Label("Cat", 90)), previous=None)
    newer = replace(first.original, uploaded_at="2026-02-01T00:00:00.000Z")

    changed(catalog, first, original=newer)

    assert list(entries(catalog)) == ["cat"]
    assert counts(catalog) == {"Cat": 1}
    assert len(catalog.browse(Query(10, labels=("cat",))).images) == 1


def test_what_does_not_change_is_not_written_again(
    catalog: Catalog, operations: Operations
) -> None:
    """Marking an image as announced is one write, and no transaction over all its labels."""
    done = catalog.save(image(0, Label("Cat", 90), Label("Dog", 80)), previous=None)
    operations.clear()

    for number in range(3):
        done = changed(catalog, done, announced=bool(number % 2))

    assert operations.made == ["PutItem"] * 3
    assert counts(catalog) == {"Cat": 1, "Dog": 1}
    assert (
        len(
            catalog.browse(
                Query(
                    10,
                    labels=(
                        "cat",
                        "dog",
                    ),
                )
            ).images
        )
        == 1
    )


def test_label_in_two_cases_counts_once(catalog: Catalog) -> None:
    """Labels are found in any case, and so are counted; the count shows one that was written."""
    done = catalog.save(image(0, Label("Straße", 90), Label("STRASSE", 80)), previous=None)
    assert sum(counts(catalog).values()) == 1

    changed(catalog, done, recognition=Recognition((Label("strasse", 80),)))
    assert sum(counts(catalog).values()) == 1


def test_counts_are_of_all_images(catalog: Catalog) -> None:
    """Over every shard; what one image loses, the others keep."""
    images = filled(
        catalog, [image(number, Label("Cat", 90), Label("Dog", 90)) for number in range(20)]
    )
    assert counts(catalog) == {"Cat": 20, "Dog": 20}

    for each in images[:5]:
        changed(catalog, each, status=ImageStatus.DELETED, recognition=Recognition())
    for each in images[5:9]:
        changed(catalog, each, recognition=Recognition((Label("Dog", 70), Label("Bird", 70))))

    assert counts(catalog) == {"Cat": 11, "Dog": 15, "Bird": 4}


def test_refused_write_changes_nothing(catalog: Catalog) -> None:
    """Neither the record, nor an entry, nor a count: late, too early, or over another's."""
    old = catalog.save(image(0, Label("Cat", 90)), previous=None)
    changed(catalog, old, recognition=Recognition((Label("Dog", 90),)))
    before = sorted(everything(catalog), key=repr)

    late = replace(old, recognition=Recognition((Label("Cat", 90), Label("Bird", 90))))
    for previous in (None, old, replace(old, revision=7)):
        with pytest.raises(StaleRevision):
            catalog.save(late, previous)
        with pytest.raises(StaleRevision):
            catalog.save(replace(old, recognition=Recognition()), previous)

    assert sorted(everything(catalog), key=repr) == before
    assert counts(catalog) == {"Dog": 1}


def test_counts_are_exact_after_many_writers(catalog: Catalog, operations: Operations) -> None:
    """Threads that save images of the same labels at once, each write of which meets another."""
    threads = threading.local()

    def every_other() -> dict[str, Any] | None:
        threads.meets = not getattr(threads, "meets", False)
        return CONFLICT if threads.meets else None

    operations.before("dynamodb.TransactWriteItems", *[every_other] * 1000)

    def life_of(number: int) -> None:
        one = catalog.save(image(number, status=ImageStatus.QUEUED), previous=None)
        one = changed(catalog, one, recognition=Recognition((Label("Cat", 90), Label("Dog", 80))))
        one = changed(catalog, one, recognition=Recognition((Label("Cat", 70), Label("Bird", 80))))
        if number % 4 == 0:
            changed(catalog, one, status=ImageStatus.DELETED, recognition=Recognition())

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(life_of, range(24)))

    assert counts(catalog) == {"Cat": 18, "Bird": 18}


def test_counts_are_exact_after_a_race_for_one_record(catalog: Catalog) -> None:
    """Of many that replace the same labels by others, one does; the rest count nothing."""
    shown = catalog.save(image(0, Label("Cat", 90)), previous=None)
    rivals = [
        replace(shown, recognition=Recognition((Label(f"Rival {number}", 90),)))
        for number in range(8)
    ]

    outcomes = race(catalog, rivals, shown)

    [winner] = [outcome for outcome in outcomes if outcome is not None]
    assert counts(catalog) == names(winner.recognition.labels)


# ── more labels than a transaction takes ─────────────────────────────────────────────────────────


def test_most_labels_that_are_asked_for_are_one_transaction(
    catalog: Catalog, operations: Operations
) -> None:
    """An image of 94 labels: written, and deleted, at once, all or nothing."""
    labels = some_labels(94)
    looks = Fingerprint(PHASH, "", ())
    crowded = catalog.save(image(0, *labels, fingerprint=looks), previous=None)
    assert counts(catalog) == names(labels)
    assert len(catalog.browse(Query(10, labels=("label 93",))).images) == 1

    changed(catalog, crowded, status=ImageStatus.DELETED, recognition=Recognition())
    assert counts(catalog) == {}
    assert operations.made.count("TransactWriteItems") == 2


@pytest.mark.parametrize(
    ("old", "new", "kept", "transactions"), [(48, 49, 1, 1), (49, 50, 0, 2), (94, 94, 0, 2)]
)
def test_labels_are_replaced_in_as_few_transactions_as_they_take(  # noqa: PLR0917
    catalog: Catalog, operations: Operations, old: int, new: int, kept: int, transactions: int
) -> None:
    """Up to 98 entries go with the record; more go in two, and end the same."""
    stays = some_labels(kept, "Stays")
    first = catalog.save(image(0, *some_labels(old, "Old"), *stays), previous=None)
    operations.clear()
    labels = (*some_labels(new, "New"), *some_labels(kept, "Stays", 70))

    saved = changed(catalog, first, recognition=Recognition(labels), processed_at="then")

    assert operations.made.count("TransactWriteItems") == transactions
    assert catalog.get(first.image_id) == saved
    assert saved == replace(
        first,
        recognition=Recognition(labels),
        processed_at="then",
        revision=first.revision + transactions,
    )
    assert counts(catalog) == names(labels)
    assert catalog.browse(Query(10, labels=("old 0",))).images == ()


def test_everything_at_once_is_replaced_in_steps(catalog: Catalog) -> None:
    """As many other labels as there can be, other looks and another status: it ends the same."""
    first = catalog.save(
        image(0, *some_labels(94, "Old"), fingerprint=Fingerprint(PHASH, "", ())), previous=None
    )
    other = flipped(PHASH, range(64))
    labels = some_labels(94, "New")

    saved = changed(
        catalog,
        first,
        status=ImageStatus.PROCESSING,
        recognition=Recognition(tuple(labels)),
        fingerprint=Fingerprint(other, "", ()),
    )

    assert catalog.get(saved.image_id) == saved
    assert counts(catalog) == names(labels)
    assert catalog.totals().images[ImageStatus.COMPLETED] == 0
    assert (alike(catalog, PHASH, 7), alike(catalog, other, 7)) == ({}, {0: [0]})


def test_replacement_that_ends_half_way_is_made_right_by_the_next(
    catalog: Catalog, operations: Operations
) -> None:
    """The old labels are off and the new not on: who reads that and saves again completes it."""
    old = catalog.save(image(0, *some_labels(94, "Old"), processed_at="then"), previous=None)
    new = Recognition(tuple(some_labels(94, "New")))
    operations.before("dynamodb.TransactWriteItems", None, Killed())

    with pytest.raises(Killed):
        changed(catalog, old, recognition=new)

    half = catalog.get(old.image_id)
    assert half == replace(old, recognition=Recognition(), revision=2)
    assert counts(catalog) == {}
    with pytest.raises(StaleRevision):
        changed(catalog, old, recognition=new)
    changed(catalog, half, recognition=new)
    assert counts(catalog) == names(new.labels)


def test_replacement_that_is_overtaken_half_way_leaves_what_is_newer(
    catalog: Catalog, operations: Operations
) -> None:
    """Whoever writes between the two halves wins, and the counts are those of that record."""
    old = catalog.save(image(0, *some_labels(94, "Old")), previous=None)

    def overtake() -> None:
        half = catalog.get(old.image_id)
        assert half is not None
        changed(catalog, half, recognition=Recognition((Label("Cat", 90),)))

    operations.before("dynamodb.TransactWriteItems", None, overtake)

    with pytest.raises(StaleRevision):
        changed(catalog, old, recognition=Recognition(tuple(some_labels(94, "New"))))

    assert counts(catalog) == {"Cat": 1}


# ── what has something left to do ────────────────────────────────────────────────────────────────


LATER = timestamp(MOMENT + timedelta(hours=1))


def unsettled(either: Catalog | FakeCatalog, before: str = LATER) -> list[int]:
    return sorted(
        int(each.original.key.removeprefix("uploads/").removesuffix(".jpg"))
        for each in either.unsettled(before)
    )


def test_what_has_something_left_to_do_is_found(either: Catalog | FakeCatalog) -> None:
    """Whatever waits, is worked on, or is final and not announced: a tombstone, too."""
    unfinished = [image(number, status=status) for number, status in enumerate(ImageStatus)]
    announced = [
        image(number + 10, status=status, announced=status.is_final)
        for number, status in enumerate(ImageStatus)
        if status.is_final
    ]
    saved = filled(either, [*unfinished, *announced])

    found = list(either.unsettled(LATER))

    assert sorted(each.revision for each in found) == [1] * len(ImageStatus)
    assert sorted(found, key=repr) == sorted(saved[: len(ImageStatus)], key=repr)


def test_what_was_written_lately_is_left_out(either: Catalog | FakeCatalog) -> None:
    """Only what is older than the time that is asked for, not what is as old."""
    filled(either, [image(number, status=ImageStatus.QUEUED) for number in range(6)])

    assert unsettled(either, timestamp(MOMENT + timedelta(seconds=3))) == [0, 1, 2]
    assert unsettled(either, timestamp(MOMENT)) == []


def test_image_leaves_once_it_is_settled(either: Catalog | FakeCatalog) -> None:
    """It is found at every step until it has been announced, and again when it has to be redone."""
    one = either.save(image(0, status=ImageStatus.QUEUED), previous=None)
    for status in (ImageStatus.PROCESSING, ImageStatus.COMPLETED):
        one = changed(either, one, status=status)
        assert unsettled(either) == [0]

    one = changed(either, one, announced=True)
    assert unsettled(either) == []

    one = changed(either, one, status=ImageStatus.QUEUED, announced=False)
    assert unsettled(either) == [0]

    changed(either, one, status=ImageStatus.DELETED, announced=True)
    assert unsettled(either) == []


def test_index_of_the_unsettled_holds_nothing_else(catalog: Catalog) -> None:
    """It is sparse: as large as what is left to do, however many images there are."""
    done = catalog.save(image(0, Label("Cat", 90)), previous=None)
    assert "unsettled" in stored(catalog, done)

    done = changed(catalog, done, announced=True)

    assert "unsettled" not in stored(catalog, done)


def test_unsettled_are_read_in_pages(catalog: Catalog, operations: Operations) -> None:
    """More than one answer of DynamoDB holds, each found once."""
    filled(catalog, [image(number, status=ImageStatus.QUEUED) for number in range(30)])
    operations.add_parameters("dynamodb.Query", Limit=2)
    operations.clear()

    assert unsettled(catalog) == list(range(30))
    assert operations.made.count("Query") > SHARDS


def test_unsettled_are_read_in_whole_batches(
    catalog: Catalog, operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few entries a page of the index holds, each read of records is a full one."""
    monkeypatch.setattr("chalicelib.aws.catalog.READ_BATCH", 3)
    filled(catalog, [image(number, status=ImageStatus.QUEUED) for number in range(30)])
    operations.add_parameters("dynamodb.Query", Limit=2)
    reads = operations.requests("dynamodb.BatchGetItem")

    assert unsettled(catalog) == list(range(30))

    sizes = [len(read["RequestItems"][catalog.table]["Keys"]) for read in reads]
    assert sum(sizes) == 30
    assert max(sizes) == 3
    assert sum(size < 3 for size in sizes) <= SHARDS, "but for the last of a shard"


def test_unsettled_are_read_as_they_are_needed(catalog: Catalog, operations: Operations) -> None:
    """Who has no more time has not read all of them."""
    filled(catalog, [image(number, status=ImageStatus.QUEUED) for number in range(30)])
    operations.clear()

    next(catalog.unsettled(LATER))

    assert operations.made.count("Query") < SHARDS


def test_longest_unsettled_come_first_in_a_shard(catalog: Catalog, operations: Operations) -> None:
    """In the order of the index, in whatever order DynamoDB gives the records."""
    filled(catalog, [image(number, status=ImageStatus.QUEUED) for number in range(40)])
    operations.change_answer(
        "dynamodb.BatchGetItem", lambda answer: answer["Responses"][catalog.table].reverse()
    )

    in_shards: dict[str, list[str]] = {}
    for each in catalog.unsettled(LATER):
        shard = stored(catalog, each)["unsettled"]["S"]
        in_shards.setdefault(shard, []).append(each.updated_at)

    assert len(in_shards) > 1
    assert all(times == sorted(times) for times in in_shards.values())


# ── bookmarks ────────────────────────────────────────────────────────────────────────────────────


def test_bookmark_is_where_it_was_set_last(either: Catalog | FakeCatalog) -> None:
    """Each by its name; empty where none was set, and where one was set back."""
    assert either.bookmark("sweep") == ""

    either.set_bookmark("sweep", "uploads/a.jpg")
    either.set_bookmark("sweep", "uploads/é 🦊.jpg")
    either.set_bookmark("other", "uploads/z.jpg")

    assert either.bookmark("sweep") == "uploads/é 🦊.jpg"
    assert either.bookmark("other") == "uploads/z.jpg"

    either.set_bookmark("sweep", "")
    assert either.bookmark("sweep") == ""


def test_bookmark_is_no_image(catalog: Catalog) -> None:
    """It is in no list and nothing that is left to do."""
    catalog.set_bookmark("sweep", "uploads/a.jpg")

    assert catalog.browse(Query(10)) == Page((), None)
    assert unsettled(catalog) == []


# ── many records ─────────────────────────────────────────────────────────────────────────────────


def test_many_records_come_by_their_ids(either: Catalog | FakeCatalog) -> None:
    """More than DynamoDB gives at once; deleted ones, too, and not what is not there."""
    images = [image(number) for number in range(204)]
    images.append(image(204, status=ImageStatus.DELETED))
    saved = filled(either, images)

    found = either.get_many(["unknown", *(each.image_id for each in saved)])

    assert found == {each.image_id: each for each in saved}
    assert either.get_many(["unknown"]) == either.get_many([]) == {}


def test_records_that_dynamodb_has_not_got_round_to_are_asked_for_again(
    catalog: Catalog, operations: Operations
) -> None:
    """However often, and were it every one of a request."""
    saved = filled(catalog, [image(number) for number in range(105)])
    answered: list[int] = []

    def leave_some(answer: dict[str, Any]) -> None:
        records = answer["Responses"][catalog.table]
        answered.append(len(records))
        kept = {1: 0, 2: 60}.get(len(answered), len(records))
        left = records[kept:]
        del records[kept:]
        if left:
            keys = [{"pk": item["pk"], "sk": item["sk"]} for item in left]
            answer["UnprocessedKeys"] = {catalog.table: {"Keys": keys}}

    operations.change_answer("dynamodb.BatchGetItem", leave_some)

    found = catalog.get_many([each.image_id for each in saved])

    assert found == {each.image_id: each for each in saved}
    assert answered == [100, 100, 40, 5]


def test_image_that_an_index_shows_twice_is_read_once(catalog: Catalog) -> None:
    """Indexes lag behind: while an image moves in one, it may be at both places."""
    saved = catalog.save(image(0), previous=None)

    assert catalog.get_many([saved.image_id] * 2) == {saved.image_id: saved}


# ── lists ────────────────────────────────────────────────────────────────────────────────────────


def all_pages(
    either: Catalog | FakeCatalog, limit: int, labels: Sequence[str] = ()
) -> list[list[int]]:
    pages = []
    cursor = None
    while True:
        page = either.browse(Query(limit, cursor, labels=tuple(labels)))
        pages.append(numbers(page))
        cursor = page.cursor
        if cursor is None:
            return pages


def test_empty_catalog_has_one_empty_page(either: Catalog | FakeCatalog) -> None:
    """Nothing there is no error, and no cursor to nowhere."""
    assert either.browse(Query(10)) == Page((), None)
    assert either.browse(Query(10, labels=("Cat",))) == Page((), None)


@pytest.mark.parametrize("labels", [(), ("cat",)], ids=["all", "label"])
def test_pages_show_every_image_once_newest_first(
    either: Catalog | FakeCatalog, labels: Sequence[str]
) -> None:
    """Over all partitions, with a last page that is exactly full and one that is not."""
    filled(
        either, [image(number, Label("Cat", 90)) for number in (4, 0, 8, 2, 10, 6, 1, 9, 5, 3, 7)]
    )

    assert all_pages(either, 4, labels) == [[10, 9, 8, 7], [6, 5, 4, 3], [2, 1, 0]]
    assert all_pages(either, 11, labels) == [[*range(10, -1, -1)]]
    assert all_pages(either, 1, labels) == [[number] for number in range(10, -1, -1)]


@pytest.mark.parametrize("labels", [(), ("cat",)], ids=["all", "label"])
def test_images_of_one_moment_are_neither_lost_nor_doubled(
    either: Catalog | FakeCatalog, labels: Sequence[str]
) -> None:
    """Ties are broken by image id, the same on every page."""
    filled(either, [image(number, Label("Cat", 90), seconds=0) for number in range(13)])

    shown = [number for page in all_pages(either, 3, labels) for number in page]

    assert sorted(shown) == list(range(13))
    assert shown == sorted(shown, key=lambda number: image(number).image_id, reverse=True)


def test_list_by_status_follows_the_record(either: Catalog | FakeCatalog) -> None:
    """An image is in the list of the status it has now, and in no other."""
    images = filled(either, [image(number, status=ImageStatus.QUEUED) for number in range(3)])
    changed(either, images[1], status=ImageStatus.FAILED)
    changed(either, images[2], status=ImageStatus.DELETED)

    assert numbers(either.browse(Query(10, status=ImageStatus.QUEUED))) == [0]
    assert numbers(either.browse(Query(10, status=ImageStatus.FAILED))) == [1]
    assert numbers(either.browse(Query(10, status=ImageStatus.COMPLETED))) == []
    assert numbers(either.browse(Query(10))) == [1, 0]


def test_list_by_labels_asks_for_all_of_them(either: Catalog | FakeCatalog) -> None:
    """In whatever case, each with the confidence asked for."""
    filled(
        either,
        [
            image(0, Label("Cat", 99.5), Label("Dog", 70)),
            image(1, Label("Cat", 80)),
            image(2, Label("Dog", 99)),
            image(3, Label("Cat", 95), Label("Dog", 95), Label("Grüße #1", 80)),
        ],
    )

    def found(*labels: str, min_confidence: float = 0) -> list[int]:
        return numbers(either.browse(Query(10, labels=labels, min_confidence=min_confidence)))

    assert found("cat") == [3, 1, 0]
    assert found("CAT", "dog") == [3, 0]
    assert found("Dog", "Cat") == [3, 0]
    assert found("Cat", "cAT") == [3, 1, 0]
    assert found("Cat", min_confidence=95) == [3, 0]
    assert found("Cat", min_confidence=99.5) == [0]
    assert found("Cat", min_confidence=99.51) == []
    assert found("Cat", "Dog", min_confidence=90) == [3]
    assert found("GRÜSSE #1") == [3]
    assert found("Horse") == []
    assert found("Cat", "Horse") == []


def test_label_that_is_rarely_sure_enough_is_found_behind_many(
    either: Catalog | FakeCatalog,
) -> None:
    """A filter sees one page of a partition at a time: what matches may come much later."""
    filled(either, [image(number, Label("Cat", 99 if number == 0 else 60)) for number in range(40)])

    page = either.browse(Query(1, labels=("Cat",), min_confidence=90))

    assert (numbers(page), page.cursor) == ([0], None)


def test_image_deleted_between_pages_is_left_out(either: Catalog | FakeCatalog) -> None:
    """What goes away while somebody turns pages shifts nothing on the next ones."""
    images = filled(either, [image(number) for number in range(6)])
    first = either.browse(Query(2))
    if isinstance(either, Catalog):  # the one in memory counts its way from the start
        changed(either, images[5], status=ImageStatus.DELETED)
    changed(either, images[3], status=ImageStatus.DELETED)

    assert numbers(first) == [5, 4]
    assert numbers(either.browse(Query(2, first.cursor))) == [2, 1]


def test_record_that_vanishes_behind_the_index_is_left_out(catalog: Catalog) -> None:
    """An index lags behind: what is deleted, or gone, between index and record is not shown."""
    images = [image(number, Label("Cat", 90)) for number in range(3)]
    filled(catalog, images)
    gone = {"pk": {"S": f"IMAGE#{images[1].image_id}"}, "sk": {"S": "RECORD"}}
    catalog.client.delete_item(TableName=catalog.table, Key=gone)

    assert numbers(catalog.browse(Query(10, labels=("cat",)))) == [2, 0]


def test_images_are_read_in_whole_batches(catalog: Catalog, operations: Operations) -> None:
    """More images than DynamoDB gives at once, and those it has not got round to."""
    filled(catalog, [image(number) for number in range(105)])
    operations.clear()

    def leave_some(answer: dict[str, Any]) -> None:
        if operations.made.count("BatchGetItem") > 1:
            return
        left = answer["Responses"][catalog.table][:3]
        del answer["Responses"][catalog.table][:3]
        keys = [{"pk": item["pk"], "sk": item["sk"]} for item in left]
        answer["UnprocessedKeys"] = {catalog.table: {"Keys": keys}}

    operations.change_answer("dynamodb.BatchGetItem", leave_some)

    assert numbers(catalog.browse(Query(105))) == list(range(104, -1, -1))
    assert operations.made.count("Query") == SHARDS
    assert operations.made.count("BatchGetItem") == 3


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "é",
        "====",
        "1769850900000",
        "1769850900000.",
        "1769850900000." + "a" * 25,
        "1769850900000." + "a" * 2000,
        "1769850900000." + "é" * 26,
        "176985090000." + "a" * 26,
        "17698509000000." + "a" * 26,
        "176985090000x." + "a" * 26,
        "1769850900000#" + "a" * 26,
        "1769850900000." + "a" * 26 + "\n",
    ],
)
def test_cursor_that_is_not_ours_is_refused(catalog: Catalog, cursor: str) -> None:
    """Whatever a client makes up, it is the request that is wrong."""
    with pytest.raises(InvalidRequest, match="The cursor is not one of ours"):
        catalog.browse(Query(10, cursor))
    with pytest.raises(InvalidRequest, match="The cursor is not one of ours"):
        catalog.browse(Query(10, cursor, labels=("cat",)))


def test_request_that_came_to_nothing_is_forgotten(catalog: Catalog) -> None:
    """One of which an image has come is not."""
    catalog.claim("one", "fingerprint")
    catalog.disclaim("one")
    assert catalog.claim("one", "another") is None
    catalog.fulfil("one", "a" * 26)
    catalog.disclaim("one")
    assert catalog.claim("one", "another") == "a" * 26


def test_cursor_is_safe_in_a_url(catalog: Catalog) -> None:
    """Clients put it into a query string as it is."""
    filled(catalog, [image(number) for number in range(2)])

    cursor = catalog.browse(Query(1)).cursor

    assert cursor is not None
    assert re.fullmatch(CURSOR.schema["pattern"], cursor)


@pytest.mark.usefixtures("operations")
def test_scan_would_be_noticed(catalog: Catalog) -> None:
    """The hook that watches for scans sees one."""
    with pytest.raises(AssertionError, match="read by queries"):
        catalog.client.scan(TableName=catalog.table)


# ── pages of any query ───────────────────────────────────────────────────────────────────────────


SHOWN = [status for status in ImageStatus if status is not ImageStatus.DELETED]
CONFIDENCES = [60, 75, 90, 99.5]


def any_image(number: int, chance: random.Random) -> Image:
    """An image of any status with any of four labels, uploaded within a few seconds of others."""
    labels = chance.sample(["Cat", "Dog", "Sofa", "Tree"], chance.randrange(4))
    return image(
        number,
        *(Label(name, chance.choice(CONFIDENCES)) for name in labels),
        status=chance.choice([*ImageStatus, *[ImageStatus.COMPLETED] * 5]),
        seconds=chance.randrange(20),
    )


def any_query(chance: random.Random) -> Query:
    def moment() -> str | None:
        return chance.choice([None, timestamp(MOMENT + timedelta(seconds=chance.randrange(20)))])

    return Query(
        limit=chance.choice([2, 5, 50]),
        status=chance.choice([None, *SHOWN]),
        labels=tuple(chance.sample(["cat", "Dog", "SOFA", "tree"], chance.randrange(4))),
        min_confidence=chance.choice([0, *CONFIDENCES]),
        since=moment(),
        until=moment(),
    )


def is_asked_for(one: Image, query: Query) -> bool:
    sure = {
        label.name.casefold()
        for label in one.recognition.labels
        if label.confidence >= query.min_confidence
    }
    return (
        one.status in ([query.status] if query.status else SHOWN)
        and {label.casefold() for label in query.labels} <= sure
        and (query.since or "") <= one.original.uploaded_at <= (query.until or "9")
    )


@pytest.mark.parametrize("seed", range(2))
def test_pages_of_any_query_show_just_what_it_asks_for(
    either: Catalog | FakeCatalog, seed: int
) -> None:
    """Every such image once, newest first, no page over its limit, whatever is asked together."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    saved = filled(either, [any_image(number, chance) for number in range(60)])
    newest_first = sorted(
        saved, key=lambda each: (each.original.uploaded_at, each.image_id), reverse=True
    )
    hits = 0
    for query in (any_query(chance) for _ in range(40)):
        pages = list(paged(either, query))

        shown = [each for page in pages for each in page.images]
        assert shown == [each for each in newest_first if is_asked_for(each, query)], query
        assert max(len(page.images) for page in pages) <= query.limit
        hits += len(shown)
    assert hits > 50


@pytest.fixture
def crowd(catalog: Catalog) -> list[Image]:
    """Eighty cats, of which the oldest one is a sure one, and a dog as well."""
    images = [image(number, Label("Cat", 60)) for number in range(1, 80)]
    oldest = image(0, Label("Cat", 99), Label("Dog", 99))
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda each: catalog.save(each, previous=None), [oldest, *images]))


@pytest.mark.usefixtures("crowd")
@pytest.mark.parametrize(
    "query",
    [
        Query(3),
        Query(3, status=ImageStatus.COMPLETED),
        Query(3, labels=("cat",)),
        Query(3, labels=("cat",), min_confidence=50, status=ImageStatus.COMPLETED),
        Query(3, until=timestamp(MOMENT + timedelta(seconds=50))),
    ],
    ids=str,
)
def test_full_page_is_one_query_a_shard(
    catalog: Catalog, operations: Operations, query: Query
) -> None:
    """First or deep inside, it looks at an entry more a shard than it shows, and reads no other."""
    cursor = None
    for _ in range(3):
        operations.clear()
        scanned = scanned_by(operations)

        page = catalog.browse(replace(query, cursor=cursor))

        assert len(page.images) == 3
        assert operations.made == ["Query"] * SHARDS + ["BatchGetItem"]
        assert sum(scanned[:SHARDS]) <= SHARDS * 4
        cursor = page.cursor


@pytest.mark.usefixtures("crowd")
@pytest.mark.parametrize(
    "query",
    [
        Query(1, labels=("cat",), min_confidence=90),
        Query(1, labels=("cat", "horse"), status=ImageStatus.FAILED),
        Query(1, labels=("cat",), status=ImageStatus.COMPLETED, min_confidence=90),
    ],
    ids=str,
)
def test_page_is_bounded_whatever_its_filters_drop(
    catalog: Catalog, operations: Operations, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes short rather than late, and says where to go on: all are found in the end."""
    monkeypatch.setattr("chalicelib.aws.catalog.ROUNDS", 2)
    scanned = scanned_by(operations)
    bound = SHARDS * (1 + 2) * (query.limit + 1)
    shown: list[Image] = []
    number = 0
    for number, page in enumerate(paged(catalog, query), 1):  # noqa: B007 - how many there were
        shown += page.images
        assert sum(scanned) <= bound
        assert len(scanned) <= SHARDS * 2
        scanned.clear()

    assert len(shown) == (query.status is not ImageStatus.FAILED)
    assert number > 1 or query.status is ImageStatus.FAILED


@pytest.mark.usefixtures("crowd")
@pytest.mark.parametrize("labels", [("cat", "dog"), ("dog", "cat"), ("Horse", "Cat")])
def test_rarest_label_is_looked_through(
    catalog: Catalog, operations: Operations, labels: tuple[str, ...]
) -> None:
    """Its entries tell of the others, whichever of them is named first."""
    folded(catalog)
    scanned = scanned_by(operations)

    page = catalog.browse(Query(50, labels=labels))

    assert numbers(page) == ([0] if "dog" in labels else [])
    assert sum(scanned) == len(page.images)


def test_image_whose_record_has_changed_since_its_list_is_left_out(
    catalog: Catalog, operations: Operations
) -> None:
    """Indexes lag behind records: what is in another status by now is not shown in this one."""
    queued = catalog.save(image(0, status=ImageStatus.QUEUED), previous=None)
    operations.before(
        "dynamodb.BatchGetItem", lambda: changed(catalog, queued, status=ImageStatus.FAILED)
    )

    page = catalog.browse(Query(5, status=ImageStatus.QUEUED))

    assert page == Page((), None)


def test_partitions_of_a_page_are_read_side_by_side(
    catalog: Catalog, operations: Operations
) -> None:
    """All of them are asked before the first has answered."""
    together = threading.Barrier(SHARDS, timeout=TIMEOUT_S)

    def wait() -> None:
        together.wait()

    operations.before("dynamodb.Query", *[wait] * SHARDS)

    assert catalog.browse(Query(5)) == Page((), None)


# ── how many images have a label ─────────────────────────────────────────────────────────────────


def test_labels_are_counted_most_frequent_first(either: Catalog | FakeCatalog) -> None:
    """Then by name; exactly, as images come, change and go."""
    images = filled(
        either,
        [image(number, Label("Cat", 90), Label("Cable Car", 90)) for number in range(6)]
        + [image(6, Label("Boat", 90), Label("Ångström", 90))],
    )
    assert told(either) == [("Cable Car", 6), ("Cat", 6), ("Boat", 1), ("Ångström", 1)]

    for each in images[:2]:
        changed(either, each, recognition=Recognition((Label("Cat", 70),)))
    changed(either, images[6], status=ImageStatus.DELETED, recognition=Recognition())
    assert told(either) == [("Cat", 6), ("Cable Car", 4)]


def test_labels_are_found_by_how_they_begin(either: Catalog | FakeCatalog) -> None:
    """In whatever case; a prefix that no label has finds none."""
    filled(either, [image(0, Label("Cat", 90), Label("Cable Car", 90), Label("Straße", 90))])

    assert told(either, "CA") == [("Cable Car", 1), ("Cat", 1)]
    assert told(either, "cat") == [("Cat", 1)]
    assert told(either, "strass") == [("Straße", 1)]
    assert told(either, "dog") == told(either, "cats") == []


# ── changes that are added to the counters ───────────────────────────────────────────────────────


def pending(catalog: Catalog) -> int:
    """How many changes have yet to be added."""
    return sum(item["pk"]["S"].startswith("CHANGES#") for item in everything(catalog))


def test_counters_say_the_same_once_changes_are_added(catalog: Catalog) -> None:
    """All, some or none of them: labels and totals are those of the images, up and down."""
    images = filled(
        catalog, [image(number, Label("Cat", 90), Label("Dog", 90)) for number in range(20)]
    )
    expected = [("Cat", 20), ("Dog", 20)]
    for shard in range(SHARDS):
        assert told(catalog) == expected
        assert catalog.totals().images[ImageStatus.COMPLETED] == 20
        catalog.fold(shard)
    assert pending(catalog) == 0
    assert told(catalog) == expected

    for each in images[:5]:
        changed(catalog, each, status=ImageStatus.FAILED, recognition=Recognition())
    for each in images[5:]:
        changed(catalog, each, recognition=Recognition((Label("Cat", 70),)))
    assert told(catalog) == [("Cat", 15)]
    folded(catalog)
    assert pending(catalog) == 0
    assert told(catalog) == [("Cat", 15)]
    assert catalog.totals() == Totals(dict(zip(SHOWN, (0, 0, 15, 0, 5), strict=True)), 15, 0)


def test_some_images_add_the_changes_of_others(catalog: Catalog, operations: Operations) -> None:
    """So that no more than a few wait, however many images come."""
    keys = (f"uploads/{number}.jpg" for number in count())
    ids = [image_id_of(key) for key in islice(keys, 2000)]
    folding = [number for number, image_id in enumerate(ids) if is_folding(image_id)]
    assert len(ids) / FOLD_EVERY / 1.5 < len(folding) < len(ids) / FOLD_EVERY * 1.5
    shard = shard_of(ids[folding[0]])
    in_shard = [number for number, each in enumerate(ids) if shard_of(each) == shard]
    others = [number for number in in_shard if number not in folding][:10]
    filled(catalog, [image(number, Label("Cat", 90)) for number in others])
    assert pending(catalog) == 10
    operations.clear()

    catalog.save(image(folding[0], Label("Cat", 90)), previous=None)

    assert operations.made == ["Query", "TransactWriteItems", "TransactWriteItems"]
    assert pending(catalog) == 1
    assert told(catalog) == [("Cat", 11)]


def test_changes_are_added_as_many_as_a_transaction_takes(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And as many counters as an update takes; the others stay for the next time."""
    filled(catalog, [image(number, *some_labels(3, f"{number}")) for number in range(12)])
    most = max(Counter(shard_of(image(number).image_id) for number in range(12)).values())
    assert most > 1
    monkeypatch.setattr("chalicelib.aws.catalog.FOLDED_COUNTERS", 6)

    for left in range(most - 1, -1, -1):
        folded(catalog)
        assert (pending(catalog) > 0) == (left > 0)
        assert sum(number for _, number in told(catalog)) == 36


def test_fullest_addition_is_one_transaction(catalog: Catalog, operations: Operations) -> None:
    """So many changes that every entry of counters takes part."""
    shard = [number for number in range(900) if shard_of(image(number).image_id) == 3][:90]
    shard = [number for number in shard if not is_folding(image(number).image_id)]
    filled(catalog, [image(number, *some_labels(2, f"{number}")) for number in shard])
    operations.clear()
    requests = operations.requests("dynamodb.TransactWriteItems")

    catalog.fold(3)

    assert [len(request["TransactItems"]) for request in requests] == [100]
    assert pending(catalog) == len(shard) - 83
    assert len(told(catalog)) == 2 * len(shard)


def test_changes_are_added_once(catalog: Catalog, operations: Operations) -> None:
    """Of those who are at the same ones, one adds them; the others leave it at that."""
    filled(catalog, [image(number, Label("Cat", 90)) for number in range(30)])
    read = threading.Barrier(4, timeout=TIMEOUT_S)

    def wait() -> None:
        read.wait()

    operations.before("dynamodb.TransactWriteItems", *[wait] * 4)
    shard = shard_of(image(0).image_id)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(catalog.fold, [shard] * 4))

    assert told(catalog) == [("Cat", 30)]
    assert 0 < pending(catalog) < 30


@pytest.mark.parametrize("reason", ["TransactionConflict", "ConditionalCheckFailed"])
def test_changes_that_somebody_else_adds_are_theirs(
    catalog: Catalog, operations: Operations, reason: str
) -> None:
    """No reason to wait, nor to fail."""
    filled(catalog, [image(0, Label("Cat", 90))])
    operations.before(
        "dynamodb.TransactWriteItems", error_of("TransactionCanceledException", reason)
    )

    folded(catalog)

    assert pending(catalog) == 1


def test_trouble_with_adding_goes_through_as_it_is(
    catalog: Catalog, operations: Operations
) -> None:
    """It is nobody else's doing."""
    filled(catalog, [image(0, Label("Cat", 90))])
    operations.before("dynamodb.TransactWriteItems", error_of("AccessDeniedException"))

    with pytest.raises(ClientError, match="AccessDenied"):
        folded(catalog)


def test_counters_are_of_one_moment(catalog: Catalog, operations: Operations) -> None:
    """What is added between reading counters and changes is neither missed nor counted twice."""
    filled(catalog, [image(number, Label("Cat", 90)) for number in range(20)])

    operations.before("dynamodb.Query", lambda: folded(catalog))

    assert told(catalog) == [("Cat", 20)]
    assert pending(catalog) == 0


# ── totals ───────────────────────────────────────────────────────────────────────────────────────


def rendition(size_bytes: int) -> Rendition:
    return Rendition("small", "thumbnails/x.jpg", OutputFormat.JPEG, 64, 48, size_bytes)


def test_empty_catalog_has_totals(catalog: Catalog) -> None:
    """Every status but DELETED is named, even where no image has it."""
    assert catalog.totals() == Totals(dict.fromkeys(SHOWN, 0), 0, 0)


def test_totals_follow_the_records(either: Catalog | FakeCatalog) -> None:
    """Images in each status; bytes of those that are processed, however often they change."""

    def totals() -> tuple[list[int], int, int]:
        now = either.totals()
        return [now.images[status] for status in SHOWN], now.original_bytes, now.rendition_bytes

    one, *_ = filled(either, [image(number, status=ImageStatus.QUEUED) for number in range(3)])
    assert totals() == ([3, 0, 0, 0, 0], 0, 0)

    one = changed(either, one, status=ImageStatus.PROCESSING)
    assert totals() == ([2, 1, 0, 0, 0], 0, 0)

    one = changed(either, one, status=ImageStatus.FAILED)
    assert totals() == ([2, 0, 0, 0, 1], 0, 0)

    both = (rendition(20), rendition(3))
    one = changed(either, one, status=ImageStatus.COMPLETED, renditions=both)
    assert totals() == ([2, 0, 1, 0, 0], 1, 23)

    one = changed(either, one, announced=True, renditions=both[:1])
    assert totals() == ([2, 0, 1, 0, 0], 1, 20)

    one = changed(either, one, original=replace(one.original, size_bytes=7))
    assert totals() == ([2, 0, 1, 0, 0], 7, 20)

    one = changed(either, one, status=ImageStatus.QUEUED)
    assert totals() == ([3, 0, 0, 0, 0], 0, 0)

    one = changed(either, one, status=ImageStatus.QUARANTINED)
    assert totals() == ([2, 0, 0, 1, 0], 7, 20), "withheld, but stored"

    one = changed(either, one, status=ImageStatus.COMPLETED)
    changed(either, one, status=ImageStatus.DELETED)
    assert totals() == ([2, 0, 0, 0, 0], 0, 0)


def test_totals_are_exact_after_many_writers(catalog: Catalog) -> None:
    """Whatever shards of them the threads meet at, and in whatever pages the lists come."""

    def life_of(number: int) -> None:
        one = catalog.save(image(number, status=ImageStatus.QUEUED), previous=None)
        one = changed(catalog, one, status=ImageStatus.COMPLETED, renditions=(rendition(10),))
        if number % 4 == 0:
            one = changed(catalog, one, status=ImageStatus.FAILED, renditions=())
        elif number % 4 == 1:
            changed(catalog, one, status=ImageStatus.QUEUED)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(life_of, range(40)))

    assert catalog.totals() == Totals(dict(zip(SHOWN, (10, 0, 20, 0, 10), strict=True)), 20, 200)


def test_lists_are_counted_in_pages(catalog: Catalog, operations: Operations) -> None:
    """More than one answer of DynamoDB counts."""
    filled(catalog, [image(number, status=ImageStatus.QUEUED) for number in range(30)])
    operations.add_parameters("dynamodb.Query", Limit=2)

    assert catalog.totals().images[ImageStatus.QUEUED] == 30


def test_write_that_moves_no_total_is_no_transaction(
    catalog: Catalog, operations: Operations
) -> None:
    """What waits is counted in its list, so that only the end of an image costs twice."""
    one = catalog.save(image(0, status=ImageStatus.QUEUED), previous=None)
    one = changed(catalog, one, status=ImageStatus.PROCESSING)
    assert operations.made == ["PutItem"] * 2

    one = changed(catalog, one, status=ImageStatus.COMPLETED)
    changed(catalog, one, announced=True)
    assert operations.made == [*["PutItem"] * 2, "TransactWriteItems", "PutItem"]


# ── what looks alike ─────────────────────────────────────────────────────────────────────────────


def hashed(number: int, phash: str, **members: Any) -> Image:
    return image(number, fingerprint=Fingerprint(phash, "", ()), **members)


def flipped(phash: str, bits: Iterable[int]) -> str:
    number = int(phash, 16)
    for bit in bits:
        number ^= 1 << bit
    return f"{number:016x}"


def alike(
    either: Catalog | FakeCatalog, phash: str, max_distance: int, limit: int = 1000
) -> dict[int, list[int]]:
    """Numbers of the images found, by distance."""
    found: dict[int, list[int]] = {}
    for one, distance in either.similar(phash, max_distance, limit):
        found.setdefault(distance, []).append(int(one.original.key[8:-4]))
    return {distance: sorted(images) for distance, images in found.items()}


PHASH = "0f1e2d3c4b5a6978"


def test_all_that_look_alike_are_found(catalog: Catalog) -> None:
    """Every image within each distance up to the most, whichever bits differ, and none beyond."""
    chance = random.Random(1)  # noqa: S311 - no secret
    distances = [number % (MAX_DISTANCE + 2) for number in range(120)]
    hashes = [flipped(PHASH, chance.sample(range(64), distance)) for distance in distances]
    # Where they lie as far apart as they can: two bits of each band but one.
    hashes += [flipped(PHASH, [0, 1, 16, 17, 32, 33, bit]) for bit in range(48, 64)]
    distances += [7] * 16
    filled(catalog, [hashed(number, phash) for number, phash in enumerate(hashes)])

    for most in range(MAX_DISTANCE + 1):
        expected = {
            distance: [number for number, each in enumerate(distances) if each == distance]
            for distance in range(most + 1)
        }
        assert alike(catalog, PHASH, most) == expected


def test_nearest_come_first(either: Catalog | FakeCatalog) -> None:
    """As many as are asked for; by id where they are as near."""
    bits = [[], [1], [2], [1, 2, 3], [40, 41, 42, 43, 44]]
    filled(either, [hashed(number, flipped(PHASH, each)) for number, each in enumerate(bits)])

    found = either.similar(PHASH, 7, 4)

    assert [distance for _, distance in found] == [0, 1, 1, 3]
    assert found[1][0].image_id < found[2][0].image_id
    assert alike(either, PHASH, 0) == {0: [0]}
    assert alike(either, PHASH, 3, limit=1) == {0: [0]}


def test_only_what_is_shown_is_compared(either: Catalog | FakeCatalog) -> None:
    """No image that failed or is deleted, and none without a hash; a new hash replaces the old."""
    filled(
        either,
        [
            image(0),
            hashed(1, PHASH, status=ImageStatus.FAILED),
            hashed(2, PHASH, status=ImageStatus.DELETED),
        ],
    )
    three, four, five = filled(either, [hashed(number, PHASH) for number in (3, 4, 5)])
    changed(either, three, fingerprint=Fingerprint(flipped(PHASH, range(20)), "", ()))
    changed(either, four, status=ImageStatus.DELETED)
    assert alike(either, PHASH, 7) == {0: [5]}

    changed(either, five, status=ImageStatus.FAILED)
    assert alike(either, PHASH, 7) == {}


def test_hashes_leave_nothing_behind(catalog: Catalog) -> None:
    """Four entries an image while it can be found, none before and after."""

    def bands() -> int:
        return sum(item["pk"]["S"].startswith("PHASH#") for item in everything(catalog))

    one = catalog.save(image(0, status=ImageStatus.QUEUED), previous=None)
    assert bands() == 0
    one = changed(
        catalog, one, status=ImageStatus.COMPLETED, fingerprint=Fingerprint(PHASH, "", ())
    )
    assert bands() == BANDS
    one = changed(catalog, one, fingerprint=Fingerprint(flipped(PHASH, [0]), "", ()))
    assert bands() == BANDS
    one = changed(catalog, one, status=ImageStatus.QUEUED)
    assert bands() == BANDS, "it keeps what it had while it is processed again"
    changed(catalog, one, status=ImageStatus.DELETED)
    assert bands() == 0


@pytest.mark.parametrize(
    ("max_distance", "queries"),
    [(0, 2), (1, 3), (2, 4), (3, 5), (4, 52), (5, 52), (6, 69), (7, 69)],
)
def test_search_asks_no_more_than_the_distance_needs(
    catalog: Catalog, operations: Operations, max_distance: int, queries: int
) -> None:
    """A band more for every bit, and from four bits on what is a bit off in each."""
    assert catalog.similar(PHASH, max_distance, 10) == []

    assert operations.made == ["Query"] * queries


def test_search_is_bounded_where_many_look_the_same(
    catalog: Catalog, operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads so many a band and no more; those that are the very same are among them."""
    monkeypatch.setattr("chalicelib.aws.catalog.PROBED", 5)
    blank = "000000000000000f"
    filled(catalog, [hashed(number, blank) for number in range(20)])
    filled(catalog, [hashed(20, "000000000000ffff"), hashed(21, "000000000000ffff")])
    scanned = scanned_by(operations)

    assert len(alike(catalog, blank, 3)[0]) >= 5
    assert max(scanned) == 5
    assert alike(catalog, "000000000000ffff", 0) == {0: [20, 21]}


# ── requests that come twice ─────────────────────────────────────────────────────────────────────


def test_request_is_new_once(either: Catalog | FakeCatalog) -> None:
    """It leads to nothing until it is done, and then to the same image however often it comes."""
    assert either.claim("request", "asks this") is None
    assert either.claim("request", "asks this") is None

    either.fulfil("request", "an image")

    assert either.claim("request", "asks this") == "an image"
    assert either.claim("another", "asks this") is None


def test_request_that_asks_for_something_else_is_refused(either: Catalog | FakeCatalog) -> None:
    """Before and after the first one is done."""
    either.claim("request", "asks this")
    with pytest.raises(IdempotencyKeyReused):
        either.claim("request", "asks that")

    either.fulfil("request", "an image")
    with pytest.raises(IdempotencyKeyReused):
        either.claim("request", "asks that")


def test_request_is_forgotten_after_a_day(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DynamoDB deletes it some time after; until then it is as if it were not there."""
    now = time.time()
    catalog.claim("request", "asks this")
    catalog.fulfil("request", "an image")
    [claim] = everything(catalog)
    assert int(claim["expires_at"]["N"]) == pytest.approx(now + 24 * 3600, abs=60)

    monkeypatch.setattr("chalicelib.aws.catalog.time.time", lambda: now + 23 * 3600)
    assert catalog.claim("request", "asks this") == "an image"
    monkeypatch.setattr("chalicelib.aws.catalog.time.time", lambda: now + 25 * 3600)
    assert catalog.claim("request", "asks that") is None
    assert catalog.claim("request", "asks that") is None


def test_request_whose_claim_is_gone_is_let_be(catalog: Catalog) -> None:
    """Nothing is left behind that no request could be told from."""
    catalog.fulfil("request", "an image")

    assert everything(catalog) == []


def test_trouble_with_requests_goes_through_as_it_is(
    catalog: Catalog, operations: Operations
) -> None:
    """It says nothing of the request."""
    for operation in ("PutItem", "UpdateItem"):
        operations.before(f"dynamodb.{operation}", error_of("AccessDeniedException"))

    with pytest.raises(ClientError, match="AccessDenied"):
        catalog.claim("request", "asks this")
    with pytest.raises(ClientError, match="AccessDenied"):
        catalog.fulfil("request", "an image")


def test_of_claims_at_once_one_asks_first(catalog: Catalog) -> None:
    """Threads that ask for different things under one key: one of them is let in."""
    start = threading.Barrier(6, timeout=TIMEOUT_S)

    def claim(number: int) -> bool:
        start.wait()
        try:
            return catalog.claim("request", f"asks {number}") is None
        except IdempotencyKeyReused:
            return False

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(claim, range(6))) == 1
