"""What API Gateway is told to check, by setting."""

from typing import Any

import pytest
from chalice.app import CognitoUserPoolAuthorizer, IAMAuthorizer

from chalicelib.config import AUTHS, Settings, read_settings
from chalicelib.web.auth import guard, open_guard

STAGE = dict.fromkeys(
    (
        *("STAGE", "UPLOADS_BUCKET", "RENDITIONS_BUCKET", "TABLE_NAME", "WORK_QUEUE_URL"),
        *("TOPIC_ARN", "WEBHOOK_QUEUE_URL"),
    ),
    "any",
)
POOL = "arn:aws:cognito-idp:eu-central-1:123456789012:userpool/eu-central-1_abc"


def settings(auth: str) -> Settings:
    pool = {"USER_POOL_ARN": POOL, "USER_POOL_CLIENT_ID": "client"}
    return read_settings({**STAGE, **pool, "MAX_RECEIVE_COUNT": "5", "API_AUTH": auth})


@pytest.mark.parametrize("auth", sorted({*AUTHS} - {"none"}))
def test_route_is_guarded_by_whatever_but_none(auth: str) -> None:
    """No setting that asks for something leaves a route open."""
    assert guard(settings(auth))


def test_open_api_asks_for_nothing() -> None:
    """``none`` is nothing, on either kind of route."""
    assert guard(settings("none")) == open_guard(settings("none")) == {}


def test_key_is_asked_for_by_api_gateway() -> None:
    """Which compares it with those of the stage's usage plan."""
    assert guard(settings("key")) == {"api_key_required": True}


def test_signature_is_asked_for_on_every_route() -> None:
    """With ``iam`` nothing is open: who signs needs no page to sign in on."""
    for guarded in (guard(settings("iam")), open_guard(settings("iam"))):
        assert isinstance(guarded["authorizer"], IAMAuthorizer)


def test_users_are_those_of_the_stages_pool() -> None:
    """By ID token: with a scope API Gateway would ask for access tokens."""
    authorizer: Any = guard(settings("cognito"))["authorizer"]

    assert isinstance(authorizer, CognitoUserPoolAuthorizer)
    declared = authorizer.to_swagger()
    assert declared["name"] == "Authorization"
    assert declared["x-amazon-apigateway-authorizer"]["providerARNs"] == [POOL]
    assert authorizer.scopes == []


@pytest.mark.parametrize("auth", ["key", "cognito"])
def test_page_is_open_so_that_one_can_sign_in_on_it(auth: str) -> None:
    """A browser loads it before anybody has shown anything."""
    assert open_guard(settings(auth)) == {}
