"""What is told of an image that has come to a final status: decided here, for every channel.

A channel renders an announcement its way and decides nothing. Another channel is a module in
``chalicelib.aws`` with ``publish``; another thing to tell, an EventKind.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chalicelib.messages import printable
from chalicelib.model import (
    BoundingBox,
    EventKind,
    Image,
    ImageStatus,
    digest,
)
from chalicelib.plain import to_plain

SOURCE = "image-pipeline"
"""Who tells it, where one listens to several."""

EVENT_VERSION = "1"
"""Of the details' shape (docs/events). Members may be added; anything else is another version."""

MAX_SUBJECT = 100
"""SNS: a subject is at most 100 printable ASCII characters, and no line break."""

MAX_SMS = 140
MAX_DETAILS_BYTES = 192 * 1024
"""SNS takes 256 KB a message, all its formats together, and has them escaped as JSON in JSON."""

WHOLE = BoundingBox(left=0, top=0, width=1, height=1)

FOUND = ("labels", "moderation_labels", "faces", "text", "celebrities")
"""What of an image's details Rekognition has found, as much as there is."""

LABELS_IN_TEXT = 50
"""A mail names the surest labels; nobody reads more."""

TOP_LABELS = 10
"""So many of the surest labels are there to filter by."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """One thing to tell. It may be told again, and then has the same ``event_id``.

    ``subject`` fits a mail, ``text`` its body, ``sms`` a short message, ``details`` a program;
    ``attributes`` are what subscriptions filter by.
    """

    kind: EventKind
    event_id: str
    event_time: str
    subject: str
    text: str
    sms: str
    details: dict[str, Any]
    attributes: dict[str, str | list[str]]


def announcements_of(image: Image) -> tuple[Announcement, ...]:
    """What there is to tell of an image in a final status."""
    kinds = [EventKind(image.status)]
    if image.status.is_processed and image.duplicates:
        kinds.append(EventKind.DUPLICATE)
    return tuple(_announcement(kind, image) for kind in kinds)


def _announcement(kind: EventKind, image: Image) -> Announcement:
    event_time = _time_of(image)
    told = (image.image_id, image.original.version_id, str(image.attempt), kind, event_time)
    event_id = digest("\n".join(told))
    event = {
        "event_id": event_id,
        "event_type": f"image.{kind.lower()}",
        "event_version": EVENT_VERSION,
        "event_time": event_time,
    }
    details = event | image_details(image)
    return Announcement(
        kind=kind,
        event_id=event_id,
        event_time=event_time,
        subject=subject_of(details),
        text=text_of(details),
        sms=_ascii_line(headline_of(details) + _gist(kind, details), MAX_SMS),
        details=_fitting(details),
        attributes=_attributes(kind, image),
    )


def _time_of(image: Image) -> str:
    """When it came to its status; the same each time, whenever the record was written since."""
    if image.processed_at is not None:
        return image.processed_at
    is_removed = image.status is ImageStatus.DELETED
    return image.original.uploaded_at if is_removed else image.updated_at


def _attributes(kind: EventKind, image: Image) -> dict[str, str | list[str]]:
    attributes: dict[str, str | list[str]] = {
        "status": str(kind),
        "source": SOURCE,
        "image_id": image.image_id,
        "key": printable(image.original.key),
    }
    if labels := [label.name for label in image.recognition.labels[:TOP_LABELS]]:
        attributes["label"] = labels
    if image.failure is not None:
        attributes["code"] = image.failure.code
    if kind is EventKind.QUARANTINED:
        attributes["moderation"] = list(image.withheld_for)
    if image.duplicates:
        attributes["duplicate"] = "exact" if image.is_copy else "near"
    return attributes


def _gist(kind: EventKind, details: Mapping[str, Any]) -> str:
    """What a short message says behind its headline."""
    if details["error"]:
        return f" ({details['error']['code']})"
    if kind is EventKind.QUARANTINED:
        return f" ({', '.join(details['withheld_for'])})"
    return f" ({_likeness(details['duplicates'][0])})" if kind is EventKind.DUPLICATE else ""


def headline_of(details: Mapping[str, Any]) -> str:
    """What has become of which image, in a line."""
    kind = details["event_type"].rpartition(".")[2]
    return f"Image {kind}: {name_of(details)}"


def name_of(details: Mapping[str, Any]) -> str:
    """The name of the file without its folders."""
    return printable(details["key"]).rpartition("/")[2]


def subject_of(details: Mapping[str, Any]) -> str:
    """The subject of a mail."""
    return _ascii_line(headline_of(details), MAX_SUBJECT)


def text_of(details: Mapping[str, Any]) -> str:
    """The body of a mail that is plain text."""
    return "\n".join((headline_of(details), "", *_lines(details), ""))


def _lines(details: Mapping[str, Any]) -> Iterable[str]:
    for name, fact in facts_of(details):
        yield f"{name + ':':<10}{fact}"
    if details["status"] == ImageStatus.COMPLETED:
        yield "Renditions:"
        for each in details["renditions"]:
            size = f"{each['width']}×{each['height']}"
            yield f"  {each['name']:<12} {size} {each['format']}, {each['size_bytes']:,} bytes"


def facts_of(details: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """What people want to know of an image, each with what it is."""
    yield "Key", printable(details["key"])
    yield "Image id", details["image_id"]
    if error := details["error"]:
        yield "Reason", f"{error['message']} ({error['code']})"
    if details["status"] == ImageStatus.QUARANTINED:
        labels = details["moderation_labels"]
        seen = [label for label in labels if label["name"] in details["withheld_for"]]
        yield "Withheld", f"for {_named(seen)}, until a reviewer releases or deletes it"
    if details["duplicates"]:
        yield "The same", ", ".join(map(_likeness, details["duplicates"]))
    is_processed = ImageStatus(details["status"]).is_processed
    if is_processed and details["format"] is not None:
        size = f"{details['width']}×{details['height']}"
        yield "Picture", f"{details['format']} {size}, {details['size_bytes']:,} bytes"
        yield "Labels", _named(details["labels"]) or "none"


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
    if image.fingerprint is not None and not image.sha256:
        del details["fingerprint"]["sha256"]  # of a record that is older than this member
    if description is not None:
        details |= to_plain(description)
        details.setdefault("notes", [])
    return details


def rendition_details(image: Image) -> list[dict[str, Any]]:
    """The renditions of an image as JSON, whether it is withheld or not."""
    return [{"window": to_plain(WHOLE)} | to_plain(each) for each in image.renditions]


def _named(labels: Sequence[Mapping[str, Any]]) -> str:
    """The surest labels in a line."""
    surest = labels[:LABELS_IN_TEXT]
    return ", ".join(f"{each['name']} {each['confidence']:.0f} %" for each in surest)


def _likeness(duplicate: Mapping[str, Any]) -> str:
    is_exact, distance = duplicate["is_exact"], duplicate["distance"]
    likeness = "the same file" if is_exact else f"{distance} bits apart"
    return f"{duplicate['image_id']} ({likeness})"


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


def _ascii_line(text: str, length: int) -> str:
    line = "".join(char if " " <= char <= "~" else "?" for char in text)
    return line if len(line) <= length else line[: length - 3] + "..."
