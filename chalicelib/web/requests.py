"""What a client has sent, as the use cases want it. Raises InvalidRequest that says what to do."""

import json
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import unquote
from uuid import uuid4

from chalice.app import Request

from chalicelib.config import UPLOADS_PREFIX, Settings
from chalicelib.errors import InvalidRequest, PayloadTooLarge
from chalicelib.model import ImageStatus, Query, image_id_of
from chalicelib.web.fetch import FetchPolicy, fetch

UPLOAD_TYPES = (
    "application/x-www-form-urlencoded",  # what curl calls --data-binary
    "image/avif",
    "image/bmp",
    "image/heic",
    "image/heif",
    "image/tiff",
    "image/webp",
)
"""Content types that API Gateway shall hand over as bytes, beside those Chalice knows to be."""

SHOWN_STATUSES = tuple(status for status in ImageStatus if status is not ImageStatus.DELETED)

DEFAULT_PAGE = 50
MAX_PAGE = 100
MAX_NAME_BYTES = 255
MAX_LABELS = 10
MAX_LABEL = 256
"""Characters. Rekognition's labels are far shorter; DynamoDB refuses a key of more than 2 KB."""

MAX_BODY_BYTES = 4_500_000
"""Lambda takes 6 MB a request, and API Gateway hands binary over in base64, a third longer."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A picture that came over REST. ``filename`` is as the client gave it, ``key`` made of it."""

    key: str
    body: bytes
    content_type: str
    filename: str


def upload_of(request: Request, settings: Settings) -> Upload:
    """The picture in a raw body (``?name=``), or behind the URL of JSON ``{"url", "name"}``."""
    parameters: Mapping[str, str] = request.query_params or {}
    content_type = request.headers.get("content-type", "application/octet-stream")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "application/json":
        return _fetched(_json_of(request), settings)
    if media_type == "multipart/form-data":
        raise InvalidRequest(
            "Send the picture itself as the body, not a form: `curl --data-binary @cat.jpg`."
        )
    event = request.to_original_event()
    if isinstance(event.get("body"), str) and not event.get("isBase64Encoded"):
        # API Gateway hands what it does not know to be binary over as text, beyond repair.
        raise InvalidRequest(
            f"A body of type {media_type!r:.80} does not get through the API unharmed: "
            "send it as image/jpeg, image/png, … or application/octet-stream."
        )
    body = cast("bytes", request.raw_body)
    if not body:
        raise InvalidRequest(
            "The body is empty: send the picture as the body (`curl --data-binary @cat.jpg`), "
            'or JSON {"url": …, "name": …}.'
        )
    if len(body) > MAX_BODY_BYTES:
        raise PayloadTooLarge(
            f"{len(body):,} bytes is over the {MAX_BODY_BYTES:,} bytes that fit through the API: "
            f"upload straight to S3, under {UPLOADS_PREFIX}."
        )
    filename = parameters.get("name") or _name_without_a_name()
    return Upload(key_of(filename), body, content_type, filename)


def _fetched(wish: Mapping[str, Any], settings: Settings) -> Upload:
    url, name = wish.get("url"), wish.get("name")
    if not isinstance(url, str) or not isinstance(name, str | None):
        raise InvalidRequest('JSON has to be {"url": "https://…", "name": "cat.jpg"}.')
    fetched = fetch(
        url,
        FetchPolicy(
            max_bytes=settings.max_bytes,
            allowed_hosts=settings.fetch_allowed_hosts,
            allowed_networks=settings.fetch_allowed_networks,
        ),
    )
    filename = name or fetched.filename or _name_without_a_name()
    content_type = fetched.content_type or "application/octet-stream"
    return Upload(key_of(filename), fetched.body, content_type, filename)


def _json_of(request: Request) -> Mapping[str, Any]:
    try:
        wish = json.loads(request.raw_body)
    except ValueError as error:
        raise InvalidRequest("The body says it is JSON, but cannot be read as JSON.") from error
    if not isinstance(wish, dict):
        raise InvalidRequest('JSON has to be an object: {"url": "https://…", "name": "cat.jpg"}.')
    return wish


def _name_without_a_name() -> str:
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid4().hex[:8]}"


def key_of(filename: str) -> str:
    """The object key of a file name: its last part, in NFC, without control characters.

    Anything else S3 and URLs can carry stays as it is. Raises InvalidRequest when nothing is
    left, or for more than 255 bytes of UTF-8, the longest name common file systems keep.
    """
    try:
        filename.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest("The name is not valid Unicode.") from error
    last = unicodedata.normalize("NFC", filename).replace("\\", "/").rpartition("/")[2]
    name = "".join(char for char in last if unicodedata.category(char)[0] != "C").strip()
    length = len(name.encode())
    if name in {"", ".", ".."}:
        raise InvalidRequest(f"{filename!r:.80} is no file name: give one such as cat.jpg.")
    if length > MAX_NAME_BYTES:
        raise InvalidRequest(
            f"The name has {length} bytes, over the limit of {MAX_NAME_BYTES}: shorten it."
        )
    return UPLOADS_PREFIX + name


def base_of(request: Request) -> str:
    """What API Gateway puts before the app's own paths: ``/api`` for a stage, or a base path.

    The path that was asked for, without as many parts as the route has.
    """
    route: str = request.context["resourcePath"]
    path: str = request.context["path"]
    return path.rstrip("/").rsplit("/", route.count("/"))[0]


def image_ids_of(filename: str) -> tuple[str, ...]:
    """The images a file name in a path can mean.

    Servers differ in whether they decode a path's parts before they hand them over, so that
    ``a%2520b`` may arrive as it is or as ``a%20b``. And the same name makes one key over REST
    and, as it stands, another straight to S3.
    """
    name = unquote(filename)
    keys = [UPLOADS_PREFIX + name, UPLOADS_PREFIX + filename]
    with suppress(InvalidRequest):
        keys.append(key_of(name))
    return tuple(image_id_of(key) for key in dict.fromkeys(keys))


def query_of(request: Request) -> Query:
    """Which images ``GET /images`` is asked for: status, label, min_confidence, limit, cursor."""
    parameters = request.query_params
    values: Mapping[str, str] = parameters or {}
    labels = tuple(parameters.getlist("label")) if parameters and "label" in parameters else ()
    labels = tuple(label for label in labels if label)
    status = values.get("status")
    if status and status.upper() not in SHOWN_STATUSES:
        raise InvalidRequest(f"status {status!r:.40} is none of {', '.join(SHOWN_STATUSES)}.")
    if status and labels:
        raise InvalidRequest("Ask by status or by label, not by both: only COMPLETED has labels.")
    if len(labels) > MAX_LABELS or any(len(label) > MAX_LABEL for label in labels):
        raise InvalidRequest(f"Ask for up to {MAX_LABELS} labels of up to {MAX_LABEL} characters.")
    limit = _number(values, "limit", 1, MAX_PAGE, DEFAULT_PAGE)
    if limit % 1:
        raise InvalidRequest(f"limit is a whole number, not {values['limit']!r:.40}.")
    return Query(
        limit=int(limit),
        cursor=values.get("cursor") or None,
        status=ImageStatus(status.upper()) if status else None,
        labels=labels,
        min_confidence=_number(values, "min_confidence", 0, 100, 0),
    )


def _number(
    values: Mapping[str, str], name: str, least: float, most: float, default: float
) -> float:
    text = values.get(name, str(default))
    try:
        value = float(text)
    except ValueError:
        value = least - 1
    value = round(value, 2)  # DynamoDB takes no number as small as a float can be
    if not least <= value <= most:
        raise InvalidRequest(f"{name} is a number from {least} to {most}, not {text!r:.40}.")
    return value
