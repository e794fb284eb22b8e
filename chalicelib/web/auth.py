"""Who may call the API: what API Gateway is to check before a route is asked."""

import re
from typing import Any

from chalice.app import CognitoUserPoolAuthorizer, IAMAuthorizer, Request

from chalicelib.config import Settings
from chalicelib.errors import ReviewersOnly, SignInRequired

REVIEWERS = "reviewers"
"""The group of a user pool whose members see what is withheld, and may release it."""


def guard(settings: Settings) -> dict[str, Any]:
    """What a route passes on to ``app.route`` so that only those may call it who shall."""
    match settings.api_auth:
        case "key":
            return {"api_key_required": True}
        case "iam":
            return {"authorizer": IAMAuthorizer()}
        case "cognito":
            # Without scopes API Gateway takes ID tokens, and no access tokens.
            users = CognitoUserPoolAuthorizer("users", provider_arns=[settings.user_pool_arn])
            return {"authorizer": users}
    return {}


def open_guard(settings: Settings) -> dict[str, Any]:
    """For routes that hold nothing of anybody's, as the page that a browser signs in on.

    With ``iam`` they are guarded, too: whoever signs requests needs no page to do so.
    """
    return guard(settings) if settings.api_auth == "iam" else {}


def require_caller(settings: Settings) -> None:
    """Raises SignInRequired on an open route where nobody has checked who calls."""
    if guard(settings) and not open_guard(settings):
        raise SignInRequired(
            "Without credentials this path gives the page alone: use /images, with yours."
        )


def require_reviewer(request: Request, settings: Settings) -> None:
    """Raises ReviewersOnly for users of the pool who are not in its group of reviewers.

    Whoever else may call the API is one: of those that sign requests, IAM lets only some call the
    paths of a review; keys, and nobody's checking, know no people.
    """
    if settings.api_auth != "cognito":
        return
    claims = (request.context.get("authorizer") or {}).get("claims") or {}
    # API Gateway hands a list over as a text, as in "[one two]" or "one,two".
    if REVIEWERS not in re.split(r"[\[\],\s]+", str(claims.get("cognito:groups", ""))):
        raise ReviewersOnly(
            f"Only reviewers may do this: an administrator adds users to the group {REVIEWERS!r}."
        )
