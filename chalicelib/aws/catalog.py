"""DynamoDB: the catalog. One table, read by queries and by key, never by a scan.

======================== ============================== ==========================================
what                     ``pk``                         ``sk``
======================== ============================== ==========================================
the record of an image   ``IMAGE#<image id>``           ``RECORD``
a label of an image      ``LABEL#<label>#<shard>``      ``<uploaded at>#<image id>``
======================== ============================== ==========================================

Records carry ``listing`` (the shard), ``listing_by_status`` (status and shard) and ``listed_at``
(upload time and image id), the keys of the two indexes of the same names, newest last. Deleted
images carry none of them and so leave the lists at once.

A partition takes 1,000 writes a second at most, and every image of a moment sorts next to its
neighbours. So each list and each label is spread over ``SHARDS`` partitions by image id, and a
page is merged from one query a shard.
"""

import base64
import heapq
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import ClientError

from chalicelib.errors import InvalidRequest, StaleRevision
from chalicelib.model import Image, ImageStatus, Page
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

OVERTAKEN = (
    "ConditionalCheckFailedException",
    "TransactionConflictException",
    "ConditionalCheckFailed",  # these two are reasons of a cancelled transaction
    "TransactionConflict",
)

LISTED_KEYS = ("pk", "sk", "listing", "listing_by_status", "listed_at", "expires_at")

_serialize = TypeSerializer().serialize
_deserialize = TypeDeserializer().deserialize


@dataclass(frozen=True, slots=True)
class Catalog:
    client: "DynamoDBClient"
    table: str

    def get(self, image_id: str) -> Image | None:
        """The record as it is now (a consistent read), or None."""
        answer = self.client.get_item(
            TableName=self.table, Key=_record_key(image_id), ConsistentRead=True
        )
        return _image_of(answer["Item"]) if "Item" in answer else None

    def save(self, image: Image, previous: Image | None) -> None:
        """Write a record, and what changes of its label entries, in one transaction.

        ``previous`` is the record as it was read, None where there was none; ``image.revision``
        is one more. Raises StaleRevision, and writes nothing, when the record has changed since.
        """
        entries = _label_entries(image)
        written = _label_entries(previous) if previous else {}
        changed = [entry for key, entry in entries.items() if written.get(key) != entry]
        obsolete = written.keys() - entries.keys()
        record: dict[str, Any] = {
            "TableName": self.table,
            "Item": _record_of(image),
            "ConditionExpression": UNCHANGED if previous else ABSENT,
        }
        if previous:
            record["ExpressionAttributeValues"] = {":revision": {"N": str(previous.revision)}}
        puts = [{"TableName": self.table, "Item": entry} for entry in changed]
        deletes = [
            {"TableName": self.table, "Key": {"pk": {"S": pk}, "sk": {"S": sk}}}
            for pk, sk in sorted(obsolete)
        ]
        try:
            if puts or deletes:
                writes: Any = [{"Put": put} for put in (record, *puts)]
                writes += [{"Delete": delete} for delete in deletes]
                self.client.transact_write_items(TransactItems=writes)
            else:  # a transaction costs twice the capacity of a single write
                self.client.put_item(**record)
        except ClientError as error:
            if _condition_failed(error):
                raise StaleRevision(f"{image.image_id} has changed since it was read.") from error
            raise

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
        """A page of the completed images that have all these labels, in whatever case."""
        names = [label.casefold() for label in labels]
        query = _newest_first(cursor)  # no Limit: it would count what the filter drops
        tests = []
        for number, name in enumerate(dict.fromkeys(names)):
            query["ExpressionAttributeNames"][f"#label{number}"] = name
            tests.append(f"confidences.#label{number} >= :least")
        query["ExpressionAttributeValues"][":least"] = {"N": str(min_confidence)}
        query["FilterExpression"] = " AND ".join(tests)
        partitions = [_label_partition(names[0], shard) for shard in range(SHARDS)]
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
        found: dict[str, Image] = {}
        keys = [_record_key(image_id) for image_id in image_ids]
        while keys:
            answer = self.client.batch_get_item(RequestItems={self.table: {"Keys": keys[:100]}})
            unread = answer["UnprocessedKeys"].get(self.table)
            keys = [*(unread["Keys"] if unread else ()), *keys[100:]]
            for item in answer["Responses"].get(self.table, ()):
                image = _image_of(item)
                found[image.image_id] = image
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


def _condition_failed(error: ClientError) -> bool:
    """Whether somebody was faster, or is just now, and not something that passes by itself."""
    reasons = error.response.get("CancellationReasons", ())
    codes = {error.response["Error"]["Code"], *(reason.get("Code") for reason in reasons)}
    return not codes.isdisjoint(OVERTAKEN)


def _record_key(image_id: str) -> dict[str, Any]:
    return {"pk": {"S": f"IMAGE#{image_id}"}, "sk": {"S": "RECORD"}}


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
    item = {name: _serialize(value) for name, value in attributes.items()}
    return item | _record_key(image.image_id)


def _image_of(item: Mapping[str, Any]) -> Image:
    plain = {
        name: _without_decimals(_deserialize(value))
        for name, value in item.items()
        if name not in LISTED_KEYS
    }
    return from_plain(Image, plain)


def _label_entries(image: Image) -> dict[tuple[str, str], dict[str, Any]]:
    """What makes an image findable by its labels: an entry a label, by its key.

    Each entry carries the confidences of all labels, so that one query finds several at once.
    """
    if image.status is not ImageStatus.COMPLETED:
        return {}
    confidences = {label.name.casefold(): label.confidence for label in image.recognition.labels}
    shard, position = _shard_of(image.image_id), _position(image)
    return {
        (_label_partition(label, shard), position): {
            "pk": {"S": _label_partition(label, shard)},
            "sk": {"S": position},
            "confidences": _serialize(_with_decimals(confidences)),
        }
        for label in confidences
    }


def _label_partition(label: str, shard: int) -> str:
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
