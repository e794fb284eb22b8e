"""The catalog's table, read as a whole and mended entry by entry.

What mends raises StaleRevision, and changes nothing, where the table is no longer as it was read.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.aws import READ_BATCH, batches
from chalicelib.aws.catalog import BUSY, STALE, Catalog, codes_of
from chalicelib.aws.layout import (
    ABSENT,
    SHARDS,
    UNCHANGED,
    Key,
    added,
    addition,
    bytes_of,
    counter_key,
    entries_of,
    image_of,
    item_key,
    label_partition,
    put_of_first,
    record_key,
)
from chalicelib.errors import StaleRevision
from chalicelib.model import Image


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

    def counters(self) -> tuple[Counter[str], object]:
        """All that is counted, and a mark that is another with every change of it."""
        return self.catalog.counters()

    def settled(self, counter: str) -> int:
        """What an entry of counters has of one, without the changes that are yet to be added."""
        [entry] = self._get([counter_key(counter)])
        return added(entry)[counter]

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

    def put_first(self, image: Image, seen: Mapping[str, Any]) -> None:
        """Name an image as the first with its bytes, while what is named is what was ``seen``."""
        gone = seen["put_down"]["S"] if seen else ""
        put = put_of_first(bytes_of(image), image.original, gone)
        self._write_while(image.image_id, image, {"Put": self._of_table(**put)})

    def delete_entry(self, image_id: str, image: Image | None, key: Key) -> None:
        """Delete an entry, while the record is as it was read, or is not there."""
        self._write_while(image_id, image, {"Delete": self._of_table(Key=item_key(*key))})

    def add_to_counters(self, by: Mapping[str, int], counter: str, seen: int) -> None:
        """Add what is missing to the counters of one entry, while one of them is what was seen.

        Whatever changes are yet to be added to them, the sum is off by the same.
        """
        update = addition(by)
        test = "#seen = :seen" if seen else "attribute_not_exists(#seen) OR #seen = :seen"
        update["ExpressionAttributeNames"]["#seen"] = counter
        update["ExpressionAttributeValues"][":seen"] = {"N": str(seen)}
        with _unless_changed():
            self.catalog.client.update_item(**self._of_table(**update), ConditionExpression=test)

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
