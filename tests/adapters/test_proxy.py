"""Rekognition sees on a proxy what it sees on the original, and so in every format and size.

The local Rekognition looks at views of 240 pixels, so these tests prove that a proxy is upright,
whole and like the original; what AWS's own detectors make of it, ``python -m benchmarks.proxy``
tells.
"""

from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from PIL import Image

from benchmarks.proxy import LABELS, Comparison, overlap, photographs, proxy_of
from chalicelib.aws.recognition import Recognizer
from chalicelib.config import parse_recognition
from chalicelib.errors import RecognitionRefused
from chalicelib.model import BoundingBox, Label
from localcloud.cloud import LocalCloud
from localcloud.emulator import REGION
from tests.pictures import saved, stored

CONFIDENCE_TOLERANCE = 12
"""Percent, the mean over an answer's labels. The most that was measured is 8.8: the local
confidence is a count of votes, of which a lossy encoding moves a few."""

LEAST_IOU = 0.8
"""Of a box on the original and one on the proxy. The least that was measured is 0.94."""

FACES = "labels 50 55%, faces"
"""Takes a larger proxy."""


@pytest.fixture(scope="module")
def client(cloud: LocalCloud) -> Any:
    return boto3.client(
        "rekognition",
        endpoint_url=cloud.rekognition_url,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 - no secret
    )


@pytest.fixture(scope="module")
def recognizer(client: Any) -> Recognizer:
    return Recognizer(client, parse_recognition(LABELS))


@cache
def photograph(name: str, times: int = 1) -> Image.Image:
    """One of scikit-image's, enlarged."""
    path = next(path for path in photographs() if path.stem == name)
    with Image.open(path) as image:
        size = image.width * times, image.height * times
        return image.convert("RGB").resize(size, Image.Resampling.BICUBIC)


def assert_seen_alike(recognizer: Recognizer, original: bytes, recognition: str = LABELS) -> None:
    on_original = recognizer.recognize(original).labels
    on_proxy = recognizer.recognize(proxy_of(original, recognition)).labels
    found = Comparison.of(on_original, on_proxy)
    assert (found.only_first, found.only_second) == ((), ())
    assert found.confidence_apart <= CONFIDENCE_TOLERANCE
    assert found.worst_iou >= LEAST_IOU


@pytest.mark.parametrize("path", photographs(), ids=lambda path: path.stem)
def test_photograph_is_seen_alike(recognizer: Recognizer, path: Path) -> None:
    """The same labels, or none on both, in the same places."""
    assert_seen_alike(recognizer, path.read_bytes())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("name", "times"), [("chelsea", 5), ("astronaut", 4)])
def test_photograph_that_lies_is_seen_alike(
    recognizer: Recognizer, name: str, times: int, orientation: int
) -> None:
    """Rekognition turns a JPEG as its EXIF says, so the boxes of both are those of the upright."""
    original = stored(photograph(name, times), "JPEG", orientation)
    assert recognizer.recognize(original).labels
    for recognition in (LABELS, FACES):
        assert_seen_alike(recognizer, original, recognition)


@pytest.mark.parametrize("kind", ["WEBP", "HEIF", "AVIF", "TIFF", "GIF", "BMP"])
def test_format_that_is_refused_is_seen_through_its_proxy(
    recognizer: Recognizer, kind: str
) -> None:
    """As is the same picture in a format that Rekognition takes."""
    cat = photograph("chelsea")
    original = stored(cat, kind)
    with pytest.raises(RecognitionRefused, match="invalid image format"):
        recognizer.recognize(original)

    seen = recognizer.recognize(proxy_of(original)).labels

    found = Comparison.of(recognizer.recognize(saved(cat, "PNG")).labels, seen)
    assert "Cat" in [label.name for label in seen]
    assert (found.only_first, found.only_second) == ((), ())
    assert found.worst_iou >= LEAST_IOU


def test_original_over_15_mb_is_seen_through_its_proxy(
    cloud: LocalCloud, recognizer: Recognizer
) -> None:
    """Rekognition takes 5 MB of bytes, and 15 MB of an object in S3."""
    original = saved(photograph("chelsea", 7), "PNG", compress_level=0)
    assert len(original) > 15 * 1024 * 1024
    with pytest.raises(RecognitionRefused, match="less than or equal to 5242880"):
        recognizer.recognize(original)
    bucket, key = cloud.outputs["UploadsBucket"], "proxy/cat.png"  # nothing is triggered there
    cloud.client("s3").put_object(Bucket=bucket, Key=key, Body=original)
    with pytest.raises(ClientError, match="ImageTooLargeException"):
        recognizer.client.detect_labels(Image={"S3Object": {"Bucket": bucket, "Name": key}})

    seen = recognizer.recognize(proxy_of(original)).labels

    assert "Cat" in [label.name for label in seen]


@pytest.mark.parametrize("size", [(79, 60), (10_100, 90), (3, 900)], ids=str)
def test_size_that_is_refused_is_taken_as_its_proxy(
    recognizer: Recognizer, size: tuple[int, int]
) -> None:
    """A side of less than 80 pixels, or of more than 10,000."""
    original = saved(photograph("coffee").resize(size), "PNG")
    with pytest.raises(RecognitionRefused):
        recognizer.recognize(original)

    recognizer.recognize(proxy_of(original))


def test_answers_are_compared_by_names_confidences_and_boxes() -> None:
    """What only one has, how far apart the others are, and a box that the other lacks."""
    box, shifted = BoundingBox(0.2, 0.2, 0.4, 0.4), BoundingBox(0.3, 0.2, 0.4, 0.4)
    cat, dog = Label("Cat", 90, boxes=(box,)), Label("Dog", 80)
    assert Comparison.of([cat, dog], [cat, dog]) == Comparison((), (), 0, 1)
    moved = Label("Cat", 80, boxes=(shifted,))
    found = Comparison.of([cat, dog], [moved, Label("Pet", 99)])
    assert (found.only_first, found.only_second) == (("Dog",), ("Pet",))
    assert found.confidence_apart == 10
    assert found.worst_iou == pytest.approx(0.6) == overlap(box, shifted)
    assert Comparison.of([cat], [Label("Cat", 90)]).worst_iou == 0
    assert Comparison.of([], []) == Comparison((), (), 0, 1)
