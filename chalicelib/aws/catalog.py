"""DynamoDB: the catalog. One table (``layout``), read by queries and by key, never by a scan.

What a page, a number or a search costs does not grow with the catalog: each reads a bounded part
of it, from all its partitions side by side.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from itertools import chain, count, groupby, islice
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError

from chalicelib.aws import READ_BATCH, batches, entries_at
from chalicelib.aws.layout import (
    ABSENT,
    BAND_DIGITS,
    BANDS,
    CHUNK_KEYS,
    CHUNKS,
    COUNTED,
    FOLDS,
    NEWEST,
    OLDEST,
    SEEN,
    SHARDS,
    TOTALS_KEY,
    UNCHANGED,
    WORD_MARK,
    added,
    added_by,
    addition,
    band_of,
    band_partition,
    bookmark_key,
    by_label,
    bytes_of,
    change_of,
    changes_partition,
    chunk_key,
    confidences_of,
    counter_key,
    counters_of,
    cursor_of,
    entries_of,
    first_key,
    has_bytes,
    image_id_at,
    image_of,
    is_comparable,
    is_folding,
    item_key,
    position_at,
    position_of,
    put_of_first,
    record_key,
    record_of,
    request_key,
    right_below,
    shard_of,
    term_partition,
)
from chalicelib.errors import IdempotencyKeyReused, StaleRevision, Throttled
from chalicelib.model import (
    Image,
    ImageStatus,
    LabelCount,
    Original,
    Page,
    Query,
    Recognition,
    Totals,
    term_of,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

T = TypeVar("T")
R = TypeVar("R")

# Conditions of a write, beside those that the layout has.
UNCLAIMED = "attribute_not_exists(pk) OR expires_at <= :now"  # or DynamoDB has yet to collect it
THERE = "attribute_exists(pk)"

# Why a write was refused; the second of each is a reason of a cancelled transaction.
STALE = ("ConditionalCheckFailedException", "ConditionalCheckFailed")
BUSY = (
    *("TransactionConflictException", "TransactionConflict"),
    *("ThrottlingException", "ThrottlingError"),
    *("ProvisionedThroughputExceededException", "ProvisionedThroughputExceeded"),
)
BUSY_ATTEMPTS = 6

WAITING = (ImageStatus.QUEUED, ImageStatus.PROCESSING)
"""The statuses that images only pass through."""

WRITES = 100
"""TransactWriteItems takes at most 100 items.

The record, what it changes of the counters, four bands of its hash, and an entry for each of 94
terms (``MAX_TERMS``).
"""

FOLDED = WRITES - CHUNKS - 1
"""Changes that are added at a time."""

FOLDED_COUNTERS = 2_000
"""Counters that they may name. An update takes 300 operators, 4 KB: 16 chunks are not too few."""

THREADS = 16
"""Queries under way at a time. A client keeps 50 connections."""

ROUNDS = 4
"""How often a page reads on where filters leave too little, each time twice as much."""

SNAPSHOT_ATTEMPTS = 4

MAX_DISTANCE = 2 * BANDS - 1
"""Of two hashes, in bits, so that some band of theirs differs in one bit at most."""

PROBED = 500
"""Hashes read of one band: as many as share it among 33 million that are spread evenly."""

CLAIM_TTL = timedelta(hours=24)


@dataclass(slots=True)
class Reading:
    """One partition of a list, read from its newest position on.

    ``found`` are the positions that fit, ``read_to`` is the last that was looked at, and ``next``
    says where to go on.
    """

    partition: str
    read_to: str = NEWEST
    found: list[str] = field(default_factory=list)
    next: dict[str, Any] = field(default_factory=dict)


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

    def get_many(self, image_ids: Sequence[str], *, consistent: bool = False) -> dict[str, Image]:
        """The records of these images, by id; what is not there is left out.

        As of a moment ago, or ``consistent``: as they are now.
        """
        keys = [record_key(image_id) for image_id in dict.fromkeys(image_ids)]
        images = map(image_of, self._batch(keys, consistent=consistent))
        return {image.image_id: image for image in images}

    def _batch(
        self, keys: Iterable[Any], *, consistent: bool = False
    ) -> Iterator[Mapping[str, Any]]:
        """What is there under these keys, in any order."""
        return entries_at(self.client, self.table, keys, consistent=consistent)

    # ── writing ──────────────────────────────────────────────────────────────────────────────────

    def save(self, image: Image, previous: Image | None) -> Image:
        """Write a record and, in the same transaction, what changes of all that is derived from it.

        ``previous`` is the record as it was read, None where there was none. Gives the record with
        its new revision. Raises StaleRevision, and writes nothing, when the record has changed
        since it was read; but where most of many labels are others now, the old ones may be off.
        """
        saved = replace(image, revision=previous.revision + 1 if previous else 1)
        record: Any = {
            "TableName": self.table,
            "Item": record_of(saved),
            "ConditionExpression": UNCHANGED if previous else ABSENT,
        }
        if previous:
            record["ExpressionAttributeValues"] = {":revision": {"N": str(previous.revision)}}
        writes = [{"Put": record}, *self._derived(saved, previous)]
        if len(writes) > WRITES and previous and (nearer := _nearer(image, previous)):
            return self.save(image, self.save(nearer, previous))
        if len(writes) == 1:  # a transaction costs twice the capacity of a single write
            self._write(lambda: self.client.put_item(**record))
        else:
            if is_folding(image.image_id):
                self.fold(shard_of(image.image_id))
            self._write(lambda: self.client.transact_write_items(TransactItems=writes))
        if previous and bytes_of(previous) not in ("", bytes_of(saved)):
            self.give_back(bytes_of(previous), image.image_id)
        return saved

    def _derived(self, image: Image, previous: Image | None) -> list[Any]:
        """What makes all that is derived from a record that of the image, and no longer the old."""
        entries, written = entries_of(image), entries_of(previous) if previous else {}
        puts = [entry for key, entry in entries.items() if written.get(key) != entry]
        counters = Counter(counters_of(image))
        counters.subtract(counters_of(previous) if previous else {})
        if by := {counter: number for counter, number in counters.items() if number}:
            puts.append(change_of(shard_of(image.image_id), by))
        gone = sorted(written.keys() - entries.keys())
        return [
            *({"Put": {"TableName": self.table, "Item": entry}} for entry in puts),
            *({"Delete": {"TableName": self.table, "Key": item_key(*key)}} for key in gone),
        ]

    def fold(self, shard: int) -> None:
        """Add the first changes of a shard to the counters. What somebody else is at, is theirs."""
        sums: Counter[str] = Counter()
        writes: list[Any] = []
        for change in islice(self._changes(shard, Limit=FOLDED), FOLDED):
            by = added_by(change)
            if len(sums.keys() | by.keys()) > FOLDED_COUNTERS:
                break
            sums.update(by)
            key = {"pk": change["pk"], "sk": change["sk"]}
            delete = {"TableName": self.table, "Key": key, "ConditionExpression": THERE}
            writes.append({"Delete": delete})
        if not writes:
            return
        sums[FOLDS] = 1
        changed = sorted(filter(sums.__getitem__, sums), key=_place_of)
        for _, counters in groupby(changed, _place_of):
            update = addition({counter: sums[counter] for counter in counters})
            writes.append({"Update": {"TableName": self.table} | update})
        try:
            self.client.transact_write_items(TransactItems=writes)
        except ClientError as error:
            if codes_of(error).isdisjoint((*STALE, *BUSY)):
                raise

    def _write(self, write: Callable[[], object]) -> None:
        """A conditional write. Raises StaleRevision where its condition does not hold.

        A conflict with another transaction says nothing of the record, nor does throttling: the
        write is repeated a few times, and then Throttled is raised.
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

    def claim(self, request: str, fingerprint: str) -> str | None:
        """Take a request on, unless it has been within 24 hours; then the image that came of it.

        ``request`` is a digest that stands for who asks and the key of the request, ``fingerprint``
        one of what is asked for. None for a request that is new, or whose first try has not come
        to its end. Raises IdempotencyKeyReused where something else was asked for.
        """
        now = int(time.time())
        claimed = {
            "fingerprint": {"S": fingerprint},
            "expires_at": {"N": str(now + int(CLAIM_TTL.total_seconds()))},
        }
        try:
            self.client.put_item(
                TableName=self.table,
                Item=request_key(request) | claimed,
                ConditionExpression=UNCLAIMED,
                ExpressionAttributeValues={":now": {"N": str(now)}},
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as error:
            if codes_of(error).isdisjoint(STALE):
                raise
            known: Any = error.response.get("Item", {})
        else:
            return None
        if known["fingerprint"]["S"] != fingerprint:
            raise IdempotencyKeyReused(
                "This Idempotency-Key was sent with another request within the last 24 hours: "
                "send a new key with a new request, and the same key only to repeat the same one."
            )
        return known["image_id"]["S"] if "image_id" in known else None

    def fulfil(self, request: str, image_id: str) -> None:
        """Note which image came of a request. One whose claim is no longer there is let be."""
        try:
            self.client.update_item(
                TableName=self.table,
                Key=request_key(request),
                UpdateExpression="SET image_id = :image_id",
                ConditionExpression=THERE,
                ExpressionAttributeValues={":image_id": {"S": image_id}},
            )
        except ClientError as error:
            if codes_of(error).isdisjoint(STALE):
                raise

    def first_of(self, sha256: str, original: Original) -> Image | None:
        """The other image that had these bytes first, as it is now; else this one is the first.

        Of several that come at once, one is. One that was deleted or replaced, or failed before
        anything was known of it, has them no more, and the next that comes takes its place; unless
        it has been put down anew since it was looked at, as it is by whoever tries it again.
        """
        gone = ""
        while True:
            with suppress(StaleRevision):
                self._put_down(sha256, original, gone)
                return None
            if taken := self._taken(sha256):
                first = self.get(taken["image_id"]["S"])
                if has_bytes(first, taken):
                    return first
                gone = taken["put_down"]["S"]

    def give_back(self, sha256: str, image_id: str) -> None:
        """No longer name an image as the first with some bytes, if it is, and has them no more.

        One that was put down anew since it was looked at stays. Where that is not come to, the
        record tells.
        """
        taken = self._taken(sha256)
        if taken is None or taken["image_id"]["S"] != image_id:
            return
        if has_bytes(self.get(image_id), taken):
            return
        with suppress(StaleRevision):
            self._write(
                lambda: self.client.delete_item(
                    TableName=self.table,
                    Key=first_key(sha256),
                    ConditionExpression=SEEN,
                    ExpressionAttributeValues={":gone": taken["put_down"]},
                )
            )

    def _put_down(self, sha256: str, original: Original, gone: str) -> None:
        """Raises StaleRevision where another image is the first, and not ``gone``."""
        put = put_of_first(sha256, original, gone)
        self._write(lambda: self.client.put_item(TableName=self.table, **put))

    def _taken(self, sha256: str) -> Mapping[str, Any] | None:
        """The entry that names the first image with some bytes, as it is now."""
        answer = self.client.get_item(
            TableName=self.table, Key=first_key(sha256), ConsistentRead=True
        )
        return answer.get("Item")

    def disclaim(self, request: str) -> None:
        """Forget a request that nothing came of."""
        try:
            self.client.delete_item(
                TableName=self.table,
                Key=request_key(request),
                ConditionExpression="attribute_not_exists(image_id)",
            )
        except ClientError as error:
            if codes_of(error).isdisjoint(STALE):
                raise

    def set_bookmark(self, name: str, position: str) -> None:
        self.client.put_item(
            TableName=self.table, Item=bookmark_key(name) | {"position": {"S": position}}
        )

    # ── reading ──────────────────────────────────────────────────────────────────────────────────

    def bookmark(self, name: str) -> str:
        """Where a long pass over something has come to; empty at its beginning."""
        answer = self.client.get_item(TableName=self.table, Key=bookmark_key(name))
        return answer["Item"]["position"]["S"] if "Item" in answer else ""

    def unsettled(self, before: str) -> Iterator[Image]:
        """The images with something left to do that were last written before that time.

        Longest first within a shard; a sparse index holds just these.
        """
        for shard in range(SHARDS):
            pages = self._pages(
                IndexName="unsettled",
                KeyConditionExpression="unsettled = :shard AND updated_at < :before",
                ExpressionAttributeValues={":shard": {"S": str(shard)}, ":before": {"S": before}},
            )
            entries = (entry for page in pages for entry in page["Items"])
            for batch in batches(entries, READ_BATCH):
                ids = [entry["pk"]["S"].removeprefix("IMAGE#") for entry in batch]
                images = self.get_many(ids)
                yield from (images[image_id] for image_id in ids if image_id in images)

    def browse(self, query: Query) -> Page:
        """A page of the images that fit, newest first.

        Reads at most ``SHARDS * (2**ROUNDS - 1) * (limit + 1)`` entries of a list, and ``limit``
        records: where a filter drops much of them, the page comes short, and its cursor says where
        to go on. Without one it is ``SHARDS * (limit + 1)``. Raises InvalidRequest for a cursor
        that is not ours.
        """
        before = f"{query.until}$" if query.until else NEWEST  # "$" sorts right behind "#"
        if query.cursor:
            before = min(before, right_below(position_at(query.cursor)))
        after = query.since or OLDEST
        if after > before:
            return Page((), None)
        listed, partitions = self._list_of(query)
        listed["ExpressionAttributeValues"] |= {":after": {"S": after}, ":before": {"S": before}}
        positions, cursor = self._positions(listed, partitions, query.limit)
        found = self.get_many([image_id_at(position) for position in positions])
        images = [(position, found.get(image_id_at(position))) for position in positions]
        # What was deleted, moved or changed since it was listed is not, or elsewhere, shown.
        shown = [
            image
            for position, image in images
            if image and position_of(image) == position and _fits(image, query)
        ]
        cursors = tuple(cursor_of(position_of(image)) for image in shown)
        return Page(tuple(shown), cursor and cursor_of(cursor), cursors)

    def _list_of(self, query: Query) -> tuple[dict[str, Any], Sequence[str]]:
        """The list to look through for a query: how to ask for it, and its partitions.

        Of several terms, it is that of the rarest: each entry tells of all terms of its image.
        With any status but that of most images, it is that of the status, which is short.
        """
        least = _least_of(query)
        if least and query.status in (None, ImageStatus.COMPLETED):
            rarest = self._rarest(list(least))
            terms = list(enumerate(least.items()))
            listed = _newest_first("pk", "sk")
            listed["ExpressionAttributeNames"] |= {f"#term{n}": term for n, (term, _) in terms}
            listed["ExpressionAttributeValues"] = {
                f":least{n}": {"N": str(confidence)} for n, (_, confidence) in terms
            }
            tests = [f"confidences.#term{n} >= :least{n}" for n, _ in terms]
            listed["FilterExpression"] = " AND ".join(tests)
            return listed, [term_partition(rarest, shard) for shard in range(SHARDS)]
        index = "listing_by_status" if query.status else "listing"
        status = f"{query.status}#" if query.status else ""
        listed = _newest_first(index, "listed_at") | {"IndexName": index}
        return listed, [f"{status}{shard}" for shard in range(SHARDS)]

    def _rarest(self, terms: Sequence[str]) -> str:
        """The term with the fewest images, but for changes that have yet to be added.

        Words are not counted: each is taken to be rarer than any label, the longest most of all.
        """
        if words := [term for term in terms if term.startswith(WORD_MARK)]:
            return max(words, key=len)
        if len(terms) == 1:
            return terms[0]
        chunks = {chunk_key(label)["pk"]["S"]: chunk_key(label) for label in terms}
        images = by_label(_summed(map(added, self._batch(chunks.values()))))
        return min(terms, key=lambda label: sum(images[label].values()))

    def _positions(
        self, listed: dict[str, Any], partitions: Sequence[str], limit: int
    ) -> tuple[list[str], str | None]:
        """The newest positions of a list, and the one that the next page begins below, if any.

        Each partition is read to another depth, and only what is newer than the least of these is
        shown: behind it, another may yet have something newer.
        """
        readings = [Reading(partition) for partition in partitions]
        found: list[str] = []
        for turn in range(ROUNDS):
            last = found[limit] if len(found) > limit else OLDEST
            behind = [reading for reading in readings if reading.read_to > last]
            if not behind:
                break
            read_on = partial(self._read_on, listed | {"Limit": (limit + 1) << turn})
            _side_by_side(read_on, behind)
            found = sorted(chain.from_iterable(reading.found for reading in readings), reverse=True)
        depth = max(reading.read_to for reading in readings)
        certain = [position for position in found if position >= depth]
        if len(certain) > limit:
            return certain[:limit], certain[limit - 1]
        return certain, depth if depth > OLDEST else None

    def _read_on(self, listed: dict[str, Any], reading: Reading) -> None:
        values = listed["ExpressionAttributeValues"] | {":partition": {"S": reading.partition}}
        sort_key = listed["ExpressionAttributeNames"]["#sort"]
        answer = self.client.query(
            **listed | {"TableName": self.table, "ExpressionAttributeValues": values} | reading.next
        )
        reading.found += [entry[sort_key]["S"] for entry in answer["Items"]]
        last = answer.get("LastEvaluatedKey")
        reading.next = {"ExclusiveStartKey": last}
        reading.read_to = last[sort_key]["S"] if last else OLDEST

    def counters(self) -> tuple[Counter[str], object]:
        """All that is counted, as of one moment, and a mark that is another with every change.

        Where changes are added to the counters meanwhile, all is read again; if that happens every
        time, those of the last addition may be missing or be there twice.
        """
        for _ in range(SNAPSHOT_ATTEMPTS):
            folds = self._folds()
            counted = _summed(map(added, self._batch([*CHUNK_KEYS, TOTALS_KEY], consistent=True)))
            changes = _side_by_side(lambda shard: [*self._changes(shard)], range(SHARDS))
            if counted[FOLDS] == folds == self._folds():
                break
        pending = list(chain.from_iterable(changes))
        counted.update(_summed(map(added_by, pending)))
        return counted, (folds, frozenset(change["sk"]["S"] for change in pending))

    def _folds(self) -> int:
        answer = self.client.get_item(TableName=self.table, Key=TOTALS_KEY, ConsistentRead=True)
        return added(answer.get("Item", {}))[FOLDS]

    def _changes(self, shard: int, **query: Any) -> Iterator[Any]:
        """The changes of a shard that have yet to be added to the counters."""
        pages = self._pages(
            KeyConditionExpression="pk = :shard",
            ExpressionAttributeValues={":shard": {"S": changes_partition(shard)}},
            ConsistentRead=True,
            **query,
        )
        return (change for page in pages for change in page["Items"])

    def label_counts(self, prefix: str) -> list[LabelCount]:
        """How many images have each label that begins so, in whatever case; most frequent first."""
        start = term_of(prefix)
        spellings = by_label(self.counters()[0])
        counts = [
            LabelCount(max(names, key=names.__getitem__), sum(names.values()))
            for label, names in spellings.items()
            if label.startswith(start) and sum(names.values()) > 0
        ]
        return sorted(counts, key=lambda each: (-each.images, each.name))

    def totals(self) -> Totals:
        """How many images there are in each status, and the bytes of those that are completed.

        Those that wait or are worked on are counted in their lists, so what this costs grows with
        the backlog; the rest is counted as it is written.
        """
        lists = [(status, shard) for status in WAITING for shard in range(SHARDS)]
        numbers = _side_by_side(self._number_listed, lists)
        images: dict[ImageStatus, int] = dict.fromkeys(WAITING, 0)
        for (status, _), number in zip(lists, numbers, strict=True):
            images[status] += number
        counted, _ = self.counters()
        images |= {status: counted[status] for status in COUNTED}
        return Totals(images, counted["original_bytes"], counted["rendition_bytes"])

    def _number_listed(self, list_: tuple[ImageStatus, int]) -> int:
        status, shard = list_
        pages = self._pages(
            IndexName="listing_by_status",
            Select="COUNT",
            KeyConditionExpression="listing_by_status = :partition",
            ExpressionAttributeValues={":partition": {"S": f"{status}#{shard}"}},
        )
        return sum(page["Count"] for page in pages)

    def similar(self, phash: str, max_distance: int, limit: int) -> list[tuple[Image, int]]:
        """The images whose hash differs in up to ``max_distance`` bits, nearest first.

        Each with its distance. ``max_distance`` is 7 (``MAX_DISTANCE``) at most: up to 3 takes
        two queries more than there are bits, up to 5 and 7 takes 52 and 69. Each query reads up to
        ``PROBED`` entries: of images with the same hash, so many are found; of others those that
        are among the first of a band, in the order of hashes. So in a larger catalog, or one with
        many pictures that are alike in parts, near ones may be missing.
        """
        distances = {
            image_id_at(position): distance_of(phash, position.partition("#")[0])
            for position in chain.from_iterable(
                _side_by_side(self._hashed, probes(phash, max_distance))
            )
        }
        near = sorted(
            (distance, image_id)
            for image_id, distance in distances.items()
            if distance <= max_distance
        )[:limit]
        # As they are now: who looks for its like once it is recorded must not miss who was faster.
        images = self.get_many([image_id for _, image_id in near], consistent=True)
        return [
            (images[image_id], distance)
            for distance, image_id in near
            if image_id in images and is_comparable(images[image_id])
        ]

    def _hashed(self, probe: tuple[str, str]) -> list[str]:
        """The first entries of a band: hash and image id."""
        partition, start = probe
        answer = self.client.query(
            TableName=self.table,
            KeyConditionExpression="pk = :partition AND sk BETWEEN :first AND :last",
            ExpressionAttributeValues={
                ":partition": {"S": partition},
                ":first": {"S": start or "0"},
                ":last": {"S": f"{start}~"},
            },
            Limit=PROBED,
            ConsistentRead=True,  # of two that look for each other, the later finds the earlier
        )
        return [entry["sk"]["S"] for entry in answer["Items"]]

    def _pages(self, **query: Any) -> Iterator[Any]:
        return iter(self.client.get_paginator("query").paginate(TableName=self.table, **query))


def _newest_first(partition_key: str, sort_key: str) -> dict[str, Any]:
    """What the queries of a page have in common."""
    return {
        "KeyConditionExpression": "#partition = :partition AND #sort BETWEEN :after AND :before",
        "ExpressionAttributeNames": {"#partition": partition_key, "#sort": sort_key},
        "ExpressionAttributeValues": {},
        "ScanIndexForward": False,
    }


def _nearer(image: Image, previous: Image) -> Image | None:
    """A step from one record to another: without the old terms, then with the new looks."""
    if previous.recognition != Recognition():
        return replace(previous, recognition=Recognition())
    if previous.fingerprint != image.fingerprint:
        return replace(previous, fingerprint=image.fingerprint)
    return None


def codes_of(error: ClientError) -> set[str | None]:
    """The error's code, and those of the reasons why a transaction was cancelled."""
    reasons = error.response.get("CancellationReasons", ())
    return {error.response["Error"]["Code"], *(reason.get("Code") for reason in reasons)}


def _place_of(counter: str) -> str:
    place: str = counter_key(counter)["pk"]["S"]
    return place


def _summed(counters: Iterable[Mapping[str, int]]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for each in counters:
        sums.update(each)
    return sums


def distance_of(one: str, other: str) -> int:
    """The Hamming distance of two hashes in hex: how many of their bits differ."""
    return (int(one, 16) ^ int(other, 16)).bit_count()


def probes(phash: str, max_distance: int) -> Iterator[tuple[str, str]]:
    """Which partitions hold all hashes within a distance, each with how the hashes there begin.

    If no band of two hashes is the same, they differ in at least as many bits as there are bands,
    and if each differs in two or more bits, in twice as many: so these bands are enough.
    """
    yield band_partition(0, band_of(phash, 0)), phash  # the very same come first
    reach = 0 if max_distance < BANDS else 1
    for band in range(max_distance // (reach + 1) + 1):
        digits = band_of(phash, band)
        yield band_partition(band, digits), ""
        for bit in range(4 * BAND_DIGITS * reach):
            yield band_partition(band, f"{int(digits, 16) ^ 1 << bit:0{BAND_DIGITS}x}"), ""


def _least_of(query: Query) -> dict[str, float]:
    """The terms that an image has to have, and how sure each has to be at least."""
    words = (WORD_MARK + word for word in query.words)
    return dict.fromkeys((*map(term_of, query.labels), *words), query.min_confidence)


def _fits(image: Image, query: Query) -> bool:
    """Whether an image is what a query asks for, wherever it was found."""
    confidences = confidences_of(image)
    return (
        image.status is not ImageStatus.DELETED
        and query.status in (None, image.status)
        and all(confidences.get(term, -1) >= least for term, least in _least_of(query).items())
    )


def _side_by_side(read: Callable[[T], R], each: Iterable[T]) -> list[R]:
    """What reading each of them gives, in their order: they wait for DynamoDB together."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(read, each))
