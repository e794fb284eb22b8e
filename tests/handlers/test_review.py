"""What a stage that withholds images shows, to whom: every route, over services in memory."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, get_type_hints
from urllib.parse import quote

import msgspec
import pytest
from chalice.test import Client, HTTPResponse

import app
from chalicelib import pipeline
from chalicelib.bootstrap import settings
from chalicelib.model import (
    BoundingBox,
    Celebrity,
    Face,
    FaceAttribute,
    Image,
    ImageProperties,
    Label,
    ModerationLabel,
    QuarantineRule,
    Recognition,
    TextLine,
    image_id_of,
)
from chalicelib.web import schema
from tests.fakes import PICTURE, RECIPE, Alone, FakeServices, Killed, Outage, uploaded
from tests.pictures import photo, saved

CLIENT = Client(app.app)
KEY = "uploads/cat.jpg"
TWIN = "uploads/twin.jpg"
IMAGE_ID = image_id_of(KEY)
BOX = BoundingBox(0.1, 0.2, 0.3, 0.4)
STRICT = replace(RECIPE, quarantine=(QuarantineRule("Violence", 80),))
SEEN = Recognition(
    labels=(Label("Cat", 98.5, ("Animal",), ("Animals and Pets",), (BOX,)),),
    properties=ImageProperties(50, 60, 70),
    moderation=(
        ModerationLabel("Violence", 92.5),
        ModerationLabel("Weapon Violence", 92.5, "Violence"),
    ),
    faces=(
        Face(BOX, 99.9, (FaceAttribute("smile", "true", 90), FaceAttribute("age_range", "25–35"))),
        Face(BOX, 80),
    ),
    text=(TextLine("Summer SALE – 50 %", 97, BOX), TextLine("Straße №5", 95, BOX)),
    celebrities=(Celebrity("Ada Lovelace", 91, BOX, ("www.wikidata.org/wiki/Q7259",)),),
)


@pytest.fixture(autouse=True)
def in_memory(monkeypatch: pytest.MonkeyPatch, services: FakeServices) -> FakeServices:
    """The one seam: everything the handlers reach goes through ``app.services``."""
    monkeypatch.setattr(app, "services", lambda: services)
    services.recipe = STRICT
    services.recognizer.recognition = SEEN
    return services


def request(method: str, path: str, **headers: str) -> HTTPResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return CLIENT.http.request(method, path, headers=named, body=b"")


def get(path: str, **headers: str) -> HTTPResponse:
    return request("GET", path, **headers)


def assert_problem(response: HTTPResponse, status: int, code: str) -> dict[str, Any]:
    problem: dict[str, Any] = response.json_body
    assert (response.status_code, problem["code"]) == (status, code), problem
    assert response.headers["Content-Type"] == "application/problem+json"
    return problem


def process(services: FakeServices) -> None:
    original = services.catalog.records[IMAGE_ID].original
    pipeline.process(original, services.clock() + timedelta(seconds=60), Alone(), services)


def assert_as_described(answer: dict[str, Any], kind: Any) -> None:
    """The answer has the type of the API's description, and nothing beside it."""
    msgspec.convert(answer, kind)
    assert set(answer) <= set(get_type_hints(kind))


# ── what is shown of a withheld image ────────────────────────────────────────────────────────────


def quarantined(services: FakeServices) -> None:
    uploaded(services)


def waiting(services: FakeServices) -> None:
    uploaded(services)
    pipeline.reprocess(IMAGE_ID, services)


def in_work(services: FakeServices) -> None:
    waiting(services)
    services.uploads.before("get", Killed())
    with pytest.raises(Killed):
        process(services)


def given_up(services: FakeServices) -> None:
    waiting(services)
    original = services.catalog.records[IMAGE_ID].original
    pipeline.give_up(original, Outage(), services.clock(), services)


def released_and_waiting(services: FakeServices) -> None:
    uploaded(services)
    pipeline.release(IMAGE_ID, "", services)


STATES = (quarantined, waiting, in_work, given_up, released_and_waiting)
READS = (
    "/images",
    "/images?status=QUARANTINED",
    "/images?label=violence&label=animal&text=sale",
    "/images?label=Ada%20Lovelace",
    f"/images/{IMAGE_ID}",
    "/images/uploads/cat.jpg/status",
    f"/images/{IMAGE_ID}/status",
    f"/images/{IMAGE_ID}/similar",
    f"/images/{image_id_of(TWIN)}/similar",
    f"/images/{IMAGE_ID}/renditions/thumbnail",
    f"/images/{IMAGE_ID}/renditions/small",
    f"/images/{IMAGE_ID}/renditions/none",
    "/labels",
    "/stats",
    "/?status=QUARANTINED",
    "/",
)


def keys_of(services: FakeServices) -> set[str]:
    return {each.key for image in services.catalog.records.values() for each in image.renditions}


def assert_nothing_leads_to_a_rendition(services: FakeServices, response: HTTPResponse) -> None:
    said = response.body.decode() + json.dumps(response.headers)
    assert len(keys_of(services)) == 4
    for word in ("quarantine/", "thumbnails/", "processed/", "https://renditions.example/any?"):
        assert word not in said
    for key in keys_of(services):
        assert key not in said
        assert quote(key, safe="") not in said


@pytest.mark.parametrize("path", READS)
@pytest.mark.parametrize("state", STATES)
def test_nothing_leads_to_what_is_withheld(
    services: FakeServices, state: Callable[[FakeServices], None], path: str
) -> None:
    """Whatever its status is by now: no key and no link, wherever an image is told of."""
    uploaded(services, TWIN)
    state(services)

    assert_nothing_leads_to_a_rendition(services, get(path, accept="application/json"))


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "reprocess"), ("POST", "release"), ("DELETE", "")],
)
def test_nobody_who_acts_is_led_to_it_either(
    services: FakeServices, state: Callable[[FakeServices], None], method: str, path: str
) -> None:
    """The answer is how far it is."""
    uploaded(services, TWIN)
    state(services)

    response = request(method, f"/images/{IMAGE_ID}/{path}".rstrip("/"))

    assert response.status_code == 202
    assert "quarantine/" not in response.body.decode()
    assert "renditions" not in response.json_body


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", ["thumbnail", "small", "none"])
def test_rendition_of_a_withheld_image_is_refused(
    services: FakeServices, state: Callable[[FakeServices], None], name: str
) -> None:
    """403 with the reasons; it does not even tell which renditions there are."""
    state(services)

    problem = assert_problem(get(f"/images/{IMAGE_ID}/renditions/{name}"), 403, "image_quarantined")

    assert "withheld (Violence, Weapon Violence)" in problem["detail"]


def test_withheld_image_is_shown_with_all_but_its_renditions(services: FakeServices) -> None:
    """What was seen, why it is withheld, and no picture."""
    uploaded(services)

    image = get(f"/images/{IMAGE_ID}").json_body

    assert_as_described(image, schema.ImageWithVersions)
    assert (image["status"], image["released"], image["renditions"]) == ("QUARANTINED", False, [])
    assert image["withheld_for"] == ["Violence", "Weapon Violence"]
    assert image["moderation_labels"] == [
        {"name": "Violence", "confidence": 92.5, "parent": ""},
        {"name": "Weapon Violence", "confidence": 92.5, "parent": "Violence"},
    ]
    box = {"left": 0.1, "top": 0.2, "width": 0.3, "height": 0.4}
    assert image["faces"] == [
        {
            "box": box,
            "confidence": 99.9,
            "attributes": [
                {"name": "smile", "value": "true", "confidence": 90},
                {"name": "age_range", "value": "25–35"},
            ],
        },
        {"box": box, "confidence": 80, "attributes": []},
    ]
    assert image["text"][0] == {"text": "Summer SALE – 50 %", "confidence": 97, "box": box}
    assert image["celebrities"] == [
        {
            "name": "Ada Lovelace",
            "confidence": 91,
            "box": box,
            "urls": ["www.wikidata.org/wiki/Q7259"],
        }
    ]
    assert len(image["fingerprint"]["sha256"]) == 64


def test_every_answer_is_as_it_is_described(services: FakeServices) -> None:
    """Of images with and without anything seen, waiting, withheld, served and failed."""
    uploaded(services)
    uploaded(services, TWIN)
    services.recipe = RECIPE
    uploaded(services, "uploads/served.jpg")
    services.recognizer.recognition = Recognition()
    uploaded(services, "uploads/bare.jpg", saved(photo(64, 48, seed=9)))
    uploaded(services, "uploads/text.jpg", b"This is no picture.")
    pipeline.submit("uploads/waits.jpg", PICTURE, "image/jpeg", "Waits", services)

    page = get("/images").json_body
    assert_as_described(page, schema.ImagePage)
    assert len(page["images"]) == 6
    for image in page["images"]:
        assert_as_described(image, schema.Image)
        path = f"/images/{image['image_id']}"
        assert_as_described(get(path).json_body, schema.ImageWithVersions)
        assert_as_described(get(f"{path}/status").json_body, schema.Progress)
        for similar in get(f"{path}/similar").json_body["images"]:
            assert_as_described(similar, schema.SimilarImage)
    assert_as_described(get(f"/images/{IMAGE_ID}/review").json_body, schema.WithheldImage)
    assert_as_described(get("/stats").json_body, schema.Stats)
    assert get("/stats").json_body["images"]["QUARANTINED"] == 2


def test_duplicates_are_shown(services: FakeServices) -> None:
    """Of a withheld image, too: they say nothing of where it lies."""
    uploaded(services)
    uploaded(services, TWIN)

    image = get(f"/images/{image_id_of(TWIN)}").json_body

    assert image["duplicates"] == [{"image_id": IMAGE_ID, "distance": 0, "is_exact": True}]


def test_status_says_withheld_and_each_change_is_news(services: FakeServices) -> None:
    """A client that knows one status is told of the next."""
    tags: list[str] = []

    def status() -> str:
        known = tags[-1] if tags else '"none"'
        response = get(f"/images/{IMAGE_ID}/status", if_none_match=known)
        assert response.status_code == 200
        tags.append(response.headers["ETag"])
        unchanged = get(f"/images/{IMAGE_ID}/status", if_none_match=tags[-1])
        assert unchanged.status_code == 304
        said: str = response.json_body["status"]
        return said

    pipeline.submit(KEY, PICTURE, "image/jpeg", "Cat", services)
    statuses = [status()]
    process(services)
    statuses.append(status())
    pipeline.release(IMAGE_ID, "", services)
    statuses.append(status())
    process(services)
    statuses.append(status())

    assert statuses == ["QUEUED", "QUARANTINED", "QUEUED", "COMPLETED"]
    assert len({*tags}) == 4


# ── review and release ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("state", STATES)
def test_reviewers_see_what_is_withheld(
    services: FakeServices, state: Callable[[FakeServices], None]
) -> None:
    """Everything, with links to the renditions that work for five minutes."""
    state(services)
    image = services.catalog.records[IMAGE_ID]

    response = get(f"/images/{IMAGE_ID}/review")

    assert response.status_code == 200
    assert_as_described(response.json_body, schema.WithheldImage)
    assert response.json_body["status"] == image.status
    links = {each["key"]: each["url"] for each in response.json_body["renditions"]}
    assert links == {each.key: services.renditions.url(each, 300) for each in image.renditions}
    assert len(links) == 2
    assert all(key.startswith("quarantine/") for key in links)


@pytest.mark.parametrize(("method", "act"), [("GET", "review"), ("POST", "release")])
def test_there_has_to_be_something_to_review(services: FakeServices, method: str, act: str) -> None:
    """404 for what is not there, 409 for what nothing withholds."""
    services.recipe = RECIPE
    uploaded(services)
    assert_problem(request(method, f"/images/{IMAGE_ID}/{act}"), 409, "not_quarantined")
    for unknown in ("a" * 26, "unknown", "..%2f"):
        response = request(method, f"/images/{unknown}/{act}")
        assert_problem(response, 404, "image_not_found")

    services.recipe = STRICT
    uploaded(services, TWIN)
    request("DELETE", f"/images/{image_id_of(TWIN)}")
    response = request(method, f"/images/{image_id_of(TWIN)}/{act}")
    assert_problem(response, 404, "image_not_found")


def test_released_image_is_served(services: FakeServices) -> None:
    """202 while it waits, and then it is like any other."""
    version_id = uploaded(services).original.version_id
    path = f"/images/{IMAGE_ID}"

    response = request("POST", f"{path}/release?version_id={version_id}")

    assert (response.status_code, response.headers["Location"]) == (202, path)
    assert_as_described(response.json_body, schema.Progress)
    assert response.json_body["status"] == "QUEUED"
    again = request("POST", f"{path}/release")
    assert again.status_code == 202
    process(services)
    image = get(path).json_body
    assert (image["status"], image["released"], image["withheld_for"]) == ("COMPLETED", True, [])
    assert [each["name"] for each in image["renditions"]] == ["thumbnail", "small"]
    assert get(f"{path}/renditions/thumbnail").status_code == 302
    assert_problem(get(f"{path}/review"), 409, "not_quarantined")
    assert_problem(request("POST", f"{path}/release"), 409, "not_quarantined")


def test_release_is_of_the_version_that_was_reviewed(services: FakeServices) -> None:
    """409 for another, and it stays withheld."""
    seen = uploaded(services).original.version_id
    uploaded(services, KEY, saved(photo(64, 48, seed=9)))

    response = request("POST", f"/images/{IMAGE_ID}/release?version_id={seen}")

    problem = assert_problem(response, 409, "version_replaced")
    assert "look at that one first" in problem["detail"]
    assert services.catalog.records[IMAGE_ID].status == "QUARANTINED"


@pytest.mark.parametrize("query", ["version_id=", "version=1", "version_id=" + "x" * 1025])
def test_release_with_a_parameter_that_makes_no_sense_is_refused(
    services: FakeServices, query: str
) -> None:
    """A version that was meant and not understood is not just any."""
    uploaded(services)

    response = request("POST", f"/images/{IMAGE_ID}/release?{query}")

    assert_problem(response, 400, "invalid_request")
    assert services.catalog.records[IMAGE_ID].status == "QUARANTINED"


def test_page_of_another_origin_releases_nothing(services: FakeServices) -> None:
    """A reviewer's browser sends no such thing for others."""
    uploaded(services)

    response = request("POST", f"/images/{IMAGE_ID}/release", sec_fetch_site="cross-site")

    assert_problem(response, 403, "cross_site_request")
    assert services.catalog.records[IMAGE_ID].status == "QUARANTINED"


# ── who is a reviewer ────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def auth(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets how callers are known."""

    def known_by(kind: str) -> None:
        monkeypatch.setattr(app, "settings", lambda: replace(settings(), api_auth=kind))

    return known_by


def act(name: str, image_id: str = IMAGE_ID, **context: Any) -> tuple[int, dict[str, Any]]:
    """Review or release, as API Gateway hands it over, with what it knows of the caller."""
    method = {"review": "GET", "release": "POST"}[name]
    event = {
        "requestContext": {
            "httpMethod": method,
            "resourcePath": f"/images/{{image_id}}/{name}",
            "path": f"/api/images/{image_id}/{name}",
            **context,
        },
        "headers": {},
        "multiValueQueryStringParameters": None,
        "pathParameters": {"image_id": image_id},
        "stageVariables": None,
        "body": None,
        "isBase64Encoded": False,
    }
    answer = app.app(event, None)
    return answer["statusCode"], json.loads(answer["body"])


def as_user(groups: object) -> dict[str, Any]:
    return {"authorizer": {"claims": {"sub": "somebody", "cognito:groups": groups}}}


@pytest.mark.parametrize("name", ["review", "release"])
@pytest.mark.parametrize(
    "groups",
    [
        "reviewers",
        "[reviewers]",
        "[a reviewers]",
        "[reviewers b]",
        "[a, reviewers]",
        "a,reviewers",
        "reviewers,b",
        "a, reviewers, b",
    ],
)
def test_members_of_the_group_review(
    services: FakeServices, auth: Callable[[str], None], groups: str, name: str
) -> None:
    """However API Gateway writes that they are."""
    auth("cognito")
    uploaded(services)

    status, _ = act(name, **as_user(groups))

    assert status == {"review": 200, "release": 202}[name]


STRANGERS: list[dict[str, Any]] = [
    *map(
        as_user,
        [
            *("", "[]", "not-reviewers", "reviewers2", "[not-reviewers]", "a,not-reviewers"),
            *("Reviewers", "REVIEWERS", "reviewer", "a,b", "[a b]", "reviewers;a", "a/reviewers"),
            *("my_reviewers", "review,ers", None, 7, {}),
        ],
    ),
    {"authorizer": {"claims": {"sub": "somebody", "groups": "reviewers"}}},
    {"authorizer": {"claims": {}}},
    {"authorizer": {"claims": None}},
    {"authorizer": {"cognito:groups": "reviewers"}},
    {"authorizer": None},
    {},
]


@pytest.mark.parametrize("name", ["review", "release"])
@pytest.mark.parametrize("context", STRANGERS, ids=str)
def test_others_neither_see_nor_release(
    services: FakeServices, auth: Callable[[str], None], context: dict[str, Any], name: str
) -> None:
    """403 that says whom to ask, whether there is such an image or not."""
    auth("cognito")
    uploaded(services)

    for image_id in (IMAGE_ID, "a" * 26):
        status, problem = act(name, image_id, **context)
        assert (status, problem["code"]) == (403, "reviewers_only")
        assert "the group 'reviewers'" in problem["detail"]
        assert "quarantine/" not in json.dumps(problem)
    assert services.catalog.records[IMAGE_ID].status == "QUARANTINED"
    assert services.queue.sent == []


@pytest.mark.parametrize("name", ["review", "release"])
@pytest.mark.parametrize("kind", ["none", "key", "iam"])
def test_where_nobody_is_known_by_name_callers_review(
    services: FakeServices, auth: Callable[[str], None], kind: str, name: str
) -> None:
    """With IAM a policy says who may call these paths; a key is everybody's who has it."""
    auth(kind)
    uploaded(services)

    status, _ = act(name, identity={"apiKeyId": "abc", "caller": "AIDA"})

    assert status == {"review": 200, "release": 202}[name]


def test_other_users_of_the_pool_do_the_rest(
    services: FakeServices, auth: Callable[[str], None]
) -> None:
    """The group is for what is withheld; whoever is signed in sees that it is, and may delete."""
    auth("cognito")
    uploaded(services)

    for path in ("/images", f"/images/{IMAGE_ID}", "/stats"):
        assert get(path).status_code == 200
    assert request("DELETE", f"/images/{IMAGE_ID}").status_code == 202


# ── search by words ──────────────────────────────────────────────────────────────────────────────


def found(query: str) -> list[str]:
    response = get(f"/images?{query}")
    assert response.status_code == 200, response.json_body
    return [image["image_id"] for image in response.json_body["images"]]


@pytest.mark.parametrize(
    "query",
    [
        "text=sale",
        "text=SALE",
        "text=summer%20sale",
        "text=sale&text=summer",
        "text=sale,summer!",
        "text=50",
        "text=strasse",
        "text=STRA%C3%9FE",
        "text=%E2%84%965",  # №, as it is written there
        "text=%EF%BC%B3%EF%BC%A1%EF%BC%AC%EF%BC%A5",  # in letters of full width
        "text=sale&label=cat",
        "text=sale&label=Animal&min_confidence=97",
        "text=sale&label=Weapon%20Violence&label=ada%20lovelace",
        "text=sale&status=QUARANTINED",
        "text=sale&from=2026-01-31&to=2026-01-31",
        "text=" + "&text=".join(["sale"] * 10),
    ],
)
def test_images_are_found_by_what_is_written_in_them(services: FakeServices, query: str) -> None:
    """In whatever case, order and compatible form, along with whatever else is asked for."""
    uploaded(services)

    assert found(query) == [IMAGE_ID]


@pytest.mark.parametrize(
    "query",
    [
        "text=sal",
        "text=sales",
        "text=summer&text=winter",
        "text=winter%20sale",
        "text=cat",
        "label=sale",
        "text=sale&status=COMPLETED",
        "text=sale&label=dog",
        "text=sale&label=cat&min_confidence=98",
        "text=sale&from=2026-02-01",
    ],
)
def test_images_without_the_words_are_not_found(services: FakeServices, query: str) -> None:
    """Whole words, all of them, and no labels."""
    uploaded(services)

    assert found(query) == []


@pytest.mark.parametrize(
    "query",
    [
        "text=",
        "text=%20",
        "text=!!!",
        "text=sale&text=",
        "text=sale&text=-",
        "text=" + "x" * 257,
        "text=" + "%20".join("abcdefghijk"),
        "text=" + "&text=".join("abcdefghijk"),
        "text=a%20b%20c%20d%20e%20f&text=g%20h%20i%20j%20k",
        "text=%F0%9F%A6%8A",
        "texts=sale",
    ],
)
def test_words_that_are_none_are_refused(query: str) -> None:
    """The parameter is named; what cannot be searched for is not passed over."""
    problem = assert_problem(get(f"/images?{query}"), 400, "invalid_request")

    assert problem["errors"][0]["parameter"] in ("text", "texts")


def test_root_lists_what_images_do(services: FakeServices) -> None:
    """As JSON, with the same parameters."""
    uploaded(services)

    for query in ("", "?text=sale", "?text=winter", "?status=QUARANTINED"):
        root = get(f"/{query}", accept="application/json")
        assert root.json_body == get(f"/images{query}").json_body
    assert_problem(get("/?text=", accept="application/json"), 400, "invalid_request")


def test_labels_of_every_kind_are_counted(services: FakeServices) -> None:
    """What one can search for by ``label``: parents, moderation labels and celebrities, too."""
    uploaded(services)

    counted = {each["name"] for each in get("/labels").json_body["labels"]}

    assert counted == {"Cat", "Animal", "Violence", "Weapon Violence", "Ada Lovelace"}


def test_image_is_announced_as_it_is_shown(services: FakeServices) -> None:
    """But for the links, which are not good for long."""
    image: Image = uploaded(services)

    shown = get(f"/images/{image.image_id}").json_body
    told = services.topic.published[-1].details

    beside = {"links", "filename", "versions", "revision"}
    assert {name: shown[name] for name in shown if name not in beside} == {
        name: told[name] for name in told if name not in beside and not name.startswith("event_")
    }
