"""The API's description (OpenAPI 3.1), made from the routes and what they declare."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

from chalice.app import RouteEntry

from chalicelib.config import Settings
from chalicelib.errors import RequestError
from chalicelib.web.operations import Operation
from chalicelib.web.parameters import Parameter

VERSION = "1.0.0"
"""Of the API, by semantic versioning: what breaks a client raises the first number."""

ABOUT = """\
Images in, renditions and labels out. Upload a picture, ask for its status until that is `COMPLETED`
or `FAILED`, then get its renditions, labels and facts; list and search all of them.

Whatever is refused is answered with problem details (RFC 9457), whose `code` is stable.
"""

SECURITY: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "key": ("apiKey", {"type": "apiKey", "in": "header", "name": "x-api-key"}),
    "iam": (
        "signature",
        {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "AWS Signature Version 4, service `execute-api`.",
            "x-amazon-apigateway-authtype": "awsSigv4",
        },
    ),
    "cognito": (
        "signIn",
        {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "The ID token of somebody in the stage's Cognito user pool.",
        },
    ),
}

GATEWAY_REFUSALS = {
    HTTPStatus.UNAUTHORIZED: "No or no valid sign-in",
    HTTPStatus.FORBIDDEN: "No or no valid credentials",
    HTTPStatus.TOO_MANY_REQUESTS: "More requests than the stage takes: try again in a moment",
}
"""What API Gateway answers by itself."""


def document(routes: Mapping[str, Mapping[str, RouteEntry]], settings: Settings) -> dict[str, Any]:
    """The OpenAPI document of these routes. Those without an Operation are left out."""
    # Only here: nothing else that the app does needs the types, or msgspec.
    from msgspec.json import schema_components  # noqa: PLC0415

    from chalicelib.web import schema  # noqa: PLC0415

    names = sorted({name for _, _, each in _operations(routes) for name in _types(each)})
    types = [getattr(schema, name) for name in (*names, "Problem")]
    references, components = schema_components(types, ref_template="#/components/schemas/{name}")
    schemas = dict(zip((*names, "Problem"), references, strict=True))
    paths: dict[str, Any] = defaultdict(dict)
    for path, route, operation in _operations(routes):
        paths[path][route.method.lower()] = {
            "operationId": route.view_function.__name__,
            "summary": operation.summary,
            **({"description": operation.about} if operation.about else {}),
            "tags": [operation.tag],
            **_parameters(operation.parameters),
            **_body(operation.bodies),
            "responses": dict(_responses(operation, schemas)),
            **({} if route.authorizer or route.api_key_required else {"security": []}),
        }
    scheme = SECURITY.get(settings.api_auth)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Image pipeline",
            "version": VERSION,
            "description": ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": ".", "description": "Where this document is"}],
        "tags": [{"name": name} for name in ("Upload", "Images", "Catalog", "Service")],
        "security": [{scheme[0]: []}] if scheme else [],
        "paths": dict(paths),
        "components": {
            "schemas": components,
            **({"securitySchemes": {scheme[0]: scheme[1]}} if scheme else {}),
        },
    }


def _operations(
    routes: Mapping[str, Mapping[str, RouteEntry]],
) -> Iterator[tuple[str, RouteEntry, Operation]]:
    for path, methods in routes.items():
        for route in methods.values():
            operation = getattr(route.view_function, "operation", None)
            if operation is not None:
                yield path, route, operation


def _types(operation: Operation) -> set[str]:
    """The names of the types it answers with; what has a slash is a content type."""
    return {name for kinds in operation.answers.values() for name in kinds if "/" not in name}


def _parameters(parameters: Iterable[Parameter]) -> dict[str, Any]:
    shown = [
        {
            "name": parameter.name,
            "in": parameter.where,
            "description": parameter.about,
            "required": parameter.required,
            "schema": dict(parameter.schema),
            "example": parameter.example,
        }
        for parameter in parameters
    ]
    return {"parameters": shown} if shown else {}


def _body(bodies: Mapping[str, tuple[Parameter, ...]]) -> dict[str, Any]:
    if not bodies:
        return {}
    content: dict[str, Any] = {}
    for content_type, members in bodies.items():
        if not members:
            content[content_type] = {
                "schema": {"type": "string", "format": "binary", "minLength": 1}
            }
            continue
        content[content_type] = {
            "schema": {
                "type": "object",
                "properties": {
                    member.name: {**member.schema, "description": member.about}
                    for member in members
                },
                "required": [member.name for member in members if member.required],
                "additionalProperties": False,
            },
            "example": {
                member.name: member.example for member in members if member.example is not None
            },
        }
    return {"requestBody": {"required": True, "content": content}}


def _responses(
    operation: Operation, schemas: Mapping[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for status, kinds in operation.answers.items():
        content = {
            kind if "/" in kind else "application/json": {"schema": schemas.get(kind, {})}
            for kind in kinds
        }
        shown: dict[str, Any] = {"description": HTTPStatus(status).phrase}
        yield str(int(status)), shown | ({"content": content} if content else {})
    refusals: dict[int, list[type[RequestError]]] = defaultdict(list)
    for error in operation.errors:
        refusals[error.status].append(error)
    for status, errors in sorted(refusals.items()):
        codes = ", ".join(f"`{error.code}`" for error in errors)
        yield str(status), _problem(f"{HTTPStatus(status).phrase}: {codes}", schemas, errors)
    for status, meaning in GATEWAY_REFUSALS.items():
        if status not in refusals:
            yield str(int(status)), _problem(meaning, schemas)
    yield "500", _problem("Something went wrong on our side: `internal_error`", schemas)


def _problem(
    description: str, schemas: Mapping[str, Any], errors: Iterable[type[RequestError]] = ()
) -> dict[str, Any]:
    examples = {
        error.code: {
            "value": {
                "type": "about:blank",
                "title": error.title,
                "status": error.status,
                "detail": "…",
                "code": error.code,
                "message": "…",
            }
        }
        for error in errors
    }
    content = {"schema": schemas["Problem"]} | ({"examples": examples} if examples else {})
    return {"description": description, "content": {"application/problem+json": content}}


def encoded(description: Mapping[str, Any]) -> str:
    return json.dumps(description, ensure_ascii=False, indent=1)
