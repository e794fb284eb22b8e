"""What the API answers with and events tell, as types: views are checked against them.

OpenAPI and docs/events show them. Only the former needs this module when the app runs: what reads
the types imports slowly.
"""

from typing import Annotated, Literal, NotRequired, TypedDict

from msgspec import Meta

from chalicelib.model import DeliveryState, EventKind, ImageStatus, OutputFormat

ID = "mdn5xqlfmkcrmdrxmbibq4sbfu"
TIME = "2026-01-31T09:15:00.000Z"

ImageId = Annotated[
    str,
    Meta(
        pattern="^[a-z2-7]{26}$", examples=[ID], description="A digest of the object key; stable."
    ),
]
Timestamp = Annotated[
    str, Meta(examples=[TIME], description="ISO 8601, UTC, to the millisecond: sorts as text.")
]
Bytes = Annotated[int, Meta(ge=0, examples=[51207])]
Pixels = Annotated[int, Meta(ge=1, examples=[1280])]
Percent = Annotated[float, Meta(ge=0, le=100, examples=[97.2])]
Fraction = Annotated[float, Meta(examples=[0.31], description="Of the upright picture's side.")]
Key = Annotated[str, Meta(examples=["uploads/cat.jpg"], description="The object key in S3.")]
Count = Annotated[int, Meta(ge=0, examples=[12])]
Color = Annotated[str, Meta(pattern="^#[0-9a-fA-F]{6}$", examples=["#8d6549"])]
Path = Annotated[str, Meta(examples=[f"/api/images/{ID}"], description="Relative to the host.")]
Url = Annotated[
    str, Meta(examples=["https://renditions.example/…"], description="Signed; expires.")
]
Omitted = Annotated[int, Meta(ge=1, description="How many more there are than fit into a message.")]
Status = Annotated[
    ImageStatus, Meta(description="Final: COMPLETED, QUARANTINED, FAILED and DELETED.")
]


class Links(TypedDict):
    self: Path
    status: Path


class Error(TypedDict):
    """Why an image has failed."""

    code: Annotated[str, Meta(examples=["corrupt_image"], description="Stable; for programs.")]
    message: Annotated[str, Meta(examples=["The file is cut off: upload it again."])]


class Progress(TypedDict):
    """How far an image is."""

    image_id: ImageId
    key: Key
    status: Status
    error: Error | None
    updated_at: Timestamp
    links: Links


class Exif(TypedDict, total=False):
    make: str
    model: str
    lens: str
    taken_at: Annotated[str, Meta(description="Without a zone unless the camera wrote one.")]
    orientation: Annotated[int, Meta(ge=1, le=8)]
    exposure_s: float
    f_number: float
    iso: int
    focal_length_mm: float
    latitude: float
    longitude: float


class BoundingBox(TypedDict):
    left: Fraction
    top: Fraction
    width: Fraction
    height: Fraction


class Label(TypedDict):
    name: Annotated[str, Meta(examples=["Cat"])]
    confidence: Percent
    parents: Annotated[list[str], Meta(examples=[["Animal"]])]
    categories: list[str]
    boxes: list[BoundingBox]


class DominantColor(TypedDict):
    hex: Color
    percent: Percent


class ImageProperties(TypedDict):
    """What Rekognition says of the picture's quality; only where IMAGE_PROPERTIES is on."""

    brightness: Percent
    sharpness: Percent
    contrast: Percent
    colors: NotRequired[list[DominantColor]]


class ModerationLabel(TypedDict):
    """What some may not want to see; without a parent at the top of Rekognition's taxonomy."""

    name: Annotated[str, Meta(examples=["Weapon Violence"])]
    confidence: Percent
    parent: Annotated[str, Meta(examples=["Violence"])]


class FaceAttribute(TypedDict):
    """Of those that are asked for, by Rekognition's name in lower case."""

    name: Annotated[str, Meta(examples=["smile"])]
    value: Annotated[str, Meta(examples=["true"])]
    confidence: NotRequired[Percent]


class Face(TypedDict):
    box: BoundingBox
    confidence: Percent
    attributes: list[FaceAttribute]


class TextLine(TypedDict):
    text: Annotated[str, Meta(examples=["Summer sale"])]
    confidence: Percent
    box: BoundingBox


class Celebrity(TypedDict):
    name: str
    confidence: Percent
    box: BoundingBox
    urls: list[str]


class Duplicate(TypedDict):
    """An image that was there already and shows the same."""

    image_id: ImageId
    distance: Annotated[int, Meta(ge=0, le=64, description="Bits of the perceptual hash.")]
    is_exact: Annotated[bool, Meta(description="Whether the bytes are the same.")]


class Fingerprint(TypedDict):
    sha256: NotRequired[
        Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="Of the original's bytes.")]
    ]
    phash: Annotated[str, Meta(pattern="^[0-9a-f]{16}$", description="64-bit perceptual hash.")]
    placeholder: Annotated[str, Meta(description="ThumbHash, base64.")]
    colors: NotRequired[list[Color]]


class StoredRendition(TypedDict):
    """A rendition in the stage's bucket for them."""

    name: Annotated[str, Meta(examples=["thumbnail"])]
    key: str
    format: OutputFormat
    width: Pixels
    height: Pixels
    size_bytes: Bytes
    window: Annotated[
        BoundingBox, Meta(description="The part of the upright original that it shows.")
    ]


class Rendition(StoredRendition):
    url: Url


class Known(TypedDict):
    """What is known of an image, wherever it is told."""

    image_id: ImageId
    key: Key
    version_id: str
    status: Status
    revision: Annotated[int, Meta(ge=0, description="Grows with every change of the record.")]
    size_bytes: Bytes
    uploaded_at: Timestamp
    updated_at: Timestamp
    processed_at: Timestamp | None
    pipeline_version: str | None
    error: Error | None
    width: Pixels | None
    height: Pixels | None
    format: Annotated[str | None, Meta(examples=["JPEG"])]
    color_mode: Annotated[str | None, Meta(examples=["RGB"])]
    frames: NotRequired[int]
    has_alpha: NotRequired[bool]
    notes: NotRequired[list[str]]
    exif: Exif
    labels: list[Label]
    image_properties: ImageProperties | None
    moderation_labels: list[ModerationLabel]
    faces: list[Face]
    text: list[TextLine]
    celebrities: list[Celebrity]
    withheld_for: Annotated[
        list[str],
        Meta(
            examples=[["Violence"]],
            description="Moderation labels for which the renditions are withheld.",
        ),
    ]
    released: Annotated[bool, Meta(description="Whether a reviewer has released it.")]
    duplicates: list[Duplicate]
    fingerprint: Fingerprint | None


class Image(Known):
    """All that is known of an image. Sizes are those of the upright picture."""

    renditions: Annotated[list[Rendition], Meta(description="None while they are withheld.")]
    links: Links


class Event(Known):
    """What became of an image: `detail` in EventBridge, the message of SNS, `data` of webhooks."""

    event_id: Annotated[
        str,
        Meta(
            pattern="^[a-z2-7]{26}$",
            description="The same however often, and on whichever channel, it is told.",
        ),
    ]
    event_type: Annotated[
        Literal[
            "image.completed",
            "image.quarantined",
            "image.failed",
            "image.deleted",
            "image.duplicate",
        ],
        Meta(description="`image.duplicate` comes beside one of the others."),
    ]
    event_version: Annotated[
        Literal["1"], Meta(description="Of this schema; members may be added to it.")
    ]
    event_time: Annotated[Timestamp, Meta(description="When it happened.")]
    renditions: Annotated[list[StoredRendition], Meta(description="None while they are withheld.")]
    labels_omitted: NotRequired[Omitted]
    moderation_labels_omitted: NotRequired[Omitted]
    faces_omitted: NotRequired[Omitted]
    text_omitted: NotRequired[Omitted]
    celebrities_omitted: NotRequired[Omitted]


class Version(TypedDict):
    """A version of the original that S3 still holds, or the mark that it was deleted."""

    version_id: str
    uploaded_at: Timestamp
    size_bytes: Bytes
    is_current: bool
    is_deleted: bool


class ImageWithVersions(Image):
    """An image, what the client called it, and what was uploaded under its key, newest first."""

    filename: Annotated[str | None, Meta(examples=["Cat (final).jpg"])]
    versions: list[Version]


class WithheldImage(Image):
    """A quarantined image with what nobody else is shown of it; its links work for 5 minutes."""


class SimilarImage(Image):
    """An image and how far it is from the one that was asked about."""

    distance: Annotated[int, Meta(ge=0, le=64, description="Bits of the perceptual hash.")]


class ImagePage(TypedDict):
    """Newest first. It may hold fewer images than ``limit`` before the last page."""

    images: list[Image]
    cursor: Annotated[
        str | None, Meta(description="Where the next page begins; null on the last one.")
    ]


class SimilarImages(TypedDict):
    """Nearest first."""

    images: list[SimilarImage]


class DirectUpload(TypedDict):
    url: Annotated[str, Meta(description="Where to POST a multipart form.")]
    fields: Annotated[
        dict[str, str], Meta(description="Go into the form as they are, before `file`.")
    ]
    expires_at: Timestamp
    max_bytes: Bytes


class OfferedUpload(TypedDict):
    """A form that S3 takes, for one object key."""

    image_id: ImageId
    key: Key
    upload: DirectUpload
    links: Links


class LabelCount(TypedDict):
    name: Annotated[str, Meta(examples=["Cat"])]
    images: Count


class Labels(TypedDict):
    """Most frequent first. ``total`` is how many labels there are, beyond the limit too."""

    labels: list[LabelCount]
    total: Count


class StatusCounts(TypedDict):
    QUEUED: Count
    PROCESSING: Count
    COMPLETED: Count
    QUARANTINED: Count
    FAILED: Count


class Stats(TypedDict):
    """Bytes are those of completed images, older versions not included."""

    images: StatusCounts
    original_bytes: Bytes
    rendition_bytes: Bytes


WebhookId = Annotated[str, Meta(pattern="^[a-z2-7]{26}$", examples=["nbswy3dpeb3w64tmmq5xqlfmkc"])]
EventId = Annotated[
    str,
    Meta(
        pattern="^[a-z2-7]{26}$",
        examples=["mfrggzdfmztwq2lknnwg23tpoa"],
        description="`webhook-id` of the messages that tell of it.",
    ),
]
WebhookStatus = Annotated[str, Meta(extra_json_schema={"enum": list(EventKind)})]
WebhookSecret = Annotated[
    str,
    Meta(
        examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwN5o3oXv1GYs="],
        description="Shown this once.",
    ),
]


class Webhook(TypedDict):
    """A system that is told of images: of all or, by status and label, of some."""

    webhook_id: WebhookId
    url: Annotated[str, Meta(examples=["https://shop.example/hook"])]
    statuses: list[WebhookStatus]
    labels: Annotated[list[str], Meta(examples=[["Cat"]])]
    description: str
    created_at: Timestamp | None
    is_configured: Annotated[
        bool, Meta(description="Whether it comes from the stage's settings, and is changed there.")
    ]
    state: Annotated[
        Literal["ACTIVE", "PAUSED", "DISABLED"],
        Meta(description="PAUSED ends by itself, DISABLED when it is resumed."),
    ]
    paused_until: Timestamp | None
    disabled_for: Annotated[
        Literal["gone", "by_hand"] | None, Meta(description="`gone`: it has answered with 410.")
    ]
    failures: Annotated[int, Meta(ge=0, examples=[0], description="In a row.")]


class Webhooks(TypedDict):
    webhooks: list[Webhook]


class RegisteredWebhook(Webhook):
    """A webhook, and what its messages are signed with."""

    secret: WebhookSecret


class RotatedSecret(TypedDict):
    webhook_id: WebhookId
    secret: WebhookSecret
    previous_secret_until: Annotated[
        Timestamp, Meta(description="So long messages are signed with the one before, too.")
    ]


class SentEvent(TypedDict):
    event_id: EventId


class Attempt(TypedDict):
    """One try: the HTTP status that came back, or why none did."""

    at: Timestamp
    status: Annotated[int | None, Meta(examples=[200])]
    error: str | None
    duration_ms: Annotated[int, Meta(ge=0, examples=[120])]
    is_held: Annotated[bool, Meta(description="Whether nobody was called; the error says why.")]


class Delivery(TypedDict):
    """What a webhook was told of one event, with the last attempts, oldest first."""

    event_id: EventId
    event_type: Annotated[str, Meta(examples=["image.completed"])]
    event_time: Timestamp
    image_id: ImageId | None
    state: DeliveryState
    attempts: list[Attempt]
    next_try_at: Timestamp | None


class DeliveryPage(TypedDict):
    deliveries: list[Delivery]
    cursor: Annotated[
        str | None, Meta(description="Where the next page begins; null on the last one.")
    ]


class Health(TypedDict):
    status: Literal["ok"]


class Fault(TypedDict):
    parameter: Annotated[str, Meta(examples=["limit"])]
    detail: Annotated[str, Meta(examples=["is a whole number from 1 to 100, not '0'"])]


class Problem(TypedDict):
    """Problem details (RFC 9457). ``message`` repeats ``detail``."""

    type: Annotated[str, Meta(examples=["about:blank"])]
    title: Annotated[str, Meta(examples=["Bad Request"])]
    status: NotRequired[Annotated[int, Meta(ge=400, le=599)]]
    detail: str
    code: Annotated[str, Meta(description="Stable; for programs.")]
    message: str
    errors: NotRequired[Annotated[list[Fault], Meta(description="Each parameter at fault.")]]
    request_id: NotRequired[Annotated[str, Meta(description="In what API Gateway says itself.")]]
