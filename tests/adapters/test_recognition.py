"""What Rekognition says of a picture, from the local one and from answers made up."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from chalicelib.aws.recognition import ATTRIBUTES, OPERATIONS, Recognizer
from chalicelib.config import FACE_ATTRIBUTES, FEATURES, parse_quarantine, parse_recognition
from chalicelib.errors import RecognitionRefused, Throttled
from chalicelib.imaging import render
from chalicelib.logs import FACTS, bound
from chalicelib.model import (
    BoundingBox,
    Celebrity,
    DominantColor,
    Face,
    FaceAttribute,
    Feature,
    ImageProperties,
    Label,
    Limits,
    ModerationLabel,
    Recognition,
    TextLine,
)
from chalicelib.moderation import TAXONOMY, reasons_to_withhold
from localcloud.cloud import LocalCloud
from localcloud.emulator import REGION
from localcloud.rekognition.faults import Faults
from localcloud.rekognition.server import FAULTS_PATH, Server
from tests.adapters.conftest import Operations, error_of
from tests.pictures import photo, saved
from tests.waiting import TIMEOUT_S


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


def asking(client: Any, recognition: str) -> Recognizer:
    """Asks for what this value of RECOGNITION says."""
    return Recognizer(client, parse_recognition(recognition))


@pytest.fixture
def recognizer(client: Any) -> Recognizer:
    return asking(client, "labels 10 55%, properties")


@pytest.fixture(scope="module")
def cat() -> bytes:
    """What Rekognition would see of a photo of a cat."""
    import skimage.data  # noqa: PLC0415 - takes a while, and not every test needs it

    original = Path(skimage.data.__file__).with_name("chelsea.png").read_bytes()
    return render(original, (), Limits()).proxy


def faults(cloud: LocalCloud, **changes: object) -> None:
    body = json.dumps(changes).encode()
    request = Request(cloud.rekognition_url + FAULTS_PATH, body, method="PUT")
    with urlopen(request, timeout=TIMEOUT_S):
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
    """They are billed as a second call, and to be had alone."""
    assert asking(client, "labels").recognize(cat).properties is None

    alone = asking(client, "properties").recognize(cat)
    assert alone == Recognition(properties=alone.properties)
    assert alone.properties is not None


def test_settings_reach_rekognition(client: Any, cat: bytes) -> None:
    """No more labels than asked for, and none that is less sure."""
    one = asking(client, "labels 1 0%")
    sure = asking(client, "labels 10 100%")

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
    recognizer = asking(client, "labels 7 60.5%, properties")
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


# ── each operation's request and answer ──────────────────────────────────────────────────────────


def answered(client: Any, recognition: str, answer: dict[str, Any], **asked: Any) -> Recognition:
    """What comes of an answer to the one operation that is asked, and in which words it is."""
    recognizer = asking(client, recognition)
    [operation] = [
        ask.__name__.removeprefix("_")
        for features, ask in OPERATIONS.items()
        if {spec.feature for spec in recognizer.features} & {*features}
    ]
    with Stubber(client) as stub:
        stub.add_response(operation, answer, {"Image": {"Bytes": b"proxy"}, **asked})
        recognized = recognizer.recognize(b"proxy")
        stub.assert_no_pending_responses()
    return recognized


def box(left: float = 0, top: float = 0, width: float = 1, height: float = 1) -> dict[str, float]:
    return {"Left": left, "Top": top, "Width": width, "Height": height}


WHOLE = BoundingBox(0, 0, 1, 1)


def test_properties_alone_are_no_labels(client: Any) -> None:
    """Only they are asked for: limits of labels go with labels alone."""
    quality = {"Brightness": 1.0, "Sharpness": 2.0, "Contrast": 3.0}
    answer = {"Labels": [], "ImageProperties": {"Quality": quality}}

    recognition = answered(client, "properties", answer, Features=["IMAGE_PROPERTIES"])

    assert recognition == Recognition(properties=ImageProperties(1, 2, 3))


def test_labels_that_are_less_sure_or_too_many_are_dropped(client: Any) -> None:
    """Whatever the service thinks of its limits; a rounded confidence makes nothing surer."""
    answer = {
        "Labels": [
            {"Name": "Unsure", "Confidence": 69.999},
            {"Name": "Cat", "Confidence": 70.0},
            {"Name": "Dog", "Confidence": 90.0},
            {"Name": "Bird", "Confidence": 80.0},
        ]
    }

    recognition = answered(
        client,
        "labels 2 70%",
        answer,
        MaxLabels=2,
        MinConfidence=70.0,
        Features=["GENERAL_LABELS"],
    )

    assert [label.name for label in recognition.labels] == ["Dog", "Bird"]


@pytest.mark.parametrize(
    ("rekognition", "ours"),
    [
        (box(0.25, 0.5, 0.25, 0.125), BoundingBox(0.25, 0.5, 0.25, 0.125)),
        (box(-0.1, -0.2, 0.5, 0.5), BoundingBox(0, 0, 0.4, 0.3)),
        (box(0.9, 0.75, 0.5, 0.5), BoundingBox(0.9, 0.75, 0.1, 0.25)),
        (box(-0.5, -0.5, 2, 2), WHOLE),
        (box(1.2, -0.3, 0.1, 0.2), BoundingBox(1, 0, 0, 0)),
        (box(0.33336, 0.12346, 0.66666, 0.87654), BoundingBox(0.3334, 0.1235, 0.6666, 0.8765)),
    ],
)
def test_box_lies_in_the_picture(
    client: Any, rekognition: dict[str, float], ours: BoundingBox
) -> None:
    """Faces at the edge go over it; every rendition can show a box that does not."""
    answer = {"FaceDetails": [{"BoundingBox": rekognition, "Confidence": 99.0}]}

    [face] = answered(client, "faces", answer, Attributes=["DEFAULT"]).faces

    assert face.box == ours
    assert face.box.left + face.box.width <= 1 + 1e-9
    assert face.box.top + face.box.height <= 1 + 1e-9


def test_moderation_labels_come_with_what_they_belong_to(client: Any) -> None:
    """Surest first; of those as sure the upper first, so that the limit cuts off what is below."""
    answer = {
        "ModerationLabels": [
            {"Name": "Unsure", "Confidence": 54.9, "ParentName": "", "TaxonomyLevel": 1},
            {
                "Name": "Corpses",
                "Confidence": 80.004,
                "ParentName": "Death and Emaciation",
                "TaxonomyLevel": 3,
            },
            {
                "Name": "Death and Emaciation",
                "Confidence": 80.001,
                "ParentName": "Visually Disturbing",
                "TaxonomyLevel": 2,
            },
            {
                "Name": "Visually Disturbing",
                "Confidence": 80.0,
                "ParentName": "",
                "TaxonomyLevel": 1,
            },
            {"Name": "Violence", "Confidence": 91.237},
        ],
        "ModerationModelVersion": "7.0",
    }
    expected = (
        ModerationLabel("Violence", 91.24),
        ModerationLabel("Visually Disturbing", 80.0),
        ModerationLabel("Death and Emaciation", 80.0, "Visually Disturbing"),
        ModerationLabel("Corpses", 80.0, "Death and Emaciation"),
    )

    for most in (100, 3):
        recognition = answered(client, f"moderation {most} 55%", answer, MinConfidence=55.0)

        assert recognition == Recognition(moderation=expected[:most])


def test_every_moderation_label_can_withhold(client: Any) -> None:
    """All that there are at once: without a number, the least sure is kept, too, and judged."""
    answer = {
        "ModerationLabels": [
            {"Name": label, "Confidence": 99.0 - place / 2, "ParentName": parent}
            for place, (label, parent) in enumerate(TAXONOMY.items())
        ]
    }
    *_, last = TAXONOMY

    moderation = answered(client, "moderation", answer, MinConfidence=50.0).moderation

    assert [label.name for label in moderation] == [*TAXONOMY]
    assert len(moderation) > 20
    assert reasons_to_withhold(moderation, parse_quarantine(f"{last} 60%")) == (last,)


SAID = {"Value": True, "Confidence": 98.765}
DENIED = {"Value": False, "Confidence": 51.0}
FACE = {
    "BoundingBox": box(),
    "Confidence": 99.987,
    "AgeRange": {"Low": 25, "High": 35},
    "Beard": DENIED,
    "Emotions": [
        {"Type": "CALM", "Confidence": 12.0},
        {"Type": "HAPPY", "Confidence": 86.543},
        {"Type": "SAD", "Confidence": 1.0},
    ],
    "Eyeglasses": SAID,
    "EyesOpen": SAID,
    "EyeDirection": {"Yaw": -12.49, "Pitch": -0.01, "Confidence": 77.777},
    "FaceOccluded": DENIED,
    "Gender": {"Value": "Female", "Confidence": 99.0},
    "MouthOpen": SAID,
    "Mustache": DENIED,
    "Smile": SAID,
    "Sunglasses": DENIED,
    "Pose": {"Roll": 1.0, "Yaw": 2.0, "Pitch": 3.0},
    "Quality": {"Brightness": 60.0, "Sharpness": 70.0},
    "Landmarks": [{"Type": "nose", "X": 0.5, "Y": 0.5}],
}
READ = {
    "AGE_RANGE": FaceAttribute("age_range", "25–35"),
    "BEARD": FaceAttribute("beard", "false", 51.0),
    "EMOTIONS": FaceAttribute("emotions", "happy", 86.54),
    "EYEGLASSES": FaceAttribute("eyeglasses", "true", 98.77),
    "EYES_OPEN": FaceAttribute("eyes_open", "true", 98.77),
    "EYE_DIRECTION": FaceAttribute("eye_direction", "-12.5, 0.0", 77.78),
    "FACE_OCCLUDED": FaceAttribute("face_occluded", "false", 51.0),
    "GENDER": FaceAttribute("gender", "female", 99.0),
    "MOUTH_OPEN": FaceAttribute("mouth_open", "true", 98.77),
    "MUSTACHE": FaceAttribute("mustache", "false", 51.0),
    "SMILE": FaceAttribute("smile", "true", 98.77),
    "SUNGLASSES": FaceAttribute("sunglasses", "false", 51.0),
}


@pytest.mark.parametrize("attribute", READ)
def test_attribute_of_a_face_is_read(client: Any, attribute: str) -> None:
    """Only the one that was asked for, whatever else the answer has."""
    recognition = answered(
        client, f"faces {attribute}", {"FaceDetails": [FACE]}, Attributes=[attribute]
    )

    assert recognition == Recognition(faces=(Face(WHOLE, 99.99, (READ[attribute],)),))


def test_all_attributes_of_a_face_are_read(client: Any) -> None:
    """Each that can be asked for; nobody is asked for all of them one by one."""
    recognition = answered(client, "faces all", {"FaceDetails": [FACE]}, Attributes=["ALL"])

    assert recognition.faces[0].attributes == tuple(READ.values())
    assert {*ATTRIBUTES, "ALL"} == {*READ, "ALL"} == {*FACE_ATTRIBUTES}


@pytest.mark.parametrize("attribute", READ)
def test_attribute_that_is_not_told_is_left_out(client: Any, attribute: str) -> None:
    """Rekognition sees no emotions where it sees too little of a face."""
    bare = {"BoundingBox": box(), "Confidence": 99.0, "Emotions": []}

    recognition = answered(
        client, f"faces {attribute}", {"FaceDetails": [bare]}, Attributes=[attribute]
    )

    assert recognition == Recognition(faces=(Face(WHOLE, 99.0),))


def test_faces_come_surest_first(client: Any) -> None:
    """The larger first where they are as sure, as Rekognition has them; no more than wanted."""
    answer = {
        "FaceDetails": [
            {"BoundingBox": box(width=1 / size), "Confidence": confidence}
            for size, confidence in ((1, 89.9), (2, 99.991), (4, 99.99), (8, 99.999), (16, 90.0))
        ]
    }

    faces = answered(client, "faces 3 90%", answer, Attributes=["DEFAULT"]).faces

    assert [face.box.width for face in faces] == [0.125, 0.5, 0.25]


def test_lines_of_text_are_kept_in_the_order_of_reading(client: Any) -> None:
    """The surest of them, without their words, which lines consist of."""

    def said(kind: str, text: str, confidence: float, **more: int) -> dict[str, Any]:
        geometry = {"BoundingBox": box(height=0.1), "Polygon": [{"X": 0.0, "Y": 0.0}]}
        words = {"DetectedText": text, "Type": kind, "Geometry": geometry}
        return words | {"Confidence": confidence, "Id": 0, **more}

    answer = {
        "TextDetections": [
            said("LINE", "MIND THE GAP", 85.004),
            said("LINE", "smudge", 74.9),
            said("LINE", "Platform 2", 99.0),
            said("LINE", "Exit", 80.0),
            said("LINE", "Way out", 90.0),
            said("WORD", "MIND", 99.9, ParentId=0),
        ],
        "TextModelVersion": "3.0",
    }
    strip = BoundingBox(0, 0, 1, 0.1)

    recognition = answered(
        client, "text 3 75%", answer, Filters={"WordFilter": {"MinConfidence": 75.0}}
    )

    assert recognition == Recognition(
        text=(
            TextLine("MIND THE GAP", 85.0, strip),
            TextLine("Platform 2", 99.0, strip),
            TextLine("Way out", 90.0, strip),
        )
    )


def test_celebrities_come_surest_first(client: Any) -> None:
    """As sure as Rekognition is of who they are, not of the face; others are nobody's business."""

    def known(name: str, match: float, **more: Any) -> dict[str, Any]:
        face = {"BoundingBox": box(), "Confidence": 99.9}
        return {"Name": name, "Id": "1", "MatchConfidence": match, "Face": face, **more}

    answer = {
        "CelebrityFaces": [
            known("Grace Hopper", 95.0),
            known("Somebody alike", 89.99),
            known("Ada Lovelace", 98.765, Urls=["www.wikidata.org/wiki/Q7259", "example.com"]),
            known("Alan Turing", 95.0, Urls=[]),
        ],
        "UnrecognizedFaces": [{"BoundingBox": box(), "Confidence": 99.9}],
    }

    recognition = answered(client, "celebrities 3 90%", answer)

    urls = ("www.wikidata.org/wiki/Q7259", "example.com")
    assert recognition == Recognition(
        celebrities=(
            Celebrity("Ada Lovelace", 98.77, WHOLE, urls),
            Celebrity("Alan Turing", 95.0, WHOLE),
            Celebrity("Grace Hopper", 95.0, WHOLE),
        )
    )
    assert len(answered(client, "celebrities 1 90%", answer).celebrities) == 1


# ── side by side ─────────────────────────────────────────────────────────────────────────────────

EVERYTHING = ", ".join(Feature)
EMPTY: dict[str, dict[str, Any]] = {
    "DetectLabels": {"Labels": []},
    "DetectModerationLabels": {"ModerationLabels": []},
    "DetectFaces": {"FaceDetails": []},
    "DetectText": {"TextDetections": []},
    "RecognizeCelebrities": {"CelebrityFaces": []},
}


@contextmanager
def calls(
    client: Any, *, errors: Mapping[str, Any], meanwhile: Callable[[], object]
) -> Iterator[list[str]]:
    """Nothing found by any operation, or its error; which were called."""
    made: list[str] = []

    def act(model: Any, **_: object) -> object:
        made.append(model.name)
        meanwhile()
        error = errors.get(model.name)
        if isinstance(error, BaseException):
            raise error
        status, answer = (400, error_of(error)) if error else (200, EMPTY[model.name])
        return AWSResponse("", status, {}, None), answer

    client.meta.events.register("before-call.rekognition", act)
    try:
        yield made
    finally:
        client.meta.events.unregister("before-call.rekognition", act)


def nothing() -> None:
    pass


@pytest.mark.parametrize(
    ("recognition", "operations"),
    [
        ("", set()),
        ("labels", {"DetectLabels"}),
        ("properties", {"DetectLabels"}),
        ("labels, properties", {"DetectLabels"}),
        ("moderation", {"DetectModerationLabels"}),
        ("faces", {"DetectFaces"}),
        ("text", {"DetectText"}),
        ("celebrities", {"RecognizeCelebrities"}),
        ("celebrities, properties, text", {"RecognizeCelebrities", "DetectLabels", "DetectText"}),
        (EVERYTHING, {*EMPTY}),
    ],
)
def test_only_what_is_on_is_asked(client: Any, recognition: str, operations: set[str]) -> None:
    """Each call is paid for."""
    with calls(client, errors={}, meanwhile=nothing) as made:
        assert asking(client, recognition).recognize(b"proxy") == Recognition()

    assert sorted(made) == sorted(operations)


def test_calls_run_side_by_side(client: Any) -> None:
    """Each waits until all have come; logs say of which image, in every thread."""
    all_there = threading.Barrier(len(EMPTY), timeout=TIMEOUT_S)
    said = []

    def meet() -> None:
        said.append(FACTS.get().get("image_id"))
        all_there.wait()

    with calls(client, errors={}, meanwhile=meet), bound(image_id="a"):
        assert asking(client, EVERYTHING).recognize(b"proxy") == Recognition()

    assert said == ["a"] * len(EMPTY)


@pytest.mark.parametrize("recognition", ["labels", EVERYTHING])
def test_calls_that_are_held_back_for_long_are_throttled(client: Any, recognition: str) -> None:
    """As adaptive retries hold them back: without limit. The image comes back, and is looked at."""
    let_go = threading.Event()
    recognizer = replace(asking(client, recognition), longest_call_s=0.1)

    with calls(client, errors={}, meanwhile=partial(let_go.wait, TIMEOUT_S)):
        with pytest.raises(Throttled, match="wait for their turn"):
            recognizer.recognize(b"proxy")
        let_go.set()
        assert replace(recognizer, longest_call_s=None).recognize(b"proxy") == Recognition()
        recognizer.pool.shutdown()


def test_calls_nobody_waits_for_do_not_pile_up(client: Any) -> None:
    """Those that have begun are made at last; those behind them never are, nor paid for."""
    let_go = threading.Event()
    pool = ThreadPoolExecutor(7)
    recognizer = Recognizer(client, parse_recognition(EVERYTHING), 0.1, pool)
    before = threading.active_count()

    with calls(client, errors={}, meanwhile=partial(let_go.wait, TIMEOUT_S)) as made:
        while len(made) < 7:  # threads take their time
            with pytest.raises(Throttled):
                recognizer.recognize(b"proxy")
        for _ in range(3):
            with pytest.raises(Throttled):
                recognizer.recognize(b"proxy")
        assert threading.active_count() <= before + 7
        let_go.set()
        pool.shutdown()

    assert len(made) == 7


def test_refusal_is_raised_whatever_is_held_back(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else that may be said of the picture would make it another one."""

    def wait_for_all_but_one(*asked: Any) -> Any:
        while len((answers := wait(*asked)).not_done) > 1:
            pass
        return answers

    monkeypatch.setattr("chalicelib.aws.recognition.wait", wait_for_all_but_one)
    let_go = threading.Event()
    recognizer = replace(asking(client, EVERYTHING), longest_call_s=0.1)
    refused = {"DetectText": "ImageTooLargeException"}

    with Operations(client) as operations, calls(client, errors=refused, meanwhile=nothing):
        operations.before("rekognition.DetectLabels", partial(let_go.wait, TIMEOUT_S))
        with pytest.raises(RecognitionRefused):
            recognizer.recognize(b"proxy")
        let_go.set()
        recognizer.pool.shutdown()


def test_adaptive_retries_hold_no_image_up() -> None:
    """All is throttled: 15 attempts of one image would take half a minute at their slowest pace."""
    with Server(faults=Faults(error="ThrottlingException", rate=1.0)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = boto3.client(
            "rekognition",
            endpoint_url=server.url,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106 - no secret
            config=Config(retries={"mode": "adaptive", "total_max_attempts": 3}),
        )
        recognizer = replace(asking(client, EVERYTHING), longest_call_s=1)
        try:
            began = time.monotonic()
            for _ in range(2):
                with pytest.raises(Throttled):
                    recognizer.recognize(b"proxy")
            assert time.monotonic() - began < 30
        finally:
            server.faults.set(Faults())
            recognizer.pool.shutdown()
            server.shutdown()


OUTAGE = ConnectionError("Nobody answers.")


@pytest.mark.parametrize(
    ("errors", "raised", "others"),
    [
        ({"DetectText": "ThrottlingException"}, Throttled, 0),
        ({"DetectText": "ImageTooLargeException"}, RecognitionRefused, 0),
        ({"DetectText": "AccessDeniedException"}, ClientError, 0),
        ({"DetectText": OUTAGE}, ConnectionError, 0),
        (
            {"DetectLabels": "ThrottlingException", "DetectText": "InvalidParameterException"},
            RecognitionRefused,
            1,
        ),
        (
            {"DetectLabels": OUTAGE, "DetectText": "TooManyRequestsException"},
            Throttled,
            1,
        ),
        ({"DetectFaces": OUTAGE, "DetectText": "InternalServerError"}, ConnectionError, 1),
        (
            {
                "DetectLabels": OUTAGE,
                "DetectFaces": "ThrottlingException",
                "DetectText": "ThrottlingException",
                "RecognizeCelebrities": "ImageTooLargeException",
            },
            RecognitionRefused,
            3,
        ),
        (dict.fromkeys(EMPTY, "ThrottlingException"), Throttled, 4),
    ],
)
def test_of_several_errors_the_one_that_decides_is_raised(
    client: Any,
    caplog: pytest.LogCaptureFixture,
    errors: dict[str, Any],
    raised: type[Exception],
    others: int,
) -> None:
    """A refusal is for good, and throttling no reason to give up; the log has all the others."""
    with calls(client, errors=errors, meanwhile=nothing) as made, pytest.raises(raised) as told:
        asking(client, EVERYTHING).recognize(b"proxy")

    assert type(told.value) is raised or raised is ClientError
    assert sorted(made) == sorted(EMPTY)  # the rest is not left half way
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    logged = {id(record.exc_info[1]) for record in warnings if record.exc_info}
    assert len(warnings) == len(logged) == others
    assert id(told.value) not in logged


@pytest.mark.parametrize("recognition", ["faces", "celebrities", EVERYTHING])
def test_picture_without_a_face_has_no_faces(
    client: Any, caplog: pytest.LogCaptureFixture, recognition: str
) -> None:
    """Whether Rekognition answers so or refuses; what else is in the picture is told."""
    caplog.set_level(logging.INFO, "image-pipeline")
    no_face = dict.fromkeys(("DetectFaces", "RecognizeCelebrities"), "InvalidParameterException")

    with calls(client, errors=no_face, meanwhile=nothing):
        assert asking(client, recognition).recognize(b"proxy") == Recognition()

    assert "sees no face" in caplog.text


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        *(
            (operation, "InvalidParameterException")
            for operation in ("DetectLabels", "DetectModerationLabels", "DetectText")
        ),
        *(
            (operation, code)
            for operation in EMPTY
            for code in ("InvalidImageFormatException", "ImageTooLargeException")
        ),
    ],
)
def test_picture_that_any_operation_refuses_is_refused(
    client: Any, operation: str, code: str
) -> None:
    """An operation that needs no face has no other reason; the format is every one's reason."""
    with (
        calls(client, errors={operation: code}, meanwhile=nothing),
        pytest.raises(RecognitionRefused, match="Rekognition refused the picture"),
    ):
        asking(client, EVERYTHING).recognize(b"proxy")


# ── the local Rekognition ────────────────────────────────────────────────────────────────────────


def test_everything_is_told_of_a_picture_without_a_face(client_of: Callable[[str], Any]) -> None:
    """All six features, and no error: nothing to see is an answer.

    Asked again where a busy machine takes too long to read.
    """
    proxy = render(saved(photo(320, 240)), (), Limits()).proxy

    recognition = asking(client_of("rekognition"), EVERYTHING).recognize(proxy)

    assert recognition.properties is not None
    assert (recognition.moderation, recognition.faces, recognition.celebrities) == ((), (), ())


def test_face_is_located(client: Any) -> None:
    """With the label that is about it, and in the same place."""
    import skimage.data  # noqa: PLC0415 - takes a while, and not every test needs it

    original = Path(skimage.data.__file__).with_name("astronaut.png").read_bytes()
    proxy = render(original, (), Limits()).proxy

    recognition = asking(client, "labels, faces all 50%, celebrities").recognize(proxy)

    [face] = recognition.faces
    assert 50 <= face.confidence <= 100
    assert face.box in [box for label in recognition.labels for box in label.boxes]
    assert recognition.celebrities == ()


@pytest.mark.parametrize("feature", FEATURES)
def test_picture_that_is_none_is_refused_whatever_is_asked(client: Any, feature: Feature) -> None:
    """Each operation says so."""
    with pytest.raises(RecognitionRefused, match=r"Rekognition refused the picture: .+"):
        asking(client, feature).recognize(b"This is no picture.")
