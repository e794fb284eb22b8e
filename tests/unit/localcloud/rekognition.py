"""Pictures for the local Rekognition, and ways to ask it."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from PIL import Image

from localcloud.rekognition.server import Server

if TYPE_CHECKING:
    from mypy_boto3_rekognition import RekognitionClient

PHOTOS = Path(find_spec("skimage").origin).parent / "data"

OPERATIONS = {
    "DetectFaces": "detect_faces",
    "DetectLabels": "detect_labels",
    "DetectModerationLabels": "detect_moderation_labels",
    "DetectText": "detect_text",
    "RecognizeCelebrities": "recognize_celebrities",
}
"""What the server answers, with boto3's names for it."""


def photo(name: str) -> bytes:
    return (PHOTOS / name).read_bytes()


def encoded(image: Image.Image, file_format: str = "JPEG", **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def plain(color: str, size: tuple[int, int] = (120, 90)) -> Image.Image:
    return Image.new("RGB", size, color)


def client(url: str, **config: Any) -> "RekognitionClient":
    return boto3.client(
        "rekognition",
        endpoint_url=url,
        region_name="eu-central-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",  # noqa: S106
        config=Config(**{"retries": {"total_max_attempts": 1}} | config),
    )


@contextmanager
def running(**options: Any) -> Iterator[Server]:
    with Server(**options) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def send(
    server: Server, method: str, path: str, body: str, target: str = ""
) -> tuple[int, dict[str, Any]]:
    connection = HTTPConnection(*server.server_address)
    connection.request(method, path, body, {"X-Amz-Target": target})
    answer = connection.getresponse()
    sent = json.loads(answer.read())
    connection.close()
    return answer.status, sent


def error_of(call: Callable[..., Any], **request: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**request)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    return caught.value.response["Error"]["Code"]
