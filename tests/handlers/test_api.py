"""What the API does beside uploading and listing: every route through Chalice, over fakes."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from chalice.test import Client, HTTPResponse

import app
from chalicelib import pipeline
from chalicelib.errors import Throttled
from chalicelib.model import (
    BoundingBox,
    Face,
    FaceAttribute,
    Label,
    Recognition,
    TextLine,
    image_id_of,
)
from chalicelib.web import views
from tests.fakes import PICTURE, Alone, FakeServices, Outage, uploaded
from tests.pictures import photo, saved

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
    services.catalog.before("disclaim", Outage("so that both stay"))
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

    app.app(event, None)

    assert len(services.catalog.claims) == 2


def test_a_refused_request_may_be_mended_under_its_key(services: FakeServices) -> None:
    """Nothing has come of it, so the key is as good as new."""
    uploaded(services)

    assert_problem(upload("cat.jpg", idempotency_key="one"), 409, "key_taken")
    assert upload("dog.jpg", idempotency_key="one").status_code == 202


def test_a_repetition_after_a_deletion_says_so() -> None:
    """It is not uploaded again behind the back of whoever has deleted it."""
    image_id = upload("cat.jpg", idempotency_key="one").json_body["image_id"]
    request("DELETE", f"/images/{image_id}")

    problem = assert_problem(upload("cat.jpg", idempotency_key="one"), 404, "image_not_found")
    assert "deleted since" in problem["detail"]


def test_no_name_and_the_name_none_are_different_requests() -> None:
    """As are one type and another."""
    upload("", idempotency_key="one")

    assert_problem(upload("None", idempotency_key="one"), 422, "idempotency_key_reused")
    changed = upload("", idempotency_key="one", content_type="image/png")
    assert_problem(changed, 422, "idempotency_key_reused")


# ── what clients get wrong ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("body", [b'{"url": "https://x.example/y.jpg"}', b"url=https%3A%2F%2Fx"])
def test_json_that_does_not_say_so_is_no_picture(services: FakeServices, body: bytes) -> None:
    """``curl -d`` sends it as a form; the answer says what to do instead."""
    kind = "application/x-www-form-urlencoded"
    response = request("POST", "/images", body, content_type=kind)

    problem = assert_problem(response, 415, "unsupported_media_type")
    assert "--json" in problem["detail"]
    assert services.uploads.calls == []


@pytest.mark.parametrize("kind", ["image/jpg", "image/pjpeg", "IMAGE/JPEG; charset=utf-8"])
def test_names_of_types_that_clients_make_up_are_understood(
    services: FakeServices, kind: str
) -> None:
    """The picture is stored under the type that is registered."""
    assert upload("cat.jpg", content_type=kind).status_code == 202
    assert services.uploads.content_types["uploads/cat.jpg"] == "image/jpeg"


@pytest.mark.parametrize("body", [b"[" * 60_000, b'{"a":' * 10_000, b"\xff", b"", b"nul"])
def test_json_that_cannot_be_read_is_refused(body: bytes) -> None:
    """However deep it goes."""
    response = request("POST", "/images", body, content_type="application/json")

    assert_problem(response, 400, "invalid_request")


def test_json_has_its_limit() -> None:
    """It names a URL and a file, and nothing that takes more."""
    response = post_json("/images", {"url": "https://x.example/" + "y" * 70_000})

    assert_problem(response, 413, "payload_too_large")


def test_an_answer_is_not_as_long_as_what_was_wrong() -> None:
    """Of thousands of unknown members it names a few, and of a long one the beginning."""
    wish = {f"unknown{number:05}": 1 for number in range(2_000)} | {"x" * 10_000: 1}

    response = post_json("/uploads", wish)

    problem = assert_problem(response, 400, "invalid_request")
    assert len(problem["errors"]) == 11  # and the name that is missing
    assert len(response.body) < 10_000


def test_every_fault_is_told_wherever_it_is() -> None:
    """In the query, in a header and in the body."""
    response = post_json(
        "/images?name=..", {"url": "ftp://x", "name": "/"}, idempotency_key="not one"
    )

    problem = assert_problem(response, 400, "invalid_request")
    names = [fault["parameter"] for fault in problem["errors"]]
    assert names == ["Idempotency-Key", "name", "url"]


@pytest.mark.parametrize("origin", ["http://[", "http://a b", "x" * 5_000])
@pytest.mark.parametrize(("method", "path"), [("DELETE", "/images/x"), ("GET", "/?url=x")])
def test_an_origin_that_is_none_is_a_foreign_one(method: str, path: str, origin: str) -> None:
    """It is answered like every other."""
    response = request(method, path, origin=origin, host="127.0.0.1:8000")

    assert_problem(response, 403, "cross_site_request")


def test_whatever_fails_on_the_way_to_a_route_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Chalice's own 500 would say it in another way."""

    def broken(*_: object) -> None:
        raise Outage("secret")

    monkeypatch.setattr(app.browsers, "refuse_foreign_page", broken)

    problem = assert_problem(request("DELETE", "/images/x"), 500, "internal_error")
    assert "secret" not in json.dumps(problem)
    assert "secret" in caplog.text


@pytest.mark.parametrize("image_id", ["x", "A" * 26, "a" * 27, "a" * 3_000, "%2e%2e", "%00"])
@pytest.mark.parametrize(
    ("method", "rest"),
    [("GET", ""), ("GET", "/status"), ("GET", "/similar"), ("DELETE", ""), ("POST", "/reprocess")],
)
def test_what_can_be_no_id_is_not_found(
    services: FakeServices, method: str, rest: str, image_id: str
) -> None:
    """Without asking the catalog, which takes keys of 2 KB at most."""
    response = request(method, f"/images/{image_id}{rest}")

    assert_problem(response, 404, "image_not_found")
    assert services.catalog.calls == []


def test_a_catalog_that_is_busy_asks_to_come_again(services: FakeServices) -> None:
    """503 says when."""
    services.catalog.before("get", Throttled("The catalog takes no more writes for now."))

    response = get(f"/images/{'a' * 26}")

    assert_problem(response, 503, "busy")
    assert response.headers["Retry-After"] == "5"


# ── one image ────────────────────────────────────────────────────────────────────────────────────


def test_an_image_shows_what_was_uploaded_under_its_key(services: FakeServices) -> None:
    """Newest first, marks of deletion included."""
    uploaded(services, body=PICTURE)
    services.uploads.remove("uploads/cat.jpg")
    image = uploaded(services, body=saved(photo(32, 32)))

    shown = get(f"/images/{image.image_id}").json_body
    versions = shown["versions"]

    assert [version["is_current"] for version in versions] == [True, False, False]
    assert [version["is_deleted"] for version in versions] == [False, True, False]
    assert versions[0]["version_id"] == image.original.version_id
    assert versions[2]["size_bytes"] == len(PICTURE)
    assert shown["filename"] is None


def test_a_name_is_kept_as_the_client_gave_it() -> None:
    """Whatever was cleaned off for the key."""
    name = "C:\\photos\\ Cat\u202e (final).jpg"
    accepted = upload(name).json_body

    assert accepted["key"] == "uploads/Cat (final).jpg"
    assert get(f"/images/{accepted['image_id']}").json_body["filename"] == name


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
    assert response.headers["Cache-Control"] == "private, max-age=60"


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


@pytest.mark.parametrize("query", ["min_confidence=90", "min_confidence=0&status=COMPLETED"])
def test_a_confidence_of_nothing_is_refused(query: str) -> None:
    """Else it would narrow nothing, and all were shown."""
    problem = assert_problem(get(f"/images?{query}"), 400, "invalid_request")

    assert problem["detail"] == "'min_confidence' is for label or text, of which there is none."


@pytest.mark.parametrize("asked", ["text=sale", "label=Poster", "label=Poster&text=sale"])
def test_a_confidence_is_of_labels_and_words(services: FakeServices, asked: str) -> None:
    """Of all that are asked for."""
    line = TextLine("Sale", 95.76, BoundingBox(0.1, 0.2, 0.3, 0.4))
    services.recognizer.recognition = Recognition(labels=(Label("Poster", 95.76),), text=(line,))
    image = uploaded(services)

    assert shown_in(get(f"/images?{asked}&min_confidence=95.76")) == [image.image_id]
    assert shown_in(get(f"/images?{asked}&min_confidence=95.77")) == []


# ── crowds ───────────────────────────────────────────────────────────────────────────────────────

MOST_ANSWERED_BYTES = 6 * 1024 * 1024
"""What Lambda answers with (https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html)."""


@pytest.fixture
def crowds(services: FakeServices) -> list[str]:
    """The ids of 60 images with a hundred faces each, of which all is known; newest first."""
    attributes = [FaceAttribute(f"attribute_{n}", "false", 99.12345678 - n) for n in range(16)]
    face = Face(BoundingBox(0.12345678, 0.2, 0.12345678, 0.4), 99.12345678, tuple(attributes))
    one = replace(uploaded(services), recognition=Recognition(faces=(face,) * 100))
    for number in range(60):
        original = replace(one.original, key=f"uploads/{number}.jpg")
        services.catalog.save(replace(one, original=original), previous=None)
    services.catalog.records.pop(one.image_id)
    return sorted(services.catalog.records, reverse=True)


def shown_in(response: HTTPResponse) -> list[str]:
    """The ids of the images in an answer that Lambda can give."""
    assert response.status_code == 200
    assert len(json.dumps(response.body.decode())) < MOST_ANSWERED_BYTES
    return [image["image_id"] for image in response.json_body["images"]]


def test_a_page_of_crowds_comes_short(crowds: list[str]) -> None:
    """As many images as one answer carries, and all of them page by page."""
    pages: list[list[str]] = []
    cursor = ""
    while cursor is not None:
        response = get("/images?limit=55" + (cursor and f"&cursor={cursor}"))
        pages.append(shown_in(response))
        cursor = response.json_body["cursor"]

    assert [image_id for page in pages for image_id in page] == crowds
    assert 20 < len(pages[0]) < 55


def test_a_page_shows_one_image_however_large(
    crowds: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nobody came past it."""
    monkeypatch.setattr(views, "MOST_SHOWN_BYTES", 1)

    page = get("/images?limit=2").json_body

    assert [image["image_id"] for image in page["images"]] == crowds[:1]
    assert shown_in(get(f"/images?cursor={page['cursor']}")) == crowds[1:2]


def test_fewer_crowds_are_shown_as_similar(crowds: list[str]) -> None:
    """The nearest."""
    shown = shown_in(get(f"/images/{crowds[0]}/similar?limit=55"))

    assert 20 < len(shown) < 55
    assert shown == sorted(crowds[1:])[: len(shown)]


# ── the catalog ──────────────────────────────────────────────────────────────────────────────────


def test_labels_are_counted(services: FakeServices) -> None:
    """By prefix in whatever case; ``total`` counts beyond the limit."""
    uploaded(services)
    uploaded(services, "uploads/2.jpg")

    animals = {"name": "Animal", "images": 2}, {"name": "Cat", "images": 2}
    assert get("/labels").json_body == {"labels": [*animals], "total": 2}
    assert get("/labels?limit=1").json_body == {"labels": [animals[0]], "total": 2}
    assert get("/labels?prefix=CA").json_body["total"] == 1
    assert get("/labels?prefix=dog").json_body == {"labels": [], "total": 0}
    assert_problem(get("/labels?limit=1001"), 400, "invalid_request")


def test_stats_tell_every_status(services: FakeServices) -> None:
    """Those of no image included, deleted ones not."""
    image = uploaded(services)
    uploaded(services, "uploads/broken.jpg", b"This is no picture.")
    upload("waits.jpg")

    stats = get("/stats").json_body

    counts = {"QUEUED": 1, "PROCESSING": 0, "COMPLETED": 1, "QUARANTINED": 0, "FAILED": 1}
    assert stats["images"] == counts
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


def test_the_root_does_all_of_it_for_callers_that_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    """With IAM the root itself is guarded, so whoever gets that far is known."""
    monkeypatch.setattr(app, "settings", lambda: Auth("iam"))

    assert get("/", accept="application/json").json_body == {"images": [], "cursor": None}
    assert_problem(get("/?url=ftp%3A%2F%2Fx"), 400, "invalid_request")


class Auth:
    """Settings as far as the root needs them."""

    api_allowed_origins = ()
    user_pool_arn = "arn:aws:cognito-idp:eu-central-1:123456789012:userpool/a"
    user_pool_client_id = "client"

    def __init__(self, api_auth: str) -> None:
        self.api_auth = api_auth


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/docs", "/openapi.json", "/health"])
def test_open_routes_answer_to_head(path: str) -> None:
    """As uptime checks and link previews ask."""
    assert request("HEAD", path).status_code == 200


def test_head_fetches_nothing(services: FakeServices) -> None:
    """Whoever only looks at a link uploads nothing by it."""
    assert request("HEAD", "/?url=http%3A%2F%2F10.0.0.1%2Fx.jpg").status_code == 200
    assert services.uploads.calls == []


def test_answers_are_for_their_caller_alone(services: FakeServices) -> None:
    """They hold signed links; nobody is to keep them, or to take them for something else."""
    uploaded(services)

    for response in (get("/images"), get("/images?limit=0"), upload("x.jpg")):
        assert response.headers["Cache-Control"] == "private, no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert get("/", accept="application/json").headers["Vary"] == "Accept"
    assert get("/static/app.js").headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    ("path", "prefix"),
    [("/", ""), ("/dev/", "/dev"), ("/dev", "/dev"), ("/base/path/", "/base/path")],
)
def test_links_from_the_root_lead_to_where_the_api_is(
    services: FakeServices, path: str, prefix: str
) -> None:
    """On a stage, and on a domain of its own with a base path."""
    image = uploaded(services)
    event = {
        "requestContext": {"httpMethod": "GET", "resourcePath": "/", "path": path},
        "headers": {"accept": "application/json"},
        "multiValueQueryStringParameters": None,
        "pathParameters": None,
        "stageVariables": None,
        "body": None,
        "isBase64Encoded": False,
    }

    answer: Any = app.app(event, None)

    [shown] = json.loads(answer["body"])["images"]
    assert shown["links"]["self"] == f"{prefix}/images/{image.image_id}"


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
        assert headers["Vary"] == "Accept, Origin"
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
        assert headers["Vary"] == "Accept, Origin"


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
