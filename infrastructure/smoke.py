"""A real picture through a stage, from its upload to its removal."""

import json
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen
from uuid import uuid4

from boto3 import Session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from PIL import Image as Pillow

from chalicelib.config import UPLOADS_PREFIX
from chalicelib.errors import PipelineError
from chalicelib.model import Image, ImageStatus, image_id_of
from chalicelib.services import Services

TIMEOUT_S = 120
"""Far more than a cold start, a picture and SQS's long poll take."""

POLL_S = 0.5
SIZE = (1200, 900)


class SmokeTestFailed(PipelineError):
    """The picture did not come through; the message says how far it came."""

    code = "smoke_test_failed"


def smoke_test(
    services: Services,
    api_url: str,
    session: Session,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[str]:
    """Put a picture into the bucket, follow it, read it back over the API, and remove it.

    A line for each thing that held. Raises SmokeTestFailed. The picture goes in any case.
    """
    key = f"{UPLOADS_PREFIX}smoke-test-{uuid4()}.jpg"

    def wait_for(status: ImageStatus) -> tuple[Image, float]:
        started = clock()
        image = None
        while clock() - started < TIMEOUT_S:
            image = services.catalog.get(image_id_of(key))
            if image and image.status is status and image.announced:
                return image, clock() - started
            if image and image.status is ImageStatus.FAILED:
                break
            sleep(POLL_S)
        raise SmokeTestFailed(f"{key} should be {status} and announced. {_seen(image)}")

    services.uploads.put(key, _picture(), "image/jpeg", "smoke test.jpg")
    try:
        image, seconds = wait_for(ImageStatus.COMPLETED)
        names = ", ".join(rendition.name for rendition in image.renditions)
        yield f"completed and announced after {seconds:.1f} s, with {names}"
        _require_readable(f"{api_url}images/{image.image_id}", image, session)
        yield "the API tells of it"
    finally:
        services.uploads.delete(key)
    _, seconds = wait_for(ImageStatus.DELETED)
    yield f"removed with all that was made of it after {seconds:.1f} s"


def _picture() -> bytes:
    """No two are alike, so that no cache can answer for the pipeline."""
    noise = Pillow.effect_noise((SIZE[0] // 4, SIZE[1] // 4), 60).resize(SIZE)
    body = BytesIO()
    Pillow.merge("RGB", (noise, noise.rotate(180), noise.rotate(90).resize(SIZE))).save(
        body, "JPEG", quality=85
    )
    return body.getvalue()


def _require_readable(url: str, image: Image, session: Session) -> None:
    status, answer = _signed_get(url, session)
    if status != 200:  # noqa: PLR2004
        raise SmokeTestFailed(f"GET {url} was answered with {status}: {answer!r}")
    try:
        told = json.loads(answer).get("image_id")
    except ValueError:
        told = None
    if told != image.image_id:
        raise SmokeTestFailed(f"GET {url} tells of another image: {answer!r}")


def _signed_get(url: str, session: Session) -> tuple[int, bytes]:
    """With these credentials, as ``API_AUTH=iam`` asks; an open API does not mind."""
    request: Any = AWSRequest("GET", url)
    credentials: Any = session.get_credentials()
    SigV4Auth(credentials, "execute-api", session.region_name).add_auth(request)
    try:
        with urlopen(Request(url, headers=dict(request.headers)), timeout=30) as answer:  # noqa: S310
            return answer.status, answer.read()
    except HTTPError as error:
        return error.code, error.read()


def _seen(image: Image | None) -> str:
    if image is None:
        return "There is no record of it: look at the logs of handle_upload."
    if image.failure:
        return f"It is {image.status}: {image.failure.message}"
    return f"It is {image.status} for now: look at the logs of process_images."
