"""A click takes a moment from press to release, in which what was pressed may change."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Hold, until
from tests.browser.fake_api import STORAGE, FakeApi, image, quarantined

OpenFake = Callable[..., Page]

LATER = "2026-02-01T00:00:00.000Z"


def press(target: Locator) -> None:
    target.hover()
    target.page.mouse.down()


def heard(page: Page, api: FakeApi, *news: dict[str, Any]) -> None:
    """Have the API tell something new, and wait until the page has heard of it."""
    asked = len(api.requests("GET", "/stats"))
    api.put(*news)
    until(page, lambda: len(api.requests("GET", "/stats")) > asked)
    page.wait_for_timeout(200)  # for what is answered to be shown


@pytest.mark.parametrize(
    "news",
    [[image(1, updated_at=LATER)], [image(1, status="PROCESSING"), image(2)]],
    ids=["it is completed", "another one comes"],
)
def test_a_tile_that_changes_opens(
    open_fake: OpenFake, api: FakeApi, news: list[dict[str, Any]]
) -> None:
    """What is in it may become something else, and its place another one's."""
    api.put(image(1, status="PROCESSING"))
    page = open_fake()
    press(page.locator(".tile"))
    heard(page, api, *news)
    page.mouse.up()
    expect(page.locator("#detail-name")).to_have_text("picture 1.jpg")
    expect(page.locator(".tile")).to_have_count(len(api.images))


def test_a_label_whose_count_changes_is_chosen(open_fake: OpenFake, api: FakeApi) -> None:
    """And has its new count afterwards."""
    api.put(image(1, "Cat"), image(2, status="PROCESSING"))
    page = open_fake()
    chip = page.locator("#facets .chip")
    press(chip)
    heard(page, api, image(2, "Cat"))
    page.mouse.up()
    expect(page.locator("#facets .chip[aria-pressed=true]")).to_have_text("Cat2, 2 images")


def test_a_status_whose_place_changes_is_chosen(open_fake: OpenFake, api: FakeApi) -> None:
    """Another one that appears beside it, or a count, moves it."""
    api.put(image(1, status="PROCESSING"))
    page = open_fake()
    press(page.get_by_role("radio", name="Failed 0"))
    heard(page, api, quarantined(1, "Gore", updated_at=LATER))
    page.mouse.up()
    expect(page.get_by_role("heading", name="No failures")).to_be_visible()
    expect(page.get_by_role("radio", name="Quarantined 1")).to_be_visible()
    expect(page.get_by_role("radio", name="Failed 0")).to_be_checked()


def test_an_upload_that_goes_on_is_cancelled(open_fake: OpenFake) -> None:
    """Though it has come to its turn, and those above it take less room by now."""
    page = open_fake()
    first = Hold(page, f"{STORAGE}/**", "POST")
    names = [f"{number}.png" for number in range(4)]
    page.set_input_files(
        "#files", [{"name": name, "mimeType": "image/png", "buffer": b"pixels"} for name in names]
    )
    last = page.locator(".upload").filter(has_text="3.png")
    until(page, lambda: len(first.kept) == 3)
    press(last.get_by_role("button", name="Cancel"))
    fourth = Hold(page, f"{STORAGE}/**", "POST")
    first.release()
    until(page, lambda: fourth.kept)
    page.mouse.up()
    expect(last).to_contain_text("Cancelled")
    expect(page.locator('.upload[data-state="STORED"]')).to_have_count(3)


@pytest.mark.parametrize(
    ("target", "leads_to"),
    [(".facts .chip", "#label=Cat"), (".strip button", "#image=image000002")],
    ids=["label", "similar picture"],
)
def test_what_is_told_of_an_image_that_changes_leads_on(
    open_fake: OpenFake, api: FakeApi, target: str, leads_to: str
) -> None:
    """While it is shown in full, all that is told of it is told anew."""
    api.put(image(1, "Cat", status="PROCESSING"), image(2, "Cat"))
    page = open_fake("#image=image000001")
    press(page.locator(target))
    heard(page, api, image(1, "Cat", updated_at=LATER))
    page.mouse.up()
    page.wait_for_url(f"**/{leads_to}")
