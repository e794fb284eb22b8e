"""Managing webhooks over the API: every route through Chalice, over services in memory."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, get_type_hints

import msgspec
import pytest
from chalice.test import Client, HTTPResponse

import app
from chalicelib import webhooks
from chalicelib.messages import timestamp
from chalicelib.model import (
    MAX_DESCRIPTION_LENGTH,
    MAX_URL_LENGTH,
    MAX_WEBHOOK_LABEL_LENGTH,
    MAX_WEBHOOK_LABELS,
    Attempt,
    Circuit,
    Delivery,
    DeliveryState,
    Destination,
    EventKind,
    Secret,
    digest,
)
from chalicelib.services import WebhookTerms
from chalicelib.web import schema
from chalicelib.webhooks import MAX_DESTINATIONS
from tests.fakes import FakeServices

CLIENT = Client(app.app)
URL = "https://8.8.8.8/hook?of=images"
"""A public address: nobody is asked where it is, and nobody is called."""

WISH = {"url": URL, "statuses": ["COMPLETED"], "labels": ["Cat"], "description": "The shop"}
SECRET = "whsec_" + "S" * 43 + "="
CONFIGURED = Destination(digest("c"), URL, secrets=(Secret(SECRET),), is_configured=True)
ACTS = (
    *(("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/deliveries")),
    *(("POST", f"/{act}") for act in ("rotate", "disable", "resume", "test")),
    ("POST", f"/deliveries/{'e' * 26}/replay"),
)


@pytest.fixture(autouse=True)
def in_memory(monkeypatch: pytest.MonkeyPatch, services: FakeServices) -> FakeServices:
    """The one seam: everything the handlers reach goes through ``app.services``."""
    monkeypatch.setattr(app, "services", lambda: services)
    services.webhook_terms = WebhookTerms(configured=(CONFIGURED,))
    return services


def request(method: str, path: str, body: bytes = b"", **headers: str) -> HTTPResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return CLIENT.http.request(method, path, headers=named, body=body)


def send(method: str, path: str, wish: object, **headers: str) -> HTTPResponse:
    headers = {"content_type": "application/json", **headers}
    return request(method, path, json.dumps(wish).encode(), **headers)


def register(**wish: Any) -> dict[str, Any]:
    response = send("POST", "/webhooks", WISH | wish)
    assert response.status_code == 201, response.body
    made: dict[str, Any] = response.json_body
    return made


def registered(services: FakeServices) -> tuple[str, Destination]:
    """The path of the one that is registered, and what is kept of it."""
    [destination] = services.destinations.registered.values()
    return f"/webhooks/{destination.destination_id}", destination


def assert_problem(response: HTTPResponse, status: int, code: str) -> dict[str, Any]:
    problem: dict[str, Any] = response.json_body
    assert (response.status_code, problem["code"]) == (status, code), problem
    assert response.headers["Content-Type"] == "application/problem+json"
    return problem


def assert_as_described(answer: dict[str, Any], kind: Any) -> None:
    """The answer has the type of the API's description, and nothing beside it."""
    msgspec.convert(answer, kind)
    assert set(answer) <= set(get_type_hints(kind))


# ── registering ──────────────────────────────────────────────────────────────────────────────────


def test_webhook_is_registered(services: FakeServices) -> None:
    """With what was asked for, and the secret that it is signed with."""
    response = send("POST", "/webhooks", WISH)

    path, destination = registered(services)
    assert response.status_code == 201
    assert response.headers["Location"] == path
    assert response.headers["Cache-Control"] == "private, no-store"
    assert_as_described(response.json_body, schema.RegisteredWebhook)
    assert response.json_body == WISH | {
        "webhook_id": destination.destination_id,
        "created_at": timestamp(services.clock()),
        "is_configured": False,
        "state": "ACTIVE",
        "paused_until": None,
        "disabled_for": None,
        "failures": 0,
        "secret": destination.secrets[0].value,
    }


def test_webhook_is_told_of_everything_unless_it_says_otherwise() -> None:
    """A URL is enough."""
    response = send("POST", "/webhooks", {"url": URL})

    made = response.json_body
    assert response.status_code == 201
    assert (made["statuses"], made["labels"], made["description"]) == ([], [], "")


def test_one_url_may_be_registered_twice() -> None:
    """For other labels, say; each is signed with a secret of its own."""
    first, second = register(labels=["Cat"]), register(labels=["Dog"])

    assert first["webhook_id"] != second["webhook_id"]
    assert first["secret"] != second["secret"]


def test_what_is_said_twice_counts_once() -> None:
    """And statuses may be in whatever case."""
    made = register(statuses=["failed", "FAILED", "Completed"], labels=["Cat", "Cat"])

    assert (made["statuses"], made["labels"]) == (["FAILED", "COMPLETED"], ["Cat"])


HOSTILE_URLS = (
    *("https://127.0.0.1/", "https://10.0.0.1/", "https://169.254.169.254/latest/meta-data/"),
    *("https://[::1]/", "https://[::ffff:10.0.0.1]/", "https://[fd00:ec2::254]/", "https://0/"),
    *("https://2130706433/", "https://0x7f.1/", "https://127.1/", "https://localhost/"),
    *("http://8.8.8.8/", "https://8.8.8.8:8443/", "https://8.8.8.8:22/", "https://8.8.8.8:65536/"),
    *("ftp://8.8.8.8/", "file:///etc/passwd", "gopher://8.8.8.8/", "javascript:alert(1)"),
    *("https://user:password@8.8.8.8/", "https://user@8.8.8.8/", "https://8.8.8.8\\@10.0.0.1/"),
    *("https://8.8.8.8/a b", "https://8.8.8.8/\r\nX: y", "https://8.8.8.8/\x00", "https://\ud800/"),
    *("https://", "https:///hook", "//8.8.8.8/", "8.8.8.8", "", "https://" + "a" * 3_000),
    f"https://8.8.8.8/{'x' * (MAX_URL_LENGTH - 15)}",
)


@pytest.mark.parametrize("url", HOSTILE_URLS)
def test_webhook_goes_nowhere_but_to_the_public(services: FakeServices, url: str) -> None:
    """Neither by a new one nor by a change, and who asks is not told where a name leads."""
    register()
    path, before = registered(services)

    for response in (send("POST", "/webhooks", {"url": url}), send("PATCH", path, {"url": url})):
        problem = assert_problem(response, 400, "invalid_request")
        assert [fault["parameter"] for fault in problem["errors"]] == ["url"]
        assert len(response.body) < 2_000
    assert registered(services) == (path, before)


def test_url_may_be_as_long_as_the_description_says() -> None:
    """And not a character longer: see above."""
    url = f"https://8.8.8.8/{'x' * (MAX_URL_LENGTH - 16)}"

    assert register(url=url)["url"] == url


FAULTS: tuple[tuple[Mapping[str, Any], list[str]], ...] = (
    ({"url": None}, ["url"]),
    ({"url": 7}, ["url"]),
    ({"url": [URL]}, ["url"]),
    ({"statuses": ["SEEN"]}, ["statuses"]),
    ({"statuses": ["QUEUED"]}, ["statuses"]),
    ({"statuses": "COMPLETED"}, ["statuses"]),
    ({"statuses": {"COMPLETED": 1}}, ["statuses"]),
    ({"statuses": [None]}, ["statuses"]),
    ({"statuses": [["COMPLETED"]]}, ["statuses"]),
    ({"statuses": ["COMPLETED"] * 6}, ["statuses"]),
    ({"statuses": None}, ["statuses"]),
    ({"labels": [""]}, ["labels"]),
    ({"labels": ["x" * 101]}, ["labels"]),
    ({"labels": ["Cat"] * 51}, ["labels"]),
    ({"labels": [f"{number:02}" + "🦊" * 98 for number in range(50)]}, ["labels"]),
    ({"labels": "Cat"}, ["labels"]),
    ({"labels": [7]}, ["labels"]),
    ({"labels": [{}]}, ["labels"]),
    ({"labels": ["\ud800"]}, ["labels"]),
    ({"labels": None}, ["labels"]),
    ({"labels": True}, ["labels"]),
    ({"description": "x" * 201}, ["description"]),
    ({"description": None}, ["description"]),
    ({"description": "\udfff"}, ["description"]),
    ({"description": {}}, ["description"]),
    ({"secret": SECRET}, ["secret"]),
    ({"webhook_id": "a" * 26}, ["webhook_id"]),
    ({"is_configured": True}, ["is_configured"]),
    ({"is_disabled": True}, ["is_disabled"]),
    (
        {"url": "ftp://x", "statuses": 1, "labels": [""], "description": 2, "hook": 3},
        ["description", "hook", "labels", "statuses", "url"],
    ),
)


@pytest.mark.parametrize(("wish", "faults"), FAULTS)
def test_wish_that_makes_no_sense_is_refused(
    services: FakeServices, wish: dict[str, Any], faults: list[str]
) -> None:
    """Every member at fault is named, of a new webhook and of a change."""
    register()
    path, before = registered(services)

    for response in (send("POST", "/webhooks", WISH | wish), send("PATCH", path, wish)):
        problem = assert_problem(response, 400, "invalid_request")
        assert [fault["parameter"] for fault in problem["errors"]] == faults
    assert registered(services) == (path, before)


def test_url_is_needed() -> None:
    """For a new webhook."""
    problem = assert_problem(send("POST", "/webhooks", {}), 400, "invalid_request")

    assert problem["errors"] == [{"parameter": "url", "detail": "is missing"}]


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (b"[]", "application/json", 400, "invalid_request"),
        (b'"https://8.8.8.8/"', "application/json", 400, "invalid_request"),
        (b"null", "application/json", 400, "invalid_request"),
        (b"", "application/json", 400, "invalid_request"),
        (b'{"url":', "application/json", 400, "invalid_request"),
        (b"\xff", "application/json", 400, "invalid_request"),
        (b"[" * 60_000, "application/json", 400, "invalid_request"),
        (b'{"url": "' + b"x" * 70_000, "application/json", 413, "payload_too_large"),
        (b"url=https%3A%2F%2F8.8.8.8", "application/x-www-form-urlencoded", 415, None),
        (b'{"url": "https://8.8.8.8/"}', "text/plain", 415, None),
    ],
)
def test_wish_is_an_object_of_json(
    services: FakeServices, body: bytes, kind: str, status: int, code: str | None
) -> None:
    """Whatever else it is, the answer says what it has to be."""
    register()
    path, before = registered(services)

    for method, where in (("POST", "/webhooks"), ("PATCH", path)):
        response = request(method, where, body, content_type=kind)
        problem = assert_problem(response, status, code or "unsupported_media_type")
        assert status != 415 or '{"url": "https://shop.example/hook"' in problem["detail"]
    assert registered(services) == (path, before)


def test_webhooks_are_few(services: FakeServices) -> None:
    """A hundred beside those of the settings."""
    for number in range(100):
        destination_id = digest(str(number))
        services.destinations.registered[destination_id] = Destination(destination_id, URL)

    problem = assert_problem(send("POST", "/webhooks", WISH), 409, "too_many_webhooks")

    assert "100" in problem["detail"]
    assert len(request("GET", "/webhooks").json_body["webhooks"]) == 101


@pytest.mark.parametrize("character", ["🦊", "é", '"', "\x01", "x"])
def test_list_of_the_largest_webhooks_is_no_more_than_lambda_answers_with(
    services: FakeServices, character: str
) -> None:
    """Its 6 MB hold the body as JSON within JSON: a character takes up to 14 bytes of them."""
    legible = character if character.isprintable() else "x"
    wish = {
        "url": URL.ljust(MAX_URL_LENGTH, legible),
        "statuses": list(EventKind),
        "description": character * MAX_DESCRIPTION_LENGTH,
    }
    for length in range(MAX_WEBHOOK_LABEL_LENGTH, 1, -1):
        labels = [f"{number:02}".ljust(length, character) for number in range(MAX_WEBHOOK_LABELS)]
        body = json.dumps(wish | {"labels": labels}, ensure_ascii=False).encode()
        response = request("POST", "/webhooks", body, content_type="application/json")
        if response.status_code == 201:
            break
    _, largest = registered(services)
    assert (length == MAX_WEBHOOK_LABEL_LENGTH) is (character not in "🦊é")
    resting = Circuit(failures=10**6, paused_until="2099-01-01T00:00:00.000Z")
    for number in range(MAX_DESTINATIONS):
        each = replace(largest, destination_id=digest(str(number)))
        services.destinations.registered[each.destination_id] = each
        services.destinations.circuits[each.destination_id] = resting
    del services.destinations.registered[largest.destination_id]

    answer = request("GET", "/webhooks")

    assert len(answer.json_body["webhooks"]) == MAX_DESTINATIONS + 1
    assert len(json.dumps({"body": answer.body.decode()})) < 5_000_000


# ── looking ──────────────────────────────────────────────────────────────────────────────────────


def test_webhooks_are_listed_without_their_secrets(services: FakeServices) -> None:
    """Those of the settings first; each as it is shown alone."""
    made = [register(), register(labels=[])]
    webhooks.rotate(made[0]["webhook_id"], services)

    response = request("GET", "/webhooks")

    assert_as_described(response.json_body, schema.Webhooks)
    shown = response.json_body["webhooks"]
    assert [(each["webhook_id"], each["is_configured"], each["created_at"]) for each in shown] == [
        (CONFIGURED.destination_id, True, None),
        *((each["webhook_id"], False, each["created_at"]) for each in made),
    ]
    for each in shown:
        alone = request("GET", f"/webhooks/{each['webhook_id']}")
        assert_as_described(alone.json_body, schema.Webhook)
        assert alone.json_body == each
        assert b"whsec_" not in alone.body
    assert b"whsec_" not in response.body


@pytest.mark.parametrize(
    ("circuit", "shown"),
    [
        (Circuit(), ("ACTIVE", None, None, 0)),
        (Circuit(failures=4), ("ACTIVE", None, None, 4)),
        (
            Circuit(5, "2027-01-01T00:00:00.000Z"),
            ("PAUSED", "2027-01-01T00:00:00.000Z", None, 5),
        ),
        (Circuit(5, "2026-01-01T00:00:00.000Z"), ("ACTIVE", None, None, 5)),
        (Circuit(disabled_for="gone"), ("DISABLED", None, "gone", 0)),
        (
            Circuit(5, "2027-01-01T00:00:00.000Z", disabled_for="by_hand"),
            ("DISABLED", None, "by_hand", 5),
        ),
    ],
)
def test_webhook_shows_how_it_fares(
    services: FakeServices, circuit: Circuit, shown: tuple[Any, ...]
) -> None:
    """One of the settings, too; a pause that is over is none."""
    for webhook_id in (register()["webhook_id"], CONFIGURED.destination_id):
        services.destinations.circuits[webhook_id] = circuit

        webhook = request("GET", f"/webhooks/{webhook_id}").json_body

        assert_as_described(webhook, schema.Webhook)
        names = ("state", "paused_until", "disabled_for", "failures")
        assert tuple(webhook[name] for name in names) == shown


@pytest.mark.parametrize("webhook_id", ["x", "A" * 26, "a" * 26, "a" * 3_000, "%2e%2e", "%00"])
@pytest.mark.parametrize(("method", "rest"), ACTS)
def test_what_is_no_webhook_is_not_found(
    services: FakeServices, method: str, rest: str, webhook_id: str
) -> None:
    """Whatever is asked of it; nothing is sent, and no log is read."""
    register()

    response = send(method, f"/webhooks/{webhook_id}{rest}", {"description": ""})

    assert_problem(response, 404, "webhook_not_found")
    assert services.webhook_queue.calls == services.deliveries.calls == []


# ── changing ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "wish",
    [
        {"url": "https://8.8.4.4/"},
        {"statuses": []},
        {"labels": ["Dog", "Bird"]},
        {"description": ""},
        {"url": "https://8.8.4.4/", "labels": []},
        {},
    ],
)
def test_webhook_is_changed_in_what_is_given(wish: dict[str, Any]) -> None:
    """All else stays, its secret, too, which is not shown."""
    made = register()

    response = send("PATCH", f"/webhooks/{made['webhook_id']}", wish)

    assert response.status_code == 200
    assert_as_described(response.json_body, schema.Webhook)
    del made["secret"]
    assert response.json_body == made | wish


def test_webhook_is_deleted(services: FakeServices) -> None:
    """204 without a body, and then there is none."""
    register()
    path, _ = registered(services)

    response = request("DELETE", path)

    assert (response.status_code, response.body) == (204, b"")
    assert services.destinations.registered == {}
    assert_problem(request("DELETE", path), 404, "webhook_not_found")


def test_secret_is_rotated(services: FakeServices) -> None:
    """The new one is shown once, with the end of the one before."""
    made = register()
    path, _ = registered(services)

    for _ in range(3):
        response = request("POST", f"{path}/rotate")
        services.clock.now += timedelta(hours=1)

    _, destination = registered(services)
    assert response.status_code == 200
    assert_as_described(response.json_body, schema.RotatedSecret)
    assert response.json_body == {
        "webhook_id": made["webhook_id"],
        "secret": destination.secrets[0].value,
        "previous_secret_until": timestamp(services.clock() + timedelta(hours=23)),
    }
    assert made["secret"] == destination.secrets[-1].value


def test_secret_is_not_rotated_too_often(services: FakeServices) -> None:
    """409 says until when one has to wait."""
    register()
    path, _ = registered(services)
    for _ in range(4):
        assert request("POST", f"{path}/rotate").status_code == 200

    problem = assert_problem(request("POST", f"{path}/rotate"), 409, "too_many_rotations")

    until = timestamp(services.clock() + timedelta(hours=24))
    assert f"wait until {until}." in problem["detail"]


def test_webhook_is_disabled_and_resumed(services: FakeServices) -> None:
    """One of the settings, too: that needs no deployment."""
    for webhook_id in (register()["webhook_id"], CONFIGURED.destination_id):
        services.destinations.circuits[webhook_id] = Circuit(7, "2099-01-01T00:00:00.000Z")
        for act, state, reason in (
            ("disable", "DISABLED", "by_hand"),
            ("disable", "DISABLED", "by_hand"),
            ("resume", "ACTIVE", None),
        ):
            response = request("POST", f"/webhooks/{webhook_id}/{act}")
            assert response.status_code == 200
            assert_as_described(response.json_body, schema.Webhook)
            assert (response.json_body["state"], response.json_body["disabled_for"]) == (
                state,
                reason,
            )
        assert response.json_body["failures"] == 0


@pytest.mark.parametrize(("method", "rest"), [("PATCH", ""), ("DELETE", ""), ("POST", "/rotate")])
def test_webhook_of_the_settings_is_changed_there(
    services: FakeServices, method: str, rest: str
) -> None:
    """409 says so."""
    path = f"/webhooks/{CONFIGURED.destination_id}{rest}"

    problem = assert_problem(send(method, path, {"url": URL}), 409, "webhook_is_configured")

    assert "WEBHOOKS" in problem["detail"]
    assert services.destinations.registered == {}


@pytest.mark.parametrize(("method", "rest"), [act for act in ACTS if act[0] != "GET"])
def test_page_of_another_origin_changes_no_webhook(
    services: FakeServices, method: str, rest: str
) -> None:
    """Else any page could have somebody's laptop tell it of images."""
    register()
    path, before = registered(services)

    for where, act in ((path + rest, method), ("/webhooks", "POST")):
        response = send(act, where, WISH, sec_fetch_site="cross-site")
        assert_problem(response, 403, "cross_site_request")
    assert registered(services) == (path, before)
    assert services.webhook_queue.sent == []


def test_a_browser_is_told_that_it_may_patch() -> None:
    """The preflight names the methods of the path."""
    response = request("OPTIONS", f"/webhooks/{'a' * 26}")

    assert response.headers["Access-Control-Allow-Methods"] == "DELETE, GET, OPTIONS, PATCH"


# ── what was sent ────────────────────────────────────────────────────────────────────────────────


def delivery(number: int, webhook_id: str, **known: Any) -> Delivery:
    return Delivery(
        webhook_id,
        event_id=digest(f"event {number}"),
        event_type="image.completed",
        event_time=f"2026-01-31T09:15:{number:02}.000Z",
        image_id=digest("uploads/cat.jpg"),
        payload=b"",
        **known,
    )


def log(services: FakeServices, *deliveries: Delivery) -> None:
    for each in deliveries:
        services.deliveries.save(each, None)


def called(duration_ms: int) -> dict[str, Any]:
    return {"duration_ms": duration_ms, "is_held": False}


def test_deliveries_are_shown_newest_first(services: FakeServices) -> None:
    """Each with its attempts, whether it was answered or not."""
    webhook_id = register()["webhook_id"]
    failed = Attempt("2026-01-31T09:15:01.000Z", 12, error="The host was not found")
    held = Attempt("2026-01-31T09:15:03.000Z", error="Held", is_held=True)
    taken = Attempt("2026-01-31T09:15:06.000Z", 80, status=200)
    log(
        services,
        delivery(1, webhook_id, state=DeliveryState.DELIVERED, attempts=(failed, held, taken)),
        delivery(2, webhook_id, next_try_at="2026-01-31T09:20:00.000Z"),
        replace(delivery(3, webhook_id, state=DeliveryState.GIVEN_UP), image_id=""),
        delivery(4, CONFIGURED.destination_id),
    )

    page = request("GET", f"/webhooks/{webhook_id}/deliveries").json_body

    assert_as_described(page, schema.DeliveryPage)
    assert page["cursor"] is None
    test, waiting, delivered = page["deliveries"]
    assert (test["image_id"], test["state"], test["attempts"]) == (None, "GIVEN_UP", [])
    assert (waiting["state"], waiting["next_try_at"]) == ("WAITING", "2026-01-31T09:20:00.000Z")
    assert delivered == {
        "event_id": digest("event 1"),
        "event_type": "image.completed",
        "event_time": "2026-01-31T09:15:01.000Z",
        "image_id": digest("uploads/cat.jpg"),
        "state": "DELIVERED",
        "attempts": [
            {"at": failed.at, "status": None, "error": failed.error} | called(12),
            {
                "at": held.at,
                "status": None,
                "error": "Held",
                "duration_ms": 0,
                "is_held": True,
            },
            {"at": taken.at, "status": 200, "error": None} | called(80),
        ],
        "next_try_at": None,
    }


def test_deliveries_are_paged(services: FakeServices) -> None:
    """Each comes once, on the settings' webhooks as on others."""
    log(services, *(delivery(number, CONFIGURED.destination_id) for number in range(7)))
    path = f"/webhooks/{CONFIGURED.destination_id}/deliveries?limit=3"

    seen: list[str] = []
    cursor = ""
    while cursor is not None:
        page = request("GET", path + (cursor and f"&cursor={cursor}")).json_body
        seen += [each["event_id"] for each in page["deliveries"]]
        cursor = page["cursor"]

    assert seen == [digest(f"event {number}") for number in reversed(range(7))]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=many", "limit"),
        ("cursor=", "cursor"),
        ("cursor=x", "cursor"),
        ("cursor=1769850900000.A", "cursor"),
        ("state=WAITING", "state"),
    ],
)
def test_page_of_deliveries_that_makes_no_sense_is_refused(
    services: FakeServices, query: str, parameter: str
) -> None:
    """The parameter is named, and nothing is read."""
    response = request("GET", f"/webhooks/{CONFIGURED.destination_id}/deliveries?{query}")

    problem = assert_problem(response, 400, "invalid_request")
    assert problem["errors"][0]["parameter"] == parameter
    assert services.deliveries.calls == []


def test_webhook_is_tested(services: FakeServices) -> None:
    """202 with the event's id, which its delivery has; a disabled one is, too."""
    webhook_id = register()["webhook_id"]
    request("POST", f"/webhooks/{webhook_id}/disable")

    response = request("POST", f"/webhooks/{webhook_id}/test")

    assert response.status_code == 202
    assert response.headers["Location"] == f"/webhooks/{webhook_id}/deliveries"
    assert_as_described(response.json_body, schema.SentEvent)
    [sent] = map(json.loads, services.webhook_queue.sent)
    assert sent["destination"] == webhook_id
    assert sent["details"]["event_id"] == response.json_body["event_id"]
    assert sent["details"]["event_type"] == "webhook.test"


def test_delivery_is_replayed(services: FakeServices) -> None:
    """The same event to the same webhook, asked for now."""
    webhook_id = register()["webhook_id"]
    details = {"event_id": digest("event 1"), "event_type": "image.completed"}
    packed = zlib.compress(json.dumps(details).encode())
    log(services, replace(delivery(1, webhook_id), payload=packed))

    response = request("POST", f"/webhooks/{webhook_id}/deliveries/{digest('event 1')}/replay")

    assert response.status_code == 202
    assert response.headers["Location"] == f"/webhooks/{webhook_id}/deliveries"
    assert response.json_body == {"event_id": digest("event 1")}
    assert [json.loads(body) for body in services.webhook_queue.sent] == [
        {
            "destination": webhook_id,
            "details": details,
            "replayed_at": timestamp(services.clock()),
        }
    ]


@pytest.mark.parametrize("event_id", ["x", "a" * 26, "A" * 26, "a" * 3_000, "%2e%2e", "%00"])
def test_event_that_was_not_sent_is_not_replayed(services: FakeServices, event_id: str) -> None:
    """Nor one that another webhook was sent."""
    webhook_id = register()["webhook_id"]
    log(services, delivery(1, CONFIGURED.destination_id))

    for each in (event_id, digest("event 1")):
        response = request("POST", f"/webhooks/{webhook_id}/deliveries/{each}/replay")
        assert_problem(response, 404, "delivery_not_found")
    assert services.webhook_queue.sent == []
