"""What travels on queues and topics, and what S3 says of objects."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.errors import MalformedMessage
from chalicelib.messages import (
    ObjectChange,
    ObjectEvent,
    Recheck,
    announcement_of,
    encode_work,
    image_details,
    object_events,
    timestamp,
    work_messages,
)
from chalicelib.model import (
    BoundingBox,
    Description,
    Failure,
    Fingerprint,
    Image,
    ImageStatus,
    Label,
    Original,
    OutputFormat,
    Recognition,
    Rendition,
)
from tests.fakes import s3_record

ORIGINAL = Original(
    key="uploads/a cat.jpg",
    version_id="version-1",
    etag="d41d8cd98f00b204e9800998ecf8427e",
    size_bytes=1234567,
    sequencer="0" * 14 + "005B039F73C627CE8B",
    uploaded_at="2026-01-31T09:15:00.000Z",
)
CREATED = ObjectEvent(ObjectChange.CREATED, ORIGINAL)
COMPLETED = Image(
    original=ORIGINAL,
    status=ImageStatus.COMPLETED,
    revision=3,
    updated_at="2026-01-31T09:15:02.000Z",
    processed_at="2026-01-31T09:15:02.000Z",
    pipeline_version="1",
    description=Description("JPEG", 4000, 3000, 1234567, "RGB"),
    fingerprint=Fingerprint("0123456789abcdef", "AAAA", ("#aabbcc",)),
    renditions=(Rendition("small", "thumbnails/x/y/small.jpg", OutputFormat.JPEG, 640, 480, 999),),
    recognition=Recognition((Label("Cat", 98.51, boxes=(BoundingBox(0.1, 0.2, 0.3, 0.4),)),)),
)
FAILED = replace(
    COMPLETED,
    status=ImageStatus.FAILED,
    description=None,
    fingerprint=None,
    renditions=(),
    recognition=Recognition(),
    failure=Failure("corrupt_image", "this JPEG file is broken"),
)


# ── S3 events ────────────────────────────────────────────────────────────────────────────────────


def parsed(*records: dict[str, Any]) -> list[ObjectEvent]:
    return list(object_events({"Records": records}))


def test_s3_event_tells_the_version_and_its_place_in_the_order() -> None:
    """Key, version, ETag, size, sequencer and time come out of a record as they are."""
    record = s3_record(CREATED, key="uploads/a+cat.jpg", sequencer="005B039F73C627CE8B")

    assert parsed(record) == [CREATED]


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("uploads/two+words.jpg", "uploads/two words.jpg"),
        ("uploads/a%2Bb.jpg", "uploads/a+b.jpg"),
        ("uploads/100%25.jpg", "uploads/100%.jpg"),
        ("uploads/100%2525.jpg", "uploads/100%25.jpg"),
        ("uploads/%C3%A9+%E6%9D%B1.jpg", "uploads/é 東.jpg"),
        ("uploads/%F0%9F%A6%8A.jpg", "uploads/🦊.jpg"),
    ],
)
def test_key_is_decoded_as_s3_encodes_it(written: str, key: str) -> None:
    """S3 form-encodes keys in events: + is a space, and %2B a plus."""
    [event] = parsed(s3_record(CREATED, key=written))

    assert event.original.key == key


@given(st.text(min_size=1))
def test_any_key_survives_the_encoding(key: str) -> None:
    """Whatever letters a key is made of, the pipeline sees the key that was uploaded."""
    [event] = parsed(s3_record(CREATED, key=quote_plus(key)))

    assert event.original.key == key


def test_every_record_of_an_event_counts() -> None:
    """S3 may put several records into one event."""
    removed = replace(CREATED, change=ObjectChange.REMOVED)

    assert [event.change for event in parsed(s3_record(CREATED), s3_record(removed))] == [
        "ObjectCreated",
        "ObjectRemoved",
    ]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("ObjectCreated:Put", ObjectChange.CREATED),
        ("ObjectCreated:Post", ObjectChange.CREATED),
        ("ObjectCreated:CompleteMultipartUpload", ObjectChange.CREATED),
        ("ObjectRemoved:Delete", ObjectChange.REMOVED),
        ("ObjectRemoved:DeleteMarkerCreated", ObjectChange.REMOVED),
    ],
)
def test_every_way_to_create_and_remove_is_understood(name: str, change: ObjectChange) -> None:
    """What matters is that the object is there or gone, not how."""
    [event] = parsed(s3_record(CREATED) | {"eventName": name})

    assert event.change is change


def test_removal_needs_no_size_and_no_etag() -> None:
    """S3 leaves both out of removals, and the version where a bucket has none."""
    record = s3_record(CREATED)
    for name in ("size", "eTag", "versionId"):
        del record["s3"]["object"][name]

    [event] = parsed(record)

    assert (event.original.size_bytes, event.original.etag, event.original.version_id) == (
        0,
        "",
        "",
    )


def test_test_event_has_no_records() -> None:
    """What S3 sends when a notification is set up is no upload."""
    event = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "uploads"}

    assert list(object_events(event)) == []


@pytest.mark.parametrize(
    "record",
    [
        {},
        None,
        "text",
        {"eventName": "ObjectCreated:Put"},
        {"eventName": "ObjectCreated:Put", "s3": {"object": {}}},
        {"eventName": "ObjectCreated:Put", "s3": {"object": None}},
        s3_record(CREATED, key=None),
        s3_record(CREATED, sequencer=None),
        s3_record(CREATED) | {"eventName": "ObjectRestore:Completed"},
        s3_record(CREATED) | {"eventName": None},
        s3_record(CREATED) | {"eventTime": "yesterday"},
        s3_record(CREATED) | {"eventTime": None},
    ],
)
def test_other_record_is_malformed(record: Any) -> None:
    """What is no event of an object says so, with the record in the message."""
    with pytest.raises(MalformedMessage, match="This is no S3 object event: "):
        parsed(record)


@pytest.mark.parametrize(
    ("older", "newer"),
    [("FF", "0100"), ("0055AED6DCD90281E5", "0055AED6DCD90281E6"), ("9", "A"), ("", "1")],
)
def test_sequencers_of_different_lengths_compare_by_value(older: str, newer: str) -> None:
    """Left-padded with zeros, a shorter sequencer is an older one."""
    first, second = parsed(s3_record(CREATED, sequencer=older), s3_record(CREATED, sequencer=newer))

    assert first.original.sequencer < second.original.sequencer


def test_timestamps_sort_like_time_in_any_zone() -> None:
    """Times are written in UTC with milliseconds, whatever zone they come in."""
    here = datetime(2026, 1, 31, 10, 15, tzinfo=timezone(timedelta(hours=1)))

    assert timestamp(here) == "2026-01-31T09:15:00.000Z"
    assert timestamp(datetime(2026, 1, 31, 9, 15, 0, 7000, tzinfo=UTC)) > timestamp(here)


# ── work messages ────────────────────────────────────────────────────────────────────────────────


def sqs_event(*bodies: str) -> dict[str, Any]:
    return {
        "Records": [
            {
                "messageId": f"message-{number}",
                "receiptHandle": f"handle-{number}",
                "body": body,
                "attributes": {"ApproximateReceiveCount": str(number + 1)},
            }
            for number, body in enumerate(bodies)
        ]
    }


def test_work_message_brings_the_version_it_was_sent_for() -> None:
    """What is put on the queue is what comes off it, whatever the key holds."""
    odd = replace(ORIGINAL, key='uploads/ "é" 🦊\u2028\x01.jpg', sequencer="")

    one, two = work_messages(sqs_event(encode_work(ORIGINAL), encode_work(odd)))

    assert (one.work, two.work) == (ORIGINAL, odd)
    assert (two.message_id, two.receipt_handle, two.receive_count) == ("message-1", "handle-1", 2)


@given(st.text())
def test_work_message_is_ascii(key: str) -> None:
    """SQS refuses some control characters in a body; JSON escapes them all."""
    body = encode_work(replace(ORIGINAL, key=key))

    assert all(" " <= char <= "~" for char in body)


@given(st.text())
def test_recheck_brings_the_key_to_look_at(key: str) -> None:
    """A message that asks to look at a key is told from one of a version, whatever the key."""
    [message] = work_messages(sqs_event(encode_work(Recheck(key))))

    assert message.work == Recheck(key)
    assert message.work.key == key


@pytest.mark.parametrize(
    "body",
    [
        *("", "no JSON", "null", "3", "[]", "{}", "true", '"recheck"', '["recheck"]'),
        '{"key": "uploads/x"}',
    ],
)
def test_foreign_work_message_is_malformed(body: str) -> None:
    """What this pipeline did not write is refused, and is still a message that can be told."""
    [message] = work_messages(sqs_event(body))

    with pytest.raises(MalformedMessage, match="This is no work message: "):
        _ = message.work


# ── announcements ────────────────────────────────────────────────────────────────────────────────


def named(name: str, image: Image = COMPLETED) -> Image:
    return replace(image, original=replace(image.original, key=f"uploads/{name}"))


def test_completion_reads_as_a_mail() -> None:
    """Subject, key, size, labels and renditions, in lines that a person reads."""
    announcement = announcement_of(COMPLETED)

    assert announcement.subject == "Image completed: a cat.jpg"
    assert announcement.text == (
        "Image completed: a cat.jpg\n"
        "\n"
        "Key:      uploads/a cat.jpg\n"
        f"Image id: {COMPLETED.image_id}\n"
        "Picture:  JPEG 4000×3000, 1,234,567 bytes\n"
        "Labels:   Cat 99 %\n"
        "Renditions:\n"
        "  small        640×480 jpeg, 999 bytes\n"
    )
    assert announcement.sms == "Image completed: a cat.jpg"
    assert announcement.details == image_details(COMPLETED)
    assert announcement.details["notes"] == []


def test_failure_says_why_on_every_channel() -> None:
    """The sentence in the mail, the code in the short message, both for programs."""
    announcement = announcement_of(FAILED)

    assert announcement.subject == "Image failed: a cat.jpg"
    assert "Reason:   this JPEG file is broken (corrupt_image)\n" in announcement.text
    assert announcement.sms == "Image failed: a cat.jpg (corrupt_image)"
    assert announcement.details["error"] == {
        "code": "corrupt_image",
        "message": "this JPEG file is broken",
    }
    assert announcement.details["renditions"] == []


def test_picture_without_labels_says_none() -> None:
    """No label is said in words, and not by an empty line."""
    assert "Labels:   none\n" in announcement_of(replace(COMPLETED, recognition=Recognition())).text


def test_subscriptions_filter_by_status_id_and_key() -> None:
    """The three attributes that filter policies can name."""
    assert announcement_of(FAILED).attributes == {
        "status": "FAILED",
        "image_id": FAILED.image_id,
        "key": "uploads/a cat.jpg",
    }


@given(st.text(min_size=1, max_size=1024))
def test_subject_is_what_sns_takes_whatever_the_file_is_called(name: str) -> None:
    """At most 100 characters of printable ASCII, and the same for 140 of a short message."""
    announcement = announcement_of(named(name, FAILED))

    for line, longest in ((announcement.subject, 100), (announcement.sms, 140)):
        assert line.startswith("Image failed: ")
        assert len(line) <= longest
        assert all(" " <= char <= "~" for char in line)


def test_long_subject_ends_in_dots() -> None:
    """A name that does not fit is cut where one sees it; one that just fits is not."""
    room = 100 - len("Image completed: ")
    long = announcement_of(named("~" * 300))

    assert long.subject == "Image completed: " + "~" * (room - 3) + "..."
    assert (len(long.subject), len(long.sms)) == (100, 140)
    assert announcement_of(named("x" * room)).subject.endswith("xxx")
    assert announcement_of(named("x" * (room + 1))).subject.endswith("xxx...")


def test_details_are_the_same_fields_in_every_status() -> None:
    """A program finds every field of a waiting image too; there it is null or empty."""
    queued = Image(ORIGINAL, ImageStatus.QUEUED, 1, "2026-01-31T09:15:00.000Z")

    details = image_details(queued)

    for name in image_details(COMPLETED).keys() - {"frames", "has_alpha", "notes"}:
        assert details[name] in (None, [], {}) or name in {
            "image_id",
            "key",
            "version_id",
            "status",
            "revision",
            "size_bytes",
            "uploaded_at",
            "updated_at",
        }
    assert json.loads(json.dumps(details)) == details


def test_details_say_which_of_two_is_newer() -> None:
    """The revision grows with each write, so that announcements that come out of order can be."""
    assert image_details(COMPLETED)["revision"] == 3
    assert announcement_of(COMPLETED).details["revision"] == 3


def test_thousand_labels_fit_into_a_message() -> None:
    """SNS takes 256 KB with all formats and escapes; the surest labels are kept, the rest told."""
    labels = tuple(
        Label(
            name=f"标签 {number}",
            confidence=99 - number / 100,
            parents=("动物", "Living thing"),
            categories=("Animals and Pets",),
            boxes=(BoundingBox(0.1234, 0.2345, 0.3456, 0.4567),) * 5,
        )
        for number in range(1000)
    )
    image = replace(named("é" * 500), recognition=Recognition(labels))

    announcement = announcement_of(image)

    message = json.dumps(
        {
            "default": json.dumps(announcement.details),
            "email": announcement.text,
            "sms": announcement.sms,
        }
    )
    told = announcement.details["labels"]
    assert len(message) < 250_000
    assert [label["name"] for label in told] == [label.name for label in labels[: len(told)]]
    assert len(told) > 100
    assert announcement.details["labels_omitted"] == 1000 - len(told)
    assert "标签 0 99 %" in announcement.text


def test_all_labels_of_an_ordinary_image_are_told() -> None:
    """Nothing is cut, and nothing said of cutting, where there is room."""
    labels = tuple(Label(f"Label {number}", 90) for number in range(99))

    details = announcement_of(replace(COMPLETED, recognition=Recognition(labels))).details

    assert len(details["labels"]) == 99
    assert "labels_omitted" not in details
