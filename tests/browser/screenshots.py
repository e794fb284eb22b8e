"""``python -m tests.browser.screenshots``: the pictures of the page that the documentation shows.

A local cloud gets a dozen photographs, and Chromium takes the page's picture once it has them all.
"""

import json
import shutil
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import skimage.data
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from localcloud.cloud import LocalCloud
from tests.pictures import exif, saved
from tests.waiting import eventually

FOLDER = Path(__file__).parents[2] / "docs" / "images"
MAX_BYTES = 400_000
WIDE: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 780},
    "device_scale_factor": 1.5,
    "has_touch": True,
}


def main() -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("There is no chromium: apt-get install chromium")
    FOLDER.mkdir(exist_ok=True)
    with LocalCloud() as cloud, sync_playwright() as playwright:
        fill(cloud)
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        take(opened(browser, cloud, color_scheme="light", **WIDE), "gallery")
        detail = opened(browser, cloud, color_scheme="light", **WIDE)
        open_image(detail, "astronaut.jpg")
        take(detail, "detail")
        take(opened(browser, cloud, color_scheme="dark", **PHONE), "dark-phone")
        browser.close()


def photographs() -> Iterator[tuple[str, Image.Image]]:
    """Names and pictures, the first of which is the last in the gallery."""
    deep_field = Image.fromarray(skimage.data.hubble_deep_field())
    astronaut = Image.fromarray(skimage.data.astronaut()).resize((1024, 1024))
    cat = Image.fromarray(skimage.data.chelsea())
    rocket = Image.fromarray(skimage.data.rocket())
    yield "galaxies.jpg", deep_field.crop((60, 300, 560, 800))
    yield "coins.jpg", Image.fromarray(skimage.data.coins())
    yield "cameraman.jpg", Image.fromarray(skimage.data.camera())
    yield "whiskers.jpg", cat.crop((120, 20, 340, 280))
    yield "moon.jpg", Image.fromarray(skimage.data.moon())
    yield "launch pad.jpg", rocket.crop((180, 0, 480, 427))
    yield "motorcycle.jpg", Image.fromarray(skimage.data.stereo_motorcycle()[0])
    yield "portrait.jpg", astronaut.crop((220, 0, 700, 600))
    yield "coffee.jpg", Image.fromarray(skimage.data.coffee())
    yield "deep field.jpg", deep_field
    yield "cat.jpg", cat
    yield "rocket.jpg", rocket
    yield "astronaut.jpg", astronaut


def fill(cloud: LocalCloud) -> None:
    """Put all of them into the bucket, one after another, and wait for what becomes of them."""
    for name, photograph in photographs():
        cloud.client("s3").put_object(
            Bucket=cloud.outputs["UploadsBucket"],
            Key=f"uploads/{name}",
            Body=saved(photograph, quality=92, exif=exif()),
            ContentType="image/jpeg",
        )
        eventually(lambda name=name: is_completed(cloud, name))


def is_completed(cloud: LocalCloud, name: str) -> bool:
    with urlopen(f"{cloud.api_url}/images?status=COMPLETED&limit=100") as answer:
        return any(image["key"] == f"uploads/{name}" for image in json.load(answer)["images"])


def opened(browser: Browser, cloud: LocalCloud, **options: Any) -> Page:
    page = browser.new_page(reduced_motion="reduce", **options)
    page.goto(cloud.api_url)
    page.locator(".tile img.loaded").first.wait_for()
    page.locator("#facets .chip").first.wait_for()
    return page


def open_image(page: Page, name: str) -> None:
    page.locator(".tile").filter(has_text=name).locator(".face").click()
    page.locator(".frame img.loaded").wait_for()
    page.locator(".versions").wait_for(state="attached")
    page.locator("#detail-close").evaluate("button => button.blur()")


def take(page: Page, name: str) -> None:
    """A screenshot in as many colours as it may have bytes for."""
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(500)  # what fades in does so to the end
    picture = Image.open(BytesIO(page.screenshot())).convert("RGB")
    for colors in (256, 192, 128, 96, 64):
        body = saved(picture.quantize(colors), "PNG", optimize=True)
        if len(body) <= MAX_BYTES:
            break
    path = FOLDER / f"{name}.png"
    path.write_bytes(body)
    print(f"{path}: {len(body) / 1000:.0f} kB, {colors} colours")  # noqa: T201 - it is a command


if __name__ == "__main__":
    main()
