"""Labels and image properties, from the local Rekognition and from answers made up."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from chalicelib.aws.recognition import Recognizer
from chalicelib.errors import RecognitionRefused, Throttled
from chalicelib.imaging import render
from chalicelib.model import (
    BoundingBox,
    DominantColor,
    ImageProperties,
    Label,
    Limits,
    Recognition,
)
from localcloud.cloud import LocalCloud
from localcloud.emulator import REGION
from localcloud.rekognition.server import FAULTS_PATH
from tests.adapters.conftest import Operations, error_of
from tests.pictures import photo, saved


@pytest.fixture(scope="module")
def client(cloud: LocalCloud) -> Any:
    """A client that gives up at once: how often to try is not the adapter's business."""
    return boto3.client(
        "rekognition",
        endpoint_url=cloud.rekognition_url,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 - no secret
        config=Config(retries={"total_max_attempts": 1}),
    )


@pytest.fixture
def recognizer(client: Any) -> Recognizer:
    return Recognizer(client, max_labels=10, min_confidence=55, image_properties=True)


@pytest.fixture(scope="module")
def cat() -> bytes:
    """What Rekognition would see of a photo of a cat."""
    import skimage.data  # noqa: PLC0415 - takes a while, and not every test needs it

    original = Path(skimage.data.__file__).with_name("chelsea.png").read_bytes()
    return render(original, (), Limits()).proxy


def faults(cloud: LocalCloud, **changes: object) -> None:
    body = json.dumps(changes).encode()
    request = Request(cloud.rekognition_url + FAULTS_PATH, body, method="PUT")
    with urlopen(request, timeout=10):
        pass


@pytest.fixture
def faulty(cloud: LocalCloud) -> Iterator[LocalCloud]:
    """The cloud, its Rekognition well again afterwards."""
    yield cloud
    faults(cloud)


def test_photo_is_recognized(recognizer: Recognizer, cat: bytes) -> None:
    """Labels, surest first, boxes as fractions, and properties as they are configured."""
    recognition = recognizer.recognize(cat)

    assert "Cat" in [label.name for label in recognition.labels]
    confidences = [label.confidence for label in recognition.labels]
    assert confidences == sorted(confidences, reverse=True)
    assert all(55 <= confidence <= 100 for confidence in confidences)
    boxes = [box for label in recognition.labels for box in label.boxes]
    assert boxes
    for box in boxes:
        assert 0 <= box.left <= box.left + box.width <= 1.0002
        assert 0 <= box.top <= box.top + box.height <= 1.0002
    properties = recognition.properties
    assert properties is not None
    for quality in (properties.brightness, properties.sharpness, properties.contrast):
        assert 0 <= quality <= 100
    assert all(color.hex.startswith("#") and len(color.hex) == 7 for color in properties.colors)


def test_properties_are_asked_for_only_if_configured(client: Any, cat: bytes) -> None:
    """They are billed as a second call."""
    plain = Recognizer(client, max_labels=10, min_confidence=55, image_properties=False)

    assert plain.recognize(cat).properties is None


def test_settings_reach_rekognition(client: Any, cat: bytes) -> None:
    """No more labels than asked for, and none that is less sure."""
    one = Recognizer(client, max_labels=1, min_confidence=0, image_properties=False)
    sure = Recognizer(client, max_labels=10, min_confidence=100, image_properties=False)

    assert len(one.recognize(cat).labels) == 1
    assert all(label.confidence == 100 for label in sure.recognize(cat).labels)


@pytest.mark.parametrize(
    "proxy",
    [b"This is no picture.", b"\x00" * 100, saved(photo(90, 90), "WEBP"), bytes(5 * 2**20 + 1)],
    ids=["text", "zeros", "webp", "too large"],
)
def test_picture_that_is_at_fault_is_refused_for_good(recognizer: Recognizer, proxy: bytes) -> None:
    """What Rekognition will never take is a permanent failure that says what it said."""
    with pytest.raises(RecognitionRefused, match=r"Rekognition refused the picture: .+"):
        recognizer.recognize(proxy)


@pytest.mark.parametrize("code", ["ThrottlingException", "ProvisionedThroughputExceededException"])
def test_call_over_the_quota_works_the_next_time(
    faulty: LocalCloud, recognizer: Recognizer, cat: bytes, code: str
) -> None:
    """Nothing is wrong with the picture: it has to come back, and is recognised then."""
    faults(faulty, error=code, next_calls=1)

    with pytest.raises(Throttled):
        recognizer.recognize(cat)

    assert recognizer.recognize(cat).labels


@pytest.mark.parametrize(
    "code",
    [
        "ThrottlingException",
        "ProvisionedThroughputExceededException",
        "LimitExceededException",
        "TooManyRequestsException",
    ],
)
def test_every_word_for_over_the_quota_is_known(recognizer: Recognizer, code: str) -> None:
    """None of them counts as a failure of the image, and the log can tell which it was."""
    with Operations(recognizer.client) as operations:
        operations.before("rekognition.DetectLabels", error_of(code))

        with pytest.raises(Throttled) as caught:
            recognizer.recognize(b"proxy")

    assert code in str(caught.value.__cause__)


@pytest.mark.parametrize("code", ["InternalServerError", "AccessDeniedException"])
def test_trouble_that_passes_goes_through(
    faulty: LocalCloud, recognizer: Recognizer, cat: bytes, code: str
) -> None:
    """What is neither the picture's fault nor the quota's fails as it is, and may work later."""
    faults(faulty, error=code, next_calls=1)

    with pytest.raises(ClientError, match=code):
        recognizer.recognize(cat)

    assert recognizer.recognize(cat).labels


def test_answer_is_read_in_full(client: Any) -> None:
    """Ties by name, numbers rounded, and members that Rekognition may leave out."""
    answer = {
        "Labels": [
            {"Name": "Zebra", "Confidence": 80.0},
            {
                "Name": "Cat",
                "Confidence": 98.51234,
                "Parents": [{"Name": "Pet"}, {"Name": "Animal"}],
                "Categories": [{"Name": "Animals and Pets"}],
                "Instances": [
                    {
                        "BoundingBox": {"Left": 0.123456, "Top": 0.0, "Width": 0.5, "Height": 1.0},
                        "Confidence": 98.0,
                    }
                ],
            },
            {"Name": "Apple", "Confidence": 80.0, "Instances": []},
        ],
        "ImageProperties": {
            "Quality": {"Brightness": 12.345, "Sharpness": 67.891, "Contrast": 50.0},
            "DominantColors": [{"HexCode": "#AABBCC", "PixelPercent": 33.333}],
        },
    }
    recognizer = Recognizer(client, max_labels=7, min_confidence=60.5, image_properties=True)
    with Stubber(client) as stub:
        stub.add_response(
            "detect_labels",
            answer,
            {
                "Image": {"Bytes": b"proxy"},
                "MaxLabels": 7,
                "MinConfidence": 60.5,
                "Features": ["GENERAL_LABELS", "IMAGE_PROPERTIES"],
            },
        )

        recognition = recognizer.recognize(b"proxy")

    assert recognition == Recognition(
        labels=(
            Label(
                "Cat",
                98.51,
                ("Pet", "Animal"),
                ("Animals and Pets",),
                (BoundingBox(0.1235, 0.0, 0.5, 1.0),),
            ),
            Label("Apple", 80.0),
            Label("Zebra", 80.0),
        ),
        properties=ImageProperties(12.35, 67.89, 50.0, (DominantColor("#aabbcc", 33.33),)),
    )
