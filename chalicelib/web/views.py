"""Images and webhooks as the API shows them: JSON, with links that work."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from chalice.app import Request, Response

from chalicelib.announcements import image_details, rendition_details
from chalicelib.errors import ImageQuarantined, RenditionNotFound
from chalicelib.messages import timestamp
from chalicelib.model import (
    Delivery,
    DeliveryPage,
    Destination,
    DirectUpload,
    Image,
    ImageStatus,
    LabelCount,
    Page,
    Rendition,
    Totals,
    Version,
    image_id_of,
)
from chalicelib.plain import answered_bytes

if TYPE_CHECKING:
    from chalicelib.web import schema

LINK_EXPIRES_S = 3600
"""How long a link to a rendition works, at most: no longer than the role's credentials."""

REVIEW_LASTS_S = 300
"""How long a link to a rendition that is withheld works, at most."""

REDIRECT_LASTS_S = 60
"""How long a browser may go by a redirect: processing an image anew moves its renditions."""

MOST_SHOWN_BYTES = 4_500_000
"""Of the images in one answer, well below the 6 MB that Lambda answers with."""

LinkMaker = Callable[[Rendition, int], str]


def image_view(image: Image, base: str, link: LinkMaker) -> dict[str, Any]:
    """An image in full (``schema.Image``), with short-lived links to its renditions.

    ``base`` is what stands before the app's own paths, as in ``/api``.
    """
    shown = [] if image.is_withheld else _linked(image, link, LINK_EXPIRES_S)
    links = links_of(image.image_id, base)
    return image_details(image) | {"renditions": shown, "links": links}


def withheld_view(image: Image, base: str, link: LinkMaker) -> dict[str, Any]:
    """A withheld image (``schema.WithheldImage``) as a reviewer sees it, with its renditions."""
    return image_view(image, base, link) | {"renditions": _linked(image, link, REVIEW_LASTS_S)}


def _linked(image: Image, link: LinkMaker, expires_s: int) -> list[dict[str, Any]]:
    return [
        details | {"url": link(rendition, expires_s)}
        for details, rendition in zip(rendition_details(image), image.renditions, strict=True)
    ]


def versions_view(versions: Iterable[Version]) -> "list[schema.Version]":
    return [
        {
            "version_id": version.version_id,
            "uploaded_at": version.uploaded_at,
            "size_bytes": version.size_bytes,
            "is_current": version.is_current,
            "is_deleted": version.is_deleted,
        }
        for version in versions
    ]


def status_view(image: Image, base: str) -> "schema.Progress":
    """What a client needs while it waits."""
    failure = image.failure
    return {
        "image_id": image.image_id,
        "key": image.original.key,
        "status": image.status,
        "error": {"code": failure.code, "message": failure.message} if failure else None,
        "updated_at": image.updated_at,
        "links": links_of(image.image_id, base),
    }


def accepted(image: Image, base: str) -> Response:
    """202: the work goes on; ``Location`` is where to ask for the image."""
    return Response(
        status_code=HTTPStatus.ACCEPTED,
        headers={"Location": links_of(image.image_id, base)["self"]},
        body=status_view(image, base),
    )


def status_answer(image: Image, request: Request, base: str) -> Response:
    """The status, or 304 for a client that knows it already; each change has a new ETag."""
    etag = f'"{image.revision}"'
    headers: dict[str, Any] = {"ETag": etag, "Cache-Control": "no-cache"}
    if knows(request, etag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers, body="")
    return Response(status_code=HTTPStatus.OK, headers=headers, body=status_view(image, base))


def page_view(page: Page, base: str, link: LinkMaker) -> "schema.ImagePage":
    images: Any = _fitting(image_view(image, base, link) for image in page.images)
    is_cut = len(images) < len(page.images)
    return {"images": images, "cursor": page.cursors[len(images) - 1] if is_cut else page.cursor}


def similar_view(
    found: Iterable[tuple[Image, int]], base: str, link: LinkMaker
) -> "schema.SimilarImages":
    images: Any = _fitting(
        image_view(image, base, link) | {"distance": distance} for image, distance in found
    )
    return {"images": images}


def _fitting(images: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first images, as many as one answer carries, and one in any case."""
    fitting: list[dict[str, Any]] = []
    size_bytes = 0
    for image in images:
        size_bytes += answered_bytes(image)
        if fitting and size_bytes > MOST_SHOWN_BYTES:
            break
        fitting.append(image)
    return fitting


def labels_view(counts: Sequence[LabelCount], limit: int) -> "schema.Labels":
    shown: Any = [asdict(count) for count in counts[:limit]]
    return {"labels": shown, "total": len(counts)}


def stats_view(totals: Totals) -> "schema.Stats":
    images: Any = {
        status: totals.images.get(status, 0)
        for status in ImageStatus
        if status is not ImageStatus.DELETED
    }
    return {
        "images": images,
        "original_bytes": totals.original_bytes,
        "rendition_bytes": totals.rendition_bytes,
    }


def offer_view(key: str, offer: DirectUpload, max_bytes: int, base: str) -> "schema.OfferedUpload":
    return {
        "image_id": image_id_of(key),
        "key": key,
        "upload": {
            "url": offer.url,
            "fields": dict(offer.fields),
            "expires_at": offer.expires_at,
            "max_bytes": max_bytes,
        },
        "links": links_of(image_id_of(key), base),
    }


def rendition_redirect(image: Image, name: str, link: LinkMaker) -> Response:
    """302 to where the rendition is for now. Raises ImageQuarantined, RenditionNotFound."""
    if image.is_withheld:
        raise ImageQuarantined(
            f"The image is withheld ({', '.join(image.withheld_for)}) until a reviewer releases it."
        )
    for rendition in image.renditions:
        if rendition.name == name:
            return Response(
                status_code=HTTPStatus.FOUND,
                headers={
                    "Location": link(rendition, LINK_EXPIRES_S),
                    "Cache-Control": f"private, max-age={REDIRECT_LASTS_S}",
                },
                body="",
            )
    names = ", ".join(rendition.name for rendition in image.renditions)
    raise RenditionNotFound(
        f"The image has no rendition {name!r:.80}; it has {names or 'none yet'}."
    )


def links_of(image_id: str, base: str) -> "schema.Links":
    path = f"{base}/images/{quote(image_id)}"
    return {"self": path, "status": f"{path}/status"}


def webhook_view(destination: Destination, now: datetime) -> "schema.Webhook":
    """A webhook and how it fares, without what it is signed with."""
    circuit = destination.circuit
    is_paused = (circuit.paused_until or "") > timestamp(now) and not destination.is_disabled
    reason: Any = circuit.disabled_for or None
    return {
        "webhook_id": destination.destination_id,
        "url": destination.url,
        "statuses": list(destination.statuses),
        "labels": list(destination.labels),
        "description": destination.description,
        "created_at": destination.created_at or None,
        "is_configured": destination.is_configured,
        "state": "DISABLED" if reason else "PAUSED" if is_paused else "ACTIVE",
        "paused_until": circuit.paused_until if is_paused else None,
        "disabled_for": reason,
        "failures": circuit.failures,
    }


def registered(destination: Destination, now: datetime, base: str) -> Response:
    """201 with the secret, the only time that a webhook is shown with it."""
    return Response(
        status_code=HTTPStatus.CREATED,
        headers={"Location": f"{base}/webhooks/{destination.destination_id}"},
        body={**webhook_view(destination, now), "secret": destination.secrets[0].value},
    )


def rotated_view(destination: Destination) -> "schema.RotatedSecret":
    new, previous, *_ = destination.secrets
    return {
        "webhook_id": destination.destination_id,
        "secret": new.value,
        "previous_secret_until": previous.until or "",
    }


def sent(webhook_id: str, event_id: str, base: str) -> Response:
    """202: ``Location`` is where one sees what becomes of it."""
    return Response(
        status_code=HTTPStatus.ACCEPTED,
        headers={"Location": f"{base}/webhooks/{webhook_id}/deliveries"},
        body={"event_id": event_id},
    )


def deliveries_view(page: DeliveryPage) -> "schema.DeliveryPage":
    return {"deliveries": [_delivery_view(each) for each in page.deliveries], "cursor": page.cursor}


def _delivery_view(delivery: Delivery) -> "schema.Delivery":
    attempts: Any = [asdict(attempt) for attempt in delivery.attempts]
    return {
        "event_id": delivery.event_id,
        "event_type": delivery.event_type,
        "event_time": delivery.event_time,
        "image_id": delivery.image_id or None,
        "state": delivery.state,
        "attempts": attempts,
        "next_try_at": delivery.next_try_at,
    }


def knows(request: Request, etag: str) -> bool:
    """Whether the client has it already (RFC 9110, 13.1.2: weak comparison)."""
    known = request.headers.get("if-none-match", "")
    return any(tag.strip().removeprefix("W/") in {etag, "*"} for tag in known.split(","))
