"""What may go wrong between a file and S3, and what the tray says of it."""

from collections.abc import Callable

from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.conftest import Hold, until
from tests.browser.fake_api import (
    API,
    STORAGE,
    Answer,
    FakeApi,
    image,
    image_id_of,
    missing,
    refused,
)

OpenFake = Callable[..., Page]
AT_STORAGE = ("POST", STORAGE.removeprefix("https://"))
XML = "application/xml"


def send(page: Page, *names: str) -> None:
    files = [{"name": name, "mimeType": "image/png", "buffer": b"pixels"} for name in names]
    page.set_input_files("#files", files)


def never(_: Route) -> None:
    """Leaves a request without an answer."""


def row(page: Page, name: str = "cat.png") -> Locator:
    return page.locator(".upload").filter(has_text=name)


def s3_error(code: str, message: str = "Said by S3.", status: int = 400) -> Answer:
    said = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Answer(said, status, XML)


def test_a_file_goes_to_s3_as_permitted(open_fake: OpenFake, api: FakeApi) -> None:
    """All fields of the permit first, in their order, then the file; S3 learns of no sign-in."""
    page = open_fake()
    send(page, "cat.png")
    expect(row(page)).to_contain_text("Stored")
    wish = api.requests("POST", "/uploads")[0].post_data_json
    assert wish == {"name": "cat.png", "content_type": "image/png", "size_bytes": 6}
    upload = next(request for request in api.asked if request.url.startswith(STORAGE))
    body = (upload.post_data_buffer or b"").decode()
    places = [body.index(part) for part in ('"key"', '"policy"', '"Content-Type"', '"file"')]
    assert places == sorted(places)
    assert "authorization" not in upload.headers


def test_an_upload_is_awaited(open_fake: OpenFake, api: FakeApi) -> None:
    """Until S3's event is registered the API knows of no such image, and that is no failure."""
    page = open_fake()
    send(page, "cat.png")
    expect(row(page)).to_contain_text("Stored, about to be registered")
    api.put(image(1, "Cat", image_id=image_id_of("cat.png"), key="uploads/cat.png"))
    expect(row(page)).to_contain_text("Completed: Cat")
    expect(page.locator(".tile")).to_have_count(1)


def test_an_upload_that_never_arrives_is_said(open_fake: OpenFake, api: FakeApi) -> None:
    """After a minute and a half of asking, less and less often."""
    page = open_fake("#show=failed")
    page.clock.install()
    send(page, "cat.png")
    expect(row(page)).to_contain_text("Stored")
    lost = row(page).filter(has_text="S3 has the file, but the pipeline has not heard of it")

    def said() -> bool:
        page.clock.run_for(2_000)
        return lost.count() == 1

    until(page, said)
    asked = [request for request in api.asked if request.url.endswith("/status")]
    assert 5 < len(asked) < 20


def test_what_s3_refuses_is_a_sentence(open_fake: OpenFake, api: FakeApi) -> None:
    """Too large by the limit of the permit; anything else in S3's own words, as text."""
    api.answers[AT_STORAGE] = s3_error("EntityTooLarge")
    page = open_fake()
    send(page, "cat.png")
    expect(row(page)).to_contain_text("The file is over the limit of 50,000,000 bytes.")
    api.answers[AT_STORAGE] = s3_error("Other", "No, &lt;b&gt;never&lt;/b&gt;.")
    send(page, "dog.png")
    expect(row(page, "dog.png")).to_contain_text("S3 refused the file: No, ")
    expect(row(page).get_by_role("button")).to_have_count(0)


def test_a_permit_that_has_run_out_is_renewed(open_fake: OpenFake, api: FakeApi) -> None:
    """Trying again asks for another one."""
    api.answers[AT_STORAGE] = s3_error("AccessDenied", "Policy expired", 403)
    page = open_fake()
    send(page, "cat.png")
    expect(row(page)).to_contain_text("has run out")
    del api.answers[AT_STORAGE]
    row(page).get_by_role("button", name="Try again").click()
    expect(row(page)).to_contain_text("Stored")
    assert len(api.requests("POST", "/uploads")) == 2


def test_a_short_loss_of_the_network_takes_no_click(open_fake: OpenFake, api: FakeApi) -> None:
    """All wait until one of them gets through, and then go on."""
    names = [f"{number}.png" for number in range(8)]
    api.put(*(image(n, image_id=image_id_of(name)) for n, name in enumerate(names)))
    page = open_fake()
    is_away = True
    page.context.route(
        f"{API}/uploads", lambda route: route.abort() if is_away else route.fallback()
    )
    send(page, *names)
    expect(row(page, "0.png")).to_contain_text("Waiting to be tried again: The API does not answer")
    expect(page.get_by_role("button", name="Try all again")).to_be_visible()
    is_away = False
    expect(page.locator('.upload[data-state="COMPLETED"]')).to_have_count(8)
    expect(page.get_by_role("button", name="Try all again")).to_be_hidden()
    assert len(api.requests("POST", "/uploads")) == 8


def test_an_answer_that_breaks_off_is_none(open_fake: OpenFake, api: FakeApi) -> None:
    """Half of one says nothing, whatever its status: it is asked for again, without a click."""
    page = open_fake()
    page.evaluate("""() => {
        const { text } = Response.prototype;
        Response.prototype.text = function () {
            if (!this.url.endsWith("/uploads")) return text.call(this);
            Response.prototype.text = text;
            return Promise.reject(new TypeError("network error"));
        };
    }""")
    send(page, "cat.png")
    expect(row(page)).to_contain_text("Stored")
    assert len(api.requests("POST", "/uploads")) == 2


def test_without_a_network_nothing_is_given_up(open_fake: OpenFake) -> None:
    """However long it takes; what goes on goes on by itself."""
    page = open_fake()
    page.clock.install()
    page.context.set_offline(True)
    page.context.route(f"{API}/uploads", lambda route: route.abort(), times=3)
    send(page, "cat.png", "dog.png", "emu.png", "fox.png")
    expect(page.locator(".upload").filter(has_text="tried again")).to_have_count(3)
    page.clock.run_for(3_600_000)
    expect(page.locator('.upload[data-state="WAITING"]')).to_have_count(4)
    page.context.set_offline(False)
    expect(page.locator('.upload[data-state="STORED"]')).to_have_count(4)


def test_what_fails_for_long_is_given_up(open_fake: OpenFake, api: FakeApi) -> None:
    """In the order of adding, and all at once to be tried again: with the same permits."""
    page = open_fake()
    page.clock.install()
    api.answers[AT_STORAGE] = s3_error("SlowDown", "Slow down.", 503)
    send(page, "cat.png", "dog.png")
    given_up = page.locator('.upload[data-state="REFUSED"]')

    def both() -> bool:
        page.clock.run_for(10_000)
        return given_up.count() == 2

    until(page, both)
    expect(given_up).to_contain_text(["cat.png", "dog.png"])
    expect(page.locator("#tray-count")).to_have_text("0 of 2 completed")
    del api.answers[AT_STORAGE]
    page.get_by_role("button", name="Try all again").click()
    expect(page.locator('.upload[data-state="STORED"]')).to_have_count(2)
    assert len(api.requests("POST", "/uploads")) == 2


def test_a_url_tried_again_is_the_same_request(open_fake: OpenFake, api: FakeApi) -> None:
    """By its idempotency key, as long as nothing was heard of the first try."""
    page = open_fake()
    page.clock.install()
    api.answers["POST", "/images"] = refused(503, "unavailable", "Later.")
    page.get_by_role("button", name="From URL").click()
    page.get_by_label("URL of the image").fill("https://example.org/cat.png")
    page.get_by_role("button", name="Fetch", exact=True).click()
    expect(row(page)).to_contain_text("Waiting to be tried again: Later.")
    page.clock.run_for(2_000)
    until(page, lambda: len(api.requests("POST", "/images")) > 1)
    keys = {request.headers["idempotency-key"] for request in api.requests("POST", "/images")}
    assert len(keys) == 1


def test_an_empty_file_is_not_even_asked_for(open_fake: OpenFake, api: FakeApi) -> None:
    """It is said in the words that are said when S3 refuses it."""
    page = open_fake()
    page.set_input_files("#files", {"name": "cat.png", "mimeType": "image/png", "buffer": b""})
    expect(row(page).locator(".state")).to_have_text("The file is empty.")
    assert api.requests("POST", "/uploads") == []


def test_taken_names_are_changed_at_once(open_fake: OpenFake, api: FakeApi) -> None:
    """All that are taken, by one click."""
    api.answers["POST", "/uploads"] = refused(409, "key_taken", "Taken.")
    page = open_fake(viewport={"width": 390, "height": 844})
    send(page, "cat.png", "dog.png")
    expect(row(page)).to_contain_text("There is an image named cat.png already.")
    expect(page.get_by_role("button", name="Keep all")).to_be_visible()
    expect(page.get_by_role("button", name="Clear done")).to_be_in_viewport(ratio=1)
    del api.answers["POST", "/uploads"]
    page.get_by_role("button", name="Keep all").click()
    expect(page.locator('.upload[data-state="STORED"]')).to_have_count(2)
    expect(row(page, "dog (2).png")).to_be_visible()


def test_an_upload_can_be_cancelled_half_way(open_fake: OpenFake) -> None:
    """Nothing more is sent; it can be taken up again."""
    page = open_fake()
    page.context.route(f"{STORAGE}/**", never)
    send(page, "cat.png")
    row(page).get_by_role("button", name="Cancel").click()
    expect(row(page)).to_contain_text("Cancelled")
    expect(row(page).get_by_role("button", name="Try again")).to_be_visible()


def test_a_thousand_files_wait_in_line(open_fake: OpenFake, api: FakeApi) -> None:
    """Three at a time are on their way, and the tray counts them all."""
    page = open_fake()
    stored = Hold(page, f"{STORAGE}/**", "POST")
    send(page, *(f"{number}.png" for number in range(1000)))
    expect(page.locator("#tray-count")).to_have_text("0 of 1,000 done")
    until(page, lambda: len(stored.kept) == 3)
    expect(page.locator('.upload[data-state="SENDING"]')).to_have_count(3)
    assert len(api.requests("POST", "/uploads")) == 3


def test_a_failed_image_is_tried_again_from_its_tile(open_fake: OpenFake, api: FakeApi) -> None:
    """The tile shows that it is on its way again; one that is gone by then goes."""
    api.put(image(1, status="FAILED", renditions=[]), image(2, status="FAILED", renditions=[]))
    page = open_fake()
    page.get_by_role("button", name="Try again picture 1.jpg").click()
    expect(page.locator(".tile.queued")).to_contain_text("picture 1.jpg")
    api.answers["POST", "/images/image000002/reprocess"] = missing()
    page.get_by_role("button", name="Try again picture 2.jpg").click()
    expect(page.locator(".tile")).to_have_count(1)
    assert api.requests("POST", "/images/image000001/reprocess")[0].url.startswith(API)
