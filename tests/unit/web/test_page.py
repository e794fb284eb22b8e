"""The page's files and headers; what the page does is tried in a browser, in tests/browser."""

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from chalice.app import Chalice, Request, Response

from chalicelib.errors import FileNotFound
from chalicelib.model import Rendition
from chalicelib.web.page import front_page, policy, static_file, static_files
from chalicelib.web.views import LinkMaker
from tests.fakes import Clock, FakeUploads

PICTURES = "https://renditions.s3.eu-central-1.amazonaws.com"
PAGES = ("index.html", "docs.html")
ROUTES = {".", "./", "docs", "openapi.json"}
MODULES = sorted(name for name in static_files() if name.endswith(".js"))


def link(_rendition: Rendition, _expires_s: int) -> str:
    return f"{PICTURES}/small/cat.jpg?X-Amz-Signature=abc"


def front(request: Request, link: LinkMaker = link, **sign_in: str) -> Response:
    return front_page(request, link, FakeUploads(Clock()), sign_in)


def request(path: str = "/api/", **headers: str) -> Request:
    event: dict[str, Any] = {
        "headers": {name.replace("_", "-"): value for name, value in headers.items()},
        "multiValueQueryStringParameters": None,
        "pathParameters": None,
        "requestContext": {"path": path, "httpMethod": "GET", "resourcePath": "/"},
        "body": None,
        "isBase64Encoded": False,
        "stageVariables": None,
    }
    return Request(event, None)


class Markup(HTMLParser):
    """The elements of a page: (tag, attributes)."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def links(self) -> list[str]:
        return [
            value
            for _, attributes in self.elements
            for name, value in attributes.items()
            if name in {"src", "href"} and value and not value.startswith("#")
        ]


def test_pictures_may_come_from_where_links_to_renditions_lead() -> None:
    """No origin is guessed: it is read off a link."""
    answer = front(request())
    assert answer.status_code == 200
    directives = answer.headers["Content-Security-Policy"].split("; ")
    assert f"img-src 'self' blob: data: {PICTURES}" in directives
    assert [each.split()[0] for each in directives if PICTURES in each] == [
        "connect-src",  # to save one
        "img-src",
    ]


@pytest.mark.parametrize(
    "directive",
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    ],
)
def test_the_policy_is_strict(directive: str) -> None:
    """The page may load and run its own files alone, and be framed by nobody."""
    assert directive in policy(["https://pictures.example"]).split("; ")
    assert "unsafe" not in policy()


@pytest.mark.parametrize("name", ["app.js", "app.css", "icon.svg"])
def test_a_file_is_text_that_is_asked_for_again(name: str) -> None:
    """Text needs no base64; names do not change, so a browser asks by ETag each time."""
    answer = static_file(name, request())
    assert answer.status_code == 200
    assert isinstance(answer.body, str)
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    binary = Chalice("any").api.binary_types
    assert "isBase64Encoded" not in answer.to_dict(binary)


def test_scripts_are_served_as_what_browsers_run() -> None:
    """With nosniff a module of any other type is refused (HTML, 4.12.1)."""
    assert static_file("app.js", request()).headers["Content-Type"].startswith("text/javascript")
    assert static_file("app.css", request()).headers["Content-Type"].startswith("text/css")
    assert front(request()).headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("known", ["{}", "W/{}", '"other", {}', "*"])
def test_what_a_browser_has_is_not_sent_again(known: str) -> None:
    """304 has the headers and no body."""
    for ask in (
        lambda asked: static_file("app.js", asked),
        front,
    ):
        fresh: Response = ask(request())
        again: Response = ask(request(if_none_match=known.format(fresh.headers["ETag"])))
        assert (again.status_code, again.body) == (304, "")
        assert again.headers == fresh.headers


def test_what_has_changed_is_sent() -> None:
    """Another policy is another answer too: a 304 would leave the old one in force."""
    moved = front(request(), lambda *_: "https://elsewhere.example/x").headers["ETag"]
    assert front(request(if_none_match=moved)).status_code == 200
    assert static_file("app.js", request(if_none_match='"old"')).status_code == 200


@pytest.mark.parametrize(("path", "location"), [("/api", "api/"), ("/a/b", "b/")])
def test_without_its_last_slash_the_page_is_elsewhere(path: str, location: str) -> None:
    """Relative links of https://…/api would miss the stage."""
    answer = front(request(path))
    assert (answer.status_code, answer.headers["Location"]) == (302, location)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../page.py",
        "..%2fpage.py",
        "page.py",
        "/etc/passwd",
        "app.js/",
        "index.html",
        "docs.html",
    ],
)
def test_any_other_name_is_not_found(name: str) -> None:
    """Names are looked up among the files there are, and never joined to a path."""
    with pytest.raises(FileNotFound):
        static_file(name, request())


def test_the_page_is_told_how_to_sign_in() -> None:
    """As an attribute, escaped; the policy lets it talk to where one signs in and uploads to."""
    told = {"auth": "cognito", "client_id": '"<b>', "endpoint": "https://cognito.example/"}
    answer = front(request(), **told)

    [content] = [
        attributes["content"]
        for _, attributes in Markup(str(answer.body)).elements
        if attributes.get("name") == "sign-in"
    ]
    assert json.loads(content or "") == told
    directives = answer.headers["Content-Security-Policy"].split("; ")
    services = f"{PICTURES} https://uploads.example https://cognito.example"
    assert f"connect-src 'self' {services}" in directives


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_nothing_inline(page: str) -> None:
    """The policy forbids inline scripts, styles and handlers, and so they would do nothing."""
    for tag, attributes in Markup(static_files()[page].body).elements:
        assert tag != "style"
        assert tag != "script" or "src" in attributes
        assert not [name for name in attributes if name == "style" or name.startswith("on")]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_links_to_files_there_are(page: str) -> None:
    """All of them relative, none elsewhere but to the other pages."""
    links = {path for path in Markup(static_files()[page].body).links() if path not in ROUTES}
    assert all(path.startswith("static/") for path in links)
    assert {path.removeprefix("static/") for path in links} <= set(static_files())


def test_every_module_is_preloaded() -> None:
    """By the page that needs it: a chain of imports would be a chain of requests."""
    preloaded = {
        path.removeprefix("static/")
        for page in PAGES
        for path in Markup(static_files()[page].body).links()
    }
    assert set(MODULES) <= preloaded


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_plain(module: str) -> None:
    """It imports its neighbours alone, and makes no markup of text."""
    code = static_files()[module].body
    imported = re.findall(r"""(?:from|import) ["']([^"']+)["']""", code)
    assert {f"./{name}" for name in MODULES} >= set(imported)
    assert not re.search(r"(inner|outer)HTML|insertAdjacentHTML|document\.write|\beval\(", code)
