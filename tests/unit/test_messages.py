"""What travels on queues and topics, and what S3 says of objects."""

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
    encode_work,
    object_events,
    printable,
    timestamp,
    work_messages,
)
from chalicelib.model import Original
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


@pytest.mark.parametrize(
    "character",
    [
        "\n",
        "\x00",
        "\x7f",
        "\x9b",
        pytest.param("\u2028", id="line separator"),
        pytest.param("\u2029", id="paragraph separator"),
        pytest.param("\u202e", id="right-to-left override"),
        pytest.param("\u2066", id="left-to-right isolate"),
        pytest.param("\ufffe", id="taken by no queue"),
        pytest.param("\uffff", id="nor this"),
        pytest.param("\ud83d", id="half a character"),
    ],
)
def test_what_breaks_or_turns_lines_is_not_printed(character: str) -> None:
    assert printable(f"a{character}gpj.exe") == "a?gpj.exe"


@pytest.mark.parametrize("key", ["Größe 100 %.jpg", "👩\u200d👧.jpg", "تصویر.jpg", "a\u200eb"])
def test_what_people_write_is_printed(key: str) -> None:
    """Emoji are joined by characters that nobody sees."""
    assert printable(key) == key
