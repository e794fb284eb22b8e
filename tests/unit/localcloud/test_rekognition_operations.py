"""Faces, text, moderation and celebrities of the local Rekognition, asked with boto3 over HTTP."""

import base64
import json
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.validate import ParamValidator
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from chalicelib.imaging.fingerprint import perceptual_hash
from localcloud.rekognition import protocol
from localcloud.rekognition.moderation import BrokenRules, Rules, seen_hash
from localcloud.rekognition.picture import view
from localcloud.rekognition.server import Server
from tests.unit.localcloud.rekognition import (
    OPERATIONS,
    PHOTOS,
    client,
    encoded,
    error_of,
    photo,
    plain,
    running,
    send,
)
from tests.waiting import TIMEOUT_S

if TYPE_CHECKING:
    from mypy_boto3_rekognition import RekognitionClient

needs_tesseract = pytest.mark.skipif(
    shutil.which("tesseract") is None, reason="Debian: apt-get install tesseract-ocr"
)

VIOLENCE = [
    {"Name": "Weapon Violence", "ParentName": "Violence", "Confidence": 98.2, "TaxonomyLevel": 2},
    {"Name": "Violence", "ParentName": "", "Confidence": 71.0, "TaxonomyLevel": 1},
]


def hash_of(name: str) -> str:
    """What the API shows of this original."""
    with Image.open(PHOTOS / name) as image:
        return perceptual_hash(image.convert("RGB"))


def written(*lines: str, size: tuple[int, int] = (800, 400)) -> Image.Image:
    image = plain("white", size)
    font = ImageFont.load_default(48)
    for number, line in enumerate(lines):
        ImageDraw.Draw(image).text((40, 40 + 100 * number), line, "black", font)
    return image


SIGN = encoded(written("Harbour Museum", "open on Monday"))


@pytest.fixture(autouse=True)
def slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tesseract may take its time."""
    monkeypatch.setattr("localcloud.rekognition.text.TIMEOUT_S", TIMEOUT_S)


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cup of coffee is violent."""
    path = tmp_path_factory.mktemp("rules") / "moderation.json"
    path.write_text(json.dumps({hash_of("coffee.png"): VIOLENCE}))
    return path


@pytest.fixture(scope="module")
def server(rules: Path) -> Iterator[Server]:
    with running(moderation_rules=rules) as server:
        yield server


@pytest.fixture(scope="module")
def rekognition(server: Server) -> Iterator["RekognitionClient"]:
    client_of_server = client(server.url)
    yield client_of_server
    client_of_server.close()


# What any operation answers


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    "file",
    [
        photo("astronaut.png"),
        photo("coffee.png"),
        pytest.param(SIGN, marks=needs_tesseract),
        encoded(plain("red")),
    ],
    ids=["face", "flagged", "text", "nothing"],
)
def test_answers_fit_the_service_model(
    server: Server, rekognition: "RekognitionClient", operation: str, file: bytes
) -> None:
    """No member that the model does not know, none of another type or range; boto3 reads all."""
    asked: dict[str, Any] = {"Image": {"Bytes": base64.b64encode(file).decode()}}
    if operation == "DetectLabels":
        asked["Features"] = ["GENERAL_LABELS", "IMAGE_PROPERTIES"]
    status, sent = send(server, "POST", "/", json.dumps(asked), f"RekognitionService.{operation}")
    shape = protocol.service().operation_model(operation).output_shape
    report = ParamValidator().validate(sent, shape)
    assert status == 200
    assert not report.has_errors(), report.generate_report()
    assert protocol.checked(shape, sent) == sent
    parsed = getattr(rekognition, OPERATIONS[operation])(**asked | {"Image": {"Bytes": file}})
    assert {name: parsed[name] for name in sent} == sent


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_plain_picture_is_answered_with_nothing(
    rekognition: "RekognitionClient", operation: str
) -> None:
    red = {"Bytes": encoded(plain("red"))}
    answer = getattr(rekognition, OPERATIONS[operation])(Image=red)
    found = [value for value in answer.values() if isinstance(value, list)]
    assert found
    assert all(value == [] for value in found)


# Faces


def test_a_face_is_that_of_the_labels(rekognition: "RekognitionClient") -> None:
    """The operations agree on where it is and how sure they are."""
    image = {"Bytes": photo("astronaut.png")}
    (face,) = rekognition.detect_faces(Image=image)["FaceDetails"]
    (instance,) = rekognition.detect_labels(Image=image)["Labels"][0]["Instances"]
    assert face["BoundingBox"] == instance["BoundingBox"]
    assert face["Confidence"] == instance["Confidence"]
    celebrities = rekognition.recognize_celebrities(Image=image)
    assert celebrities["UnrecognizedFaces"] == [face]
    assert celebrities["CelebrityFaces"] == []


@pytest.mark.parametrize("attributes", [[], ["DEFAULT"], ["ALL"], ["AGE_RANGE", "SMILE"]])
def test_of_a_face_only_what_is_measured_is_told(
    rekognition: "RekognitionClient", attributes: list[Any]
) -> None:
    (face,) = rekognition.detect_faces(
        Image={"Bytes": photo("astronaut.png")}, Attributes=attributes
    )["FaceDetails"]
    assert face.keys() == {"BoundingBox", "Confidence", "Quality"}
    assert face["Quality"].keys() == {"Brightness", "Sharpness"}


def test_unknown_attributes_are_refused(rekognition: "RekognitionClient") -> None:
    refused = error_of(
        rekognition.detect_faces, Image={"Bytes": photo("astronaut.png")}, Attributes=["MOOD"]
    )
    assert refused == "ValidationException"


def test_quality_is_that_of_the_face(rekognition: "RekognitionClient") -> None:
    """Blur and darkness tell on it; what surrounds the face does not."""

    def quality(image: Image.Image) -> dict[str, float]:
        (face,) = rekognition.detect_faces(Image={"Bytes": encoded(image)})["FaceDetails"]
        return face["Quality"]

    with Image.open(PHOTOS / "astronaut.png") as original:
        image = original.convert("RGB")
    dark_around = image.point(lambda value: value // 8)
    dark_around.paste(image.crop((150, 40, 300, 230)), (150, 40))
    as_it_is, within_dark = quality(image), quality(dark_around)
    assert within_dark["Brightness"] == pytest.approx(as_it_is["Brightness"], abs=5)
    assert quality(image.point(lambda value: value // 2))["Brightness"] == pytest.approx(
        as_it_is["Brightness"] / 2, abs=3
    )
    blurred = quality(image.filter(ImageFilter.GaussianBlur(3)))
    assert blurred["Sharpness"] < as_it_is["Sharpness"] / 1.5


def test_the_largest_face_comes_first(rekognition: "RekognitionClient") -> None:
    with Image.open(PHOTOS / "astronaut.png") as original:
        head = original.convert("RGB").crop((120, 0, 340, 220))
    both = plain("grey", (440, 220))
    both.paste(head.resize((150, 150)), (0, 0))
    both.paste(head, (220, 0))
    faces = rekognition.detect_faces(Image={"Bytes": encoded(both)})["FaceDetails"]
    widths = [face["BoundingBox"]["Width"] for face in faces]
    assert len(widths) == 2
    assert widths == sorted(widths, reverse=True)


# Text


def texts(answer: Any, kind: str) -> list[str]:
    return [each["DetectedText"] for each in answer["TextDetections"] if each["Type"] == kind]


@needs_tesseract
def test_lines_and_their_words_are_read(rekognition: "RekognitionClient") -> None:
    answer = rekognition.detect_text(Image={"Bytes": SIGN})
    assert texts(answer, "LINE") == ["Harbour Museum", "open on Monday"]
    assert texts(answer, "WORD") == ["Harbour", "Museum", "open", "on", "Monday"]
    detections = answer["TextDetections"]
    assert [each["Id"] for each in detections] == list(range(7))
    assert [each.get("ParentId") for each in detections] == [None, None, 0, 0, 1, 1, 1]
    assert answer["TextModelVersion"] == "3.0"
    first = detections[2:4]
    assert detections[0]["Confidence"] == pytest.approx(sum(w["Confidence"] for w in first) / 2)


@needs_tesseract
@pytest.mark.parametrize("scale", [0.5, 1, 4])
def test_text_is_where_it_is_told_to_be(rekognition: "RekognitionClient", scale: float) -> None:
    """Shares of the picture, whatever its size: the word ends where its pixels do."""
    image = written("Harbour")
    size = (round(image.width * scale), round(image.height * scale))
    answer = rekognition.detect_text(Image={"Bytes": encoded(image.resize(size))})
    line, word = answer["TextDetections"]
    box = word["Geometry"]["BoundingBox"]
    left, top, right, bottom = image.convert("L").point(lambda luma: 255 * (luma < 128)).getbbox()
    assert box["Left"] == pytest.approx(left / 800, abs=0.01)
    assert box["Left"] + box["Width"] == pytest.approx(right / 800, abs=0.01)
    assert box["Top"] == pytest.approx(top / 400, abs=0.02)
    assert box["Top"] + box["Height"] == pytest.approx(bottom / 400, abs=0.02)
    assert line["Geometry"]["BoundingBox"] == pytest.approx(box)
    corners = [(point["X"], point["Y"]) for point in word["Geometry"]["Polygon"]]
    right, bottom = box["Left"] + box["Width"], box["Top"] + box["Height"]
    assert corners == [
        (box["Left"], box["Top"]),
        (right, box["Top"]),
        (right, bottom),
        (box["Left"], bottom),
    ]


@needs_tesseract
def test_text_of_a_turned_photo_is_read_upright(rekognition: "RekognitionClient") -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = written("Harbour Museum").transpose(Image.Transpose.ROTATE_90)
    answer = rekognition.detect_text(Image={"Bytes": encoded(stored, exif=exif)})
    assert texts(answer, "LINE") == ["Harbour Museum"]


@needs_tesseract
@pytest.mark.parametrize(
    ("filters", "lines"),
    [
        ({"WordFilter": {"MinConfidence": 100}}, []),
        ({"WordFilter": {"MinBoundingBoxWidth": 0.15}}, ["Harbour Museum", "Monday"]),
        ({"WordFilter": {"MinBoundingBoxHeight": 0.5}}, []),
        (
            {
                "RegionsOfInterest": [
                    {"BoundingBox": {"Left": 0, "Top": 0, "Width": 1, "Height": 0.3}}
                ]
            },
            ["Harbour Museum"],
        ),
        (
            {
                "RegionsOfInterest": [
                    {"BoundingBox": {"Left": 0, "Top": 0, "Width": 0.28, "Height": 0.3}},
                    {"Polygon": [{"X": 0, "Y": 0.3}, {"X": 0.2, "Y": 0.3}, {"X": 0, "Y": 1}]},
                ]
            },
            ["Harbour", "open"],
        ),
    ],
    ids=["confidence", "width", "height", "box", "box and polygon"],
)
def test_filters_leave_words_out(
    rekognition: "RekognitionClient", filters: Any, lines: list[str]
) -> None:
    """A line is what is left of its words; none left, no line."""
    answer = rekognition.detect_text(Image={"Bytes": SIGN}, Filters=filters)
    assert texts(answer, "LINE") == lines
    assert texts(answer, "WORD") == " ".join(lines).split()


@pytest.mark.parametrize(
    "region",
    [
        {},
        {"BoundingBox": {"Left": 0.5}},
        {"Polygon": [{"X": 0, "Y": 0}, {"X": 1, "Y": 1}]},
        {"Polygon": [{"X": 0, "Y": 0}, {"X": 1, "Y": 1}, {"X": 1}]},
    ],
    ids=["nothing", "half a box", "a line", "half a point"],
)
def test_regions_are_to_be_regions(rekognition: "RekognitionClient", region: Any) -> None:
    filters = {"RegionsOfInterest": [region]}
    refused = error_of(rekognition.detect_text, Image={"Bytes": SIGN}, Filters=filters)
    assert refused == "InvalidParameterException"


@needs_tesseract
def test_a_hundred_words_are_read(rekognition: "RekognitionClient") -> None:
    """From the top; the last line ends where the hundred are full."""
    page = written(*["one two three four five six"] * 20, size=(800, 2100))
    answer = rekognition.detect_text(Image={"Bytes": encoded(page)})
    assert len(texts(answer, "WORD")) == 100
    lines = texts(answer, "LINE")
    assert lines[0] == "one two three four five six"
    assert (len(lines), lines[-1]) == (17, "one two three four")


@needs_tesseract
@pytest.mark.parametrize("name", ["astronaut.png", "brick.png", "chelsea.png", "coffee.png"])
def test_no_text_is_read_where_none_is(rekognition: "RekognitionClient", name: str) -> None:
    assert rekognition.detect_text(Image={"Bytes": photo(name)})["TextDetections"] == []


@needs_tesseract
def test_texts_read_side_by_side_are_their_own(rekognition: "RekognitionClient") -> None:
    words = ["Harbour", "Museum", "Monday", "Bakery"]

    def ask(word: str) -> list[str]:
        image = {"Bytes": encoded(written(word))}
        return texts(rekognition.detect_text(Image=image), "LINE")

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, words)) == [[word] for word in words]


def test_no_text_is_seen_without_tesseract(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with running() as server:
        caller = client(server.url)
        answer = caller.detect_text(Image={"Bytes": SIGN})
        caller.close()
    assert answer["TextDetections"] == []


@pytest.mark.parametrize("script", ["echo no language >&2; exit 1", "exec sleep 5"])
def test_a_tesseract_that_fails_is_an_internal_error(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    script: str,
) -> None:
    """The log has what it said; the next call is answered again."""
    command = tmp_path / "tesseract"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("localcloud.rekognition.text.TIMEOUT_S", 0.3)
    with running() as server:
        caller = client(server.url)
        with pytest.raises(caller.exceptions.InternalServerError):
            caller.detect_text(Image={"Bytes": SIGN})
        assert caller.detect_faces(Image={"Bytes": SIGN})["FaceDetails"] == []
        caller.close()
    assert "no language" in caplog.text or "timed out" in caplog.text


# Moderation


@pytest.mark.parametrize("quality", [70, 90])
@pytest.mark.parametrize("longer_side", [320, 640, 1280])
def test_what_a_rule_flags_is_flagged_as_it_says(
    rekognition: "RekognitionClient", longer_side: int, quality: int
) -> None:
    """Scaled and encoded anew, too, as the pipeline shows an original to Rekognition."""
    with Image.open(PHOTOS / "coffee.png") as original:
        scale = longer_side / max(original.size)
        size = (round(original.width * scale), round(original.height * scale))
        file = encoded(original.convert("RGB").resize(size), quality=quality)
    answer = rekognition.detect_moderation_labels(Image={"Bytes": file})
    assert answer["ModerationLabels"] == VIOLENCE
    assert answer["ModerationModelVersion"] == "7.0"
    assert answer["ContentTypes"] == []


@pytest.mark.parametrize("name", ["astronaut.png", "chelsea.png", "rocket.jpg", "brick.png"])
def test_no_other_picture_is_flagged(rekognition: "RekognitionClient", name: str) -> None:
    answer = rekognition.detect_moderation_labels(Image={"Bytes": photo(name)})
    assert answer["ModerationLabels"] == []


@pytest.mark.parametrize(("floor", "flagged"), [(0, 2), (71, 2), (71.1, 1), (99, 0)])
def test_the_unsure_is_not_told(
    rekognition: "RekognitionClient", floor: float, flagged: int
) -> None:
    image = {"Bytes": photo("coffee.png")}
    answer = rekognition.detect_moderation_labels(Image=image, MinConfidence=floor)
    assert answer["ModerationLabels"] == VIOLENCE[:flagged]


def test_half_sure_is_told_by_default(rules_of: "Callable[[Any], Rules]") -> None:
    labels = [
        label | {"Confidence": sure} for label, sure in zip(VIOLENCE, (50, 49.9), strict=True)
    ]
    rules = rules_of({hash_of("coffee.png"): labels})
    with running() as server:
        server.rules = rules
        caller = client(server.url)
        answer = caller.detect_moderation_labels(Image={"Bytes": photo("coffee.png")})
        caller.close()
    assert answer["ModerationLabels"] == labels[:1]


@pytest.mark.parametrize(
    "asked",
    [
        {"HumanLoopConfig": {"HumanLoopName": "loop", "FlowDefinitionArn": "arn"}},
        {
            "ProjectVersion": "arn:aws:rekognition:us-east-1:123456789012:project/p/version/v/"
            "1690000000000"
        },
    ],
)
def test_there_are_neither_adapters_nor_reviewers(
    rekognition: "RekognitionClient", asked: Any
) -> None:
    image = {"Bytes": photo("coffee.png")}
    refused = error_of(rekognition.detect_moderation_labels, Image=image, **asked)
    assert refused == "ResourceNotFoundException"


@pytest.fixture
def rules_of(tmp_path: Path) -> "Callable[[Any], Rules]":
    """Rules of a file with this in it, as JSON or as it stands."""

    def write(content: Any) -> Rules:
        path = tmp_path / "moderation.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return Rules(path)

    return write


HASH = "00000000000000ff"


@pytest.mark.parametrize(
    ("other", "labels"),
    [(HASH, VIOLENCE), ("0000000000000003", VIOLENCE), ("0000000000000001", [])],
    ids=["the same", "6 bits off", "7 bits off"],
)
def test_near_hashes_are_the_same_picture(
    rules_of: "Callable[[Any], Rules]", other: str, labels: list[Any]
) -> None:
    assert rules_of({HASH: VIOLENCE}).labels_of(other) == labels


def test_the_nearest_rule_counts(rules_of: "Callable[[Any], Rules]") -> None:
    rules = rules_of({"000000000000000f": VIOLENCE[:1], HASH: VIOLENCE[1:]})
    assert rules.labels_of("000000000000007f") == VIOLENCE[1:]


def test_rules_come_and_go_with_their_file(tmp_path: Path) -> None:
    """Without one nothing is flagged; what is written while the server runs counts at once."""
    path = tmp_path / "moderation.json"
    rules = Rules(path)
    assert rules.labels_of(HASH) == []
    path.write_text(json.dumps({HASH: VIOLENCE}))
    assert rules.labels_of(HASH) == VIOLENCE
    path.write_text(json.dumps({HASH: []}))
    assert rules.labels_of(HASH) == []
    path.write_text(json.dumps({HASH: VIOLENCE}))
    path.unlink()
    assert rules.labels_of(HASH) == []


def test_the_last_good_rules_hold(
    rules_of: "Callable[[Any], Rules]", tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that got broken is told of once, and read again when it is mended."""
    rules, path = rules_of({HASH: VIOLENCE}), tmp_path / "moderation.json"
    path.write_text('{"half')
    assert rules.labels_of(HASH) == rules.labels_of(HASH) == VIOLENCE
    (told,) = caplog.messages
    assert str(path) in told
    path.write_text("{}")
    assert rules.labels_of(HASH) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "cannot be read"),
        ("[]", "no object"),
        ({"cat.jpg": []}, "'cat.jpg' is no perceptual hash"),
        ({HASH.upper(): []}, "is no perceptual hash"),
        ({HASH: {"Name": "Violence"}}, f"the labels of {HASH}"),
        ({HASH: ["Violence"]}, "'.1.member' has a wrong type"),
        ({HASH: [{"Name": "Violence", "ParentName": ""}]}, "without Confidence, TaxonomyLevel"),
        ({HASH: [VIOLENCE[0] | {"Confidence": 101}]}, "less than or equal to 100"),
        ({HASH: [VIOLENCE[0] | {"TaxonomyLevel": "2"}]}, "taxonomyLevel' has a wrong type"),
    ],
)
def test_broken_rules_say_what_is_wrong(
    rules_of: "Callable[[Any], Rules]", tmp_path: Path, content: Any, reason: str
) -> None:
    with pytest.raises(BrokenRules) as caught:
        rules_of(content)
    assert reason in str(caught.value)
    assert str(tmp_path / "moderation.json") in str(caught.value)


# The command


def run(*arguments: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "localcloud.rekognition", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


def test_broken_rules_are_no_start(tmp_path: Path) -> None:
    path = tmp_path / "moderation.json"
    path.write_text("{")
    ended = run("--moderation-rules", path)
    assert ended.returncode == 2
    assert f"{path} cannot be read" in ended.stderr


def test_hashes_are_printed_as_the_server_sees_them(tmp_path: Path) -> None:
    """Those that can be read, in spite of those that cannot."""
    coffee, notes, missing = PHOTOS / "coffee.png", tmp_path / "notes.txt", tmp_path / "missing"
    notes.write_text("no picture")
    ended = run("hash", notes, coffee, missing)
    assert ended.returncode == 1
    assert ended.stdout == f"{seen_hash(view(coffee.read_bytes()))}  {coffee}\n"
    told = ended.stderr.splitlines()
    assert [line.partition(":")[0] for line in told] == [str(notes), str(missing)]
    assert run("hash", coffee).returncode == 0
