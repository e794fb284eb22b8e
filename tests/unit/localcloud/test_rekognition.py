"""The local Rekognition, asked with boto3 over HTTP as the app asks it."""

import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image, ImageFilter

from localcloud.rekognition.boxes import Box
from localcloud.rekognition.detectors import Detection, Detectors
from localcloud.rekognition.faults import Faults
from localcloud.rekognition.picture import view
from localcloud.rekognition.properties import dominant_colors, quality
from localcloud.rekognition.server import FAULTS_PATH, Server
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

SetFaults = Callable[..., tuple[int, dict[str, Any]]]

NEITHER_FACE_NOR_CAT = sorted(
    path.name
    for path in PHOTOS.iterdir()
    if path.suffix in {".png", ".jpg"} and path.stem not in {"astronaut", "chelsea"}
)
BOTH_FEATURES = ["GENERAL_LABELS", "IMAGE_PROPERTIES"]
MEGABYTE = 1024 * 1024


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims its dimensions and holds no pixels."""
    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = b"".join(
        struct.pack(">I", len(held)) + kind + held + struct.pack(">I", zlib.crc32(kind + held))
        for kind, held in ((b"IHDR", size), (b"IDAT", b""))
    )
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture(scope="module")
def rekognition(server: Server) -> Iterator["RekognitionClient"]:
    client_of_server = client(server.url)
    yield client_of_server
    client_of_server.close()


@pytest.fixture
def faults(server: Server) -> Iterator[SetFaults]:
    """Set the server's faults over HTTP; afterwards there are none."""

    def put(**settings: Any) -> tuple[int, dict[str, Any]]:
        return send(server, "PUT", FAULTS_PATH, json.dumps(settings))

    yield put
    server.faults.set(Faults())


def names(answer: Mapping[str, Any]) -> list[str]:
    return [label["Name"] for label in answer["Labels"]]


# What it sees


def test_person_and_face_with_the_box_of_the_face(rekognition: "RekognitionClient") -> None:
    """The astronaut's face is a tenth of the picture, above its middle and a little to the left."""
    answer = rekognition.detect_labels(Image={"Bytes": photo("astronaut.png")})
    face, head, person = answer["Labels"]
    assert names(answer) == ["Face", "Head", "Person"]
    assert face["Confidence"] == head["Confidence"] == person["Confidence"] > 90
    assert [parent["Name"] for parent in face["Parents"]] == ["Head", "Person"]
    assert person["Aliases"] == [{"Name": "Human"}]
    assert person["Categories"] == [{"Name": "Person Description"}]
    box = face["Instances"][0]["BoundingBox"]
    assert person["Instances"][0]["BoundingBox"] == box
    assert box["Left"] + box["Width"] / 2 == pytest.approx(0.44, abs=0.03)
    assert box["Top"] + box["Height"] / 2 == pytest.approx(0.22, abs=0.03)
    assert 0.12 < box["Width"] < 0.28
    assert len(face["Instances"]) == 1
    assert head["Instances"] == []
    assert answer["LabelModelVersion"] == "3.0"


def test_cat_with_its_box_and_all_its_ancestors(rekognition: "RekognitionClient") -> None:
    """Both of Chelsea's eyes are in the box, and the box is in the picture."""
    answer = rekognition.detect_labels(Image={"Bytes": photo("chelsea.png")})
    assert names(answer) == ["Animal", "Cat", "Mammal", "Pet"]
    cat = answer["Labels"][1]
    assert [parent["Name"] for parent in cat["Parents"]] == ["Animal", "Mammal", "Pet"]
    box = cat["Instances"][0]["BoundingBox"]
    for eye_x, eye_y in ((173 / 451, 116 / 300), (318 / 451, 137 / 300)):
        assert box["Left"] < eye_x < box["Left"] + box["Width"] <= 1
        assert 0 <= box["Top"] < eye_y < box["Top"] + box["Height"] <= 1


@pytest.fixture(scope="module")
def detectors() -> Detectors:
    return Detectors()


@pytest.mark.parametrize("name", NEITHER_FACE_NOR_CAT)
def test_nothing_is_seen_where_nothing_is(detectors: Detectors, name: str) -> None:
    """Coffee, a rocket, motorcycles, textures, coins, cells, stars and text get no label."""
    assert detectors.find(view(photo(name))) == []


@pytest.mark.parametrize("longer_side", [240, 500, 1600, 4000])
@pytest.mark.parametrize(("name", "seen"), [("astronaut.png", "Face"), ("chelsea.png", "Cat")])
def test_size_and_compression_change_nothing(
    detectors: Detectors, name: str, seen: str, longer_side: int
) -> None:
    with Image.open(PHOTOS / name) as original:
        scale = longer_side / max(original.size)
        size = (round(original.width * scale), round(original.height * scale))
        file = encoded(original.convert("RGB").resize(size), quality=70)
    assert [each.name for each in detectors.find(view(file))] == [seen]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_are_those_of_the_upright_picture(detectors: Detectors, orientation: int) -> None:
    """However a camera stored the pixels, the box is where the face is when they are turned."""
    with Image.open(PHOTOS / "astronaut.png") as original:
        image = original.convert("RGB")
    stored = {
        1: (),
        2: (Image.Transpose.FLIP_LEFT_RIGHT,),
        3: (Image.Transpose.ROTATE_180,),
        4: (Image.Transpose.FLIP_TOP_BOTTOM,),
        5: (Image.Transpose.TRANSPOSE,),
        6: (Image.Transpose.ROTATE_90,),
        7: (Image.Transpose.TRANSVERSE,),
        8: (Image.Transpose.ROTATE_270,),
    }[orientation]
    for turn in stored:
        image = image.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    (face,) = detectors.find(view(encoded(image, exif=exif)))
    assert face.box.left + face.box.width / 2 == pytest.approx(0.44, abs=0.03)
    assert face.box.top + face.box.height / 2 == pytest.approx(0.22, abs=0.03)


def test_two_people_are_two_instances(rekognition: "RekognitionClient") -> None:
    with Image.open(PHOTOS / "astronaut.png") as original:
        head = original.convert("RGB").crop((120, 0, 340, 220))
    both = plain("grey", (440, 220))
    both.paste(head, (0, 0))
    both.paste(head.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (220, 0))
    answer = rekognition.detect_labels(Image={"Bytes": encoded(both)})
    lefts = [each["BoundingBox"]["Left"] for each in answer["Labels"][0]["Instances"]]
    assert len(lefts) == 2
    assert min(lefts) < 0.5 <= max(lefts)


def test_more_votes_are_more_confidence() -> None:
    """The mapping is monotone, and everything that is told passes the service's default of 55."""
    confidences = [Detection("Face", votes, Box(0, 0, 1, 1)).confidence for votes in range(7, 100)]
    assert confidences == sorted(set(confidences))
    assert confidences[0] > 55
    assert confidences[-1] <= 100


def test_sixteen_bit_greys_are_scaled_not_clipped() -> None:
    deep = Image.new("I;16", (100, 100), 128 * 257)
    assert view(encoded(deep, "PNG")).max() == 128


# What can be asked of it


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"MaxLabels": 2}, ["Animal", "Cat"]),
        ({"MinConfidence": 99.9}, []),
        ({"MinConfidence": 0}, ["Animal", "Cat", "Mammal", "Pet"]),
        ({"Features": ["IMAGE_PROPERTIES"]}, []),
        ({"LabelInclusionFilters": ["Cat", "Dog"]}, ["Cat"]),
        ({"LabelExclusionFilters": ["Cat"]}, ["Animal", "Mammal", "Pet"]),
        ({"LabelCategoryInclusionFilters": ["Person Description"]}, []),
        ({"LabelCategoryExclusionFilters": ["Animals and Pets"]}, []),
        (
            {
                "LabelCategoryInclusionFilters": ["Animals and Pets"],
                "LabelExclusionFilters": ["Pet"],
            },
            ["Animal", "Cat", "Mammal"],
        ),
    ],
)
def test_what_is_not_asked_for_is_not_told(
    rekognition: "RekognitionClient", options: dict[str, Any], expected: list[str]
) -> None:
    filters = {name: options.pop(name) for name in list(options) if name.endswith("Filters")}
    if filters:
        options["Settings"] = {"GeneralLabels": filters}
    answer = rekognition.detect_labels(Image={"Bytes": photo("chelsea.png")}, **options)
    assert names(answer) == expected


def test_properties_come_only_when_asked_for(rekognition: "RekognitionClient") -> None:
    answer = rekognition.detect_labels(Image={"Bytes": photo("astronaut.png")})
    assert "ImageProperties" not in answer
    assert "DominantColors" not in answer["Labels"][0]["Instances"][0]


def test_foreground_is_what_was_detected(rekognition: "RekognitionClient") -> None:
    """A head on blue: the background is blue, the face is not; without a face neither is told."""
    with Image.open(PHOTOS / "astronaut.png") as original:
        on_blue = plain("blue", (600, 400))
        on_blue.paste(original.convert("RGB").crop((120, 0, 340, 220)), (0, 0))
    ask = {"Features": BOTH_FEATURES}
    answer = rekognition.detect_labels(Image={"Bytes": encoded(on_blue)}, **ask)["ImageProperties"]
    assert answer["Background"]["DominantColors"][0]["CSSColor"] == "blue"
    assert "blue" not in {
        color["SimplifiedColor"] for color in answer["Foreground"]["DominantColors"]
    }
    nothing = rekognition.detect_labels(Image={"Bytes": encoded(plain("blue"))}, **ask)
    assert nothing["ImageProperties"].keys() == {"Quality", "DominantColors"}


def test_dominant_colors_are_counted(rekognition: "RekognitionClient") -> None:
    """Three quarters dark olive green, a quarter white; as many colours as asked for."""
    image = plain("darkolivegreen", (400, 100))
    image.paste("white", (0, 0, 100, 100))
    for limit in (20, 1):
        answer = rekognition.detect_labels(
            Image={"Bytes": encoded(image, "PNG")},
            Features=["IMAGE_PROPERTIES"],
            Settings={"ImageProperties": {"MaxDominantColors": limit}},
        )
        colors = answer["ImageProperties"]["DominantColors"]
        assert colors[0] == {
            "Red": 85,
            "Green": 107,
            "Blue": 47,
            "HexCode": "#556b2f",
            "CSSColor": "darkolivegreen",
            "SimplifiedColor": "green",
            "PixelPercent": pytest.approx(75, abs=2),
        }
        assert [color["CSSColor"] for color in colors] == ["darkolivegreen", "white"][:limit]


def test_a_colour_on_few_pixels_dominates_nothing() -> None:
    image = plain("red", (200, 100))
    image.paste("white", (0, 0, 4, 100))
    colors = dominant_colors(view(encoded(image, "PNG")))
    assert [color["CSSColor"] for color in colors] == ["red"]


def test_quality_is_measured() -> None:
    halves = plain("black", (200, 200))
    halves.paste("white", (0, 0, 100, 200))
    assert quality(view(encoded(halves, "PNG"))) == pytest.approx(
        {"Brightness": 50, "Contrast": 100, "Sharpness": 83}, abs=17
    )
    assert quality(view(encoded(plain("white"), "PNG"))) == pytest.approx(
        {"Brightness": 100, "Contrast": 0, "Sharpness": 0}
    )
    with Image.open(PHOTOS / "coffee.png") as original:
        blurred = original.filter(ImageFilter.GaussianBlur(8))
    sharp, soft = quality(view(photo("coffee.png"))), quality(view(encoded(blurred, "PNG")))
    assert soft["Sharpness"] < sharp["Sharpness"] / 2


# What it refuses


@pytest.mark.parametrize("call", OPERATIONS.values())
@pytest.mark.parametrize(
    ("file", "code"),
    [
        (b"no picture at all", "InvalidImageFormatException"),
        (encoded(plain("red"), "WEBP"), "InvalidImageFormatException"),
        (encoded(plain("red"), "GIF"), "InvalidImageFormatException"),
        (photo("rocket.jpg")[:5000], "InvalidImageFormatException"),
        (photo("coffee.png")[:5000], "InvalidImageFormatException"),
        (encoded(plain("red", (79, 200))), "InvalidParameterException"),
        (encoded(plain("red", (10_001, 80))), "ImageTooLargeException"),
        (png_header(30_000, 30_000), "ImageTooLargeException"),
        (bytes(5 * MEGABYTE + 1), "ValidationException"),
    ],
    ids=["text", "webp", "gif", "cut jpeg", "cut png", "small", "wide", "bomb", "5 MB and a byte"],
)
def test_pictures_are_refused_as_the_service_refuses_them(
    rekognition: "RekognitionClient", call: str, file: bytes, code: str
) -> None:
    assert error_of(getattr(rekognition, call), Image={"Bytes": file}) == code


@pytest.mark.parametrize("call", OPERATIONS.values())
def test_the_largest_file_that_the_service_takes_is_taken(
    rekognition: "RekognitionClient", call: str
) -> None:
    file = encoded(plain("red", (10_000, 80)))
    file += bytes(5 * MEGABYTE - len(file))
    answer = getattr(rekognition, call)(Image={"Bytes": file})
    assert all(found == [] for found in answer.values() if isinstance(found, list))


@pytest.mark.parametrize("call", OPERATIONS.values())
@pytest.mark.parametrize(
    "image",
    [
        {},
        {"Bytes": b"x", "S3Object": {"Bucket": "one", "Name": "two"}},
        {"S3Object": {"Bucket": "bucket"}},
    ],
    ids=["nothing", "two pictures", "no key"],
)
def test_one_picture_is_to_be_named(
    rekognition: "RekognitionClient", call: str, image: Any
) -> None:
    assert error_of(getattr(rekognition, call), Image=image) == "InvalidParameterException"


@pytest.mark.parametrize(
    ("request_part", "code"),
    [
        ({"Image": {"Bytes": b"x"}, "MinConfidence": 100.1}, "ValidationException"),
        ({"Image": {"Bytes": b"x"}, "Features": ["EVERYTHING"]}, "ValidationException"),
        (
            {
                "Image": {"Bytes": b"x"},
                "Settings": {"ImageProperties": {"MaxDominantColors": 21}},
            },
            "ValidationException",
        ),
    ],
)
def test_parameters_are_refused_as_the_service_refuses_them(
    rekognition: "RekognitionClient", request_part: Any, code: str
) -> None:
    assert error_of(rekognition.detect_labels, **request_part) == code


def test_every_broken_constraint_is_named(server: Server) -> None:
    body = {"Image": {"Bytes": ""}, "MinConfidence": -1, "Settings": {"GeneralLabels": {}}}
    status, sent = send(server, "POST", "/", json.dumps(body), "RekognitionService.DetectLabels")
    assert status == 400
    assert sent["__type"] == "ValidationException"
    assert sent["Message"].startswith("2 validation errors detected: ")
    assert "at 'image.bytes'" in sent["Message"]
    assert "Value '-1' at 'minConfidence' failed to satisfy constraint" in sent["Message"]


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "[]",
        '{"Image": {"Bytes": "%%%"}}',
        '{"Image": {"Bytes": 7}}',
        '{"Image": {"Bytes": "AAAA"}, "MaxLabels": "many"}',
        '{"Image": {"Bytes": "AAAA"}, "Features": "GENERAL_LABELS"}',
    ],
)
def test_what_cannot_be_read_is_a_serialization_exception(server: Server, body: str) -> None:
    status, sent = send(server, "POST", "/", body, "RekognitionService.DetectLabels")
    assert (status, sent["__type"]) == (400, "SerializationException")


def test_a_missing_picture_is_told(server: Server) -> None:
    status, sent = send(server, "POST", "/", "{}", "RekognitionService.DetectLabels")
    assert (status, sent["__type"]) == (400, "ValidationException")
    assert "Value null at 'image'" in sent["Message"]


@pytest.mark.parametrize("target", ["", "RekognitionService.CompareFaces", "Other.DetectLabels"])
def test_unknown_operations_are_told(server: Server, target: str) -> None:
    status, sent = send(server, "POST", "/", "{}", target)
    assert (status, sent["__type"]) == (400, "UnknownOperationException")


def test_boto3_raises_its_own_exception_classes(rekognition: "RekognitionClient") -> None:
    with pytest.raises(rekognition.exceptions.InvalidImageFormatException):
        rekognition.detect_labels(Image={"Bytes": b"text"})


def test_what_nobody_foresaw_is_an_internal_error(
    server: Server, rekognition: "RekognitionClient", monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug in a detector is answered with 500, and the next call with an answer."""
    with monkeypatch.context() as patched:
        patched.setattr(server, "detectors", None)
        with pytest.raises(rekognition.exceptions.InternalServerError):
            rekognition.detect_labels(Image={"Bytes": encoded(plain("red"))})
    assert names(rekognition.detect_labels(Image={"Bytes": encoded(plain("red"))})) == []


# Pictures in S3


class ObjectStore(BaseHTTPRequestHandler):
    """As much of S3 as ``GetObject`` needs: ``photos/cat.png`` in a bucket, in two versions."""

    def do_GET(self) -> None:
        if self.path.startswith("/bucket/photos/huge.png"):
            self.send_response(200)
            self.send_header("Content-Length", str(15 * MEGABYTE + 1))
            self.end_headers()
            return
        found = {
            "/bucket/photos/cat.png": photo("chelsea.png"),
            "/bucket/photos/cat.png?versionId=first": photo("coffee.png"),
        }.get(self.path)
        body = found or b"<Error><Code>NoSuchKey</Code></Error>"
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def with_s3(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", 0), ObjectStore) as store:
        Thread(target=store.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{store.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        server.__dict__.pop("s3", None)
        yield
        server.s3.close()
        del server.__dict__["s3"]
        store.shutdown()


@pytest.mark.usefixtures("with_s3")
def test_objects_are_fetched_from_the_configured_s3(rekognition: "RekognitionClient") -> None:
    where = {"Bucket": "bucket", "Name": "photos/cat.png"}
    assert "Cat" in names(rekognition.detect_labels(Image={"S3Object": where}))
    where["Version"] = "first"
    assert names(rekognition.detect_labels(Image={"S3Object": where})) == []


@pytest.mark.usefixtures("with_s3")
@pytest.mark.parametrize(
    ("key", "code"),
    [("missing.png", "InvalidS3ObjectException"), ("photos/huge.png", "ImageTooLargeException")],
)
def test_objects_are_refused_as_the_service_refuses_them(
    rekognition: "RekognitionClient", key: str, code: str
) -> None:
    where = {"Bucket": "bucket", "Name": key}
    assert error_of(rekognition.detect_labels, Image={"S3Object": where}) == code


# Faults on demand


def test_next_calls_fail_and_then_no_more(
    rekognition: "RekognitionClient", faults: SetFaults
) -> None:
    faults(next_calls=2)
    red = {"Bytes": encoded(plain("red"))}
    assert error_of(rekognition.detect_labels, Image=red) == "ThrottlingException"
    assert error_of(rekognition.detect_labels, Image=red) == "ThrottlingException"
    assert names(rekognition.detect_labels(Image=red)) == []


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_can_fail(
    rekognition: "RekognitionClient", faults: SetFaults, operation: str
) -> None:
    faults(next_calls=1)
    call = getattr(rekognition, OPERATIONS[operation])
    assert error_of(call, Image={"Bytes": encoded(plain("red"))}) == "ThrottlingException"


def test_one_operation_can_fail_alone(rekognition: "RekognitionClient", faults: SetFaults) -> None:
    """Other calls neither fail nor wait nor count."""
    red = {"Bytes": encoded(plain("red"))}
    faults(next_calls=1, operation="DetectFaces")
    assert names(rekognition.detect_labels(Image=red)) == []
    assert error_of(rekognition.detect_faces, Image=red) == "ThrottlingException"
    assert rekognition.detect_faces(Image=red)["FaceDetails"] == []


def test_retries_of_boto3_get_through(server: Server, faults: SetFaults) -> None:
    faults(error="ProvisionedThroughputExceededException", next_calls=1)
    patient = client(server.url, retries={"mode": "standard", "total_max_attempts": 4})
    answer = patient.detect_labels(Image={"Bytes": encoded(plain("red"))})
    patient.close()
    assert answer["ResponseMetadata"]["RetryAttempts"] == 1


def test_a_share_of_calls_fails_evenly(rekognition: "RekognitionClient", faults: SetFaults) -> None:
    faults(rate=0.25, error="InternalServerError")
    failed = []
    for _ in range(8):
        try:
            rekognition.detect_labels(Image={"Bytes": encoded(plain("red"))})
        except rekognition.exceptions.InternalServerError:
            failed.append(True)
        else:
            failed.append(False)
    assert failed == [False, False, False, True] * 2


def test_calls_can_be_made_slow(rekognition: "RekognitionClient", faults: SetFaults) -> None:
    faults(latency_ms=200)
    begin = time.monotonic()
    rekognition.detect_labels(Image={"Bytes": encoded(plain("red"))})
    assert time.monotonic() - begin >= 0.2


def test_faults_can_be_read(server: Server, faults: SetFaults) -> None:
    faults(next_calls=3, rate=0.5)
    status, state = send(server, "GET", FAULTS_PATH, "")
    assert status == 200
    assert state == {
        "error": "ThrottlingException",
        "next_calls": 3,
        "rate": 0.5,
        "latency_ms": 0,
        "operation": "",
    }


@pytest.mark.parametrize(
    "settings",
    [{"error": "Fire"}, {"rate": 1.5}, {"next_calls": -1}, {"speed": 1}, {"operation": "Guess"}],
)
def test_senseless_faults_are_refused(faults: SetFaults, settings: dict[str, Any]) -> None:
    assert faults(**settings)[0] == 400


# As a server


def test_connections_are_kept(server: Server) -> None:
    """A second request goes over the same socket."""
    connection = HTTPConnection(*server.server_address)
    for _ in range(2):
        connection.request("POST", "/", "{}")
        connection.getresponse().read()
        socket = connection.sock
    connection.request("POST", "/", "{}")
    connection.getresponse().read()
    assert connection.sock is socket is not None
    connection.close()


def test_many_calls_at_once_get_their_own_answers(rekognition: "RekognitionClient") -> None:
    expected = {"astronaut.png": "Person", "chelsea.png": "Cat", "coffee.png": None}

    def ask(name: str) -> bool:
        told = names(rekognition.detect_labels(Image={"Bytes": photo(name)}))
        return expected[name] in told if expected[name] else told == []

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(ask, list(expected) * 4))


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_the_command_prints_its_url_and_ends_quietly(ending: signal.Signals) -> None:
    command = [sys.executable, "-m", "localcloud.rekognition", "--next-calls", "1"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        url = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
        caller = client(url)
        assert error_of(caller.detect_labels, Image={"Bytes": b"x"}) == "ThrottlingException"
        caller.close()
        process.send_signal(ending)
        assert process.communicate(timeout=TIMEOUT_S) == ("", "")
    assert process.returncode == 0
