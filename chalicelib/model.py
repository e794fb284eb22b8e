"""What the pipeline speaks of: plain, frozen dataclasses without behaviour of any service.

Sizes are in pixels unless a name says bytes; times are ISO 8601 in UTC with milliseconds
(``2026-01-31T09:15:00.000Z``), which sort as strings; confidences are percent, 0–100.
"""

import base64
import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus

PIPELINE_VERSION = "2"
"""Raise it when the same original, with the same settings, would give another result."""

RETRIES_EXHAUSTED = "retries_exhausted"
"""The code of an image that was given up although nothing may be wrong with it."""


MAX_URL_LENGTH = 2048
"""Characters; what browsers and proxies carry for sure."""


class ImageStatus(StrEnum):
    """Where an image is on its way; all but ``QUEUED`` and ``PROCESSING`` are final.

    ``QUARANTINED`` is completed, and withheld until a reviewer has released it.
    """

    QUEUED = "QUEUED"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    QUARANTINED = "QUARANTINED"
    FAILED = "FAILED"
    DELETED = "DELETED"

    @property
    def is_final(self) -> bool:
        return self not in (ImageStatus.QUEUED, ImageStatus.PROCESSING)

    @property
    def is_processed(self) -> bool:
        """Whether there is a result: renditions, and what Rekognition says of the picture."""
        return self in (ImageStatus.COMPLETED, ImageStatus.QUARANTINED)


class EventKind(StrEnum):
    """What can be told of an image: its final status, and that the same was there before."""

    COMPLETED = "COMPLETED"
    QUARANTINED = "QUARANTINED"
    FAILED = "FAILED"
    DELETED = "DELETED"
    DUPLICATE = "DUPLICATE"


class ResizeMode(StrEnum):
    """``FIT`` keeps the whole picture inside the box, ``COVER`` fills the box and crops.

    ``COVER`` keeps the middle; ``ATTENTION`` does the same around what draws the eye.
    """

    FIT = "fit"
    COVER = "cover"
    ATTENTION = "attention"


class OutputFormat(StrEnum):
    """What a rendition can be encoded as. ``AUTO`` picks JPEG, or a format with alpha if needed."""

    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"
    AVIF = "avif"
    AUTO = "auto"


@dataclass(frozen=True, slots=True)
class RenditionSpec:
    """What a rendition shall be. ``prefix`` is the folder of the renditions bucket it goes to."""

    name: str
    width: int
    height: int
    mode: ResizeMode = ResizeMode.FIT
    format: OutputFormat = OutputFormat.AUTO
    quality: int = 80
    prefix: str = "thumbnails"


class Feature(StrEnum):
    """What Rekognition can be asked about a picture. ``PROPERTIES`` come along with ``LABELS``."""

    LABELS = "labels"
    PROPERTIES = "properties"
    MODERATION = "moderation"
    FACES = "faces"
    TEXT = "text"
    CELEBRITIES = "celebrities"


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """How much of a feature is wanted: the surest so many, of at least so much confidence.

    ``attributes`` are those of faces that are asked for, as Rekognition calls them (``SMILE``).
    """

    feature: Feature
    max_count: int = 0
    min_confidence: float = 0
    attributes: tuple[str, ...] = ()


QUARANTINE_PREFIX = "quarantine"
"""The folder of the renditions bucket that nobody is given anything from but reviewers."""

ANY_LABEL = "any"
"""Stands for every moderation label that no other rule of a quarantine is for."""


@dataclass(frozen=True, slots=True)
class QuarantineRule:
    """From which confidence on a moderation label, or one below it, withholds an image.

    Never, where that is None.
    """

    label: str
    min_confidence: float | None


@dataclass(frozen=True, slots=True)
class Limits:
    """What an original may be, checked before a decoder sees a pixel.

    ``max_pixels`` counts all frames together; ``max_side`` is the longer side.
    """

    max_bytes: int = 50 * 1024 * 1024
    max_pixels: int = 100_000_000
    max_side: int = 20_000


@dataclass(frozen=True, slots=True)
class Exif:
    """The EXIF worth having. ``taken_at`` has no zone unless the camera wrote one.

    ``orientation`` is the tag as found, 1–8 (EXIF 2.32, tag 0x0112); the reported sizes and all
    renditions are upright already.
    """

    make: str | None = None
    model: str | None = None
    lens: str | None = None
    taken_at: str | None = None
    orientation: int | None = None
    exposure_s: float | None = None
    f_number: float | None = None
    iso: int | None = None
    focal_length_mm: float | None = None
    latitude: float | None = None
    longitude: float | None = None


@dataclass(frozen=True, slots=True)
class Description:
    """What the header of an original says, ``width`` and ``height`` being the upright ones.

    ``format`` is Pillow's name (``JPEG``, ``PNG``, ``WEBP``, ``GIF``, ``TIFF``, ``BMP``, ``HEIF``,
    ``AVIF``), ``color_mode`` Pillow's mode (``RGB``, ``CMYK``, ``I;16`` …).
    """

    format: str
    width: int
    height: int
    size_bytes: int
    color_mode: str
    frames: int = 1
    has_alpha: bool = False
    exif: Exif = Exif()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What stands for a picture where it is not at hand.

    ``phash``: 64-bit perceptual hash, 16 hex digits; its Hamming distance tells near duplicates.
    ``placeholder``: ThumbHash, base64. ``colors``: dominant colours, ``#rrggbb``, most first.
    ``sha256``: of the original's bytes, in hex; empty where only pixels are at hand.
    """

    phash: str
    placeholder: str
    colors: tuple[str, ...]
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class BoundingBox:
    """Where something is, as fractions (0–1) of the upright picture's width and height."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class RenderedImage:
    """A rendition as it comes out of the encoder, not stored yet; ``window`` as of Rendition."""

    spec: RenditionSpec
    format: OutputFormat
    width: int
    height: int
    body: bytes
    window: BoundingBox | None = None


@dataclass(frozen=True, slots=True)
class Rendered:
    """All that one decoding of an original gives.

    ``proxy`` is the upright sRGB JPEG that Rekognition sees: 80–4096 pixels a side, ≤ 5 MB
    (limits of Amazon Rekognition for images passed as bytes).
    """

    renditions: tuple[RenderedImage, ...]
    proxy: bytes
    fingerprint: Fingerprint
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rendition:
    """A stored rendition. ``key`` is its object key in the renditions bucket.

    ``window`` is the part of the upright original that a crop has left, None where that is all. A
    box of the original lies in it at ``((box.left - window.left) / window.width, …)``.
    """

    name: str
    key: str
    format: OutputFormat
    width: int
    height: int
    size_bytes: int
    window: BoundingBox | None = None


@dataclass(frozen=True, slots=True)
class Label:
    """One thing Rekognition sees, with the boxes of its instances where it locates them."""

    name: str
    confidence: float
    parents: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    boxes: tuple[BoundingBox, ...] = ()


@dataclass(frozen=True, slots=True)
class DominantColor:
    """A colour Rekognition found, ``#rrggbb``, and the percent of the picture it covers."""

    hex: str
    percent: float


@dataclass(frozen=True, slots=True)
class ImageProperties:
    """Rekognition's IMAGE_PROPERTIES: each quality 0–100."""

    brightness: float
    sharpness: float
    contrast: float
    colors: tuple[DominantColor, ...] = ()


@dataclass(frozen=True, slots=True)
class ModerationLabel:
    """One thing that some may not want to see; ``parent`` is empty at the top of the taxonomy."""

    name: str
    confidence: float
    parent: str = ""


@dataclass(frozen=True, slots=True)
class FaceAttribute:
    """One thing that a face shows, by Rekognition's name in lower case, as a text.

    ``smile``: ``true`` or ``false``; ``age_range``: ``25–35``; ``emotions``: the surest, such as
    ``happy``; ``eye_direction``: yaw and pitch in degrees, ``-12.5, 3.1``.
    """

    name: str
    value: str
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Face:
    """A face, whoever's it is, with the attributes that were asked for."""

    box: BoundingBox
    confidence: float
    attributes: tuple[FaceAttribute, ...] = ()


@dataclass(frozen=True, slots=True)
class TextLine:
    """A line of text that is written in the picture."""

    text: str
    confidence: float
    box: BoundingBox


@dataclass(frozen=True, slots=True)
class Celebrity:
    """Somebody widely known. ``urls`` lead to more about them, without a scheme."""

    name: str
    confidence: float
    box: BoundingBox
    urls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recognition:
    """What Rekognition says of one picture, surest first; text in the order of reading.

    Each is empty where its feature is not asked for, and where nothing was found.
    """

    labels: tuple[Label, ...] = ()
    properties: ImageProperties | None = None
    moderation: tuple[ModerationLabel, ...] = ()
    faces: tuple[Face, ...] = ()
    text: tuple[TextLine, ...] = ()
    celebrities: tuple[Celebrity, ...] = ()


@dataclass(frozen=True, slots=True)
class Duplicate:
    """An image that was there already and shows the same.

    ``distance`` is that of the perceptual hashes in bits (0–64); exact ones have the same bytes.
    """

    image_id: str
    distance: int
    is_exact: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an image ended ``FAILED``: a stable code, and a sentence a person can act on.

    With the code ``RETRIES_EXHAUSTED`` trying again may help; with any other it does not.
    """

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Original:
    """One version of an uploaded object.

    ``sequencer`` orders the events of one key; it is left-padded with zeros, so that it compares
    as a string (S3 event message structure). It is empty where S3 itself was asked and no event
    has told it yet.
    """

    key: str
    version_id: str
    etag: str
    size_bytes: int
    sequencer: str
    uploaded_at: str

    @property
    def image_id(self) -> str:
        return image_id_of(self.key)


@dataclass(frozen=True, slots=True)
class Image:
    """The record of one image.

    ``revision`` grows with every write and is the fencing token: a write that names the revision
    it has read cannot undo what happened since. ``attempt`` grows with every worker that takes
    the image on, whichever version; renditions are stored under it, so that no worker overwrites
    or deletes what a later one has stored. ``lost`` counts the attempts in a row that ended without
    a word, the one under way included. ``announced`` tells whether the present final status has
    been published on all channels; while it is on some, ``told`` names them.

    ``withheld_for`` are the moderation labels for which nobody is given the renditions; what a
    reviewer has ``released`` has none. ``duplicates`` were there before it.

    While an image is processed again, it keeps what it had until the new is in place.
    """

    original: Original
    status: ImageStatus
    updated_at: str
    revision: int = 0
    attempt: int = 0
    lost: int = 0
    processed_at: str | None = None
    lease_until: str | None = None
    pipeline_version: str | None = None
    description: Description | None = None
    fingerprint: Fingerprint | None = None
    renditions: tuple[Rendition, ...] = ()
    recognition: Recognition = Recognition()
    withheld_for: tuple[str, ...] = ()
    released: bool = False
    duplicates: tuple[Duplicate, ...] = ()
    failure: Failure | None = None
    announced: bool = False
    told: tuple[str, ...] = ()

    @property
    def image_id(self) -> str:
        return self.original.image_id

    @property
    def sha256(self) -> str:
        """Of the original's bytes, in hex; empty where that is not known."""
        return self.fingerprint.sha256 if self.fingerprint else ""

    @property
    def is_copy(self) -> bool:
        """Whether the same bytes were there before."""
        return any(duplicate.is_exact for duplicate in self.duplicates)

    @property
    def is_withheld(self) -> bool:
        """Whether its renditions are for reviewers only, whatever its status is by now."""
        return bool(self.withheld_for)

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to do: a final status that has been announced."""
        return self.status.is_final and self.announced

    @property
    def is_given_up(self) -> bool:
        """Whether it failed for a reason that may have passed by now."""
        return self.failure is not None and self.failure.code == RETRIES_EXHAUSTED


@dataclass(frozen=True, slots=True)
class Query:
    """Which images a page shall show: those that have all of the labels, and all of the words.

    ``since`` and ``until`` bound the time of upload, both included.
    """

    limit: int
    cursor: str | None = None
    status: ImageStatus | None = None
    labels: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    min_confidence: float = 0
    since: str | None = None
    until: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Images, newest first, and where the next page begins; None where there is none.

    There may be fewer than were asked for, even none, before the last page: what one page looks
    through is bounded. ``cursors``: where the next page begins if this one ends with each image.
    """

    images: tuple[Image, ...]
    cursor: str | None
    cursors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LabelCount:
    """How many images have a label, whose name is as Rekognition writes it."""

    name: str
    images: int


@dataclass(frozen=True, slots=True)
class Totals:
    """How many images there are in each status, and the bytes of those that are completed."""

    images: Mapping[ImageStatus, int]
    original_bytes: int = 0
    rendition_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an original that the bucket still holds, or the mark that it was deleted."""

    version_id: str
    uploaded_at: str
    size_bytes: int
    is_current: bool = False
    is_deleted: bool = False


@dataclass(frozen=True, slots=True)
class DirectUpload:
    """A form (POST Object of S3) that uploads an original under one key, and nothing else.

    ``fields`` go into a multipart form as they are, before the file, which is named ``file``.
    """

    url: str
    fields: Mapping[str, str]
    expires_at: str


MAX_WEBHOOK_LABELS = 50
MAX_WEBHOOK_LABEL_LENGTH = 100
MAX_DESCRIPTION_LENGTH = 200
"""Of a destination, the latter two in characters."""

GONE, BY_HAND = "gone", "by_hand"
"""Why a destination is disabled: it has answered with 410, or somebody wants it so."""


@dataclass(frozen=True, slots=True)
class Secret:
    """What messages are signed with, until it ends, if it does: ``whsec_`` and base64."""

    value: str = field(repr=False)
    until: str | None = None


@dataclass(frozen=True, slots=True)
class Circuit:
    """How a destination fares.

    ``failures`` in a row. While ``paused_until`` is to come, nothing is sent; once it is over, one
    message is, and if that is taken, all are. ``disabled_for``: ``GONE``, ``BY_HAND`` or empty.
    """

    failures: int = 0
    paused_until: str | None = None
    disabled_for: str = ""
    revision: int = 0


MAILTO = "mailto:"
"""How the URL of a destination begins that is told by mail, before the address."""


@dataclass(frozen=True, slots=True)
class Destination:
    """A system that is told of images by webhooks, or somebody who is by mail.

    ``secrets``: newest first. ``statuses``: of ``EventKind``; ``labels``: it is told only of
    images that show one of them; of either, none is all. One that is configured comes from the
    settings and is not changed but there.
    """

    destination_id: str
    url: str
    secrets: tuple[Secret, ...] = ()
    statuses: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    description: str = ""
    created_at: str = ""
    revision: int = 0
    is_configured: bool = False
    circuit: Circuit = Circuit()

    @property
    def is_mailed(self) -> bool:
        return self.url.startswith(MAILTO)

    @property
    def is_disabled(self) -> bool:
        return bool(self.circuit.disabled_for)


class DeliveryState(StrEnum):
    """``WAITING`` comes again by itself; what is ``GIVEN_UP`` does when it is replayed."""

    WAITING = "WAITING"
    DELIVERED = "DELIVERED"
    GIVEN_UP = "GIVEN_UP"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a delivery: the HTTP status that came back, or why none did.

    200 of a mail says that SES has accepted it. ``is_held``: nobody was called, and why stands in
    ``error``.
    """

    at: str
    duration_ms: int = 0
    status: int | None = None
    error: str | None = None
    is_held: bool = False

    @property
    def is_taken(self) -> bool:
        """Whether the destination has said so (RFC 9110, 15.3)."""
        return self.status is not None and self.status // 100 == HTTPStatus.OK // 100


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a destination was told of one event, or shall be.

    ``payload``: the event's details as JSON, compressed (zlib). ``attempts``: the last of them,
    oldest first. While ``leased_until`` is to come, somebody is at it.
    """

    destination_id: str
    event_id: str
    event_type: str
    event_time: str
    image_id: str
    payload: bytes
    state: DeliveryState = DeliveryState.WAITING
    attempts: tuple[Attempt, ...] = ()
    next_try_at: str | None = None
    leased_until: str | None = None
    revision: int = 0


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """Deliveries to a destination, newest first, and where the next page begins, if there is one.

    Without their payloads.
    """

    deliveries: tuple[Delivery, ...]
    cursor: str | None


def image_id_of(key: str) -> str:
    """The id of the image stored under an object key: 26 characters of ``a–z2–7``.

    A digest, so that one key is one image however often its events are delivered, and any key
    gives an id that is safe in a URL.
    """
    return digest(key)


def is_image_id(text: str) -> bool:
    """Whether it can be one: whatever else somebody asks for is not there."""
    return re.fullmatch(r"[a-z2-7]{26}", text) is not None


def is_mail_address(text: str) -> bool:
    """Whether it is one address, bare and ASCII, as SES takes it; nothing more of a ``mailto:``."""
    pattern = r"[a-z0-9.!$'*+=^_`{|}~-]{1,64}@(?:[a-z0-9-]{1,63}\.)+[a-z0-9-]{2,63}"
    return re.fullmatch(pattern, text, re.IGNORECASE | re.ASCII) is not None


def is_secret(text: str) -> bool:
    """Whether it can be one of webhooks: 24 to 64 bytes (Standard Webhooks 1.0)."""
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:
        return False
    return text.startswith("whsec_") and 24 <= len(key) <= 64  # noqa: PLR2004


def term_of(label: str) -> str:
    """A label as one searches it: in whatever case, its letters composed or not (Unicode NFC)."""
    return unicodedata.normalize("NFC", label).casefold()


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text as one searches them, each once: letters and digits.

    Without case and accents, and compatible forms are one (Unicode NFKD): ``Café`` is ``cafe``,
    ``ﬁn`` is ``fin``. Of a longer one, 64 characters at a time are a word.
    """
    folded = unicodedata.normalize("NFKD", text)
    plain = "".join(char for char in folded if not unicodedata.combining(char)).casefold()
    return tuple(dict.fromkeys(re.findall(r"[^\W_]{1,64}", plain)))


def digest(text: str) -> str:
    """BLAKE2b, 128 bits, as 26 characters of base32 in lower case."""
    raw = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return base64.b32encode(raw).decode().rstrip("=").lower()
