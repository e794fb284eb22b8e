"""What browsers may do with the API, and which pages of other origins may call it.

A page may read answers of another origin only where that says so (CORS, Fetch standard). Requests
that change something are refused to pages of origins that are not allowed, since a browser sends
the simple ones without asking: no page elsewhere can upload to, or delete from, an API that runs
open on somebody's laptop.
"""

from collections.abc import Callable, Collection, Mapping
from http import HTTPStatus
from typing import Any

from chalice.app import Request, Response

from chalicelib.errors import CrossSiteRequest, MethodNotAllowed
from chalicelib.web.problems import problem, problem_of

METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
"""What API Gateway knows."""

SAFE = ("GET", "HEAD", "OPTIONS")

REQUEST_HEADERS = (
    "authorization, content-type, idempotency-key, if-none-match, x-amz-content-sha256, "
    "x-amz-date, x-amz-security-token, x-api-key"
)
DEFAULTS: Mapping[str, Any] = {
    "Cache-Control": "private, no-store",  # it is full of links that are signed for this caller
    "Vary": "Accept",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of answers that do not say otherwise."""

ANSWER_HEADERS = "etag, location, retry-after, www-authenticate"
PREFLIGHT_LASTS_S = 7200
"""The longest that Chromium takes."""


def answered(
    request: Request, get_response: Callable[[Request], Response], origins: Collection[str]
) -> Response:
    """The answer, with the headers that browsers go by; a middleware.

    Whatever fails in it is answered with a problem, too.
    """
    try:
        if request.method not in SAFE:
            refuse_foreign_page(request, origins)
        response = get_response(request)
    except Exception as error:  # noqa: BLE001 - told or logged there
        response = problem_of(error, f"{request.method} {request.context.get('resourcePath')}")
    response.headers = {**DEFAULTS, **response.headers}
    if origins:
        origin: str = request.headers.get("origin", "")
        headers: dict[str, Any] = {"Vary": "Accept, Origin"}
        if origin and _is_allowed(origin, origins):
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Expose-Headers"] = ANSWER_HEADERS
        response.headers |= headers
    return response


def refuse_foreign_page(request: Request, origins: Collection[str]) -> None:
    """Raises CrossSiteRequest where a browser says that another origin's page has sent this.

    Browsers tell by ``Sec-Fetch-Site`` (Fetch Metadata), older ones by ``Origin`` alone; other
    clients send neither.
    """
    origin: str = request.headers.get("origin", "")
    site = request.headers.get("sec-fetch-site")
    is_foreign = (
        site in ("cross-site", "same-site")
        if site
        else origin and origin.partition("://")[2] != request.headers.get("host")
    )
    if is_foreign and not _is_allowed(origin, origins):
        raise CrossSiteRequest(
            "A page of another origin has sent this, and only those in API_ALLOWED_ORIGINS may."
        )


def preflight(allowed: Collection[str]) -> Callable[..., Response]:
    """A view that tells a browser what it may send to a path that has these methods."""
    names = _names(allowed)

    def tell_methods(**_path: str) -> Response:
        return Response(
            status_code=HTTPStatus.NO_CONTENT,
            headers={
                "Allow": names,
                "Access-Control-Allow-Methods": names,
                "Access-Control-Allow-Headers": REQUEST_HEADERS,
                "Access-Control-Max-Age": str(PREFLIGHT_LASTS_S),
            },
            body="",
        )

    return tell_methods


def refusal(allowed: Collection[str]) -> Callable[..., Response]:
    """A view for all other methods; API Gateway by itself would say that there is no such path."""
    names = _names(allowed)

    def refuse_method(**_path: str) -> Response:
        return problem(MethodNotAllowed(f"This path takes {names}."), Allow=names)

    return refuse_method


def _names(allowed: Collection[str]) -> str:
    return ", ".join(sorted({*allowed, "OPTIONS"}))


def _is_allowed(origin: str, origins: Collection[str]) -> bool:
    return "*" in origins or origin in origins
