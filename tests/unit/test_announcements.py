"""What is told of an image: to people, to programs, and to filters."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.announcements import FOUND, Announcement, announcements_of, image_details
from chalicelib.model import (
    BoundingBox,
    Celebrity,
    Description,
    Duplicate,
    Exif,
    Face,
    FaceAttribute,
    Failure,
    Fingerprint,
    Image,
    ImageStatus,
    Label,
    ModerationLabel,
    Original,
    OutputFormat,
    Recognition,
    Rendition,
    TextLine,
    image_id_of,
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
QUARANTINED = replace(
    COMPLETED,
    status=ImageStatus.QUARANTINED,
    renditions=(Rendition("small", "quarantine/x/1/small.jpg", OutputFormat.JPEG, 640, 480, 9),),
    recognition=Recognition(
        labels=COMPLETED.recognition.labels,
        moderation=(
            ModerationLabel("Violence", 92.5),
            ModerationLabel("Weapon Violence", 91.2, "Violence"),
            ModerationLabel("Alcohol", 60),
        ),
    ),
    withheld_for=("Violence", "Weapon Violence"),
)
DELETED = Image(ORIGINAL, ImageStatus.DELETED, "2026-01-31T09:15:02.000Z", 5)
FIRST, ALIKE = image_id_of("uploads/first.jpg"), image_id_of("uploads/alike.jpg")


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


# ── withheld images and duplicates ───────────────────────────────────────────────────────────────


def test_quarantine_reads_as_a_mail_without_a_picture() -> None:
    """Why, and until when; what else is known, but no rendition."""
    told = told_of(QUARANTINED)

    assert told.text == (
        "Image quarantined: a cat.jpg\n"
        "\n"
        "Key:      uploads/a cat.jpg\n"
        f"Image id: {COMPLETED.image_id}\n"
        "Withheld: for Violence 92 %, Weapon Violence 91 %, until a reviewer releases or deletes "
        "it\n"
        "Picture:  JPEG 4000×3000, 1,234,567 bytes\n"
        "Labels:   Cat 99 %\n"
    )
    assert told.subject == "Image quarantined: a cat.jpg"
    assert told.sms == "Image quarantined: a cat.jpg (Violence, Weapon Violence)"
    assert told.details["renditions"] == []
    assert told.details["withheld_for"] == ["Violence", "Weapon Violence"]
    assert (told.attributes["status"], told.attributes["moderation"]) == (
        "QUARANTINED",
        ["Violence", "Weapon Violence"],
    )
    assert "quarantine/" not in str(told)


@pytest.mark.parametrize(
    "image",
    [
        QUARANTINED,
        *(
            replace(QUARANTINED, status=status, failure=failure)
            for status, failure in (
                (ImageStatus.QUEUED, None),
                (ImageStatus.PROCESSING, None),
                (ImageStatus.FAILED, Failure("retries_exhausted", "Given up.")),
            )
        ),
        replace(QUARANTINED, status=ImageStatus.QUEUED, released=True),
    ],
)
def test_nobody_is_told_where_a_withheld_image_lies(image: Image) -> None:
    """Whatever its status is by now."""
    assert "small.jpg" not in json.dumps(image_details(image))
    if image.status.is_final:
        assert "small.jpg" not in str(announcements_of(image))


def test_released_image_says_so() -> None:
    """It is completed like any other; what was seen in it is still told."""
    released = replace(QUARANTINED, status=ImageStatus.COMPLETED, withheld_for=(), released=True)

    told = told_of(released)

    assert told.details["released"] is True
    assert "Withheld" not in told.text
    assert "moderation" not in told.attributes
    assert [each["name"] for each in told.details["moderation_labels"]] == [
        *("Violence", "Weapon Violence", "Alcohol"),
    ]


@pytest.mark.parametrize(
    ("duplicates", "kind", "line"),
    [
        ((Duplicate(FIRST, 0, is_exact=True),), "exact", f"{FIRST} (the same file)"),
        ((Duplicate(ALIKE, 2),), "near", f"{ALIKE} (2 bits apart)"),
        (
            (Duplicate(FIRST, 0, is_exact=True), Duplicate(ALIKE, 3)),
            "exact",
            f"{FIRST} (the same file), {ALIKE} (3 bits apart)",
        ),
    ],
)
@pytest.mark.parametrize("image", [COMPLETED, QUARANTINED])
def test_duplicates_are_told_twice(
    image: Image, duplicates: tuple[Duplicate, ...], kind: str, line: str
) -> None:
    """With the status, and as something of its own for those that listen for it."""
    told, beside = announcements_of(replace(image, duplicates=duplicates))

    assert (told.attributes["status"], beside.attributes["status"]) == (image.status, "DUPLICATE")
    assert told.attributes["duplicate"] == beside.attributes["duplicate"] == kind
    assert f"The same: {line}\n" in told.text
    assert beside.subject == "Image duplicate: a cat.jpg"
    assert told.event_id != beside.event_id
    assert told.details["duplicates"] == [
        {"image_id": each.image_id, "distance": each.distance, "is_exact": each.is_exact}
        for each in duplicates
    ]
    assert "quarantine/" not in str([told, beside])


def test_short_message_of_a_duplicate_names_the_likest() -> None:
    """It is told which image shows the same, and how much so."""
    duplicates = (Duplicate(ALIKE, 2), Duplicate(FIRST, 3))

    _, beside = announcements_of(replace(COMPLETED, duplicates=duplicates))

    assert beside.sms == f"Image duplicate: a cat.jpg ({ALIKE} (2 bits apart))"


def test_image_that_was_given_up_is_filtered_by_what_is_known_of_it() -> None:
    """It keeps what it had: its labels, and why it has failed now."""
    failure = Failure("retries_exhausted", "Given up.")
    attributes = told_of(replace(COMPLETED, status=ImageStatus.FAILED, failure=failure)).attributes

    assert (attributes["status"], attributes["code"], attributes["label"]) == (
        *("FAILED", "retries_exhausted"),
        ["Cat"],
    )


@given(st.integers(0, 9), st.integers(0, 9), st.sampled_from("ab"), st.sampled_from("ab"))
def test_event_is_one_of_an_image_version_and_attempt(
    attempt: int, other: int, version: str, other_version: str
) -> None:
    """Whatever else changes in its record, it is the same; of anything else it is another."""

    def ids(attempt: int, version: str, revision: int) -> list[str]:
        original = replace(ORIGINAL, version_id=version)
        image = replace(COMPLETED, original=original, attempt=attempt, revision=revision)
        duplicates = (Duplicate(FIRST, 2),)
        return [each.event_id for each in announcements_of(replace(image, duplicates=duplicates))]

    first, second = ids(attempt, version, 1), ids(other, other_version, 2)
    assert (first == second) == ((attempt, version) == (other, other_version))
    assert len({*first, *second}) == (2 if first == second else 4)


def test_removal_tells_nothing_but_that() -> None:
    """Nothing is left of what was known."""
    told = told_of(DELETED)

    assert told.text.splitlines() == [
        "Image deleted: a cat.jpg",
        "",
        "Key:      uploads/a cat.jpg",
        f"Image id: {DELETED.image_id}",
    ]
    assert (told.subject, told.sms) == ("Image deleted: a cat.jpg",) * 2
    assert "moderation" not in told.attributes
    assert "duplicate" not in told.attributes


# ── as much as Rekognition gives ─────────────────────────────────────────────────────────────────

BOX = BoundingBox(0.1234, 0.2345, 0.3456, 0.4567)
ODD = "🦊" * 60  # four bytes a letter, and twelve in JSON
FACES = tuple(
    Face(
        BOX,
        99.87,
        tuple(
            FaceAttribute(f"{name}_of_a_face", "a value 12.34", 98.76) for name in "abcdefghijkl"
        ),
    )
    for _ in range(100)
)
LINES = tuple(TextLine(f"{number} {ODD}", 98.76, BOX) for number in range(100))
LABELS = tuple(
    Label(f"{ODD} {number}", 98.76, (ODD,) * 4, (ODD,) * 2, (BOX,) * 50) for number in range(93)
)
CELEBRITIES = tuple(
    Celebrity(f"{ODD} {number}", 98.76, BOX, ("www.wikidata.org/wiki/Q7259",) * 5)
    for number in range(64)
)
MODERATION = tuple(
    ModerationLabel(f"{'Nondescript' * 5} {number}", 98.76, "Nondescript" * 5)
    for number in range(100)
)
SEEN = {
    "nothing": Recognition(),
    "faces": Recognition(faces=FACES),
    "text": Recognition(text=LINES),
    "labels": Recognition(labels=LABELS),
    "celebrities": Recognition(celebrities=CELEBRITIES),
    "moderation": Recognition(moderation=MODERATION),
    "everything": Recognition(LABELS, None, MODERATION, FACES, LINES, CELEBRITIES),
}


def size_of(announcement: Announcement) -> int:
    """Bytes that SNS counts: the message, its subject and its attributes."""
    told = {
        "default": json.dumps(announcement.details),
        "email": announcement.text,
        "sms": announcement.sms,
    }
    attributes: list[Any] = [
        text
        for name, value in announcement.attributes.items()
        for text in (name, "String.Array", value if isinstance(value, str) else json.dumps(value))
    ]
    texts = [json.dumps(told), announcement.subject, *attributes]
    return sum(len(text.encode()) for text in texts)


@pytest.mark.parametrize("key", ["a cat.jpg", "🦊" * 254, "\x01" * 1016])
@pytest.mark.parametrize("status", [ImageStatus.COMPLETED, ImageStatus.QUARANTINED])
@pytest.mark.parametrize("seen", SEEN)
def test_whatever_was_seen_fits_into_a_message(seen: str, status: ImageStatus, key: str) -> None:
    """256 KB; else SNS would refuse it, however often it is tried. What is left out is counted."""
    withheld = status is ImageStatus.QUARANTINED
    image = replace(
        named(key),
        status=status,
        recognition=SEEN[seen],
        withheld_for=tuple(each.name for each in SEEN[seen].moderation[: 100 * withheld]),
        description=Description(
            *("JPEG", 4000, 3000, 1234567, "RGB"),
            exif=Exif(make="é" * 128, model="🦊" * 128, lens="🦊" * 128),
            notes=("its colour profile is left out: " + "é" * 500,) * 3,
        ),
        renditions=COMPLETED.renditions * 20,
        duplicates=tuple(Duplicate(FIRST, each) for each in range(10)),
    )

    for told in announcements_of(image):
        assert size_of(told) <= 256 * 1024
        assert all(" " <= char <= "~" for char in told.subject + told.sms)
        whole = image_details(image)
        for name in FOUND:
            left = told.details[name]
            assert left == whole[name][: len(left)]
            omitted = told.details.get(f"{name}_omitted", 0)
            assert len(left) + omitted == len(whole[name])
        assert any(told.details[name] for name in FOUND) == (seen != "nothing")


def test_faces_of_an_ordinary_crowd_are_all_told() -> None:
    """With every attribute that can be asked for; 20 are the default."""
    details = told_of(replace(COMPLETED, recognition=Recognition(faces=FACES[:20]))).details

    assert len(details["faces"]) == 20
    assert "faces_omitted" not in details
