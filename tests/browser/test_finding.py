"""Finding images among many: facets, search, dates, and a gallery without an end."""

from collections.abc import Callable
from itertools import chain, repeat
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from chalicelib.model import words_of
from tests.browser.conftest import Hold
from tests.browser.fake_api import (
    API,
    Answer,
    FakeApi,
    box,
    failed,
    image,
    image_id_of,
    quarantined,
    refused,
)

OpenFake = Callable[..., Page]

DOT = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
"""A picture without a request, of which Playwright would have to answer thousands."""


def names(page: Page) -> list[str]:
    expect(page.locator("main")).to_have_attribute("aria-busy", "false")
    return page.locator(".tile .name").all_text_contents()


def last_list(api: FakeApi) -> dict[str, list[str]]:
    return parse_qs(urlsplit(api.requests("GET", "/images")[-1].url).query)


def test_facets_count_the_whole_catalog(open_fake: OpenFake, api: FakeApi) -> None:
    """Whatever is loaded; a chosen one stays in sight, and the next is added to it."""
    api.put(*(image(number, "Animal", *["Cat"] * (number < 12)) for number in range(150)))
    page = open_fake()
    facets = page.locator("#facets")
    expect(facets.get_by_role("button", name="Animal")).to_have_text("Animal150, 150 images")
    facets.get_by_role("button", name="Cat").click()
    facets.get_by_role("button", name="Animal").click()
    expect(facets.locator("[aria-pressed=true]")).to_have_count(2)
    expect(page.locator("#summary")).to_have_text("12 images")
    assert last_list(api)["label"] == ["Cat", "Animal"]


def test_a_status_and_labels_go_together(open_fake: OpenFake, api: FakeApi) -> None:
    """Both are asked for, both stand in the address; the counts beside statuses are the API's."""
    api.put(image(1, "Cat"), image(2, "Dog"), failed(3, labels=image(0, "Cat")["labels"]))
    page = open_fake("#label=Cat")
    expect(page.locator(".tile")).to_have_count(2)
    expect(page.get_by_role("radio", name="Completed 2")).to_be_visible()
    page.get_by_role("radio", name="Failed 1").check()
    expect(page.locator(".tile")).to_have_count(1)
    assert names(page) == ["picture 3.jpg"]
    assert urlsplit(page.url).fragment == "show=failed&label=Cat"


def test_dates_are_days_where_the_reader_is(open_fake: OpenFake, api: FakeApi) -> None:
    """From the first moment of a day to the last of another; the wrong way round is understood."""
    api.put(image(1), image(3600 * 23))
    page = open_fake(timezone_id="Asia/Tokyo")
    expect(page.locator(".tile")).to_have_count(2)
    page.get_by_role("button", name="Dates").click()
    page.get_by_label("Uploaded from").fill("2026-02-02")
    page.get_by_label("to, that day included").fill("2026-02-01")
    expect(page.locator(".tile")).to_have_count(1)
    assert last_list(api)["from"] == ["2026-01-31T15:00:00.000Z"]
    assert last_list(api)["to"] == ["2026-02-02T14:59:59.999Z"]
    assert urlsplit(page.url).fragment == "from=2026-02-01&to=2026-02-02"
    page.get_by_role("button", name="Any time").click()
    expect(page.locator(".tile")).to_have_count(2)


def test_search_suggests_labels_as_one_types(open_fake: OpenFake, api: FakeApi) -> None:
    """By arrows and Enter alone, from a slash on; Escape closes what is suggested."""
    api.put(image(1, "Cat", "Animal"), image(2, "Car"), image(3, "Car"), image(4, "Dog"))
    page = open_fake()
    expect(page.locator(".tile")).to_have_count(4)
    page.keyboard.press("/")
    page.keyboard.type("ca")
    expect(page.get_by_role("option")).to_have_text(
        ["Car2, 2 images", "Cat1, 1 image", "Words “ca”in pictures"]
    )
    page.keyboard.press("Escape")
    expect(page.get_by_role("option")).to_have_count(0)
    page.keyboard.type("r")
    expect(page.get_by_role("option")).to_have_count(2)
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("option", selected=True)).to_contain_text("Car")
    page.keyboard.press("Enter")
    expect(page.locator(".tile")).to_have_count(2)
    assert urlsplit(page.url).fragment == "label=Car"


def written(number: int, *lines: str, **changes: Any) -> dict[str, Any]:
    """An image in which something is written."""
    place = box(0.1, 0.1)
    text = [{"text": line, "confidence": 99.0, "box": place} for line in lines]
    return image(number, "Poster", text=text, **changes)


def test_words_in_pictures_are_searched(open_fake: OpenFake, api: FakeApi) -> None:
    """By the last suggestion, together with a label; a chip shows it and takes it back."""
    api.put(written(1, "Summer SALE"), written(2, "Sale", labels=[]), image(3, "Poster"))
    page = open_fake("#label=Poster")
    expect(page.locator(".tile")).to_have_count(2)
    page.keyboard.press("/")
    page.keyboard.type("sale")
    expect(page.locator("#suggestions").get_by_role("option")).to_have_text(
        ["Words “sale”in pictures"]
    )
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect(page.locator(".tile")).to_have_count(1)
    assert names(page) == ["picture 1.jpg"]
    assert last_list(api) | {"limit": []} == {"label": ["Poster"], "text": ["sale"], "limit": []}
    assert urlsplit(page.url).fragment == "label=Poster&text=sale"
    page.get_by_role("button", name="Words in the picture: “sale”", pressed=True).click()
    expect(page.locator(".tile")).to_have_count(2)
    assert urlsplit(page.url).fragment == "label=Poster"


@pytest.mark.parametrize("typed", ['"summer sale"', "“summer sale”", "text: summer sale"])
def test_words_can_be_typed_as_such(open_fake: OpenFake, api: FakeApi, typed: str) -> None:
    """In quotation marks or behind a word, without a suggestion; none of these is a label."""
    api.put(written(1, "Sale of the summer"), image(2, "Cat"))
    page = open_fake()
    search = page.get_by_role("combobox", name="Search")
    search.fill(typed)
    search.press("Enter")
    expect(page.locator(".tile")).to_have_count(1)
    assert urlsplit(page.url).fragment == "text=summer+sale"
    assert not [request for request in api.requests("GET", "/labels") if "prefix" in request.url]


def test_text_without_a_word_is_not_searched(open_fake: OpenFake, api: FakeApi) -> None:
    """The API would refuse it."""
    api.put(image(1))
    page = open_fake()
    search = page.get_by_role("combobox", name="Search")
    search.fill('" … "')
    search.press("Enter")
    expect(page.locator(".tile")).to_have_count(1)
    assert urlsplit(page.url).fragment == ""


def test_a_line_in_the_picture_leads_to_others(open_fake: OpenFake, api: FakeApi) -> None:
    """By its words, of which the API takes ten; one without words leads nowhere."""
    line = "One, two: three four five six seven eight nine ten eleven"
    api.put(written(1, line, "· · ·"), written(2, line.upper()), written(3, "One"))
    page = open_fake("#image=image000001")
    page.get_by_role("button", name="Show images with the words · · ·").click(force=True)
    expect(page.locator("#detail")).to_be_visible()
    page.get_by_role("button", name="Show images with the words One, two").click()
    expect(page.locator(".tile")).to_have_count(2)
    assert last_list(api)["text"] == ["one two three four five six seven eight nine ten"]


def test_labels_have_a_least_confidence(open_fake: OpenFake, api: FakeApi) -> None:
    """Which is offered beside a label alone, stands in the address, and goes with the label."""
    unsure = image(2, "Cat")
    unsure["labels"][0]["confidence"] = 61.0
    api.put(image(1, "Cat"), unsure, image(3, "Dog"))
    page = open_fake()
    expect(page.locator(".tile")).to_have_count(3)
    least = page.get_by_label("Least confidence of labels")
    expect(least).to_be_hidden()
    page.locator("#facets").get_by_role("button", name="Cat").click()
    expect(page.locator(".tile")).to_have_count(2)
    least.select_option("≥ 80 %")
    expect(page.locator(".tile")).to_have_count(1)
    assert last_list(api)["min_confidence"] == ["80"]
    assert urlsplit(page.url).fragment == "label=Cat&min_confidence=80"
    page.locator(".chip[aria-pressed=true]").click()
    expect(page.locator(".tile")).to_have_count(3)
    expect(least).to_be_hidden()
    assert "min_confidence" not in last_list(api)


def test_a_confidence_of_an_address_is_kept(open_fake: OpenFake, api: FakeApi) -> None:
    """Though it is none of those that are offered."""
    api.put(image(1, "Cat"))
    page = open_fake("#label=Cat&min_confidence=85.5")
    expect(page.locator(".tile")).to_have_count(1)
    expect(page.get_by_label("Least confidence of labels")).to_have_value("85.5")
    assert last_list(api)["min_confidence"] == ["85.5"]


def test_the_api_knows_what_a_label_finds(open_fake: OpenFake, api: FakeApi) -> None:
    """Parents, moderation labels and celebrities; and what it lists otherwise is not dropped."""
    dog = image(1, "Dog")
    dog["labels"][0]["parents"] = ["Animal"]
    api.put(dog)
    page = open_fake("#label=Animal")
    expect(page.locator(".tile")).to_have_count(1)
    api.answers["GET", "/images"] = Answer({"images": [image(2, "Bird")], "cursor": None})
    page.goto(f"{API}/#label=Feather")
    expect(page.locator(".tile .name")).to_have_text("picture 2.jpg")


def test_what_fits_no_more_goes_at_once(open_fake: OpenFake, api: FakeApi) -> None:
    """Before the list is asked again; what has come to fit, by a label above its own, appears."""
    api.put(quarantined(1, "Gore", labels=image(1, "Dog")["labels"]))
    page = open_fake("#show=quarantined&label=Dog")
    page.locator(".tile .face").click()
    Hold(page, "**/images?*", "GET")
    page.get_by_role("button", name="Release").click()
    expect(page.locator("#detail-line")).to_contain_text("Queued")
    expect(page.locator(".tile")).to_have_count(0)
    dog = image(2, "Dog", image_id=image_id_of("dog.png"), key="uploads/dog.png")
    dog["labels"][0]["parents"] = ["Animal"]
    page = open_fake("#label=animal")
    expect(page.get_by_role("heading", name="No images with “animal”")).to_be_visible()
    Hold(page, "**/images?*", "GET")
    api.put(dog, image(3, "Car", image_id=image_id_of("car.png"), key="uploads/car.png"))
    for name in ("car.png", "dog.png"):
        file = {"name": name, "mimeType": "image/png", "buffer": b"x"}
        page.set_input_files("#files", file)  # type: ignore[arg-type]
    expect(page.locator('.upload[data-state="COMPLETED"]')).to_have_count(2)
    assert names(page) == ["dog.png"]


def test_words_are_those_of_the_api(open_fake: OpenFake) -> None:
    """Without case and accents, of whatever script."""
    texts = [
        "Café CRÈME cafe",
        "ﬁn ½ a_b",
        "don't 100%",
        "กิน",
        "कुछ",
        "ЁЛКА",
        "東京タワー",
        "שָׁלוֹם",
        "",
    ]
    split = """async (texts) => {
        const { wordsOf } = await import("/static/format.js");
        return texts.map(wordsOf);
    }"""
    assert open_fake().evaluate(split, texts) == [list(words_of(text)) for text in texts]


def test_a_label_is_chosen_once_composed_or_not(open_fake: OpenFake, api: FakeApi) -> None:
    """An address may write it otherwise than the API does."""
    api.put(image(1, "Zoë"))
    page = open_fake("#label=Zoe%CC%88")
    expect(page.locator("#facets .chip")).to_have_text("Zoe\u03081, 1 image")
    page.locator("#facets .chip").click()
    expect(page.locator("#facets .chip")).to_have_text("Zoë1, 1 image")
    expect(page.locator(".tile")).to_have_count(1)


def test_a_file_is_found_by_its_name(open_fake: OpenFake, api: FakeApi) -> None:
    """It opens; of one that is not there that is said."""
    api.put(image(1), image(2))
    page = open_fake()
    search = page.get_by_role("combobox", name="Search")
    search.fill("picture 1.jpg")
    search.press("Enter")
    expect(page.locator("#detail-name")).to_have_text("picture 1.jpg")
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).to_be_hidden()
    search.fill("no such.jpg")
    search.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("There is no such image")
    expect(search).to_have_value("no such.jpg")


def test_empty_pages_are_gone_past(open_fake: OpenFake, api: FakeApi) -> None:
    """A page without images is not the end while it has a cursor, and is not called one."""
    empty = [Answer({"images": [], "cursor": cursor}) for cursor in "ab"]
    pages = chain(empty, repeat(Answer({"images": [image(1, "Cat")], "cursor": None})))
    page = open_fake()
    expect(page.get_by_role("heading", name="No images yet")).to_be_visible()
    api.answers["GET", "/images"] = lambda _: next(pages)
    page.evaluate("""() => new MutationObserver(() => {
        if (!document.querySelector("#nothing").hidden) document.title = "nothing";
    }).observe(document.body, { subtree: true, attributes: true })""")
    page.evaluate("location.hash = 'label=Cat'")
    expect(page.locator(".tile")).to_have_count(1)
    assert page.title() == "Image pipeline"


def test_nothing_found_is_said_in_words(open_fake: OpenFake, api: FakeApi) -> None:
    """What was asked for, and a way back to everything."""
    api.put(image(1, "Cat"))
    page = open_fake("#show=failed&label=Dog&from=2026-01-01")
    nothing = page.get_by_role("heading", name="No failures with “Dog” since Jan 1, 2026")
    expect(nothing).to_be_visible()
    page.get_by_role("button", name="Show all images").click()
    expect(page.locator(".tile")).to_have_count(1)


def test_ten_thousand_images(open_fake: OpenFake, api: FakeApi) -> None:
    """To the end, page by page; however far, few tiles are in the document."""
    api.put(*(image(number, "Animal", url=DOT) for number in range(10_000)))
    page = open_fake()
    expect(page.locator(".tile").first).to_be_visible()
    most_tiles = page.evaluate(
        """async () => {
            let most = 0;
            const isOver = () => document.querySelector("#summary").textContent === "10,000 images";
            while (!isOver()) {
                scrollTo(0, document.documentElement.scrollHeight);
                await new Promise(requestAnimationFrame);
                most = Math.max(most, document.querySelectorAll(".tile").length);
            }
            return most;
        }"""
    )
    assert most_tiles < 150
    page.locator(".tile .face").last.press("End")
    expect(page.get_by_role("button", name="picture 0.jpg")).to_be_focused()
    page.keyboard.press("Home")
    expect(page.get_by_role("button", name="picture 9999.jpg")).to_be_focused()


def test_tab_passes_the_gallery_by(open_fake: OpenFake, api: FakeApi) -> None:
    """It is one stop, at the tile that was last; arrows go through it."""
    api.put(*(image(number) for number in range(50)))
    page = open_fake()
    expect(page.locator(".tile").first).to_be_visible()
    page.locator(".tile .face").first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("button", name="picture 48.jpg")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="API documentation")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(page.get_by_role("button", name="picture 48.jpg")).to_be_focused()


@pytest.mark.parametrize(
    ("path", "others"), [("/labels", "#statuses b:text('1')"), ("/stats", "#facets .chip")]
)
def test_without_counts_the_images_are_there(
    open_fake: OpenFake, api: FakeApi, path: str, others: str
) -> None:
    """A count that cannot be had hides nothing else, and raises no alarm."""
    api.put(image(1, "Cat"))
    api.answers["GET", path] = refused(503, "unhealthy", "Later.")
    page = open_fake()
    expect(page.locator(others).first).to_be_visible()
    expect(page.locator(".tile img.loaded")).to_be_visible()
    expect(page.locator("#banner")).to_be_hidden()


def test_a_date_can_be_typed(open_fake: OpenFake, api: FakeApi) -> None:
    """Digit by digit: half a year is no date, nor is it swapped; going back undoes all of it."""
    api.put(image(1), image(2))
    page = open_fake("#to=2026-02-01", locale="en-US", timezone_id="UTC")
    expect(page.locator(".tile")).to_have_count(2)
    page.get_by_role("button", name="Feb 1, 2026").click()
    page.get_by_label("Uploaded from").focus()
    page.keyboard.type("01302026", delay=20)
    expect(page.get_by_label("Uploaded from")).to_have_value("2026-01-30")
    expect(page.get_by_label("to, that day included")).to_have_value("2026-02-01")
    assert urlsplit(page.url).fragment == "from=2026-01-30&to=2026-02-01"
    page.go_back()
    assert urlsplit(page.url).fragment == "to=2026-02-01"


def test_a_date_that_is_none_is_ignored(open_fake: OpenFake, api: FakeApi) -> None:
    """February has no 31st, whatever JavaScript makes of it."""
    api.put(image(1))
    page = open_fake("#from=2026-02-31&to=0002-01-01")
    expect(page.locator(".tile")).to_have_count(1)
    expect(page.get_by_role("button", name="Dates")).to_be_visible()
    assert "from" not in last_list(api)
