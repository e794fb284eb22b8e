"""Whatever a picture, a user or a service says is text on the page, never markup."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.fake_api import FakeApi, box, failed, image, quarantined, refused

OpenFake = Callable[..., Page]

EVIL = """<img src=x onerror="document.title='owned'"> '">{{1}}"""


def everywhere() -> dict[str, Any]:
    """An image whose every string is hostile."""
    made = image(2, EVIL, key=f"uploads/{EVIL}", format=EVIL, color_mode=EVIL, notes=[EVIL])
    made["labels"][0] |= {"parents": [EVIL], "boxes": [box(0.1, 0.1, 0.5, 0.5)]}
    made["exif"] = dict.fromkeys(("make", "model", "lens", "taken_at"), EVIL)
    made["renditions"][0] |= {"name": EVIL, "format": EVIL}
    sure = {"confidence": 90.0, "box": box(0.1, 0.1)}
    made["faces"] = [{**sure, "attributes": [{"name": EVIL, "value": EVIL, "confidence": 90.0}]}]
    made["text"] = [{**sure, "text": EVIL}]
    made["celebrities"] = [{**sure, "name": EVIL, "urls": [EVIL, "javascript:alert(1)"]}]
    made["moderation_labels"] = [{"name": EVIL, "confidence": 90.0, "parent": EVIL}]
    made["duplicates"] = [{"image_id": "image000003", "distance": 1, "is_exact": False}]
    made["fingerprint"] |= {"colors": [f"red;background:url({EVIL})", EVIL], "placeholder": EVIL}
    made["versions"] = [
        {
            "version_id": EVIL,
            "uploaded_at": EVIL,
            "size_bytes": 1,
            "is_current": True,
            "is_deleted": False,
        }
    ]
    return made


def assert_harmless(page: Page) -> None:
    assert page.title() == "Image pipeline"
    assert page.locator("img[src=x]").count() == 0


def test_an_image_may_say_anything(open_fake: OpenFake, api: FakeApi) -> None:
    """All that is known of it: in gallery, facets, suggestions and in full."""
    other = quarantined(3, EVIL, key=f"uploads/{EVIL}", labels=[])
    api.put(failed(1), everywhere(), other)
    api.images["image000001"]["error"]["message"] = EVIL
    page = open_fake()
    expect(page.locator("#facets button")).to_contain_text(EVIL)
    page.get_by_role("combobox").fill("<img")
    expect(page.get_by_role("option").first).to_contain_text(EVIL)
    expect(page.locator(".tile.failed")).to_contain_text(EVIL)
    expect(page.locator(".tile.withheld .reason")).to_have_text(EVIL)
    page.locator(".tile.completed .face").click()
    expect(page.locator("#detail-name")).to_have_text(EVIL)
    expect(page.locator(".versions")).to_contain_text(EVIL)
    expect(page.locator(".box")).to_have_text([EVIL, EVIL, "Face 1", EVIL])
    expect(page.locator(".attributes")).to_contain_text(EVIL)
    expect(page.locator(".duplicates")).to_contain_text(EVIL)
    expect(page.locator(".people a")).to_have_count(0)
    expect(page.locator(".palette li")).to_have_count(2)
    for fact in ("Camera", "Lens", "Notes", "Format"):
        definition = page.locator("dl div").filter(has=page.get_by_text(fact, exact=True))
        expect(definition).to_contain_text(EVIL)
    assert_harmless(page)
    page.locator(".chip.label").first.click()
    expect(page.locator(".chip[aria-pressed=true]")).to_contain_text(EVIL)
    assert_harmless(page)


def test_an_address_may_say_anything(open_fake: OpenFake, api: FakeApi) -> None:
    """Labels, words and dates from a link that somebody has sent."""
    api.put(image(1))
    evil = "%3Cimg src=x onerror=document.title='owned'%3E"
    page = open_fake(f"#label={evil}&text={evil}&min_confidence={evil}&from={evil}")
    expect(page.get_by_role("heading", name="No images with “<img src=x")).to_be_visible()
    assert_harmless(page)


def test_an_error_may_say_anything(open_fake: OpenFake, api: FakeApi) -> None:
    """What the API refuses with, in the banner and in the tray."""
    api.answers["GET", "/images"] = refused(400, "invalid_request", EVIL)
    api.answers["POST", "/uploads"] = refused(400, "invalid_request", EVIL)
    page = open_fake()
    expect(page.get_by_role("alert")).to_contain_text(EVIL)
    page.set_input_files(
        "#files", {"name": EVIL.replace("/", ""), "mimeType": "image/png", "buffer": b"x"}
    )
    expect(page.locator(".upload .state")).to_have_text(f"{EVIL}.")
    assert_harmless(page)


@pytest.mark.parametrize("url", ["javascript:document.title='owned'", "data:text/html,owned"])
def test_a_rendition_is_on_the_web_or_nowhere(open_fake: OpenFake, api: FakeApi, url: str) -> None:
    """A link that would run something is none."""
    made = image(1)
    made["renditions"].append({**made["renditions"][0], "name": "tiny", "width": 1, "url": url})
    api.put(made)
    page = open_fake()
    page.locator(".tile .face").click()
    link = page.locator(".renditions a").filter(has_text="tiny")
    expect(link).to_be_visible()
    assert link.get_attribute("href") is None
