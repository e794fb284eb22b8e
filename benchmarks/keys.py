"""``python -m benchmarks.keys``: what 10 million images a day write under which key.

Pure computing. The catalog's own code writes the lives of some images to a client that only adds
up what DynamoDB would charge, by partition key, in the table and in its indexes. How often
transactions meet at a counter is another matter: that is simulated with a clock of its own, for
counters that every image adds to as it is written, and for changes that are put down first.
"""

import argparse
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import count
from math import ceil
from statistics import mean
from typing import TYPE_CHECKING, Any, Self, cast

from benchmarks.album import NAMES, WRITTEN, completed, life_of, some_labels
from chalicelib.aws.catalog import BUSY_ATTEMPTS, FOLDED, Catalog
from chalicelib.aws.layout import CHUNKS, FOLD_EVERY, SHARDS, bytes_of, confidences_of, entries_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from chalicelib.model import Image

    Make = Callable[[int, random.Random], Image]

IMAGES_A_DAY = 10_000_000
PEAK = 3
PER_S = PEAK * IMAGES_A_DAY / 86_400
"""Images a second at the peak."""

LIMIT = 1_000
"""Write units a second that one partition takes."""

SAME_LOOKS = 0.05
"""The part of all images that look the same, or are: blank pages, say."""

WITH_TEXT = 5
"""Of so many images, one has text."""

WORDS = 20
"""Of an image with text."""

INDEXES = {
    "listing": ("listing", "listed_at"),
    "listing_by_status": ("listing_by_status", "listed_at"),
    "unsettled": ("unsettled", "updated_at"),
}


# ── what is written where ────────────────────────────────────────────────────────────────────────


class Ledger:
    """A client that keeps what indexes and counters need to be right, and adds up the rest."""

    def __init__(self) -> None:
        self.units: dict[tuple[str, str], float] = defaultdict(float)
        self._keys: dict[tuple[str, str], dict[str, tuple[str, str]]] = {}
        self._changes: dict[str, dict[str, Any]] = defaultdict(dict)
        self._counters: dict[str, set[str]] = defaultdict(set)

    def put_item(self, **request: Any) -> None:
        self._put(request["Item"], times=1)

    def transact_write_items(self, TransactItems: list[dict[str, Any]]) -> None:  # noqa: N803
        for write in TransactItems:  # each costs twice what it would alone
            if "Put" in write:
                self._put(write["Put"]["Item"], times=2)
                continue
            [(kind, change)] = write.items()
            pk, size = change["Key"]["pk"]["S"], 1
            if kind == "Delete":
                self._changes[pk].pop(change["Key"]["sk"]["S"], None)
            else:
                self._counters[pk] |= set(change["ExpressionAttributeNames"].values())
                size = sum(len(counter) + 5 for counter in self._counters[pk])
            self.units["table", pk] += 2 * ceil(size / 1024)

    def get_paginator(self, _: str) -> Self:
        return self

    def paginate(self, **query: Any) -> Iterator[dict[str, Any]]:
        partition = query["ExpressionAttributeValues"][":shard"]["S"]
        yield {"Items": list(self._changes[partition].values())[: query["Limit"]]}

    def _put(self, item: dict[str, Any], times: int) -> None:
        pk, sk = item["pk"]["S"], item["sk"]["S"]
        self.units["table", pk] += times * ceil(size_of(item) / 1024)
        if pk.startswith("CHANGES#"):
            self._changes[pk][sk] = item
        if not pk.startswith("IMAGE#"):
            return
        keys = {
            index: (item[partition]["S"], item[sort]["S"])
            for index, (partition, sort) in INDEXES.items()
            if partition in item
        }
        before = self._keys.get((pk, sk), {})
        for index in INDEXES:
            if before.get(index) != keys.get(index):  # what moves is deleted and put
                for entry in (before.get(index), keys.get(index)):
                    if entry:
                        self.units[index, entry[0]] += 1
        self._keys[pk, sk] = keys


def size_of(item: Mapping[str, Any]) -> int:
    """Bytes of an item as DynamoDB counts them, roughly: its names and what they hold."""
    return sum(len(name) + _size(member) for name, member in item.items())


def _size(attribute: Mapping[str, Any]) -> int:
    [(kind, value)] = attribute.items()
    if kind == "M":
        return 3 + sum(1 + len(name) + _size(member) for name, member in value.items())
    if kind == "L":
        return 3 + sum(1 + _size(member) for member in value)
    return len(value) // 2 + 2 if kind == "N" else len(value) if kind == "S" else 1


def some_with_text(number: int, chance: random.Random) -> "Image":
    return completed(number, chance, words=0 if number % WITH_TEXT else WORDS)


def written(images: int, make: "Make" = completed) -> dict[tuple[str, str], float]:
    """Write units a second at the peak, by index and partition key."""
    chance, ledger = random.Random(1), Ledger()  # noqa: S311 - no secret
    catalog = Catalog(cast("Any", ledger), "table")
    for number in range(images):
        image, previous = make(number, chance), None
        for record in life_of(image):
            if bytes_of(record) and not record.announced:  # it was asked for while in work
                catalog.first_of(bytes_of(record), record.original)
            previous = catalog.save(record, previous)
    return {key: units * PER_S / images for key, units in ledger.units.items()}


def report_written(images: int) -> None:
    units = written(images, some_with_text)
    kinds: dict[str, list[float]] = defaultdict(list)
    for (index, key), number in units.items():
        kind = key.partition("#")[0] if index == "table" else f"index {index}"
        kinds[kind].append(number)
    print("| entries | units an image | busiest key, units/s | of the limit |")
    print("|---|--:|--:|--:|")
    for kind, numbers in sorted(kinds.items()):
        an_image, most = sum(numbers) / PER_S, max(numbers)
        if kind == "IMAGE":  # a key is one image's
            most = an_image
        if kind in ("PHASH", "SHA256"):  # or of those that look, or are, the same
            most = an_image / (4 if kind == "PHASH" else 1) * PER_S * SAME_LOOKS
        print(f"| `{kind}` | {an_image:.1f} | {most:,.0f} | {most / LIMIT:.0%} |")
    print(f"| **all** | {sum(units.values()) / PER_S:.1f} | | |\n")


def report_images(images: int) -> None:
    """What the writes of an image come to, by how much is seen in it."""
    print("| an image with | found by | bytes of an entry | write units |\n|---|--:|--:|--:|")
    kinds = {
        f"{labels} labels{', those above them besides' if besides else ''}{text}": partial(
            completed, labels=labels, words=words, parents_besides=besides
        )
        for labels, besides, words, text in (
            *((10, False, 0, ""), (10, True, 0, ""), (20, False, 0, ""), (20, True, 0, "")),
            *((20, False, words, f", {words} words") for words in (5, 20, 50, 100)),
            (90, False, 0, ""),
        )
    }
    for name, make in kinds.items():
        chance = random.Random(3)  # noqa: S311 - no secret
        some = [make(number, chance) for number in range(100)]
        terms = [len(confidences_of(image)) for image in some]
        sizes = [
            size_of(entry)
            for image in some
            for (pk, _), entry in entries_of(image).items()
            if not pk.startswith("PHASH#")
        ]
        units = sum(written(images, make).values()) / PER_S
        spread = f"{mean(sizes):,.0f} (up to {max(sizes):,})"
        print(f"| {name} | {mean(terms):.0f} | {spread} | {units:.0f} |")
    print()


# ── transactions that meet ───────────────────────────────────────────────────────────────────────


class Turns:
    """Who has which entry when: transactions hold theirs from their beginning to their end."""

    def __init__(self, lasting_s: float) -> None:
        self._lasting_s = lasting_s
        self._begun: dict[int, dict[object, list[float]]] = {}  # by when, in steps as long

    def are_free(self, keys: Iterable[object], at: float) -> bool:
        """Take these keys at that time, unless somebody has one; who is refused has held none."""
        step = int(at / self._lasting_s)
        near = [self._begun.setdefault(step + by, defaultdict(list)) for by in (-1, 0, 1)]
        begun = (begun for key in keys for each in near if key in each for begun in each[key])
        if any(abs(moment - at) < self._lasting_s for moment in begun):
            return False
        for key in keys:
            near[1][key].append(at)
        return True

    def forget(self, before: float) -> None:
        for step in [each for each in self._begun if each < before / self._lasting_s]:
            del self._begun[step]


def added_at_once(shards: int, images: int, lasting_s: float) -> tuple[float, float]:
    """Tries an image, and the part that is given up, where each adds to its labels' counters."""
    chance, turns = random.Random(2), Turns(lasting_s)  # noqa: S311 - no secret
    now, tries, given_up = 0.0, 0, 0
    for number in range(images):
        now += chance.expovariate(PER_S)
        if number % 1000 == 0:
            turns.forget(now - 10)
        labels, at = some_labels(chance), now
        for attempt in count(1):
            tries += 1
            if turns.are_free([(label, chance.randrange(shards)) for label in labels], at):
                break
            if attempt == BUSY_ATTEMPTS:
                given_up += 1
                break
            at += lasting_s / 2 + chance.uniform(0, 0.02 * 2**attempt)
    return tries / images, given_up / images


def put_down(images: int, lasting_s: float, per_s: float) -> tuple[float, float, int]:
    """The part of all additions that are refused, and how many changes wait: on average, at most.

    All additions meet at the totals. Each begins with a query that takes as long.
    """
    chance = random.Random(2)  # noqa: S311 - no secret
    turns = Turns(lasting_s)
    waiting = [0] * SHARDS
    now, additions, refused, total, most = 0.0, 0, 0, 0, 0
    for number in range(images):
        now += chance.expovariate(per_s)
        if number % 1000 == 0:
            turns.forget(now - 10)
        shard = chance.randrange(SHARDS)
        if chance.randrange(FOLD_EVERY) == 0:
            additions += 1
            if turns.are_free(["totals"], now + lasting_s):
                waiting[shard] -= min(waiting[shard], FOLDED)
            else:
                refused += 1
        waiting[shard] += 1
        total += sum(waiting)
        most = max(most, sum(waiting))
    return refused / additions, total / images, most


def report_met(images: int) -> None:
    print("| counters | a transaction takes | tries an image | given up |\n|---|--:|--:|--:|")
    for shards in (8, 32, 128):
        for lasting_ms in (10, 20):
            tries, given_up = added_at_once(shards, images, lasting_ms / 1000)
            print(f"| on {shards} shards | {lasting_ms} ms | {tries:.2f} | {given_up:.2%} |")
    print("\n| images/s | an addition takes | refused | changes that wait | at most |")
    print("|--:|--:|--:|--:|--:|")
    for times in (1, 3, 10):
        for lasting_ms in (10, 20, 40):
            refused, waiting, most = put_down(10 * images, lasting_ms / 1000, times * PER_S)
            cells = f"{times * PER_S:,.0f} | {lasting_ms} ms | {refused:.0%}"
            print(f"| {cells} | {waiting:,.0f} | {most:,} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5_000, help="to write")
    parser.add_argument("--simulated", type=int, default=30_000, help="to count")
    options = parser.parse_args()
    print(
        f"{IMAGES_A_DAY:,} images a day, {PER_S:.0f} a second at the peak, {len(NAMES):,} labels; "
        f"one of {WITH_TEXT} has {WORDS} of {len(WRITTEN):,} words."
    )
    print(
        f"{SHARDS} shards; {CHUNKS} entries of counts; one of {FOLD_EVERY} images adds to them.\n"
    )
    report_written(options.images)
    report_images(options.images // 10)
    report_met(options.simulated)


if __name__ == "__main__":
    main()
