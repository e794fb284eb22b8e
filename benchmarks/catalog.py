"""``python -m benchmarks.catalog``: what the catalog's answers cost as it grows.

A table is filled with 1,000 images, then with 100,000, in entries as the catalog writes them, and
each question is asked at both sizes. What DynamoDB would charge, the calls and the entries looked
at are the truth; the time is that of dynalite (npm), which stores a table in LevelDB and reads
ranges of keys, as DynamoDB does. MiniStack sorts a whole partition for every query, so its time
grows, whatever is asked.
"""

import argparse
import random
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ConnectionError as NoConnection

from benchmarks import album
from benchmarks.album import NAMES, WRITTEN, completed
from chalicelib.aws import batches
from chalicelib.aws import catalog as module
from chalicelib.aws.catalog import Catalog
from chalicelib.aws.layout import (
    FOLDS,
    change_of,
    counter_key,
    counters_of,
    entries_of,
    record_of,
    shard_of,
)
from chalicelib.messages import timestamp
from chalicelib.model import Image, ImageStatus, Query
from infrastructure.stage import PROJECT
from infrastructure.template import read_template
from localcloud.emulator import REGION
from localcloud.processes import free_port

DYNALITE = "dynalite@4.0.0"
HOME = Path(".bench/dynalite")
TABLE = "catalog"
WRITE_BATCH = 25
PENDING = 350
"""Changes that wait to be added to the counters, as at a peak (``benchmarks.keys``)."""

BACKLOG = 50
"""Images that wait, at either size."""

RARE, RARELY = "Unicorn", 60
"""A label, and how many images have it."""

WITH_TEXT, WORDS = 5, 5
"""One of so many images has text, and that has so many words."""

CALL_S = 0.008
"""What a call of DynamoDB takes from Lambda, in round numbers."""


# ── the table ────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def dynalite() -> Iterator[Any]:
    """A client of an empty DynamoDB, in a folder of its own."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        raise SystemExit("This takes Node.js and npm: dynalite stands in for DynamoDB.")
    if not (HOME / "node_modules").exists():
        HOME.mkdir(parents=True, exist_ok=True)
        (HOME / "package.json").write_text('{"private": true}\n')
        subprocess.run([npm, "install", "--silent", DYNALITE], cwd=HOME, check=True)
    port = free_port()
    with TemporaryDirectory() as folder:
        place = ("--host", "127.0.0.1", "--port", str(port), "--path", folder)
        command = (node, "node_modules/dynalite/cli.js", *place, "--createTableMs", "0")
        server = subprocess.Popen(command, cwd=HOME, stdout=subprocess.DEVNULL)
        try:
            client = boto3.client(
                "dynamodb",
                endpoint_url=f"http://127.0.0.1:{port}",
                region_name=REGION,
                aws_access_key_id="test",
                aws_secret_access_key="test",  # noqa: S106 - no secret
                config=Config(max_pool_connections=50, retries={"total_max_attempts": 1}),
            )
            create_table(client)
            yield client
        finally:
            server.terminate()
            server.wait()


def create_table(client: Any) -> None:
    """The table of the template, once the server is up."""
    template = read_template(PROJECT / "infrastructure" / "resources.yaml")
    made = template["Resources"]["Catalog"]["Properties"]
    parts = ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode")
    for _ in range(100):
        with suppress(NoConnection):
            client.create_table(TableName=TABLE, **{part: made[part] for part in parts})
            return
        time.sleep(0.1)
    raise SystemExit("dynalite does not answer.")


def images(size: int, labels: int) -> Iterator[Image]:
    """A catalog's, some of them with a label that is rare."""
    for number in range(size):
        chance = random.Random(number)  # noqa: S311 - no secret
        image = completed(number, chance, labels, words=0 if number % WITH_TEXT else WORDS)
        if number % (size // RARELY) == 0 and number // (size // RARELY) < RARELY:
            rare = replace(image.recognition.labels[0], name=RARE)
            known = (rare, *image.recognition.labels)
            image = replace(image, recognition=replace(image.recognition, labels=known))
        yield image


def fill(client: Any, size: int, labels: int) -> None:
    """Write what a catalog of so many images has."""
    counted: Counter[str] = Counter({FOLDS: 1})
    lock = threading.Lock()

    def write(some: Sequence[tuple[int, Image]]) -> None:
        entries, sums = [], Counter[str]()
        for number, image in some:
            entries += [record_of(image), *entries_of(image).values()]
            by = counters_of(image)
            if number < size - PENDING:
                sums.update(by)
            else:
                entries.append(change_of(shard_of(image.image_id), by))
        for batch in batches(entries, WRITE_BATCH):
            puts = [{"PutRequest": {"Item": entry}} for entry in batch]
            client.batch_write_item(RequestItems={TABLE: puts})
        with lock:
            counted.update(sums)

    groups = batches(enumerate(images(size, labels)), 100)
    with ThreadPoolExecutor(3) as pool:
        while some := list(islice(groups, 30)):
            list(pool.map(write, some))
    places = {counter: counter_key(counter)["pk"]["S"] for counter in counted}
    for _, counters in groupby(sorted(counted, key=places.__getitem__), places.__getitem__):
        by = {counter: {"N": str(counted[counter])} for counter in counters}
        client.put_item(TableName=TABLE, Item=counter_key(next(iter(by))) | by)


def backlog(client: Any, last: int) -> None:
    for number in range(last, last + BACKLOG):
        image = completed(number, random.Random(number))  # noqa: S311 - no secret
        waiting = Image(image.original, ImageStatus.QUEUED, image.updated_at)
        client.put_item(TableName=TABLE, Item=record_of(waiting))


# ── the questions ────────────────────────────────────────────────────────────────────────────────


class Meter:
    """What the calls of a client come to."""

    def __init__(self, client: Any) -> None:
        self.calls = self.scanned = 0
        self.units = 0.0
        self._lock = threading.Lock()
        events = client.meta.events
        for operation in ("Query", "BatchGetItem", "GetItem"):
            events.register(f"provide-client-params.dynamodb.{operation}", self._ask)
            events.register(f"after-call.dynamodb.{operation}", self._note)

    def _ask(self, params: dict[str, Any], **_: object) -> dict[str, Any]:
        return params | {"ReturnConsumedCapacity": "TOTAL"}

    def _note(self, parsed: dict[str, Any], **_: object) -> None:
        used = parsed["ConsumedCapacity"]
        with self._lock:
            self.calls += 1
            self.scanned += parsed.get("ScannedCount", 0)
            for each in used if isinstance(used, list) else [used]:
                self.units += each["CapacityUnits"]

    def reset(self) -> None:
        self.calls = self.scanned = 0
        self.units = 0.0


@dataclass(frozen=True)
class Cost:
    units: float
    calls: int
    scanned: int
    ms: float


def questions(catalog: Catalog, last: int) -> dict[str, Callable[[], object]]:
    """What is asked of a catalog of so many images, by how it is called in the table."""
    middle = timestamp(album.moment_of(last // 2))
    early = timestamp(album.moment_of(last // 4))
    [one] = catalog.browse(Query(1, until=middle)).images
    phash = one.fingerprint.phash if one.fingerprint else ""
    deep = catalog.browse(Query(50, until=middle)).cursor
    browse = {
        "newest 50": Query(50),
        "50 deep inside, by cursor": Query(50, cursor=deep),
        "50 of a status": Query(50, status=ImageStatus.COMPLETED),
        "50 within dates": Query(50, since=early, until=middle),
        "50 of the most frequent label": Query(50, labels=(NAMES[0],)),
        "50 of a rare label": Query(50, labels=(RARE,)),
        "50 of two frequent labels": Query(50, labels=(NAMES[0], NAMES[1])),
        "50 of a frequent and a rare label": Query(50, labels=(NAMES[0], RARE)),
        "50 of a label, a status, within dates": Query(
            50, labels=(NAMES[2],), status=ImageStatus.COMPLETED, since=early, until=middle
        ),
        "50 of the most frequent word": Query(50, words=(WRITTEN[0],)),
        "50 of two words and a label": Query(50, words=tuple(WRITTEN[1:3]), labels=(NAMES[0],)),
        "50 of a label, none sure enough": Query(50, labels=(NAMES[0],), min_confidence=99.999),
    }
    return {name: partial(catalog.browse, query) for name, query in browse.items()} | {
        "all labels and how many have them": lambda: catalog.label_counts(""),
        "totals": catalog.totals,
        "look-alikes within 3 bits": lambda: catalog.similar(phash, 3, 50),
        "look-alikes within 7 bits": lambda: catalog.similar(phash, 7, 50),
    }


def cost_of(ask: Callable[[], object], meter: Meter, rounds: int) -> Cost:
    ask()
    meter.reset()
    ask()
    units, calls, scanned = meter.units, meter.calls, meter.scanned
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        ask()
        times.append(1000 * (time.perf_counter() - began))
    return Cost(units, calls, scanned, median(times))


def report(sizes: Sequence[int], costs: Sequence[Mapping[str, Cost]]) -> None:
    small, large = (f"{size:,}" for size in sizes)
    pairs = [f"{what}: {small} | {large}" for what in ("read units", "calls", "looked at")]
    print(f"| asked for | {' | '.join(pairs)} | ratio of times |")
    print("|---|" + "--:|" * 7)
    for name, one in costs[0].items():
        other = costs[1][name]
        cells = (
            *(f"{one.units:g}", f"{other.units:g}", one.calls, other.calls),
            *(f"{one.scanned:,}", f"{other.scanned:,}", f"{other.ms / one.ms:.2f}"),
        )
        print(f"| {name} | " + " | ".join(map(str, cells)) + " |")
    print()


def report_waiting(asked: Mapping[str, Callable[[], object]], client: Any, rounds: int) -> None:
    """What asking side by side saves where a call takes as long as it does on AWS."""
    client.meta.events.register("before-send.dynamodb", lambda **_: time.sleep(CALL_S))
    names = ("newest 50", "all labels and how many have them", "look-alikes within 7 bits")
    print(f"| with {1000 * CALL_S:.0f} ms more a call | one after the other | side by side |")
    print("|---|--:|--:|")
    for name in names:
        times = []
        for threads in (1, module.THREADS):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(module, "THREADS", threads)
                began = time.perf_counter()
                for _ in range(rounds):
                    asked[name]()
                times.append(1000 * (time.perf_counter() - began) / rounds)
        print(f"| {name} | {times[0]:.0f} ms | {times[1]:.0f} ms |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs=2, default=[1_000, 100_000])
    parser.add_argument("--labels", type=int, default=album.LABELS, help="of an image")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    costs = []
    for size in options.sizes:
        with dynalite() as client:
            began = time.monotonic()
            fill(client, size, options.labels)
            backlog(client, size)
            print(f"{size:,} images written in {time.monotonic() - began:,.0f} s.", flush=True)
            meter, asked = Meter(client), questions(Catalog(client, TABLE), size)
            costs.append({name: cost_of(ask, meter, options.rounds) for name, ask in asked.items()})
            if size == options.sizes[-1]:
                report(options.sizes, costs)
                report_waiting(asked, client, options.rounds)


if __name__ == "__main__":
    main()
