"""API Gateway beyond what Chalice sets: its own errors, throttling, logs, traces."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_apigateway import APIGatewayClient
    from mypy_boto3_apigateway.literals import GatewayResponseTypeType
    from mypy_boto3_apigateway.type_defs import PatchOperationTypeDef

PROBLEM = (
    '{"type": "about:blank", "title": "Refused by API Gateway", '
    '"code": "$context.error.responseType", "request_id": "$context.requestId", '
    '"detail": $context.error.messageString, "message": $context.error.messageString}'
)
"""Problem details (RFC 9457) like the app's own. ``messageString`` brings its own quotes."""

HEADERS = {
    # Without it a page of another origin sees no status at all, only that the request failed.
    "gatewayresponse.header.Access-Control-Allow-Origin": "'*'",
    "gatewayresponse.header.Content-Type": "'application/problem+json'",
}

RESPONSES: tuple["GatewayResponseTypeType", ...] = ("DEFAULT_4XX", "DEFAULT_5XX")
"""Every error that API Gateway answers by itself falls back to one of them."""

ACCESS_LOG = json.dumps(
    {
        name: f"$context.{variable}"
        for name, variable in {
            "request_id": "requestId",
            "trace_id": "xrayTraceId",
            "timestamp": "requestTime",
            "ip": "identity.sourceIp",
            "caller": "identity.caller",
            "method": "httpMethod",
            "route": "resourcePath",
            "status": "status",
            "latency_ms": "responseLatency",
            "response_bytes": "responseLength",
            "error": "error.responseType",
        }.items()
    }
)
"""A line of JSON a request. The route and not the path, which may hold a name of somebody's."""


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
        access_log_arn: str,
        requests_per_s: float,
        burst: int,
        traced: bool,
    ) -> list[str]:
        """Set what differs from what is wanted; what was set, in words.

        ``access_log_arn``: the log group that gets a line a request; API Gateway writes to it with
        the account's own role (see ``infrastructure/account.yaml``). ``tags``: Chalice gives an API
        none, and by them a role may be kept to one stage's.
        """
        done = []
        meta = self.client.meta
        arn = f"arn:{meta.partition}:apigateway:{meta.region_name}::/restapis/{self.api_id}"
        if tags.items() - self.client.get_tags(resourceArn=arn)["tags"].items():
            self.client.tag_resource(resourceArn=arn, tags=tags)
            done.append("the API has its stage's tag")
        if self._set_responses():
            # Responses are part of the API, which its stage serves as it was last deployed.
            self.client.create_deployment(restApiId=self.api_id, stageName=self.stage)
            done.append("errors of API Gateway's own have CORS headers and problem details")
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

    def _set_responses(self) -> bool:
        """Whether any was not as it should be."""
        items: list[Any] = list(
            self.client.get_gateway_responses(restApiId=self.api_id, limit=500)["items"]
        )
        stale = set(RESPONSES) - {
            item["responseType"]
            for item in items
            if item.get("responseTemplates") == {"application/json": PROBLEM}
            and item.get("responseParameters") == HEADERS
        }
        for kind in RESPONSES:
            if kind in stale:
                self.client.put_gateway_response(
                    restApiId=self.api_id,
                    responseType=kind,
                    responseParameters=HEADERS,
                    responseTemplates={"application/json": PROBLEM},
                )
        return bool(stale)

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
