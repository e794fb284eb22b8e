"""What the API can do: for each route its parameters, what it answers, and how it refuses.

The parameters are what requests are read by, and ``/openapi.json`` is made of all of it. A new
endpoint is an Operation here, a type in ``chalicelib.web.schema`` if it answers something new, and
a route in ``app.py``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus

from chalicelib.errors import (
    CrossSiteRequest,
    DeliveryNotFound,
    DestinationIsConfigured,
    DestinationNotFound,
    FileNotFound,
    IdempotencyKeyReused,
    ImageNotFound,
    ImageQuarantined,
    InvalidRequest,
    KeyInUse,
    KeyTaken,
    NotQuarantined,
    PayloadTooLarge,
    RenditionNotFound,
    RequestError,
    ReviewersOnly,
    SignInRequired,
    TooManyDestinations,
    TooManyRotations,
    UnfetchableUrl,
    Unhealthy,
    UnsupportedMediaType,
    VersionReplaced,
)
from chalicelib.model import (
    MAX_DESCRIPTION_LENGTH,
    MAX_URL_LENGTH,
    MAX_WEBHOOK_LABEL_LENGTH,
    MAX_WEBHOOK_LABELS,
    EventKind,
    ImageStatus,
    words_of,
)
from chalicelib.web.names import file_name
from chalicelib.web.parameters import (
    Parameter,
    list_of,
    matching,
    moment,
    number,
    one_of,
    optional,
    several,
    text,
    whole,
)

MAX_PAGE = 100
DEFAULT_PAGE = 50
MAX_LABELS = 10
MAX_WORDS = 10
MAX_LABEL = 256
"""Characters. Rekognition's labels are far shorter; DynamoDB refuses a key of more than 2 KB."""

MAX_DISTANCE = 7
"""Bits of a perceptual hash in which similar pictures may differ, as far as the index finds all."""

MAX_GIVEN_NAME = 1024

VISIBLE = "[!-~]{1,255}"
POSITION = "[0-9]{13}[.][a-z2-7]{26}"
"""A cursor: the time of an upload in milliseconds, and the id of its image."""

SHOWN_STATUSES = tuple(status for status in ImageStatus if status is not ImageStatus.DELETED)

IMAGE_TYPES = (
    *("image/avif", "image/bmp", "image/gif", "image/heic", "image/heif"),
    *("image/jpeg", "image/png", "image/tiff", "image/webp"),
)
DIRECT_TYPES = (*IMAGE_TYPES, "application/octet-stream")
FORM_TYPE = "application/x-www-form-urlencoded"
RAW_TYPES = (*DIRECT_TYPES, FORM_TYPE)
"""What a picture may be sent as; the last is what curl calls ``--data-binary``."""


def given_name(value: object) -> str:
    """A name as the client gave it, of which a file name can be made."""
    name = text(1, MAX_GIVEN_NAME)(value)
    file_name(name)
    return name


def searched_words(values: Sequence[object]) -> tuple[str, ...]:
    """The words of several texts, each of which has some."""
    texts = several(text(1, MAX_LABEL), MAX_WORDS)(values)
    words = words_of(" ".join(texts))
    if not all(map(words_of, texts)) or len(words) > MAX_WORDS:
        raise ValueError(f"is 1 to {MAX_WORDS} words of letters or digits in all")
    return words


def name_or_none(value: object) -> str:
    return "" if value == "" else given_name(value)


def plain_url(value: object) -> str:
    """A URL of which nothing is at fault by itself."""
    # Only here: most invocations fetch nothing.
    from chalicelib.outbound import parse  # noqa: PLC0415

    url = text(1, MAX_URL_LENGTH)(value)
    try:
        parse(url)
    except InvalidRequest as error:
        raise ValueError(str(error).removeprefix("The URL ").rstrip(".")) from error
    return url


# ── parameters ───────────────────────────────────────────────────────────────────────────────────

IMAGE_ID = Parameter(
    name="image_id",
    where="path",
    required=True,
    about="Id of the image.",
    schema={"type": "string", "pattern": "^[a-z2-7]{26}$"},
    example="mdn5xqlfmkcrmdrxmbibq4sbfu",
)
FILENAME = Parameter(
    name="filename",
    where="path",
    required=True,
    about="Name that the image was uploaded under, percent-encoded.",
    schema={"type": "string"},
    example="cat.jpg",
)
RENDITION_NAME = Parameter(
    name="name",
    where="path",
    required=True,
    about="Name of the rendition.",
    schema={"type": "string"},
    example="thumbnail",
)
NAME = Parameter(
    name="name",
    about="Name of the file. Its last part becomes the object key; without one, one is made up.",
    parse=name_or_none,
    schema={"type": "string", "format": "filename", "maxLength": MAX_GIVEN_NAME},
    example="cat.jpg",
)
IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    where="header",
    about="Any text of your own, up to 255 characters: the same request with the same key, within "
    "a day, uploads nothing twice.",
    parse=matching(VISIBLE, "is 1 to 255 ASCII characters without spaces"),
    schema={"type": "string", "pattern": f"^{VISIBLE}$"},
    example="8e03978e-40d5-43e8-bc93-6894a57f9324",
)
KNOWN_ETAG = Parameter(
    name="If-None-Match",
    where="header",
    about="The ETag of the last answer: 304 without a body if nothing has changed.",
    schema={"type": "string"},
    example='"3"',
)
STATUS = Parameter(
    name="status",
    about="Only images in this status.",
    parse=one_of(SHOWN_STATUSES),
    schema={"type": "string", "enum": [str(status) for status in SHOWN_STATUSES]},
    example="COMPLETED",
)
LABEL = Parameter(
    name="label",
    about="Only images with this label or one below it, in whatever case: a Dog is an Animal, too. "
    "Moderation labels and celebrities count as labels. Repeat it for images that have all.",
    parse=several(text(1, MAX_LABEL), MAX_LABELS),
    schema={
        "type": "array",
        "items": {"type": "string", "minLength": 1, "maxLength": MAX_LABEL},
        "maxItems": MAX_LABELS,
    },
    default=(),
    repeats=True,
    example=["Cat"],
)
TEXT = Parameter(
    name="text",
    about="Only images in which these words are written, in whatever case and order; repeat it "
    "for more.",
    parse=searched_words,
    schema={
        "type": "array",
        "items": {"type": "string", "minLength": 1, "maxLength": MAX_LABEL, "pattern": r"\w"},
        "maxItems": MAX_WORDS,
    },
    default=(),
    repeats=True,
    example=["sale"],
)
MIN_CONFIDENCE = Parameter(
    name="min_confidence",
    about="With `label` or `text`, and not without: at least this confidence, in percent, of each.",
    parse=number(0, 100),
    schema={"type": "number", "minimum": 0, "maximum": 100, "default": 0},
    default=0.0,
    qualifies=("label", "text"),
    example=90,
)
FROM = Parameter(
    name="from",
    about="Only images uploaded at this date or time, or later. UTC unless it has a zone.",
    parse=moment(ends=False),
    schema={
        "anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}]
    },
    example="2026-01-01",
)
TO = Parameter(
    name="to",
    about="Only images uploaded at this date or time, or before; a date is the whole day.",
    parse=moment(ends=True),
    schema={
        "anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}]
    },
    example="2026-01-31",
)
LIMIT = Parameter(
    name="limit",
    about="Most images on the page.",
    parse=whole(1, MAX_PAGE),
    schema={"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": DEFAULT_PAGE},
    default=DEFAULT_PAGE,
    example=20,
)
CURSOR = Parameter(
    name="cursor",
    about="`cursor` of the page before, as it is. A page may hold fewer images than `limit`, even "
    "none, while there is a cursor: what one page looks through and carries is bounded.",
    parse=matching(
        POSITION,
        "is not one of ours: pass on `cursor` of the page before as it is",
    ),
    schema={"type": "string", "pattern": f"^{POSITION}$"},
    example="1769850900000.mdn5xqlfmkcrmdrxmbibq4sbfu",
)
PREFIX = Parameter(
    name="prefix",
    about="Only labels that begin so, in whatever case.",
    parse=text(0, MAX_LABEL),
    schema={"type": "string", "maxLength": MAX_LABEL},
    default="",
    example="ca",
)
LABELS_LIMIT = Parameter(
    name="limit",
    about="Most labels to give.",
    parse=whole(1, 1000),
    schema={"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
    default=100,
    example=20,
)
DISTANCE = Parameter(
    name="max_distance",
    about="Most bits in which the perceptual hashes differ: 0 to 3 are copies at other sizes and "
    "qualities, above that pictures that look alike.",
    parse=whole(0, MAX_DISTANCE),
    schema={"type": "integer", "minimum": 0, "maximum": MAX_DISTANCE, "default": MAX_DISTANCE},
    default=MAX_DISTANCE,
    example=5,
)
VERSION_ID = Parameter(
    name="version_id",
    about="The version that was looked at: refused if another one has been uploaded since.",
    parse=text(1, MAX_GIVEN_NAME),
    schema={"type": "string", "minLength": 1, "maxLength": MAX_GIVEN_NAME},
    example="3sL4kqtJlcpXroDTDmJrmSpXd3dIbrHY",
)
URL_TEXT = Parameter(
    name="url",
    about="Where to fetch the picture: http or https, a public address.",
    parse=plain_url,
    schema={"type": "string", "format": "uri", "minLength": 1, "maxLength": MAX_URL_LENGTH},
    required=True,
    where="body",
    example="https://upload.wikimedia.org/cat.jpg",
)
NAME_MEMBER = Parameter(
    name="name",
    where="body",
    about=NAME.about,
    parse=optional(NAME.parse),
    schema={**NAME.schema, "type": ["string", "null"]},
    example=NAME.example,
)
UPLOAD_NAME = Parameter(
    name="name",
    where="body",
    required=True,
    about="Name of the file. Its last part becomes the object key.",
    parse=given_name,
    schema={**NAME.schema, "minLength": 1},
    example="cat.jpg",
)
CONTENT_TYPE = Parameter(
    name="content_type",
    where="body",
    about="Content type that the upload will have; S3 takes no other.",
    parse=one_of(DIRECT_TYPES),
    schema={"type": "string", "enum": list(DIRECT_TYPES)},
    default="application/octet-stream",
    example="image/jpeg",
)
SIZE = Parameter(
    name="size_bytes",
    where="body",
    about="Size of the file, to hear at once when it is over the limit.",
    parse=whole(1, 2**53),
    schema={"type": "integer", "minimum": 1, "maximum": 2**53},
    example=51207,
)
WEBHOOK_ID = Parameter(
    name="webhook_id",
    where="path",
    required=True,
    about="Id of the webhook.",
    schema={"type": "string", "pattern": "^[a-z2-7]{26}$"},
    example="nbswy3dpeb3w64tmmq5xqlfmkc",
)
EVENT_ID = Parameter(
    name="event_id",
    where="path",
    required=True,
    about="Id of the event: `webhook-id` of its messages.",
    schema={"type": "string", "pattern": "^[a-z2-7]{26}$"},
    example="mfrggzdfmztwq2lknnwg23tpoa",
)
WEBHOOK_URL = Parameter(
    name="url",
    where="body",
    required=True,
    about="Where messages go: https, port 443, a public host.",
    parse=plain_url,
    schema=URL_TEXT.schema,
    example="https://shop.example/hook",
)
WEBHOOK_STATUS_LIST = Parameter(
    name="statuses",
    where="body",
    about="Only images that get into one of these statuses; none is all.",
    parse=list_of(one_of(EventKind), len(EventKind)),
    schema={
        "type": "array",
        "items": {"type": "string", "enum": list(EventKind)},
        "maxItems": len(EventKind),
    },
    default=(),
    example=["COMPLETED", "FAILED"],
)
WEBHOOK_LABEL_LIST = Parameter(
    name="labels",
    where="body",
    about="Only images that show one of these, in whatever case; none is all.",
    parse=list_of(text(1, MAX_WEBHOOK_LABEL_LENGTH), MAX_WEBHOOK_LABELS),
    schema={
        "type": "array",
        "items": {"type": "string", "minLength": 1, "maxLength": MAX_WEBHOOK_LABEL_LENGTH},
        "maxItems": MAX_WEBHOOK_LABELS,
    },
    default=(),
    example=["Cat"],
)
DESCRIPTION = Parameter(
    name="description",
    where="body",
    about="For people.",
    parse=text(0, MAX_DESCRIPTION_LENGTH),
    schema={"type": "string", "maxLength": MAX_DESCRIPTION_LENGTH},
    default="",
    example="The shop's own pictures",
)
DELIVERIES_LIMIT = replace(LIMIT, about="Most deliveries on the page.")
DELIVERIES_CURSOR = replace(CURSOR, about="`cursor` of the page before, as it is.")

# ── operations ───────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One thing that the API does.

    ``answers``: by status, what it may be: the name of a type in ``chalicelib.web.schema`` or, with
    a slash, the content type of something else. ``headers``: those that an answer has, by status.
    ``bodies``: by content type, the members of a JSON
    object or a form; none for bytes. ``errors`` are the refusals of its own.
    """

    summary: str
    about: str = ""
    tag: str
    answers: Mapping[int, tuple[str, ...]]
    parameters: tuple[Parameter, ...] = ()
    bodies: Mapping[str, tuple[Parameter, ...]] = field(default_factory=dict)
    headers: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    errors: tuple[type[RequestError], ...] = ()


UPLOAD_ERRORS = (
    InvalidRequest,
    CrossSiteRequest,
    KeyTaken,
    KeyInUse,
    PayloadTooLarge,
    UnsupportedMediaType,
    UnfetchableUrl,
    IdempotencyKeyReused,
    ImageNotFound,
)
URL_MEMBERS = (URL_TEXT, NAME_MEMBER)
FORM_FILE = Parameter(
    name="file",
    where="body",
    required=True,
    about="The picture.",
    schema={"type": "string", "format": "binary", "minLength": 1},
    example=None,
)

UPLOAD_IMAGE = Operation(
    summary="Upload an image, or have it fetched from a URL",
    about="A raw body (`curl --data-binary @cat.jpg`), a form (`curl -F file=@cat.jpg`) or JSON. "
    "Bodies are limited to 4.5 MB, what API Gateway and Lambda carry; anything larger goes to S3 "
    "by `POST /uploads`. An image of that name that is there already is never overwritten.",
    tag="Upload",
    parameters=(NAME, IDEMPOTENCY_KEY),
    bodies={
        **dict.fromkeys(DIRECT_TYPES, ()),
        "multipart/form-data": (FORM_FILE, NAME_MEMBER),
        "application/json": URL_MEMBERS,
    },
    answers={HTTPStatus.ACCEPTED: ("Progress",)},
    headers={HTTPStatus.ACCEPTED: ("Location",)},
    errors=UPLOAD_ERRORS,
)
OFFER_UPLOAD = Operation(
    summary="Ask for a form that uploads straight to S3",
    about="POST a multipart form with all `fields` and then `file` to `url`: S3 answers 204, or "
    "refuses another key, content type or size. The image can be asked for a moment later. The "
    "form is good for 15 minutes.",
    tag="Upload",
    bodies={"application/json": (UPLOAD_NAME, CONTENT_TYPE, SIZE)},
    answers={HTTPStatus.OK: ("OfferedUpload",)},
    errors=(InvalidRequest, CrossSiteRequest, KeyTaken, PayloadTooLarge, UnsupportedMediaType),
)
LIST_IMAGES = Operation(
    summary="List and search images, newest first",
    tag="Images",
    parameters=(STATUS, LABEL, MIN_CONFIDENCE, TEXT, FROM, TO, LIMIT, CURSOR),
    answers={HTTPStatus.OK: ("ImagePage",)},
    errors=(InvalidRequest,),
)
SHOW_IMAGE = Operation(
    summary="Everything about an image",
    tag="Images",
    parameters=(IMAGE_ID,),
    answers={HTTPStatus.OK: ("ImageWithVersions",)},
    errors=(ImageNotFound,),
)
SHOW_STATUS = Operation(
    summary="How far an image is",
    about="Cheap to ask again with `If-None-Match`.",
    tag="Images",
    parameters=(IMAGE_ID, KNOWN_ETAG),
    answers={HTTPStatus.OK: ("Progress",), HTTPStatus.NOT_MODIFIED: ()},
    headers={HTTPStatus.OK: ("ETag",), HTTPStatus.NOT_MODIFIED: ("ETag",)},
    errors=(ImageNotFound,),
)
SHOW_STATUS_BY_FILENAME = Operation(
    summary="Everything about the image of a file name",
    tag="Images",
    parameters=(FILENAME,),
    answers={HTTPStatus.OK: ("ImageWithVersions",)},
    errors=(ImageNotFound,),
)
SHOW_RENDITION = Operation(
    summary="A rendition itself",
    about="Redirects to a signed URL, which works for an hour.",
    tag="Images",
    parameters=(IMAGE_ID, RENDITION_NAME),
    answers={HTTPStatus.FOUND: ()},
    headers={HTTPStatus.FOUND: ("Location",)},
    errors=(ImageQuarantined, ImageNotFound, RenditionNotFound),
)
LIST_SIMILAR = Operation(
    summary="Images that look like this one",
    about="By perceptual hash. An image that has none (not completed yet) has no similar ones. Of "
    "images with very many faces there may be fewer than `limit`, as many as one answer carries.",
    tag="Images",
    parameters=(IMAGE_ID, DISTANCE, LIMIT),
    answers={HTTPStatus.OK: ("SimilarImages",)},
    errors=(InvalidRequest, ImageNotFound),
)
DELETE_IMAGE = Operation(
    summary="Delete an image",
    about="Its renditions, labels and record follow within moments.",
    tag="Images",
    parameters=(IMAGE_ID,),
    answers={HTTPStatus.ACCEPTED: ("Progress",)},
    headers={HTTPStatus.ACCEPTED: ("Location",)},
    errors=(CrossSiteRequest, ImageNotFound),
)
REPROCESS_IMAGE = Operation(
    summary="Have an image processed again",
    about="It keeps what it has until the new is in place. One that waits already is only asked "
    "for again.",
    tag="Images",
    parameters=(IMAGE_ID,),
    answers={HTTPStatus.ACCEPTED: ("Progress",)},
    headers={HTTPStatus.ACCEPTED: ("Location",)},
    errors=(CrossSiteRequest, ImageNotFound),
)
REVIEW_IMAGE = Operation(
    summary="See an image that is withheld",
    about="For reviewers: with links to its renditions, which work for five minutes.",
    tag="Review",
    parameters=(IMAGE_ID,),
    answers={HTTPStatus.OK: ("WithheldImage",)},
    errors=(ReviewersOnly, ImageNotFound, NotQuarantined),
)
RELEASE_IMAGE = Operation(
    summary="Release an image that is withheld",
    about="For reviewers. It is processed again, and nothing withholds this version any more. "
    "`DELETE /images/{image_id}` is the other verdict.",
    tag="Review",
    parameters=(IMAGE_ID, VERSION_ID),
    answers={HTTPStatus.ACCEPTED: ("Progress",)},
    headers={HTTPStatus.ACCEPTED: ("Location",)},
    errors=(
        *(InvalidRequest, CrossSiteRequest, ReviewersOnly),
        *(ImageNotFound, NotQuarantined, VersionReplaced),
    ),
)
LIST_LABELS = Operation(
    summary="Labels and how many images have each",
    tag="Catalog",
    parameters=(PREFIX, LABELS_LIMIT),
    answers={HTTPStatus.OK: ("Labels",)},
    errors=(InvalidRequest,),
)
SHOW_STATS = Operation(
    summary="How many images there are, and how much they take",
    tag="Catalog",
    answers={HTTPStatus.OK: ("Stats",)},
)
WEBHOOK_MEMBERS = (WEBHOOK_URL, WEBHOOK_STATUS_LIST, WEBHOOK_LABEL_LIST, DESCRIPTION)
LIST_WEBHOOKS = Operation(
    summary="Who is told of images",
    about="First those of the stage's settings, then those that are registered, oldest first.",
    tag="Webhooks",
    answers={HTTPStatus.OK: ("Webhooks",)},
)
REGISTER_WEBHOOK = Operation(
    summary="Have a system told of images from now on",
    about="The answer has the `secret` that its messages are signed with, and no other answer does "
    "again. The same URL once more is another webhook, with a secret of its own.",
    tag="Webhooks",
    bodies={"application/json": WEBHOOK_MEMBERS},
    answers={HTTPStatus.CREATED: ("RegisteredWebhook",)},
    headers={HTTPStatus.CREATED: ("Location",)},
    errors=(
        *(InvalidRequest, CrossSiteRequest, TooManyDestinations),
        *(PayloadTooLarge, UnsupportedMediaType),
    ),
)
SHOW_WEBHOOK = Operation(
    summary="A webhook, and how it fares",
    tag="Webhooks",
    parameters=(WEBHOOK_ID,),
    answers={HTTPStatus.OK: ("Webhook",)},
    errors=(DestinationNotFound,),
)
CHANGE_WEBHOOK = Operation(
    summary="Change a webhook",
    about="What is left out stays as it is.",
    tag="Webhooks",
    parameters=(WEBHOOK_ID,),
    bodies={
        "application/json": tuple(
            replace(member, required=False, default=None) for member in WEBHOOK_MEMBERS
        )
    },
    answers={HTTPStatus.OK: ("Webhook",)},
    errors=(
        *(InvalidRequest, CrossSiteRequest, DestinationNotFound, DestinationIsConfigured),
        *(PayloadTooLarge, UnsupportedMediaType),
    ),
)
DELETE_WEBHOOK = Operation(
    summary="Delete a webhook",
    about="What still waits for it is not sent.",
    tag="Webhooks",
    parameters=(WEBHOOK_ID,),
    answers={HTTPStatus.NO_CONTENT: ()},
    errors=(CrossSiteRequest, DestinationNotFound, DestinationIsConfigured),
)
ROTATE_WEBHOOK = Operation(
    summary="Give a webhook another secret",
    about="For 24 hours messages are signed with the one before, too; up to four rotations within "
    "them.",
    tag="Webhooks",
    parameters=(WEBHOOK_ID,),
    answers={HTTPStatus.OK: ("RotatedSecret",)},
    errors=(CrossSiteRequest, DestinationNotFound, DestinationIsConfigured, TooManyRotations),
)
DISABLE_WEBHOOK = Operation(
    summary="Send a webhook nothing until it is resumed",
    about="What happens meanwhile is not sent afterwards; what waits already is given up, and can "
    "be replayed.",
    tag="Webhooks",
    parameters=(WEBHOOK_ID,),
    answers={HTTPStatus.OK: ("Webhook",)},
    errors=(CrossSiteRequest, DestinationNotFound),
)
RESUME_WEBHOOK = Operation(
    summary="Go on sending to a webhook",
    about="Whether it is disabled or paused.",
    tag="Webhooks",
    parameters=(WEBHOOK_ID,),
    answers={HTTPStatus.OK: ("Webhook",)},
    errors=(CrossSiteRequest, DestinationNotFound),
)
TEST_WEBHOOK = Operation(
    summary="Send a webhook a message that is about no image",
    about="Once, of the type `webhook.test`, even while nothing else is sent.",
    tag="Webhooks",
    parameters=(WEBHOOK_ID,),
    answers={HTTPStatus.ACCEPTED: ("SentEvent",)},
    headers={HTTPStatus.ACCEPTED: ("Location",)},
    errors=(CrossSiteRequest, DestinationNotFound),
)
LIST_DELIVERIES = Operation(
    summary="What a webhook was told within 30 days, newest first",
    tag="Webhooks",
    parameters=(WEBHOOK_ID, DELIVERIES_LIMIT, DELIVERIES_CURSOR),
    answers={HTTPStatus.OK: ("DeliveryPage",)},
    errors=(InvalidRequest, DestinationNotFound),
)
REPLAY_DELIVERY = Operation(
    summary="Send a webhook the very same message again",
    about="Whatever became of it, with the same `webhook-id`.",
    tag="Webhooks",
    parameters=(WEBHOOK_ID, EVENT_ID),
    answers={HTTPStatus.ACCEPTED: ("SentEvent",)},
    headers={HTTPStatus.ACCEPTED: ("Location",)},
    errors=(CrossSiteRequest, DestinationNotFound, DeliveryNotFound),
)
CHECK_HEALTH = Operation(
    summary="Whether the API and its catalog answer",
    tag="Service",
    answers={HTTPStatus.OK: ("Health",)},
    errors=(Unhealthy,),
)
SHOW_ROOT = Operation(
    summary="The page; the list as JSON; or an image from a URL",
    about="A browser gets the page, `Accept: application/json` what `GET /images` gives with the "
    "same parameters, and `?url=` does what `POST /images` does. Where callers are known by API "
    "key or sign-in, it gives the page alone.",
    tag="Service",
    parameters=(
        Parameter(
            name="url",
            about=URL_TEXT.about + " Without it, this is the page.",
            parse=URL_TEXT.parse,
            schema=URL_TEXT.schema,
            example=URL_TEXT.example,
        ),
        NAME,
        IDEMPOTENCY_KEY,
    ),
    answers={
        HTTPStatus.OK: ("text/html", "ImagePage"),
        HTTPStatus.ACCEPTED: ("Progress",),
        HTTPStatus.FOUND: (),
        HTTPStatus.NOT_MODIFIED: (),
    },
    headers={HTTPStatus.ACCEPTED: ("Location",), HTTPStatus.FOUND: ("Location",)},
    errors=(*UPLOAD_ERRORS, SignInRequired),
)
SHOW_STATIC_FILE = Operation(
    summary="A file of the page",
    tag="Service",
    parameters=(
        Parameter(
            name="name",
            where="path",
            required=True,
            about="Name of the file.",
            schema={"type": "string"},
            example="app.js",
        ),
        KNOWN_ETAG,
    ),
    answers={
        HTTPStatus.OK: ("text/javascript", "text/css", "image/svg+xml"),
        HTTPStatus.NOT_MODIFIED: (),
    },
    errors=(FileNotFound,),
)
SHOW_OPENAPI = Operation(
    summary="This description",
    tag="Service",
    answers={HTTPStatus.OK: ("application/json",)},
)
SHOW_DOCS = Operation(
    summary="This description, as a page",
    tag="Service",
    answers={HTTPStatus.OK: ("text/html",), HTTPStatus.NOT_MODIFIED: ()},
)
