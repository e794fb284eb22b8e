"""Who may call the API: what API Gateway is to check before a route is asked."""

from typing import Any

from chalice.app import CognitoUserPoolAuthorizer, IAMAuthorizer

from chalicelib.config import Settings
from chalicelib.errors import SignInRequired


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
