"""What a person does on the page: each test uploads pictures of its own under names of its own."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
import skimage.data
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Hold, faded, objections, until
from tests.browser.fake_api import WHOLE, FakeApi, box, failed, image, missing, refused
from tests.pictures import exif, photo, saved

numbers = count(1)


def name_of(stem: str) -> str:
    return f"{stem} {next(numbers)}.jpg"


def send(page: Page, name: str, body: bytes | None = None) -> None:
    body = saved(photo(300, 200, next(numbers))) if body is None else body
    page.set_input_files("#files", {"name": name, "mimeType": "image/jpeg", "buffer": body})


def row(page: Page, name: str) -> Locator:
    """The upload's row in the tray."""
    return page.locator(".upload").filter(has_text=name)


def tile(page: Page, name: str) -> Locator:
    return page.locator(".tile").filter(has_text=name)


def face(page: Page, name: str) -> Locator:
    """What opens the image, in its tile."""
    return tile(page, name).locator(".face")


def first_label(page: Page, name: str) -> str:
    return (tile(page, name).locator("img").get_attribute("alt") or "").partition(",")[0]


def completed(page: Page, name: str, body: bytes | None = None) -> str:
    """Upload a picture and wait until the gallery shows it."""
    send(page, name, body)
    expect(tile(page, name).locator("img.loaded")).to_be_visible()
    return name


def upright_face() -> bytes:
    """An astronaut: a photo that has labels."""
    return saved(Image.fromarray(skimage.data.astronaut()), quality=90)


def test_an_upload_appears_with_its_labels(page: Page) -> None:
    """From the file to the picture in the gallery, with no reload."""
    name = completed(page, name_of("astronaut"), upright_face())
    expect(row(page, name)).to_contain_text(f"Completed: {first_label(page, name)}")
    assert first_label(page, name) != "Picture"


def test_a_name_is_never_markup(page: Page) -> None:
    """A file name with a handler in it is shown as it is, everywhere, and nothing runs."""
    name = f"<img src=x onerror=document.title='owned'> {next(numbers)}.jpg"
    completed(page, name)
    expect(row(page, name).locator(".name")).to_have_text(name)
    face(page, name).click()
    expect(page.locator("#detail-name")).to_have_text(name)
    page.get_by_role("button", name="Delete …").click()
    expect(page.locator("#confirm-name")).to_have_text(name)
    assert page.title() == "Image pipeline"
    assert page.locator("img[src=x]").count() == 0


def test_a_large_file_is_uploaded(page: Page) -> None:
    """One that would not fit through API Gateway goes straight to S3."""
    body = saved(photo(600, 400, 3)) + bytes(5_200_000)
    name = completed(page, name_of("large"), body)
    face(page, name).click()
    expect(page.locator("#detail")).to_contain_text("5.2 MB")


def test_a_failed_image_says_why(page: Page) -> None:
    """In the tray, in the gallery and in full, where its code is too; and can be tried again."""
    name = name_of("broken")
    send(page, name, b"this is no picture at all")
    expect(row(page, name).locator(".state")).to_contain_text("upload a JPEG")
    page.get_by_role("radio", name="Failed").check()
    expect(tile(page, name)).to_contain_text("upload a JPEG")
    face(page, name).click()
    detail = page.locator("#detail")
    expect(detail).to_contain_text("unsupported_format")
    shown = Hold(page, "**/images/*", "GET")  # for it to be seen on its way, however fast it is
    detail.get_by_role("button", name="Try again").click()
    expect(row(page, name).locator(".state")).to_have_text(re.compile("Queued|Processing"))
    shown.release()
    expect(row(page, name).locator(".state")).to_contain_text("upload a JPEG")
    expect(detail).to_contain_text("unsupported_format")


def test_a_taken_name_is_said(page: Page) -> None:
    """Nothing is overwritten; both can be kept."""
    name = completed(page, name_of("taken"))
    send(page, name)
    refused = row(page, name).filter(has_text="already")
    refused.get_by_role("button", name="Keep both").click()
    expect(tile(page, name.replace(".jpg", " (2).jpg"))).to_be_visible()


def test_an_image_is_fetched_from_a_url(page: Page) -> None:
    """What the API says of a URL that it does not fetch stands in the tray."""
    page.get_by_role("button", name="From URL").click()
    page.get_by_label("URL of the image").fill("http://10.0.0.1/cat.jpg")
    page.get_by_role("button", name="Fetch", exact=True).click()
    expect(row(page, "cat.jpg").locator(".state")).to_contain_text("not found on the public")
    expect(row(page, "cat.jpg").get_by_role("button", name="Try again")).to_be_visible()


def test_a_label_is_searched_by_a_click(page: Page) -> None:
    """Only images that have it are left, the address tells, and going back undoes it."""
    name = completed(page, name_of("portrait"), upright_face())
    plain = completed(page, name_of("plain"), saved(Image.new("RGB", (300, 200), "gray")))
    face(page, name).click()
    label = first_label(page, name)
    page.get_by_role("button", name=f"Show images with {label}").click()
    expect(page.locator("#detail")).to_be_hidden()
    expect(page.locator(".chip[aria-pressed=true]")).to_contain_text(label)
    expect(tile(page, name)).to_be_visible()
    expect(tile(page, plain)).to_have_count(0)
    assert "label=" in page.url
    page.locator(".chip[aria-pressed=true]").click()
    expect(tile(page, plain)).to_be_visible()


def test_the_status_filter_leaves_only_that_status(page: Page) -> None:
    """Each choice asks the API anew; one without images says so."""
    name = completed(page, name_of("good"))
    page.get_by_role("radio", name="Failed").check()
    expect(tile(page, name)).to_have_count(0)
    page.get_by_role("radio", name="Completed").check()
    expect(tile(page, name)).to_be_visible()
    page.get_by_role("radio", name="In progress").check()
    expect(page.get_by_role("heading", name="Nothing in progress")).to_be_visible()


def test_the_detail_shows_what_is_known(page: Page) -> None:
    """Camera, palette, renditions that load, boxes over the picture; arrows go on, Escape back."""
    first = completed(page, name_of("first"), upright_face())
    second = completed(page, name_of("second"), saved(photo(300, 200, 5), exif=exif()))
    face(page, second).click()
    facts = page.get_by_role("region", name="About this image")
    for fact in ("Maker Model 7", "f/2.8", "1/125 s", "35 mm", "300 × 200 pixels", "JPEG, RGB"):
        expect(facts).to_contain_text(fact)
    expect(facts.locator(".palette button")).not_to_have_count(0)
    address = facts.locator(".renditions a").first.get_attribute("href")
    assert address is not None
    assert page.request.get(address).headers["content-type"] == "image/jpeg"
    with page.expect_download() as download:
        facts.get_by_role("link", name="thumbnail").click()
    assert download.value.suggested_filename == second.replace(".jpg", "-thumbnail.jpeg")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#detail-name")).to_have_text(first)
    expect(page.locator(".frame img.loaded")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).to_be_hidden()
    expect(face(page, first)).to_be_focused()


def portrait(number: int = 1, **changes: Any) -> dict[str, Any]:
    """An image in which Rekognition sees all that it can."""
    made = image(number, "Person", "Smile", **{"width": 1000, "height": 1000, **changes})
    made["labels"][0]["boxes"] = [box(0.1, 0.2, 0.8, 0.7)]
    sure = {"confidence": 98.4}
    traits = [("smile", "true"), ("beard", "false"), ("eyes_open", "false"), ("emotions", "happy")]
    attributes = [{"name": name, "value": value, **sure} for name, value in traits]
    attributes.append({"name": "age_range", "value": "25–35"})
    made["faces"] = [{"box": box(0.4, 0.2), "attributes": attributes, **sure}]
    made["text"] = [{"text": "Summer sale", "box": box(0.1, 0.8, 0.5, 0.1), **sure}]
    no_urls = (
        "javascript:alert(1)",
        "//evil.test",
        "a@evil.test",
        "10.0.0.1/x",
        "x",
        "",
    )
    urls = ["www.wikidata.org/wiki/Q7259", *no_urls]
    made["celebrities"] = [{"name": "Ada", "box": box(0.4, 0.1), "urls": urls, **sure}]
    made["moderation_labels"] = [{"name": "Alcohol", "parent": "", **sure}]
    return made


def test_all_that_rekognition_sees_is_told(open_fake: Callable[..., Page], api: FakeApi) -> None:
    """Attributes of faces in words; links that can be some, and lead away without a trace."""
    api.put(portrait())
    page = open_fake("#image=image000001")
    facts = page.get_by_role("region", name="About this image")
    traits = "smile 98 % · no beard 98 % · eyes closed 98 % · happy 98 % · age 25–35"
    expect(facts.locator(".attributes")).to_have_text(traits)
    expect(facts.get_by_role("button", name="Show images with the words")).to_contain_text(
        "Summer sale98 %"
    )
    expect(facts.get_by_role("button", name="Show images with Alcohol")).to_be_visible()
    link = facts.locator(".people").get_by_role("link")
    expect(link).to_have_text("wikidata.org about Ada, in a new tab")
    expect(link).to_have_attribute("href", "https://www.wikidata.org/wiki/Q7259")
    expect(link).to_have_attribute("rel", "noopener noreferrer")
    facts.get_by_role("button", name="Show images with Ada").click()
    expect(page.locator(".tile")).to_have_count(1)
    assert page.url.endswith("#label=Ada")


def test_what_was_not_found_takes_no_room(open_fake: Callable[..., Page], api: FakeApi) -> None:
    """No title, no switch, no mark."""
    api.put(image(1))
    page = open_fake()
    expect(page.locator(".tile .mark")).to_have_count(0)
    face(page, "picture 1.jpg").click()
    expect(page.locator("#detail h3")).to_have_text(["Renditions", "Palette", "Details"])
    expect(page.locator("#detail input")).to_have_count(0)


def drawn(page: Page) -> list[str]:
    """Of the boxes that are seen, what they are called."""
    faded(page)
    return [
        box.text_content() or ""
        for box in page.locator(".box").all()
        if box.evaluate("box => getComputedStyle(box).opacity") == "1"
    ]


def test_boxes_are_chosen_by_kind(open_fake: Callable[..., Page], api: FakeApi) -> None:
    """Labels' at first; by a switch each, all by a key; the choice outlives the page."""
    api.put(portrait())
    page = open_fake("#image=image000001", reduced_motion="reduce")
    expect(page.locator(".box")).to_have_count(4)
    assert drawn(page) == ["Person"]
    page.get_by_role("checkbox", name="Boxes of faces").focus()
    page.keyboard.press("Space")
    page.get_by_role("checkbox", name="Boxes of labels").uncheck()
    assert drawn(page) == ["Face 1"]
    page.keyboard.press("b")
    assert drawn(page) == []
    expect(page.get_by_role("checkbox", name="Boxes of faces")).not_to_be_checked()
    page.keyboard.press("b")
    page.reload()
    expect(page.locator(".box")).to_have_count(4)
    assert drawn(page) == ["Face 1"]


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        (".chip:has-text('Person')", "Person"),
        (".chip:has-text('Ada')", "Ada"),
        (".face-entry", "Face 1"),
        (".chip:has-text('Summer sale')", "Summer sale"),
    ],
)
def test_an_entry_lights_its_box(
    open_fake: Callable[..., Page], api: FakeApi, entry: str, name: str
) -> None:
    """By focus or pointer, alone and whether or not its kind is drawn."""
    api.put(portrait())
    page = open_fake("#image=image000001", reduced_motion="reduce")
    page.locator(".facts").locator(entry).focus()
    assert drawn(page) == [name]
    page.locator("#detail-close").focus()
    assert drawn(page) == ["Person"]
    page.locator(".facts").locator(entry).hover()
    assert drawn(page) == [name]


@pytest.mark.parametrize("viewport", [(1280, 800), (375, 700)])
def test_boxes_lie_right_on_a_crop(
    open_fake: Callable[..., Page], api: FakeApi, viewport: tuple[int, int]
) -> None:
    """Where there is no rendition of the whole: moved, and cut off where the crop ends."""
    made = portrait(width=2000)
    window = {"left": 0.25, "top": 0, "width": 0.5, "height": 1}
    made["renditions"][0] |= {"window": window, "width": 400, "height": 400}
    made["celebrities"][0]["box"] = box(0.05, 0.1, 0.1, 0.1)
    api.put(made)
    page = open_fake("#image=image000001", viewport={"width": viewport[0], "height": viewport[1]})
    frame = page.locator(".frame").bounding_box()
    assert frame is not None
    assert frame["width"] == pytest.approx(frame["height"], abs=1)
    places = {}
    for each in page.locator(".box").all():
        if place := each.bounding_box():
            left, top = place["x"] - frame["x"], place["y"] - frame["y"]
            sides = (left, top, place["width"], place["height"])
            places[each.text_content()] = [side / frame["width"] for side in sides]
    assert places.keys() == {"Person", "Face 1", "Summer sale"}
    assert places["Person"] == pytest.approx([0, 0.2, 1, 0.7], abs=0.01)
    assert places["Face 1"] == pytest.approx([0.3, 0.2, 0.4, 0.2], abs=0.01)
    assert places["Summer sale"] == pytest.approx([0, 0.8, 0.7, 0.1], abs=0.01)


def test_no_box_lies_wrong(open_fake: Callable[..., Page], api: FakeApi) -> None:
    """None at all where nothing is known of what a crop shows."""
    made = portrait(width=2000)
    made["renditions"][0] |= {"window": WHOLE, "width": 400, "height": 400}
    api.put(made)
    page = open_fake("#image=image000001")
    expect(page.locator(".frame img.loaded")).to_be_visible()
    expect(page.locator(".box")).to_have_count(0)


def test_duplicates_lead_to_what_was_there_first(
    open_fake: Callable[..., Page], api: FakeApi
) -> None:
    """By name and picture, exact or near; one that is gone by now is called so."""
    api.put(image(1), image(2, "Cat"))
    kinds = {"image000001": (0, True), "image000002": (1, False), "image000009": (3, False)}
    known = [
        {"image_id": image_id, "distance": distance, "is_exact": is_exact}
        for image_id, (distance, is_exact) in kinds.items()
    ]
    api.put(image(3, "Cat", duplicates=known))
    page = open_fake("#show=completed&label=Cat")
    expect(page.locator(".tile .mark")).to_have_count(1)
    face(page, "picture 3.jpg").click()
    duplicates = page.locator(".duplicates li")
    expect(duplicates).to_have_text(
        [
            "Same file as picture 1.jpg ",
            "Looks like picture 2.jpg (1 bit)",
            "Looks like an image that has been deleted since (3 bits)",
        ]
    )
    expect(duplicates.locator("img.loaded")).to_have_count(2)
    expect(duplicates.last.get_by_role("button")).to_have_count(0)
    expect(page.locator("#detail h3").filter(has_text="Similar pictures")).to_be_visible()
    duplicates.first.get_by_role("button").click()
    expect(page.locator("#detail-name")).to_have_text("picture 1.jpg")


def test_an_image_is_processed_again(page: Page) -> None:
    """And followed; what a list does not tell is there too: its versions."""
    name = completed(page, name_of("again"))
    face(page, name).click()
    expect(page.locator(".versions")).to_contain_text("current")
    shown = Hold(page, "**/images/*", "GET")  # for it to be seen on its way, however fast it is
    page.get_by_role("button", name="Process again").click()
    expect(row(page, name).locator(".state")).to_have_text(re.compile("Queued|Processing"))
    shown.release()
    expect(row(page, name).locator(".state")).to_contain_text("Completed")
    expect(page.locator("#detail-line")).to_contain_text("Completed")


def test_an_image_keeps_its_picture_meanwhile(open_fake: Callable[..., Page], api: FakeApi) -> None:
    """While it is processed again it is said to be, over the picture that there is."""
    api.put(image(1))
    page = open_fake("#image=image000001")
    page.get_by_role("button", name="Process again").click()
    expect(page.locator("#detail-line")).to_contain_text("Queued")
    expect(page.locator(".frame .again")).to_contain_text("Queued")
    expect(page.locator(".frame img.loaded")).to_be_visible()
    api.put(image(1, updated_at="2026-02-02T00:00:00Z"))
    expect(page.locator("#detail-line")).to_contain_text("Completed")
    expect(page.locator(".frame .again")).to_have_count(0)


def test_similar_pictures_lead_to_one_another(page: Page) -> None:
    """Another file of the same scene is shown as similar, and opens."""
    one, other = name_of("scene"), name_of("scene")
    completed(page, one, saved(photo(600, 400, 77)))
    completed(page, other, saved(photo(300, 200, 77), quality=60))
    face(page, one).click()
    page.locator(".strip").get_by_title(other).click()
    expect(page.locator("#detail-name")).to_have_text(other)


def test_deleting_asks_first(page: Page) -> None:
    """Kept unless confirmed; gone from the gallery at once, and from the API soon."""
    name = completed(page, name_of("unwanted"))
    face(page, name).click()
    expect(page.locator("#detail-name")).to_have_text(name)
    image = f"{page.url.partition('#')[0]}images/{page.url.partition('image=')[2]}"
    page.get_by_role("button", name="Delete …").click()
    page.get_by_role("button", name="Keep it").click()
    expect(page.locator("#detail-name")).to_have_text(name)
    page.keyboard.press("Delete")
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(tile(page, name)).to_have_count(0)
    until(page, lambda: page.request.get(image).status == 404)
    page.reload()
    expect(page.locator("main")).to_have_attribute("aria-busy", "false")
    expect(tile(page, name)).to_have_count(0)


def test_what_is_being_deleted_cannot_be_kept(open_fake: Callable[..., Page], api: FakeApi) -> None:
    """However long it takes, nothing closes the dialog before it is known what became of it."""
    api.put(image(1), image(2), image(3))
    page = open_fake("#image=image000002")
    expect(page.locator(".tile")).to_have_count(3)
    removal = Hold(page, "**/images/image000002", "DELETE")
    page.get_by_role("button", name="Delete …").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_role("button", name="Keep it")).to_be_disabled()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    expect(page.locator("#confirm")).to_be_visible()
    removal.release()
    expect(page.locator("#confirm")).to_be_hidden()
    expect(page.locator("#detail-name")).to_have_text("picture 1.jpg")
    page.get_by_role("button", name="Delete …").click()
    expect(page.locator("#confirm-name")).to_have_text("picture 1.jpg")
    page.get_by_role("button", name="Keep it").click()
    expect(page.locator("#detail-name")).to_have_text("picture 1.jpg")
    assert list(api.images) == ["image000001", "image000003"]


def test_asked_again_at_once_it_is_deleted(open_fake: Callable[..., Page], api: FakeApi) -> None:
    """A browser tells a moment later that a dialog was closed; by then it may ask again."""
    api.put(image(1), image(2))
    page = open_fake("#image=image000002")
    expect(page.locator(".tile")).to_have_count(2)
    page.get_by_role("button", name="Delete …").click()
    page.get_by_role("button", name="Keep it").evaluate(
        """(keep) => {
          keep.click();
          const key = new KeyboardEvent("keydown", { key: "Delete", bubbles: true });
          document.querySelector("#detail").dispatchEvent(key);
        }"""
    )
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator("#confirm")).to_be_hidden()
    expect(tile(page, "picture 2.jpg")).to_have_count(0)
    assert list(api.images) == ["image000001"]


def test_closing_twice_leaves_only_the_image(open_fake: Callable[..., Page], api: FakeApi) -> None:
    """A browser goes back a moment after it is told to; until then it is not told again."""
    api.put(image(1))
    page = open_fake()
    face(page, "picture 1.jpg").click()
    page.get_by_role("button", name="Close").evaluate("(it) => [it, it].map((one) => one.click())")
    expect(page.locator("#detail")).to_be_hidden()
    expect(face(page, "picture 1.jpg")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#detail")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).to_be_hidden()
    expect(face(page, "picture 1.jpg")).to_be_visible()


def test_an_error_is_said_where_it_is_seen(open_fake: Callable[..., Page], api: FakeApi) -> None:
    """Beside the image that is open, in whose dialog alone anything is heard."""
    api.put(failed(1), image(2))
    api.answers["POST", "/images/image000001/reprocess"] = refused(429, "too_many", "Not so fast.")
    page = open_fake("#image=image000001")
    detail = page.locator("#detail")
    expect(page.locator(".tile")).to_have_count(2)
    expect(detail.get_by_role("status")).to_contain_text("picture 1.jpg")
    detail.get_by_role("button", name="Try again").click()
    expect(detail.get_by_role("alert")).to_have_text("Not so fast.")
    expect(detail.get_by_role("alert")).to_be_in_viewport()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#detail-name")).to_have_text("picture 2.jpg")
    expect(detail.get_by_role("alert")).to_be_hidden()


@pytest.mark.parametrize("wanted", ["to be shown", "to be processed again"])
def test_a_deleted_image_is_called_so(
    open_fake: Callable[..., Page], api: FakeApi, wanted: str
) -> None:
    """When it is opened from a list that still has it, and when it is to be processed again."""
    api.put(image(1), image(2))
    page = open_fake()
    expect(page.locator(".tile")).to_have_count(2)
    Hold(page, "**/images?*", "GET")  # lest the list is asked again
    is_shown = wanted == "to be shown"
    if not is_shown:
        face(page, "picture 1.jpg").click()
        expect(page.locator("#detail-name")).to_have_text("picture 1.jpg")
        api.answers["POST", "/images/image000001/reprocess"] = missing()
    else:
        api.answers["GET", "/images/image000001"] = missing()
    del api.images["image000001"]
    if not is_shown:
        page.get_by_role("button", name="Process again").click()
    else:
        face(page, "picture 1.jpg").click()
    expect(page.get_by_role("alert")).to_contain_text("This image has been deleted.")
    expect(page.locator("#detail")).to_be_hidden()
    expect(page.locator(".tile")).to_have_count(1)


def test_a_link_to_a_deleted_image_says_so(open_fake: Callable[..., Page], api: FakeApi) -> None:
    """In sight until it is dismissed, however well the rest goes."""
    api.put(*(image(number) for number in range(80)))
    page = open_fake("#image=image000099")
    expect(page.get_by_role("alert")).to_contain_text("This image has been deleted.")
    lists = len(api.requests("GET", "/images"))
    page.mouse.wheel(0, 3000)
    until(page, lambda: len(api.requests("GET", "/images")) >= lists + 2)
    expect(page.get_by_role("alert")).to_be_in_viewport()
    page.get_by_role("button", name="Dismiss").click()
    expect(page.get_by_role("alert")).to_be_hidden()


def test_an_image_from_elsewhere_appears_by_itself(page: Page) -> None:
    """As one that somebody put into the bucket does."""
    name = name_of("elsewhere")
    body = saved(photo(200, 300, 9))
    page.request.post(
        f"{page.url}images?name={name}", data=body, headers={"Content-Type": "image/jpeg"}
    )
    expect(tile(page, name).locator("img.loaded")).to_be_visible()


def test_an_api_that_does_not_answer_is_said(page: Page) -> None:
    """A banner with a way to try again, which goes when that works."""
    name = completed(page, name_of("there"))
    page.clock.install()
    page.clock.pause_at(datetime.now(UTC) + timedelta(minutes=1))  # for none to try again by itself
    is_away = True
    page.route("**/images?*", lambda route: route.abort() if is_away else route.fallback())
    page.get_by_role("radio", name="Completed").check()
    expect(page.get_by_role("alert")).to_contain_text("The API does not answer")
    is_away = False
    page.get_by_role("button", name="Try again").click()
    expect(tile(page, name)).to_be_visible()
    expect(page.locator("#banner")).to_be_hidden()


def test_what_was_asked_before_hides_no_failure(
    open_fake: Callable[..., Page], api: FakeApi
) -> None:
    """An answer about another list is none about this one, which is asked for again by itself."""
    busy = refused(503, "busy", "Later.")
    is_busy = True
    api.answers["GET", "/images"] = lambda asked: (
        busy if is_busy and "status=FAILED" in asked.url else None
    )
    page = open_fake("#show=completed")
    before = Hold(page, "**/images?*status=COMPLETED*", "GET")
    until(page, lambda: before.kept)
    page.get_by_role("radio", name="Failed").check()
    expect(page.get_by_role("alert")).to_contain_text("Later.")
    before.release()
    is_busy = False
    expect(page.get_by_role("heading", name="No failures")).to_be_visible()
    expect(page.locator("#banner")).to_be_hidden()


def test_a_failure_of_another_list_is_not_said(
    open_fake: Callable[..., Page], api: FakeApi
) -> None:
    """By the time it is known, nobody looks at that list any more."""
    busy = refused(503, "busy", "Later.")
    is_busy = False
    api.answers["GET", "/images"] = lambda asked: (
        busy if is_busy and "status=COMPLETED" in asked.url else None
    )
    page = open_fake("#show=completed")
    expect(page.get_by_role("heading", name="No completed images")).to_be_visible()
    before = Hold(page, "**/images?*status=COMPLETED*", "GET")
    until(page, lambda: before.kept)
    page.get_by_role("radio", name="Failed").check()
    expect(page.get_by_role("heading", name="No failures")).to_be_visible()
    is_busy = True
    with page.expect_response("**/images?*status=COMPLETED*"):
        before.release()
    page.wait_for_timeout(200)  # for what must not happen
    assert page.locator("#banner").is_hidden()


@pytest.mark.parametrize(
    ("placeholder", "size", "pixels"),
    [
        (
            "IBgGHYZlk4lJyqVlv3pXl5Kc0A2l",
            (32, 23),
            [(151, 125, 156, 255), (146, 167, 127, 255), (177, 135, 166, 255)],
        ),
        (
            "YfgFFASWYS8QiNCSp6M8YLi0BA==",
            (18, 32),
            [(64, 88, 87, 255), (157, 133, 122, 255), (160, 222, 186, 255)],
        ),
        (
            "nweCC4IYf72PdIanWZBZP/iHiHd/doc=",
            (32, 19),
            [(122, 114, 139, 194), (127, 119, 129, 65), (123, 111, 141, 203)],
        ),
    ],
    ids=["landscape", "portrait", "transparent"],
)
def test_placeholders_are_drawn_as_thumbhash_says(
    page: Page, placeholder: str, size: tuple[int, int], pixels: list[tuple[int, ...]]
) -> None:
    """First, middle and last pixel as by the reference (thumbhash 0.1.1, npm), to a rounding.

    Python's thash is no measure: it weighs the diagonal waves twice.
    """
    width, height, drawn = page.evaluate(
        """async (placeholder) => {
            const { decode } = await import("./static/thumbhash.js");
            const { width, height, data } = decode(placeholder);
            return [width, height, [...data]];
        }""",
        placeholder,
    )
    assert (width, height) == size
    places = (0, height // 2 * width + width // 2, height * width - 1)
    for place, expected in zip(places, pixels, strict=True):
        assert drawn[4 * place :][:4] == pytest.approx(expected, abs=1)


@pytest.mark.parametrize(
    "options",
    [
        {"color_scheme": "light"},
        {"color_scheme": "dark"},
        {"color_scheme": "light", "viewport": {"width": 390, "height": 844}, "has_touch": True},
    ],
    ids=["light", "dark", "phone"],
)
def test_nothing_stands_in_anybodys_way(
    open_page: Callable[..., Page], options: dict[str, Any]
) -> None:
    """axe-core finds nothing to object to: gallery, tray, failure, detail and dialogs."""
    page = open_page(reduced_motion="reduce", **options)
    send(page, name_of("broken"), b"no picture")
    name = completed(page, name_of("seen"), upright_face())
    expect(page.locator("#tray-bad")).to_have_text("1 not completed")

    assert objections(page) == ""
    face(page, name).click()
    expect(page.locator(".frame img.loaded")).to_be_visible()
    expect(page.locator(".versions")).to_contain_text("current")
    assert objections(page) == ""
    page.get_by_role("button", name="Delete …").click()
    assert objections(page) == ""


@pytest.mark.parametrize(
    "options",
    [
        {"color_scheme": "light"},
        {"color_scheme": "dark", "viewport": {"width": 320, "height": 640}, "has_touch": True},
    ],
    ids=["light", "dark phone"],
)
def test_much_to_tell_stands_in_nobodys_way(
    open_fake: Callable[..., Page], api: FakeApi, options: dict[str, Any]
) -> None:
    """axe-core finds nothing to object to in an image with everything; nothing is too wide."""
    same = [{"image_id": "image000001", "distance": 0, "is_exact": True}]
    name = "Hubert Blaine Wolfeschlegelsteinhausenbergerdorff Senior of Philadelphia"
    made = portrait(2, duplicates=same, released=True)
    made["celebrities"][0]["name"] = made["text"][0]["text"] = name
    api.put(image(1), made)
    page = open_fake(f"#text={name}&label=Person", reduced_motion="reduce", **options)
    expect(page.locator(".tile")).to_have_count(1)
    assert objections(page) == ""
    face(page, "picture 2.jpg").click()
    expect(page.locator(".duplicates")).to_be_visible()
    page.locator(".facts").get_by_role("button", name=f"Show images with {name}").focus()
    assert objections(page) == ""
    for part in ("document.documentElement", "document.querySelector('.facts')"):
        assert page.evaluate(f"{part}.scrollWidth <= {part}.clientWidth")


def test_it_fits_a_phone(open_page: Callable[..., Page]) -> None:
    """Nothing is wider than the screen."""
    page = open_page(viewport={"width": 320, "height": 640})
    completed(page, name_of("a rather long name that does not fit on a narrow screen"))
    assert page.evaluate("document.documentElement.scrollWidth") == 320
