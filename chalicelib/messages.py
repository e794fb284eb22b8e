"""The one codec for what travels on queues and topics, and for what S3 tells of an object."""

import json
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from urllib.parse import unquote_plus

from chalicelib.errors import MalformedMessage
from chalicelib.model import Original, image_id_of
from chalicelib.plain import from_plain, to_plain

SEQUENCER_DIGITS = 32
"""Sequencers vary in length and compare once left-padded with zeros (S3 event structure)."""

MAX_POSTPONE_S = 900
"""SQS delays a new message by 15 minutes at most."""

UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}
TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
"""What makes the letters after it run the other way (Unicode Annex 9): a file ends in ``.exe``."""


def timestamp(moment: datetime) -> str:
    """``2026-01-31T09:15:00.000Z``: sorts as a string in the order of time."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class ObjectChange(StrEnum):
    CREATED = "ObjectCreated"
    REMOVED = "ObjectRemoved"


@dataclass(frozen=True, slots=True)
class ObjectEvent:
    """One record of an S3 event. ``original`` of a removal has no size and no ETag."""

    change: ObjectChange
    original: Original


def object_events(event: Mapping[str, Any]) -> Iterator[ObjectEvent]:
    """The records of an S3 event notification; none for the test event S3 sends at set-up.

    The key arrives form-encoded (``a+b`` is ``a b``) and is decoded here.
    """
    for record in event.get("Records", ()):
        try:
            s3_object = record["s3"]["object"]
            change = ObjectChange(record["eventName"].partition(":")[0])
            original = Original(
                key=unquote_plus(s3_object["key"]),
                version_id=s3_object.get("versionId", ""),
                etag=s3_object.get("eTag", ""),
                size_bytes=s3_object.get("size", 0),
                sequencer=s3_object.get("sequencer", "").zfill(SEQUENCER_DIGITS),
                uploaded_at=timestamp(datetime.fromisoformat(record["eventTime"])),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise MalformedMessage(f"This is no S3 object event: {record!r:.200}") from error
        yield ObjectEvent(change, original)


@dataclass(frozen=True, slots=True)
class Recheck:
    """Ask to look at a key, and to make the record agree with what S3 holds there."""

    recheck: str

    @property
    def key(self) -> str:
        return self.recheck


Work = Original | Recheck
"""What a message of the work queue asks for: to process a version, or to look at a key."""


def facts_of(work: Work) -> dict[str, str]:
    """What the log says of an image in every line that is about it."""
    facts = {"image_id": image_id_of(work.key), "key": work.key}
    return facts | ({"version_id": work.version_id} if isinstance(work, Original) else {})


@dataclass(frozen=True, slots=True)
class WorkMessage:
    """One message of the work queue, and how often it has been received, this time included."""

    message_id: str
    receipt_handle: str
    body: str
    receive_count: int

    @property
    def work(self) -> Work:
        """Raises MalformedMessage when the body is not what ``encode_work`` writes."""
        return decode_work(self.body)


def encode_work(work: Work) -> str:
    return json.dumps(to_plain(work))


def decode_work(body: str) -> Work:
    """Raises MalformedMessage when the body is not what ``encode_work`` writes."""
    try:
        members = json.loads(body)
        if "recheck" in members:
            return from_plain(Recheck, members)
        return from_plain(Original, members)
    except (ValueError, TypeError) as error:
        raise MalformedMessage(f"This is no work message: {body:.200}") from error


def work_messages(event: Mapping[str, Any]) -> list[WorkMessage]:
    """The records of the event that Lambda makes of an SQS batch."""
    return [
        WorkMessage(
            message_id=record["messageId"],
            receipt_handle=record["receiptHandle"],
            body=record["body"],
            receive_count=int(record["attributes"]["ApproximateReceiveCount"]),
        )
        for record in event["Records"]
    ]


def printable(key: str) -> str:
    """A key for people and logs.

    Characters that S3 allows, and that break lines, turn them round, or are taken by neither SQS
    nor SNS, become question marks.
    """
    return "".join(char if _is_printable(char) else "?" for char in key)


def _is_printable(char: str) -> bool:
    return (
        unicodedata.category(char) not in UNPRINTABLE
        and unicodedata.bidirectional(char) not in TURNING
        and char not in "\ufffe\uffff"
    )
