"""The services of the pipeline in memory: they keep what they are given, and fail when told to.

``fake.before("save", action)`` runs an action before the next call of ``save``, several calls of
``before`` line up, and an exception as action is raised instead of the call. So a test lets two
actors meet at any point, breaks one call, or ends a worker between two steps (``Killed``).
"""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from threading import RLock
from typing import Any

from chalicelib import model, pipeline
from chalicelib.announcements import Announcement
from chalicelib.aws.layout import (
    WORD_MARK,
    bytes_of,
    confidences_of,
    has_bytes,
    is_comparable,
    labels_of,
    put_of_first,
)
from chalicelib.errors import IdempotencyKeyReused, KeyTaken, OriginalGone, StaleRevision, TooLarge
from chalicelib.messages import (
    ObjectChange,
    ObjectEvent,
    Work,
    WorkMessage,
    encode_work,
    timestamp,
)
from chalicelib.model import (
    BoundingBox,
    Circuit,
    Delivery,
    DeliveryPage,
    Destination,
    DirectUpload,
    EventKind,
    Image,
    ImageStatus,
    Label,
    LabelCount,
    Limits,
    Original,
    Page,
    Query,
    Recognition,
    RenderedImage,
    Rendition,
    RenditionSpec,
    ResizeMode,
    Totals,
    digest,
    image_id_of,
    term_of,
)
from chalicelib.services import Patience, Recipe, Step, WebhookTerms
from tests.pictures import photo, saved

Action = BaseException | Callable[[], object]
NUMBERS = count(1)

THUMBNAIL = RenditionSpec("thumbnail", 8, 8, ResizeMode.COVER)
SMALL = RenditionSpec("small", 24, 24, prefix="processed")
LIMITS = Limits(max_bytes=100_000, max_pixels=1_000_000, max_side=5_000)
RECIPE = Recipe("1-test", (THUMBNAIL, SMALL), LIMITS, background="#ffffff", keep_gps=False)
PATIENCE = Patience(in_flight=2, max_receives=5, retry_delay_s=30)
WEBHOOK_TERMS = WebhookTerms(allowed_networks=("127.0.0.0/8",))
PICTURE = saved(photo(64, 48))
CAT = Label("Cat", 98.5, parents=("Animal",), boxes=(BoundingBox(0.1, 0.2, 0.3, 0.4),))


class Killed(BaseException):
    """The worker ends here, as if its process were gone: no ``except Exception`` sees it."""


class Outage(Exception):
    """An error that passes by itself and that the pipeline knows nothing of."""


class Scripted:
    """What all fakes have: actions before calls, and a list of the calls that were made."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._actions: dict[str, deque[Action]] = defaultdict(deque)
        self._lock = RLock()

    def before(self, call: str, *actions: Action) -> None:
        self._actions[call].extend(actions)

    def forget(self) -> None:
        """Whatever was to happen before a call and has not, shall not."""
        self._actions.clear()

    def _step(self, call: str) -> None:
        with self._lock:
            self.calls.append(call)
            action = self._actions[call].popleft() if self._actions[call] else None
        if isinstance(action, BaseException):
            raise action
        if action is not None:
            action()


class Clock:
    """A time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 31, 9, 15, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **duration: float) -> None:
        self.now += timedelta(**duration)


@dataclass(frozen=True)
class Version:
    """One version of an object, or (``body`` None) a delete marker."""

    original: Original
    body: bytes | None


class FakeUploads(Scripted):
    """A versioned bucket that also gives the events S3 would send, each with its sequencer."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.versions: dict[str, list[Version]] = defaultdict(list)
        self.filenames: dict[str, str] = {}
        self.content_types: dict[str, str] = {}
        self.requests: dict[str, str] = {}
        self._clock = clock
        self._turn = 0

    # what clients of S3 do

    def upload(self, key: str, body: bytes) -> ObjectEvent:
        """Another version of the object, and the event of it."""
        original = self._original(key, etag=digest(body.hex()), size_bytes=len(body))
        self.versions[key].append(Version(original, body))
        return ObjectEvent(ObjectChange.CREATED, original)

    def remove(self, key: str) -> ObjectEvent:
        """A delete marker on the object, and the event of it."""
        marker = self._original(key, etag="", size_bytes=0)
        self.versions[key].append(Version(marker, None))
        return ObjectEvent(ObjectChange.REMOVED, marker)

    def remove_version(self, original: Original) -> ObjectEvent:
        """One version is gone for good; the event of it names that version."""
        self.versions[original.key] = [
            version
            for version in self.versions[original.key]
            if version.original.version_id != original.version_id
        ]
        removed = self._original(original.key, etag="", size_bytes=0)
        return ObjectEvent(ObjectChange.REMOVED, replace(removed, version_id=original.version_id))

    def _original(self, key: str, etag: str, size_bytes: int) -> Original:
        self._turn += 1
        return Original(
            key=key,
            version_id=f"version-{self._turn}",
            etag=etag,
            size_bytes=size_bytes,
            sequencer=f"{self._turn:032}",
            uploaded_at=timestamp(self._clock.now + timedelta(milliseconds=self._turn)),
        )

    # what the pipeline does

    def get(self, original: Original, max_bytes: int) -> bytes:
        self._step("get")
        for version in self.versions[original.key]:
            if version.original.version_id == original.version_id and version.body is not None:
                if len(version.body) > max_bytes:
                    raise TooLarge(f"{len(version.body)} bytes is over the limit of {max_bytes}")
                return version.body
        raise OriginalGone(original.key)

    def current(self, key: str) -> Original | None:
        self._step("current")
        latest = self.versions[key][-1] if self.versions[key] else None
        if latest is None or latest.body is None:
            return None
        return replace(latest.original, sequencer="")

    def put(
        self, key: str, body: bytes, content_type: str, filename: str, request: str = ""
    ) -> tuple[str, str]:
        self._step("put")
        held = self.current(key)
        if held is not None:
            if not request or self.requests.get(held.version_id) != request:
                raise KeyTaken(key)
            return held.version_id, held.etag
        self.filenames[key], self.content_types[key] = filename, content_type
        original = self.upload(key, body).original
        self.requests[original.version_id] = request
        return original.version_id, original.etag

    def form(
        self, key: str, content_type: str, filename: str, max_bytes: int, expires_s: int
    ) -> DirectUpload:
        fields = {"key": key, "Content-Type": content_type, "x-amz-meta-filename": filename}
        limits = {"most": str(max_bytes)}
        expires_at = timestamp(self._clock.now + timedelta(seconds=expires_s))
        return DirectUpload("https://uploads.example/", fields | limits, expires_at)

    def filename(self, key: str) -> str | None:
        self._step("filename")
        return self.filenames.get(key)

    def history(self, key: str) -> list[model.Version]:
        self._step("history")
        held = self.versions[key]
        return [
            model.Version(
                version_id=each.original.version_id,
                uploaded_at=each.original.uploaded_at,
                size_bytes=each.original.size_bytes,
                is_current=each is held[-1],
                is_deleted=each.body is None,
            )
            for each in reversed(held)
        ]

    def delete(self, key: str) -> None:
        self._step("delete")
        self.remove(key)

    def listing(self, prefix: str, after: str = "") -> Iterator[list[Original]]:
        """Pages of two, so that a few objects are several pages."""
        self._step("listing")
        held = [self.current(key) for key in sorted(self.versions) if key > after]
        objects = [
            replace(original, version_id="")
            for original in held
            if original and original.key.startswith(prefix)
        ]
        for start in range(0, len(objects), 2):
            yield objects[start : start + 2]

    def created(self, key: str) -> ObjectEvent:
        """The event of the newest version, for what was put over REST."""
        return ObjectEvent(ObjectChange.CREATED, self.versions[key][-1].original)


class FakeRenditions(Scripted):
    """A bucket of renditions. ``stored`` is key → body."""

    def __init__(self) -> None:
        super().__init__()
        self.stored: dict[str, bytes] = {}

    def put(
        self, image: Image, rendered: RenderedImage, content_type: str, extension: str
    ) -> Rendition:
        self._step("put")
        assert content_type.startswith("image/")
        assert image.processed_at
        assert image.pipeline_version
        spec = rendered.spec
        prefix = "quarantine" if image.is_withheld else spec.prefix
        key = f"{prefix}/{image.image_id}/{image.attempt}/{spec.name}.{extension}"
        with self._lock:
            self.stored[key] = rendered.body
        size = (rendered.width, rendered.height, len(rendered.body))
        return Rendition(spec.name, key, rendered.format, *size, rendered.window)

    def keep(self, image_id: str, attempt: int, name: str, body: bytes) -> None:
        self._step("keep")
        self.stored[f"quarantine/{image_id}/{attempt}/{name}"] = body

    def kept(self, image_id: str, attempt: int, name: str) -> bytes | None:
        self._step("kept")
        return self.stored.get(f"quarantine/{image_id}/{attempt}/{name}")

    def tidy(self, image: Image) -> None:
        self._step("tidy")
        over = image.attempt - (image.status is ImageStatus.PROCESSING)
        named = {rendition.key for rendition in image.renditions}
        for key in set(self.of(image.image_id)) - named:
            attempt = key.split("/")[2]
            if attempt.isdecimal() and 0 < int(attempt) <= over:
                self._step("delete")
                self.stored.pop(key, None)

    def of(self, image_id: str) -> list[str]:
        """The keys of what is stored of an image, by any attempt."""
        return [key for key in self.stored if f"/{image_id}/" in key]

    def get(self, key: str) -> bytes | None:
        self._step("get")
        return self.stored.get(key)

    def url(self, rendition: Rendition, expires_s: int) -> str:
        return f"https://renditions.example/{rendition.key}?expires={expires_s}"


class FakeReturns(Scripted):
    """What all queues take back of what they have handed over.

    ``handed_back`` is the delay, in seconds, of each message that shall come back; ``postponed``
    that of each message whose copy shall come.
    """

    def __init__(self) -> None:
        super().__init__()
        self.deleted: list[WorkMessage] = []
        self.handed_back: dict[WorkMessage, int] = {}
        self.postponed: dict[WorkMessage, int] = {}

    def delete(self, messages: Sequence[WorkMessage]) -> None:
        self._step("delete")
        self.deleted.extend(messages)

    def hand_back(self, delays_s: Mapping[WorkMessage, int]) -> None:
        self._step("hand_back")
        self.handed_back |= delays_s

    def postpone(self, message: WorkMessage, delay_s: int) -> None:
        self._step("postpone")
        self.postponed[message] = delay_s


class FakeQueue(FakeReturns):
    """A queue. ``receive`` gives what waits; what is not deleted can come again."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[Work] = []

    def send(self, work: Iterable[Work]) -> None:
        for item in work:
            self._step("send")
            self.sent.append(item)

    def is_empty(self) -> bool:
        return not self.sent

    def receive(self) -> list[Work]:
        """What waits, taken off the queue."""
        waiting, self.sent = self.sent, []
        return waiting


def message_of(work: Work, receive_count: int = 1) -> WorkMessage:
    """A message as Lambda hands it over; no two are the same."""
    number = next(NUMBERS)
    return WorkMessage(f"message-{number}", f"receipt-{number}", encode_work(work), receive_count)


class FakeWebhookQueue(FakeReturns):
    """A queue of texts."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[str] = []

    def send_bodies(self, bodies: Iterable[str]) -> None:
        for body in bodies:
            self._step("send_bodies")
            self.sent.append(body)


class FakeMailer(Scripted):
    """``sent`` are the mails, each with its envelope's sender and recipient."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[str, str, bytes]] = []

    def send(self, sender: str, recipient: str, message: bytes) -> None:
        self._step("send")
        self.sent.append((sender, recipient, message))


class FakeDestinations(Scripted):
    """Destinations and their circuits with revisions, as DynamoDB's conditions guard them."""

    def __init__(self) -> None:
        super().__init__()
        self.registered: dict[str, Destination] = {}
        self.circuits: dict[str, Circuit] = {}

    def listed(self, configured: Iterable[Destination]) -> list[Destination]:
        self._step("listed")
        registered = sorted(self.registered.values(), key=lambda each: each.created_at)
        return [
            replace(each, circuit=self.circuits.get(each.destination_id, Circuit()))
            for each in (*configured, *registered)
        ]

    def save(self, destination: Destination, previous: Destination | None) -> Destination:
        self._step("save")
        with self._lock:
            _require_same(self.registered.get(destination.destination_id), previous)
            saved = replace(destination, revision=previous.revision + 1 if previous else 1)
            self.registered[destination.destination_id] = replace(saved, circuit=Circuit())
            return saved

    def remove(self, destination_id: str) -> None:
        self._step("remove")
        self.registered.pop(destination_id, None)
        self.circuits.pop(destination_id, None)

    def circuit(self, destination_id: str) -> Circuit:
        self._step("circuit")
        return self.circuits.get(destination_id, Circuit())

    def save_circuit(self, destination_id: str, circuit: Circuit, previous: Circuit) -> Circuit:
        self._step("save_circuit")
        with self._lock:
            _require_same(self.circuits.get(destination_id, Circuit()), previous)
            saved = replace(circuit, revision=previous.revision + 1)
            self.circuits[destination_id] = saved
            return saved


class FakeDeliveries(Scripted):
    """The log of deliveries, likewise."""

    def __init__(self) -> None:
        super().__init__()
        self.log: dict[tuple[str, str], Delivery] = {}

    def get(self, destination_id: str, event_id: str) -> Delivery | None:
        self._step("get")
        return self.log.get((destination_id, event_id))

    def save(self, delivery: Delivery, previous: Delivery | None) -> Delivery:
        self._step("save")
        key = (delivery.destination_id, delivery.event_id)
        with self._lock:
            _require_same(self.log.get(key), previous)
            saved = replace(delivery, revision=previous.revision + 1 if previous else 1)
            self.log[key] = saved
            return saved

    def page(self, destination_id: str, limit: int, cursor: str | None) -> DeliveryPage:
        self._step("page")
        found = [each for each in self.log.values() if each.destination_id == destination_id]
        found.sort(key=lambda each: (each.event_time, each.event_id), reverse=True)
        start = int((cursor or "0").partition(".")[0])
        following = f"{start + limit:013}.{'a' * 26}" if len(found) > start + limit else None
        shown = (replace(each, payload=b"") for each in found[start : start + limit])
        return DeliveryPage(tuple(shown), following)


def _require_same(
    present: Destination | Circuit | Delivery | None,
    previous: Destination | Circuit | Delivery | None,
) -> None:
    if (present and present.revision) != (previous and previous.revision):
        raise StaleRevision


class FakeCatalog(Scripted):
    """Records with revisions, as DynamoDB's conditions guard them."""

    def __init__(self) -> None:
        super().__init__()
        self.records: dict[str, Image] = {}
        self.bookmarks: dict[str, str] = {}
        self.claims: dict[str, tuple[str, str | None]] = {}
        self.firsts: dict[str, Mapping[str, Any]] = {}

    def get(self, image_id: str) -> Image | None:
        self._step("get")
        return self.records.get(image_id)

    def get_many(self, image_ids: Sequence[str]) -> dict[str, Image]:
        self._step("get_many")
        return {each: self.records[each] for each in image_ids if each in self.records}

    def save(self, image: Image, previous: Image | None) -> Image:
        self._step("save")
        with self._lock:
            present = self.records.get(image.image_id)
            if (present and present.revision) != (previous and previous.revision):
                raise StaleRevision(image.image_id)
            saved = replace(image, revision=previous.revision + 1 if previous else 1)
            self.records[image.image_id] = saved
            if previous and bytes_of(previous) not in ("", bytes_of(saved)):
                self._give_back(bytes_of(previous), image.image_id)
            return saved

    def give_back(self, sha256: str, image_id: str) -> None:
        self._step("give_back")
        with self._lock:
            self._give_back(sha256, image_id)

    def _give_back(self, sha256: str, image_id: str) -> None:
        taken = self.firsts.get(sha256)
        is_named = taken is not None and taken["image_id"]["S"] == image_id
        if taken and is_named and not has_bytes(self.records.get(image_id), taken):
            del self.firsts[sha256]

    def unsettled(self, before: str) -> Iterator[Image]:
        self._step("unsettled")
        for image in list(self.records.values()):
            if not image.is_settled and image.updated_at < before:
                yield image

    def bookmark(self, name: str) -> str:
        self._step("bookmark")
        return self.bookmarks.get(name, "")

    def set_bookmark(self, name: str, position: str) -> None:
        self._step("set_bookmark")
        self.bookmarks[name] = position

    def browse(self, query: Query) -> Page:
        terms = [*map(term_of, query.labels), *(WORD_MARK + word for word in query.words)]

        def is_shown(image: Image) -> bool:
            is_there = query.status in (None, image.status)
            is_then = (query.since or "") <= image.original.uploaded_at <= (query.until or "9")
            sure = confidences_of(image)
            is_sure = all(sure.get(term, -1) >= query.min_confidence for term in terms)
            return is_there and is_then and is_sure

        return self._page(query.limit, query.cursor, is_shown)

    def label_counts(self, prefix: str) -> list[LabelCount]:
        spellings: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for image in self.records.values():
            for label, name in labels_of(image).items():
                spellings[label][name] += 1
        counts = [
            LabelCount(names.most_common(1)[0][0], names.total())
            for label, names in spellings.items()
            if label.startswith(term_of(prefix))
        ]
        return sorted(counts, key=lambda each: (-each.images, each.name))

    def totals(self) -> Totals:
        images = self.records.values()
        processed = [image for image in images if image.status.is_processed]
        return Totals(
            images=Counter(image.status for image in images),
            original_bytes=sum(image.original.size_bytes for image in processed),
            rendition_bytes=sum(
                each.size_bytes for image in processed for each in image.renditions
            ),
        )

    def similar(self, phash: str, max_distance: int, limit: int) -> list[tuple[Image, int]]:
        self._step("similar")
        found = [
            (image, (int(image.fingerprint.phash, 16) ^ int(phash, 16)).bit_count())
            for image in self.records.values()
            if image.fingerprint and is_comparable(image)
        ]
        near = [each for each in found if each[1] <= max_distance]
        return sorted(near, key=lambda each: (each[1], each[0].image_id))[:limit]

    def first_of(self, sha256: str, original: Original) -> Image | None:
        self._step("first_of")
        with self._lock:
            entry = put_of_first(sha256, original, "")["Item"]
            taken = self.firsts.get(sha256, entry)
            first = self.records.get(taken["image_id"]["S"])
            if taken["image_id"] != entry["image_id"] and has_bytes(first, taken):
                return first
            self.firsts[sha256] = entry
            return None

    def claim(self, request: str, fingerprint: str) -> str | None:
        self._step("claim")
        known, image_id = self.claims.setdefault(request, (fingerprint, None))
        if known != fingerprint:
            raise IdempotencyKeyReused("That key was another request's: take a new one.")
        return image_id

    def disclaim(self, request: str) -> None:
        self._step("disclaim")
        del self.claims[request]

    def fulfil(self, request: str, image_id: str) -> None:
        self._step("fulfil")
        self.claims[request] = (self.claims[request][0], image_id)

    def _page(self, limit: int, cursor: str | None, shown: Callable[[Image], bool]) -> Page:
        images = sorted(
            (
                image
                for image in self.records.values()
                if image.status is not ImageStatus.DELETED and shown(image)
            ),
            key=lambda image: (image.original.uploaded_at, image.image_id),
            reverse=True,
        )
        start = int((cursor or "0").partition(".")[0])
        page = tuple(images[start : start + limit])
        cursors = tuple(f"{start + n:013}.{'a' * 26}" for n in range(1, len(page) + 1))
        more = len(images) > start + limit
        return Page(page, cursors[-1] if more else None, cursors)


class FakeRecognizer(Scripted):
    """Sees the same in every picture."""

    def __init__(self) -> None:
        super().__init__()
        self.recognition = Recognition(labels=(CAT,))

    def recognize(self, proxy: bytes) -> Recognition:
        self._step("recognize")
        assert proxy.startswith(b"\xff\xd8")
        return self.recognition


class FakeWorkflow(Scripted):
    """Executions by name, each with the work it was started with; ``ended`` run no more."""

    def __init__(self) -> None:
        super().__init__()
        self.executions: dict[str, Original] = {}
        self.ended: set[str] = set()

    def start(self, name: str, original: Original) -> bool:
        self._step("start")
        with self._lock:
            self.executions.setdefault(name, original)
            return name not in self.ended


class FakeChannel(Scripted):
    """``published`` is everything that was announced, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.published: list[Announcement] = []

    def publish(self, announcement: Announcement) -> None:
        self._step("publish")
        self.published.append(announcement)

    @property
    def statuses(self) -> list[str]:
        """The statuses that were told, and not what was told beside them."""
        kinds = [announcement.kind for announcement in self.published]
        return [str(kind) for kind in kinds if kind is not EventKind.DUPLICATE]


class FakeJourney:
    """``steps`` are those that ended well, in the order in which they ended."""

    def __init__(self, concluded: Callable[[Image], None]) -> None:
        self.steps: list[Step] = []
        self.concluded = concluded

    @contextmanager
    def step(self, name: Step) -> Iterator[None]:
        yield
        self.steps.append(name)


class FakeTelemetry:
    """Keeps every attempt, and every image that was told to be concluded, as it was recorded."""

    def __init__(self) -> None:
        self.journeys: list[FakeJourney] = []
        self.conclusions: list[Image] = []

    @contextmanager
    def journey(self, original: Original) -> Iterator[FakeJourney]:  # noqa: ARG002
        journey = FakeJourney(self.concluded)
        self.journeys.append(journey)
        yield journey

    def concluded(self, image: Image) -> None:
        self.conclusions.append(image)

    @property
    def statuses(self) -> list[ImageStatus]:
        return [image.status for image in self.conclusions]


class Alone:
    """The turn of an image that nobody else waits for."""

    def begin(self, *, alone: bool) -> None:
        """It is alone in any case."""

    def give_way(self, pixels: int) -> None:
        """Nobody is there."""

    def end(self) -> None:
        """Nobody has waited for it."""


@dataclass
class FakeServices:
    """Everything the use cases take. Fits ``chalicelib.services.Services``."""

    clock: Clock = field(default_factory=Clock)
    renditions: FakeRenditions = field(default_factory=FakeRenditions)
    queue: FakeQueue = field(default_factory=FakeQueue)
    webhook_queue: FakeWebhookQueue = field(default_factory=FakeWebhookQueue)
    mailer: FakeMailer = field(default_factory=FakeMailer)
    destinations: FakeDestinations = field(default_factory=FakeDestinations)
    deliveries: FakeDeliveries = field(default_factory=FakeDeliveries)
    webhook_terms: WebhookTerms = WEBHOOK_TERMS
    catalog: FakeCatalog = field(default_factory=FakeCatalog)
    recognizer: FakeRecognizer = field(default_factory=FakeRecognizer)
    topic: FakeChannel = field(default_factory=FakeChannel)
    bus: FakeChannel = field(default_factory=FakeChannel)
    telemetry: FakeTelemetry = field(default_factory=FakeTelemetry)
    recipe: Recipe = RECIPE
    patience: Patience = PATIENCE
    workflow: FakeWorkflow | None = None
    uploads: FakeUploads = field(init=False)

    def __post_init__(self) -> None:
        self.uploads = FakeUploads(self.clock)

    @property
    def channels(self) -> dict[str, FakeChannel]:
        return {"sns": self.topic, "eventbridge": self.bus}


def s3_record(event: ObjectEvent, **changes: Any) -> dict[str, Any]:
    """The record that S3 sends of an event; the key is given as S3 writes it."""
    original = event.original
    s3_object = {
        "key": original.key,
        "size": original.size_bytes,
        "eTag": original.etag,
        "versionId": original.version_id,
        "sequencer": original.sequencer,
    }
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": f"{event.change}:Put",
        "eventTime": original.uploaded_at,
        "s3": {"bucket": {"name": "uploads"}, "object": s3_object | changes},
    }


def uploaded(services: FakeServices, key: str = "uploads/cat.jpg", body: bytes = PICTURE) -> Image:
    """An image that was uploaded over S3 and has been processed."""
    pipeline.register(services.uploads.upload(key, body), services)
    for original in services.queue.receive():
        pipeline.process(original, services.clock() + timedelta(seconds=60), Alone(), services)
    return services.catalog.records[image_id_of(key)]
