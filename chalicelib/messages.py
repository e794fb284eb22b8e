"""The one codec for what travels on queues and topics, and for what S3 tells of an object."""

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from urllib.parse import unquote_plus

from chalicelib.errors import MalformedMessage
from chalicelib.model import (
    BoundingBox,
    Duplicate,
    Image,
    ImageStatus,
    Label,
    ModerationLabel,
    Original,
    image_id_of,
)
from chalicelib.plain import from_plain, to_plain

SEQUENCER_DIGITS = 32
"""Sequencers vary in length and compare once left-padded with zeros (S3 event structure)."""

MAX_SUBJECT = 100
"""SNS: a subject is at most 100 printable ASCII characters, and no line break."""

MAX_DETAILS_BYTES = 192 * 1024
"""SNS takes 256 KB a message, all its formats together, and has them escaped as JSON in JSON."""

WHOLE = BoundingBox(left=0, top=0, width=1, height=1)

FOUND = ("labels", "moderation_labels", "faces", "text", "celebrities")
"""What of an image's details Rekognition has found, as much as there is."""

LABELS_IN_TEXT = 50
"""A mail names the surest labels; nobody reads more."""


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


@dataclass(frozen=True, slots=True)
class Announcement:
    """What everybody is told of an image, decided here once; each channel renders it its way.

    ``subject`` fits a mail, ``text`` its body, ``sms`` a short message, ``details`` a program;
    ``attributes`` are what subscriptions filter by.
    """

    subject: str
    text: str
    sms: str
    details: dict[str, Any]
    attributes: dict[str, str | list[str]]


def image_details(image: Image) -> dict[str, Any]:
    """An image as JSON for programs: the same in announcements and in the API.

    Nobody is told where the renditions of a withheld image are.
    """
    original, description = image.original, image.description
    details: dict[str, Any] = {
        "image_id": image.image_id,
        "key": original.key,
        "version_id": original.version_id,
        "status": str(image.status),
        "revision": image.revision,
        "size_bytes": original.size_bytes,
        "uploaded_at": original.uploaded_at,
        "updated_at": image.updated_at,
        "processed_at": image.processed_at,
        "pipeline_version": image.pipeline_version,
        "error": to_plain(image.failure),
        **dict.fromkeys(("width", "height", "format", "color_mode")),
        "exif": {},
        "labels": [
            {"parents": [], "categories": [], "boxes": []} | to_plain(label)
            for label in image.recognition.labels
        ],
        "image_properties": to_plain(image.recognition.properties),
        "moderation_labels": [
            {"parent": ""} | to_plain(label) for label in image.recognition.moderation
        ],
        "faces": [{"attributes": []} | to_plain(face) for face in image.recognition.faces],
        "text": to_plain(image.recognition.text),
        "celebrities": [{"urls": []} | to_plain(each) for each in image.recognition.celebrities],
        "withheld_for": list(image.withheld_for),
        "released": image.released,
        "duplicates": [to_plain(duplicate) for duplicate in image.duplicates],
        "fingerprint": to_plain(image.fingerprint),
        "renditions": [] if image.is_withheld else rendition_details(image),
    }
    if description is not None:
        details |= to_plain(description)
        details.setdefault("notes", [])
    return details


def rendition_details(image: Image) -> list[dict[str, Any]]:
    """The renditions of an image as JSON, whether it is withheld or not."""
    return [{"window": to_plain(WHOLE)} | to_plain(each) for each in image.renditions]


def announcement_of(image: Image) -> Announcement:
    """The announcement of an image in a final status."""
    key = printable(image.original.key)
    name = key.rpartition("/")[2]
    headline = f"Image {str(image.status).lower()}: {name}"
    lines = [headline, "", f"Key:      {key}", f"Image id: {image.image_id}"]
    gist = headline
    if image.failure is not None:
        lines += [f"Reason:   {image.failure.message} ({image.failure.code})"]
        gist = f"{headline} ({image.failure.code})"
    attributes: dict[str, str | list[str]] = {
        "status": str(image.status),
        "image_id": image.image_id,
        "key": key,
    }
    if image.status is ImageStatus.QUARANTINED:
        seen = [label for label in image.recognition.moderation if label.name in image.withheld_for]
        lines += [f"Withheld: for {_named(seen)}, until a reviewer releases or deletes it"]
        gist = f"{headline} ({', '.join(image.withheld_for)})"
        attributes["moderation"] = list(image.withheld_for)
    if image.duplicates:
        lines += [f"The same: {', '.join(map(_likeness, image.duplicates))}"]
        is_exact = any(duplicate.is_exact for duplicate in image.duplicates)
        attributes["duplicate"] = "exact" if is_exact else "near"
    if image.status.is_processed and image.description is not None:
        size = f"{image.description.width}×{image.description.height}"
        lines += [
            f"Picture:  {image.description.format} {size}, {image.description.size_bytes:,} bytes",
            f"Labels:   {_named(image.recognition.labels) or 'none'}",
        ]
    if image.status is ImageStatus.COMPLETED:
        lines += [
            "Renditions:",
            *(
                f"  {rendition.name:<12} {rendition.width}×{rendition.height} "
                f"{rendition.format}, {rendition.size_bytes:,} bytes"
                for rendition in image.renditions
            ),
        ]
    return Announcement(
        subject=_ascii_line(headline, MAX_SUBJECT),
        text="\n".join(lines) + "\n",
        sms=_ascii_line(gist, 140),
        details=_fitting(image_details(image)),
        attributes=attributes,
    )


def _named(labels: Sequence[Label | ModerationLabel]) -> str:
    """The surest labels in a line."""
    return ", ".join(f"{each.name} {each.confidence:.0f} %" for each in labels[:LABELS_IN_TEXT])


def _likeness(duplicate: Duplicate) -> str:
    likeness = "the same file" if duplicate.is_exact else f"{duplicate.distance} bits apart"
    return f"{duplicate.image_id} ({likeness})"


def _fitting(details: dict[str, Any]) -> dict[str, Any]:
    """The details with as much of what was found as a message takes, and how much it does not.

    Hundreds of faces or labels with boxes would make SNS refuse the message, however often it is
    tried. What takes most is halved first.
    """
    found = {name: details[name] for name in FOUND}
    told = dict(found)
    while any(told.values()) and len(json.dumps(json.dumps(details))) > MAX_DETAILS_BYTES:
        longest = max(told, key=lambda name: len(json.dumps(told[name])))
        told[longest] = told[longest][: len(told[longest]) // 2]
        omitted = len(found[longest]) - len(told[longest])
        details = details | {longest: told[longest], f"{longest}_omitted": omitted}
    return details


def printable(key: str) -> str:
    """A key for people and logs: its control characters, which S3 allows, become question marks."""
    return "".join("?" if unicodedata.category(char) == "Cc" else char for char in key)


def _ascii_line(text: str, length: int) -> str:
    line = "".join(char if " " <= char <= "~" else "?" for char in text)
    return line if len(line) <= length else line[: length - 3] + "..."
