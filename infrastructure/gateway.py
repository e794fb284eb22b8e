"""API Gateway beyond what Chalice sets: its own errors, throttling, logs, traces."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from mypy_boto3_apigateway import APIGatewayClient
    from mypy_boto3_apigateway.literals import GatewayResponseTypeType
    from mypy_boto3_apigateway.type_defs import PatchOperationTypeDef

OWN_WORDS = "$context.error.messageString"
"""What API Gateway says itself: a string of JSON that brings its own quotes."""

ON_OUR_SIDE = "Something went wrong on our side: try again in a moment."


@dataclass(frozen=True, slots=True)
class GatewayError:
    """An error that API Gateway answers by itself, in the words of the API's own errors.

    Without a status it keeps the one that API Gateway gives it.
    """

    status: HTTPStatus | None
    code: str
    detail: str = OWN_WORDS


ERRORS: Mapping["GatewayResponseTypeType", GatewayError] = {
    "DEFAULT_4XX": GatewayError(None, "refused"),
    "DEFAULT_5XX": GatewayError(None, "internal_error"),
    # API Gateway says 403 of a route that is not there, as if it might be with credentials.
    "MISSING_AUTHENTICATION_TOKEN": GatewayError(
        HTTPStatus.NOT_FOUND,
        "route_not_found",
        "The API has no such route, or not with this method: GET /openapi.json lists them.",
    ),
    "RESOURCE_NOT_FOUND": GatewayError(
        HTTPStatus.NOT_FOUND,
        "route_not_found",
        "The API has no such route, or not with this method: GET /openapi.json lists them.",
    ),
    "UNAUTHORIZED": GatewayError(
        HTTPStatus.UNAUTHORIZED,
        "sign_in_required",
        "Send the ID token of a user, which has not expired, as Authorization: Bearer <token>.",
    ),
    "EXPIRED_TOKEN": GatewayError(
        HTTPStatus.UNAUTHORIZED,
        "sign_in_required",
        "These credentials have expired: get new ones, and send the request again.",
    ),
    "ACCESS_DENIED": GatewayError(
        HTTPStatus.FORBIDDEN,
        "access_denied",
        "These credentials may not call this route: they need execute-api:Invoke on it.",
    ),
    "INVALID_SIGNATURE": GatewayError(
        HTTPStatus.FORBIDDEN,
        "invalid_signature",
        "The signature is not that of this request: sign all of it for the service execute-api in "
        "the API's region, with a clock that is right.",
    ),
    "INVALID_API_KEY": GatewayError(
        HTTPStatus.FORBIDDEN,
        "invalid_api_key",
        "Send a key of this API in the header x-api-key.",
    ),
    "THROTTLED": GatewayError(
        HTTPStatus.TOO_MANY_REQUESTS,
        "too_many_requests",
        "More requests come than the API takes: try again in a moment.",
    ),
    "QUOTA_EXCEEDED": GatewayError(
        HTTPStatus.TOO_MANY_REQUESTS,
        "quota_exceeded",
        "The quota of this key is used up: whoever runs the API can raise it.",
    ),
    "REQUEST_TOO_LARGE": GatewayError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "payload_too_large",
        "The API takes pictures of 4.5 MB and no request of more than 10 MB: POST /uploads gives a "
        "form that uploads larger files straight to S3.",
    ),
    "UNSUPPORTED_MEDIA_TYPE": GatewayError(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        "The route takes no body of this Content-Type: GET /openapi.json lists those it takes.",
    ),
    "BAD_REQUEST_BODY": GatewayError(HTTPStatus.BAD_REQUEST, "invalid_request"),
    "BAD_REQUEST_PARAMETERS": GatewayError(HTTPStatus.BAD_REQUEST, "invalid_request"),
    "INTEGRATION_TIMEOUT": GatewayError(
        HTTPStatus.GATEWAY_TIMEOUT,
        "timeout",
        "It took longer than API Gateway waits, and may have been done: look before you send it "
        "again.",
    ),
    "INTEGRATION_FAILURE": GatewayError(HTTPStatus.BAD_GATEWAY, "internal_error", ON_OUR_SIDE),
    "AUTHORIZER_FAILURE": GatewayError(
        HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", ON_OUR_SIDE
    ),
    "AUTHORIZER_CONFIGURATION_ERROR": GatewayError(
        HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", ON_OUR_SIDE
    ),
    "API_CONFIGURATION_ERROR": GatewayError(
        HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", ON_OUR_SIDE
    ),
}
"""By API Gateway's types of responses; those that are not here fall back to one of the first two.

https://docs.aws.amazon.com/apigateway/latest/developerguide/supported-gateway-response-types.html
"""

UNSIGNED = GatewayError(
    HTTPStatus.FORBIDDEN,
    "missing_signature",
    "Either the request is not signed with AWS credentials (Signature Version 4), or the API has "
    "no such route, or not with this method: API Gateway does not say which.",
)
"""MISSING_AUTHENTICATION_TOKEN where requests have to be signed."""

CHALLENGES = {"cognito": "Bearer", "iam": "AWS4-HMAC-SHA256"}
"""The scheme of ``WWW-Authenticate`` by setting, which a 401 has to name (RFC 9110, 11.6.1)."""


def responses(auth: str, origins: Sequence[str]) -> dict["GatewayResponseTypeType", dict[str, Any]]:
    """What every error is to look like, as PutGatewayResponse takes it.

    ``auth`` and ``origins`` are the settings API_AUTH and API_ALLOWED_ORIGINS.
    """
    errors = dict(ERRORS)
    if auth == "iam":
        errors["MISSING_AUTHENTICATION_TOKEN"] = UNSIGNED
    return {
        kind: {
            **({"statusCode": str(int(error.status))} if error.status else {}),
            "responseParameters": {
                f"gatewayresponse.header.{name}": value
                for name, value in _headers(error, auth, origins).items()
            },
            "responseTemplates": {"application/json": _template(error)},
        }
        for kind, error in errors.items()
    }


def _headers(error: GatewayError, auth: str, origins: Sequence[str]) -> dict[str, str]:
    """API Gateway wants constants between single quotes."""
    headers = {"Content-Type": "'application/problem+json'", **_cors(origins)}
    if error.status == HTTPStatus.UNAUTHORIZED and auth in CHALLENGES:
        headers["WWW-Authenticate"] = f"'{CHALLENGES[auth]}'"
    if error.code == "too_many_requests":
        headers["Retry-After"] = "'1'"
    return headers


def _cors(origins: Sequence[str]) -> dict[str, str]:
    """Without it a page of another origin sees no status at all, only that the request failed.

    A header of API Gateway's is a constant or one of the request's: where several origins are
    allowed, whichever asks may read these errors. They hold nothing of anybody's.
    """
    if not origins:
        return {}
    if "*" in origins:
        return {"Access-Control-Allow-Origin": "'*'"}
    if len(origins) == 1:
        return {"Access-Control-Allow-Origin": f"'{origins[0]}'"}
    return {"Access-Control-Allow-Origin": "method.request.header.Origin", "Vary": "'Origin'"}


def _template(error: GatewayError) -> str:
    """Problem details (RFC 9457) as those of ``chalicelib/web/problems.py``."""
    problem = {
        "type": "about:blank",
        "title": error.status.phrase if error.status else "Refused by API Gateway",
        **({"status": int(error.status)} if error.status else {}),
        "detail": error.detail,
        "code": error.code,
        "message": error.detail,
        "request_id": "$context.requestId",
    }
    return json.dumps(problem).replace(json.dumps(OWN_WORDS), OWN_WORDS)


ACCESS_LOG = json.dumps(
    {
        name: f"$context.{variable}"
        for name, variable in {
            "request_id": "requestId",
            "trace_id": "xrayTraceId",
            "timestamp": "requestTime",
            "ip": "identity.sourceIp",
            "caller": "identity.caller",
            "user": "authorizer.claims.sub",
            "key_id": "identity.apiKeyId",
            "method": "httpMethod",
            "route": "resourcePath",
            "status": "status",
            "latency_ms": "responseLatency",
            "response_bytes": "responseLength",
            "error": "error.responseType",
        }.items()
    }
)
"""A line of JSON a request; who called, by the ids of IAM, of a user or of a key.

The route and not the path, which may hold a name of somebody's.
"""


@dataclass(frozen=True, slots=True)
class Gateway:
    """The REST API of a stage."""

    client: "APIGatewayClient"
    api_id: str
    stage: str

    def configure(
        self,
        *,
        tags: Mapping[str, str],
        errors: Mapping["GatewayResponseTypeType", Mapping[str, Any]],
        access_log_arn: str,
        requests_per_s: float,
        burst: int,
        traced: bool,
    ) -> list[str]:
        """Set what differs from what is wanted; what was set, in words.

        ``access_log_arn``: the log group that gets a line a request; API Gateway writes to it with
        the account's own role (see ``infrastructure/account.yaml``). ``tags``: Chalice gives an API
        none, and by them a role may be kept to one stage's. ``errors``: what ``responses`` gives.
        """
        done = []
        meta = self.client.meta
        arn = f"arn:{meta.partition}:apigateway:{meta.region_name}::/restapis/{self.api_id}"
        if tags.items() - self.client.get_tags(resourceArn=arn)["tags"].items():
            self.client.tag_resource(resourceArn=arn, tags=tags)
            done.append("the API has its stage's tag")
        if self._set_responses(errors):
            # Responses are part of the API, which its stage serves as it was last deployed.
            self.client.create_deployment(restApiId=self.api_id, stageName=self.stage)
            done.append("errors of API Gateway's own are problem details as the app's")
        wanted = {
            "/*/*/throttling/rateLimit": str(requests_per_s),
            "/*/*/throttling/burstLimit": str(burst),
            "/accessLogSettings/destinationArn": access_log_arn.removesuffix(":*"),
            "/accessLogSettings/format": ACCESS_LOG,
            "/tracingEnabled": str(traced).lower(),
        }
        current = self._settings()
        patches: list[PatchOperationTypeDef] = [
            {"op": "replace", "path": path, "value": value}
            for path, value in wanted.items()
            if current.get(path) != value
        ]
        if patches:
            self.client.update_stage(
                restApiId=self.api_id, stageName=self.stage, patchOperations=patches
            )
            done.append(
                f"up to {requests_per_s:g} requests a second (bursts of {burst}), access logs, "
                f"traces {'on' if traced else 'off'}"
            )
        return done

    def _set_responses(self, wanted: Mapping["GatewayResponseTypeType", Mapping[str, Any]]) -> bool:
        """Whether any was not as it should be."""
        items: list[Any] = list(
            self.client.get_gateway_responses(restApiId=self.api_id, limit=500)["items"]
        )
        current = {item["responseType"]: item for item in items if not item.get("defaultResponse")}
        stale = {
            kind: response
            for kind, response in wanted.items()
            if any(current.get(kind, {}).get(name) != value for name, value in response.items())
        }
        for kind, response in stale.items():
            self.client.put_gateway_response(restApiId=self.api_id, responseType=kind, **response)
        return bool(stale)

    def open_to_keys(self, plan_id: str) -> list[str]:
        """Have the keys of a usage plan open this API and no other; what was done, in words."""
        here = f"{self.api_id}:{self.stage}"
        if not _set_plan(self.client, plan_id, {here}):
            return []
        return ["the stage's key opens the API"]

    def _settings(self) -> dict[str, str]:
        """The stage's settings, by the paths that UpdateStage knows them by."""
        stage: Any = self.client.get_stage(restApiId=self.api_id, stageName=self.stage)
        every = stage.get("methodSettings", {}).get("*/*", {})
        log = stage.get("accessLogSettings", {})
        return {
            "/*/*/throttling/rateLimit": str(float(every.get("throttlingRateLimit", -1))),
            "/*/*/throttling/burstLimit": str(every.get("throttlingBurstLimit", -1)),
            "/accessLogSettings/destinationArn": log.get("destinationArn", "").removesuffix(":*"),
            "/accessLogSettings/format": log.get("format", ""),
            "/tracingEnabled": str(stage.get("tracingEnabled", False)).lower(),
        }


def close_to_keys(client: "APIGatewayClient", plan_id: str) -> None:
    """Take every API out of a usage plan: one that has any cannot be deleted."""
    _set_plan(client, plan_id, set())


def _set_plan(client: "APIGatewayClient", plan_id: str, wanted: set[str]) -> bool:
    """Whether the plan's APIs, as ``id:stage``, were others."""
    plan = client.get_usage_plan(usagePlanId=plan_id)
    current = {f"{each['apiId']}:{each['stage']}" for each in plan.get("apiStages", ())}
    changes: tuple[tuple[Literal["add", "remove"], set[str]], ...] = (
        ("remove", current - wanted),
        ("add", wanted - current),
    )
    patches: list[PatchOperationTypeDef] = [
        {"op": op, "path": "/apiStages", "value": each} for op, apis in changes for each in apis
    ]
    if patches:
        client.update_usage_plan(usagePlanId=plan_id, patchOperations=patches)
    return bool(patches)
