"""Images that are withheld: what everybody sees of them, and what a reviewer can do."""

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Hold, objections
from tests.browser.fake_api import (
    Answer,
    FakeApi,
    failed,
    image,
    image_id_of,
    missing,
    quarantined,
    refused,
    renditions,
)

OpenFake = Callable[..., Page]

ID = "image000002"
SHOW = f"/images/{ID}/review"
RELEASE = f"/images/{ID}/release"


@pytest.fixture
def withheld(api: FakeApi) -> dict[str, Any]:
    """An image in quarantine, between two others."""
    made = quarantined(2, "Weapon Violence", "Gore", version_id="v/1 +")
    api.put(image(1), made, image(3))
    return made


def detail(page: Page) -> Locator:
    return page.locator("#detail")


def veil(page: Page) -> Locator:
    return detail(page).locator(".veiled")


def picture(page: Page) -> Locator:
    return detail(page).locator(".frame img")


def show(page: Page) -> None:
    detail(page).get_by_role("button", name="Show the picture").click()


def release(page: Page) -> None:
    detail(page).get_by_role("button", name="Release").click()


def alert(page: Page) -> Locator:
    return detail(page).get_by_role("alert")


@pytest.mark.usefixtures("withheld")
def test_a_withheld_image_has_a_tile_without_picture(open_fake: OpenFake) -> None:
    """A placeholder, a mark, and the reasons; nothing of it is loaded."""
    page = open_fake()
    tile = page.locator(".tile").filter(has_text="picture 2.jpg")
    expect(tile).to_contain_text("Quarantined")
    expect(tile).to_contain_text("Weapon Violence, Gore")
    expect(tile.locator("img")).to_have_count(0)
    assert tile.locator("canvas").evaluate("canvas => canvas.width") > 1
    expect(page.locator(".tile img")).to_have_count(2)


@pytest.mark.parametrize(
    ("status", "words"), [("QUEUED", "Queued"), ("FAILED", "Trying failed too often.")]
)
def test_what_is_withheld_stays_so_whatever_its_status(
    open_fake: OpenFake, api: FakeApi, status: str, words: str
) -> None:
    """It may be processed again: what counts is what it is withheld for."""
    error = failed(9)["error"] if status == "FAILED" else None
    api.put(quarantined(2, "Gore", status=status, error=error))
    page = open_fake()
    expect(page.locator(".tile")).to_contain_text("Quarantined")
    expect(page.locator(".tile")).to_contain_text(words)
    page.locator(".tile .face").click()
    expect(veil(page)).to_contain_text(words)
    expect(detail(page).locator("#detail-line")).to_contain_text("Quarantined")


@pytest.mark.usefixtures("withheld")
def test_quarantine_can_be_filtered_for(open_fake: OpenFake) -> None:
    """With how many there are, in the address too."""
    page = open_fake()
    page.get_by_role("radio", name="Quarantined 1").check()
    expect(page.locator(".tile")).to_have_count(1)
    expect(page.locator(".tile")).to_contain_text("picture 2.jpg")
    assert urlsplit(page.url).fragment == "show=quarantined"


def test_a_catalog_without_quarantine_does_not_speak_of_it(
    open_fake: OpenFake, api: FakeApi
) -> None:
    """But to whoever asks for it by the address."""
    api.put(image(1))
    page = open_fake()
    expect(page.get_by_role("radio", name="Completed 1")).to_be_visible()
    expect(page.get_by_role("radio", name="Quarantined")).to_be_hidden()
    page.evaluate("location.hash = 'show=quarantined'")
    expect(page.get_by_role("heading", name="Nothing in quarantine")).to_be_visible()
    expect(page.get_by_role("radio", name="Quarantined")).to_be_checked()


@pytest.mark.usefixtures("withheld")
def test_the_detail_says_why(open_fake: OpenFake) -> None:
    """Moderation labels with confidence and parent, and what follows from each verdict."""
    page = open_fake(f"#image={ID}")
    reasons = detail(page).locator("section").filter(has_text="Why it is withheld")
    expect(reasons.get_by_role("button", name="Weapon Violence")).to_contain_text("in Violence")
    expect(reasons.get_by_role("button", name="Weapon Violence")).to_contain_text("92 %")
    expect(reasons).to_contain_text("everybody who may use this page can see it")
    expect(detail(page).get_by_role("button", name="Delete …")).to_have_count(1)
    expect(veil(page)).to_contain_text("Withheld for Weapon Violence, Gore.")


@pytest.mark.usefixtures("withheld")
def test_a_picture_is_shown_when_it_is_asked_for(open_fake: OpenFake, api: FakeApi) -> None:
    """Not before, and not any more once the image is left, by arrows or for the gallery."""
    page = open_fake(f"#image={ID}")
    expect(page.locator(".tile")).to_have_count(3)
    expect(veil(page)).to_be_visible()
    assert api.requests("GET", SHOW) == []
    show(page)
    expect(picture(page)).to_have_class("loaded")
    hide = detail(page).get_by_role("button", name="Hide the picture")
    expect(hide).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(detail(page).locator("#detail-name")).to_have_text("picture 1.jpg")
    page.keyboard.press("ArrowLeft")
    expect(veil(page)).to_be_visible()
    expect(picture(page)).to_have_count(0)
    show(page)
    hide.click()
    expect(veil(page).get_by_role("button")).to_be_focused()
    expect(picture(page)).to_have_count(0)
    assert len(api.requests("GET", SHOW)) == 2


@pytest.mark.usefixtures("withheld")
def test_a_picture_that_comes_late_is_not_shown(open_fake: OpenFake) -> None:
    """Whoever has left the image, and come back, has not asked again."""
    page = open_fake(f"#image={ID}")
    expect(page.locator(".tile")).to_have_count(3)
    look = Hold(page, f"**{SHOW}", "GET")
    show(page)
    expect(veil(page).get_by_role("button")).to_be_disabled()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    expect(veil(page).get_by_role("button")).to_be_enabled()
    with page.expect_response(f"**{SHOW}"):
        look.release()
    page.wait_for_timeout(200)  # for what must not happen
    expect(picture(page)).to_have_count(0)


def test_a_released_image_is_followed(
    open_fake: OpenFake, api: FakeApi, withheld: dict[str, Any]
) -> None:
    """The version that was shown; through the queue, to its picture, by itself."""
    page = open_fake(f"#image={ID}")
    release(page)
    expect(detail(page).locator("#detail-line")).to_contain_text("Quarantined, Queued")
    expect(detail(page)).to_contain_text("Released by a reviewer: it is shown once")
    expect(detail(page).get_by_role("button", name="Release")).to_have_count(0)
    [asked] = api.requests("POST", RELEASE)
    assert parse_qs(urlsplit(asked.url).query) == {"version_id": ["v/1 +"]}
    withheld |= {
        "status": "COMPLETED",
        "withheld_for": [],
        "renditions": renditions(withheld),
        "updated_at": "2026-02-01T00:00:01Z",
    }
    expect(picture(page)).to_have_class("loaded")
    expect(detail(page).locator("#detail-line")).to_contain_text("Completed")
    expect(detail(page).locator("#detail-line")).to_contain_text("Released by a reviewer")
    page.keyboard.press("Escape")
    expect(page.locator(".tile.completed")).to_have_count(3)


def test_a_release_may_fail_to_be_processed(open_fake: OpenFake, api: FakeApi) -> None:
    """Then it is decided already: what is left is to process it again, or to delete it."""
    error = failed(9)["error"]
    api.put(quarantined(2, "Gore", status="FAILED", error=error, released=True))
    page = open_fake(f"#image={ID}")
    expect(veil(page)).to_contain_text("Trying failed too often.")
    expect(detail(page).get_by_role("button", name="Release")).to_have_count(0)
    expect(detail(page).get_by_role("button", name="Delete …")).to_be_visible()
    detail(page).get_by_role("button", name="Process again").click()
    expect(detail(page).locator("#detail-line")).to_contain_text("Queued")


def test_the_verdict_is_about_what_was_seen(
    open_fake: OpenFake, api: FakeApi, withheld: dict[str, Any]
) -> None:
    """Where another version came between the list and the look, about that one."""
    page = open_fake(f"#image={ID}")
    expect(veil(page)).to_be_visible()
    newer = {**withheld, "version_id": "v2", "updated_at": "2026-02-02T00:00:00Z"}
    api.images[ID] = newer
    show(page)
    expect(picture(page)).to_have_class("loaded")
    release(page)
    expect(detail(page).locator("#detail-line")).to_contain_text("Queued")
    assert api.requests("POST", RELEASE)[0].url.endswith("?version_id=v2")


@pytest.mark.usefixtures("withheld")
@pytest.mark.parametrize(("asked", "act"), [(("GET", SHOW), show), (("POST", RELEASE), release)])
def test_who_is_no_reviewer_hears_what_to_do(
    open_fake: OpenFake, api: FakeApi, asked: tuple[str, str], act: Callable[[Page], None]
) -> None:
    """Beside the image, which stays withheld; it can be tried again."""
    api.answers[asked] = refused(403, "reviewers_only", "No.")
    page = open_fake(f"#image={ID}")
    act(page)
    expect(alert(page)).to_contain_text("put you into the group “reviewers”")
    expect(veil(page)).to_be_visible()
    del api.answers[asked]
    act(page)
    expect(alert(page)).to_be_hidden()


@pytest.mark.parametrize(("asked", "act"), [(("GET", SHOW), show), (("POST", RELEASE), release)])
def test_somebody_may_have_been_faster(
    open_fake: OpenFake,
    api: FakeApi,
    withheld: dict[str, Any],
    asked: tuple[str, str],
    act: Callable[[Page], None],
) -> None:
    """It is said, and the image shown as it is by now."""
    page = open_fake(f"#image={ID}")
    expect(veil(page)).to_be_visible()
    released = image(2, released=True, updated_at="2026-02-02T00:00:00Z")
    api.answers[asked] = refused(409, "not_quarantined", "No.")
    withheld.update(released)
    act(page)
    expect(alert(page)).to_contain_text("somebody was faster")
    expect(picture(page)).to_have_class("loaded")
    expect(veil(page)).to_have_count(0)


def test_a_version_that_nobody_has_seen_is_not_released(
    open_fake: OpenFake, api: FakeApi, withheld: dict[str, Any]
) -> None:
    """It is shown instead: the next verdict is about it."""
    page = open_fake(f"#image={ID}")
    expect(veil(page)).to_contain_text("Withheld for Weapon Violence, Gore.")
    newer = quarantined(2, "Nudity", version_id="v2", updated_at="2026-02-02T00:00:00Z")
    withheld.update(newer)
    api.answers["POST", RELEASE] = refused(409, "version_replaced", "No.")
    release(page)
    expect(alert(page)).to_contain_text("Another version was uploaded meanwhile")
    expect(veil(page)).to_contain_text("Withheld for Nudity.")
    del api.answers["POST", RELEASE]
    release(page)
    expect(detail(page).locator("#detail-line")).to_contain_text("Queued")
    assert api.requests("POST", RELEASE)[1].url.endswith("?version_id=v2")


@pytest.mark.usefixtures("withheld")
@pytest.mark.parametrize("act", [show, release])
def test_one_that_was_deleted_meanwhile_goes(
    open_fake: OpenFake, api: FakeApi, act: Callable[[Page], None]
) -> None:
    """As anywhere on the page."""
    page = open_fake(f"#image={ID}")
    expect(page.locator(".tile")).to_have_count(3)
    expect(veil(page)).to_be_visible()
    api.answers["GET", SHOW] = api.answers["POST", RELEASE] = missing()
    act(page)
    expect(page.get_by_role("alert")).to_contain_text("This image has been deleted.")
    expect(page.locator(".tile")).to_have_count(2)


def test_a_picture_that_is_not_there_yet_is_said(
    open_fake: OpenFake, api: FakeApi, withheld: dict[str, Any]
) -> None:
    """Instead of an empty frame."""
    api.answers["GET", SHOW] = Answer(withheld)
    page = open_fake(f"#image={ID}")
    show(page)
    expect(alert(page)).to_contain_text("There is no picture of it yet")
    expect(veil(page).get_by_role("button")).to_be_enabled()


@pytest.mark.usefixtures("withheld")
def test_the_other_verdict_is_deletion(open_fake: OpenFake, api: FakeApi) -> None:
    """It asks first, and goes on to the next that is withheld."""
    api.put(quarantined(0, "Gore"))
    page = open_fake(f"#show=quarantined&image={ID}")
    expect(page.locator(".tile")).to_have_count(2)
    detail(page).get_by_role("button", name="Delete …").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(detail(page).locator("#detail-name")).to_have_text("picture 0.jpg")
    assert ID not in api.images
    assert len(api.requests("DELETE", f"/images/{ID}")) == 1


def test_an_upload_that_is_withheld_is_no_failure(open_fake: OpenFake, api: FakeApi) -> None:
    """Nor a success: the tray stays open, and says what it waits for."""
    for number, (name, make) in enumerate({"cat.png": image, "gun.png": quarantined}.items(), 1):
        reasons = ["Weapons"] if make is quarantined else []
        api.put(make(number, *reasons, image_id=image_id_of(name), key=f"uploads/{name}"))
    page = open_fake()
    for sent, name in enumerate(("cat.png", "gun.png")):  # what is said last stays
        expect(page.locator(".upload[data-state=COMPLETED]")).to_have_count(sent)
        file = {"name": name, "mimeType": "image/png", "buffer": b"x"}
        page.set_input_files("#files", file)  # type: ignore[arg-type]
    row = page.locator(".upload").filter(has_text="gun.png")
    expect(row).to_contain_text("Withheld until somebody has looked at it: Weapons")
    expect(page.locator("#tray-count")).to_have_text("1 of 2 completed")
    expect(page.locator("#tray-held")).to_have_text("1 withheld")
    expect(page.locator("#tray-bad")).to_have_text("")
    expect(row.locator(".actions button")).to_have_count(0)
    expect(page.locator("#live")).to_contain_text("gun.png is withheld until somebody")
    row.get_by_role("button", name="gun.png").click()
    expect(veil(page)).to_be_visible()


@pytest.mark.usefixtures("withheld")
@pytest.mark.parametrize(
    "options",
    [
        {"color_scheme": "light"},
        {"color_scheme": "dark"},
        {"color_scheme": "dark", "viewport": {"width": 320, "height": 640}, "has_touch": True},
    ],
    ids=["light", "dark", "phone"],
)
def test_review_stands_in_nobodys_way(open_fake: OpenFake, options: dict[str, Any]) -> None:
    """axe-core finds nothing to object to, and nothing is wider than the screen."""
    page = open_fake(reduced_motion="reduce", **options)
    expect(page.get_by_role("radio", name="Quarantined")).to_be_visible()
    assert objections(page) == ""
    page.locator(".tile.withheld .face").click()
    expect(veil(page)).to_be_visible()
    assert objections(page) == ""
    show(page)
    expect(picture(page)).to_have_class("loaded")
    assert objections(page) == ""
    for part in ("document.documentElement", "document.querySelector('.facts')"):
        assert page.evaluate(f"{part}.scrollWidth <= {part}.clientWidth")
