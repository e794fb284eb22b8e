"""The local cloud's API Gateway in front of a small app: what it lets through, and what it says."""

import json
import socket
from collections.abc import Iterator
from functools import partial
from http.client import HTTPConnection, HTTPResponse
from threading import Thread
from typing import Any

import pytest
from chalice.app import Chalice, IAMAuthorizer
from chalice.config import Config
from chalice.local import create_local_server

from localcloud import api
from localcloud.api import MAX_BODY_BYTES, Gateway, Handler
from tests.waiting import TIMEOUT_S

STAGE = {
    **dict.fromkeys(
        (
            *("STAGE", "UPLOADS_BUCKET", "RENDITIONS_BUCKET", "TABLE_NAME", "WORK_QUEUE_URL"),
            *("TOPIC_ARN", "WEBHOOK_QUEUE_URL"),
        ),
        "any",
    ),
    "MAX_RECEIVE_COUNT": "5",
    "API_AUTH": "none",
    "API_ALLOWED_ORIGINS": "https://a.example https://b.example",
}
PROBLEM = {"type", "title", "status", "detail", "code", "message", "request_id"}


def small_app() -> Chalice:
    """It says what it was handed."""
    app = Chalice("small", configure_logs=False)
    anything: dict[str, Any] = {"content_types": ["*/*"]}

    @app.route("/echo/{name}", methods=["GET", "HEAD", "POST"], **anything)
    def echo(name: str) -> Any:
        event = app.current_request.to_original_event()
        body, is_binary = event["body"], event.get("isBase64Encoded", False)
        return {"name": name, "body": body, "is_binary": is_binary}

    @app.route("/signed", methods=["GET"], authorizer=IAMAuthorizer())
    def signed() -> Any:
        return {}

    return app


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    app = small_app()
    config = Config.create(
        chalice_app=app,
        app_name="small",
        environment_variables=STAGE,
        lambda_timeout=30,
        lambda_memory_size=512,
    )
    server = create_local_server(app, config, "127.0.0.1", 0).server
    server.RequestHandlerClass = partial(Handler, Gateway(app, config))
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


class Client:
    """One connection, which is kept alive as long as the server keeps it."""

    def __init__(self, port: int) -> None:
        self.connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)

    def __call__(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[HTTPResponse, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request(method, path, body, named)
        response = self.connection.getresponse()
        return response, response.read()

    def problem(self, *request: Any, **headers: str) -> tuple[int, str]:
        """Status and code of a refusal that is as the app's are."""
        response, body = self(*request, **headers)
        told = json.loads(body)
        assert response.getheader("Content-Type") == "application/problem+json"
        assert told.keys() | {"status"} == PROBLEM
        assert told.get("status", response.status) == response.status
        return response.status, told["code"]


@pytest.fixture
def client(port: int) -> Iterator[Client]:
    client = Client(port)
    yield client
    client.connection.close()


def raw(port: int, request: bytes) -> bytes:
    """All that is answered to these bytes, until the server ends the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
        connection.sendall(request)
        answer = b""
        while chunk := connection.recv(65_536):
            answer += chunk
    return answer


# ── routes ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nowhere"),
        ("GET", "/echo"),
        ("GET", "/echo/a/b"),
        ("GET", "/"),
        ("DELETE", "/echo/a"),
        ("BREW", "/echo/a"),
        ("OPTIONS", "/echo/a"),
        ("GET", "//[::1/echo"),
    ],
)
def test_what_the_api_has_not_is_not_found(client: Client, method: str, path: str) -> None:
    """Path and method together are a route, as in API Gateway: the app is not asked."""
    assert client.problem(method, path) == (404, "route_not_found")


@pytest.mark.parametrize("target", ["/echo/cat", "/echo/cat/", "http://127.0.0.1/echo/cat"])
def test_route_is_found_however_the_target_is_written(port: int, target: str) -> None:
    """With a slash behind it, or with all of the URL before it, as through a proxy."""
    request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

    assert b'"name":"cat"' in raw(port, request.encode())


def test_refusal_is_shown_to_the_pages_that_may_call(client: Client) -> None:
    """Of several allowed origins the one that asks, as API Gateway does it."""
    response, _ = client("GET", "/nowhere", Origin="https://b.example")
    assert response.getheader("Access-Control-Allow-Origin") == "https://b.example"
    assert response.getheader("Vary") == "Origin"

    response, _ = client("GET", "/nowhere")
    assert response.getheader("Access-Control-Allow-Origin") is None


# ── callers ──────────────────────────────────────────────────────────────────────────────────────


def test_signature_has_to_be_there(client: Client) -> None:
    """In a header or in the query; whose it is does not matter on a laptop."""
    assert client.problem("GET", "/signed")[0] == 404  # API_AUTH=iam makes it a 403
    assert client.problem("GET", "/signed", Authorization="Bearer x")[0] == 404

    signature = "AWS4-HMAC-SHA256 Credential=test/20260131/us-east-1/execute-api/aws4_request"
    assert client("GET", "/signed", Authorization=signature)[0].status == 200
    assert client("GET", "/signed?X-Amz-Signature=0a1b")[0].status == 200


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:8000", "localhost", "LOCALHOST:8000", "127.8.9.10", "[::1]:8000"],
)
def test_api_answers_under_the_names_of_this_machine(client: Client, host: str) -> None:
    """Whatever port somebody has forwarded to it."""
    assert client("GET", "/echo/a", Host=host)[0].status == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example"),
        *("192.168.0.1:8000", "0.0.0.0:8000", "[::1", ""),
    ],
)
def test_page_whose_name_leads_here_is_refused(client: Client, host: str) -> None:
    """DNS rebinding: to the browser it is of the API's own origin, and could read everything."""
    assert client.problem("GET", "/echo/a", Host=host) == (403, "refused")


# ── bodies ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("content_type", "is_binary"),
    [
        ("image/jpeg", True),
        ("Image/JPEG; quality=high", True),
        ("application/octet-stream", True),
        ("application/json", False),
        ("image/unheard-of", False),
    ],
)
def test_body_is_bytes_where_the_api_says_so_and_text_elsewhere(
    client: Client,
    content_type: str,
    is_binary: bool,  # noqa: FBT001
) -> None:
    """What API Gateway was not told to be binary is beyond repair, on a laptop as well."""
    _, body = client("POST", "/echo/a", b"\xff\xd8", Content_Type=content_type)

    told = json.loads(body)
    assert told == {"name": "a", "body": "/9g=" if is_binary else "\ufffd\ufffd"} | {
        "is_binary": is_binary
    }


def test_body_that_is_too_large_is_refused_and_the_next_request_answered(client: Client) -> None:
    """It is read to its end, on the same connection."""
    assert client.problem("POST", "/echo/a", bytes(MAX_BODY_BYTES + 1)) == (
        413,
        "payload_too_large",
    )
    kept = client.connection.sock
    assert client("POST", "/echo/a", bytes(MAX_BODY_BYTES))[0].status == 200
    assert client.connection.sock is kept


@pytest.mark.parametrize("path", ["/nowhere", "/signed"])
def test_body_of_what_is_refused_is_not_the_next_request(client: Client, path: str) -> None:
    """The connection goes on where the body ends."""
    smuggled = b"GET /smuggled HTTP/1.1\r\n\r\n"
    assert client.problem("POST", path, smuggled)[0] == 404
    kept = client.connection.sock

    assert json.loads(client("GET", "/echo/mine")[1])["name"] == "mine"
    assert client.connection.sock is kept


def test_who_asks_before_sending_too_much_is_told_at_once(port: int) -> None:
    """As curl does; the body is never sent."""
    answer = raw(
        port,
        b"POST /echo/a HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
        b"Content-Length: 10485761\r\n\r\n",
    )

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"POST /uploads" in answer


def test_who_asks_before_sending_is_told_to_go_on(port: int) -> None:
    """The answer comes after it."""
    answer = raw(
        port,
        b"POST /echo/a HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
        b"Connection: close\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi",
    )

    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")
    assert b'"body":"hi"' in answer


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_head_is_answered_as_get_without_the_body(client: Client, method: str) -> None:
    """Whose length it tells; a body would be taken for the next answer."""
    response, body = client(method, "/echo/a")

    assert response.getheader("Content-Length") == str(len(client("GET", "/echo/a")[1]))
    assert bool(body) is (method == "GET")
    assert client("HEAD", "/nowhere")[0].status == 404
    assert client("GET", "/echo/a")[0].status == 200


# ── nonsense ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /echo/a\x00 HTTP/9.9\r\n\r\n", 505),
        (b"GET /echo/a HTTP/x\r\n\r\n", 400),
        (b"\xff\xfe\xfd\r\n\r\n", 400),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /echo/a HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
        (b"POST /echo/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: two\r\n\r\n", 400),
        (b"POST /echo/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /echo/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: +1\r\n\r\na", 400),
        (b"POST /echo/a HTTP/1.1\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\n", 400),
        (b"POST /echo/a HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (b"POST /echo/a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
    ],
)
def test_nonsense_is_answered_with_a_problem_and_the_connection_ends(
    port: int, request_: bytes, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nobody knows where the next request would begin. No thread ends with a traceback."""
    head, _, body = raw(port, request_).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"application/problem+json" in head
    assert json.loads(body)["detail"]
    assert "Traceback" not in capfd.readouterr().err


def test_client_that_goes_in_the_middle_leaves_no_traceback(
    port: int, client: Client, capfd: pytest.CaptureFixture[str]
) -> None:
    """Others are served as before."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"POST /echo/a HTTP/1.1\r\nContent-Length: 100\r\n\r\nhalf")

    assert client("GET", "/echo/a")[0].status == 200
    assert "Traceback" not in capfd.readouterr().err


def test_failure_behind_the_gateway_is_a_problem_that_tells_nothing(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What went wrong is in the log alone."""

    def fail(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(api, "LambdaContext", fail)
    response, body = client("GET", "/echo/a")

    assert response.status == 502
    assert b"secret" not in body
    assert json.loads(body)["code"] == "internal_error"
