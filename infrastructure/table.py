"""The catalog's table, read as a whole and mended entry by entry.

What mends raises StaleRevision, and changes nothing, where the table is no longer as it was read.
"""

import hashlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.aws import batches
from chalicelib.aws.catalog import ABSENT, BUSY, READ_BATCH, STALE, UNCHANGED, Catalog, codes_of
from chalicelib.aws.layout import (
    COUNT_SHARDS,
    COUNTERS,
    SHARDS,
    TOTAL_SHARDS,
    Key,
    count_key,
    counts_partition,
    entries_of,
    image_of,
    item_key,
    label_partition,
    record_key,
    total_change,
    total_key,
)
from chalicelib.errors import StaleRevision
from chalicelib.model import Image

ZERO = {"N": "0"}

Sums = dict[str, int]
"""What each of the ``COUNTERS`` adds up to."""


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
        for shard in range(COUNT_SHARDS):
            for page in self._pages("pk", counts_partition(shard)):
                yield from (
                    (entry["sk"]["S"], entry.get("label", entry["sk"])["S"]) for entry in page
                )

    def positions(self, partition: str) -> Iterator[list[str]]:
        """The sort keys of a partition, in their order."""
        for page in self._pages("pk", partition, ConsistentRead=True):
            yield [entry["sk"]["S"] for entry in page]

    def entries(self, label: str) -> tuple[int, bytes]:
        """How many entries a label has, and a digest that tells which."""
        number, which = 0, hashlib.blake2b()
        for shard in range(SHARDS):
            for positions in self.positions(label_partition(label, shard)):
                number += len(positions)
                which.update("\n".join((*positions, "")).encode())
        return number, which.digest()

    def counts(self, label: str) -> list[int]:
        """How many images are said to have a label, by shard."""
        keys = [count_key(label, shard) for shard in range(COUNT_SHARDS)]
        return [int(found.get("images", ZERO)["N"]) for found in self._get(keys)]

    def totals(self) -> tuple[Sums, list[int]]:
        """The totals, and how often each shard of them has changed."""
        found = self._get([total_key(shard) for shard in range(TOTAL_SHARDS)])
        sums = {name: sum(int(each.get(name, ZERO)["N"]) for each in found) for name in COUNTERS}
        return sums, [int(each.get("changes", ZERO)["N"]) for each in found]

    def _get(self, keys: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What is under up to 100 keys, all of one moment; StaleRevision where it is changing."""
        gets: Any = [{"Get": self._of_table(Key=key)} for key in keys]
        with _unless_changed():
            answer = self.catalog.client.transact_get_items(TransactItems=gets)
        return [dict(found.get("Item", {})) for found in answer["Responses"]]

    def snapshot(
        self, image_id: str, keys: Collection[Key]
    ) -> tuple[Image | None, dict[Key, dict[str, Any]]]:
        """A record and those of these entries that are there, all of one moment.

        Nothing, where they are being written just then. Takes 99 keys at most.
        """
        try:
            record, *entries = self._get(
                [record_key(image_id), *(item_key(*each) for each in keys)]
            )
        except StaleRevision:
            return None, {}
        stored = {key: entry for key, entry in zip(keys, entries, strict=True) if entry}
        return image_of(record) if record else None, stored

    def put_entry(self, image: Image, key: Key) -> None:
        """Write an entry, while the record is as it was read."""
        entry = entries_of(image)[key]
        self._write_while(image.image_id, image, {"Put": self._of_table(Item=entry)})

    def delete_entry(self, image_id: str, image: Image | None, key: Key) -> None:
        """Delete an entry, while the record is as it was read, or is not there."""
        self._write_while(image_id, image, {"Delete": self._of_table(Key=item_key(*key))})

    def add_to_count(self, label: str, name: str, seen: int, by: int) -> None:
        """Add what is missing to the first shard of a count, while that is what was seen.

        Whatever the other shards take meanwhile, the sum is off by the same. ``name`` is the label
        as it is written.
        """
        condition = "#images = :seen" if seen else "attribute_not_exists(pk) OR #images = :seen"
        values = {":label": {"S": name}, ":seen": {"N": str(seen)}, ":by": {"N": str(by)}}
        with _unless_changed():
            self.catalog.client.update_item(
                **self._of_table(Key=count_key(label, 0)),
                UpdateExpression="SET #label = :label ADD #images :by",
                ConditionExpression=condition,
                ExpressionAttributeNames={"#label": "label", "#images": "images"},
                ExpressionAttributeValues=values,
            )

    def add_to_totals(self, changes: int, missing: Sums) -> None:
        """Add what is missing to the first shard of the totals, while it has changed so often."""
        update = total_change(0, missing)
        update["ConditionExpression"] = (
            "#0 = :seen" if changes else "attribute_not_exists(#0) OR #0 = :seen"
        )
        update["ExpressionAttributeValues"][":seen"] = {"N": str(changes)}
        with _unless_changed():
            self.catalog.client.update_item(**self._of_table(**update))

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
