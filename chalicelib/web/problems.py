"""Errors as problem details (RFC 9457), the same on every route."""

import logging
from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any, ParamSpec

from chalice.app import Response

from chalicelib.errors import RequestError

P = ParamSpec("P")

logger = logging.getLogger("image-pipeline")

PROBLEM_TYPE = "application/problem+json"


def problems(view: Callable[P, Any]) -> Callable[P, Any]:
    """Answers a RequestError with what it says, and anything else with a bare 500.

    A decorator under the route and not a middleware: Chalice turns an unknown exception into a
    500 of its own before a middleware sees it. What went wrong inside is logged, never shown.
    """

    @wraps(view)
    def answer(*args: P.args, **kwargs: P.kwargs) -> Any:
        try:
            return view(*args, **kwargs)
        except RequestError as error:
            return problem(error.status, error.title, str(error), error.code)
        except Exception:
            logger.exception("%s failed", view.__name__)
            return problem(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "Internal error",
                "Something went wrong on our side: try again in a moment.",
                "internal_error",
            )

    return answer


def problem(status: int, title: str, detail: str, code: str) -> Response:
    """``message`` repeats ``detail`` for clients that know no problem details."""
    return Response(
        status_code=status,
        headers={"Content-Type": PROBLEM_TYPE},
        body={
            "type": "about:blank",
            "title": title,
            "status": int(status),
            "detail": detail,
            "code": code,
            "message": detail,
        },
    )
