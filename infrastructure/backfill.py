"""Process anew what the pipeline as it is now has not processed yet.

The objects under a prefix are compared with their records: images of an older pipeline version or
of other settings, images that were given up, and objects that were never registered are counted
with what they will cost, and then enqueued. Each image keeps what it has until the new is in place.
Stopped and run again it goes on: what is done or waits already is skipped. Deploy first, since the
functions process with what is deployed.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from enum import StrEnum
from math import inf
from typing import TypeVar

from chalicelib import pipeline
from chalicelib.aws import READ_BATCH, batches
from chalicelib.config import UPLOADS_PREFIX
from chalicelib.errors import ImageNotFound
from chalicelib.messages import Recheck
from chalicelib.model import Image, ImageStatus, Original
from chalicelib.prices import cost_usd
from chalicelib.services import Services
from infrastructure.stage import services_of

T = TypeVar("T")


class Group(StrEnum):
    """What a backfill makes of an object."""

    CURRENT = "current"
    WAITING = "waiting or in work"
    OUTDATED = "of an older version or other settings"
    GIVEN_UP = "given up"
    UNRECORDED = "never registered"

    @property
    def is_taken(self) -> bool:
        return self not in (Group.CURRENT, Group.WAITING)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prefix",
        type=_prefix,
        default=UPLOADS_PREFIX,
        help="take the keys that begin so (default: %(default)s)",
    )
    parser.add_argument(
        "--rate",
        type=_rate,
        default=10.0,
        help="enqueue so many images a second (default: %(default)g)",
    )
    parser.add_argument("--dry-run", action="store_true", help="count, and change nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(options: argparse.Namespace) -> int:
    services = services_of(options.stage)
    counts = Counter(group for _, group in classified(options.prefix, services))
    taken = sum(counts[group] for group in Group if group.is_taken)
    cost = cost_usd(taken, services.settings.features)
    print(f"Pipeline version {services.recipe.version}, keys under {options.prefix}\n")
    for group in Group:
        print(f"{counts[group]:>9,}  {group}")
    print(f"\n{taken:,} to process, for about {cost:,.2f} USD at list prices of us-east-1.")
    if options.dry_run or not taken:
        return 0
    if not (options.yes or _is_agreed()):
        print("Nothing was enqueued.")
        return 1
    _enqueue(options.prefix, options.rate, taken, services)
    return 0


# ── which ────────────────────────────────────────────────────────────────────────────────────────


def group_of(original: Original, image: Image | None, version: str) -> Group:
    """What is to be done about an object, from its record and the pipeline's version now."""
    if image is None or image.status is ImageStatus.DELETED:
        return Group.UNRECORDED
    if not image.status.is_final:
        return Group.WAITING
    if image.original.etag != original.etag:
        return Group.UNRECORDED  # at least this version of it
    if image.is_given_up:
        return Group.GIVEN_UP
    return Group.CURRENT if image.pipeline_version == version else Group.OUTDATED


def classified(prefix: str, services: Services) -> Iterator[tuple[Original, Group]]:
    """Every object under a prefix, by key, a page in memory at a time."""
    for page in services.uploads.listing(prefix, ""):
        for batch in batches(page, READ_BATCH):
            records = services.catalog.get_many([original.image_id for original in batch])
            for original in batch:
                image = records.get(original.image_id)
                yield original, group_of(original, image, services.recipe.version)


# ── enqueueing ───────────────────────────────────────────────────────────────────────────────────


def enqueued(
    prefix: str,
    rate: float,
    services: Services,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Original]:
    """Enqueue what is to be processed under a prefix, and give each object once that is done.

    No more than ``rate`` of them a second.
    """
    strays = (each for each in classified(prefix, services) if each[1].is_taken)
    for original, group in paced(strays, rate, clock, sleep):
        if group is Group.UNRECORDED:
            services.queue.send([Recheck(original.key)])
        else:
            with suppress(ImageNotFound):  # deleted since
                pipeline.reprocess(original.image_id, services)
        yield original


def paced(
    things: Iterable[T], rate: float, clock: Callable[[], float], sleep: Callable[[float], None]
) -> Iterator[T]:
    """The same things, ``rate`` of them a second at most. What was late is not caught up on."""
    due = clock()
    for thing in things:
        sleep(max(0.0, due - clock()))
        due = max(due, clock()) + 1 / rate
        yield thing


def _enqueue(prefix: str, rate: float, total: int, services: Services) -> None:
    # Only here, so that the commands of a deployment need no more than the app itself.
    from tqdm import tqdm  # noqa: PLC0415

    done = 0
    try:
        with tqdm(total=total, unit="image", disable=None) as bar:  # None: only on a terminal
            for _ in enqueued(prefix, rate, services):
                done += 1
                bar.update()
    finally:
        print(f"{done:,} enqueued. What is done or waits is skipped when this is run again.")


def _is_agreed() -> bool:
    if not sys.stdin.isatty():
        print("This is no terminal to ask at: --yes enqueues them.", file=sys.stderr)
        return False
    return input("Enqueue them? [y/N] ").strip().lower() in {"y", "yes"}


def _prefix(text: str) -> str:
    if not text.startswith(UPLOADS_PREFIX):
        raise argparse.ArgumentTypeError(f"originals lie under {UPLOADS_PREFIX}, not {text!r}")
    return text


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0
    if not 0 < rate < inf:
        raise argparse.ArgumentTypeError(f"is a number over 0, not {text!r}")
    return rate
