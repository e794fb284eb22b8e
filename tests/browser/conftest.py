"""The page in Debian's Chromium, on the running local cloud or with an API in memory."""

import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright

from localcloud.cloud import LocalCloud
from tests.browser.fake_api import API, FakeApi
from tests.waiting import TIMEOUT_S

CHROMIUM = shutil.which("chromium")
TIMEOUT_MS = TIMEOUT_S * 1000

QUIET = (
    "--no-sandbox",  # tests may run as root
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    expect.set_options(timeout=TIMEOUT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture
def new_context(browser: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """Makes contexts in which an error of the page's scripts or policy fails the test."""
    complaints: list[str] = []
    contexts = []

    def listen(message: Any) -> None:
        # Chromium logs every 4xx answer as an error of loading, which is none of the page.
        if message.type in {"error", "warning"} and "Failed to load resource" not in message.text:
            complaints.append(message.text)

    def new_context(**options: Any) -> BrowserContext:
        context = browser.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(TIMEOUT_MS)
        context.on("console", listen)
        context.on("weberror", lambda error: complaints.append(str(error.error)))
        return context

    yield new_context
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def open_page(new_context: Callable[..., BrowserContext], cloud: LocalCloud) -> Callable[..., Page]:
    """Opens the page on the local cloud, at a fragment if given."""

    def open_page(fragment: str = "", **options: Any) -> Page:
        page = new_context(**options).new_page()
        page.goto(f"{cloud.api_url}/{fragment}")
        return page

    return open_page


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    return open_page()


@pytest.fixture
def api() -> FakeApi:
    """An API in memory, for what takes no cloud to be shown."""
    return FakeApi()


@pytest.fixture
def open_fake(new_context: Callable[..., BrowserContext], api: FakeApi) -> Callable[..., Page]:
    """Opens a page whose API is ``api``; ``path`` may have a fragment."""

    def open_fake(path: str = "", **options: Any) -> Page:
        context = new_context(**options)
        api.install(context)
        page = context.new_page()
        page.goto(f"{API}/{path}")
        return page

    return open_fake


class Hold:
    """Keeps requests waiting until they are released; later ones are kept no more."""

    def __init__(self, page: Page, path: str, method: str) -> None:
        self.kept: list[Route] = []
        self._method: str | None = method
        page.route(path, self._keep)

    def _keep(self, route: Route) -> None:
        if route.request.method == self._method:
            self.kept.append(route)
        else:
            route.fallback()

    def release(self) -> None:
        self._method = None
        for route in self.kept:
            route.fallback()


def until(page: Page, condition: Callable[[], Any]) -> None:
    """Wait for what no locator tells, while requests are answered."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, f"not so within {TIMEOUT_S} s"
        page.wait_for_timeout(20)


def faded(page: Page) -> None:
    """Wait until all that fades has done so; spinners turn for ever."""
    page.evaluate(
        """() => Promise.allSettled(
            document.getAnimations()
                .filter((each) => each.effect.getComputedTiming().endTime < Infinity)
                .map((each) => each.finished))"""
    )


def objections(page: Page) -> str:
    """What axe-core objects to on the page as it is now."""
    faded(page)  # until then there is less contrast
    results = Axe().run(page)
    return results.generate_report() if results.violations_count else ""
