"""What is told of an image: to people, to programs, and to filters."""

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from chalicelib.announcements import Announcement, announcements_of, image_details
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

ORIGINAL = Original(
    key="uploads/a cat.jpg",
    version_id="version-1",
    etag="d41d8cd98f00b204e9800998ecf8427e",
    size_bytes=1234567,
    sequencer="0" * 14 + "005B039F73C627CE8B",
    uploaded_at="2026-01-31T09:15:00.000Z",
)
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


def told_of(image: Image) -> Announcement:
    """The only thing that there is to tell of it."""
    [announcement] = announcements_of(image)
    return announcement


def named(name: str, image: Image = COMPLETED) -> Image:
    return replace(image, original=replace(image.original, key=f"uploads/{name}"))


def test_completion_reads_as_a_mail() -> None:
    """Subject, key, size, labels and renditions, in lines that a person reads."""
    announcement = told_of(COMPLETED)

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
    assert announcement.details.items() >= image_details(COMPLETED).items()
    assert announcement.details["notes"] == []


def test_failure_says_why_on_every_channel() -> None:
    """The sentence in the mail, the code in the short message, both for programs."""
    announcement = told_of(FAILED)

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
    assert "Labels:   none\n" in told_of(replace(COMPLETED, recognition=Recognition())).text


def test_subscriptions_filter_by_what_an_image_is() -> None:
    """The attributes that filter policies can name."""
    known = {"source": "image-pipeline", "image_id": FAILED.image_id, "key": "uploads/a cat.jpg"}
    assert told_of(FAILED).attributes == known | {"status": "FAILED", "code": "corrupt_image"}
    assert told_of(COMPLETED).attributes == known | {"status": "COMPLETED", "label": ["Cat"]}


@given(st.text(min_size=1, max_size=1024))
def test_subject_is_what_sns_takes_whatever_the_file_is_called(name: str) -> None:
    """At most 100 characters of printable ASCII, and the same for 140 of a short message."""
    announcement = told_of(named(name, FAILED))

    for line, longest in ((announcement.subject, 100), (announcement.sms, 140)):
        assert line.startswith("Image failed: ")
        assert len(line) <= longest
        assert all(" " <= char <= "~" for char in line)


def test_long_subject_ends_in_dots() -> None:
    """A name that does not fit is cut where one sees it; one that just fits is not."""
    room = 100 - len("Image completed: ")
    long = told_of(named("~" * 300))

    assert long.subject == "Image completed: " + "~" * (room - 3) + "..."
    assert (len(long.subject), len(long.sms)) == (100, 140)
    assert told_of(named("x" * room)).subject.endswith("xxx")
    assert told_of(named("x" * (room + 1))).subject.endswith("xxx...")


def test_details_are_the_same_fields_in_every_status() -> None:
    """A program finds every field of a waiting image too; there it is null or empty."""
    queued = Image(ORIGINAL, ImageStatus.QUEUED, 1, "2026-01-31T09:15:00.000Z")

    details = image_details(queued)

    for name in image_details(COMPLETED).keys() - {"frames", "has_alpha", "notes"}:
        assert details[name] in (None, [], {}, False) or name in {
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
    assert told_of(COMPLETED).details["revision"] == 3


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

    announcement = told_of(image)

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

    details = told_of(replace(COMPLETED, recognition=Recognition(labels))).details

    assert len(details["labels"]) == 99
    assert "labels_omitted" not in details
