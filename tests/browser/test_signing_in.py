"""Who gets to see the page's pictures, and how they are asked."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, Request, expect

from localcloud.cloud import LocalCloud
from tests.browser.conftest import objections, until
from tests.browser.fake_api import SIGN_IN, Answer, FakeApi, image, refused
from tests.pictures import photo, saved

OpenFake = Callable[..., Page]

ADA = "ada@example.com"
INVITED, CHOSEN = "Change-me-12", "A-longer-word-7"
AT_COGNITO = ("POST", SIGN_IN.removeprefix("https://"))


class FakeCognito:
    """Answers in line, one each: a token result, a challenge, or an exception."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, request: Request) -> Answer:
        operation = request.headers["x-amz-target"].rpartition(".")[2]
        self.asked.append((operation, request.post_data_json))
        return self.answers.pop(0)


def tokens(name: str, seconds: int = 1800) -> Answer:
    result = {"IdToken": f"id-{name}", "AccessToken": "a", "ExpiresIn": seconds}
    return Answer({"AuthenticationResult": {**result, "RefreshToken": f"refresh-{name}"}})


def challenge(name: str) -> Answer:
    return Answer({"ChallengeName": name, "Session": "s", "ChallengeParameters": {}})


def exception(name: str, message: str = "") -> Answer:
    return Answer({"__type": name, "message": message}, 400)


def cognito(api: FakeApi, *answers: Answer) -> FakeCognito:
    """Have the API ask for users, and take the token of each who signs in."""
    api.sign_in = {"auth": "cognito", "client_id": "client", "endpoint": f"{SIGN_IN}/"}
    api.answers[AT_COGNITO] = fake = FakeCognito(*answers)
    return fake


def sign_in(page: Page, password: str = CHOSEN) -> None:
    page.get_by_label("Email address").fill(ADA)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Sign in").click()


def dialog_error(page: Page) -> Any:
    return page.get_by_role("dialog").get_by_role("alert")


@pytest.fixture
def one_image(api: FakeApi) -> None:
    api.put(image(1, "Cat"))


pytestmark = pytest.mark.usefixtures("one_image")


def test_nothing_is_asked_before_somebody_signs_in(open_fake: OpenFake, api: FakeApi) -> None:
    """No request, no error, no picture; then all, each request with the ID token."""
    cognito(api, tokens("ada"))
    page = open_fake()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(page.get_by_label("Email address")).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_visible()
    expect(page.locator("#banner")).to_be_hidden()
    assert [request for request in api.asked if request.url.startswith("https://api")] == []
    sign_in(page)
    expect(page.locator(".tile")).to_have_count(1)
    expect(page.get_by_role("dialog")).to_be_hidden()
    sent = {request.headers.get("authorization") for request in api.requests("GET", "/images")}
    assert sent == {"id-ada"}


def test_password_managers_know_the_fields(open_fake: OpenFake, api: FakeApi) -> None:
    """By their autocomplete tokens (HTML, "autofill")."""
    cognito(api, challenge("NEW_PASSWORD_REQUIRED"))
    page = open_fake()
    fields = page.locator("#sign-in input")

    def known() -> list[str]:
        return [each.get_attribute("autocomplete") or "" for each in fields.all()]

    expect(fields).to_have_count(2)
    assert known() == ["username", "current-password"]
    sign_in(page, INVITED)
    expect(fields).to_have_count(3)
    assert known() == ["username", "new-password", "new-password"]


def test_a_wrong_password_is_said(open_fake: OpenFake, api: FakeApi) -> None:
    """In words that do not tell whether there is such a user; what was typed stays."""
    wrong = exception("NotAuthorizedException", "Incorrect username or password.")
    unknown = exception("UserNotFoundException", "User does not exist.")
    many = exception("NotAuthorizedException", "Password attempts exceeded")
    cognito(api, wrong, many, unknown, exception("TooManyRequestsException", "Rate exceeded"))
    page = open_fake()
    for words in (
        "The email address or the password is wrong.",
        "Password attempts exceeded",
        "The email address or the password is wrong.",
        "Too many attempts.",
    ):
        sign_in(page)
        expect(dialog_error(page)).to_contain_text(words)
    expect(page.get_by_label("Email address")).to_have_value(ADA)


def test_an_invited_user_chooses_a_password(open_fake: OpenFake, api: FakeApi) -> None:
    """Twice the same, and one that the pool takes."""
    policy = exception("InvalidPasswordException", "Password must have symbols")
    fake = cognito(api, challenge("NEW_PASSWORD_REQUIRED"), policy, tokens("ada"))
    page = open_fake()
    sign_in(page, INVITED)
    page.get_by_label("New password", exact=True).fill("short")
    page.get_by_label("New password, again").fill("shirt")
    page.get_by_role("button", name="Set password").click()
    expect(dialog_error(page)).to_contain_text("not the same")
    page.get_by_label("New password, again").fill("short")
    page.get_by_role("button", name="Set password").click()
    expect(dialog_error(page)).to_contain_text("must have symbols")
    page.get_by_role("button", name="Set password").click()
    expect(page.locator(".tile")).to_have_count(1)
    operation, said = fake.asked[-1]
    assert operation == "RespondToAuthChallenge"
    assert said["ChallengeResponses"] == {"USERNAME": ADA, "NEW_PASSWORD": "short"}


def test_a_second_factor_is_asked_for(open_fake: OpenFake, api: FakeApi) -> None:
    """The code of an authenticator; a wrong one can be corrected."""
    mismatch = exception("CodeMismatchException", "Invalid code received for user")
    fake = cognito(api, challenge("SOFTWARE_TOKEN_MFA"), mismatch, tokens("ada"))
    page = open_fake()
    sign_in(page)
    page.get_by_label("Code").fill("000000")
    page.get_by_role("button", name="Continue").click()
    expect(dialog_error(page)).to_have_text("The code is wrong.")
    page.get_by_label("Code").fill("123456")
    page.get_by_role("button", name="Continue").click()
    expect(page.locator(".tile")).to_have_count(1)
    responses = {"USERNAME": ADA, "SOFTWARE_TOKEN_MFA_CODE": "123456"}
    assert fake.asked[-1][1]["ChallengeResponses"] == responses


@pytest.mark.parametrize("who", ["administrator", "user"])
def test_a_forgotten_password_is_reset(open_fake: OpenFake, api: FakeApi, who: str) -> None:
    """Whoever wants it, with a code that is sent; then one is signed in with the new password."""
    if who == "administrator":
        first = exception("PasswordResetRequiredException", "Password reset required")
    else:
        first = Answer({"CodeDeliveryDetails": {"Destination": "a***@e***"}})
    fake = cognito(api, first, Answer({}), tokens("ada"))
    page = open_fake()
    if who == "administrator":
        sign_in(page, INVITED)
    else:
        page.get_by_label("Email address").fill(ADA)
        page.get_by_role("button", name="Forgot your password?").click()
        page.get_by_role("button", name="Send code").click()
        expect(page.get_by_role("dialog")).to_contain_text("on its way to a***@e***")
    page.get_by_label("Code").fill(" 123456 ")
    page.get_by_label("New password", exact=True).fill(CHOSEN)
    page.get_by_label("New password, again").fill(CHOSEN)
    page.get_by_role("button", name="Set password").click()
    expect(page.locator(".tile")).to_have_count(1)
    assert fake.asked[1] == (
        "ConfirmForgotPassword",
        {"ClientId": "client", "Username": ADA, "ConfirmationCode": "123456", "Password": CHOSEN},
    )


def test_a_session_goes_on_by_itself(open_fake: OpenFake, api: FakeApi) -> None:
    """Tokens that are about to end are exchanged, once for all that is asked at a time."""
    fake = cognito(api, tokens("old", seconds=30), tokens("new"))
    page = open_fake()
    sign_in(page)
    expect(page.locator(".tile")).to_have_count(1)
    assert [operation for operation, _ in fake.asked] == ["InitiateAuth", "InitiateAuth"]
    assert fake.asked[1][1]["AuthParameters"] == {"REFRESH_TOKEN": "refresh-old"}
    sent = {request.headers.get("authorization") for request in api.requests("GET", "/images")}
    assert sent == {"id-new"}


def test_tokens_that_are_refused_are_exchanged_once(open_fake: OpenFake, api: FakeApi) -> None:
    """If that does not help, one signs in again, and nothing was in the way of the rest."""
    ended = exception("NotAuthorizedException", "Refresh Token has been revoked")
    fake = cognito(api, tokens("bad"), tokens("worse"), ended, tokens("good"))

    def guarded(request: Request) -> Answer | None:
        is_good = request.headers["authorization"] == "id-good"
        return None if is_good else refused(401, "sign_in_required", "Sign in.")

    for path in ("/images", "/labels", "/stats"):
        api.answers["GET", path] = guarded
    page = open_fake()
    sign_in(page)
    expect(dialog_error(page)).to_have_text("Your session has ended. Sign in again.")
    expect(page.locator("#banner")).to_be_hidden()
    fake.answers = [tokens("good")]
    sign_in(page)
    expect(page.locator(".tile")).to_have_count(1)


def test_signing_out_forgets_everything(open_fake: OpenFake, api: FakeApi) -> None:
    """The refresh token is revoked, the pictures and the address are gone, a reload asks again."""
    fake = cognito(api, tokens("ada"), Answer({}))
    page = open_fake("#image=image000001")
    sign_in(page)
    expect(page.locator("#detail-name")).to_have_text("picture 1.jpg")
    page.keyboard.press("Escape")
    page.reload()
    expect(page.locator(".tile")).to_have_count(1)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(page.locator(".tile")).to_have_count(0)
    until(page, lambda: len(fake.asked) == 2)
    assert fake.asked[-1] == ("RevokeToken", {"ClientId": "client", "Token": "refresh-ada"})
    assert "#" not in page.url
    assert page.evaluate("sessionStorage.length + localStorage.length") == 0


def test_a_key_is_asked_for(open_fake: OpenFake, api: FakeApi) -> None:
    """And again when it is wrong; it is kept while the tab is open."""
    api.sign_in = {"auth": "key"}

    def guarded(request: Request) -> Answer | None:
        is_right = request.headers.get("x-api-key") == "right"
        return None if is_right else refused(403, "invalid_api_key", "No.")

    for path in ("/images", "/labels", "/stats"):
        api.answers["GET", path] = guarded
    page = open_fake()
    for key in ("wrong", "right"):
        page.get_by_label("API key", exact=True).fill(key)
        page.get_by_role("button", name="Continue").click()
        if key == "wrong":
            expect(dialog_error(page)).to_have_text("This API key is not valid.")
    expect(page.locator(".tile")).to_have_count(1)
    expect(page.locator("#banner")).to_be_hidden()
    page.reload()
    expect(page.locator(".tile")).to_have_count(1)


def test_signed_requests_are_beyond_the_page(open_fake: OpenFake, api: FakeApi) -> None:
    """Behind a proxy that signs it works; otherwise it says what is missing."""
    api.sign_in = {"auth": "iam"}
    api.answers["GET", "/images"] = refused(403, "missing_authentication_token", "Missing.")
    page = open_fake()
    expect(page.get_by_role("alert")).to_contain_text("signed with AWS credentials")
    expect(page.get_by_role("button", name="Sign out")).to_be_hidden()


@pytest.mark.parametrize(
    "options",
    [
        {"color_scheme": "light"},
        {"color_scheme": "dark"},
        {"viewport": {"width": 390, "height": 844}, "has_touch": True},
    ],
    ids=["light", "dark", "phone"],
)
def test_the_way_in_is_open_to_all(
    open_fake: OpenFake, api: FakeApi, options: dict[str, Any]
) -> None:
    """axe-core finds nothing to object to."""
    cognito(api, exception("TooManyRequestsException"), challenge("NEW_PASSWORD_REQUIRED"))
    page = open_fake(reduced_motion="reduce", **options)
    sign_in(page)
    expect(dialog_error(page)).to_contain_text("Too many")
    assert objections(page) == ""
    sign_in(page)
    expect(page.get_by_label("New password, again")).to_be_visible()
    assert objections(page) == ""


# ── for real ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def with_users() -> Iterator[LocalCloud]:
    """A local cloud whose API asks for users, of whom one is invited."""
    with LocalCloud(settings={"API_AUTH": "cognito"}) as cloud:
        cloud.client("cognito-idp").admin_create_user(
            UserPoolId=cloud.outputs["UserPoolId"],
            Username=ADA,
            TemporaryPassword=INVITED,
            MessageAction="SUPPRESS",
        )
        yield cloud


def test_from_an_invitation_to_a_picture(
    with_users: LocalCloud, new_context: Callable[..., BrowserContext]
) -> None:
    """Against a user pool: a first sign-in, an upload, and out again."""
    page = new_context().new_page()
    page.goto(f"{with_users.api_url}/")
    sign_in(page, "Wrong-word-123")
    expect(dialog_error(page)).to_contain_text("is wrong")
    sign_in(page, INVITED)
    page.get_by_label("New password", exact=True).fill(CHOSEN)
    page.get_by_label("New password, again").fill(CHOSEN)
    page.get_by_role("button", name="Set password").click()
    expect(page.get_by_role("heading", name="No images yet")).to_be_visible()
    body = saved(photo(300, 200))
    page.set_input_files("#files", {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": body})
    expect(page.locator(".tile img.loaded")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    sign_in(page, CHOSEN)
    expect(page.locator(".tile img.loaded")).to_be_visible()
