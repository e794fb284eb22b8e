"""``python -m tests.e2e.moto_server -p PORT``: moto's server, for what Chalice writes.

They are Swagger 2.0 without a description, which API Gateway takes. moto wants OpenAPI 3 with one;
of what it reads (paths, methods, integrations) the two versions say the same.
"""

import sys
from typing import Any

from moto.apigateway.models import APIGatewayBackend
from moto.server import main

import_rest_api = APIGatewayBackend.import_rest_api
put_rest_api = APIGatewayBackend.put_rest_api


def of_version_3(document: dict[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in document.items() if name != "swagger"}
    return {**rest, "openapi": "3.0.1", "info": {"description": "", **document["info"]}}


def import_any(backend: Any, document: dict[str, Any], *args: Any, **options: Any) -> Any:
    return import_rest_api(backend, of_version_3(document), *args, **options)


def put_any(backend: Any, api_id: str, document: dict[str, Any], **options: Any) -> Any:
    return put_rest_api(backend, api_id, of_version_3(document), **options)


if __name__ == "__main__":
    APIGatewayBackend.import_rest_api = import_any  # type: ignore[method-assign]
    APIGatewayBackend.put_rest_api = put_any  # type: ignore[method-assign]
    main(sys.argv[1:])
