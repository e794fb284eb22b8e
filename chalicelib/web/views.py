"""Images as the API shows them: JSON, with links that work."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from chalice.app import Response

from chalicelib.messages import image_details
from chalicelib.model import Image, Page, Rendition

LINK_EXPIRES_S = 3600
"""How long a link to a rendition works."""

LinkMaker = Callable[[Rendition, int], str]


def image_view(image: Image, base: str, link: LinkMaker) -> dict[str, Any]:
    """An image in full, with short-lived links to its renditions.

    ``base`` is what stands before the app's own paths, as in ``/api``.
    """
    details = image_details(image)
    details["renditions"] = [
        shown | {"url": link(rendition, LINK_EXPIRES_S)}
        for shown, rendition in zip(details["renditions"], image.renditions, strict=True)
    ]
    return details | {"links": _links(image, base)}


def status_view(image: Image, base: str) -> dict[str, Any]:
    """What a client needs while it waits."""
    details = image_details(image)
    shown = ("image_id", "key", "status", "error", "updated_at")
    return {name: details[name] for name in shown} | {"links": _links(image, base)}


def page_view(page: Page, base: str, link: LinkMaker) -> dict[str, Any]:
    return {
        "images": [image_view(image, base, link) for image in page.images],
        "cursor": page.cursor,
    }


def accepted(image: Image, base: str) -> Response:
    """202: the work goes on; ``Location`` is where to ask for the image."""
    return Response(
        status_code=HTTPStatus.ACCEPTED,
        headers={"Location": _links(image, base)["self"]},
        body=status_view(image, base),
    )


def _links(image: Image, base: str) -> dict[str, str]:
    path = f"{base}/images/{quote(image.image_id)}"
    return {"self": path, "status": f"{path}/status"}
