"""``python -m localcloud.api``: the REST API as API Gateway serves it.

The app runs in this process, and requests become events, as with ``chalice local``. What API
Gateway does around that is here: routes, callers, limits, and its own errors in the words that the
deploy tool gives them.
"""

import base64
import json
import logging
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from chalice.app import Chalice
from chalice.config import Config
from chalice.local import LambdaContext, LambdaEventConverter, RouteMatcher

from chalicelib.config import read_settings
from infrastructure.gateway import OWN_WORDS, responses
from infrastructure.preflight import is_loopback
from localcloud.callers import Callers, Refused
from localcloud.functions import STAGE, LocalFactory

HOST = "127.0.0.1"
MAX_BODY_BYTES = 10 * 1024 * 1024
"""What API Gateway takes (Amazon API Gateway quotas, "Payload size")."""

IDLE_S = 60
CHUNK_BYTES = 64 * 1024
HEADER = "gatewayresponse.header."

logger = logging.getLogger("localcloud.api")


class Events(LambdaEventConverter):
    """Requests as the app gets them: in base64 what the API declares to be binary, else as text."""

    def _is_binary(self, headers: dict[str, Any]) -> bool:
        media_type: str = headers.get("content-type", "").partition(";")[0].strip().lower()
        return media_type in self._binary_types

    def create_lambda_event(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None = None
    ) -> dict[str, Any]:
        event = super().create_lambda_event(method, path, headers, body)
        if isinstance(event["body"], bytes):
            event["body"] = event["body"].decode(errors="replace")
        return event


class Gateway:
    """API Gateway with the app behind it."""

    def __init__(self, app: Chalice, config: Config) -> None:
        settings = read_settings(config.environment_variables)
        self._app = app
        self._config = config
        self._events = Events(RouteMatcher(list(app.routes)), app.api.binary_types)
        self._callers = Callers(settings)
        self._errors = responses(settings.api_auth, settings.api_allowed_origins)

    def answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None
    ) -> tuple[int, dict[str, Any], bytes]:
        """Status, headers and body of the app's answer. Raises Refused where it is not asked."""
        try:
            event = self._events.create_lambda_event(method, path, headers, body)
        except ValueError as error:
            raise Refused("MISSING_AUTHENTICATION_TOKEN") from error
        route = self._app.routes[event["requestContext"]["resourcePath"]].get(method)
        if route is None:
            raise Refused("MISSING_AUTHENTICATION_TOKEN")
        self._callers.check(route, event)
        context = LambdaContext(
            self._config.function_name,
            self._config.lambda_memory_size,
            self._config.lambda_timeout * 1000,
        )
        given = self._app(event, context)
        text = given["body"] or ""
        content = base64.b64decode(text) if given.get("isBase64Encoded") else text.encode()
        return given["statusCode"], given["headers"] | given["multiValueHeaders"], content

    def refusal(
        self, refused: Refused, headers: Mapping[str, str]
    ) -> tuple[int, dict[str, Any], bytes]:
        """Status, headers and body of an error of API Gateway's own, as its templates have it."""
        error = self._errors[refused.kind]
        template: str = error["responseTemplates"]["application/json"]
        body = template.replace(OWN_WORDS, json.dumps(refused.message))
        body = body.replace("$context.requestId", str(uuid4()))
        given = {
            name.removeprefix(HEADER): value.strip("'")
            if value.startswith("'")
            else headers.get(value.rpartition(".")[2].lower())
            for name, value in error["responseParameters"].items()
        }
        shown = {name: value for name, value in given.items() if value is not None}
        return int(error.get("statusCode", refused.status)), shown, body.encode()


class Handler(BaseHTTPRequestHandler):
    """HTTP as far as a client on the same machine needs it. Whatever it sends gets an answer."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_S

    def __init__(self, gateway: Gateway, *connection: Any) -> None:
        self._gateway = gateway
        super().__init__(*connection)

    def handle(self) -> None:
        with suppress(ConnectionError):  # a client may go whenever it likes
            super().handle()

    def _answer(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        path = self.path
        if not path.startswith("/"):  # all of the URL (RFC 9112, 3.2.2)
            path = "/" + path.partition("://")[2].partition("/")[2]
        try:
            body = self._body()  # before anything is refused, or it would be the next request
            self._require_loopback()
            self._send(*self._gateway.answer(self.command, path, headers, body))
        except Refused as refused:
            self._send(*self._gateway.refusal(refused, headers))
        except (ConnectionError, TimeoutError):
            raise
        except Exception:
            logger.exception("The API failed")
            self._send(*self._gateway.refusal(Refused("INTEGRATION_FAILURE"), headers))

    def __getattr__(self, name: str) -> Any:
        """``do_GET`` and whatever else a method may be called: the API knows what it has."""
        if not name.startswith("do_"):
            raise AttributeError(name)
        return self._answer

    def _require_loopback(self) -> None:
        """A page anywhere can have its own name lead here (DNS rebinding), and be of this origin.

        Its name is in ``Host`` then. Raises Refused.
        """
        with suppress(ValueError):
            if is_loopback(urlsplit(f"//{self.headers.get('host', '')}").hostname or ""):
                return
        raise Refused(
            "DEFAULT_4XX",
            f"This API answers on this machine alone, as http://{HOST}:…, and under no other name.",
            HTTPStatus.FORBIDDEN,
        )

    def _body(self) -> bytes | None:
        """All of it, so that the next request begins where this one ends. Raises Refused."""
        left = length = self._content_length()
        if length <= MAX_BODY_BYTES:
            body = self.rfile.read(length)
            if len(body) < length:
                raise ConnectionAbortedError
            return body or None
        while left and (chunk := self.rfile.read(min(left, CHUNK_BYTES))):
            left -= len(chunk)
        raise Refused("REQUEST_TOO_LARGE")

    def _content_length(self) -> int:
        """Raises Refused where it cannot be told where the body ends; nothing follows then."""
        given = set(self.headers.get_all("content-length", ["0"]))
        if "transfer-encoding" in self.headers:
            self.close_connection = True
            raise Refused(
                "DEFAULT_4XX", "Send a Content-Length: no chunks.", HTTPStatus.LENGTH_REQUIRED
            )
        if len(given) > 1 or not re.fullmatch("[0-9]{1,18}", text := given.pop()):
            self.close_connection = True
            raise Refused("DEFAULT_4XX", "The Content-Length is no number.")
        return int(text)

    def handle_expect_100(self) -> bool:
        """Who asks before it sends a body that is too large spares itself to send it."""
        try:
            if self._content_length() <= MAX_BODY_BYTES:
                return super().handle_expect_100()
            refused = Refused("REQUEST_TOO_LARGE")
        except Refused as error:
            refused = error
        self.close_connection = True
        self._send(*self._gateway.refusal(refused, {}))
        return False

    def send_error(
        self, code: int, message: str | None = None, _explain: str | None = None
    ) -> None:
        """What cannot be read as a request; the connection ends, as nobody knows what follows."""
        self.close_connection = True
        self.request_version = self.protocol_version  # it is not known of a request without one
        said = message or HTTPStatus(code).phrase
        kind: Any = f"DEFAULT_{code // 100}XX"
        self._send(*self._gateway.refusal(Refused(kind, said, code), {}))

    def _send(self, status: int, headers: Mapping[str, Any], body: bytes) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            for each in value if isinstance(value, list) else [value]:
                self.send_header(name, each)
        if self.close_connection:
            self.send_header("Connection", "close")
        is_bodiless = status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
        if not is_bodiless:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if not (is_bodiless or self.command == "HEAD"):
            self.wfile.write(body)


def serve(outputs: dict[str, str], port: int) -> None:
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
    factory = LocalFactory(outputs)
    config = factory.create_config_obj(STAGE)
    app = config.chalice_app
    server = factory.create_local_server(app, config, HOST, port)  # one request a thread
    server.server.RequestHandlerClass = partial(Handler, Gateway(app, config))
    server.serve_forever()


if __name__ == "__main__":
    state_folder = Path(sys.argv[1])
    serve(json.loads((state_folder / "outputs.json").read_text()), int(sys.argv[2]))
