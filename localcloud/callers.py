"""Who calls the API on a laptop, told by what API Gateway would tell it by."""

import os
from typing import TYPE_CHECKING, Any

import boto3
import jwt
from botocore.exceptions import BotoCoreError, ClientError
from chalice.app import CognitoUserPoolAuthorizer, IAMAuthorizer
from chalice.app import RouteEntry as Route

from chalicelib.config import Settings

if TYPE_CHECKING:
    from mypy_boto3_apigateway.literals import GatewayResponseTypeType

SIGNED = "AWS4-HMAC-SHA256 "


class Refused(Exception):
    """Answered by API Gateway itself, in the words of ``infrastructure/gateway.py``.

    ``status`` and ``message`` are for the kinds that have none of their own.
    """

    def __init__(
        self, kind: "GatewayResponseTypeType", message: str = "", status: int = 400
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.status = status


class Callers:
    """Lets a request in as its route asks. Keys and users are those of the local cloud."""

    def __init__(self, settings: Settings) -> None:
        self._keys = Keys() if settings.api_auth == "key" else None
        self._users = Users(settings.user_pool_arn) if settings.api_auth == "cognito" else None

    def check(self, route: Route, event: dict[str, Any]) -> None:
        """Raises Refused. Of a user the event gets what the token claims.

        A signature has to be there and is not verified: whoever reaches this machine's loopback
        may have any credentials of its cloud.
        """
        headers: dict[str, str] = event["headers"]
        try:
            if self._keys and route.api_key_required:
                self._keys.require(headers.get("x-api-key", ""))
            if self._users and isinstance(route.authorizer, CognitoUserPoolAuthorizer):
                claims = self._users.claims_of(headers.get("authorization", ""))
                event["requestContext"]["authorizer"] = {"claims": claims}
        except (BotoCoreError, ClientError, jwt.PyJWKClientConnectionError) as error:
            raise Refused("AUTHORIZER_FAILURE") from error
        if isinstance(route.authorizer, IAMAuthorizer):
            query = event["multiValueQueryStringParameters"] or {}
            is_signed = headers.get("authorization", "").startswith(SIGNED)
            if not (is_signed or "X-Amz-Signature" in query):
                raise Refused("MISSING_AUTHENTICATION_TOKEN")


class Keys:
    """The keys of API Gateway."""

    def __init__(self) -> None:
        self._gateway = boto3.client("apigateway")

    def require(self, value: str) -> None:
        """Raises Refused unless it is one of them. They are asked for anew: one may be made."""
        pages = self._gateway.get_paginator("get_api_keys").paginate(includeValues=True)
        if value not in {key["value"] for page in pages for key in page["items"] if key["enabled"]}:
            raise Refused("INVALID_API_KEY")


class Users:
    """The users of a Cognito user pool (``arn:aws:cognito-idp:…:userpool/…``)."""

    def __init__(self, pool_arn: str) -> None:
        region = pool_arn.split(":")[3]
        self._pool_id = pool_arn.rpartition("/")[2]
        self._issuer = f"https://cognito-idp.{region}.amazonaws.com/{self._pool_id}"
        keys = f"{os.environ['AWS_ENDPOINT_URL']}/{self._pool_id}/.well-known/jwks.json"
        self._keys = jwt.PyJWKClient(keys)
        self._cognito: Any = boto3.client("cognito-idp")

    def claims_of(self, header: str) -> dict[str, str]:
        """What an ID token claims, as API Gateway passes it on: all of it text.

        ``header`` is what stands in ``Authorization``. Raises Refused unless one of the pool's
        clients was given the token (AWS: "Verifying JSON web tokens").
        """
        token = header.removeprefix("Bearer ").strip()
        try:
            claims = jwt.decode(
                token,
                self._keys.get_signing_key_from_jwt(token),
                algorithms=["RS256"],
                audience=self._clients(),
                issuer=self._issuer,
                options={"require": ["aud", "exp", "iss", "token_use"]},
            )
        except jwt.PyJWKClientConnectionError:
            raise
        except jwt.PyJWTError as error:
            raise Refused("UNAUTHORIZED") from error
        if claims["token_use"] != "id":  # noqa: S105 - access tokens are for routes with scopes
            raise Refused("UNAUTHORIZED")
        return {name: _text(value) for name, value in claims.items()}

    def _clients(self) -> list[str]:
        answer = self._cognito.list_user_pool_clients(UserPoolId=self._pool_id, MaxResults=60)
        return [client["ClientId"] for client in answer["UserPoolClients"]]


def _text(claim: Any) -> str:
    if isinstance(claim, list):
        return ",".join(map(str, claim))
    return str(claim).lower() if isinstance(claim, bool) else str(claim)
