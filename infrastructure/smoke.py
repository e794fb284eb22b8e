"""A real picture through a stage, from its upload to its removal."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
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

TIMEOUT_S = 420
AGAIN_S = 30
"""S3 may take five minutes until it tells of anything after it was told to (S3 User Guide, "Event
notifications"). What happened before is never told of, so it is made to happen again.
"""

API_TIMEOUT_S = 60
"""A new deployment of an API takes some seconds to be everywhere."""

POLL_S = 0.5
SIZE = (1200, 900)

Proof = Callable[[str], Mapping[str, str]]
"""The headers that show who asks for a URL."""


class SmokeTestFailed(PipelineError):
    """The picture did not come through; the message says how far it came."""

    code = "smoke_test_failed"


def smoke_test(
    services: Services,
    api_url: str,
    proof: Proof | None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[str]:
    """Put a picture into the bucket, follow it, read it back over the API, and remove it.

    Without a ``proof``, because only users can have one, the API is expected to ask for it. A line
    for each thing that held. Raises SmokeTestFailed. The picture goes in any case.
    """
    trial = _Trial(services, clock, sleep)
    try:
        image, seconds = trial.come_to(ImageStatus.COMPLETED, trial.upload)
        names = ", ".join(rendition.name for rendition in image.renditions)
        yield f"completed and announced after {seconds:.1f} s, with {names}"
        url = f"{api_url}images/{image.image_id}"
        if proof:
            trial.wait(lambda: _problem(url, image, proof))
            yield "the API tells of it"
        else:
            trial.wait(lambda: _open_door(url))
            yield "the API asks who wants to know of it"
    except BaseException:
        trial.remove()
        raise
    _, seconds = trial.come_to(ImageStatus.DELETED, trial.remove)
    yield f"removed with all that was made of it after {seconds:.1f} s"


class _Trial:
    """Pictures on their way: one, or as many as it takes until S3 tells of one."""

    def __init__(
        self, services: Services, clock: Callable[[], float], sleep: Callable[[float], None]
    ) -> None:
        self._services = services
        self._clock = clock
        self._sleep = sleep
        self._keys: list[str] = []

    def upload(self) -> None:
        self._keys.append(f"{UPLOADS_PREFIX}smoke-test-{uuid4()}.jpg")
        self._services.uploads.put(self._keys[-1], _picture(), "image/jpeg", "smoke test.jpg")

    def remove(self) -> None:
        for key in self._keys:
            self._services.uploads.delete(key)

    def come_to(self, status: ImageStatus, cause: Callable[[], None]) -> tuple[Image, float]:
        """The first of them in that status, and how long it took since it was last caused.

        Caused again every AGAIN_S while nothing is heard of it. Raises SmokeTestFailed.
        """
        began = caused = self._clock()
        cause()
        while self._clock() - began < TIMEOUT_S:
            images = [self._services.catalog.get(image_id_of(key)) for key in self._keys]
            known = [image for image in images if image is not None]
            for image in known:
                if image.status is status and image.announced:
                    return image, self._clock() - caused
                if image.status is ImageStatus.FAILED:
                    raise SmokeTestFailed(f"{image.original.key}: {_seen(image)}")
            is_unheard = not known or status is ImageStatus.DELETED
            if is_unheard and self._clock() - caused > AGAIN_S:
                caused = self._clock()
                cause()
            self._sleep(POLL_S)
        seen = _seen(known[0] if known else None)
        raise SmokeTestFailed(f"{self._keys[0]} should be {status} and announced. {seen}")

    def wait(self, problem: Callable[[], str]) -> None:
        """Until there is none. Raises SmokeTestFailed with the last one after API_TIMEOUT_S."""
        began = self._clock()
        while found := problem():
            if self._clock() - began > API_TIMEOUT_S:
                raise SmokeTestFailed(found)
            self._sleep(POLL_S)


def _picture() -> bytes:
    """No two are alike, so that no cache can answer for the pipeline."""
    noise = Pillow.effect_noise((SIZE[0] // 4, SIZE[1] // 4), 60).resize(SIZE)
    body = BytesIO()
    Pillow.merge("RGB", (noise, noise.rotate(180), noise.rotate(90).resize(SIZE))).save(
        body, "JPEG", quality=85
    )
    return body.getvalue()


def signed(session: Session) -> Proof:
    """With the credentials of whoever runs this, as ``API_AUTH=iam`` asks; others do not mind."""

    def prove(url: str) -> Mapping[str, str]:
        request: Any = AWSRequest("GET", url)
        credentials: Any = session.get_credentials()
        SigV4Auth(credentials, "execute-api", session.region_name).add_auth(request)
        return dict(request.headers)

    return prove


def _problem(url: str, image: Image, proof: Proof) -> str:
    """What is wrong with what the API says of an image; nothing, where it is right."""
    status, answer = _get(url, proof(url))
    if status != HTTPStatus.OK:
        return f"GET {url} was answered with {status}: {answer!r}"
    try:
        told = json.loads(answer).get("image_id")
    except ValueError:
        told = None
    return "" if told == image.image_id else f"GET {url} tells of another image: {answer!r}"


def _open_door(url: str) -> str:
    """What is wrong where somebody unknown is not asked to sign in."""
    status, answer = _get(url, {})
    if status == HTTPStatus.UNAUTHORIZED:
        return ""
    return f"GET {url} without a token was answered with {status}, not 401: {answer!r}"


def _get(url: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
    try:
        with urlopen(Request(url, headers=dict(headers)), timeout=30) as answer:  # noqa: S310
            return answer.status, answer.read()
    except HTTPError as error:
        return error.code, error.read()


def _seen(image: Image | None) -> str:
    if image is None:
        return "There is no record of it: look at the logs of handle_upload."
    if image.failure:
        return f"It is {image.status}: {image.failure.message}"
    return f"It is {image.status} for now: look at the logs of process_images."
