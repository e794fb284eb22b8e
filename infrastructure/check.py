"""Find what the buckets and the catalog do not agree about, and mend it.

Everything is read once, a page at a time. What has changed within the last 15 minutes is left
alone, and what looks wrong is read again before it counts. With --repair it is then mended, or the
image is enqueued so that the pipeline mends it; without, nothing changes. The exit status is 0 when
all agree or was mended, 1 when something is left.
"""

import argparse
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import partial
from itertools import chain, groupby
from math import inf
from threading import Lock
from typing import Any, TypeVar

from botocore.exceptions import ClientError

from chalicelib import pipeline
from chalicelib.aws import READ_BATCH, batches
from chalicelib.aws.layout import (
    FOLDS,
    LABEL_MARK,
    SHARDS,
    TOTALS,
    Key,
    by_label,
    bytes_of,
    counters_of,
    deserialize,
    entries_of,
    first_key,
    has_bytes,
    image_id_at,
    label_partition,
    labels_of,
)
from chalicelib.aws.storage import ORIGINAL_GONE, attempt_of
from chalicelib.bootstrap import Services
from chalicelib.config import UPLOADS_PREFIX
from chalicelib.errors import ImageNotFound, StaleRevision
from chalicelib.messages import Recheck, printable, timestamp
from chalicelib.model import Image, ImageStatus, Original
from chalicelib.sweep import GRACE, is_recorded, is_stuck
from infrastructure.stage import services_of
from infrastructure.table import Table

EXAMPLES = 3
THREADS = 16
"""Requests under way at a time: most of the time goes by in waiting for S3."""

RENDITION = re.compile(r"[a-z0-9-]+/(?P<image_id>[a-z2-7]{26})/(?P<attempt>[0-9]+)/[^/]+")
"""The key of a rendition. Whatever else may lie in that bucket is not ours to judge."""

T = TypeVar("T")


class Kind(StrEnum):
    """What can be wrong, in the order in which it is looked for."""

    NOBODYS = "renditions that no record names"
    GONE = "records whose original is gone"
    INCOMPLETE = "records whose renditions are not there"
    UNLISTED = "labels, words and hashes without their entry"
    MISTOTALLED = "totals that are not those of the records"
    OBSOLETE = "entries without their label, word or hash"
    MISCOUNTED = "counts that are not those of the entries"
    UNRECORDED = "originals without a record of theirs"
    STUCK = "records that nobody is at"


@dataclass(slots=True)
class Tally:
    """How many findings of a kind there are, how many of them are left, and the first few."""

    found: int = 0
    left: int = 0
    examples: list[str] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repair", action="store_true", help="mend what is found")


def run(options: argparse.Namespace) -> int:
    check = Check(services_of(options.stage), repair=options.repair)
    for kinds, look in check.passes():
        look()
        for kind in kinds:
            print(row(kind, check.tallies[kind]), flush=True)
    print(f"\n{verdict(check.tallies.values(), repair=options.repair)}")
    return 1 if any(tally.left for tally in check.tallies.values()) else 0


# ── what is right ────────────────────────────────────────────────────────────────────────────────


def nobodys(keys: Iterable[str], image: Image | None) -> list[str]:
    """Which of these renditions of an image its record does not name, and no worker is making.

    A worker records its attempt before it stores anything.
    """
    if image is None:
        return list(keys)
    named = {rendition.key for rendition in image.renditions}
    under_way = image.attempt if image.status is ImageStatus.PROCESSING else inf
    return [key for key in keys if key not in named and attempt_of(key) < under_way]


def unlisted(image: Image, stored: Mapping[Key, Mapping[str, Any]]) -> list[Key]:
    """Which entries an image should have and has not, or not as they should be."""
    return [
        key
        for key, entry in entries_of(image).items()
        if key not in stored or _plain(stored[key]) != _plain(entry)
    ]


def key_of_first(image: Image) -> Key | None:
    """The entry that names the first image with the bytes of this one; None where it is a copy.

    The first of copies may be gone, and nobody is the first then until the next one comes.
    """
    if not bytes_of(image) or image.is_copy:
        return None
    key = first_key(bytes_of(image))
    return key["pk"]["S"], key["sk"]["S"]


def row(kind: Kind, tally: Tally) -> str:
    """A line of the report."""
    width = max(len(kind) for kind in Kind)
    examples = ", ".join(printable(example) for example in tally.examples)
    more = ", …" if tally.found > len(tally.examples) else ""
    return f"{kind:<{width}}  {tally.found:>9,}  {examples}{more}".rstrip()


def verdict(tallies: Iterable[Tally], *, repair: bool) -> str:
    """The last line of the report."""
    found, left = (
        sum(counts) for counts in zip(*((t.found, t.left) for t in tallies), strict=True)
    )
    if not found:
        return "The buckets and the catalog agree."
    if not repair:
        return f"{found:,} found. Nothing was changed: --repair mends them."
    mended = f"{found - left:,} of {found:,} mended, or enqueued for the pipeline to mend."
    return mended if not left else f"{mended} {left:,} changed meanwhile: run it again."


def _plain(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry to compare: DynamoDB writes the same number in several ways."""
    return {name: deserialize(value) for name, value in entry.items()}


# ── the passes ───────────────────────────────────────────────────────────────────────────────────


class Check:
    """One reading of everything. ``tallies`` says what was found so far."""

    def __init__(self, services: Services, *, repair: bool) -> None:
        self.tallies = {kind: Tally() for kind in Kind}
        self._services = services
        self._repair = repair
        self._table = Table(services.catalog)
        self._before = services.clock() - GRACE  # what has happened since is left alone
        self._names: dict[str, str] = {}  # of all labels there are, by their keys
        self._counts: dict[str, int] = {}  # how many images have each of them
        self._sums: Counter[str] = Counter()  # what the records add up to, as they are read
        self._found_in: set[str] = set()  # the partitions of words and hashes that records are in
        self._drift: Counter[str] = Counter()  # of a label: entries too few, where not mended
        self._lock = Lock()

    def passes(self) -> Iterator[tuple[tuple[Kind, ...], Callable[[], None]]]:
        """What each pass looks for, and the pass itself.

        What deletes comes before what enqueues: an image that is new to the catalog begins with
        attempt 1, where renditions of an earlier life may lie.
        """
        yield (Kind.NOBODYS,), self.look_at_renditions
        yield (Kind.GONE, Kind.INCOMPLETE, Kind.UNLISTED), self.look_at_records
        yield (Kind.MISTOTALLED,), self.look_at_totals
        yield (Kind.OBSOLETE, Kind.MISCOUNTED), self.look_at_entries
        yield (Kind.UNRECORDED,), self.look_at_originals
        yield (Kind.STUCK,), self.look_at_unsettled

    def look_at_renditions(self) -> None:
        """The bucket of renditions, in the order of keys: all of an image in a folder together.

        Folders that the settings no longer name are read, too.
        """
        ours = filter(RENDITION.fullmatch, self._services.renditions.listing(""))
        grouped = groupby(ours, key=lambda key: key.split("/")[1])
        for batch in batches(((image_id, [*keys]) for image_id, keys in grouped), READ_BATCH):
            records = self._services.catalog.get_many([image_id for image_id, _ in batch])
            suspects = [
                (image_id, keys) for image_id, keys in batch if nobodys(keys, records.get(image_id))
            ]
            self._side_by_side(self._look_at_renditions_of, suspects)

    def _look_at_renditions_of(self, stored: tuple[str, list[str]]) -> None:
        image_id, keys = stored
        for key in nobodys(keys, self._services.catalog.get(image_id)):
            modified = self._modified(key)
            if modified is not None and modified < self._before:
                self._found(Kind.NOBODYS, key, partial(self._services.renditions.delete, [key]))

    def look_at_records(self) -> None:
        for images in self._table.records():
            for image in images:
                self._names |= labels_of(image)
                self._sums.update(counters_of(image))
            self._side_by_side(self._look_at_record, images)

    def _look_at_record(self, image: Image) -> None:
        if entries_of(image) or key_of_first(image):  # before what is enqueued changes the record
            self._look_at_entries_of(image)
        key = image.original.key
        if self._is_gone(image):
            self._found(Kind.GONE, key, partial(self._recheck, key))
        elif self._is_incomplete(image):
            reprocess = partial(pipeline.reprocess, image.image_id, self._services)
            self._found(Kind.INCOMPLETE, key, reprocess)

    def _is_gone(self, image: Image) -> bool:
        """Whether a record is live whose original has been gone for a while."""
        key = image.original.key
        if self._services.uploads.current(key) is not None:
            return False
        now = self._services.catalog.get(image.image_id)
        return now is not None and now.status is not ImageStatus.DELETED and self._was_removed(key)

    def _was_removed(self, key: str) -> bool:
        """Whether nothing is there under a key, and has not been for a while."""
        uploads = self._services.uploads
        answer: Any = uploads.client.list_object_versions(Bucket=uploads.bucket, Prefix=key)
        markers, versions = answer.get("DeleteMarkers", []), answer.get("Versions", [])
        latest = [each for each in (*markers, *versions) if each["Key"] == key and each["IsLatest"]]
        return all(each in markers and each["LastModified"] < self._before for each in latest)

    def _is_incomplete(self, image: Image) -> bool:
        """Whether renditions are missing that the record, read again after them, still names."""
        if not image.status.is_processed:
            return False
        if all(self._modified(rendition.key) for rendition in image.renditions):
            return False
        now = self._services.catalog.get(image.image_id)
        return now is not None and (now.status, now.renditions) == (image.status, image.renditions)

    def _look_at_entries_of(self, image: Image) -> None:
        keys, first = entries_of(image).keys(), key_of_first(image)
        with self._lock:
            self._found_in |= {each for each, _ in keys if each.startswith(("WORD#", "PHASH#"))}
        now, stored = self._table.snapshot(image.image_id, [*keys, *([first] if first else [])])
        if now is None or now.revision != image.revision:
            return
        if first and not self._has_first(now, named := stored.get(first, {})):
            put_first = partial(self._table.put_first, now, named)
            self._found(Kind.UNLISTED, f"{_name_of(first)} of {now.original.key}", put_first)
        for key in unlisted(now, stored):
            put = partial(self._table.put_entry, now, key)
            is_mended = self._found(Kind.UNLISTED, f"{_name_of(key)} of {now.original.key}", put)
            if not is_mended and key not in stored:
                self._note_drift(key, +1)

    def _has_first(self, image: Image, named: Mapping[str, Any]) -> bool:
        """Whether what is named as the first with the bytes of an image still has them.

        That may be another image, of which it came to know only afterwards: one first is enough.
        """
        if not named or named["image_id"]["S"] == image.image_id:
            return bool(named)
        return has_bytes(self._services.catalog.get(named["image_id"]["S"]), named)

    def look_at_totals(self) -> None:
        """Compare the totals with the records, which are added up again where they differ.

        Totals that change meanwhile say nothing: the next check may see them at rest.
        """
        counted, mark = self._table.counters()
        if _totals(counted) == _totals(self._sums):
            return
        try:
            folds = self._table.settled(FOLDS)
        except StaleRevision:
            return  # they are in use
        right: Counter[str] = Counter()
        for image in chain.from_iterable(self._table.records()):
            right.update(counters_of(image))
        missing = {name: right[name] - counted[name] for name in TOTALS}
        wrong = [f"{name}: {counted[name]} for {right[name]}" for name in TOTALS if missing[name]]
        if wrong and self._table.counters()[1] == mark:
            add = partial(self._table.add_to_counters, missing | {FOLDS: 1}, FOLDS, folds)
            self._found(Kind.MISTOTALLED, ", ".join(wrong), add)

    def look_at_entries(self) -> None:
        """The entries of every label that a record or a count names, of their words and looks.

        Where no record is, an entry of a word or a hash is not looked for: nobody finds anything
        by it. An image that is no longer the first with its bytes is passed over by who asks.
        """
        counts = by_label(self._table.counters()[0])
        self._names = {label: next(iter(names)) for label, names in counts.items()} | self._names
        self._counts = {label: sum(names.values()) for label, names in counts.items()}
        for labels in batches(self._names, READ_BATCH):
            self._side_by_side(self._look_at_label, labels)
        for partitions in batches(sorted(self._found_in), READ_BATCH):
            self._side_by_side(self._look_at_partition, partitions)

    def _look_at_label(self, label: str) -> None:
        partitions = [label_partition(label, shard) for shard in range(SHARDS)]
        looked_at = [self._look_at_partition(partition) for partition in partitions]
        if self._repair and self._drift[label]:
            return  # entries change just now: what their count should be, the next check sees
        number, obsolete = (sum(numbers) for numbers in zip(*looked_at, strict=True))
        if obsolete or self._counts.get(label, 0) != number + self._drift[label]:
            self._look_at_count(label)

    def _look_at_partition(self, partition: str) -> tuple[int, int]:
        """Look for entries whose record has none such: how many are there, and how many of them."""
        number = obsolete = 0
        for page in self._table.positions(partition):
            number += len(page)
            for positions in batches(page, READ_BATCH):
                obsolete += self._look_for_obsolete([(partition, each) for each in positions])
        return number, obsolete

    def _look_for_obsolete(self, keys: Sequence[Key]) -> int:
        records = self._services.catalog.get_many([image_id_at(position) for _, position in keys])
        obsolete = 0
        for key in keys:
            image_id = image_id_at(key[1])
            if _has_entry(records.get(image_id), key):
                continue
            image, stored = self._table.snapshot(image_id, [key])
            if key in stored and not _has_entry(image, key):
                delete = partial(self._table.delete_entry, image_id, image, key)
                if not self._found(Kind.OBSOLETE, f"{_name_of(key)} of {image_id}", delete):
                    self._note_drift(key, -1)
                obsolete += 1
        return obsolete

    def _look_at_count(self, label: str) -> None:
        """Compare a count with the entries that are right.

        They are the same before and after the count is read, or it is left for the next check.
        """
        name = self._names[label]
        counter = LABEL_MARK + name
        try:
            settled = self._table.settled(counter)
        except StaleRevision:
            return  # it is in use
        entries = self._table.entries(label)
        seen = sum(by_label(self._table.counters()[0])[label].values())
        right = entries[0] + self._drift[label]
        if seen != right and entries == self._table.entries(label):
            add = partial(self._table.add_to_counters, {counter: right - seen}, counter, settled)
            self._found(Kind.MISCOUNTED, f"{name}: {seen} for {right}", add)

    def look_at_originals(self) -> None:
        for page in self._services.uploads.listing(UPLOADS_PREFIX):
            records = self._services.catalog.get_many([original.image_id for original in page])
            suspects = [
                original
                for original in page
                if not is_recorded(original, records.get(original.image_id))
            ]
            self._side_by_side(self._look_at_original, suspects)

    def _look_at_original(self, original: Original) -> None:
        image = self._services.catalog.get(original.image_id)
        held = self._services.uploads.current(original.key)
        if held is None or is_recorded(held, image):
            return
        if held.uploaded_at < timestamp(self._before):
            self._found(Kind.UNRECORDED, held.key, partial(self._recheck, held.key))

    def look_at_unsettled(self) -> None:
        nothing_waits = self._services.queue.is_empty()
        for suspect in self._services.catalog.unsettled(timestamp(self._before)):
            image = self._services.catalog.get(suspect.image_id)
            if image and is_stuck(image, self._services.clock(), nothing_waits=nothing_waits):
                key = image.original.key
                self._found(Kind.STUCK, key, partial(self._recheck, key))

    def _found(self, kind: Kind, example: str, mend: Callable[[], object]) -> bool:
        """Note a finding, and mend it where that is asked for; gives whether it is mended."""
        is_mended = self._repair
        try:
            if self._repair:
                mend()
        except (StaleRevision, ImageNotFound):
            is_mended = False
        with self._lock:
            tally = self.tallies[kind]
            tally.found += 1
            tally.left += not is_mended
            if len(tally.examples) < EXAMPLES:
                tally.examples.append(example)
        return is_mended

    def _note_drift(self, key: Key, missing: int) -> None:
        if (label := _label_of(key[0])) is not None:
            with self._lock:
                self._drift[label] += missing

    def _recheck(self, key: str) -> None:
        self._services.queue.send([Recheck(key)])

    def _modified(self, key: str) -> datetime | None:
        """When a rendition was stored; None where it is not there."""
        renditions = self._services.renditions
        try:
            answer = renditions.client.head_object(Bucket=renditions.bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in ORIGINAL_GONE:
                return None
            raise
        return answer["LastModified"]

    def _side_by_side(self, look: Callable[[T], object], at: Iterable[T]) -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(look, at))


def _has_entry(image: Image | None, key: Key) -> bool:
    return image is not None and key in entries_of(image)


def _totals(counted: Mapping[str, int]) -> dict[str, int]:
    return {name: counted.get(name, 0) for name in TOTALS}


def _label_of(partition: str) -> str | None:
    """The label whose entries these are; None where they are of something else."""
    kind, _, rest = partition.partition("#")
    return rest.rpartition("#")[0] if kind == "LABEL" else None


def _name_of(key: Key) -> str:
    """What an entry is of, for people."""
    kind, _, rest = key[0].partition("#")
    if kind == "PHASH":
        return f"hash {key[1].partition('#')[0]}"
    return f"SHA-256 {rest}" if kind == "SHA256" else rest.rpartition("#")[0]
