"""The API's documentation: made of ``openapi.json``, for people."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from localcloud.cloud import LocalCloud
from tests.browser.conftest import Hold, objections
from tests.browser.fake_api import Answer, FakeApi, refused

EVIL = "<img src=x onerror=document.title='owned'>"


@pytest.fixture
def open_docs(new_context: Callable[..., BrowserContext], cloud: LocalCloud) -> Callable[..., Page]:
    def open_docs(fragment: str = "", **options: Any) -> Page:
        page = new_context(**options).new_page()
        page.goto(f"{cloud.api_url}/docs{fragment}")
        return page

    return open_docs


def test_every_operation_is_there(open_docs: Callable[..., Page], cloud: LocalCloud) -> None:
    """With its path, its parameters, what it answers, and a command; none is left out."""
    page = open_docs()
    described = page.request.get(f"{cloud.api_url}/openapi.json").json()
    operations = [each for methods in described["paths"].values() for each in methods.values()]
    expect(page.locator("article .route")).to_have_count(len(operations))
    types = described["components"]["schemas"]
    expect(page.locator("article[id^=type-]")).to_have_count(len(types))
    listing = page.locator("#list_images")
    for word in ("/images", "min_confidence", "ImagePage", "200", "invalid_request", "curl http"):
        expect(listing).to_contain_text(word)
    listing.get_by_role("link", name="ImagePage").click()
    expect(page.locator("#type-ImagePage")).to_be_in_viewport()


def test_a_link_leads_to_an_operation(open_docs: Callable[..., Page]) -> None:
    """Though it is in the page only once the description is loaded."""
    page = open_docs("#delete_image")
    expect(page.locator("#delete_image")).to_be_in_viewport()


def test_the_filter_leaves_what_has_the_words(open_docs: Callable[..., Page]) -> None:
    """From a slash on; the contents go with it, and nothing found is said."""
    page = open_docs()
    expect(page.locator("article")).not_to_have_count(0)
    page.keyboard.press("/")
    page.keyboard.type("presigned delete_image")
    expect(page.get_by_text("Nothing has all of these words.")).to_be_visible()
    page.get_by_role("searchbox").fill("DELETE images")
    expect(page.locator("#delete_image")).to_be_visible()
    expect(page.locator("#show_stats")).to_be_hidden()
    expect(page.locator("#contents li:visible")).to_have_count(
        page.locator("article:visible").count()
    )


def test_the_filter_may_be_first(
    new_context: Callable[..., BrowserContext], cloud: LocalCloud
) -> None:
    """What is typed before the description is there holds when it is."""
    page = new_context().new_page()
    description = Hold(page, "**/openapi.json", "GET")
    page.goto(f"{cloud.api_url}/docs")
    page.get_by_role("searchbox").fill("DELETE images")
    description.release()
    expect(page.locator("#delete_image")).to_be_visible()
    expect(page.locator("#show_stats")).to_be_hidden()


def test_a_link_leads_to_what_the_filter_hides(open_docs: Callable[..., Page]) -> None:
    """To the type that an operation answers with, also when it is not found itself."""
    page = open_docs()
    expect(page.locator("#type-ImagePage")).to_be_visible()
    page.get_by_role("searchbox").fill("min_confidence")
    expect(page.locator("#type-ImagePage")).to_be_hidden()
    page.locator("#list_images").get_by_role("link", name="ImagePage").first.click()
    expect(page.locator("#type-ImagePage")).to_be_in_viewport()


def test_a_command_works_as_it_is_copied(open_docs: Callable[..., Page], cloud: LocalCloud) -> None:
    """Its address is the one that the page came from."""
    page = open_docs()
    command = page.locator("#check_health .copyable code").text_content() or ""
    assert command == f"curl {cloud.api_url}/health"
    assert page.request.get(command.removeprefix("curl ")).ok


def test_a_description_may_say_anything(open_fake: Callable[..., Page], api: FakeApi) -> None:
    """All of it is text; commands are quoted for a shell."""
    schema = {"type": "object", "properties": {EVIL: {"$ref": "#/components/schemas/Odd"}}}
    operation = {
        "operationId": "odd",
        "summary": EVIL,
        "description": f"`{EVIL}` and {EVIL}",
        "parameters": [{"name": "it's", "in": "query", "required": True, "example": "it's"}],
        "responses": {"200": {"description": EVIL}},
    }
    operation["parameters"][0]["schema"] = {"type": "string", "pattern": EVIL}
    document = {
        "info": {"title": "Odd", "version": EVIL, "description": EVIL},
        "paths": {"/odd": {"get": operation}},
        "components": {"schemas": {"Odd": schema}},
    }
    api.answers["GET", "/openapi.json"] = Answer(document)
    page = open_fake("docs")
    expect(page.locator("#odd")).to_contain_text(EVIL)
    expect(page.locator("#odd .copyable code")).to_have_text(
        "curl 'https://api.test/odd?it%27s=it%27s'"
    )
    assert page.title() == "Odd: API documentation"
    assert page.locator("img[src=x]").count() == 0


def test_without_a_description_that_is_said(open_fake: Callable[..., Page], api: FakeApi) -> None:
    api.answers["GET", "/openapi.json"] = refused(503, "unhealthy", "Later.")
    expect(open_fake("docs").get_by_role("alert")).to_contain_text("cannot be loaded")


@pytest.mark.parametrize(
    "options",
    [
        {"color_scheme": "light"},
        {"color_scheme": "dark"},
        {"viewport": {"width": 320, "height": 640}},
    ],
    ids=["light", "dark", "phone"],
)
def test_the_documentation_is_open_to_all(
    open_docs: Callable[..., Page], options: dict[str, Any]
) -> None:
    """axe-core finds nothing to object to, and nothing is wider than the screen."""
    page = open_docs(**options)
    expect(page.locator("article")).not_to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    page.get_by_role("searchbox").fill("similar")  # axe-core takes half a minute for all of it
    expect(page.locator("#list_similar")).to_be_visible()
    assert objections(page) == ""
