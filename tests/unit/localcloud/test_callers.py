"""What the local cloud makes of callers, as far as it needs no cloud for it."""

import os
from typing import Any

import jwt
import pytest
from chalice.app import Chalice

from chalicelib.config import read_settings
from chalicelib.web.auth import guard
from localcloud import callers
from localcloud.callers import Callers, Refused

POOL = "arn:aws:cognito-idp:eu-central-1:123456789012:userpool/eu-central-1_abc"
SETTINGS = read_settings(
    os.environ | {"API_AUTH": "cognito", "USER_POOL_ARN": POOL, "USER_POOL_CLIENT_ID": "client"}
)
SECRET = "of nobody's, and long enough to be one"  # noqa: S105


def check(token: str) -> dict[str, Any]:
    """What the app is told of a caller on a guarded route."""
    app = Chalice("small", configure_logs=False)
    app.route("/", **guard(SETTINGS))(dict)
    event: dict[str, Any] = {"headers": {"authorization": token}, "requestContext": {}}
    Callers(SETTINGS).check(app.routes["/"]["GET"], event)
    context: dict[str, Any] = event["requestContext"]
    return context


def test_pool_that_cannot_be_asked_is_no_fault_of_the_caller() -> None:
    """Else somebody with a right token would be told to sign in, again and again."""
    token = jwt.encode({}, SECRET, "HS256", {"kid": "any"})

    with pytest.raises(Refused) as refused:
        check(token)

    assert refused.value.kind == "AUTHORIZER_FAILURE"


def test_claims_are_passed_on_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """As API Gateway hands them over; a list's members are between commas."""
    claims = {"sub": "a1", "exp": 7, "email_verified": True, "cognito:groups": ["a", "b"]}
    monkeypatch.setattr(callers.jwt, "decode", lambda *_, **__: claims | {"token_use": "id"})
    monkeypatch.setattr(callers.jwt.PyJWKClient, "get_signing_key_from_jwt", lambda *_: "key")
    monkeypatch.setattr(callers.Users, "_clients", lambda _: ["client"])

    assert check("Bearer x") == {
        "authorizer": {
            "claims": {
                "sub": "a1",
                "exp": "7",
                "email_verified": "true",
                "cognito:groups": "a,b",
                "token_use": "id",
            }
        }
    }
