"""Which image had some bytes first: one at a time, however many come at once."""

import io
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError
from urllib3 import HTTPHeaderDict, HTTPResponse

from chalicelib.aws.catalog import Catalog
from chalicelib.aws.layout import first_key
from chalicelib.messages import timestamp
from chalicelib.model import (
    RETRIES_EXHAUSTED,
    Duplicate,
    Failure,
    Fingerprint,
    Image,
    ImageStatus,
    Recognition,
)
from localcloud.cloud import LocalCloud
from tests.adapters.conftest import Operations, error_of
from tests.adapters.images import MOMENT, changed, filled, image, some_labels
from tests.fakes import FakeCatalog
from tests.waiting import TIMEOUT_S

BYTES, OTHERS = "a" * 64, "b" * 64
LOOKS = Fingerprint("0f1e2d3c4b5a6978", "", (), BYTES)
GIVEN_UP = Failure(RETRIES_EXHAUSTED, "Given up.")
CORRUPT = Failure("corrupt_image", "It is no picture.")


@pytest.fixture(params=["dynamodb", "memory"])
def either(request: pytest.FixtureRequest) -> Catalog | FakeCatalog:
    """The catalog, and its stand-in."""
    if request.param == "memory":
        return FakeCatalog()
    request.getfixturevalue("operations")
    catalog: Catalog = request.getfixturevalue("catalog")
    return catalog


def in_work(either: Catalog | FakeCatalog, number: int) -> Image:
    """An image whose bytes somebody is looking at."""
    return either.save(image(number, status=ImageStatus.PROCESSING, attempt=1), previous=None)


def in_work_again(either: Catalog | FakeCatalog, one: Image) -> Image:
    again = {"status": ImageStatus.PROCESSING, "attempt": one.attempt + 1, "failure": None}
    return changed(either, one, **again)


def looked_at(either: Catalog | FakeCatalog, one: Image) -> Image:
    """The image once it is completed, of these bytes, which it had first."""
    assert either.first_of(BYTES, one.original) is None
    return changed(either, one, status=ImageStatus.COMPLETED, fingerprint=LOOKS)


def named(catalog: Catalog, sha256: str = BYTES) -> str | None:
    """The id of the image that is named as the first."""
    answer = catalog.client.get_item(TableName=catalog.table, Key=first_key(sha256))
    return answer["Item"]["image_id"]["S"] if "Item" in answer else None


# ── one is the first ─────────────────────────────────────────────────────────────────────────────


def test_first_is_told_to_all_that_come_after(either: Catalog | FakeCatalog) -> None:
    """As it is now: in work, completed, withheld. Other bytes have another first."""
    first, second, third = (in_work(either, number) for number in range(3))

    assert either.first_of(BYTES, first.original) is None
    assert either.first_of(BYTES, second.original) == first
    assert either.first_of(OTHERS, third.original) is None

    first = changed(either, first, status=ImageStatus.COMPLETED, fingerprint=LOOKS)
    assert either.first_of(BYTES, third.original) == first
    first = changed(either, first, status=ImageStatus.QUARANTINED)
    assert either.first_of(BYTES, second.original) == first


def test_first_stays_the_first_however_often_it_asks(either: Catalog | FakeCatalog) -> None:
    """Tried again, or processed again with other settings: it is no duplicate of itself."""
    first, second = (in_work(either, number) for number in range(2))
    for _ in range(2):
        assert either.first_of(BYTES, first.original) is None
    done = looked_at(either, first)

    for status in (ImageStatus.QUEUED, ImageStatus.PROCESSING):
        done = changed(either, done, status=status)
        assert either.first_of(BYTES, second.original) == done, "it keeps what it had"
    assert either.first_of(BYTES, first.original) is None


def test_of_images_at_once_one_is_the_first(catalog: Catalog) -> None:
    """Threads that ask for the same bytes: the others are all told of that one."""
    images = [in_work(catalog, number) for number in range(10)]

    firsts = asked_at_once(catalog, images)

    [winner] = [one for one, first in zip(images, firsts, strict=True) if first is None]
    assert named(catalog) == winner.image_id
    assert [first for first in firsts if first] == [winner] * 9


def test_of_images_at_once_one_takes_a_place_over(catalog: Catalog) -> None:
    """Where the first of all is no more."""
    gone, *images = (in_work(catalog, number) for number in range(9))
    catalog.first_of(BYTES, gone.original)
    changed(catalog, gone, status=ImageStatus.FAILED, failure=CORRUPT)

    firsts = asked_at_once(catalog, images)

    [winner] = [one for one, first in zip(images, firsts, strict=True) if first is None]
    assert named(catalog) == winner.image_id
    assert [first for first in firsts if first] == [winner] * 7


def asked_at_once(catalog: Catalog, images: Sequence[Image]) -> list[Image | None]:
    start = threading.Barrier(len(images), timeout=TIMEOUT_S)

    def ask(one: Image) -> Image | None:
        start.wait()
        return catalog.first_of(BYTES, one.original)

    with ThreadPoolExecutor(len(images)) as pool:
        return list(pool.map(ask, images))


# ── who takes its place ──────────────────────────────────────────────────────────────────────────


def deleted(either: Catalog | FakeCatalog, one: Image) -> Image:
    gone = {"status": ImageStatus.DELETED, "fingerprint": None, "recognition": Recognition()}
    return changed(either, one, **gone)


def deleted_with_all(either: Catalog | FakeCatalog, one: Image) -> Image:
    """No tombstone keeps a fingerprint, but if one did."""
    return changed(either, one, status=ImageStatus.DELETED)


def failed(either: Catalog | FakeCatalog, one: Image) -> Image:
    return changed(either, one, status=ImageStatus.FAILED, fingerprint=None, failure=CORRUPT)


def replaced(either: Catalog | FakeCatalog, one: Image) -> Image:
    """By a version that waits: of which bytes it is, nobody knows."""
    newer = replace(one.original, version_id="newer", etag="newer")
    return changed(either, one, status=ImageStatus.QUEUED, original=newer, fingerprint=None)


def replaced_and_in_work(either: Catalog | FakeCatalog, one: Image) -> Image:
    """By a version that somebody has begun to look at: of its bytes nothing is known yet."""
    return in_work_again(either, replaced(either, one))


def of_other_bytes(either: Catalog | FakeCatalog, one: Image) -> Image:
    other = replace(LOOKS, sha256=OTHERS)
    return changed(either, one, status=ImageStatus.COMPLETED, fingerprint=other)


def vanished(either: Catalog | FakeCatalog, one: Image) -> None:
    """As a tombstone does after its time."""
    if isinstance(either, FakeCatalog):
        del either.records[one.image_id]
        return
    key = {"pk": {"S": f"IMAGE#{one.image_id}"}, "sk": {"S": "RECORD"}}
    either.client.delete_item(TableName=either.table, Key=key)


def handed_back(either: Catalog | FakeCatalog, one: Image) -> Image:
    return changed(either, one, status=ImageStatus.QUEUED)


ENDS: list[Callable[[Catalog | FakeCatalog, Image], object]] = [
    *(deleted, failed, replaced, replaced_and_in_work, of_other_bytes, vanished),
]


@pytest.mark.parametrize("end", [*ENDS, handed_back], ids=lambda end: end.__name__)
def test_place_of_one_that_was_in_work_is_taken_over(
    either: Catalog | FakeCatalog, end: Callable[[Catalog | FakeCatalog, Image], object]
) -> None:
    """Whatever became of it before its bytes were recorded; the next is the first from then on."""
    gone, second, third = (in_work(either, number) for number in range(3))
    either.first_of(BYTES, gone.original)
    end(either, gone)

    assert either.first_of(BYTES, second.original) is None
    assert either.first_of(BYTES, third.original) == second
    assert either.first_of(BYTES, gone.original) == second


@pytest.mark.parametrize("end", [*ENDS, deleted_with_all], ids=lambda end: end.__name__)
def test_place_of_one_that_has_its_bytes_no_more_is_taken_over(
    either: Catalog | FakeCatalog, end: Callable[[Catalog | FakeCatalog, Image], object]
) -> None:
    """And it comes as a copy when it comes again."""
    gone = looked_at(either, in_work(either, 0))
    second, third = (in_work(either, number) for number in (1, 2))
    end(either, gone)

    assert either.first_of(BYTES, second.original) is None
    assert either.first_of(BYTES, third.original) == second
    assert either.first_of(BYTES, gone.original) == second


@pytest.mark.parametrize("status", [ImageStatus.QUEUED, ImageStatus.PROCESSING, ImageStatus.FAILED])
def test_place_of_one_that_still_has_its_bytes_stays(
    either: Catalog | FakeCatalog, status: ImageStatus
) -> None:
    """It is processed again, or was given up at that: it keeps what it had."""
    first = looked_at(either, in_work(either, 0))
    second = in_work(either, 1)

    first = changed(either, first, status=status, failure=GIVEN_UP)

    assert either.first_of(BYTES, second.original) == first


def test_holder_that_is_tried_again_meanwhile_stays_the_first(
    catalog: Catalog, operations: Operations
) -> None:
    """Failed when somebody looked at it, in work and first again before its place was taken."""
    first, second = (in_work(catalog, number) for number in range(2))
    catalog.first_of(BYTES, first.original)
    first = failed(catalog, first)
    again: list[Image] = []

    def try_again() -> None:
        again.append(in_work_again(catalog, first))
        assert catalog.first_of(BYTES, first.original) is None

    operations.before("dynamodb.PutItem", None, try_again)

    assert catalog.first_of(BYTES, second.original) == again[0]
    assert named(catalog) == first.image_id


def test_holder_that_is_tried_again_too_late_is_a_copy(
    catalog: Catalog, operations: Operations
) -> None:
    """It had its place taken before it could say that it is in work again."""
    first, second = (in_work(catalog, number) for number in range(2))
    catalog.first_of(BYTES, first.original)
    first = failed(catalog, first)
    operations.before("dynamodb.PutItem", None, lambda: in_work_again(catalog, first))

    assert catalog.first_of(BYTES, second.original) is None
    assert catalog.first_of(BYTES, first.original) == second


def test_place_that_is_given_back_meanwhile_is_free(
    catalog: Catalog, operations: Operations
) -> None:
    """Its holder was deleted between the question and the look at it."""
    first, second = looked_at(catalog, in_work(catalog, 0)), in_work(catalog, 1)
    operations.before("dynamodb.GetItem", lambda: deleted(catalog, first))

    assert catalog.first_of(BYTES, second.original) is None
    assert named(catalog) == second.image_id


# ── the entry ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("end", [deleted, deleted_with_all, failed, replaced, of_other_bytes])
def test_entry_goes_with_the_bytes(
    catalog: Catalog, end: Callable[[Catalog | FakeCatalog, Image], object]
) -> None:
    """Nothing is left of an image that was deleted, replaced, or failed for good."""
    first = looked_at(catalog, in_work(catalog, 0))
    assert named(catalog) == first.image_id

    end(catalog, first)

    assert named(catalog) is None


@pytest.mark.parametrize("end", [*ENDS, handed_back], ids=lambda end: end.__name__)
def test_entry_of_one_that_was_in_work_is_given_back(
    catalog: Catalog, end: Callable[[Catalog | FakeCatalog, Image], object]
) -> None:
    """Its record never told of these bytes: whoever looked at them says so once it is over."""
    gone = in_work(catalog, 0)
    catalog.first_of(BYTES, gone.original)
    end(catalog, gone)
    assert named(catalog) == gone.image_id

    for _ in range(2):
        catalog.give_back(BYTES, gone.image_id)

    assert named(catalog) is None


@pytest.mark.parametrize("become", [in_work_again, looked_at], ids=lambda become: become.__name__)
def test_entry_that_holds_is_not_given_back(
    either: Catalog | FakeCatalog, become: Callable[[Catalog | FakeCatalog, Image], Image]
) -> None:
    """Whoever is late has nothing to say of an image that somebody else is at, or was."""
    first, second = (in_work(either, number) for number in range(2))
    either.first_of(BYTES, first.original)
    first = become(either, first)

    for each in (first, second):
        either.give_back(BYTES, each.image_id)

    assert either.first_of(BYTES, second.original) == first


def test_entry_that_is_put_down_anew_meanwhile_is_not_given_back(
    catalog: Catalog, operations: Operations
) -> None:
    """The image was tried again between the look at it and the end of its entry."""
    first = in_work(catalog, 0)
    catalog.first_of(BYTES, first.original)
    first = failed(catalog, first)

    def try_again() -> None:
        in_work_again(catalog, first)
        assert catalog.first_of(BYTES, first.original) is None

    operations.before("dynamodb.DeleteItem", try_again)
    catalog.give_back(BYTES, first.image_id)

    assert named(catalog) == first.image_id


@pytest.mark.parametrize("is_recorded", [True, False])
def test_entry_of_before_is_believed_if_the_record_tells(
    catalog: Catalog,
    is_recorded: bool,  # noqa: FBT001 - a parameter
) -> None:
    """It does not say what it was put down for, and that may be a version that was replaced."""
    first, second = (in_work(catalog, number) for number in range(2))
    catalog.first_of(BYTES, first.original)
    catalog.client.update_item(
        TableName=catalog.table, Key=first_key(BYTES), UpdateExpression="REMOVE etag"
    )
    if is_recorded:
        first = changed(catalog, first, fingerprint=LOOKS)

    assert catalog.first_of(BYTES, second.original) == (first if is_recorded else None)


def test_entry_of_another_stays(catalog: Catalog) -> None:
    """A copy that goes takes nothing with it, nor does a first whose place was taken."""
    first, copy = looked_at(catalog, in_work(catalog, 0)), in_work(catalog, 1)
    duplicates = (Duplicate(first.image_id, 0, is_exact=True),)
    done = {"status": ImageStatus.COMPLETED, "fingerprint": LOOKS, "duplicates": duplicates}

    deleted(catalog, changed(catalog, copy, **done))

    assert named(catalog) == first.image_id


def test_entry_stays_while_its_image_is_processed_again(
    catalog: Catalog, operations: Operations
) -> None:
    """With other labels and other looks, in as many steps as that takes: never is it free."""
    first = looked_at(catalog, in_work(catalog, 0))
    first = changed(catalog, first, recognition=Recognition(tuple(some_labels(94, "Old"))))
    there: list[bool] = []
    look = [lambda: there.append(named(catalog) == first.image_id)] * 5
    operations.before("dynamodb.TransactWriteItems", *look)
    operations.clear()

    changed(
        *(catalog, first),
        recognition=Recognition(tuple(some_labels(94, "New"))),
        fingerprint=replace(LOOKS, phash="f" * 16),
    )

    assert there == [True] * 3
    assert named(catalog) == first.image_id
    assert "DeleteItem" not in operations.made


def test_entry_comes_back_with_the_image(either: Catalog | FakeCatalog) -> None:
    """Uploaded again under the same key: it is the first again, and then another's first."""
    first = looked_at(either, in_work(either, 0))
    tombstone = deleted(either, first)
    newer = replace(first.original, uploaded_at=timestamp(MOMENT + timedelta(days=1)))

    again = changed(either, tombstone, status=ImageStatus.PROCESSING, original=newer)
    again = looked_at(either, again)

    assert either.first_of(BYTES, in_work(either, 1).original) == again


def test_bytes_that_are_unknown_have_no_first(catalog: Catalog, operations: Operations) -> None:
    """Images of before have no hash of their bytes: none is written, none is taken back."""
    [old] = filled(catalog, [image(0, fingerprint=replace(LOOKS, sha256=""))])
    deleted(catalog, old)

    assert named(catalog, "") is None
    assert "DeleteItem" not in operations.made


# ── trouble ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("is_taken", [False, True])
def test_lost_answer_is_no_defeat(
    catalog: Catalog,
    operations: Operations,
    cloud: LocalCloud,
    is_taken: bool,  # noqa: FBT001 - a parameter
) -> None:
    """The SDK repeats the write and finds its own: the image is the first, not its own copy."""
    gone, one = (in_work(catalog, number) for number in range(2))
    if is_taken:
        catalog.first_of(BYTES, gone.original)
        failed(catalog, gone)
    bystander = cloud.client("dynamodb")
    requests = operations.requests("dynamodb.PutItem")
    sent: list[int] = []

    def lose_the_answer() -> Any:
        sent.append(len(requests))
        if len(sent) != 1 + is_taken:
            return None
        bystander.put_item(**requests[-1])
        return AWSResponse("", 500, HTTPHeaderDict(), HTTPResponse(io.BytesIO()))

    operations.answer("dynamodb.PutItem", lose_the_answer)

    assert catalog.first_of(BYTES, one.original) is None
    assert named(catalog) == one.image_id
    assert sent == ([1, 2, 2] if is_taken else [1, 1])


@pytest.mark.parametrize("call", ["PutItem", "GetItem"])
def test_trouble_goes_through_as_it_is(catalog: Catalog, operations: Operations, call: str) -> None:
    """It says nothing of who was first."""
    first, second = (in_work(catalog, number) for number in range(2))
    catalog.first_of(BYTES, first.original)
    operations.before(f"dynamodb.{call}", error_of("AccessDeniedException"))

    with pytest.raises(ClientError, match="AccessDenied"):
        catalog.first_of(BYTES, second.original)


def test_write_that_meets_another_is_repeated(catalog: Catalog, operations: Operations) -> None:
    """A transaction that is at the entry just then says nothing of who was first."""
    one = in_work(catalog, 0)
    operations.before("dynamodb.PutItem", error_of("TransactionConflictException"))

    assert catalog.first_of(BYTES, one.original) is None


def test_entry_that_could_not_be_taken_back_is_passed_over(
    catalog: Catalog, operations: Operations
) -> None:
    """The record tells by then: nobody takes what is left for the first."""
    first, second = looked_at(catalog, in_work(catalog, 0)), in_work(catalog, 1)
    operations.before("dynamodb.DeleteItem", error_of("AccessDeniedException"))
    with pytest.raises(ClientError, match="AccessDenied"):
        deleted(catalog, first)
    tombstone = catalog.get(first.image_id)
    assert tombstone is not None
    assert tombstone.status is ImageStatus.DELETED
    assert named(catalog) == first.image_id

    assert catalog.first_of(BYTES, second.original) is None
    assert named(catalog) == second.image_id
