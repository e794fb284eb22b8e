"""What a client has sent, as the use cases want it. Raises InvalidRequest that says what to do."""

import json
from collections.abc import Callable, Mapping
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
from chalicelib.web.names import file_name
from chalicelib.web.parameters import invalid, read_members, read_query

ALIASES = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png"}
"""Content types that no registry knows and that clients send all the same."""

BINARY_TYPES = {"multipart/form-data", *operations.RAW_TYPES, *ALIASES}
"""Content types that API Gateway shall hand over as bytes, beside those Chalice knows to be."""

MAX_BODY_BYTES = 4_500_000
"""Lambda takes 6 MB a request, and API Gateway hands binary over in base64, a third longer."""

UNTYPED = "application/octet-stream"
MAX_JSON_BYTES = 65_536
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
        told = [self.filename, self.content_type, blake2b(self.body).hexdigest()]
        return digest(json.dumps(told))


@dataclass(frozen=True, slots=True)
class RemotePicture:
    """A picture that is behind a URL."""

    url: str
    filename: str | None

    @property
    def fingerprint(self) -> str:
        return digest(json.dumps([self.filename, self.url]))


Wish = Picture | RemotePicture
"""What shall be uploaded. Its ``fingerprint`` is the same for the same request alone."""


def query_values(request: Request, operation: operations.Operation) -> dict[str, Any]:
    """The parameters of an operation, those in headers included.

    Raises InvalidRequest that names each that is at fault.
    """
    return read_query(operation.parameters, _given(request), request.headers)


def _given(request: Request) -> dict[str, list[str]]:
    given = request.query_params
    return {name: given.getlist(name) for name in given} if given else {}


def wish_of(request: Request) -> Wish:
    """The picture in a raw body (``?name=``) or a form, or the URL in JSON ``{"url", "name"}``."""
    media_type = _media_type(request)
    if media_type == "application/json":
        return _behind_url(request)
    name = query_values(request, operations.UPLOAD_IMAGE)["name"]
    if media_type == "multipart/form-data":
        return _in_form(request, name)
    if media_type not in operations.RAW_TYPES:
        raise UnsupportedMediaType(
            f"A body of type {media_type!r:.80} is no picture: send it as image/jpeg, image/png, "
            "… or application/octet-stream, in a form (`curl -F file=@cat.jpg`), or as JSON "
            '{"url": …, "name": …}.'
        )
    body = _bytes_of(request, MAX_BODY_BYTES)
    if media_type == operations.FORM_TYPE and body.startswith((b"{", b"url=")):
        raise UnsupportedMediaType(
            "The body is a form or JSON that does not say so: `curl --json` sends it as JSON."
        )
    return Picture(body, media_type, name or None)


def _behind_url(request: Request) -> RemotePicture:
    """What JSON says, or every fault that it, the query and the headers have."""
    wrong: dict[str, str] = {}
    values: dict[str, Any] = {}
    reads: tuple[Callable[[], dict[str, Any]], ...] = (
        lambda: query_values(request, operations.UPLOAD_IMAGE),
        lambda: read_members(operations.URL_MEMBERS, _json_of(request)),
    )
    for read in reads:
        try:
            values |= {name: value for name, value in read().items() if value}
        except InvalidRequest as error:
            if not error.parameters:
                raise
            wrong |= error.parameters
    if wrong:
        raise invalid(wrong)
    return RemotePicture(values["url"], values.get("name"))


def is_remote_wish(request: Request) -> bool:
    """Whether ``GET /`` is asked to fetch a picture."""
    return request.method == "GET" and "url" in _given(request)


def remote_wish_of(request: Request) -> RemotePicture:
    """The URL in the query of ``GET /?url=…&name=…``."""
    values = query_values(request, operations.SHOW_ROOT)
    return RemotePicture(values["url"], values["name"] or None)


def check_root(request: Request) -> None:
    """Raises InvalidRequest for what the page is given, and cannot be; more is nobody's."""
    declared = {parameter.name for parameter in operations.SHOW_ROOT.parameters}
    given = {name: values for name, values in _given(request).items() if name in declared}
    read_query(operations.SHOW_ROOT.parameters, given, request.headers)


def upload_of(wish: Wish, request_id: str, settings: Settings) -> Upload:
    """The picture with its key, fetched if need be.

    ``request_id`` makes up the same name for the same request. Raises UnfetchableUrl,
    PayloadTooLarge.
    """
    if isinstance(wish, Picture):
        filename = wish.filename or _made_up_name(request_id)
        return Upload(key_of(filename), wish.body, wish.content_type, filename)
    # Only here: most invocations fetch nothing.
    from chalicelib.web.fetch import FetchPolicy, fetch  # noqa: PLC0415

    fetched = fetch(
        wish.url,
        FetchPolicy(
            max_bytes=settings.max_bytes,
            allowed_hosts=settings.fetch_allowed_hosts,
            allowed_networks=settings.fetch_allowed_networks,
        ),
    )
    filename = wish.filename or fetched.filename or ""
    with suppress(InvalidRequest):
        return Upload(key_of(filename), fetched.body, _known(fetched.content_type), filename)
    filename = _made_up_name(request_id)  # what the host calls it is nobody's fault
    return Upload(key_of(filename), fetched.body, _known(fetched.content_type), filename)


def _known(content_type: str | None) -> str:
    """The type that somebody else has claimed, where a picture may have it."""
    plain = ALIASES.get(content_type or "", content_type)
    return plain if plain in operations.DIRECT_TYPES else UNTYPED


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
    members = members_of(request, operations.OFFER_UPLOAD)
    if (members["size_bytes"] or 0) > max_bytes:
        raise PayloadTooLarge(
            f"{members['size_bytes']:,} bytes is over the limit of {max_bytes:,} bytes: "
            "upload a smaller file, or raise MAX_BYTES."
        )
    return DirectWish(key_of(members["name"]), members["content_type"], members["name"])


def members_of(request: Request, operation: operations.Operation) -> dict[str, Any]:
    """The members of the JSON object that an operation takes, of those left out the default.

    Raises InvalidRequest that names each that is at fault, UnsupportedMediaType, PayloadTooLarge.
    """
    members = operation.bodies["application/json"]
    if _media_type(request) != "application/json":
        example = json.dumps({member.name: member.example for member in members})
        raise UnsupportedMediaType(f"Send JSON: {example}.")
    return read_members(members, _json_of(request))


def idempotency_of(request: Request) -> str:
    """What the ``Idempotency-Key`` of this caller stands for; empty where there is none.

    (IETF draft-ietf-httpapi-idempotency-key-header.) Keys of different callers are different.
    """
    key = request.headers.get("idempotency-key")
    if key is None:
        return ""
    identity = request.context.get("identity") or {}
    claims = (request.context.get("authorizer") or {}).get("claims") or {}
    caller = claims.get("sub") or identity.get("caller") or identity.get("apiKeyId") or ""
    return digest(json.dumps([caller, key]))


def _media_type(request: Request) -> str:
    content_type: str = request.headers.get("content-type", UNTYPED)
    plain = content_type.partition(";")[0].strip().lower()
    return ALIASES.get(plain, plain)


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
        files, named = parser.get_all("file"), parser.get("name")
        name = (named.raw.decode() if named else None) or name
    except (MultipartError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            f"The form cannot be read ({error}): `curl -F file=@cat.jpg` sends one that can."
        ) from error
    if len(files) != 1 or not files[0].raw:
        raise InvalidRequest(
            "The form has to have one picture, as the part `file` (`curl -F file=@cat.jpg`).",
            {"file": "is missing, empty, or there several times"},
        )
    [file] = files
    _require_fitting(len(file.raw))
    name = read_members([operations.NAME_MEMBER], {"name": name or file.filename or None})["name"]
    return Picture(file.raw, _known(file.content_type), name)


def _json_of(request: Request) -> Mapping[str, Any]:
    body = cast("bytes", request.raw_body)
    if len(body) > MAX_JSON_BYTES:
        raise PayloadTooLarge(f"JSON of more than {MAX_JSON_BYTES:,} bytes asks for nothing here.")
    try:
        wish = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("The body says it is JSON, but cannot be read as JSON.") from error
    if not isinstance(wish, dict):
        raise InvalidRequest("JSON has to be an object, members between braces.")
    return wish


def key_of(filename: str) -> str:
    """The object key of a name, as ``file_name`` has it. Raises InvalidRequest."""
    try:
        return UPLOADS_PREFIX + file_name(filename)
    except ValueError as error:
        raise invalid({"name": str(error)}) from error


def prefers_json(request: Request) -> bool:
    """Whether a program asks, and no browser: those always accept HTML, too."""
    accepted: str = request.headers.get("accept", "")
    return "application/json" in accepted and "text/html" not in accepted


def base_of(request: Request) -> str:
    """What API Gateway puts before the app's own paths: ``/api`` for a stage, or a base path.

    The path that was asked for, without as many parts as the route has.
    """
    route = [part for part in request.context["resourcePath"].split("/") if part]
    path: list[str] = request.context["path"].rstrip("/").split("/")
    return "/".join(path[: len(path) - len(route)])


def image_ids_of(filename: str) -> tuple[str, ...]:
    """The images a file name in a path can mean.

    Servers differ in whether they decode a path's parts before they hand them over, so that
    ``a%2520b`` may arrive as it is or as ``a%20b``. And the same name makes one key over REST
    and, as it stands, another straight to S3.
    """
    name = unquote(filename)
    keys = [UPLOADS_PREFIX + filename, UPLOADS_PREFIX + name]
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
        words=values["text"],
        min_confidence=values["min_confidence"],
        since=values["from"],
        until=values["to"],
    )
