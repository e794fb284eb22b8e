"""What the API does beside uploading and listing: every route through Chalice, over fakes."""

import json
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from chalice.test import Client, HTTPResponse

import app
from chalicelib import pipeline
from chalicelib.model import Image, image_id_of
from tests.fakes import Alone, FakeServices, Outage
from tests.pictures import photo, saved

PICTURE = saved(photo(64, 48))
CLIENT = Client(app.app)
ELSEWHERE = "https://elsewhere.example"
FRIEND = "https://friend.example"


@pytest.fixture(autouse=True)
def in_memory(monkeypatch: pytest.MonkeyPatch, services: FakeServices) -> FakeServices:
    """The one seam: everything the handlers reach goes through ``app.services``."""
    monkeypatch.setattr(app, "services", lambda: services)
    return services


def request(method: str, path: str, body: bytes = b"", **headers: str) -> HTTPResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return CLIENT.http.request(method, path, headers=named, body=body)


def get(path: str, **headers: str) -> HTTPResponse:
    return request("GET", path, **headers)


def upload(name: str, body: bytes = PICTURE, **headers: str) -> HTTPResponse:
    headers = {"content_type": "image/jpeg", **headers}
    return request("POST", f"/images?name={quote(name, safe='')}", body, **headers)


def post_json(path: str, wish: object, **headers: str) -> HTTPResponse:
    body = json.dumps(wish).encode()
    return request("POST", path, body, content_type="application/json", **headers)


def uploaded(services: FakeServices, key: str = "uploads/cat.jpg", body: bytes = PICTURE) -> Image:
    """An image that was uploaded over S3 and has been processed."""
    pipeline.register(services.uploads.upload(key, body), services)
    for original in services.queue.receive():
        pipeline.process(original, services.clock() + timedelta(seconds=60), Alone(), services)
    return services.catalog.records[image_id_of(key)]


def assert_problem(response: HTTPResponse, status: int, code: str) -> dict[str, Any]:
    problem: dict[str, Any] = response.json_body
    assert (response.status_code, problem["code"]) == (status, code), problem
    assert response.headers["Content-Type"] == "application/problem+json"
    assert problem["message"] == problem["detail"]
    return problem


# ── direct uploads ───────────────────────────────────────────────────────────────────────────────


def test_a_direct_upload_is_offered(services: FakeServices) -> None:
    """A form for the key that the name gives, the image's id, and where to ask for it."""
    wish = {"name": "a/Cat é.jpg", "content_type": "image/jpeg", "size_bytes": 1_000}
    response = post_json("/uploads", wish)

    offer = response.json_body
    assert response.status_code == 200, offer
    assert (offer["key"], offer["image_id"]) == ("uploads/Cat é.jpg", image_id_of(offer["key"]))
    assert offer["links"]["status"] == f"/images/{offer['image_id']}/status"
    assert offer["upload"]["url"] == "https://uploads.example/"
    assert offer["upload"]["fields"]["Content-Type"] == "image/jpeg"
    assert offer["upload"]["max_bytes"] == 50 * 1024 * 1024
    assert services.uploads.versions[offer["key"]] == []


def test_a_direct_upload_of_a_name_in_use_is_refused(services: FakeServices) -> None:
    """Before anything is sent."""
    uploaded(services)

    assert_problem(post_json("/uploads", {"name": "cat.jpg"}), 409, "key_taken")


def test_a_direct_upload_that_is_too_large_is_refused() -> None:
    """With both sizes, before anything is sent."""
    wish = {"name": "cat.jpg", "size_bytes": 50 * 1024 * 1024 + 1}

    problem = assert_problem(post_json("/uploads", wish), 413, "payload_too_large")

    assert "52,428,801 bytes is over the limit of 52,428,800" in problem["detail"]


@pytest.mark.parametrize(
    ("wish", "faults"),
    [
        ({}, ["name"]),
        ({"name": ""}, ["name"]),
        ({"name": 7}, ["name"]),
        ({"name": "\ud800"}, ["name"]),
        ({"name": "a", "content_type": "text/html"}, ["content_type"]),
        ({"name": "a", "content_type": None}, ["content_type"]),
        ({"name": "a", "size_bytes": 0}, ["size_bytes"]),
        ({"name": "a", "size_bytes": -1}, ["size_bytes"]),
        ({"name": "a", "size_bytes": True}, ["size_bytes"]),
        ({"name": "a", "size_bytes": 1.5}, ["size_bytes"]),
        ({"name": "a", "size": 1}, ["size"]),
        ({"content_type": "x", "size_bytes": "many"}, ["content_type", "name", "size_bytes"]),
    ],
)
def test_a_direct_upload_that_makes_no_sense_is_refused(
    wish: dict[str, Any], faults: list[str]
) -> None:
    """Every member at fault is named."""
    problem = assert_problem(post_json("/uploads", wish), 400, "invalid_request")

    assert [fault["parameter"] for fault in problem["errors"]] == faults


@pytest.mark.parametrize("wish", [[], "cat.jpg", None, 7])
def test_a_direct_upload_wants_an_object(wish: object) -> None:
    """JSON of another kind is told what it has to be."""
    problem = assert_problem(post_json("/uploads", wish), 400, "invalid_request")

    assert "has to be an object" in problem["detail"]


def test_a_direct_upload_wants_json() -> None:
    """The picture itself does not go there."""
    response = request("POST", "/uploads", PICTURE, content_type="image/jpeg")

    assert_problem(response, 415, "unsupported_media_type")


# ── idempotency ──────────────────────────────────────────────────────────────────────────────────


def test_a_repeated_request_uploads_nothing_twice(services: FakeServices) -> None:
    """The same key and the same picture: the same image, whether named or not."""
    for name in ("cat.jpg", ""):
        first = upload(name, idempotency_key=f"key-of-{name}")
        again = upload(name, idempotency_key=f"key-of-{name}")

        assert (first.status_code, again.status_code) == (202, 202)
        assert first.json_body["image_id"] == again.json_body["image_id"]
        assert first.headers["Location"] == again.headers["Location"]
    assert [len(held) for held in services.uploads.versions.values()] == [1, 1]


@pytest.mark.parametrize(("name", "body"), [("dog.jpg", PICTURE), ("cat.jpg", PICTURE + b".")])
def test_a_key_of_another_request_is_refused(name: str, body: bytes) -> None:
    """Else one of the two pictures would be lost without a word."""
    upload("cat.jpg", idempotency_key="one")

    problem = assert_problem(
        upload(name, body, idempotency_key="one"), 422, "idempotency_key_reused"
    )

    assert "new one" in problem["detail"]


def test_without_a_key_a_repetition_is_a_clash() -> None:
    """As is one with another key."""
    upload("cat.jpg", idempotency_key="one")

    assert_problem(upload("cat.jpg"), 409, "key_taken")
    assert_problem(upload("cat.jpg", idempotency_key="two"), 409, "key_taken")


@pytest.mark.parametrize("key", ["x" * 256, "é", "\x01", "", "a b"])
def test_a_key_that_cannot_be_one_is_refused(services: FakeServices, key: str) -> None:
    """Headers are ASCII, and nobody needs more than 255 characters to be unique."""
    problem = assert_problem(upload("cat.jpg", idempotency_key=key), 400, "invalid_request")

    assert problem["errors"][0]["parameter"] == "Idempotency-Key"
    assert services.uploads.calls == []


@pytest.mark.parametrize(
    "facts",
    [
        {"authorizer": {"claims": {"sub": "somebody"}}},
        {"identity": {"caller": "AIDA"}},
        {"identity": {"apiKeyId": "abc"}},
    ],
)
def test_keys_of_different_callers_are_different(
    services: FakeServices, facts: dict[str, Any]
) -> None:
    """Nobody is given another's image for a key that both have thought of."""
    upload("cat.jpg", idempotency_key="one")
    event = {
        "requestContext": {
            "httpMethod": "POST",
            "resourcePath": "/images",
            "path": "/images",
            **facts,
        },
        "headers": {"content-type": "application/json", "idempotency-key": "one"},
        "multiValueQueryStringParameters": None,
        "pathParameters": {},
        "stageVariables": None,
        "body": json.dumps({"url": "http://10.0.0.1/x.jpg"}),
        "isBase64Encoded": False,
    }

    answer: Any = app.app(event, None)

    assert json.loads(answer["body"])["code"] == "unfetchable_url"
    assert len(services.catalog.claims) == 2


# ── one image ────────────────────────────────────────────────────────────────────────────────────


def test_an_image_shows_what_was_uploaded_under_its_key(services: FakeServices) -> None:
    """Newest first, marks of deletion included."""
    uploaded(services, body=PICTURE)
    services.uploads.remove("uploads/cat.jpg")
    image = uploaded(services, body=saved(photo(32, 32)))

    versions = get(f"/images/{image.image_id}").json_body["versions"]

    assert [version["is_current"] for version in versions] == [True, False, False]
    assert [version["is_deleted"] for version in versions] == [False, True, False]
    assert versions[0]["version_id"] == image.original.version_id
    assert versions[2]["size_bytes"] == len(PICTURE)


def test_a_status_that_is_known_is_not_sent_again(services: FakeServices) -> None:
    """304 until the record changes, then another ETag."""
    image_id = upload("cat.jpg").json_body["image_id"]
    first = get(f"/images/{image_id}/status")
    etag = first.headers["ETag"]

    again = get(f"/images/{image_id}/status", if_none_match=etag)
    assert (again.status_code, again.body, again.headers["ETag"]) == (304, b"", etag)

    pipeline.register(services.uploads.created("uploads/cat.jpg"), services)
    [original] = services.queue.receive()
    pipeline.process(original, services.clock() + timedelta(seconds=60), Alone(), services)
    changed = get(f"/images/{image_id}/status", if_none_match=etag)
    assert (changed.status_code, changed.json_body["status"]) == (200, "COMPLETED")
    assert changed.headers["ETag"] != etag


def test_a_rendition_is_where_its_name_leads(services: FakeServices) -> None:
    """A redirect that browsers may keep for as long as the link works."""
    image = uploaded(services)
    rendition = image.renditions[0]

    response = get(f"/images/{image.image_id}/renditions/{rendition.name}")

    assert response.status_code == 302
    assert response.headers["Location"] == services.renditions.url(rendition, 3600)
    assert response.headers["Cache-Control"] == "private, max-age=1800"


def test_a_rendition_that_is_none_is_not_found(services: FakeServices) -> None:
    """404 tells the names there are; an image that has none says so."""
    image = uploaded(services)
    problem = assert_problem(
        get(f"/images/{image.image_id}/renditions/huge"), 404, "rendition_not_found"
    )
    assert "thumbnail, small" in problem["detail"]
    waiting = upload("waits.jpg").json_body["image_id"]
    problem = assert_problem(get(f"/images/{waiting}/renditions/small"), 404, "rendition_not_found")
    assert "none yet" in problem["detail"]
    assert_problem(get("/images/unknown/renditions/small"), 404, "image_not_found")


def test_similar_images_are_shown_in_full_with_their_distance(services: FakeServices) -> None:
    """The same picture twice and another one."""
    image, twin = uploaded(services), uploaded(services, "uploads/twin.jpg")
    uploaded(services, "uploads/other.jpg", saved(photo(64, 48, seed=9)))

    [similar] = get(f"/images/{image.image_id}/similar?max_distance=1").json_body["images"]

    assert (similar["image_id"], similar["distance"]) == (twin.image_id, 0)
    assert similar["renditions"][0]["url"].startswith("https://")


@pytest.mark.parametrize("query", ["max_distance=8", "max_distance=-1", "limit=0", "limit=101"])
def test_similar_images_have_limits(services: FakeServices, query: str) -> None:
    """Beyond 7 bits the index could not find all."""
    image = uploaded(services)

    assert_problem(get(f"/images/{image.image_id}/similar?{query}"), 400, "invalid_request")


# ── the catalog ──────────────────────────────────────────────────────────────────────────────────


def test_labels_are_counted(services: FakeServices) -> None:
    """By prefix in whatever case; ``total`` counts beyond the limit."""
    uploaded(services)
    uploaded(services, "uploads/2.jpg")

    assert get("/labels").json_body == {"labels": [{"name": "Cat", "images": 2}], "total": 1}
    assert get("/labels?prefix=CA").json_body["total"] == 1
    assert get("/labels?prefix=dog").json_body == {"labels": [], "total": 0}
    assert_problem(get("/labels?limit=1001"), 400, "invalid_request")


def test_stats_tell_every_status(services: FakeServices) -> None:
    """Those of no image included, deleted ones not."""
    image = uploaded(services)
    uploaded(services, "uploads/broken.jpg", b"This is no picture.")
    upload("waits.jpg")

    stats = get("/stats").json_body

    assert stats["images"] == {"QUEUED": 1, "PROCESSING": 0, "COMPLETED": 1, "FAILED": 1}
    assert stats["original_bytes"] == len(PICTURE)
    assert stats["rendition_bytes"] == sum(each.size_bytes for each in image.renditions)


def test_health_is_told(services: FakeServices) -> None:
    """200, or 503 while the catalog is away."""
    assert get("/health").json_body == {"status": "ok"}
    services.catalog.before("bookmark", Outage("secret"))

    problem = assert_problem(get("/health"), 503, "unhealthy")
    assert "secret" not in json.dumps(problem)


# ── the root ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/json", "application/json"),
        ("application/json, text/plain, */*", "application/json"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html"),
        ("text/html, application/json", "text/html"),
        ("*/*", "text/html"),
    ],
)
def test_the_root_is_a_page_for_people_and_a_list_for_programs(
    services: FakeServices, accept: str, kind: str
) -> None:
    """By what is accepted."""
    uploaded(services)

    response = get("/?limit=1" if "json" in kind else "/", accept=accept)

    assert response.status_code == 200
    assert response.headers.get("Content-Type", "application/json").startswith(kind)
    if "json" in kind:
        listed = get("/images").json_body
        assert response.json_body == listed


def test_the_root_fetches_from_a_url(services: FakeServices) -> None:
    """As POST /images does, with the same guard and the same refusals."""
    url = quote("http://169.254.169.254/latest/meta-data", safe="")

    assert_problem(get(f"/?url={url}&name=cat.jpg"), 422, "unfetchable_url")
    assert_problem(get("/?url=ftp%3A%2F%2Fx%2Fy"), 400, "invalid_request")
    assert_problem(get("/?url="), 400, "invalid_request")
    assert_problem(get(f"/?name={'x' * 1025}"), 400, "invalid_request")
    assert_problem(get(f"/?url={url}&name=.."), 400, "invalid_request")
    assert services.uploads.calls == []


def test_the_page_bears_whatever_is_put_behind_it() -> None:
    """As those do who count where people come from."""
    assert get("/?utm_source=mail&name=cat.jpg").body.startswith(b"<!doctype html>")


def test_the_root_fetches_for_no_page_of_another_origin(services: FakeServices) -> None:
    """A picture on somebody's site, whose address is this, uploads nothing here."""
    url = quote("http://169.254.169.254/", safe="")

    response = get(f"/?url={url}", sec_fetch_site="cross-site")

    assert_problem(response, 403, "cross_site_request")
    assert services.uploads.calls == []


@pytest.mark.parametrize("auth", ["key", "cognito"])
def test_the_root_gives_strangers_the_page_alone(
    monkeypatch: pytest.MonkeyPatch, auth: str
) -> None:
    """It is open so that people can sign in, and so nothing else may go through it."""
    monkeypatch.setattr(app, "settings", lambda: Auth(auth))

    assert_problem(get("/", accept="application/json"), 401, "sign_in_required")
    assert_problem(get("/?url=http%3A%2F%2Fx.example%2Fy"), 401, "sign_in_required")


class Auth:
    """Settings as far as the root needs them."""

    api_allowed_origins = ()
    user_pool_arn = "arn:aws:cognito-idp:eu-central-1:123456789012:userpool/a"
    user_pool_client_id = "client"

    def __init__(self, api_auth: str) -> None:
        self.api_auth = api_auth


# ── other origins ────────────────────────────────────────────────────────────────────────────────


def allowing(monkeypatch: pytest.MonkeyPatch, *origins: str) -> None:
    settings = Auth("none")
    settings.api_allowed_origins = origins  # type: ignore[assignment]
    monkeypatch.setattr(app, "settings", lambda: settings)


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site", "origin": ELSEWHERE},
        {"sec_fetch_site": "same-site", "origin": "http://localhost:3000"},
        {"sec_fetch_site": "cross-site"},
        {"origin": ELSEWHERE, "host": "127.0.0.1:8000"},
        {"origin": "null", "host": "127.0.0.1:8000"},
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("DELETE", "/images/x"), ("POST", "/images/x/reprocess"), ("POST", "/images")],
)
def test_a_page_of_another_origin_changes_nothing(
    services: FakeServices, method: str, path: str, headers: dict[str, str]
) -> None:
    """Unless that origin is allowed: a browser sends simple requests without asking."""
    response = request(method, path, PICTURE, **headers)

    problem = assert_problem(response, 403, "cross_site_request")
    assert "API_ALLOWED_ORIGINS" in problem["detail"]
    assert services.uploads.calls == services.catalog.calls == []


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "same-origin", "origin": "http://127.0.0.1:8000"},
        {"sec_fetch_site": "none"},
        {"origin": "http://127.0.0.1:8000", "host": "127.0.0.1:8000"},
        {},
    ],
)
def test_own_pages_and_programs_change_what_they_like(
    services: FakeServices, headers: dict[str, str]
) -> None:
    """The page itself, somebody who types the address, and whatever is no browser."""
    image = uploaded(services)

    assert request("DELETE", f"/images/{image.image_id}", **headers).status_code == 202


def test_an_allowed_origin_may_read_and_write(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named in the answer, errors included, and told where an upload went."""
    allowing(monkeypatch, FRIEND, "https://other.example")
    image = uploaded(services)

    for path in ("/stats", "/images/unknown"):
        headers = get(path, origin=FRIEND, sec_fetch_site="cross-site").headers
        assert headers["Access-Control-Allow-Origin"] == FRIEND
        assert headers["Vary"] == "Origin"
        assert "location" in headers["Access-Control-Expose-Headers"]
    gone = request(
        "DELETE", f"/images/{image.image_id}", origin=FRIEND, sec_fetch_site="cross-site"
    )
    assert gone.status_code == 202


def test_any_other_origin_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one that is not listed, nor one that begins or ends like it."""
    allowing(monkeypatch, FRIEND)

    for origin in (ELSEWHERE, f"{FRIEND}.evil.example", "https://evil-friend.example", "null"):
        headers = get("/stats", origin=origin).headers
        assert "Access-Control-Allow-Origin" not in headers
        assert headers["Vary"] == "Origin"


def test_without_origins_there_is_no_cors() -> None:
    """By default the API speaks to its own page alone."""
    headers = get("/stats", origin=ELSEWHERE).headers

    assert not [name for name in headers if name.lower().startswith("access-control")]


def test_any_origin_may_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a star."""
    allowing(monkeypatch, "*")

    assert get("/stats", origin=ELSEWHERE).headers["Access-Control-Allow-Origin"] == ELSEWHERE


def test_a_browser_is_told_what_it_may_send(monkeypatch: pytest.MonkeyPatch) -> None:
    """The methods of the path and the headers that the API reads."""
    allowing(monkeypatch, FRIEND)

    response = request("OPTIONS", "/images/x", origin=FRIEND, sec_fetch_site="cross-site")

    assert response.status_code == 204
    assert response.headers["Access-Control-Allow-Origin"] == FRIEND
    assert response.headers["Access-Control-Allow-Methods"] == "DELETE, GET, OPTIONS"
    for header in ("authorization", "content-type", "idempotency-key", "x-api-key"):
        assert header in response.headers["Access-Control-Allow-Headers"]


def test_another_method_is_told_which_there_are() -> None:
    """405 with Allow, on every path."""
    for path in app.app.routes:
        allowed = {
            method
            for method, route in app.app.routes[path].items()
            if hasattr(route.view_function, "operation")
        }
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - allowed:
            response = request(method, path)
            assert_problem(response, 405, "method_not_allowed")
            assert set(response.headers["Allow"].split(", ")) == allowed | {"OPTIONS"}
