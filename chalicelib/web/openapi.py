"""The API's description (OpenAPI 3.1), made from the routes and what they declare."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

from chalice.app import RouteEntry

from chalicelib.config import Settings
from chalicelib.errors import Busy, RequestError, Unhealthy
from chalicelib.web.operations import Operation
from chalicelib.web.parameters import Parameter

VERSION = "1.0.0"
"""Of the API, by semantic versioning: what breaks a client raises the first number."""

ABOUT = """\
Images in, renditions and labels out. Upload a picture, ask for its status until that is `COMPLETED`
or `FAILED`, then get its renditions, labels and facts; list and search all of them.

Whatever is refused is answered with problem details (RFC 9457), whose `code` is stable.
"""

TAGS = ("Upload", "Images", "Review", "Catalog", "Webhooks", "Service")

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

REFUSALS = {
    "none": (),
    "key": (HTTPStatus.FORBIDDEN,),
    "iam": (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN),
    "cognito": (HTTPStatus.UNAUTHORIZED,),
}
"""What API Gateway answers by itself to callers that it does not know, by ``API_AUTH``."""

HEADERS = {
    "ETag": "Stands for this answer: see `If-None-Match`.",
    "Location": "Where to go on.",
    "Retry-After": "After how many seconds to try again.",
}


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
        if route.method == "HEAD":
            continue  # as GET, without the body
        paths[path][route.method.lower()] = {
            "operationId": route.view_function.__name__,
            "summary": operation.summary,
            **({"description": operation.about} if operation.about else {}),
            "tags": [operation.tag],
            **_parameters(operation.parameters),
            **_body(operation.bodies),
            "responses": dict(_responses(operation, schemas, components)),
        }
        if route.authorizer or route.api_key_required:
            for status in REFUSALS[settings.api_auth]:
                meaning = f"{status.phrase}: API Gateway does not know the caller"
                shown = paths[path][route.method.lower()]
                shown["responses"].setdefault(str(int(status)), _problem(meaning, schemas))
        else:
            paths[path][route.method.lower()]["security"] = []
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
        "tags": [{"name": name} for name in TAGS],
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
    operation: Operation, schemas: Mapping[str, Any], components: Mapping[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for status, kinds in operation.answers.items():
        shown: dict[str, Any] = {"description": HTTPStatus(status).phrase}
        if plain := [kind for kind in kinds if "/" in kind]:
            shown["content"] = {kind: {} for kind in plain}
        for kind in (kind for kind in kinds if "/" not in kind):
            typed = {"schema": schemas[kind], "example": example_of(schemas[kind], components)}
            shown.setdefault("content", {})["application/json"] = typed
        if headers := operation.headers.get(status):
            shown["headers"] = {name: _header(name) for name in headers}
        yield str(int(status)), shown
    refusals: dict[int, list[type[RequestError]]] = defaultdict(list)
    for error in operation.errors:
        refusals[error.status].append(error)
    for status, errors in sorted(refusals.items()):
        codes = ", ".join(f"`{error.code}`" for error in errors)
        yield str(status), _problem(f"{HTTPStatus(status).phrase}: {codes}", schemas, errors)
    too_many = _problem("More requests than the API takes: `too_many_requests`", schemas)
    yield "429", too_many | {"headers": {"Retry-After": _header("Retry-After")}}
    yield "500", _problem("Something went wrong on our side: `internal_error`", schemas)
    if Unhealthy not in operation.errors:
        busy = _problem("The catalog takes no more for now: `busy`", schemas, [Busy])
        yield "503", busy | {"headers": {"Retry-After": _header("Retry-After")}}


def _header(name: str) -> dict[str, Any]:
    return {"description": HEADERS[name], "schema": {"type": "string"}}


def _problem(
    description: str, schemas: Mapping[str, Any], errors: Iterable[type[RequestError]] = ()
) -> dict[str, Any]:
    examples = {
        error.code: {
            "value": {
                "type": "about:blank",
                "title": HTTPStatus(error.status).phrase,
                "status": error.status,
                "detail": "What is wrong, and what to do about it.",
                "code": error.code,
                "message": "What is wrong, and what to do about it.",
            }
        }
        for error in errors
    }
    content = {"schema": schemas["Problem"]} | ({"examples": examples} if examples else {})
    return {"description": description, "content": {"application/problem+json": content}}


def example_of(schema: Mapping[str, Any], components: Mapping[str, Any]) -> Any:
    """What something of that schema looks like, put together of the examples in its parts."""
    match schema:
        case {"$ref": reference}:
            return example_of(components[reference.rpartition("/")[2]], components)
        case {"examples": [example, *_]} | {"enum": [*_, example]}:
            return example
        case {"anyOf": [first, *_]}:
            return example_of(first, components)
        case {"properties": members}:
            return {name: example_of(member, components) for name, member in members.items()}
        case {"type": "array", "items": member}:
            return [example_of(member, components)]
    plain = {"string": "…", "boolean": True, "integer": 1, "number": 0.5, "object": {}}
    return plain[schema["type"]]
