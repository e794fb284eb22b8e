"""Mails, read as mail programs read them."""

import json
from dataclasses import replace
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from html.parser import HTMLParser
from typing import Any

import pytest

from chalicelib.announcements import announcements_of
from chalicelib.mails import CONTENT_ID, MAX_THUMBNAIL_BYTES, mail_of, thumbnail_of
from chalicelib.model import (
    Description,
    Duplicate,
    Failure,
    Image,
    ImageStatus,
    Label,
    ModerationLabel,
    Original,
    OutputFormat,
    Recognition,
    Rendition,
    digest,
)

SENDER = "Bilder ä <images@example.com>"
PICTURE = b"\xff\xd8 a picture \xff\xd9"
HOSTILE = '<img src=x onerror=alert(1)>\r\nBcc: eve@evil.example\r\n\r\n"&🦊.jpg'


def rendition(name: str, width: int, height: int, **facts: Any) -> Rendition:
    key = f"thumbnails/{digest('cat')}/1/{name}.jpg"
    return Rendition(name, key, facts.pop("format", OutputFormat.JPEG), width, height, **facts)


IMAGE = Image(
    Original("uploads/2026/cat.jpg", "v1", "e", 4321, "0", "2026-01-31T09:14:00.000Z"),
    ImageStatus.COMPLETED,
    "2026-01-31T09:15:00.000Z",
    processed_at="2026-01-31T09:15:00.000Z",
    description=Description("JPEG", 640, 480, 4321, "RGB"),
    recognition=Recognition(labels=(Label("Cat", 98.4),)),
    renditions=(
        rendition("large", 1280, 960, size_bytes=90_000),
        rendition("thumbnail", 100, 75, size_bytes=3_000),
        rendition("dot", 8, 8, size_bytes=300),
    ),
)


def details_of(image: Image) -> dict[str, Any]:
    """What travels of its latest announcement."""
    details: dict[str, Any] = json.loads(json.dumps(announcements_of(image)[-1].details))
    return details


def read(details: dict[str, Any], picture: bytes | None = PICTURE) -> EmailMessage:
    body = mail_of(details, SENDER, "ada@example.com", picture)
    assert max(map(len, body.split(b"\r\n"))) <= 998  # RFC 5322, 2.1.1
    assert b"\n" not in body.replace(b"\r\n", b"")
    mail = message_from_bytes(body, policy=default)
    assert isinstance(mail, EmailMessage)
    assert not [part.defects for part in mail.walk() if part.defects]
    return mail


def part(mail: EmailMessage, kind: str) -> Any:
    [found] = [each for each in mail.walk() if each.get_content_type() == kind]
    return found


class Page(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, mail: EmailMessage) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(part(mail, "text/html").get_content())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def pictures(self) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == "img"]


def test_mail_is_text_or_html_with_the_thumbnail() -> None:
    """Text is the announcement's; the picture is a part of the HTML alone."""
    [announcement] = announcements_of(IMAGE)
    details = details_of(IMAGE)

    mail = read(details)

    assert (mail["from"].addresses[0].display_name, mail["from"].addresses[0].addr_spec) == (
        "Bilder ä",
        "images@example.com",
    )
    assert (mail["to"], mail["subject"]) == ("ada@example.com", announcement.subject)
    assert mail["x-image-pipeline-event"] == details["event_id"]
    assert mail["auto-submitted"] == "auto-generated"
    assert [each.get_content_type() for each in mail.walk()] == [
        *("multipart/alternative", "text/plain"),
        *("multipart/related", "text/html", "image/jpeg"),
    ]
    text = part(mail, "text/plain").get_content()
    assert text.replace("\r\n", "\n") == announcement.text
    picture = part(mail, "image/jpeg")
    assert picture.get_content() == PICTURE
    assert (picture["content-id"], picture.get_content_disposition()) == (
        f"<{CONTENT_ID}>",
        "inline",
    )
    page = Page(mail)
    assert [(each["src"], each["alt"]) for each in page.pictures] == [
        (f"cid:{CONTENT_ID}", "cat.jpg")
    ]
    for told in ("Image completed: cat.jpg", "JPEG 640×480, 4,321 bytes", "Cat 98 %"):
        assert told in page.texts


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (
            replace(
                IMAGE,
                status=ImageStatus.FAILED,
                failure=Failure("corrupt_image", "It ends too early."),
            ),
            ["Image failed: cat.jpg", "It ends too early. (corrupt_image)"],
        ),
        (
            replace(
                IMAGE,
                status=ImageStatus.QUARANTINED,
                withheld_for=("Violence",),
                recognition=Recognition(moderation=(ModerationLabel("Violence", 91.2),)),
            ),
            [
                "Image quarantined: cat.jpg",
                "for Violence 91 %, until a reviewer releases or deletes it",
            ],
        ),
        (replace(IMAGE, status=ImageStatus.DELETED), ["Image deleted: cat.jpg"]),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Image) else "",
)
def test_mail_about_what_shows_nothing_has_no_picture(image: Image, told: list[str]) -> None:
    """Even if somebody had the bytes; it says why."""
    details = details_of(image)

    assert thumbnail_of(details) is None
    mail = read(details)

    assert [each.get_content_type() for each in mail.walk()] == [
        *("multipart/alternative", "text/plain", "text/html")
    ]
    page = Page(mail)
    assert page.pictures == []
    assert {*told} <= {*page.texts}


def test_duplicate_is_told_of_with_its_picture() -> None:
    """And with what it is the same as."""
    first = digest("first")
    image = replace(IMAGE, duplicates=(Duplicate(first, 0, is_exact=True),))

    page = Page(read(details_of(image)))

    assert "Image duplicate: cat.jpg" in page.texts
    assert f"{first} (the same file)" in page.texts
    assert len(page.pictures) == 1


def test_mail_without_the_thumbnail_is_one_all_the_same() -> None:
    """It was gone from the bucket."""
    assert Page(read(details_of(IMAGE), None)).pictures == []


def test_what_comes_from_an_image_is_shown_and_does_nothing() -> None:
    """Names, labels and reasons with markup and line breaks: no tag, no header, no recipient."""
    image = replace(
        IMAGE,
        original=replace(IMAGE.original, key=f"uploads/{HOSTILE}"),
        recognition=Recognition(labels=(Label("<b>Cat</b>", 98.4),)),
        duplicates=(Duplicate('"><script>', 3),),
    )

    mail = read(details_of(image))

    assert sorted(mail.keys()) == [
        *("Auto-Submitted", "Content-Type", "From", "MIME-Version", "Subject", "To"),
        "X-Image-Pipeline-Event",
    ]
    assert "\n" not in mail["subject"]
    page = Page(mail)
    assert {tag for tag, _ in page.tags} == {
        *("html", "head", "meta", "title", "body", "h1", "p", "img"),
        *("table", "tr", "th", "td"),
    }
    [picture] = page.pictures
    assert picture.keys() == {"src", "alt", "style"}
    assert "<b>Cat</b> 98 %" in page.texts
    assert '"><script> (3 bits apart)' in page.texts


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [
        ([(1280, 960), (100, 75), (8, 8)], (100, 75)),
        ([(99, 99), (75, 100)], (75, 100)),
        ([(640, 10), (480, 480)], (480, 480)),
        ([(64, 48), (8, 8)], (64, 48)),
        ([], None),
    ],
)
def test_thumbnail_is_the_smallest_that_shows_something(
    sizes: list[tuple[int, int]], chosen: tuple[int, int] | None
) -> None:
    """The longer side counts; of small pictures there is nothing better than the largest."""
    shown = tuple(rendition(f"r{width}", width, height, size_bytes=9) for width, height in sizes)

    found = thumbnail_of(details_of(replace(IMAGE, renditions=shown)))

    assert (found and (found["width"], found["height"])) == chosen


@pytest.mark.parametrize(
    ("format_", "size_bytes", "is_shown"),
    [
        (OutputFormat.PNG, 9, True),
        (OutputFormat.WEBP, 9, True),
        (OutputFormat.AVIF, 9, False),
        (OutputFormat.PNG, MAX_THUMBNAIL_BYTES + 1, False),
    ],
)
def test_thumbnail_is_what_mail_programs_show(
    format_: OutputFormat, size_bytes: int, *, is_shown: bool
) -> None:
    """As it is stored; nothing is decoded for a mail."""
    shown = rendition("only", 200, 200, format=format_, size_bytes=size_bytes)
    details = details_of(replace(IMAGE, renditions=(shown,)))

    kinds = [each.get_content_type() for each in read(details).walk()]

    assert (f"image/{format_}" in kinds) is is_shown


def test_test_mail_is_about_no_image() -> None:
    """A line, to see that mails arrive."""
    mail = read({"event_id": digest("test"), "event_type": "webhook.test"})

    assert mail["subject"] == "Image pipeline: test"
    assert mail.get_content().strip() == "Mails about images reach this address."
