"""Errors as problem details (RFC 9457), the same on every route."""

import logging
from collections.abc import Callable, Mapping
from functools import wraps
from http import HTTPStatus
from typing import Any, ParamSpec

from chalice.app import Response

from chalicelib.errors import InvalidRequest, RequestError
from chalicelib.web.operations import Operation

P = ParamSpec("P")

logger = logging.getLogger("image-pipeline")

PROBLEM_TYPE = "application/problem+json"


def answers(operation: Operation) -> Callable[[Callable[P, Any]], Callable[P, Any]]:
    """Says which operation of the API a view is, and answers what it raises with a problem.

    A RequestError is answered with what it says, anything else with a bare 500. A decorator under
    the route and not a middleware: Chalice turns an unknown exception into a 500 of its own before
    a middleware sees it. What went wrong inside is logged, never shown.
    """

    def decorate(view: Callable[P, Any]) -> Callable[P, Any]:
        @wraps(view)
        def answer(*args: P.args, **kwargs: P.kwargs) -> Any:
            try:
                return view(*args, **kwargs)
            except RequestError as error:
                return problem(error)
            except Exception:
                logger.exception("%s failed", view.__name__)
                return _answered(
                    HTTPStatus.INTERNAL_SERVER_ERROR,
                    "Internal error",
                    "Something went wrong on our side: try again in a moment.",
                    "internal_error",
                )

        answer.operation = operation  # type: ignore[attr-defined] # read by chalicelib.web.openapi
        return answer

    return decorate


def problem(error: RequestError, **headers: str) -> Response:
    faults = error.parameters if isinstance(error, InvalidRequest) else {}
    return _answered(
        error.status, error.title, str(error), error.code, faults=faults, headers=headers
    )


def _answered(
    status: int,
    title: str,
    detail: str,
    code: str,
    *,
    faults: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """``message`` repeats ``detail`` for clients that know no problem details."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": title,
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
