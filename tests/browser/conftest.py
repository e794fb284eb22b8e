"""The page in Debian's Chromium, on the running local cloud."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from localcloud.cloud import LocalCloud

CHROMIUM = shutil.which("chromium")
TIMEOUT_MS = 20_000
"""For a picture to go all the way on a busy machine; a test that passes takes a second or two."""

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
def open_page(browser: Browser, cloud: LocalCloud) -> Iterator[Callable[..., Page]]:
    """Opens the page, at a fragment if given. Errors of its scripts and policy fail the test."""
    complaints: list[str] = []
    contexts = []

    def listen(message: Any) -> None:
        # Chromium logs every 4xx answer as an error of loading, which is none of the page.
        if message.type in {"error", "warning"} and "Failed to load resource" not in message.text:
            complaints.append(message.text)

    def open_page(fragment: str = "", **options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(TIMEOUT_MS)
        page = context.new_page()
        page.on("console", listen)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{cloud.api_url}/{fragment}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    return open_page()
