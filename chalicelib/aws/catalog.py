"""DynamoDB: the catalog. One table, read by queries and by key, never by a scan.

======================== ============================== ==========================================
what                     ``pk``                         ``sk``
======================== ============================== ==========================================
the record of an image   ``IMAGE#<image id>``           ``RECORD``
a label of an image      ``LABEL#<label>#<shard>``      ``<uploaded at>#<image id>``
images with a label      ``COUNTS#<shard>``             ``<label>``
where a pass has come to ``BOOKMARK#<name>``            ``POSITION``
======================== ============================== ==========================================

Records carry ``listing`` (the shard), ``listing_by_status`` (status and shard) and ``listed_at``
(upload time and image id), the keys of the two indexes of the same names, newest last. Deleted
images carry none of them and so leave the lists at once. While something is left to do for an
image, it also carries ``unsettled`` (the shard), the key of a third index, by ``updated_at``.

A partition takes 1,000 writes a second at most, and every image of a moment sorts next to its
neighbours. So each list, each label and each count is spread over ``SHARDS`` partitions by image
id, and a page is merged from one query a shard.
"""

import base64
import heapq
import random
import re
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count, islice
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import ClientError

from chalicelib.aws import batches
from chalicelib.errors import InvalidRequest, StaleRevision, Throttled
from chalicelib.model import Image, ImageStatus, Page, Recognition
from chalicelib.plain import from_plain, to_plain

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

SHARDS = 8
TOMBSTONE_TTL = timedelta(days=30)
"""How long a deleted image is remembered, so that a late event of its upload cannot revive it."""

# Conditions of a write. Every write is of a record as it was read: whoever was faster wins.
ABSENT = "attribute_not_exists(pk)"  # nobody has recorded this image yet
UNCHANGED = "revision = :revision"  # nobody has written since it was read

POSITION = r"[^#]+#[a-z2-7]{26}"
"""Of an image in a list. Nothing else may become a key: DynamoDB refuses those over 1 KB."""

LATEST = ":"  # sorts behind every position: they begin with the digits of a year

# Why a write was refused; the second of each is a reason of a cancelled transaction.
STALE = ("ConditionalCheckFailedException", "ConditionalCheckFailed")
BUSY = (
    *("TransactionConflictException", "TransactionConflict"),
    *("ThrottlingException", "ThrottlingError"),
    *("ProvisionedThroughputExceededException", "ProvisionedThroughputExceeded"),
)
BUSY_ATTEMPTS = 6

WRITES = 100
"""TransactWriteItems takes at most 100 items."""

READ_BATCH = 100
"""BatchGetItem takes at most 100 keys."""

LISTED_KEYS = (
    *("pk", "sk", "listing", "listing_by_status", "listed_at", "unsettled", "expires_at"),
)

_serialize = TypeSerializer().serialize
deserialize = TypeDeserializer().deserialize


@dataclass(frozen=True, slots=True)
class Catalog:
    client: "DynamoDBClient"
    table: str

    def get(self, image_id: str) -> Image | None:
        """The record as it is now (a consistent read), or None."""
        answer = self.client.get_item(
            TableName=self.table, Key=record_key(image_id), ConsistentRead=True
        )
        return image_of(answer["Item"]) if "Item" in answer else None

    def get_many(self, image_ids: Sequence[str]) -> dict[str, Image]:
        """The records of these images, by id, as of a moment ago; what is not there is left out."""
        found: dict[str, Image] = {}
        for batch in batches(dict.fromkeys(image_ids), READ_BATCH):
            keys = [record_key(image_id) for image_id in batch]
            while keys:
                answer = self.client.batch_get_item(RequestItems={self.table: {"Keys": keys}})
                for item in answer["Responses"].get(self.table, ()):
                    image = image_of(item)
                    found[image.image_id] = image
                unread = answer["UnprocessedKeys"].get(self.table)
                keys = list(unread["Keys"]) if unread else []
        return found

    def save(self, image: Image, previous: Image | None) -> Image:
        """Write a record and, in the same transaction, what changes of its labels.

        ``previous`` is the record as it was read, None where there was none. Gives the record with
        its new revision. Raises StaleRevision, and writes nothing, when the record has changed
        since it was read; but where most of many labels are others now, the old ones may be off.
        """
        saved = replace(image, revision=previous.revision + 1 if previous else 1)
        record: Any = {
            "TableName": self.table,
            "Item": _record_of(saved),
            "ConditionExpression": UNCHANGED if previous else ABSENT,
        }
        if previous:
            record["ExpressionAttributeValues"] = {":revision": {"N": str(previous.revision)}}
        labels = self._label_writes(saved, previous)
        if previous and image.recognition.labels and len(labels) >= WRITES:
            bare = self.save(replace(previous, recognition=Recognition()), previous)
            return self.save(image, bare)
        if labels:
            self._write(
                lambda: self.client.transact_write_items(TransactItems=[{"Put": record}, *labels])
            )
        else:  # a transaction costs twice the capacity of a single write
            self._write(lambda: self.client.put_item(**record))
        return saved

    def _label_writes(self, image: Image, previous: Image | None) -> list[Any]:
        """What makes the labels' entries and counts those of the image, and no longer the old."""
        entries, labels = label_entries(image), counted(image)
        written = label_entries(previous) if previous else {}
        before = counted(previous) if previous else {}
        puts = [
            {"Put": {"TableName": self.table, "Item": entry}}
            for key, entry in entries.items()
            if written.get(key) != entry
        ]
        deletes = [
            {"Delete": {"TableName": self.table, "Key": item_key(*key)}}
            for key in sorted(written.keys() - entries.keys())
        ]
        changes = dict.fromkeys(labels.keys() - before.keys(), 1)
        changes |= dict.fromkeys(before.keys() - labels.keys(), -1)
        counts = [
            {
                "Update": {
                    "TableName": self.table,
                    "Key": count_key(name, _shard_of(image.image_id)),
                    "UpdateExpression": "SET #label = :label ADD #images :change",
                    "ExpressionAttributeNames": {"#label": "label", "#images": "images"},
                    "ExpressionAttributeValues": {
                        ":label": {"S": (before | labels)[name]},
                        ":change": {"N": str(change)},
                    },
                }
            }
            for name, change in sorted(changes.items())
        ]
        return [*puts, *deletes, *counts]

    def _write(self, write: Callable[[], object]) -> None:
        """A conditional write. Raises StaleRevision where its condition does not hold.

        A conflict with another transaction, most likely over a count of a common label, says
        nothing of the record, nor does throttling: the write is repeated a few times, and then
        Throttled is raised.
        """
        for attempt in count(1):
            try:
                write()
            except ClientError as error:
                codes = codes_of(error)
                if not codes.isdisjoint(STALE):
                    raise StaleRevision("The record has changed since it was read.") from error
                if codes.isdisjoint(BUSY):
                    raise
                if attempt == BUSY_ATTEMPTS:
                    raise Throttled("The catalog takes no more writes for now.") from error
                time.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311 - no secret
            else:
                return

    def unsettled(self, before: str) -> Iterator[Image]:
        """The images with something left to do that were last written before that time.

        Longest first within a shard; a sparse index holds just these.
        """
        query: dict[str, Any] = {
            "TableName": self.table,
            "IndexName": "unsettled",
            "KeyConditionExpression": "unsettled = :shard AND updated_at < :before",
        }
        for shard in range(SHARDS):
            values = {":shard": {"S": str(shard)}, ":before": {"S": before}}
            pages = self.client.get_paginator("query").paginate(
                **query, ExpressionAttributeValues=values
            )
            entries = (entry for page in pages for entry in page["Items"])
            for batch in batches(entries, READ_BATCH):
                ids = [entry["pk"]["S"].removeprefix("IMAGE#") for entry in batch]
                images = self.get_many(ids)
                yield from (images[image_id] for image_id in ids if image_id in images)

    def bookmark(self, name: str) -> str:
        """Where a long pass over something has come to; empty at its beginning."""
        answer = self.client.get_item(TableName=self.table, Key=_bookmark_key(name))
        return answer["Item"]["position"]["S"] if "Item" in answer else ""

    def set_bookmark(self, name: str, position: str) -> None:
        self.client.put_item(
            TableName=self.table, Item=_bookmark_key(name) | {"position": {"S": position}}
        )

    def newest(
        self, limit: int, cursor: str | None = None, status: ImageStatus | None = None
    ) -> Page:
        """A page of all images, or of those in one status."""
        index = "listing" if status is None else "listing_by_status"
        query = _newest_first(cursor, index) | {"Limit": limit + 1}
        partitions = [f"{status}#{shard}" if status else str(shard) for shard in range(SHARDS)]
        return self._page(query, partitions, limit)

    def labelled(
        self,
        labels: Sequence[str],
        limit: int,
        cursor: str | None = None,
        min_confidence: float = 0,
    ) -> Page:
        """A page of the images that have all these labels, in whatever case."""
        names = [label.casefold() for label in labels]
        query = _newest_first(cursor)  # no Limit: it would count what the filter drops
        tests = []
        for number, name in enumerate(dict.fromkeys(names)):
            query["ExpressionAttributeNames"][f"#label{number}"] = name
            tests.append(f"confidences.#label{number} >= :least")
        query["ExpressionAttributeValues"][":least"] = {"N": str(min_confidence)}
        query["FilterExpression"] = " AND ".join(tests)
        partitions = [label_partition(names[0], shard) for shard in range(SHARDS)]
        return self._page(query, partitions, limit)

    def _page(self, query: dict[str, Any], partitions: Sequence[str], limit: int) -> Page:
        """A page merged from the same query of each partition."""
        lists = [self._positions(query, partition) for partition in partitions]
        positions = list(islice(heapq.merge(*lists, reverse=True), limit + 1))
        page = positions[:limit]
        images = self._records([position.rpartition("#")[2] for position in page])
        return Page(images, _cursor_of(page[-1]) if len(positions) > limit else None)

    def _positions(self, query: dict[str, Any], partition: str) -> Iterator[str]:
        """Positions (``<uploaded at>#<image id>``) of one partition, newest first, lazily."""
        sort_key = query["ExpressionAttributeNames"]["#sort"]
        values = query["ExpressionAttributeValues"] | {":partition": {"S": partition}}
        query = query | {"TableName": self.table, "ExpressionAttributeValues": values}
        while True:
            answer = self.client.query(**query)
            yield from (entry[sort_key]["S"] for entry in answer["Items"])
            if "LastEvaluatedKey" not in answer:
                return
            query["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def _records(self, image_ids: Sequence[str]) -> tuple[Image, ...]:
        """The records of these images in this order; one deleted meanwhile is left out."""
        found = self.get_many(image_ids)
        return tuple(
            found[image_id]
            for image_id in image_ids
            if image_id in found and found[image_id].status is not ImageStatus.DELETED
        )


def _newest_first(cursor: str | None, index: str | None = None) -> dict[str, Any]:
    """What the queries of a page have in common: an index or the table, and where it begins.

    DynamoDB refuses a name that no expression uses, so that the first page, too, is bounded:
    every position is below ``LATEST``.
    """
    query: dict[str, Any] = {
        "KeyConditionExpression": "#partition = :partition AND #sort < :before",
        "ExpressionAttributeNames": {
            "#partition": index or "pk",
            "#sort": "listed_at" if index else "sk",
        },
        "ExpressionAttributeValues": {":before": {"S": _position_of(cursor) if cursor else LATEST}},
        "ScanIndexForward": False,
    }
    return query | {"IndexName": index} if index else query


def codes_of(error: ClientError) -> set[str | None]:
    """The error's code, and those of the reasons why a transaction was cancelled."""
    reasons = error.response.get("CancellationReasons", ())
    return {error.response["Error"]["Code"], *(reason.get("Code") for reason in reasons)}


def item_key(pk: str, sk: str) -> dict[str, Any]:
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def _bookmark_key(name: str) -> dict[str, Any]:
    return item_key(f"BOOKMARK#{name}", "POSITION")


def count_key(label: str, shard: int) -> dict[str, Any]:
    return item_key(f"COUNTS#{shard}", label)


def record_key(image_id: str) -> dict[str, Any]:
    return item_key(f"IMAGE#{image_id}", "RECORD")


def _record_of(image: Image) -> dict[str, Any]:
    shard = _shard_of(image.image_id)
    attributes = _with_decimals(to_plain(image))
    if image.status is ImageStatus.DELETED:
        deleted_at = datetime.fromisoformat(image.updated_at)
        attributes["expires_at"] = int((deleted_at + TOMBSTONE_TTL).timestamp())
    else:
        attributes |= {
            "listing": str(shard),
            "listing_by_status": f"{image.status}#{shard}",
            "listed_at": _position(image),
        }
    if not image.is_settled:
        attributes["unsettled"] = str(shard)
    item = {name: _serialize(value) for name, value in attributes.items()}
    return item | record_key(image.image_id)


def image_of(item: Mapping[str, Any]) -> Image:
    plain = {
        name: _without_decimals(deserialize(value))
        for name, value in item.items()
        if name not in LISTED_KEYS
    }
    return from_plain(Image, plain)


def label_entries(image: Image) -> dict[tuple[str, str], dict[str, Any]]:
    """What makes an image findable by its labels: an entry a label, by its key.

    Each entry carries the confidences of all labels, so that one query finds several at once.
    """
    confidences = {label.name.casefold(): label.confidence for label in image.recognition.labels}
    shard, position = _shard_of(image.image_id), _position(image)
    return {
        (label_partition(label, shard), position): {
            "pk": {"S": label_partition(label, shard)},
            "sk": {"S": position},
            "confidences": _serialize(_with_decimals(confidences)),
        }
        for label in confidences
    }


def counted(image: Image) -> dict[str, str]:
    """The labels under which an image counts: as Rekognition writes them, by their key."""
    return {label.name.casefold(): label.name for label in image.recognition.labels}


def label_partition(label: str, shard: int) -> str:
    return f"LABEL#{label}#{shard}"


def _shard_of(image_id: str) -> int:
    return zlib.crc32(image_id.encode()) % SHARDS


def _position(image: Image) -> str:
    return f"{image.original.uploaded_at}#{image.image_id}"


def _cursor_of(position: str) -> str:
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def _position_of(cursor: str) -> str:
    try:
        position = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        datetime.fromisoformat(position.partition("#")[0])
    except ValueError:
        position = ""
    if not re.fullmatch(POSITION, position):
        raise InvalidRequest(
            "The cursor is not one of ours: pass on `cursor` of the page before as it is."
        )
    return position


def _with_decimals(plain: Any) -> Any:
    """DynamoDB's numbers are decimal; boto3 refuses binary floats."""
    if isinstance(plain, dict):
        return {name: _with_decimals(value) for name, value in plain.items()}
    if isinstance(plain, list):
        return [_with_decimals(value) for value in plain]
    return Decimal(repr(plain)) if isinstance(plain, float) else plain


def _without_decimals(stored: Any) -> Any:
    if isinstance(stored, dict):
        return {name: _without_decimals(value) for name, value in stored.items()}
    if isinstance(stored, list):
        return [_without_decimals(value) for value in stored]
    if isinstance(stored, Decimal):
        return int(stored) if stored == stored.to_integral_value() else float(stored)
    return stored
