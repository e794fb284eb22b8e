"""Mails about images: HTML with the thumbnail, and text for who does not see HTML.

They say what announcements say, made of the same details. Whatever comes from an image, its name
included, is escaped.
"""

from collections.abc import Iterable, Mapping
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import parseaddr
from html import escape
from typing import Any

from chalicelib.announcements import facts_of, headline_of, name_of, subject_of, text_of
from chalicelib.model import ImageStatus

MIN_SIDE = 100
"""Pixels of the longer side, below which a picture shows little."""

MAX_THUMBNAIL_BYTES = 1024 * 1024
"""Nobody waits for more in a mail; SES takes 40 MB, Base64 included."""

SHOWN = ("jpeg", "png", "webp")
"""Formats that mail programs show; AVIF few do."""

CONTENT_ID = "thumbnail@image-pipeline"

TEST_SUBJECT = "Image pipeline: test"
TEST_TEXT = "Mails about images reach this address."


def thumbnail_of(details: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The rendition to show: the smallest of ``MIN_SIDE`` pixels, else the largest there is.

    None for an image that is not completed, since it shows nothing any more or nobody may see it.
    """
    if details.get("status") != ImageStatus.COMPLETED:
        return None
    sides = {
        max(each["width"], each["height"]): each
        for each in details["renditions"]
        if each["format"] in SHOWN and each["size_bytes"] <= MAX_THUMBNAIL_BYTES
    }
    enough = [side for side in sides if side >= MIN_SIDE]
    return sides[min(enough) if enough else max(sides)] if sides else None


def mail_of(
    details: Mapping[str, Any], sender: str, recipient: str, picture: bytes | None
) -> bytes:
    """The message (RFC 5322) that tells a recipient of an event; SES adds its id and date.

    ``sender`` may have a name: ``Images <images@example.com>``. ``picture``: the bytes of the
    details' thumbnail, if they are there.
    """
    mail = EmailMessage(policy=SMTP)
    name, address = parseaddr(sender)
    mail["From"] = Address(name, addr_spec=address)
    mail["To"] = Address(addr_spec=recipient)
    mail["Auto-Submitted"] = "auto-generated"  # so that no absent person's program answers
    mail["X-Image-Pipeline-Event"] = details["event_id"]
    if "image_id" not in details:
        mail["Subject"] = TEST_SUBJECT
        mail.set_content(f"{TEST_TEXT}\n")
        return mail.as_bytes()
    mail["Subject"] = subject_of(details)
    mail.set_content(text_of(details))
    thumbnail = thumbnail_of(details) if picture else None
    html = "\n".join(_html(details, has_thumbnail=thumbnail is not None))
    mail.add_alternative(html, subtype="html")
    if thumbnail:
        subtype = thumbnail["format"]
        _, part = mail.iter_parts()
        part.add_related(
            picture,
            "image",
            subtype,
            cid=f"<{CONTENT_ID}>",
            disposition="inline",
            filename=f"thumbnail.{subtype}",
        )
    return mail.as_bytes()


def _html(details: Mapping[str, Any], *, has_thumbnail: bool) -> Iterable[str]:
    headline, name = escape(headline_of(details)), escape(name_of(details))
    yield f"<!doctype html><html><head><meta charset=utf-8><title>{headline}</title></head>"
    yield f'<body style="font-family: sans-serif"><h1 style="font-size: 1.2em">{headline}</h1>'
    if has_thumbnail:
        style = "max-width: 320px; max-height: 320px"
        yield f'<p><img src="cid:{CONTENT_ID}" alt="{name}" style="{style}"></p>'
    yield "<table>"
    for about, fact in facts_of(details):
        row = f"<th align=left valign=top>{escape(about)}</th><td>{escape(fact)}</td>"
        yield f"<tr>{row}</tr>"
    yield "</table></body></html>"
