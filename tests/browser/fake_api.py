"""The page with an API in memory, both by Playwright's routing: no server, no cloud, no waiting."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from playwright.sync_api import BrowserContext, Request, Route

from chalicelib.model import words_of
from chalicelib.web.page import CONTENT_TYPES, FOLDER, policy
from tests.pictures import photo, saved

API = "https://api.test"
PICTURES = "https://renditions.test"
STORAGE = "https://uploads.test"
SIGN_IN = "https://cognito.test"

PICTURE = saved(photo(240, 160))
PLACEHOLDER = "IBgGHYZlk4lJyqVlv3pXl5Kc0A2l"
STATUSES = ("QUEUED", "PROCESSING", "COMPLETED", "QUARANTINED", "FAILED")
WHOLE = {"left": 0, "top": 0, "width": 1, "height": 1}
CORS = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "*"}


@dataclass
class Answer:
    """What the API says; a ``str`` as body is no JSON."""

    body: Any
    status: int = 200
    content_type: str = "application/json"


@dataclass
class FakeApi:
    """An API that answers as its description says; ``sign_in`` is what the page is told."""

    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    sign_in: Mapping[str, str] = field(default_factory=dict)
    page_size: int = 100
    asked: list[Request] = field(default_factory=list)
    answers: dict[tuple[str, str], Any] = field(default_factory=dict)
    """By method and path: an Answer, or what gives one for a request, instead of the usual one."""

    def put(self, *images: dict[str, Any]) -> None:
        """The oldest first."""
        for image in images:
            self.images[image["image_id"]] = image

    def install(self, context: BrowserContext) -> None:
        context.route(f"{API}/**", self._api)
        context.route(f"{STORAGE}/**", self._special)
        context.route(f"{SIGN_IN}/**", self._special)
        context.route(
            f"{PICTURES}/**",
            lambda route: route.fulfill(body=PICTURE, content_type="image/jpeg", headers=CORS),
        )

    def requests(self, method: str, path: str) -> list[Request]:
        return [
            request
            for request in self.asked
            if request.method == method and urlsplit(request.url).path == path
        ]

    # ── answering ────────────────────────────────────────────────────────────────────────────────

    def _special(self, route: Route) -> None:
        """What is no API of ours: storage and sign-in answer only what a test has them answer."""
        request = route.request
        self.asked.append(request)
        if request.method == "OPTIONS":
            route.fulfill(status=200, headers=CORS)
            return
        host = urlsplit(request.url).netloc
        answer = self.answers.get((request.method, host), Answer("", 204))
        self._fulfill(route, answer(request) if callable(answer) else answer, CORS)

    def _api(self, route: Route) -> None:
        request = route.request
        path = urlsplit(request.url).path
        if path in {"/", "/docs"} or path.startswith("/static/"):
            self._file(route, path)
            return
        self.asked.append(request)
        answer = self.answers.get((request.method, path))
        if callable(answer):
            answer = answer(request)
        self._fulfill(route, answer or self._answer(request, path))

    def _fulfill(self, route: Route, answer: Answer, headers: Mapping[str, str] = {}) -> None:
        is_text = isinstance(answer.body, str)
        route.fulfill(
            status=answer.status,
            body=answer.body if is_text else json.dumps(answer.body),
            content_type=answer.content_type,
            headers=dict(headers),
        )

    def _file(self, route: Route, path: str) -> None:
        name = {"/": "index.html", "/docs": "docs.html"}.get(path, path.rpartition("/")[2])
        told = f'content="{escape(json.dumps(dict(self.sign_in)))}"'
        route.fulfill(
            body=(FOLDER / name).read_text().replace('content="{}"', told),
            content_type=CONTENT_TYPES[f".{name.rpartition('.')[2]}"],
            headers={"Content-Security-Policy": policy([PICTURES], [PICTURES, STORAGE, SIGN_IN])},
        )

    def _answer(self, request: Request, path: str) -> Answer:
        query = parse_qs(urlsplit(request.url).query)
        overviews = {"/images": self._list, "/labels": self._labels, "/stats": self._stats}
        if request.method == "GET" and path in overviews:
            return overviews[path](query)
        match request.method, path.strip("/").split("/"):
            case "POST", ["uploads"]:
                return self._permit(request.post_data_json)
            case "GET", ["images", "uploads", name, "status"]:
                key = f"uploads/{unquote(name)}"
                found = [image for image in self.images.values() if image["key"] == key]
                return Answer(found[0]) if found else missing()
            case method, ["images", image_id, "review" | "release"] if image_id in self.images:
                return self._reviewed(method, self.images[image_id])
            case method, ["images", image_id, *rest] if image_id in self.images:
                return self._one(method, self.images[image_id], rest)
        return missing()

    def _one(self, method: str, image: dict[str, Any], rest: list[str]) -> Answer:
        match method, rest:
            case "GET", []:
                return Answer({**image, "versions": image.get("versions", [])})
            case "GET", ["status"]:
                return Answer(image)
            case "GET", ["similar"]:
                others = [other for other in self.images.values() if other is not image]
                alike = [other for other in others if other["labels"] == image["labels"]]
                return Answer({"images": [{**other, "distance": 3} for other in alike[:5]]})
            case "POST", ["reprocess"]:
                image |= {"status": "QUEUED", "error": None, "updated_at": "2026-02-01T00:00:00Z"}
                return Answer(image, 202)
            case "DELETE", []:
                return Answer(self.images.pop(image["image_id"]), 202)
        return missing()

    def _reviewed(self, method: str, image: dict[str, Any]) -> Answer:
        if not image["withheld_for"]:
            return refused(409, "not_quarantined", "The image is not withheld.")
        if method == "GET":
            return Answer({**image, "renditions": renditions(image)})
        image |= {"status": "QUEUED", "released": True, "updated_at": "2026-02-01T00:00:00Z"}
        return Answer(image, 202)

    def _list(self, query: dict[str, list[str]]) -> Answer:
        found = list(reversed(self.images.values()))
        if query.keys() - {"limit", "cursor"}:
            found = [image for image in found if matches(image, query)]
        start = int(query.get("cursor", ["0"])[0])
        end = start + min(int(query["limit"][0]), self.page_size)
        cursor = str(end) if end < len(found) else None
        return Answer({"images": found[start:end], "cursor": cursor})

    def _labels(self, query: dict[str, list[str]]) -> Answer:
        prefix = query.get("prefix", [""])[0].lower()
        counts = Counter(
            label["name"]
            for image in self.images.values()
            for label in image["labels"]
            if label["name"].lower().startswith(prefix)
        )
        named = [{"name": name, "images": amount} for name, amount in counts.most_common()]
        return Answer({"labels": named[: int(query["limit"][0])], "total": len(named)})

    def _stats(self, _: dict[str, list[str]]) -> Answer:
        counts = Counter(image["status"] for image in self.images.values())
        return Answer({"images": {status: counts[status] for status in STATUSES}})

    def _permit(self, wish: dict[str, Any]) -> Answer:
        image_id, key = image_id_of(wish["name"]), f"uploads/{wish['name']}"
        fields = {"key": key, "policy": "signed", "Content-Type": wish["content_type"]}
        offered = {"url": f"{STORAGE}/", "fields": fields, "max_bytes": 50_000_000}
        expires_at = "2099-01-01T00:00:00.000Z"
        return Answer(
            {"image_id": image_id, "key": key, "upload": {**offered, "expires_at": expires_at}}
        )


def image_id_of(name: str) -> str:
    """The id of what is uploaded under a name."""
    return name.encode().hex()[:26]


def matches(image: dict[str, Any], query: dict[str, list[str]]) -> bool:
    return (
        image["status"] in query.get("status", STATUSES)
        and names_in(image, float(query.get("min_confidence", ["0"])[0]))
        >= set(query.get("label", []))
        and words_in(image) >= {word for text in query.get("text", []) for word in words_of(text)}
        and query.get("from", [""])[0] <= image["uploaded_at"] <= query.get("to", ["~"])[0]
    )


def names_in(image: dict[str, Any], least: float) -> set[str]:
    """What an image is found by as a label."""
    found = [*image["labels"], *image["moderation_labels"], *image["celebrities"]]
    sure = [each for each in found if each["confidence"] >= least]
    return {name for each in sure for name in (each["name"], *each.get("parents", ()))}


def words_in(image: dict[str, Any]) -> set[str]:
    return {word for line in image["text"] for word in words_of(line["text"])}


def missing() -> Answer:
    return refused(404, "image_not_found", "There is no such image.")


def refused(status: int, code: str, detail: str) -> Answer:
    problem = {"title": "No", "status": status, "detail": detail, "code": code, "message": detail}
    return Answer(problem, status, "application/problem+json")


def image(number: int, *labels: str, url: str = "", **changes: Any) -> dict[str, Any]:
    """An image as the API tells of it; the higher its number, the newer."""
    minutes, seconds = divmod(number, 60)
    hours, minutes = divmod(minutes, 60)
    moment = f"2026-01-31T{hours:02}:{minutes:02}:{seconds:02}.000Z"
    made = {
        "image_id": f"image{number:06}",
        "key": f"uploads/picture {number}.jpg",
        "version_id": "1",
        "status": "COMPLETED",
        "error": None,
        "width": 1200 + number * 37 % 900,
        "height": 1000,
        "format": "JPEG",
        "color_mode": "RGB",
        "size_bytes": 51_207,
        "exif": {},
        "labels": [
            {"name": name, "confidence": 90.0, "parents": [], "categories": [], "boxes": []}
            for name in labels
        ],
        "image_properties": None,
        "moderation_labels": [],
        "faces": [],
        "text": [],
        "celebrities": [],
        "withheld_for": [],
        "released": False,
        "duplicates": [],
        "fingerprint": {"phash": "0" * 16, "placeholder": PLACEHOLDER, "colors": ["#8d6549"]},
        "uploaded_at": moment,
        "updated_at": moment,
        "processed_at": moment,
        **changes,
    }
    return made if "renditions" in made else made | {"renditions": renditions(made, url)}


def renditions(image: dict[str, Any], url: str = "") -> list[dict[str, Any]]:
    """What is made of an image: one that shows the whole of it."""
    image_id = image["image_id"]
    return [
        {
            "name": "small",
            "key": f"thumbnails/{image_id}/small.jpg",
            "format": "jpeg",
            "width": 640,
            "height": round(640 * image["height"] / image["width"]),
            "size_bytes": 3268,
            "window": WHOLE,
            "url": url or f"{PICTURES}/{image_id}.jpg",
        }
    ]


def failed(number: int, **changes: Any) -> dict[str, Any]:
    error = {"code": "retries_exhausted", "message": "trying failed too often"}
    nothing = {"renditions": [], "fingerprint": None, "width": None, "height": None}
    return image(number, status="FAILED", error=error, **nothing, **changes)


def quarantined(number: int, *reasons: str, **changes: Any) -> dict[str, Any]:
    """An image that is withheld for these moderation labels."""
    found = [{"name": name, "confidence": 92.0, "parent": "Violence"} for name in reasons]
    held = {"status": "QUARANTINED", "withheld_for": list(reasons), "renditions": []}
    return image(number, **{**held, "moderation_labels": found, **changes})


def box(left: float, top: float, width: float = 0.2, height: float = 0.2) -> dict[str, float]:
    return {"left": left, "top": top, "width": width, "height": height}
