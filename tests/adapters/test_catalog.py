"""The catalog on DynamoDB, and the one in memory that stands in for it: the same behaviour."""

import base64
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from chalicelib.aws.catalog import SHARDS, TOMBSTONE_TTL, Catalog
from chalicelib.errors import InvalidRequest, StaleRevision
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
    Original,
    OutputFormat,
    Page,
    Recognition,
    Rendition,
)
from localcloud.cloud import LocalCloud
from tests.adapters.conftest import Operations
from tests.fakes import FakeCatalog

MOMENT = datetime.fromisoformat("2026-01-31T09:15:00.000Z")


@pytest.fixture(params=["dynamodb", "memory"])
def either(request: pytest.FixtureRequest) -> Catalog | FakeCatalog:
    """The catalog, and its stand-in."""
    if request.param == "memory":
        return FakeCatalog()
    request.getfixturevalue("operations")
    catalog: Catalog = request.getfixturevalue("catalog")
    return catalog


def image(
    number: int = 0,
    *labels: Label,
    status: ImageStatus = ImageStatus.COMPLETED,
    seconds: int | None = None,
) -> Image:
    """The first record of an image; it was uploaded ``number`` seconds after the first one."""
    moment = timestamp(MOMENT + timedelta(seconds=number if seconds is None else seconds))
    original = Original(f"uploads/{number}.jpg", f"version-{number}", "etag", 1, "0" * 32, moment)
    return Image(original, status, 1, moment, recognition=Recognition(labels))


def rich_image() -> Image:
    """Every member has a value."""
    return replace(
        image(
            7, Label("Cat", 98.51, ("Animal", "Pet"), ("Animals",), (BoundingBox(0, 1, 0.5, 1e-4),))
        ),
        processed_at="2026-01-31T09:15:02.000Z",
        lease_until="2026-01-31T09:16:02.000Z",
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
        superseded=("thumbnails/old.jpg",),
        announced=True,
    )


def after(previous: Image, **changes: Any) -> Image:
    return replace(previous, revision=previous.revision + 1, **changes)


def keys(page: Page) -> list[str]:
    return [each.original.key for each in page.images]


def numbers(page: Page) -> list[int]:
    return [int(key.removeprefix("uploads/").removesuffix(".jpg")) for key in keys(page)]


# ── records ──────────────────────────────────────────────────────────────────────────────────────


def test_record_comes_back_as_it_was_saved(either: Catalog | FakeCatalog) -> None:
    """Every member, every number to the last digit, and nothing for an unknown id."""
    saved = rich_image()
    either.save(saved, previous=None)

    assert either.get(saved.image_id) == saved
    assert either.get("unknown") is None


def test_record_is_read_as_it_is_now(catalog: Catalog, operations: Operations) -> None:
    """Consistently: a stale read would lose a race that nobody else has run."""
    requests = operations.requests("dynamodb.GetItem")

    catalog.get("any")

    assert [request["ConsistentRead"] for request in requests] == [True]


def test_bare_record_comes_back_too(either: Catalog | FakeCatalog) -> None:
    """A record of a waiting image, most of whose members are empty."""
    waiting = image(status=ImageStatus.QUEUED)
    either.save(waiting, previous=None)

    assert either.get(waiting.image_id) == waiting


def test_first_write_wins(either: Catalog | FakeCatalog) -> None:
    """ABSENT: a record can be made once; the second is told, and changes nothing."""
    first = image(0, Label("Cat", 90))
    either.save(first, previous=None)

    for second in (image(0, Label("Dog", 90)), image(0, status=ImageStatus.QUEUED)):
        with pytest.raises(StaleRevision):
            either.save(second, previous=None)

    assert either.get(first.image_id) == first
    assert either.labelled(["Dog"], 10).images == ()


def test_write_on_a_stale_record_is_refused(either: Catalog | FakeCatalog) -> None:
    """UNCHANGED: who has read an old revision writes nothing, neither record nor labels."""
    old = image(0, status=ImageStatus.QUEUED)
    either.save(old, previous=None)
    new = after(old, status=ImageStatus.PROCESSING)
    either.save(new, previous=old)

    for late in (after(old, status=ImageStatus.DELETED), image(0, Label("Cat", 90))):
        with pytest.raises(StaleRevision):
            either.save(replace(late, revision=2), previous=old)

    assert either.get(old.image_id) == new
    assert either.labelled(["Cat"], 10).images == ()


def test_write_on_a_record_that_is_gone_is_refused(either: Catalog | FakeCatalog) -> None:
    """What was read but is no longer there has changed as well."""
    read = image(0)

    with pytest.raises(StaleRevision):
        either.save(after(read), previous=read)

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
            previous = image(number, status=ImageStatus.QUEUED)
            catalog.save(previous, previous=None)
        revision = 2 if previous else 1
        rivals = [
            replace(image(number, *labels), revision=revision, pipeline_version=name)
            for name in ("one", "other")
        ]
        outcomes = race(catalog, rivals, previous)

        winner = catalog.get(rivals[0].image_id)
        assert winner in rivals
        assert sorted(outcomes) == ["lost", "won"]
        assert winner is not None
        assert outcomes[rivals.index(winner)] == "won"


def race(catalog: Catalog, rivals: Sequence[Image], previous: Image | None) -> list[str]:
    start = threading.Barrier(len(rivals), timeout=10)
    outcomes = [""] * len(rivals)

    def write(number: int) -> None:
        start.wait()
        try:
            catalog.save(rivals[number], previous)
            outcomes[number] = "won"
        except StaleRevision:
            outcomes[number] = "lost"

    threads = [threading.Thread(target=write, args=(number,)) for number in range(len(rivals))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("TransactionCanceledException", "ThrottlingError"),
        ("ProvisionedThroughputExceededException", None),
    ],
)
def test_trouble_that_passes_is_no_stale_revision(
    catalog: Catalog, code: str, reason: str | None
) -> None:
    """Only what tells of somebody faster is converted; anything else goes through as it is."""
    reasons = {"CancellationReasons": [{"Code": "None"}, {"Code": reason}]} if reason else {}
    with Stubber(catalog.client) as stub:
        stub.add_client_error("transact_write_items", code, modeled_fields=reasons)

        with pytest.raises(ClientError, match=code):
            catalog.save(image(0, Label("Cat", 90)), previous=None)


@pytest.mark.parametrize("reason", ["ConditionalCheckFailed", "TransactionConflict"])
def test_whoever_meets_another_write_reads_again(catalog: Catalog, reason: str) -> None:
    """A write that was overtaken, and one that meets another just now, have to start again."""
    reasons = {"CancellationReasons": [{"Code": reason}]}
    with Stubber(catalog.client) as stub:
        stub.add_client_error(
            "transact_write_items", "TransactionCanceledException", modeled_fields=reasons
        )

        with pytest.raises(StaleRevision):
            catalog.save(image(0, Label("Cat", 90)), previous=None)


def test_tombstone_expires(catalog: Catalog, operations: Operations) -> None:
    """A deleted image is in no list, and DynamoDB forgets it after its time."""
    shown = image(0)
    catalog.save(shown, previous=None)
    deleted = after(shown, status=ImageStatus.DELETED, recognition=Recognition())
    catalog.save(deleted, previous=shown)

    item = stored(catalog, deleted)

    assert int(item["expires_at"]["N"]) == int((MOMENT + TOMBSTONE_TTL).timestamp())
    assert item.keys().isdisjoint({"listing", "listing_by_status", "listed_at"})
    assert catalog.get(deleted.image_id) == deleted
    assert operations.made[0] == "PutItem"


def test_record_that_is_used_again_does_not_expire(catalog: Catalog) -> None:
    """A new upload over a tombstone takes its end away."""
    deleted = image(0, status=ImageStatus.DELETED)
    catalog.save(deleted, previous=None)
    catalog.save(after(deleted, status=ImageStatus.QUEUED), previous=deleted)

    assert "expires_at" not in stored(catalog, deleted)


def stored(catalog: Catalog, one: Image) -> dict[str, Any]:
    """The item of a record as it lies in the table."""
    key = {"pk": {"S": f"IMAGE#{one.image_id}"}, "sk": {"S": "RECORD"}}
    item: dict[str, Any] = catalog.client.get_item(TableName=catalog.table, Key=key)["Item"]
    return item


# ── label entries ────────────────────────────────────────────────────────────────────────────────


def entries(cloud: LocalCloud, catalog: Catalog) -> dict[str, dict[str, float]]:
    """Every label entry in the table: label → its confidences. Looked at past the catalog."""
    items = cloud.client("dynamodb").scan(TableName=catalog.table)["Items"]
    found = {}
    for item in items:
        kind, _, rest = item["pk"]["S"].partition("#")
        if kind == "LABEL":
            confidences = item["confidences"]["M"]
            found[rest.rpartition("#")[0]] = {
                label: float(value["N"]) for label, value in confidences.items()
            }
    return found


def test_label_entries_follow_the_record(cloud: LocalCloud, catalog: Catalog) -> None:
    """Added on completion, changed with the labels, gone on replacement, failure and deletion."""
    waiting = image(0, status=ImageStatus.QUEUED)
    catalog.save(waiting, previous=None)
    assert entries(cloud, catalog) == {}

    done = after(
        waiting,
        status=ImageStatus.COMPLETED,
        recognition=Recognition((Label("Cat", 98.5), Label("Sofa", 75))),
    )
    catalog.save(done, previous=waiting)
    both = {"cat": 98.5, "sofa": 75.0}
    assert entries(cloud, catalog) == {"cat": both, "sofa": both}

    changed = after(done, recognition=Recognition((Label("Cat", 91), Label("Dog", 80))))
    catalog.save(changed, previous=done)
    both = {"cat": 91.0, "dog": 80.0}
    assert entries(cloud, catalog) == {"cat": both, "dog": both}

    for status in (ImageStatus.QUEUED, ImageStatus.FAILED, ImageStatus.DELETED):
        over = after(changed, status=status, recognition=Recognition())
        catalog.save(over, previous=changed)
        assert entries(cloud, catalog) == {}
        catalog.save(replace(changed, revision=over.revision + 1), previous=over)
        changed = replace(changed, revision=over.revision + 1)


def test_replaced_image_takes_its_entries_along(cloud: LocalCloud, catalog: Catalog) -> None:
    """A newer upload has another time, and so another place in the lists."""
    first = image(0, Label("Cat", 90))
    catalog.save(first, previous=None)
    newer = replace(first.original, uploaded_at="2026-02-01T00:00:00.000Z")

    catalog.save(after(first, original=newer), previous=first)

    assert list(entries(cloud, catalog)) == ["cat"]
    assert len(catalog.labelled(["cat"], 10).images) == 1


def test_what_does_not_change_is_not_written_again(
    catalog: Catalog, operations: Operations
) -> None:
    """Marking an image as announced is one write, and no transaction over all its labels."""
    done = image(0, Label("Cat", 90), Label("Dog", 80))
    catalog.save(done, previous=None)
    operations.clear()

    catalog.save(after(done, announced=True), previous=done)

    assert operations.made == ["PutItem"]
    assert len(catalog.labelled(["cat", "dog"], 10).images) == 1


def test_most_labels_that_are_asked_for_can_be_stored(catalog: Catalog) -> None:
    """A completed image of 90 labels fits into one transaction, and can be replaced."""
    crowded = image(0, *(Label(f"Label {number}", 80 + number / 10) for number in range(90)))
    catalog.save(crowded, previous=None)
    assert len(catalog.labelled(["label 89"], 10).images) == 1

    waiting = after(crowded, status=ImageStatus.QUEUED, recognition=Recognition())
    catalog.save(waiting, previous=crowded)

    assert catalog.labelled(["label 89"], 10).images == ()


# ── lists ────────────────────────────────────────────────────────────────────────────────────────


def filled(either: Catalog | FakeCatalog, images: Sequence[Image]) -> None:
    for each in images:
        either.save(each, previous=None)


def all_pages(
    either: Catalog | FakeCatalog, limit: int, labels: Sequence[str] = ()
) -> list[list[int]]:
    pages = []
    cursor = None
    while True:
        page = either.labelled(labels, limit, cursor) if labels else either.newest(limit, cursor)
        pages.append(numbers(page))
        cursor = page.cursor
        if cursor is None:
            return pages


def test_empty_catalog_has_one_empty_page(either: Catalog | FakeCatalog) -> None:
    """Nothing there is no error, and no cursor to nowhere."""
    assert either.newest(10) == Page((), None)
    assert either.labelled(["Cat"], 10) == Page((), None)


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
    images = [image(number, status=ImageStatus.QUEUED) for number in range(3)]
    filled(either, images)
    either.save(after(images[1], status=ImageStatus.FAILED), previous=images[1])
    either.save(after(images[2], status=ImageStatus.DELETED), previous=images[2])

    assert numbers(either.newest(10, status=ImageStatus.QUEUED)) == [0]
    assert numbers(either.newest(10, status=ImageStatus.FAILED)) == [1]
    assert numbers(either.newest(10, status=ImageStatus.COMPLETED)) == []
    assert numbers(either.newest(10)) == [1, 0]


def test_list_by_labels_asks_for_all_of_them(either: Catalog | FakeCatalog) -> None:
    """In whatever case, each with the confidence asked for; only of completed images."""
    filled(
        either,
        [
            image(0, Label("Cat", 99.5), Label("Dog", 70)),
            image(1, Label("Cat", 80)),
            image(2, Label("Dog", 99)),
            image(3, Label("Cat", 95), Label("Dog", 95), Label("Grüße #1", 80)),
            image(4, Label("Cat", 99), status=ImageStatus.QUEUED),
        ],
    )

    def found(*labels: str, min_confidence: float = 0) -> list[int]:
        return numbers(either.labelled(labels, 10, min_confidence=min_confidence))

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

    page = either.labelled(["Cat"], 1, min_confidence=90)

    assert (numbers(page), page.cursor) == ([0], None)


def test_image_deleted_between_pages_is_left_out(either: Catalog | FakeCatalog) -> None:
    """What goes away while somebody turns pages shifts nothing on the next ones."""
    images = [image(number) for number in range(6)]
    filled(either, images)
    first = either.newest(2)
    if isinstance(either, Catalog):  # the one in memory counts its way from the start
        either.save(after(images[5], status=ImageStatus.DELETED), previous=images[5])
    either.save(after(images[3], status=ImageStatus.DELETED), previous=images[3])

    assert numbers(first) == [5, 4]
    assert numbers(either.newest(2, first.cursor)) == [2, 1]


def test_record_that_vanishes_behind_the_index_is_left_out(catalog: Catalog) -> None:
    """An index lags behind: what is deleted, or gone, between index and record is not shown."""
    images = [image(number, Label("Cat", 90)) for number in range(3)]
    filled(catalog, images)
    gone = {"pk": {"S": f"IMAGE#{images[1].image_id}"}, "sk": {"S": "RECORD"}}
    catalog.client.delete_item(TableName=catalog.table, Key=gone)

    assert numbers(catalog.labelled(["cat"], 10)) == [2, 0]


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

    assert numbers(catalog.newest(105)) == list(range(104, -1, -1))
    assert operations.made.count("Query") == SHARDS
    assert operations.made.count("BatchGetItem") == 2


def encoded(position: bytes | str) -> str:
    """A cursor as the catalog writes them, of whatever position."""
    position = position.encode() if isinstance(position, str) else position
    return base64.urlsafe_b64encode(position).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "é",
        "====",
        "AAAA",
        encoded(b"not ours"),
        encoded(b"\xff\xff\xff"),
        encoded(b"2026-01-31T09:15:00.000Z"),
        encoded(b"2026-01-31T09:15:00.000Z#"),
        encoded(b"2026-01-31T09:15:00.000Z#" + b"a" * 25),
        encoded(b"2026-01-31T09:15:00.000Z#" + b"a" * 2000),
        encoded("2026-01-31T09:15:00.000Z#" + "é" * 26),
        encoded(b"yesterday#" + b"a" * 26),
    ],
)
def test_cursor_that_is_not_ours_is_refused(catalog: Catalog, cursor: str) -> None:
    """Whatever a client makes up, it is the request that is wrong."""
    with pytest.raises(InvalidRequest, match="The cursor is not one of ours"):
        catalog.newest(10, cursor)
    with pytest.raises(InvalidRequest, match="The cursor is not one of ours"):
        catalog.labelled(["cat"], 10, cursor)


def test_cursor_is_safe_in_a_url(catalog: Catalog) -> None:
    """Clients put it into a query string as it is."""
    filled(catalog, [image(number) for number in range(2)])

    cursor = catalog.newest(1).cursor

    assert cursor is not None
    assert all(char.isascii() and (char.isalnum() or char in "-_") for char in cursor)


@pytest.mark.usefixtures("operations")
def test_scan_would_be_noticed(catalog: Catalog) -> None:
    """The hook that watches for scans sees one."""
    with pytest.raises(AssertionError, match="read by queries"):
        catalog.client.scan(TableName=catalog.table)
