"""The use cases, in the order in which an image meets them.

A record is only ever written as it was read (``Catalog.save`` refuses otherwise), so each step
reads, decides, writes, and starts again when somebody was faster. What has to happen after a
record is final (``_settle``) is marked on the record once done: killed anywhere, a step that is
run again makes right what is missing.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from chalicelib.errors import (
    BatchFailed,
    ImageNotFound,
    LeaseHeld,
    OriginalGone,
    PermanentError,
    StaleRevision,
)
from chalicelib.messages import (
    Announcement,
    ObjectEvent,
    WorkMessage,
    announcement_of,
    printable,
    timestamp,
)
from chalicelib.model import (
    PIPELINE_VERSION,
    Failure,
    Image,
    ImageStatus,
    Limits,
    Original,
    Page,
    Query,
    Recognition,
    RenderedImage,
    Rendition,
    RenditionSpec,
    image_id_of,
)

logger = logging.getLogger("image-pipeline")


class Uploads(Protocol):
    def get(self, original: Original, max_bytes: int) -> bytes: ...
    def current(self, key: str) -> Original | None: ...
    def put(self, key: str, body: bytes, content_type: str, filename: str) -> tuple[str, str]: ...
    def delete(self, key: str) -> None: ...


class Renditions(Protocol):
    def put(
        self, original: Original, image: RenderedImage, content_type: str, extension: str, now: str
    ) -> Rendition: ...
    def delete(self, keys: Sequence[str]) -> None: ...
    def delete_version(self, original: Original) -> None: ...
    def all_of(self, image_id: str) -> Sequence[str]: ...


class WorkQueue(Protocol):
    def send(self, original: Original) -> None: ...
    def delete(self, messages: Sequence[WorkMessage]) -> None: ...


class Catalog(Protocol):
    def get(self, image_id: str) -> Image | None: ...
    def save(self, image: Image, previous: Image | None) -> None: ...
    def newest(self, limit: int, cursor: str | None, status: ImageStatus | None) -> Page: ...
    def labelled(
        self, labels: Sequence[str], limit: int, cursor: str | None, min_confidence: float
    ) -> Page: ...


class Recognizer(Protocol):
    def recognize(self, proxy: bytes) -> Recognition: ...


class Topic(Protocol):
    def publish(self, announcement: Announcement) -> None: ...


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is made of an original, and what an original may be."""

    specs: tuple[RenditionSpec, ...]
    limits: Limits
    background: str
    keep_gps: bool


class Services(Protocol):
    """What the use cases work with. Each is made on first use: a function pays for its own."""

    @property
    def uploads(self) -> Uploads: ...
    @property
    def renditions(self) -> Renditions: ...
    @property
    def queue(self) -> WorkQueue: ...
    @property
    def catalog(self) -> Catalog: ...
    @property
    def recognizer(self) -> Recognizer: ...
    @property
    def topic(self) -> Topic: ...
    @property
    def recipe(self) -> Recipe: ...
    @property
    def clock(self) -> Callable[[], datetime]: ...


def utc_now() -> datetime:
    return datetime.now(UTC)


# ── upload ───────────────────────────────────────────────────────────────────────────────────────


def submit(key: str, body: bytes, content_type: str, filename: str, services: Services) -> Image:
    """Store an original that came over REST, so that its event starts the pipeline.

    Its record is there when this returns, so that a client can ask for it at once. Raises
    KeyTaken.
    """
    before = services.catalog.get(image_id_of(key))
    version_id, etag = services.uploads.put(key, body, content_type, filename)
    original = Original(
        key=key,
        version_id=version_id,
        etag=etag,
        size_bytes=len(body),
        # That of what was there before stays, so that a late event cannot bring it back.
        sequencer=before.original.sequencer if before else "",
        uploaded_at=timestamp(services.clock()),
    )

    def record(image: Image | None) -> Image | None:
        if image is None or (before and image.original == before.original):
            return _queued(original, image, services)
        return None  # the event of this upload was faster, or that of what came after it

    image = _update(original.image_id, record, services)
    if _is_current(original, image):
        return image
    return _queued(original, None, services)  # what was removed before is still being recorded


def register(event: ObjectEvent, services: Services) -> None:
    """Record a new version of an object as QUEUED and ask for it to be processed.

    An event that is older than what is recorded changes nothing; one that comes again is only
    asked for again while the image waits.
    """
    original = event.original
    if original.key.endswith("/") and not original.size_bytes:
        return  # a folder, as the S3 console makes them

    def record(image: Image | None) -> Image | None:
        if image is None:
            return _queued(original, None, services)
        if image.original.sequencer >= original.sequencer:
            return None
        if _is_current(original, image):  # it came over REST, or was reinstated
            known = replace(image.original, sequencer=original.sequencer)
            return replace(image, original=known)
        return _queued(original, image, services)

    image = _update(original.image_id, record, services)
    if _is_current(original, image) and image.status is ImageStatus.QUEUED:
        services.queue.send(original)
        logger.info("%s %s %s", image.status, image.image_id, printable(original.key))


# ── processing ───────────────────────────────────────────────────────────────────────────────────


def process_batch(
    messages: Sequence[WorkMessage], lease: timedelta, in_flight: int, services: Services
) -> None:
    """Process the images of one SQS batch side by side, ``in_flight`` of them at a time.

    ``lease`` is the time left to this invocation. When some fail, what succeeded is deleted from
    the queue before BatchFailed is raised for the rest: Chalice cannot switch on partial batch
    responses, and without them Lambda would bring all of them back.
    """
    failures: list[BaseException] = []
    done: list[WorkMessage] = []
    with ThreadPoolExecutor(max_workers=min(in_flight, len(messages))) as pool:
        work = {
            message: pool.submit(_process_message, message, lease, services) for message in messages
        }
        for message, outcome in work.items():
            if error := outcome.exception():
                logger.error("message %s failed", message.message_id, exc_info=error)
                failures.append(error)
            else:
                done.append(message)
    if failures:
        services.queue.delete(done)
        raise BatchFailed(failures, total=len(messages))


def _process_message(message: WorkMessage, lease: timedelta, services: Services) -> None:
    process(message.original, lease, services)


def process(original: Original, lease: timedelta, services: Services) -> None:
    """Take one version of an object all the way: validate, render, recognise, store, announce.

    What is already done is not done again, and what a newer version or a removal has overtaken
    is dropped. Raises LeaseHeld while another worker is at it; errors that may pass by
    themselves (throttling, outages) go through as they are.
    """
    image = _claim(original, lease, services)
    if image.status is ImageStatus.PROCESSING and _is_current(original, image):
        finished = _finish(image, services)
        try:
            services.catalog.save(finished, previous=image)
            image = finished
        except StaleRevision:
            image = services.catalog.get(original.image_id) or image
            if _is_current(original, image):
                raise  # only its record has moved on: it comes back, and finds what is left to do
    if not _is_of(original, image):
        # Overtaken: what this worker has stored, or one that died at it, is nobody's.
        services.renditions.delete_version(original)
    elif not image.announced:
        _settle(image, services)


def _claim(original: Original, lease: timedelta, services: Services) -> Image:
    """The image, leased to this worker; or as it is, where there is nothing to process."""
    now = services.clock()

    def record(image: Image | None) -> Image | None:
        if image is None:
            image = _queued(original, None, services)
        if not _is_current(original, image) or image.status.is_final:
            return None
        if (image.lease_until or "") > timestamp(now):
            raise LeaseHeld(f"{original.key} is being processed until {image.lease_until}.")
        return replace(image, status=ImageStatus.PROCESSING, lease_until=timestamp(now + lease))

    return _update(original.image_id, record, services)


def _finish(image: Image, services: Services) -> Image:
    """The image in its final status, its renditions stored. Permanent failures end here."""
    now = timestamp(services.clock())
    over = replace(
        image,
        revision=image.revision + 1,
        updated_at=now,
        processed_at=now,
        lease_until=None,
        pipeline_version=PIPELINE_VERSION,
    )
    try:
        return _complete(over, now, services)
    except PermanentError as error:
        return replace(
            over, status=ImageStatus.FAILED, failure=Failure(error.code, _sentence(error))
        )
    except OriginalGone:
        return replace(over, status=ImageStatus.DELETED)


def _sentence(error: PermanentError) -> str:
    text = str(error)
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _complete(image: Image, now: str, services: Services) -> Image:
    # Only here, so that the functions that process nothing do not start with Pillow.
    from chalicelib import imaging  # noqa: PLC0415

    original, recipe = image.original, services.recipe
    body = services.uploads.get(original, recipe.limits.max_bytes)
    description = imaging.inspect(body, recipe.limits, keep_gps=recipe.keep_gps)
    rendered = imaging.render(body, recipe.specs, recipe.limits, background=recipe.background)
    del body  # up to max_bytes, not needed while waiting for the network
    # The renditions travel to S3 while Rekognition looks at the proxy.
    with ThreadPoolExecutor(max_workers=len(rendered.renditions) + 1) as pool:
        recognition = pool.submit(services.recognizer.recognize, rendered.proxy)
        renditions = [
            pool.submit(
                services.renditions.put,
                original,
                rendition,
                imaging.content_type(rendition.format),
                imaging.extension(rendition.format),
                now,
            )
            for rendition in rendered.renditions
        ]
    return replace(
        image,
        status=ImageStatus.COMPLETED,
        description=replace(description, notes=description.notes + rendered.notes),
        fingerprint=rendered.fingerprint,
        renditions=tuple(rendition.result() for rendition in renditions),
        recognition=recognition.result(),
    )


def _settle(image: Image, services: Services) -> None:
    """Do what follows from a final status, then mark it done. Safe to run again.

    The announcement goes out at least once: twice only when killed between it and its mark.
    """

    def is_recorded(now: Image | None) -> bool:
        return now is not None and now.status is image.status and _is_of(image.original, now)

    obsolete = set(image.superseded) - {rendition.key for rendition in image.renditions}
    if image.status is ImageStatus.FAILED:  # some may have been stored before it failed
        services.renditions.delete_version(image.original)
    if image.status is ImageStatus.DELETED:
        obsolete.update(services.renditions.all_of(image.image_id))
    # They were looked up before this: what has overtaken the image stores nothing until it is
    # recorded, and it inherits what was superseded.
    if obsolete and is_recorded(services.catalog.get(image.image_id)):
        services.renditions.delete(sorted(obsolete))
    services.topic.publish(announcement_of(image))
    logger.info("%s %s %s", image.status, image.image_id, printable(image.original.key))

    def mark(now: Image | None) -> Image | None:
        return replace(now, superseded=(), announced=True) if now and is_recorded(now) else None

    _update(image.image_id, mark, services)


# ── removal ──────────────────────────────────────────────────────────────────────────────────────


def remove(event: ObjectEvent, services: Services) -> None:
    """Take away all that was derived from a removed object, and leave a tombstone.

    The tombstone keeps the removal's sequencer, so that an event of an earlier upload that comes
    late finds something newer. Where only a version was removed and the key still holds another,
    that one is the image now.
    """
    removal = event.original
    current = services.uploads.current(removal.key)
    if current is not None:
        reinstated = replace(current, sequencer=removal.sequencer)
        register(replace(event, original=reinstated), services)
        return

    def record(image: Image | None) -> Image | None:
        if image is not None and image.original.sequencer >= removal.sequencer:
            return None
        tombstone = replace(_queued(removal, image, services), status=ImageStatus.DELETED)
        known = image is not None and image.status is ImageStatus.DELETED and image.announced
        return replace(tombstone, announced=known)

    image = _update(removal.image_id, record, services)
    if image.status is ImageStatus.DELETED and not image.announced:
        _settle(image, services)


def delete(image_id: str, services: Services) -> Image:
    """Delete an original; the event of its removal does the rest. Raises ImageNotFound."""
    image = find(image_id, services)
    services.uploads.delete(image.original.key)
    return image


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


def find(image_id: str, services: Services) -> Image:
    """The image of that id. Raises ImageNotFound for one that is unknown or deleted."""
    image = services.catalog.get(image_id)
    if image is None or image.status is ImageStatus.DELETED:
        raise ImageNotFound
    return image


def find_first(image_ids: Sequence[str], services: Services) -> Image:
    """The first of these that there is. Raises ImageNotFound when there is none."""
    for image_id in image_ids:
        with suppress(ImageNotFound):
            return find(image_id, services)
    raise ImageNotFound


def browse(query: Query, services: Services) -> Page:
    """A page of images, newest first: all, those in one status, or those with all these labels."""
    if query.labels:
        return services.catalog.labelled(
            query.labels, query.limit, query.cursor, query.min_confidence
        )
    return services.catalog.newest(query.limit, query.cursor, query.status)


# ── shared ───────────────────────────────────────────────────────────────────────────────────────


def _update(
    image_id: str, change: Callable[[Image | None], Image | None], services: Services
) -> Image:
    """Apply a change to the record as it is now, however often somebody else is faster.

    ``change`` gives the new record, or None to leave it; the result is what is recorded then.
    """
    while True:
        image = services.catalog.get(image_id)
        changed = change(image)
        if changed is None:
            if image is None:
                raise ImageNotFound
            return image
        changed = replace(
            changed,
            revision=image.revision + 1 if image else 1,
            updated_at=timestamp(services.clock()),
        )
        try:
            services.catalog.save(changed, previous=image)
        except StaleRevision:
            continue
        return changed


def _is_current(original: Original, image: Image) -> bool:
    """Whether the record is of this version of the object, and that is not deleted."""
    return image.status is not ImageStatus.DELETED and _is_of(original, image)


def _is_of(original: Original, image: Image) -> bool:
    """Whether the record is of this version of the object, and not of a newer one."""
    recorded = image.original
    return (recorded.version_id, recorded.etag) == (original.version_id, original.etag)


def _queued(original: Original, replaced: Image | None, services: Services) -> Image:
    superseded = (
        (*replaced.superseded, *(rendition.key for rendition in replaced.renditions))
        if replaced
        else ()
    )
    return Image(
        original=original,
        status=ImageStatus.QUEUED,
        revision=1,
        updated_at=timestamp(services.clock()),
        superseded=superseded,
    )
