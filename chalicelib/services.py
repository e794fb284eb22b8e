"""What the use cases work with: the services as they need them, whoever provides them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from chalicelib.announcements import Announcement
from chalicelib.messages import Work, WorkMessage
from chalicelib.model import (
    Circuit,
    Delivery,
    DeliveryPage,
    Destination,
    DirectUpload,
    Feature,
    Image,
    LabelCount,
    Limits,
    Original,
    Page,
    QuarantineRule,
    Query,
    Recognition,
    RenderedImage,
    Rendition,
    RenditionSpec,
    Totals,
    Version,
)


class Uploads(Protocol):
    def get(self, original: Original, max_bytes: int) -> bytes: ...
    def current(self, key: str) -> Original | None: ...
    def put(
        self, key: str, body: bytes, content_type: str, filename: str, request: str = ""
    ) -> tuple[str, str]: ...
    def form(
        self, key: str, content_type: str, filename: str, max_bytes: int, expires_s: int
    ) -> DirectUpload: ...
    def filename(self, key: str) -> str | None: ...
    def history(self, key: str) -> Sequence[Version]: ...
    def delete(self, key: str) -> None: ...
    def listing(self, prefix: str, after: str) -> Iterator[Sequence[Original]]: ...


class Renditions(Protocol):
    def put(
        self, image: Image, rendered: RenderedImage, content_type: str, extension: str
    ) -> Rendition: ...
    def get(self, key: str) -> bytes | None: ...
    def keep(self, image_id: str, attempt: int, name: str, body: bytes) -> None: ...
    def kept(self, image_id: str, attempt: int, name: str) -> bytes | None: ...
    def tidy(self, image: Image) -> None: ...


class WorkQueue(Protocol):
    def send(self, work: Iterable[Work]) -> None: ...
    def delete(self, messages: Sequence[WorkMessage]) -> None: ...
    def hand_back(self, delays_s: Mapping[WorkMessage, int]) -> None: ...
    def postpone(self, message: WorkMessage, delay_s: int) -> None: ...
    def is_empty(self) -> bool: ...


class WebhookQueue(Protocol):
    def send_bodies(self, bodies: Iterable[str]) -> None: ...
    def delete(self, messages: Sequence[WorkMessage]) -> None: ...
    def hand_back(self, delays_s: Mapping[WorkMessage, int]) -> None: ...


class Mailer(Protocol):
    def send(self, sender: str, recipient: str, message: bytes) -> None: ...


class Destinations(Protocol):
    """Registered ones; how a destination fares is kept of those that are configured, too."""

    def listed(self, configured: Iterable[Destination]) -> Sequence[Destination]: ...
    def save(self, destination: Destination, previous: Destination | None) -> Destination: ...
    def remove(self, destination_id: str) -> None: ...
    def circuit(self, destination_id: str) -> Circuit: ...
    def save_circuit(self, destination_id: str, circuit: Circuit, previous: Circuit) -> Circuit: ...


class Deliveries(Protocol):
    def get(self, destination_id: str, event_id: str) -> Delivery | None: ...
    def save(self, delivery: Delivery, previous: Delivery | None) -> Delivery: ...
    def page(self, destination_id: str, limit: int, cursor: str | None) -> DeliveryPage: ...


class Catalog(Protocol):
    def get(self, image_id: str) -> Image | None: ...
    def get_many(self, image_ids: Sequence[str]) -> Mapping[str, Image]: ...
    def save(self, image: Image, previous: Image | None) -> Image: ...
    def browse(self, query: Query) -> Page: ...
    def label_counts(self, prefix: str) -> Sequence[LabelCount]: ...
    def totals(self) -> Totals: ...
    def similar(self, phash: str, max_distance: int, limit: int) -> Sequence[tuple[Image, int]]: ...
    def first_of(self, sha256: str, original: Original) -> Image | None: ...
    def give_back(self, sha256: str, image_id: str) -> None: ...
    def claim(self, request: str, fingerprint: str) -> str | None: ...
    def fulfil(self, request: str, image_id: str) -> None: ...
    def disclaim(self, request: str) -> None: ...
    def unsettled(self, before: str) -> Iterator[Image]: ...
    def bookmark(self, name: str) -> str: ...
    def set_bookmark(self, name: str, position: str) -> None: ...


class Recognizer(Protocol):
    def recognize(self, proxy: bytes) -> Recognition: ...


class Workflow(Protocol):
    def start(self, name: str, original: Original) -> bool: ...


class Channel(Protocol):
    """Where announcements go. Each renders them its way, and may be told the same again."""

    def publish(self, announcement: Announcement) -> None: ...


Step = Literal[
    "fetch", "inspect", "prepare", "recognise", "render", "store", "record", "announce", "total"
]
"""What an attempt at an image consists of, and the whole of it."""


class Journey(Protocol):
    """One attempt at an image, for those who watch. Nothing that it does can fail."""

    def step(self, name: Step) -> AbstractContextManager[None]: ...
    def concluded(self, image: Image) -> None: ...


class Telemetry(Protocol):
    """``concluded`` is told once of every final status, by whoever has recorded it."""

    def journey(self, original: Original) -> AbstractContextManager[Journey]: ...
    def concluded(self, image: Image) -> None: ...


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is made of an original, and what an original may be.

    ``version`` changes with anything that would change a result. ``features`` are what Rekognition
    is asked, by which it is shown more or less of a picture. ``duplicate_distance``: up to so
    many bits of the perceptual hash near duplicates differ. With ``reuse_recognition`` an exact
    duplicate is not shown to Rekognition again.
    """

    version: str
    specs: tuple[RenditionSpec, ...]
    limits: Limits
    background: str
    keep_gps: bool
    features: tuple[Feature, ...] = (Feature.LABELS,)
    quarantine: tuple[QuarantineRule, ...] = ()
    duplicate_distance: int = 3
    reuse_recognition: bool = False


@dataclass(frozen=True, slots=True)
class Patience:
    """How the worker treats its queue.

    ``in_flight``: images decoded side by side. ``max_receives``: after as many receives SQS moves
    a message to the dead-letter queue. ``retry_delay_s``: seconds until the first retry.
    """

    in_flight: int
    max_receives: int
    retry_delay_s: int


@dataclass(frozen=True, slots=True)
class WebhookTerms:
    """Who is told by the settings, and which private networks webhooks may be sent to (CIDR).

    ``mail_from``: who sends mails, empty where nobody does.
    """

    configured: tuple[Destination, ...] = ()
    allowed_networks: tuple[str, ...] = ()
    mail_from: str = ""


class Services(Protocol):
    """Each is made on first use: a function pays for its own.

    ``workflow``: what takes images through their stages, unless the worker does so itself.
    """

    @property
    def uploads(self) -> Uploads: ...
    @property
    def renditions(self) -> Renditions: ...
    @property
    def queue(self) -> WorkQueue: ...
    @property
    def webhook_queue(self) -> WebhookQueue: ...
    @property
    def mailer(self) -> Mailer: ...
    @property
    def destinations(self) -> Destinations: ...
    @property
    def deliveries(self) -> Deliveries: ...
    @property
    def webhook_terms(self) -> WebhookTerms: ...
    @property
    def catalog(self) -> Catalog: ...
    @property
    def recognizer(self) -> Recognizer: ...
    @property
    def channels(self) -> Mapping[str, Channel]: ...
    @property
    def workflow(self) -> Workflow | None: ...
    @property
    def telemetry(self) -> Telemetry: ...
    @property
    def recipe(self) -> Recipe: ...
    @property
    def patience(self) -> Patience: ...
    @property
    def clock(self) -> Callable[[], datetime]: ...
