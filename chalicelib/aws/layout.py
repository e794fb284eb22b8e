"""What lies where in the catalog's table: the keys, and all that is derived from a record.

======================== ============================== ==========================================
what                     ``pk``                         ``sk``
======================== ============================== ==========================================
the record of an image   ``IMAGE#<image id>``           ``RECORD``
a label of an image      ``LABEL#<label>#<shard>``      ``<uploaded at>#<image id>``
a word written in it     ``WORD#<word>#<shard>``        ``<uploaded at>#<image id>``
a band of its hash       ``PHASH#<band>#<4 digits>``    ``<perceptual hash>#<image id>``
the first with its bytes ``SHA256#<64 digits>``         ``FIRST``
what one write changes   ``CHANGES#<shard>``            random
images with a label      ``COUNTS#<chunk>``             ``COUNTS``
images and bytes in all  ``TOTALS``                     ``TOTALS``
a request, once done     ``REQUEST#<request>``          ``REQUEST``
where a pass has come to ``BOOKMARK#<name>``            ``POSITION``
who is told by webhooks  ``DESTINATIONS``               ``<destination id>``
how a destination fares  ``DESTINATIONS``               ``<destination id>#CIRCUIT``
what it was told         ``DELIVERIES#<destination>``   ``<event id>``
======================== ============================== ==========================================

Records carry ``listing`` (the shard), ``listing_by_status`` (status and shard) and ``listed_at``
(upload time and image id), the keys of the two indexes of the same names, newest last. Deleted
images carry none of them and so leave the lists at once. While something is left to do for an
image, it also carries ``unsettled`` (the shard), the key of a third index, by ``updated_at``.
Deliveries are in the first, too: their ``listing`` is their ``pk``, ``listed_at`` has time and id
of the event.

What is counted is the sum of two: ``COUNTS`` and ``TOTALS``, where each counter is an attribute,
and the ``CHANGES`` that have yet to be added to them. A record's transaction only puts such a
change. If it added to counters itself, transactions of images with a common label would meet
there, and all but one be refused: at 350 images a second, with 8 shards a counter, three tries in
four (``benchmarks/keys.py``). Of those who add changes, each for a shard, who comes second leaves.
"""

import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import chain, islice
from typing import Any
from uuid import uuid4

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer

from chalicelib.errors import InvalidRequest
from chalicelib.messages import timestamp
from chalicelib.model import Image, ImageStatus, Original, term_of, words_of
from chalicelib.plain import from_plain, to_plain

SHARDS = 8
"""Partitions that each list and each label is spread over, by image id.

A partition takes 1,000 writes a second at most, and every image of a moment sorts next to its
neighbours. A page is merged from one query a shard.
"""

CHUNKS = 16
"""Entries that the counts of labels are kept in: 3,000 labels take 4 KB in each."""

FOLD_EVERY = 32
"""Before one of so many images is counted, the changes of its shard are added to the counters."""

TOMBSTONE_TTL = timedelta(days=30)
"""How long a deleted image is remembered, so that a late event of its upload cannot revive it."""

BANDS = 4
BAND_DIGITS = 4
"""Of a hash of 64 bits, 16 hex digits: each band has 16 bits, which is 4 digits."""

COUNTED = (ImageStatus.COMPLETED, ImageStatus.QUARANTINED, ImageStatus.FAILED)
"""The statuses that images stay in. Those that are not done yet are counted by their list."""

TOTALS = (*COUNTED, "original_bytes", "rendition_bytes")
"""Counters of all images."""

MAX_TERMS = 94
"""What an image is found by, at most: so many entries fit into its transaction (``WRITES``)."""

WORD_MARK = "W"
"""What a word begins with among the terms. No label does: all are in lower case (``term_of``)."""

FOLDS = "folds"
"""Counter of the additions to the counters."""

LABEL_MARK = "="
"""What the name of a label's counter begins with; the label follows as Rekognition writes it."""

DESTINATIONS = "DESTINATIONS"
"""The one partition of all destinations: there are few."""

CIRCUIT = "#CIRCUIT"
"""What follows the id of a destination where it is told how that fares."""

LISTED_KEYS = (
    *("pk", "sk", "listing", "listing_by_status", "listed_at", "unsettled", "expires_at"),
)

EPOCH = datetime.fromtimestamp(0, UTC)
CURSOR = r"[0-9]{13}\.[a-z2-7]{26}"

# Around every position, which begins with the digits of a year.
OLDEST, NEWEST = "0", ":"

# Conditions of a write: of what is as it was read, so that whoever was faster wins.
ABSENT = "attribute_not_exists(pk)"  # there is no such entry yet
UNCHANGED = "revision = :revision"  # nobody has written since it was read
SEEN = "put_down = :gone"  # it is the one that was read
UNTAKEN = f"{ABSENT} OR image_id = :me OR {SEEN}"

Key = tuple[str, str]
"""``pk`` and ``sk`` of an entry."""

serialize = TypeSerializer().serialize
deserialize = TypeDeserializer().deserialize


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────


def item_key(pk: str, sk: str) -> dict[str, Any]:
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def record_key(image_id: str) -> dict[str, Any]:
    return item_key(f"IMAGE#{image_id}", "RECORD")


def changes_partition(shard: int) -> str:
    return f"CHANGES#{shard}"


def chunk_key(label: str) -> dict[str, Any]:
    """Of the entry that counts a label, in whatever case."""
    return _chunk_key(zlib.crc32(term_of(label).encode()) % CHUNKS)


def _chunk_key(chunk: int) -> dict[str, Any]:
    return item_key(f"COUNTS#{chunk}", "COUNTS")


def request_key(request: str) -> dict[str, Any]:
    return item_key(f"REQUEST#{request}", "REQUEST")


def bookmark_key(name: str) -> dict[str, Any]:
    return item_key(f"BOOKMARK#{name}", "POSITION")


def destination_key(destination_id: str) -> dict[str, Any]:
    return item_key(DESTINATIONS, destination_id)


def circuit_key(destination_id: str) -> dict[str, Any]:
    return item_key(DESTINATIONS, f"{destination_id}{CIRCUIT}")


def deliveries_partition(destination_id: str) -> str:
    return f"DELIVERIES#{destination_id}"


def delivery_key(destination_id: str, event_id: str) -> dict[str, Any]:
    return item_key(deliveries_partition(destination_id), event_id)


CHUNK_KEYS = tuple(map(_chunk_key, range(CHUNKS)))
TOTALS_KEY = item_key("TOTALS", "TOTALS")


def label_partition(label: str, shard: int) -> str:
    return f"LABEL#{label}#{shard}"


def term_partition(term: str, shard: int) -> str:
    if term.startswith(WORD_MARK):
        return f"WORD#{term.removeprefix(WORD_MARK)}#{shard}"
    return label_partition(term, shard)


def first_key(sha256: str) -> dict[str, Any]:
    """Of the entry that names the first image with some bytes.

    Who looks at these bytes puts it down, and whoever no longer has them takes it back, so it is
    none of what is derived from a record. It says nothing where its image has not those bytes.
    """
    return item_key(f"SHA256#{sha256}", "FIRST")


def put_of_first(sha256: str, original: Original, gone: str) -> dict[str, Any]:
    """The put of that entry, where there is none, or just the one that is ``gone``.

    Each that is put down is another, so that who has seen one knows whether it still is.
    """
    me = {"S": original.image_id}
    put_down = {"image_id": me, "etag": {"S": original.etag}, "put_down": {"S": uuid4().hex}}
    return {
        "Item": first_key(sha256) | put_down,
        "ConditionExpression": UNTAKEN,
        "ExpressionAttributeValues": {":me": me, ":gone": {"S": gone}},
    }


def band_partition(band: int, digits: str) -> str:
    return f"PHASH#{band}#{digits}"


def shard_of(image_id: str) -> int:
    return zlib.crc32(image_id.encode()) % SHARDS


def is_folding(image_id: str) -> bool:
    return zlib.crc32(image_id.encode()) // SHARDS % FOLD_EVERY == 0


def position_of(image: Image) -> str:
    """Where an image is in every list: ``<uploaded at>#<image id>``."""
    return f"{image.original.uploaded_at}#{image.image_id}"


def image_id_at(position: str) -> str:
    return position.rpartition("#")[2]


def cursor_of(position: str) -> str:
    """The position in digits and letters that need no encoding anywhere: milliseconds and id."""
    at, _, image_id = position.partition("#")
    return f"{(datetime.fromisoformat(at) - EPOCH) // timedelta(milliseconds=1):013}.{image_id}"


def position_at(cursor: str) -> str:
    """Raises InvalidRequest: nothing else may become a key, of which DynamoDB takes up to 1 KB."""
    if not re.fullmatch(CURSOR, cursor):
        raise InvalidRequest(
            "The cursor is not one of ours: pass on `cursor` of the page before as it is.",
            {"cursor": "is not one of ours"},
        )
    ms, _, image_id = cursor.partition(".")
    return f"{timestamp(EPOCH + timedelta(milliseconds=int(ms)))}#{image_id}"


def right_below(position: str) -> str:
    """What no position lies between and this one: all of one moment have the same length."""
    return position[:-1] + chr(ord(position[-1]) - 1)


# ── the record ───────────────────────────────────────────────────────────────────────────────────


def record_of(image: Image) -> dict[str, Any]:
    shard = shard_of(image.image_id)
    attributes = _with_decimals(to_plain(image))
    if image.status is ImageStatus.DELETED:
        deleted_at = datetime.fromisoformat(image.updated_at)
        attributes["expires_at"] = int((deleted_at + TOMBSTONE_TTL).timestamp())
    else:
        attributes |= {
            "listing": str(shard),
            "listing_by_status": f"{image.status}#{shard}",
            "listed_at": position_of(image),
        }
    if not image.is_settled:
        attributes["unsettled"] = str(shard)
    item = {name: serialize(value) for name, value in attributes.items()}
    return item | record_key(image.image_id)


def image_of(item: Mapping[str, Any]) -> Image:
    plain = {
        name: _without_decimals(deserialize(value))
        for name, value in item.items()
        if name not in LISTED_KEYS
    }
    return from_plain(Image, plain)


# ── what is derived from it ──────────────────────────────────────────────────────────────────────


def entries_of(image: Image) -> dict[Key, dict[str, Any]]:
    """What makes an image findable, by its terms and looks: entries, by their keys.

    An entry of a term carries the confidences of all, so that one query finds several at once.
    """
    confidences = confidences_of(image)
    found = {"confidences": serialize(_with_decimals(confidences))}
    shard, position = shard_of(image.image_id), position_of(image)
    terms = [(term_partition(term, shard), position) for term in confidences]
    entries = {key: item_key(*key) | found for key in terms}
    return entries | {key: item_key(*key) for key in _bands_of(image)}


def bytes_of(image: Image) -> str:
    """SHA-256 of the bytes that an image is known to have; empty where that is not known."""
    return "" if image.status is ImageStatus.DELETED else image.sha256


def has_bytes(image: Image | None, entry: Mapping[str, Any]) -> bool:
    """Whether the image that an entry names as the first with some bytes may still be.

    While it is first looked at, its record does not tell its bytes, but its ETag, which another
    version has only if it has the same bytes, too; entries of before have none. One that waits
    may never be looked at, and where it is, it comes as a copy of the next that is.
    """
    if image is None:
        return False
    if known := bytes_of(image):
        return bool(first_key(known)["pk"] == entry["pk"])
    is_same = entry.get("etag") == {"S": image.original.etag}
    return is_same and image.status is ImageStatus.PROCESSING


def confidences_of(image: Image) -> dict[str, float]:
    """How sure Rekognition is of each term that an image is found by, ``MAX_TERMS`` at most.

    Labels as they are searched for and, behind them, words, each as sure as the surest line.
    """
    terms = {term: confidence for term, (_, confidence) in _named(image).items()}
    for line in image.recognition.text:
        for term in (WORD_MARK + word for word in words_of(line.text)):
            terms[term] = max(terms.get(term, 0), line.confidence)
    return dict(islice(terms.items(), MAX_TERMS))


def labels_of(image: Image) -> dict[str, str]:
    """The labels under which an image counts: as Rekognition writes them, by how one searches."""
    names = {term: name for term, (name, _) in _named(image).items()}
    return dict(islice(names.items(), MAX_TERMS))


def _named(image: Image) -> dict[str, tuple[str, float]]:
    """What an image shows that has a name: how it is written, and how sure that is.

    Labels, then those above them, each as sure as the surest below, then likewise moderation
    labels, then celebrities.
    """
    labels, moderation = image.recognition.labels, image.recognition.moderation
    named: dict[str, tuple[str, float]] = {}
    for name, confidence in chain(
        ((each.name, each.confidence) for each in labels),
        ((parent, each.confidence) for each in labels for parent in each.parents),
        ((each.name, each.confidence) for each in moderation),
        ((each.parent, each.confidence) for each in moderation if each.parent),
        ((each.name, each.confidence) for each in image.recognition.celebrities),
    ):
        written, known = named.get(term_of(name), (name, confidence))
        named[term_of(name)] = written, max(known, confidence)
    return named


def counters_of(image: Image) -> dict[str, int]:
    """What an image adds to which counter."""
    counters = {LABEL_MARK + name: 1 for name in labels_of(image).values()}
    if image.status in COUNTED:
        counters[image.status] = 1
    if image.status.is_processed:
        counters["original_bytes"] = image.original.size_bytes
        counters["rendition_bytes"] = sum(each.size_bytes for each in image.renditions)
    return counters


def counter_key(counter: str) -> dict[str, Any]:
    """Of the entry that has a counter."""
    if counter.startswith(LABEL_MARK):
        return chunk_key(counter.removeprefix(LABEL_MARK))
    return TOTALS_KEY


def change_of(shard: int, by: Mapping[str, int]) -> dict[str, Any]:
    """An entry that has yet to be added to the counters; no other has its key."""
    return item_key(changes_partition(shard), uuid4().hex) | {"by": serialize(dict(by))}


def added_by(change: Mapping[str, Any]) -> Counter[str]:
    """By how much a change has yet to change which counters."""
    return Counter({counter: int(by["N"]) for counter, by in change["by"]["M"].items()})


def added(entry: Mapping[str, Any]) -> Counter[str]:
    """What an entry of counters has come to; every number of it is one."""
    return Counter({counter: int(by["N"]) for counter, by in entry.items() if "N" in by})


def by_label(counted: Mapping[str, int]) -> defaultdict[str, Counter[str]]:
    """How many images have each label, and in which spelling, by the label as one searches it."""
    labels: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for counter, number in counted.items():
        if counter.startswith(LABEL_MARK):
            name = counter.removeprefix(LABEL_MARK)
            labels[term_of(name)][name] = number
    return labels


def addition(by: Mapping[str, int]) -> dict[str, Any]:
    """The update that adds to counters of one entry."""
    counters = list(by)
    return {
        "Key": counter_key(counters[0]),
        "UpdateExpression": "ADD " + ", ".join(f"#{each} :{each}" for each in range(len(counters))),
        "ExpressionAttributeNames": {f"#{n}": counter for n, counter in enumerate(counters)},
        "ExpressionAttributeValues": {
            f":{n}": {"N": str(by[counter])} for n, counter in enumerate(counters)
        },
    }


def is_comparable(image: Image) -> bool:
    """Whether an image is found by its looks, which one with a hash of zeros has none of."""
    is_shown = image.status not in (ImageStatus.FAILED, ImageStatus.DELETED)
    return is_shown and image.fingerprint is not None and image.fingerprint.phash.strip("0") != ""


def _bands_of(image: Image) -> Iterator[Key]:
    if image.fingerprint is not None and is_comparable(image):
        phash = image.fingerprint.phash
        for band in range(BANDS):
            yield band_partition(band, band_of(phash, band)), f"{phash}#{image.image_id}"


def band_of(phash: str, band: int) -> str:
    return phash[band * BAND_DIGITS : (band + 1) * BAND_DIGITS]


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
