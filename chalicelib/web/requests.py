"""What a client has sent, as the use cases want it. Raises InvalidRequest that says what to do."""

import json
import re
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from io import BytesIO
from typing import Any, cast
from urllib.parse import unquote
from uuid import uuid4

from chalice.app import Request

from chalicelib.config import UPLOADS_PREFIX, Settings
from chalicelib.errors import InvalidRequest, PayloadTooLarge, UnsupportedMediaType
from chalicelib.model import ImageStatus, Query, digest, image_id_of
from chalicelib.web import operations
from chalicelib.web.fetch import FetchPolicy, fetch
from chalicelib.web.parameters import read_members, read_query

BINARY_TYPES = ("multipart/form-data", *operations.RAW_TYPES)
"""Content types that API Gateway shall hand over as bytes, beside those Chalice knows to be."""

MAX_NAME_BYTES = 255
IDEMPOTENCY_KEY = operations.IDEMPOTENCY_KEY.schema["pattern"]
MAX_BODY_BYTES = 4_500_000
"""Lambda takes 6 MB a request, and API Gateway hands binary over in base64, a third longer."""

UNTYPED = "application/octet-stream"
FORM_OVERHEAD_BYTES = 65_536
"""What a form may hold beside its file."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A picture that came over REST. ``filename`` is as the client gave it, ``key`` made of it."""

    key: str
    body: bytes
    content_type: str
    filename: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that is in the request."""

    body: bytes
    content_type: str
    filename: str | None

    @property
    def fingerprint(self) -> str:
        return digest(f"{self.filename}\n{blake2b(self.body).hexdigest()}")


@dataclass(frozen=True, slots=True)
class RemotePicture:
    """A picture that is behind a URL."""

    url: str
    filename: str | None

    @property
    def fingerprint(self) -> str:
        return digest(f"{self.filename}\n{self.url}")


Wish = Picture | RemotePicture
"""What shall be uploaded. Its ``fingerprint`` is the same for the same request alone."""


def query_values(request: Request, operation: operations.Operation) -> dict[str, Any]:
    """The parameters of an operation. Raises InvalidRequest that names each that is at fault."""
    return read_query(operation.parameters, _given(request))


def _given(request: Request) -> dict[str, list[str]]:
    given = request.query_params
    return {name: given.getlist(name) for name in given} if given else {}


def wish_of(request: Request) -> Wish:
    """The picture in a raw body (``?name=``) or a form, or the URL in JSON ``{"url", "name"}``."""
    name = query_values(request, operations.UPLOAD_IMAGE)["name"]
    media_type = _media_type(request)
    if media_type == "application/json":
        members = read_members(operations.URL_MEMBERS, _json_of(request))
        return RemotePicture(members["url"], members["name"] or name or None)
    if media_type == "multipart/form-data":
        return _in_form(request, name)
    if media_type not in operations.RAW_TYPES:
        raise UnsupportedMediaType(
            f"A body of type {media_type!r:.80} is no picture: send it as image/jpeg, image/png, "
            "… or application/octet-stream, in a form (`curl -F file=@cat.jpg`), or as JSON "
            '{"url": …, "name": …}.'
        )
    return Picture(_bytes_of(request, MAX_BODY_BYTES), media_type, name or None)


def remote_wish_of(request: Request) -> RemotePicture | None:
    """The URL in the query of ``GET /?url=…&name=…``; whatever else is there is nobody's."""
    given = _given(request)
    ours = {parameter.name for parameter in operations.SHOW_ROOT.parameters} & given.keys()
    values = read_query(operations.SHOW_ROOT.parameters, {name: given[name] for name in ours})
    return RemotePicture(values["url"], values["name"] or None) if values["url"] else None


def upload_of(wish: Wish, request_id: str, settings: Settings) -> Upload:
    """The picture with its key, fetched if need be.

    ``request_id`` makes up the same name for the same request. Raises UnfetchableUrl,
    PayloadTooLarge.
    """
    if isinstance(wish, Picture):
        filename = wish.filename or _made_up_name(request_id)
        return Upload(key_of(filename), wish.body, wish.content_type, filename)
    if wish.filename:
        key_of(wish.filename)  # at fault, it need not be fetched
    fetched = fetch(
        wish.url,
        FetchPolicy(
            max_bytes=settings.max_bytes,
            allowed_hosts=settings.fetch_allowed_hosts,
            allowed_networks=settings.fetch_allowed_networks,
        ),
    )
    filename = wish.filename or fetched.filename or _made_up_name(request_id)
    content_type = fetched.content_type or UNTYPED
    return Upload(key_of(filename), fetched.body, content_type, filename)


def _made_up_name(request_id: str) -> str:
    now = datetime.now(UTC)
    return digest(request_id)[:16] if request_id else f"{now:%Y%m%d-%H%M%S}-{uuid4().hex[:8]}"


@dataclass(frozen=True, slots=True)
class DirectWish:
    """What shall be uploaded straight to S3."""

    key: str
    content_type: str
    filename: str


def direct_wish_of(request: Request, max_bytes: int) -> DirectWish:
    """What JSON ``{"name", "content_type", "size_bytes"}`` asks for. Raises PayloadTooLarge."""
    if _media_type(request) != "application/json":
        raise UnsupportedMediaType('Send JSON: {"name": "cat.jpg", "content_type": "image/jpeg"}.')
    members = read_members(operations.OFFER_UPLOAD.bodies["application/json"], _json_of(request))
    if (members["size_bytes"] or 0) > max_bytes:
        raise PayloadTooLarge(
            f"{members['size_bytes']:,} bytes is over the limit of {max_bytes:,} bytes: "
            "upload a smaller file, or raise MAX_BYTES."
        )
    return DirectWish(key_of(members["name"]), members["content_type"], members["name"])


def idempotency_of(request: Request) -> str:
    """What the ``Idempotency-Key`` of this caller stands for; empty where there is none.

    (IETF draft-ietf-httpapi-idempotency-key-header.) Keys of different callers are different.
    """
    key = request.headers.get("idempotency-key")
    if key is None:
        return ""
    if not re.fullmatch(IDEMPOTENCY_KEY, key):
        raise InvalidRequest(
            "Idempotency-Key has to be 1 to 255 ASCII characters without spaces.",
            {"Idempotency-Key": "is no such text"},
        )
    identity = request.context.get("identity") or {}
    claims = (request.context.get("authorizer") or {}).get("claims") or {}
    caller = claims.get("sub") or identity.get("caller") or identity.get("apiKeyId") or ""
    return digest(f"{caller}\n{key}")


def _media_type(request: Request) -> str:
    content_type: str = request.headers.get("content-type", UNTYPED)
    return content_type.partition(";")[0].strip().lower()


def _bytes_of(request: Request, most: int) -> bytes:
    event = request.to_original_event()
    if isinstance(event.get("body"), str) and not event.get("isBase64Encoded"):
        # API Gateway hands what it does not know to be binary over as text, beyond repair.
        raise UnsupportedMediaType(
            "The body did not get through the API unharmed: send it as image/jpeg, image/png, … "
            "or application/octet-stream."
        )
    body = cast("bytes", request.raw_body)
    if not body:
        raise InvalidRequest(
            "The body is empty: send the picture as the body (`curl --data-binary @cat.jpg`), "
            'or JSON {"url": …, "name": …}.'
        )
    _require_fitting(len(body), most)
    return body


def _require_fitting(length: int, most: int = MAX_BODY_BYTES) -> None:
    if length > most:
        raise PayloadTooLarge(
            f"{length:,} bytes is over the {MAX_BODY_BYTES:,} bytes that fit through the API: "
            "ask POST /uploads for a form that uploads straight to S3."
        )


def _in_form(request: Request, name: str | None) -> Picture:
    """The picture in the part ``file`` of a form; a part ``name`` names it."""
    # Only here: most uploads are no forms.
    from multipart import (  # noqa: PLC0415
        MultipartError,
        MultipartParser,
        parse_options_header,
    )

    body = _bytes_of(request, MAX_BODY_BYTES + FORM_OVERHEAD_BYTES)
    _, options = parse_options_header(request.headers["content-type"])
    try:
        parser = MultipartParser(
            BytesIO(body),
            options.get("boundary", ""),
            content_length=len(body),
            memory_limit=len(body),
            spool_limit=len(body),
            part_limit=100,
        )
        file, named = parser.get("file"), parser.get("name")
        name = (named.value if named else None) or name
    except (MultipartError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            f"The form cannot be read ({error}): `curl -F file=@cat.jpg` sends one that can."
        ) from error
    if file is None or not file.raw:
        raise InvalidRequest(
            "The form has no picture: send it as the part `file` (`curl -F file=@cat.jpg`).",
            {"file": "is missing or empty"},
        )
    _require_fitting(len(file.raw))
    kind = file.content_type if file.content_type in operations.DIRECT_TYPES else UNTYPED
    return Picture(file.raw, kind, name or file.filename or None)


def _json_of(request: Request) -> Mapping[str, Any]:
    try:
        wish = json.loads(request.raw_body)
    except ValueError as error:
        raise InvalidRequest("The body says it is JSON, but cannot be read as JSON.") from error
    if not isinstance(wish, dict):
        raise InvalidRequest('JSON has to be an object, such as {"name": "cat.jpg"}.')
    return wish


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


def prefers_json(request: Request) -> bool:
    """Whether a program asks, and no browser: those always accept HTML, too."""
    accepted: str = request.headers.get("accept", "")
    return "application/json" in accepted and "text/html" not in accepted


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


def browse_query(request: Request) -> Query:
    """Which images a list shall show."""
    values = query_values(request, operations.LIST_IMAGES)
    status = values["status"]
    return Query(
        limit=values["limit"],
        cursor=values["cursor"] or None,
        status=ImageStatus(status) if status else None,
        labels=values["label"],
        min_confidence=values["min_confidence"],
        since=values["from"],
        until=values["to"],
    )
