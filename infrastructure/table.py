"""The catalog's table, read as a whole and mended entry by entry.

What mends raises StaleRevision, and changes nothing, where the table is no longer as it was read.
"""

import hashlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from chalicelib.aws import batches
from chalicelib.aws.catalog import (
    ABSENT,
    BUSY,
    READ_BATCH,
    SHARDS,
    STALE,
    UNCHANGED,
    Catalog,
    codes_of,
    count_key,
    image_of,
    item_key,
    label_entries,
    label_partition,
    record_key,
)
from chalicelib.errors import StaleRevision
from chalicelib.model import Image

Key = tuple[str, str]
"""``pk`` and ``sk`` of an entry of a label."""


class Partition(NamedTuple):
    """The images with a label that are in one shard: their entries, and how many they are."""

    label: str
    shard: int

    @property
    def pk(self) -> str:
        return label_partition(self.label, self.shard)

    @property
    def count_key(self) -> dict[str, Any]:
        return count_key(self.label, self.shard)


@dataclass(frozen=True, slots=True)
class Table:
    """The catalog's table, read in pages and mended entry by entry.

    What mends raises StaleRevision, and changes nothing, where the table is no longer as it was.
    """

    catalog: Catalog

    def records(self) -> Iterator[list[Image]]:
        """All records but tombstones, as of a moment ago."""
        for shard in range(SHARDS):
            for page in self._pages("listing", str(shard), IndexName="listing"):
                ids = [entry["pk"]["S"].removeprefix("IMAGE#") for entry in page]
                for batch in batches(ids, READ_BATCH):
                    yield list(self.catalog.get_many(batch).values())

    def label_names(self) -> Iterator[tuple[str, str]]:
        """The labels that any image ever had: as they are searched for, and as they are written."""
        for shard in range(SHARDS):
            for page in self._pages("pk", f"COUNTS#{shard}"):
                yield from (
                    (entry["sk"]["S"], entry.get("label", entry["sk"])["S"]) for entry in page
                )

    def positions(self, partition: Partition) -> Iterator[list[str]]:
        """The sort keys of a label's entries, in their order."""
        for page in self._pages("pk", partition.pk, ConsistentRead=True):
            yield [entry["sk"]["S"] for entry in page]

    def entries(self, partition: Partition) -> tuple[int, bytes]:
        """How many entries a label has, and a digest that tells which."""
        number, which = 0, hashlib.blake2b()
        for positions in self.positions(partition):
            number += len(positions)
            which.update("\n".join((*positions, "")).encode())
        return number, which.digest()

    def count(self, partition: Partition) -> int:
        """How many images are said to have a label."""
        answer = self.catalog.client.get_item(
            **self._of_table(Key=partition.count_key), ConsistentRead=True
        )
        return int(answer["Item"]["images"]["N"]) if "Item" in answer else 0

    def snapshot(
        self, image_id: str, keys: Collection[Key]
    ) -> tuple[Image | None, dict[Key, dict[str, Any]]]:
        """A record and those of these entries that are there, all of one moment.

        Nothing, where they are being written just then. Takes 99 keys at most.
        """
        gets: Any = [
            {"Get": self._of_table(Key=key)}
            for key in (record_key(image_id), *(item_key(*each) for each in keys))
        ]
        try:
            answer = self.catalog.client.transact_get_items(TransactItems=gets)
        except ClientError as error:
            if codes_of(error).isdisjoint(BUSY):
                raise
            return None, {}
        record, *entries = (dict(found.get("Item", {})) for found in answer["Responses"])
        stored = {key: entry for key, entry in zip(keys, entries, strict=True) if entry}
        return image_of(record) if record else None, stored

    def put_entry(self, image: Image, key: Key) -> None:
        """Write the entry of a label, while the record is as it was read."""
        entry = label_entries(image)[key]
        self._write_while(image.image_id, image, {"Put": self._of_table(Item=entry)})

    def delete_entry(self, image_id: str, image: Image | None, key: Key) -> None:
        """Delete an entry, while the record is as it was read, or is not there."""
        self._write_while(image_id, image, {"Delete": self._of_table(Key=item_key(*key))})

    def set_count(self, partition: Partition, name: str, seen: int, right: int) -> None:
        """Set a count, while it is what was seen. ``name`` is the label as it is written."""
        condition = "#images = :seen" if seen else "attribute_not_exists(pk) OR #images = :seen"
        values = {
            ":label": {"S": name},
            ":seen": {"N": str(seen)},
            ":right": {"N": str(right)},
        }
        with _unless_changed():
            self.catalog.client.update_item(
                **self._of_table(Key=partition.count_key),
                UpdateExpression="SET #label = :label, #images = :right",
                ConditionExpression=condition,
                ExpressionAttributeNames={"#label": "label", "#images": "images"},
                ExpressionAttributeValues=values,
            )

    def _write_while(self, image_id: str, image: Image | None, change: Any) -> None:
        record: Any = self._of_table(Key=record_key(image_id), ConditionExpression=ABSENT)
        if image is not None:
            record["ConditionExpression"] = UNCHANGED
            record["ExpressionAttributeValues"] = {":revision": {"N": str(image.revision)}}
        with _unless_changed():
            self.catalog.client.transact_write_items(
                TransactItems=[{"ConditionCheck": record}, change]
            )

    def _of_table(self, **parameters: Any) -> dict[str, Any]:
        return {"TableName": self.catalog.table} | parameters

    def _pages(self, key: str, value: str, **query: Any) -> Iterator[list[dict[str, Any]]]:
        pages = self.catalog.client.get_paginator("query").paginate(
            **self._of_table(**query),
            KeyConditionExpression="#key = :value",
            ExpressionAttributeNames={"#key": key},
            ExpressionAttributeValues={":value": {"S": value}},
        )
        return (page["Items"] for page in pages)


@contextmanager
def _unless_changed() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if codes_of(error).isdisjoint((*STALE, *BUSY)):
            raise
        raise StaleRevision("It has changed since it was read.") from error
