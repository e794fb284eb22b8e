"""What Rekognition gives, through the running local cloud: found, withheld, told."""

import json
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from shutil import which
from typing import Any
from urllib.request import urlopen

import pytest
import skimage.data
from PIL import Image, ImageDraw, ImageFont

from chalicelib.imaging import render
from chalicelib.model import Limits, image_id_of
from localcloud.cloud import LocalCloud
from tests.e2e.test_way_of_an_image import Api, Inbox, stored_renditions
from tests.pictures import heic, photo, saved
from tests.waiting import TIMEOUT_S, eventually

RECOGNISED = {"COMPLETED", "QUARANTINED", "FAILED"}


@pytest.fixture
def api(cloud: LocalCloud) -> Api:
    return Api(cloud.api_url)


@pytest.fixture(scope="module")
def inbox(cloud: LocalCloud) -> Inbox:
    return Inbox(cloud)


def upload(cloud: LocalCloud, name: str, body: bytes) -> str:
    """Put an original into the bucket, and give its key."""
    key = f"uploads/recognition/{name}"
    cloud.client("s3").put_object(Bucket=cloud.outputs["UploadsBucket"], Key=key, Body=body)
    return key


def final(api: Api, key: str) -> Any:
    """The image of a key once it is settled."""

    def is_final() -> Any:
        status, image = api("GET", f"/images/{image_id_of(key)}")
        return image if status == 200 and image["status"] in RECOGNISED else None

    return eventually(is_final)


def sample(name: str) -> Image.Image:
    return Image.open(Path(skimage.data.__file__).with_name(name)).convert("RGB")


def labels_of(image: Any) -> set[str]:
    return {label["name"] for label in image["labels"]}


# ── what is found ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("cat.webp", partial(saved, format="WEBP")),
        ("cat.heic", heic),
        ("cat.tiff", partial(saved, format="TIFF")),
    ],
)
def test_format_that_rekognition_refuses_is_recognised(
    cloud: LocalCloud, api: Api, name: str, body: Any
) -> None:
    """It takes JPEG and PNG alone; what it is shown is a JPEG whatever the original is."""
    image = final(api, upload(cloud, name, body(sample("chelsea.png"))))

    assert image["status"] == "COMPLETED", image
    assert "Cat" in labels_of(image)


def test_original_of_over_15_mb_is_recognised(cloud: LocalCloud, api: Api) -> None:
    """Neither the 15 MB that Rekognition takes from S3 nor the 5 MB of a request are a limit."""
    large = sample("chelsea.png").resize((2700, 2100))

    image = final(api, upload(cloud, "large.bmp", saved(large, "BMP")))

    assert image["size_bytes"] > 15 * 1024 * 1024
    assert "Cat" in labels_of(image)


def test_picture_without_a_face_is_complete(cloud: LocalCloud, api: Api) -> None:
    """With everything asked for, a picture that shows nobody and nothing is no failure."""
    image = final(api, upload(cloud, "nobody.png", saved(photo(300, 200), "PNG")))

    assert image["status"] == "COMPLETED", image
    assert (image["faces"], image["celebrities"], image["moderation_labels"]) == ([], [], [])
    assert image["image_properties"]["colors"]


def test_face_is_found_where_it_is(cloud: LocalCloud, api: Api) -> None:
    """Its box lies around the face of the original, whatever the sizes."""
    image = final(api, upload(cloud, "astronaut.png", saved(sample("astronaut.png"), "PNG")))

    [face] = image["faces"]
    middle = [face["box"]["left"] + face["box"]["width"] / 2, face["box"]["top"]]
    assert middle[0] == pytest.approx(0.44, abs=0.05)
    assert 0.02 < middle[1] < 0.25
    assert labels_of(image) >= {"Face", "Person"}


@pytest.mark.skipif(not which("tesseract"), reason="text is read by Tesseract, if it is installed")
def test_words_in_a_picture_are_found(cloud: LocalCloud, api: Api) -> None:
    """By word and in whatever case, together with other filters."""
    page = Image.new("RGB", (900, 300), "white")
    font = ImageFont.load_default(size=90)
    ImageDraw.Draw(page).text((60, 90), "Summer SALE", "black", font)

    key = upload(cloud, "poster.png", saved(page, "PNG"))

    assert [line["text"] for line in final(api, key)["text"]] == ["Summer SALE"]
    for query in ("text=sale", "text=SUMMER&text=sale", "text=summer+sale&status=COMPLETED"):
        found = [image["key"] for image in api("GET", f"/images?{query}")[1]["images"]]
        assert found == [key], query
    assert not api("GET", "/images?text=winter")[1]["images"]


def test_cat_is_an_animal(cloud: LocalCloud, api: Api) -> None:
    """What is above a label finds it, and counts it once."""
    key = upload(cloud, "animal.jpg", saved(sample("chelsea.png")))
    assert "Cat" in labels_of(final(api, key))

    def found_as_counted() -> Any:  # others may come and go meanwhile
        found = [each["key"] for each in api("GET", "/images?label=animal&limit=100")[1]["images"]]
        counted = {each["name"]: each["images"] for each in api("GET", "/labels")[1]["labels"]}
        return found if counted["Animal"] == len(found) else None

    assert key in eventually(found_as_counted)


# ── duplicates ───────────────────────────────────────────────────────────────────────────────────


def test_same_file_at_once_is_one_and_its_duplicate(
    cloud: LocalCloud, api: Api, inbox: Inbox
) -> None:
    """Of two that come together one was there first; the other says so, and is announced so."""
    body = saved(photo(500, 400, seed=77))
    keys = [upload(cloud, f"twin {number}.jpg", body) for number in (1, 2)]

    def pairs() -> Any:
        told = [inbox.of(key, "COMPLETED") for key in keys]
        return told if all(told) else None

    told = eventually(pairs)
    images = [final(api, key) for key in keys]

    named = [[each for each in image["duplicates"] if each["is_exact"]] for image in images]
    [first, second] = sorted(range(2), key=lambda number: len(named[number]))
    assert named[first] == []
    assert [each["image_id"] for each in named[second]] == [images[first]["image_id"]]
    assert told[second][0]["MessageAttributes"]["duplicate"]["Value"] == "exact"
    assert images[0]["fingerprint"]["sha256"] == images[1]["fingerprint"]["sha256"]


def test_smaller_copy_is_a_near_duplicate(cloud: LocalCloud, api: Api, inbox: Inbox) -> None:
    """By its looks, some bits apart at most."""
    coffee = sample("coffee.png")
    first = upload(cloud, "coffee.png", saved(coffee, "PNG"))
    final(api, first)
    eventually(lambda: inbox.of(first, "COMPLETED"))

    copy = upload(cloud, "coffee.webp", saved(coffee.resize((300, 200)), "WEBP"))
    [message] = eventually(lambda: inbox.of(copy, "COMPLETED"))

    assert message["MessageAttributes"]["duplicate"]["Value"] == "near"
    duplicates = json.loads(message["Message"])["duplicates"]
    [distance] = [each["distance"] for each in duplicates if each["image_id"] == image_id_of(first)]
    assert distance <= 3


# ── quarantine ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def flagged(cloud: LocalCloud) -> Iterator[bytes]:
    """A picture that Rekognition finds fault with."""
    body = saved(sample("rocket.jpg"))
    labels = [
        {"Name": "Weapons", "ParentName": "Violence", "TaxonomyLevel": 2, "Confidence": 93.5},
        {"Name": "Violence", "ParentName": "", "TaxonomyLevel": 1, "Confidence": 93.5},
    ]
    phash = render(body, (), Limits()).fingerprint.phash
    rules = cloud.state / "moderation.json"
    rules.write_text(json.dumps({phash: labels}))
    yield body
    rules.unlink()


def test_flagged_picture_is_withheld_until_it_is_released(
    cloud: LocalCloud, api: Api, inbox: Inbox, flagged: bytes
) -> None:
    """Nobody but a reviewer gets its renditions, which lie apart until it is released."""
    withheld_before = api("GET", "/stats")[1]["images"]["QUARANTINED"]
    key = upload(cloud, "flagged.jpg", flagged)

    image = final(api, key)

    path = f"/images/{image['image_id']}"
    assert (image["status"], image["withheld_for"]) == ("QUARANTINED", ["Violence", "Weapons"])
    assert image["renditions"] == []
    status, problem = api("GET", f"{path}/renditions/thumbnail")
    assert (status, problem["code"]) == (403, "image_quarantined")
    withheld = stored_renditions(cloud, image["image_id"])
    assert len(withheld) == 4
    assert all(each.startswith("quarantine/") for each in withheld)
    [message] = eventually(lambda: inbox.of(key, "QUARANTINED"))
    assert json.loads(message["MessageAttributes"]["moderation"]["Value"]) == [
        "Violence",
        "Weapons",
    ]
    assert "quarantine/" not in json.dumps(message)
    listed = api("GET", "/images?status=QUARANTINED")[1]["images"]
    assert key in [each["key"] for each in listed]
    assert api("GET", "/stats")[1]["images"]["QUARANTINED"] == withheld_before + 1

    reviewed = api("GET", f"{path}/review")[1]
    with urlopen(reviewed["renditions"][0]["url"], timeout=TIMEOUT_S) as answer:
        assert Image.open(BytesIO(answer.read())).size == (100, 100)

    status, refused = api("POST", f"{path}/release?version_id=another", b"")
    assert (status, refused["code"]) == (409, "version_replaced")
    assert api("POST", f"{path}/release?version_id={image['version_id']}", b"")[0] == 202
    eventually(lambda: final(api, key)["status"] == "COMPLETED")

    released = final(api, key)
    assert (released["released"], released["withheld_for"]) == (True, [])
    assert len(eventually(lambda: inbox.of(key, "COMPLETED"))) == 1
    expected = {each["key"] for each in released["renditions"]}
    eventually(lambda: stored_renditions(cloud, image["image_id"]) == expected)
    with urlopen(released["renditions"][0]["url"], timeout=TIMEOUT_S) as answer:
        assert answer.status == 200
    status, refused = api("POST", f"{path}/release", b"")
    assert (status, refused["code"]) == (409, "not_quarantined")


def test_withheld_picture_can_be_deleted(cloud: LocalCloud, api: Api, flagged: bytes) -> None:
    """The other verdict: nothing of it is left."""
    key = upload(cloud, "to go.jpg", flagged)
    image = final(api, key)
    assert image["status"] == "QUARANTINED"

    assert api("DELETE", f"/images/{image['image_id']}")[0] == 202

    eventually(lambda: not stored_renditions(cloud, image["image_id"]))
    assert api("GET", f"/images/{image['image_id']}/review")[0] == 404
