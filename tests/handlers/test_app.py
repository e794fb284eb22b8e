"""Every trigger and every route, through Chalice, over services in memory."""

import base64
import importlib.util
import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from chalice.app import Chalice, CognitoUserPoolAuthorizer, IAMAuthorizer
from chalice.local import LambdaContext
from chalice.test import Client, HTTPResponse

import app
from chalicelib import logs, pipeline
from chalicelib.bootstrap import settings
from chalicelib.config import read_settings
from chalicelib.errors import BatchFailed, LeaseHeld, MalformedMessage, StaleRevision
from chalicelib.messages import ObjectChange, ObjectEvent, Recheck, encode_work
from chalicelib.model import (
    RETRIES_EXHAUSTED,
    Destination,
    Failure,
    Feature,
    Image,
    ImageStatus,
    image_id_of,
)
from chalicelib.telemetry import Telemetry
from tests.emf import metrics_of
from tests.fakes import PICTURE, FakeServices, Outage, s3_record, uploaded

UNKNOWN = "a" * 26
"""An id that an image could have."""

NOT_FOUND = "Image details not found for the given image identifier."
CLIENT = Client(app.app)

ODD_NAMES = [
    "two words.jpg",
    "a+b.jpg",
    "100%.jpg",
    "100%25.jpg",
    "%2520.jpg",
    "é ü 東京.jpg",
    "🦊.jpg",
    "a&b=c;d?e#f.jpg",
    "'quoted \"name\"'.jpg",
]


@pytest.fixture(autouse=True)
def in_memory(monkeypatch: pytest.MonkeyPatch, services: FakeServices) -> FakeServices:
    """The one seam: everything the handlers reach goes through ``app.services``."""
    monkeypatch.setattr(app, "services", lambda: services)
    return services


def request(
    method: str, path: str, body: bytes = b"", content_type: str = "image/jpeg", **headers: str
) -> HTTPResponse:
    headers = {"Content-Type": content_type} | headers if body else headers
    return CLIENT.http.request(method, path, headers=headers, body=body)


def get(path: str) -> HTTPResponse:
    return request("GET", path)


def assert_problem(response: HTTPResponse, status: int, code: str) -> dict[str, Any]:
    """Problem details as RFC 9457 wants them; gives them back."""
    problem: dict[str, Any] = response.json_body
    assert response.status_code == status, problem
    assert response.headers["Content-Type"] == "application/problem+json"
    assert (problem["status"], problem["code"], problem["type"]) == (status, code, "about:blank")
    assert problem["title"]
    assert problem["message"] == problem["detail"]
    return problem


def invocation(seconds: float) -> SimpleNamespace:
    """The context of an invocation that has so much time left."""
    return SimpleNamespace(get_remaining_time_in_millis=lambda: int(seconds * 1000))


# ── declarations ─────────────────────────────────────────────────────────────────────────────────


def declared(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Chalice:
    """The app as a stage with these variables declares it."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    spec = importlib.util.spec_from_file_location("app_of_a_stage", app.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    finally:
        settings.cache_clear()
    made: Chalice = module.app
    return made


def test_every_route_asks_who_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless a stage says otherwise, only callers with AWS credentials get through.

    But to the question whether it is there, and to what browsers ask before they send.
    """
    monkeypatch.delenv("API_AUTH")

    for path, methods in declared(monkeypatch).routes.items():
        for method, route in methods.items():
            is_open = method == "OPTIONS" or (path == "/health" and method in ("GET", "HEAD"))
            assert isinstance(route.authorizer, IAMAuthorizer) != is_open, f"{method} {path}"


@pytest.mark.parametrize(
    ("auth", "is_guarded"),
    [
        ("key", lambda route: route.api_key_required),
        ("cognito", lambda route: isinstance(route.authorizer, CognitoUserPoolAuthorizer)),
    ],
)
def test_the_pages_are_open_where_they_sign_in_themselves(
    monkeypatch: pytest.MonkeyPatch, auth: str, is_guarded: Callable[[Any], bool]
) -> None:
    """With keys and with users, everything is guarded but what a browser needs to sign in."""
    arn = "arn:aws:cognito-idp:eu-central-1:123456789012:userpool/eu-central-1_a"
    made = declared(monkeypatch, API_AUTH=auth, USER_POOL_ARN=arn, USER_POOL_CLIENT_ID="client")

    opened = {
        (method, path)
        for path, methods in made.routes.items()
        for method, route in methods.items()
        if not is_guarded(route) and method != "OPTIONS"
    }

    assert opened == {
        (method, path)
        for method in ("GET", "HEAD")
        for path in ("/", "/static/{name}", "/docs", "/openapi.json", "/health")
    }


def test_queues_are_read_as_the_stage_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Queues, batch size and concurrency of the triggers come from the settings."""
    made = declared(
        monkeypatch,
        WORK_QUEUE_URL="https://sqs.example/123456789012/of-the-stage",
        BATCH_SIZE="7",
        MAXIMUM_CONCURRENCY="3",
        WEBHOOK_QUEUE_URL="https://sqs.example/123456789012/webhooks-of-the-stage",
        WEBHOOK_CONCURRENCY="4",
    )

    triggers = [source for source in made.event_sources if hasattr(source, "batch_size")]
    assert [(each.queue, each.batch_size, each.maximum_concurrency) for each in triggers] == [
        ("of-the-stage", 7, 3),
        ("webhooks-of-the-stage", 10, 4),
    ]


# ── events ───────────────────────────────────────────────────────────────────────────────────────


def test_announcement_is_fanned_out(services: FakeServices) -> None:
    """SNS hands its details to the queue as they are; each destination gets its own message."""
    services.destinations.registered["d"] = Destination("d", "https://example.com/")
    details = {
        "event_id": image_id_of("event"),
        "event_type": "image.completed",
        "event_time": "2026-01-31T09:15:00.000Z",
    }
    event = CLIENT.events.generate_sqs_event([json.dumps(details)], "webhooks")
    event["Records"][0]["attributes"] = {"ApproximateReceiveCount": "1"}

    app.deliver_webhooks(event, invocation(30))

    [body] = services.webhook_queue.sent
    assert json.loads(body) == {"destination": "d", "details": details}


def test_upload_event_registers_and_enqueues(services: FakeServices) -> None:
    """The event as Chalice's own test client makes it."""
    event = CLIENT.events.generate_s3_event("uploads", "uploads/a+cat.jpg")

    CLIENT.lambda_.invoke("handle_upload", event)

    image = services.catalog.records[image_id_of("uploads/a cat.jpg")]
    assert image.status is ImageStatus.QUEUED
    assert services.queue.sent == [image.original]


def test_every_record_of_an_upload_event_is_registered(services: FakeServices) -> None:
    """Chalice's S3Event reads the first record only; the handler takes all."""
    records = [s3_record(services.uploads.upload(f"uploads/{name}", PICTURE)) for name in "abc"]

    CLIENT.lambda_.invoke("handle_upload", {"Records": records})

    assert [original.key for original in services.queue.sent] == [
        "uploads/a",
        "uploads/b",
        "uploads/c",
    ]


def test_malformed_upload_event_is_an_error() -> None:
    """What cannot be understood is not swallowed: Lambda tries again, then gives it up visibly."""
    event = CLIENT.events.generate_s3_event("uploads", "uploads/x", "ObjectRestore:Completed")

    with pytest.raises(MalformedMessage):
        CLIENT.lambda_.invoke("handle_upload", event)


def test_folder_that_comes_and_goes_is_no_image(services: FakeServices) -> None:
    """What the S3 console makes and deletes as a folder is neither recorded nor announced."""
    created = services.uploads.upload("uploads/holiday/", b"")
    removed = services.uploads.remove("uploads/holiday/")

    CLIENT.lambda_.invoke("handle_upload", {"Records": [s3_record(created)]})
    CLIENT.lambda_.invoke("handle_removal", {"Records": [s3_record(removed)]})

    assert services.catalog.records == {}
    assert services.queue.sent == []
    assert services.topic.statuses == []


def test_removal_whose_answer_was_lost_is_an_error_until_it_is_settled(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lambda then tries again, and the image is announced as deleted, once."""
    image = uploaded(services)
    removed = services.uploads.remove(image.original.key)
    save = services.catalog.save

    def save_twice(image: Image, previous: Image | None) -> Image:
        save(image, previous)
        raise StaleRevision("The SDK has written it twice.")

    with monkeypatch.context() as patch:
        patch.setattr(services.catalog, "save", save_twice)
        with pytest.raises(LeaseHeld):
            CLIENT.lambda_.invoke("handle_removal", {"Records": [s3_record(removed)]})
    services.clock.forward(seconds=61)
    for _ in range(2):
        CLIENT.lambda_.invoke("handle_removal", {"Records": [s3_record(removed)]})

    assert services.renditions.stored == {}
    assert services.topic.statuses == ["COMPLETED", "DELETED"]


def test_removal_event_takes_the_image_away(services: FakeServices) -> None:
    """After the event there are no renditions, and the image is not found."""
    image = uploaded(services)
    removed = services.uploads.remove(image.original.key)

    CLIENT.lambda_.invoke("handle_removal", {"Records": [s3_record(removed)]})

    assert services.renditions.stored == {}
    assert_problem(get(f"/images/{image.image_id}"), 404, "image_not_found")
    assert services.topic.statuses == ["COMPLETED", "DELETED"]


def test_work_messages_are_processed(services: FakeServices) -> None:
    """The event as Chalice's own test client makes it: one id and handle for all records."""
    originals = [services.uploads.upload(f"uploads/{name}", PICTURE).original for name in "abc"]
    event = CLIENT.events.generate_sqs_event([encode_work(original) for original in originals])

    app.process_images(event, invocation(60))

    assert [services.catalog.records[original.image_id].status for original in originals] == [
        "COMPLETED"
    ] * 3
    assert services.queue.deleted == []


def test_only_what_failed_comes_back(services: FakeServices) -> None:
    """Of a batch with a bad message the others are deleted, and then the handler raises."""
    good = services.uploads.upload("uploads/good.jpg", PICTURE).original
    bodies = [encode_work(good), "no work message"]
    event = CLIENT.events.generate_sqs_event(bodies)
    for number, record in enumerate(event["Records"]):
        record |= {"messageId": f"message-{number}", "receiptHandle": f"handle-{number}"}

    with pytest.raises(BatchFailed, match="1 of 2 messages failed: MalformedMessage"):
        app.process_images(event, invocation(60))

    assert [message.receipt_handle for message in services.queue.deleted] == ["handle-0"]
    assert [message.receipt_handle for message in services.queue.handed_back] == ["handle-1"]


def test_work_comes_back_when_its_invocation_is_about_to_end(services: FakeServices) -> None:
    """The three seconds of Chalice's own test client are too few to begin anything with."""
    original = services.uploads.upload("uploads/cat.jpg", PICTURE).original

    with pytest.raises(BatchFailed, match="1 of 1 messages failed: OutOfTime"):
        CLIENT.lambda_.invoke(
            "process_images", CLIENT.events.generate_sqs_event([encode_work(original)])
        )

    assert services.recognizer.calls == []
    assert len(services.queue.handed_back) == 1


def test_lease_lasts_as_long_as_the_invocation(services: FakeServices) -> None:
    """No longer, or a retry would find it held; no shorter, or two would work side by side."""
    original = services.uploads.upload("uploads/cat.jpg", PICTURE).original
    event = CLIENT.events.generate_sqs_event([encode_work(original)])
    leases: list[str | None] = []
    services.recognizer.before(
        "recognize",
        lambda: leases.append(services.catalog.records[original.image_id].lease_until),
    )

    app.process_images(event, invocation(42.5))

    assert leases == ["2026-01-31T09:15:42.500Z"]


def scheduled() -> dict[str, Any]:
    """The event that EventBridge sends once an hour, as Chalice's own test client makes it."""
    event: dict[str, Any] = CLIENT.events.generate_cw_event(
        "aws.events", "Scheduled Event", {}, ["rule"], "us-east-1"
    )
    return event


def test_sweep_finds_what_no_event_told(services: FakeServices) -> None:
    """An upload whose event was lost is enqueued by the sweep, and then taken all the way."""
    services.uploads.upload("uploads/lost.jpg", PICTURE)
    services.uploads.upload("elsewhere/lost.jpg", PICTURE)
    services.clock.forward(hours=1)

    app.sweep(scheduled(), invocation(300))

    assert services.queue.sent == [Recheck("uploads/lost.jpg")]
    bodies = [encode_work(work) for work in services.queue.receive()]
    app.process_images(CLIENT.events.generate_sqs_event(bodies), invocation(60))
    assert get(f"/images/{image_id_of('uploads/lost.jpg')}/status").json_body["status"] == (
        "COMPLETED"
    )


def test_sweep_heeds_the_time_of_its_invocation(services: FakeServices) -> None:
    """With the three seconds of Chalice's own test client one page is read; then it goes on."""
    for name in "abc":
        services.uploads.upload(f"uploads/{name}", PICTURE)
    services.clock.forward(hours=1)

    CLIENT.lambda_.invoke("sweep", scheduled())
    first = services.queue.receive()
    CLIENT.lambda_.invoke("sweep", scheduled())

    assert first == [Recheck("uploads/a"), Recheck("uploads/b")]
    assert services.queue.sent == [Recheck("uploads/c")]


def test_sweep_runs_once_an_hour() -> None:
    """The schedule is part of the app."""
    [schedule] = [
        source.schedule_expression.to_string()
        for source in app.app.event_sources
        if hasattr(source, "schedule_expression")
    ]
    assert schedule == "rate(1 hour)"


# ── upload ───────────────────────────────────────────────────────────────────────────────────────


def test_picture_in_the_body_is_stored_and_accepted(services: FakeServices) -> None:
    """202 with the image's id, where to ask for it, and its first status."""
    response = request("POST", "/images?name=Cat.jpg", PICTURE)

    image_id = image_id_of("uploads/Cat.jpg")
    assert response.status_code == 202
    assert response.headers["Location"] == f"/images/{image_id}"
    assert response.json_body == {
        "image_id": image_id,
        "key": "uploads/Cat.jpg",
        "status": "QUEUED",
        "error": None,
        "updated_at": "2026-01-31T09:15:00.000Z",
        "links": {"self": f"/images/{image_id}", "status": f"/images/{image_id}/status"},
    }
    assert services.uploads.versions["uploads/Cat.jpg"][0].body == PICTURE
    assert services.uploads.content_types["uploads/Cat.jpg"] == "image/jpeg"
    assert services.uploads.filenames["uploads/Cat.jpg"] == "Cat.jpg"


def test_body_as_api_gateway_hands_it_over_is_decoded(services: FakeServices) -> None:
    """Binary bodies come in base64; what is stored are the bytes that were sent."""
    event = {
        "requestContext": {"httpMethod": "POST", "resourcePath": "/images", "path": "/api/images"},
        "headers": {"content-type": "image/webp"},
        "multiValueQueryStringParameters": {"name": ["cat.webp"]},
        "pathParameters": None,
        "stageVariables": None,
        "body": base64.b64encode(PICTURE).decode(),
        "isBase64Encoded": True,
    }

    response = app.app(event, SimpleNamespace())

    assert response["statusCode"] == 202
    assert services.uploads.versions["uploads/cat.webp"][0].body == PICTURE
    assert "image/webp" in app.app.api.binary_types
    assert "application/x-www-form-urlencoded" in app.app.api.binary_types


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_file_name_is_kept_and_found_again(services: FakeServices, name: str) -> None:
    """Uploaded, answered, and asked for by the same name, whatever letters it has."""
    response = request("POST", f"/images?name={quote(name, safe='')}", PICTURE)

    assert response.status_code == 202
    assert response.json_body["key"] == f"uploads/{name}"
    assert list(services.uploads.versions) == [f"uploads/{name}"]
    found = get(f"/images/uploads/{quote(name, safe='')}/status")
    assert found.status_code == 200, found.json_body
    assert found.json_body["image_id"] == response.json_body["image_id"]


@pytest.mark.parametrize(
    "name", [" cat.jpg ", "exe.\u202egpj", "a\u2028b.jpg", "a\ufeffb.jpg", "x/cat.jpg"]
)
def test_name_that_was_cleaned_is_found_by_what_it_was(name: str) -> None:
    """Spaces around, what turns text or ends lines, and folders before are lost on the way in."""
    stored_as = request("POST", f"/images?name={quote(name, safe='')}", PICTURE).json_body["key"]

    assert stored_as != f"uploads/{name}"
    assert get(f"/images/uploads/{quote(name, safe='')}/status").json_body["key"] == stored_as


def test_name_is_found_again_however_its_letters_are_composed(services: FakeServices) -> None:
    """A Mac writes é as e and an accent: stored composed, it is found by what the Mac writes."""
    decomposed = "Cafe\u0301.jpg"

    response = request("POST", f"/images?name={quote(decomposed)}", PICTURE)

    assert response.json_body["key"] == "uploads/Caf\u00e9.jpg"
    assert get(f"/images/uploads/{quote(decomposed)}/status").status_code == 200
    uploaded(services, f"uploads/2{decomposed}")
    assert get(f"/images/uploads/2{quote(decomposed)}/status").status_code == 200


def test_folders_in_a_name_lead_nowhere() -> None:
    """Whatever path a client sends, only its last part names the object."""
    for number, name in enumerate(["/../../etc/1.jpg", "C:\\photos\\2.jpg", "a/b/../3.jpg"], 1):
        response = request("POST", f"/images?name={quote(name, safe='')}", PICTURE)
        assert response.json_body["key"] == f"uploads/{number}.jpg"


@pytest.mark.parametrize("name", ["..", ".", "/", "a/..", "\x00\x1f", " ", "x" * 256])
def test_name_that_is_none_is_refused(services: FakeServices, name: str) -> None:
    """What leaves no usable name is a 400 that says so, and nothing is stored."""
    response = request("POST", f"/images?name={quote(name, safe='')}", PICTURE)

    assert_problem(response, 400, "invalid_request")
    assert services.uploads.calls == []


def test_upload_without_a_name_gets_one(services: FakeServices) -> None:
    """Two nameless uploads are two images."""
    keys = [request("POST", "/images", PICTURE).json_body["key"] for _ in range(2)]

    assert len(set(keys)) == 2
    assert all(re.fullmatch(r"uploads/\d{8}-\d{6}-[0-9a-f]{8}", key) for key in keys)
    assert list(services.uploads.versions) == keys


@pytest.mark.parametrize(
    "content_type",
    ["image/png", "image/webp", "application/octet-stream", "application/x-www-form-urlencoded"],
)
def test_any_type_of_picture_is_taken(services: FakeServices, content_type: str) -> None:
    """What a file is, its bytes tell; what curl sends by default is as good."""
    response = request("POST", "/images?name=cat", PICTURE, content_type)

    assert response.status_code == 202
    assert services.uploads.versions["uploads/cat"][0].body == PICTURE


@pytest.mark.parametrize("content_type", ["text/plain", "application/zip", "video/mp4", "x/y"])
def test_what_is_no_picture_is_refused_by_its_type(
    services: FakeServices, content_type: str
) -> None:
    """415 says how to send a picture, before anything is stored."""
    response = request("POST", "/images?name=cat", PICTURE, content_type)

    problem = assert_problem(response, 415, "unsupported_media_type")
    assert "image/jpeg" in problem["detail"]
    assert services.uploads.calls == []


def test_empty_body_is_refused(services: FakeServices) -> None:
    """Nothing in the body, nothing stored, and a hint how to do it."""
    problem = assert_problem(request("POST", "/images?name=cat.jpg"), 400, "invalid_request")

    assert "--data-binary" in problem["detail"]
    assert services.uploads.calls == []


def test_tiny_confidence_is_any_confidence(services: FakeServices) -> None:
    """A float too small for DynamoDB's numbers reaches it as none."""
    uploaded(services)

    assert get("/images?label=cat&min_confidence=1e-300").status_code == 200


def form(*parts: tuple[str, bytes]) -> bytes:
    """A multipart form of parts, each with the rest of its Content-Disposition."""
    return (
        b"".join(
            f"--x\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode()
            + body
            + b"\r\n"
            for disposition, body in parts
        )
        + b"--x--\r\n"
    )


@pytest.mark.parametrize(
    ("parts", "key"),
    [
        ([('name="file"; filename="cat.jpg"', PICTURE)], "uploads/cat.jpg"),
        ([('name="file"; filename="é ü.jpg"', PICTURE)], "uploads/é ü.jpg"),
        (
            [('name="file"; filename="cat.jpg"', PICTURE), ('name="name"', b"dog.jpg")],
            "uploads/dog.jpg",
        ),
        ([('name="file"; filename="C:\\\\a\\\\cat.jpg"', PICTURE)], "uploads/cat.jpg"),
        ([('name="other"', b"x"), ('name="file"; filename="cat.jpg"', PICTURE)], "uploads/cat.jpg"),
    ],
)
def test_picture_in_a_form_is_stored(
    services: FakeServices, parts: list[tuple[str, bytes]], key: str
) -> None:
    """The bytes of the part ``file`` as they are, named by its file name or by a part ``name``."""
    response = request("POST", "/images", form(*parts), "multipart/form-data; boundary=x")

    assert response.status_code == 202, response.json_body
    assert response.json_body["key"] == key
    assert services.uploads.versions[key][0].body == PICTURE


@pytest.mark.parametrize(
    ("body", "content_type", "sentence"),
    [
        (form(('name="other"; filename="a"', PICTURE)), "; boundary=x", "the part `file`"),
        (form(('name="file"; filename="a"', b"")), "; boundary=x", "the part `file`"),
        (form(('name="file"; filename="a"', PICTURE)), "", "cannot be read"),
        (form(('name="file"; filename="a"', PICTURE)), "; boundary=y", "cannot be read"),
        (form(('name="file"; filename="a"', PICTURE))[:-9], "; boundary=x", "cannot be read"),
        (
            form(('name="file"', PICTURE), ('name="name"', b"\xff")),
            "; boundary=x",
            "cannot be read",
        ),
        (form(*[('name="a"', b"b")] * 200), "; boundary=x", "cannot be read"),
    ],
    ids=["no file", "empty file", "no boundary", "another boundary", "cut off", "bytes", "parts"],
)
def test_form_that_makes_no_sense_is_refused(
    services: FakeServices, body: bytes, content_type: str, sentence: str
) -> None:
    """400 that says what is wrong and what sends a form that can be read."""
    response = request("POST", "/images", body, f"multipart/form-data{content_type}")

    problem = assert_problem(response, 400, "invalid_request")
    assert sentence in problem["detail"]
    assert "curl -F" in problem["detail"]
    assert services.uploads.calls == []


def test_form_with_a_picture_that_is_too_large_is_refused() -> None:
    """The limit is the picture's; what the form takes beside it does not count."""
    parts = 'name="file"; filename="a.jpg"'
    kind = "multipart/form-data; boundary=x"

    assert request("POST", "/images", form((parts, bytes(4_500_000))), kind).status_code == 202
    response = request("POST", "/images", form((parts, bytes(4_500_001))), kind)

    assert_problem(response, 413, "payload_too_large")


def test_body_that_came_as_text_is_refused(services: FakeServices) -> None:
    """API Gateway hands over as text, with bytes lost, what is of no type it knows as binary."""
    event = {
        "requestContext": {"httpMethod": "POST", "resourcePath": "/images", "path": "/images"},
        "headers": {"content-type": "image/heic"},
        "multiValueQueryStringParameters": None,
        "pathParameters": {},
        "stageVariables": None,
        "body": PICTURE.decode(errors="replace"),
        "isBase64Encoded": False,
    }
    answer: Any = app.app(event, SimpleNamespace())

    assert answer["statusCode"] == 415
    assert "image/jpeg" in json.loads(answer["body"])["detail"]
    assert services.uploads.calls == []


def test_too_large_body_is_refused(services: FakeServices) -> None:
    """413 names both sizes and the way that is left."""
    response = request("POST", "/images?name=cat.jpg", bytes(4_500_001))

    problem = assert_problem(response, 413, "payload_too_large")
    assert "4,500,001 bytes is over the 4,500,000 bytes" in problem["detail"]
    assert "straight to S3" in problem["detail"]
    assert services.uploads.calls == []


def test_largest_body_that_is_promised_is_taken() -> None:
    """The limit itself is within it."""
    assert request("POST", "/images?name=cat.jpg", bytes(4_500_000)).status_code == 202


def test_clash_is_a_conflict(services: FakeServices) -> None:
    """409 for a name that is in use; what is there stays."""
    image = uploaded(services)

    response = request("POST", "/images?name=cat.jpg", b"something else")

    problem = assert_problem(response, 409, "key_taken")
    assert "uploads/cat.jpg" in problem["detail"]
    assert services.catalog.records[image.image_id] == image


# ── upload by URL ────────────────────────────────────────────────────────────────────────────────


class Pictures(BaseHTTPRequestHandler):
    """Serves a picture under /cat.png, a page under /page, and 404 elsewhere."""

    def do_GET(self) -> None:
        found = {"/cat.png": ("image/png", PICTURE), "/page": ("text/html", b"<html>")}
        content_type, body = found.get(self.path, ("text/plain", b"nothing"))
        self.send_response(200 if self.path in found else 404)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def pictures() -> Iterator[str]:
    """The URL of a server on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Pictures) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def local_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that may fetch from this machine."""
    variables = {
        "STAGE": "test",
        "UPLOADS_BUCKET": "uploads",
        "RENDITIONS_BUCKET": "renditions",
        "TABLE_NAME": "catalog",
        "WORK_QUEUE_URL": "work",
        "WEBHOOK_QUEUE_URL": "webhooks",
        "TOPIC_ARN": "topic",
        "MAX_RECEIVE_COUNT": "5",
        "FETCH_ALLOWED_NETWORKS": "127.0.0.0/8",
    }
    monkeypatch.setattr(app, "settings", lambda: read_settings(variables))


def wish(**members: Any) -> HTTPResponse:
    return request("POST", "/images", json.dumps(members).encode(), "application/json")


@pytest.mark.usefixtures("local_network")
@pytest.mark.parametrize(
    ("name", "key"), [("mine.png", "uploads/mine.png"), (None, "uploads/cat.png")]
)
def test_picture_behind_a_url_is_stored(
    services: FakeServices, pictures: str, name: str | None, key: str
) -> None:
    """Fetched, stored under the name given or its own, with the type the server tells."""
    response = wish(url=f"{pictures}/cat.png", name=name)

    assert response.status_code == 202
    assert response.json_body["key"] == key
    assert services.uploads.versions[key][0].body == PICTURE
    assert services.uploads.content_types[key] == "image/png"


@pytest.mark.usefixtures("local_network")
@pytest.mark.parametrize("path", ["/page", "/nothing"])
def test_url_that_gives_no_picture_is_refused(
    services: FakeServices, pictures: str, path: str
) -> None:
    """422 for what cannot be fetched as an image."""
    assert_problem(wish(url=pictures + path), 422, "unfetchable_url")
    assert services.uploads.calls == []


@pytest.mark.usefixtures("local_network")
def test_name_in_json_that_is_no_unicode_is_refused(services: FakeServices, pictures: str) -> None:
    """JSON can carry half of a surrogate pair; S3 cannot."""
    assert_problem(wish(url=f"{pictures}/cat.png", name="\ud800.png"), 400, "invalid_request")
    assert services.uploads.calls == []


def test_url_that_leads_inside_is_refused(services: FakeServices, pictures: str) -> None:
    """Without a setting that allows it, nothing on a private network is fetched."""
    assert_problem(wish(url=f"{pictures}/cat.png"), 422, "unfetchable_url")
    assert services.uploads.calls == []


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'"https://example.org/cat.jpg"',
        b"{}",
        b'{"url": 3}',
        b'{"url": "https://example.org/cat.jpg", "name": 3}',
        b'{"url": "ftp://example.org/cat.jpg"}',
        b'{"url": "https://example.org/\\ud800.jpg"}',
        b'{"url": "no url"}',
    ],
)
def test_json_that_says_no_url_is_refused(services: FakeServices, body: bytes) -> None:
    """400 for what is no JSON, no object, or names no URL."""
    response = request("POST", "/images", body, "application/json; charset=utf-8")

    assert_problem(response, 400, "invalid_request")
    assert services.uploads.calls == []


# ── one image ────────────────────────────────────────────────────────────────────────────────────


def test_image_is_shown_in_full(services: FakeServices) -> None:
    """Everything that is known of a completed image, with links to its renditions."""
    image = uploaded(services)

    response = get(f"/images/{image.image_id}")

    shown = response.json_body
    assert response.status_code == 200
    assert (shown["image_id"], shown["key"], shown["status"]) == (
        image.image_id,
        "uploads/cat.jpg",
        "COMPLETED",
    )
    assert (shown["width"], shown["height"], shown["format"], shown["color_mode"]) == (
        64,
        48,
        "JPEG",
        "RGB",
    )
    assert shown["size_bytes"] == len(PICTURE)
    assert shown["labels"] == [
        {
            "name": "Cat",
            "confidence": 98.5,
            "parents": ["Animal"],
            "categories": [],
            "boxes": [{"left": 0.1, "top": 0.2, "width": 0.3, "height": 0.4}],
        }
    ]
    assert [(row["name"], row["width"], row["height"]) for row in shown["renditions"]] == [
        ("thumbnail", 8, 8),
        ("small", 24, 18),
    ]
    for row in shown["renditions"]:
        assert row["url"] == f"https://renditions.example/{row['key']}?expires=3600"
        assert row["key"] in services.renditions.stored
    assert shown["fingerprint"]["phash"]
    assert shown["error"] is None
    assert shown["links"]["self"] == f"/images/{image.image_id}"


def test_failed_image_says_why(services: FakeServices) -> None:
    """The code and the sentence stand in the image and in its status."""
    image = uploaded(services, body=b"This is no picture.")

    for path in (f"/images/{image.image_id}", f"/images/{image.image_id}/status"):
        shown = get(path).json_body
        assert shown["status"] == "FAILED"
        assert shown["error"]["code"] == "unsupported_format"
        assert shown["error"]["message"]


def test_waiting_image_has_every_field(services: FakeServices) -> None:
    """A client may read any field before the image is processed; there it is null or empty."""
    waiting = services.uploads.upload("uploads/waiting.jpg", PICTURE)
    pipeline.register(waiting, services)

    shown = get(f"/images/{waiting.original.image_id}").json_body

    done = get(f"/images/{uploaded(services).image_id}").json_body
    assert done.keys() - shown.keys() <= {"frames", "has_alpha", "notes"}
    assert (shown["status"], shown["width"], shown["renditions"], shown["labels"]) == (
        "QUEUED",
        None,
        [],
        [],
    )


@pytest.mark.parametrize("base", ["", "/api", "/of/my/domain"])
def test_links_work_under_any_base_path(services: FakeServices, base: str) -> None:
    """A stage of API Gateway, or a base path of a domain, stands before every link."""
    image = uploaded(services)
    link = f"{base}/images/{image.image_id}"

    def answer(method: str, route: str, path: str, **parameters: str) -> Any:
        event = {
            "requestContext": {"httpMethod": method, "resourcePath": route, "path": base + path},
            "headers": {"content-type": "image/jpeg"} if method == "POST" else {},
            "multiValueQueryStringParameters": None,
            "pathParameters": parameters,
            "stageVariables": None,
            "body": base64.b64encode(PICTURE).decode(),
            "isBase64Encoded": True,
        }
        return app.app(event, SimpleNamespace())

    ways = [
        ("/images/{image_id}", f"/images/{image.image_id}"),
        ("/images/{image_id}/status", f"/images/{image.image_id}/status"),
        ("/images/uploads/{filename}/status", "/images/uploads/cat.jpg/status"),
    ]
    for route, path in ways:
        found = answer("GET", route, path, image_id=image.image_id, filename="cat.jpg")
        assert json.loads(found["body"])["links"] == {"self": link, "status": f"{link}/status"}
    page = json.loads(answer("GET", "/images", "/images/")["body"])
    assert page["images"][0]["links"]["self"] == link
    deleted = answer(
        "DELETE", "/images/{image_id}", f"/images/{image.image_id}", image_id=(image.image_id)
    )
    assert deleted["headers"]["Location"] == link
    made = answer("POST", "/images", "/images")
    made_id = json.loads(made["body"])["image_id"]
    assert made["headers"]["Location"] == f"{base}/images/{made_id}"


def test_status_is_short(services: FakeServices) -> None:
    """What a client polls is the status and no more."""
    image = uploaded(services)

    response = get(f"/images/{image.image_id}/status")

    assert response.status_code == 200
    assert response.json_body == {
        "image_id": image.image_id,
        "key": "uploads/cat.jpg",
        "status": "COMPLETED",
        "error": None,
        "updated_at": image.updated_at,
        "links": {
            "self": f"/images/{image.image_id}",
            "status": f"/images/{image.image_id}/status",
        },
    }


def test_details_are_found_by_file_name(services: FakeServices) -> None:
    """The same details as by id."""
    image = uploaded(services)

    assert get("/images/uploads/cat.jpg/status").json_body == (
        get(f"/images/{image.image_id}").json_body
    )


def test_file_name_may_come_decoded_or_not(services: FakeServices) -> None:
    """API Gateway and the local server differ in it; the file is found either way."""
    image = uploaded(services, "uploads/50%25 off.jpg")

    def found(filename: str) -> Any:
        path = f"/images/uploads/{filename}/status"
        event = {
            "requestContext": {
                "httpMethod": "GET",
                "resourcePath": "/images/uploads/{filename}/status",
                "path": path,
            },
            "headers": {},
            "multiValueQueryStringParameters": None,
            "pathParameters": {"filename": filename},
            "stageVariables": None,
            "body": None,
        }
        return json.loads(app.app(event, SimpleNamespace())["body"])

    assert found("50%25 off.jpg")["image_id"] == image.image_id
    assert found("50%2525%20off.jpg")["image_id"] == image.image_id


@pytest.mark.parametrize(
    "path",
    [
        "/images/unknown",
        "/images/unknown/status",
        "/images/uploads/unknown.jpg/status",
        "/images/..",
        "/images/%F0%9F%A6%8A",
        f"/images/{'x' * 2000}",
        "/images/uploads/%2E%2E%2Fsecret/status",
        "/images/uploads/%00/status",
    ],
)
def test_unknown_image_is_not_found(path: str) -> None:
    """404 with the sentence that clients rely on, whatever is asked for."""
    problem = assert_problem(get(path), 404, "image_not_found")

    assert problem["message"] == NOT_FOUND


def test_deleted_image_is_not_found(services: FakeServices) -> None:
    """All three ways to ask for an image know no tombstones."""
    image = uploaded(services)
    pipeline.remove(services.uploads.remove(image.original.key), services)

    for path in (image.image_id, f"{image.image_id}/status", "uploads/cat.jpg/status"):
        assert_problem(get(f"/images/{path}"), 404, "image_not_found")


# ── delete ───────────────────────────────────────────────────────────────────────────────────────


def test_delete_removes_the_original(services: FakeServices) -> None:
    """202: the object is gone, and the event of its removal does the rest."""
    image = uploaded(services)

    response = request("DELETE", f"/images/{image.image_id}")

    assert response.status_code == 202
    assert response.json_body["image_id"] == image.image_id
    assert services.uploads.current("uploads/cat.jpg") is None
    marker = services.uploads.versions["uploads/cat.jpg"][-1].original
    removed = ObjectEvent(ObjectChange.REMOVED, marker)
    CLIENT.lambda_.invoke("handle_removal", {"Records": [s3_record(removed)]})
    assert_problem(request("DELETE", f"/images/{image.image_id}"), 404, "image_not_found")


def test_delete_of_an_unknown_image_is_not_found(services: FakeServices) -> None:
    """404, and nothing is deleted."""
    assert_problem(request("DELETE", "/images/unknown"), 404, "image_not_found")
    assert services.uploads.calls == []


# ── reprocess ────────────────────────────────────────────────────────────────────────────────────


def test_reprocessing_is_accepted_and_shows_the_old_until_the_new_is_there(
    services: FakeServices,
) -> None:
    """202 with where to ask; meanwhile the image is shown with all that it had."""
    image = uploaded(services)
    before = get(f"/images/{image.image_id}").json_body

    response = request("POST", f"/images/{image.image_id}/reprocess")

    assert response.status_code == 202
    assert response.headers["Location"] == f"/images/{image.image_id}"
    assert response.json_body["status"] == "QUEUED"
    meanwhile = get(f"/images/{image.image_id}").json_body
    assert meanwhile["status"] == "QUEUED"
    for name in ("renditions", "labels", "fingerprint", "width", "height"):
        assert meanwhile[name] == before[name] != []
    bodies = [encode_work(work) for work in services.queue.receive()]
    app.process_images(CLIENT.events.generate_sqs_event(bodies), invocation(60))
    after = get(f"/images/{image.image_id}").json_body
    assert after["status"] == "COMPLETED"
    assert {row["key"] for row in after["renditions"]} == set(services.renditions.stored)
    assert {row["key"] for row in before["renditions"]}.isdisjoint(services.renditions.stored)


def test_failed_image_can_be_processed_again(services: FakeServices) -> None:
    """One that was given up is QUEUED again without its error, and its key is asked for."""
    image = uploaded(services)
    services.catalog.records[image.image_id] = replace(
        image,
        status=ImageStatus.FAILED,
        failure=Failure(RETRIES_EXHAUSTED, "Given up."),
    )

    response = request("POST", f"/images/{image.image_id}/reprocess")

    assert (response.json_body["status"], response.json_body["error"]) == ("QUEUED", None)
    assert services.queue.sent == [Recheck(image.original.key)]


def test_reprocessing_what_is_not_there_is_not_found(services: FakeServices) -> None:
    """Neither an unknown image nor a deleted one can be processed again."""
    image = uploaded(services)
    pipeline.remove(services.uploads.remove(image.original.key), services)

    for image_id in ("unknown", image.image_id):
        assert_problem(request("POST", f"/images/{image_id}/reprocess"), 404, "image_not_found")
    assert services.queue.sent == []


# ── list ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def album(services: FakeServices) -> list[str]:
    """Five images, newest first: three cats, a failed file, and one that waits."""
    for number in range(3):
        uploaded(services, f"uploads/{number}.jpg")
    uploaded(services, "uploads/3.jpg", b"This is no picture.")
    pipeline.register(services.uploads.upload("uploads/4.jpg", PICTURE), services)
    return [f"uploads/{number}.jpg" for number in reversed(range(5))]


def listed(query: str = "") -> list[str]:
    response = get(f"/images{query}")
    assert response.status_code == 200, response.json_body
    return [image["key"] for image in response.json_body["images"]]


def test_images_are_listed_newest_first(album: list[str]) -> None:
    """Without parameters a page of all images, each in full."""
    response = get("/images").json_body

    assert [image["key"] for image in response["images"]] == album
    assert response["cursor"] is None
    assert response["images"][-1]["renditions"][0]["url"].startswith("https://")


def test_page_has_fifty_images_unless_asked_otherwise(services: FakeServices) -> None:
    """What docs/api.md says."""
    for number in range(51):
        pipeline.register(services.uploads.upload(f"uploads/{number}.jpg", PICTURE), services)

    page = get("/images").json_body

    assert len(page["images"]) == 50
    assert page["cursor"] is not None


def test_pages_follow_each_other(album: list[str]) -> None:
    """The cursor of each page leads to the next, and that of the last to nothing."""
    pages: list[list[str]] = []
    cursor = ""
    while True:
        page = get(f"/images?limit=2{cursor}").json_body
        pages.append([image["key"] for image in page["images"]])
        if page["cursor"] is None:
            break
        cursor = f"&cursor={quote(page['cursor'])}"

    assert pages == [album[:2], album[2:4], album[4:]]


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("?status=FAILED", [3]),
        ("?status=completed", [2, 1, 0]),
        ("?status=QUEUED", [4]),
        ("?status=PROCESSING", []),
        ("?label=cat", [2, 1, 0]),
        ("?label=CAT&min_confidence=98.5", [2, 1, 0]),
        ("?label=Cat&min_confidence=98.6", []),
        ("?label=Cat&label=Dog", []),
        ("?label=Cat&label=cat", [2, 1, 0]),
        ("?label=Cat&status=COMPLETED", [2, 1, 0]),
        ("?label=Cat&status=FAILED", []),
        ("?from=2026-01-31&to=2026-01-31", [4, 3, 2, 1, 0]),
        ("?from=2026-02-01", []),
        ("?to=2026-01-30T23:59:59.999Z", []),
        ("?to=2026-01-31T10:14:00+01:00", []),
        ("?from=2026-01-31T10:14:00%2B01:00", [4, 3, 2, 1, 0]),
        ("?X-Amz-Signature=ours-signs-in-the-query", [4, 3, 2, 1, 0]),
        ("?limit=100", [4, 3, 2, 1, 0]),
        ("?limit=1", [4]),
        ("?label=" + "&label=".join(["cat"] * 10), [2, 1, 0]),
        ("?label=" + "x" * 256, []),
    ],
)
@pytest.mark.usefixtures("album")
def test_list_is_narrowed(query: str, numbers: list[int]) -> None:
    """By status, by one label or several, and by how sure a label is."""
    assert listed(query) == [f"uploads/{number}.jpg" for number in numbers]


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("limit=0", "'limit' is a whole number from 1 to 100, not '0'"),
        ("limit=101", "'limit' is a whole number from 1 to 100, not '101'"),
        ("limit=many", "'limit' is a whole number from 1 to 100, not 'many'"),
        ("limit=", "'limit' is a whole number from 1 to 100, not ''"),
        ("limit=2.5", "'limit' is a whole number from 1 to 100, not '2.5'"),
        ("limit=1&limit=2", "'limit' may be given once only"),
        ("min_confidence=101", "'min_confidence' is a number from 0 to 100, not '101'"),
        ("min_confidence=-1", "'min_confidence' is a number from 0 to 100, not '-1'"),
        ("min_confidence=nan", "'min_confidence' is a number from 0 to 100, not 'nan'"),
        ("min_confidence=inf", "'min_confidence' is a number from 0 to 100, not 'inf'"),
        ("min_confidence=sure", "'min_confidence' is a number from 0 to 100, not 'sure'"),
        (
            "status=LOST",
            "'status' is one of QUEUED, PROCESSING, COMPLETED, QUARANTINED, FAILED, not",
        ),
        ("status=DELETED", "'status' is one of"),
        ("status=", "'status' is one of"),
        ("label=", "'label' is a text of 1 to 256 characters"),
        ("label=" + "x" * 300, "'label' is a text of 1 to 256 characters"),
        ("label=" + "&label=".join("abcdefghijk"), "'label' may come up to 10 times"),
        ("from=yesterday", "'from' is a date or time such as 2026-01-31"),
        ("to=2026-02-30", "'to' is a date or time such as"),
        ("from=0001-01-01T00:00:00%2B12:00", "'from' is a date or time such as"),
        ("lable=Cat", "'lable' is not known here; there is status, label, min_confidence"),
    ],
)
def test_parameter_that_makes_no_sense_is_refused(query: str, sentence: str) -> None:
    """400 with the parameter, what it may be, and what it was."""
    problem = assert_problem(get(f"/images?{query}"), 400, "invalid_request")

    assert sentence in problem["detail"]


def test_every_parameter_at_fault_is_named() -> None:
    """Whoever mends one need not be told of the next in another answer."""
    problem = assert_problem(get("/images?limit=0&from=x&no=1"), 400, "invalid_request")

    assert [fault["parameter"] for fault in problem["errors"]] == ["from", "limit", "no"]
    assert all(fault["detail"] in problem["detail"] for fault in problem["errors"])


# ── page ─────────────────────────────────────────────────────────────────────────────────────────


def test_page_shows_pictures_from_where_links_lead() -> None:
    """The front page is HTML that lets pictures in from the bucket of renditions alone."""
    response = get("/")

    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert " https://renditions.example;" in response.headers["Content-Security-Policy"]
    assert response.body.startswith(b"<!doctype html>")


def test_files_of_the_page_are_served_and_nothing_else_is() -> None:
    """By their names; a path out of the folder is a name that no file has."""
    assert get("/static/app.js").status_code == 200
    for name in ("unknown.js", "..%2Fpage.py", "%2E%2E"):
        assert_problem(get(f"/static/{name}"), 404, "file_not_found")


# ── errors ───────────────────────────────────────────────────────────────────────────────────────


def test_internal_error_tells_nothing(
    services: FakeServices, caplog: pytest.LogCaptureFixture
) -> None:
    """A bare 500: what went wrong inside is in the log, and nowhere else."""
    services.catalog.before("get", Outage("secret of the table"))

    response = get(f"/images/{UNKNOWN}")

    problem = assert_problem(response, 500, "internal_error")
    assert b"secret" not in response.body
    assert b"Outage" not in response.body
    assert b"Traceback" not in response.body
    assert problem["title"] == "Internal Server Error"
    assert "secret of the table" in caplog.text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/images?name=x.jpg"),
        ("GET", f"/images/{UNKNOWN}"),
        ("GET", f"/images/{UNKNOWN}/status"),
        ("GET", "/images/uploads/x/status"),
        ("DELETE", f"/images/{UNKNOWN}"),
        ("POST", f"/images/{UNKNOWN}/reprocess"),
    ],
)
def test_every_route_answers_an_outage_alike(
    services: FakeServices, method: str, path: str
) -> None:
    """Whatever breaks below a route, its client gets problem details."""
    services.catalog.before("get", *[ConnectionError("down")] * 3)

    response = request(method, path, PICTURE if path.startswith("/images?") else b"")

    assert_problem(response, 500, "internal_error")


def test_outage_of_the_list_is_a_problem_too(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list asks the catalog in another way."""

    def down(*_: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(services.catalog, "browse", down)

    assert_problem(get("/images"), 500, "internal_error")


# ── what is told ─────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def stdout(services: FakeServices) -> Iterator[StringIO]:
    """The stdout of the functions, which tell their metrics as on AWS."""
    root, out = logging.getLogger(), StringIO()
    before = root.handlers[:]
    services.telemetry = Telemetry("test", {}, [Feature.LABELS])  # type: ignore[assignment]
    with redirect_stdout(out):
        logs.configure()
        yield out
    root.handlers[:] = before


def test_image_is_told_in_lines_of_json(
    services: FakeServices, stdout: StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upload and processing: logs and metrics, each saying of which image and invocation."""
    created = services.uploads.upload("uploads/cat.jpg", PICTURE)
    with redirect_stdout(stdout):  # pytest has its own from here on
        CLIENT.lambda_.invoke("handle_upload", {"Records": [s3_record(created)]})
        queued = CLIENT.events.generate_sqs_event([encode_work(created.original)])
        # Its three seconds are too few to begin anything with.
        monkeypatch.setattr(LambdaContext, "get_remaining_time_in_millis", lambda _: 60_000)
        CLIENT.lambda_.invoke("process_images", queued)

    lines = stdout.getvalue().splitlines()
    told = [json.loads(line) for line in lines]
    assert {line["image_id"] for line in told} == {created.original.image_id}
    assert {line["key"] for line in told} == {"uploads/cat.jpg"}
    assert {line["version_id"] for line in told} == {created.original.version_id}
    assert [line["function"] for line in told] == ["handle_upload", *["process_images"] * 2]
    assert len({line["request_id"] for line in told}) == 2
    [metrics] = [metrics_of(line) for line in lines if "_aws" in line]
    assert metrics[("Stage",)]["ImagesCompleted"] == (1, "Count")
    assert [line["message"] for line in told if "message" in line] == [
        "QUEUED",
        "COMPLETED",
    ]


def test_exceptions_that_chalice_logs_are_told_alike(
    stdout: StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a view without ``problems`` too: one line of JSON, once, with its request, redacted."""

    def down(**_: object) -> None:
        raise Outage("no answer of https://x.example/?X-Amz-Signature=5EC4E7")

    route = app.app.routes["/images/{image_id}"]["GET"]
    monkeypatch.setattr(route, "view_function", down)
    with redirect_stdout(stdout):
        assert get("/images/some").status_code == 500

    [line] = [json.loads(line) for line in stdout.getvalue().splitlines()]
    assert line["exception"]["type"] == "Outage"
    assert line["request_id"]
    assert "5EC4E7" not in stdout.getvalue()
