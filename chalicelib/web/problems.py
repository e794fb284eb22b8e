"""Errors as problem details (RFC 9457), the same on every route."""

import logging
from collections.abc import Callable, Mapping
from functools import wraps
from http import HTTPStatus
from typing import Any, ParamSpec

from chalice.app import Response

from chalicelib.errors import Busy, InvalidRequest, NotNow, RequestError
from chalicelib.web.operations import Operation

P = ParamSpec("P")

logger = logging.getLogger("image-pipeline")

PROBLEM_TYPE = "application/problem+json"
RETRY_AFTER_S = 5


def answers(operation: Operation) -> Callable[[Callable[P, Any]], Callable[P, Any]]:
    """Says which operation of the API a view is, and answers what it raises with a problem.

    A decorator under the route and not a middleware: Chalice turns an unknown exception into a
    500 of its own before a middleware sees it.
    """

    def decorate(view: Callable[P, Any]) -> Callable[P, Any]:
        @wraps(view)
        def answer(*args: P.args, **kwargs: P.kwargs) -> Any:
            try:
                return view(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - told or logged there
                return problem_of(error, view.__name__)

        answer.operation = operation  # type: ignore[attr-defined] # read by chalicelib.web.openapi
        return answer

    return decorate


def problem_of(error: Exception, where: str) -> Response:
    """What a client is told of it: what a RequestError says, of anything else a bare 500.

    What went wrong inside is logged, never shown.
    """
    if isinstance(error, NotNow):
        error = Busy("The catalog takes no more for now: try again in a moment.")
    if isinstance(error, RequestError):
        return problem(error)
    logger.error("%s failed", where, exc_info=error)
    return _answered(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "Something went wrong on our side: try again in a moment.",
        "internal_error",
    )


def problem(error: RequestError, **headers: str) -> Response:
    """``message`` repeats ``detail`` for clients that know no problem details."""
    faults = error.parameters if isinstance(error, InvalidRequest) else {}
    if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"  # which a 401 has to have (RFC 9110, 11.6.1)
    return _answered(error.status, str(error), error.code, faults=faults, headers=headers)


def _answered(
    status: int,
    detail: str,
    code: str,
    *,
    faults: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,  # as RFC 9457, 4.2.1 wants it of about:blank
        "status": int(status),
        "detail": detail,
        "code": code,
        "message": detail,
    }
    if faults:
        body["errors"] = [
            {"parameter": name, "detail": fault} for name, fault in sorted(faults.items())
        ]
    return Response(
        status_code=status, headers={"Content-Type": PROBLEM_TYPE, **(headers or {})}, body=body
    )
