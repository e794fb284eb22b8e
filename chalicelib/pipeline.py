"""What happens to one image, in the order in which it meets it.

A record is only ever written as it was read (``Catalog.save`` refuses otherwise), so each step
reads, decides, writes, and starts again when somebody was faster. Who has work to do for an image
holds its lease, from taking it on until it is settled. What has to happen after a record is final
(``_settle``) is marked on the record once done: killed anywhere, a step that is run again, or
somebody else once the lease is over, makes right what is missing.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from chalicelib.announcements import announcements_of
from chalicelib.errors import (
    ImageNotFound,
    KeyTaken,
    LeaseHeld,
    NotQuarantined,
    OriginalGone,
    PermanentError,
    RequestError,
    StaleRevision,
    Unhealthy,
    VersionReplaced,
    reason_of,
)
from chalicelib.logs import carried
from chalicelib.messages import (
    ObjectEvent,
    Recheck,
    Work,
    facts_of,
    timestamp,
)
from chalicelib.model import (
    RETRIES_EXHAUSTED,
    DirectUpload,
    Duplicate,
    Failure,
    Fingerprint,
    Image,
    ImageStatus,
    Original,
    Rendered,
    Rendition,
    digest,
    image_id_of,
    is_image_id,
)
from chalicelib.moderation import reasons_to_withhold
from chalicelib.services import Journey, Services, Workflow

if TYPE_CHECKING:  # the functions that process nothing do not start with Pillow
    from chalicelib.imaging import Prepared

logger = logging.getLogger("image-pipeline")


class Turn(Protocol):
    """An image's turn to have its bytes and pixels in memory. Each step may raise NotNow."""

    def begin(self, *, alone: bool) -> None:
        """Wait for the turn; ``alone``: with no other image in memory at the same time."""

    def give_way(self, pixels: int) -> None:
        """Let others begin first, if no more than so many pixels have to be kept meanwhile."""

    def end(self) -> None:
        """Nothing of it is in memory any more."""


OFFER_LASTS_S = 900
"""How long a form for a direct upload works, at most: no longer than the role's credentials."""

MAX_DUPLICATES = 10
"""Of one image, that are recorded."""

TIME_TO_SETTLE = timedelta(seconds=60)
"""How long the lease of who settles a record lasts."""


def utc_now() -> datetime:
    return datetime.now(UTC)


# ── upload ───────────────────────────────────────────────────────────────────────────────────────


def once(request: str, fingerprint: str, do: Callable[[], Image], services: Services) -> Image:
    """The image that a request leads to: by doing it now, or as it was led to before.

    ``request`` stands for the request however often it comes, and is empty where nothing does;
    ``fingerprint`` is of what it asks for. What was begun and not seen to its end is done again,
    so ``do`` has to bear that; what was refused is forgotten. Raises IdempotencyKeyReused where the
    same request has asked for something else, ImageNotFound where its image is deleted.
    """
    if not request:
        return do()
    image_id = services.catalog.claim(request, fingerprint)
    if image_id is not None:
        with suppress(ImageNotFound):
            return find(image_id, services)
        raise ImageNotFound(
            "What came of this request has been deleted since: send it with a new Idempotency-Key."
        )
    try:
        image = do()
    except RequestError:
        services.catalog.disclaim(request)
        raise
    services.catalog.fulfil(request, image.image_id)
    return image


def submit(
    key: str,
    body: bytes,
    content_type: str,
    filename: str,
    services: Services,
    *,
    request: str = "",
) -> Image:
    """Store an original that came over REST, so that its event starts the pipeline.

    Its record is there when this returns, so that a client can ask for it at once. Raises
    KeyTaken, unless the same ``request`` has stored it.
    """
    version_id, etag = services.uploads.put(key, body, content_type, filename, request)
    original = Original(
        key=key,
        version_id=version_id,
        etag=etag,
        size_bytes=len(body),
        sequencer="",
        uploaded_at=timestamp(services.clock()),
    )

    def record(image: Image | None) -> Image | None:
        if image is None:
            return _queued(original, None, services)
        held = None if _is_of(original, image) else services.uploads.current(key)
        return _taken_over(held, image, services) if held else None

    image, _ = _update(original.image_id, record, services)
    # It may be replaced or removed by now; the client is told of what it has uploaded.
    return image if _is_current(original, image) else _queued(original, None, services)


def offer(key: str, content_type: str, filename: str, services: Services) -> DirectUpload:
    """A form that uploads an original straight to S3, whose event starts the pipeline.

    Raises KeyTaken. What is uploaded under the key before the form is used becomes an older
    version.
    """
    if services.uploads.current(key) is not None:
        raise KeyTaken(key)
    max_bytes = services.recipe.limits.max_bytes
    return services.uploads.form(key, content_type, filename, max_bytes, OFFER_LASTS_S)


def register(event: ObjectEvent, services: Services) -> None:
    """Record a new version of an object as QUEUED and ask for it to be processed.

    An event that is older than what is recorded changes nothing; one that comes again is only
    asked for again while the image waits.
    """
    original = event.original
    if _is_folder(original):
        return

    def record(image: Image | None) -> Image | None:
        if image is None:
            return _queued(original, None, services)
        if image.original.sequencer >= original.sequencer:
            return _leased_to_settle(image, services)
        if _is_current(original, image):
            return _taken_over(original, image, services)
        return _as_held(original, image, services)  # of two versions S3 knows which is newer

    _follow(*_update(original.image_id, record, services), services)


def remove(event: ObjectEvent, services: Services) -> None:
    """Take away all that was derived from a removed object, and leave a tombstone.

    The tombstone keeps the removal's sequencer, so that an event of an earlier upload that comes
    late finds something newer. Where only a version was removed and the key still holds another,
    that one is the image now.
    """
    removal = event.original

    def record(image: Image | None) -> Image | None:
        if image is None and _is_folder(removal):
            return None
        if image is not None and image.original.sequencer >= removal.sequencer:
            return _leased_to_settle(image, services)
        return _as_held(removal, image, services)

    with suppress(ImageNotFound):
        _follow(*_update(removal.image_id, record, services), services)


def recheck(key: str, services: Services) -> Image | None:
    """Make the record of a key agree with what S3 holds there now, whatever events were lost.

    Gives the image where it is recorded. A worker that dies cannot say so: an image at which as
    many have died as its message is received times is given up here.
    """

    def record(image: Image | None) -> Image | None:
        held = services.uploads.current(key)
        if image is None:
            return _queued(held, None, services) if held and not _is_folder(held) else None
        if held is None and image.status is not ImageStatus.DELETED:
            return _deleted(_gone(image.original, services), image, services)
        if held is not None and not _is_current(held, image):
            return _queued(held, image, services)
        tries = services.patience.max_receives
        if image.status.is_final or image.lost < tries or _is_at_work(image, services):
            return _leased_to_settle(image, services)
        reason = "the worker ended without a word, perhaps out of memory"
        return _given_up(image, tries, reason, services)

    try:
        image, is_ours = _update(image_id_of(key), record, services)
    except ImageNotFound:
        return None  # neither here nor there
    if is_ours:
        _settle(image, services)
    elif image.status.is_final:
        _require_settled(image)
    return image


def version_of(work: Work, services: Services) -> Original | None:
    """The version that is to be processed; None where a look at its key leaves nothing to do."""
    if isinstance(work, Original):
        return work
    image = recheck(work.key, services)
    return None if image is None or image.status.is_final else image.original


def _follow(image: Image, is_ours: bool, services: Services) -> None:  # noqa: FBT001
    """What has to happen once an event is recorded; ``is_ours``: the lease was taken with that.

    An image that waits is asked for however often it is told of.
    """
    if image.status is ImageStatus.QUEUED:
        services.queue.send([image.original])
        _log_status(image)
    elif is_ours:
        _settle(image, services)
    elif image.status is ImageStatus.DELETED:
        _require_settled(image)


def _require_settled(image: Image) -> None:
    """Raises LeaseHeld while somebody else is settling it, which may be this very actor.

    When the answer of a write is lost, the SDK repeats it and finds the record changed: by itself.
    """
    if not image.announced:
        raise LeaseHeld(
            f"{image.original.key} is being settled.", image.lease_until or image.updated_at
        )


def _leased_to_settle(image: Image, services: Services) -> Image | None:
    """The record, leased, where something is left to settle that nobody is at."""
    if not image.status.is_final or image.announced or _is_at_work(image, services):
        return None
    return replace(image, lease_until=timestamp(services.clock() + TIME_TO_SETTLE))


def _as_held(told: Original, image: Image | None, services: Services) -> Image:
    """The record as S3 has the object now, which is at least as new as what was told of it.

    Asked between reading the record and writing it: what happens to the object after the question
    has an event of its own yet to come.
    """
    held = services.uploads.current(told.key)
    if held is not None:
        return _taken_over(replace(held, sequencer=told.sequencer), image, services)
    return _deleted(told, image, services)


def _taken_over(original: Original, image: Image | None, services: Services) -> Image:
    """The record of this version: as it is but for the sequencer, or of a new version."""
    if image is not None and _is_current(original, image):
        return replace(image, original=replace(image.original, sequencer=original.sequencer))
    return _queued(original, image, services)


def _gone(original: Original, services: Services) -> Original:
    """What stands for a removal that no event has told of yet."""
    return replace(original, sequencer="", uploaded_at=timestamp(services.clock()))


def _deleted(original: Original, image: Image | None, services: Services) -> Image:
    """A tombstone. One that has been announced is not announced again."""
    known = image is not None and image.status is ImageStatus.DELETED and image.announced
    tombstone = replace(_queued(original, image, services), status=ImageStatus.DELETED)
    settled = replace(tombstone, announced=known)
    return _leased_to_settle(settled, services) or settled


# ── processing ───────────────────────────────────────────────────────────────────────────────────


def process(original: Original, lease_until: datetime, turn: Turn, services: Services) -> None:
    """Take one version of an object all the way: validate, render, recognise, store, announce.

    What is already done is not done again, and what a newer version or a removal has overtaken
    is dropped. Raises LeaseHeld while another worker is at it; errors that may pass by
    themselves (throttling, outages) go through as they are, the lease given back.
    """
    known = services.catalog.get(original.image_id)
    turn.begin(alone=known is not None and known.lost > 0)  # it may be what workers died of
    with services.telemetry.journey(original) as journey:
        image, is_ours = claim(original, known, lease_until, services)
        is_overtaken = not _is_of(original, image)
        if is_ours and image.status is ImageStatus.PROCESSING:
            try:
                finished = _processed(begun(image, services), turn, journey, services)
                with journey.step("record"):
                    image, is_ours = conclude(finished, image, journey, services)
            except Exception:
                _release(image, services)
                raise
            is_overtaken = not is_ours
        turn.end()
        if is_overtaken:
            # What this worker has stored, or one that died at it, is nobody's.
            services.renditions.tidy(image)
        elif is_ours:
            with journey.step("announce"):
                _settle(image, services)


def start(original: Original, workflow: Workflow, services: Services) -> None:
    """Have one version of an object go all the way by an execution of its own.

    However often it is asked for, one is started. Raises LeaseHeld while somebody is at it.
    """
    image = services.catalog.get(original.image_id) or _queued(original, None, services)
    while _is_to_do(original, image, services):
        version = digest(f"{original.version_id} {original.etag}")
        if workflow.start(f"{original.image_id}-{version}-{image.revision}", original):
            return
        # That one has ended without a word of it. Another revision makes another name.
        image, _ = _update(
            original.image_id, lambda now: now or _queued(original, None, services), services
        )


def _is_to_do(original: Original, image: Image, services: Services) -> bool:
    """Whether this version has something left to do. Raises LeaseHeld while somebody is at it."""
    if not _is_of(original, image) or (image.is_settled and not image.is_given_up):
        return False
    if image.lease_until and _is_at_work(image, services):
        raise LeaseHeld(
            f"{original.key} is being processed until {image.lease_until}.", image.lease_until
        )
    return True


def claim(
    original: Original, known: Image | None, lease_until: datetime, services: Services
) -> tuple[Image, bool]:
    """The image and True, leased to this worker; or as it is, where there is nothing to do.

    Raises LeaseHeld while another worker is at it.
    """
    until = timestamp(lease_until)

    def record(image: Image | None) -> Image | None:
        if image is None:
            image = _queued(original, None, services)
        if not _is_to_do(original, image, services):
            return None
        if image.status.is_final and not image.is_given_up:
            return replace(image, lease_until=until)
        return replace(
            image,
            status=ImageStatus.PROCESSING,
            lease_until=until,
            attempt=image.attempt + 1,
            lost=image.lost + 1,
            failure=None,
            announced=False,
        )

    return _update(original.image_id, record, services, known=known)


def _is_at_work(image: Image, services: Services) -> bool:
    """Whether a worker holds the lease of it."""
    return (image.lease_until or "") > timestamp(services.clock())


def conclude(
    finished: Image, known: Image | None, journey: Journey | None, services: Services
) -> tuple[Image, bool]:
    """The result and True, recorded and leased to be settled; or what is recorded in its place.

    ``known`` is the record as it was last seen, if it was. Whoever has not the bytes that were
    looked at is no longer named as the first with them. Raises LeaseHeld where this worker was so
    slow that another one has taken the image on.
    """

    def record(now: Image | None) -> Image | None:
        if now is None or not _is_of(finished.original, now):
            return None
        if now.status.is_final:
            _require_settled(now)
            return None
        if (now.status, now.attempt) != (ImageStatus.PROCESSING, finished.attempt):
            until = now.lease_until or timestamp(services.clock())
            raise LeaseHeld(f"{now.original.key} is another worker's now.", until)
        if now.released and finished.is_withheld:
            released_at = timestamp(services.clock())
            raise LeaseHeld(f"{now.original.key} has been released meanwhile.", released_at)
        kept = replace(finished, original=now.original, released=now.released)
        if not kept.status.is_processed:
            kept = replace(kept, fingerprint=None)
        return _leased_to_settle(kept, services)

    try:
        image, is_ours = _update(finished.image_id, record, services, known=known, journey=journey)
    except LeaseHeld:  # by who has deleted it, perhaps
        _give_back(finished, services)
        raise
    if image.sha256 != finished.sha256:
        _give_back(finished, services)
    return image, is_ours


def _give_back(finished: Image, services: Services) -> None:
    """Have an image no longer named as the first with the bytes it had, unless it has them."""
    if finished.sha256:
        services.catalog.give_back(finished.sha256, finished.image_id)


def _release(image: Image, services: Services) -> None:
    """Give the lease back, so that the next try need not wait for its end."""

    def record(now: Image | None) -> Image | None:
        if now is None or (now.status, now.attempt) != (image.status, image.attempt):
            return None
        if now.status is ImageStatus.PROCESSING:
            lost = min(now.lost, image.lost - 1)  # for its worker may have been acquitted before
            now = replace(now, status=ImageStatus.QUEUED, lost=lost)
        return replace(now, lease_until=None)

    try:
        _update(image.image_id, record, services, known=image)
    except Exception:  # what went wrong before is told, and the lease ends by itself
        logger.warning("%s keeps its lease", image.image_id, exc_info=True)


def acquit(work: Work, lease_until: datetime, services: Services) -> None:
    """Have the attempt whose lease ends then be none that somebody may have died of.

    The lease stays: whoever holds it may still be at it.
    """
    known = services.catalog.get(image_id_of(work.key))

    def record(now: Image | None) -> Image | None:
        held = (ImageStatus.PROCESSING, timestamp(lease_until))
        if now is None or known is None or (now.status, now.lease_until) != held:
            return None
        return replace(now, lost=min(now.lost, known.lost - 1))

    with suppress(ImageNotFound):
        _update(image_id_of(work.key), record, services, known=known)


def begun(image: Image, services: Services) -> Image:
    """The image, taken on, as it is before anything is known of this version."""
    return replace(
        _queued(image.original, image, services),
        processed_at=timestamp(services.clock()),
        pipeline_version=services.recipe.version,
        released=image.released,
    )


def outcome(image: Image, act: Callable[[], Image], services: Services) -> Image:
    """What is made of an image. Permanent failures end here, and so does what is removed."""
    try:
        return act()
    except (PermanentError, OriginalGone) as error:
        return _ended(image, error, services)


def _ended(image: Image, error: PermanentError | OriginalGone, services: Services) -> Image:
    """The image with nothing on it but why; until it is recorded, the hash of its bytes besides."""
    ended = replace(begun(image, services), fingerprint=image.fingerprint)
    if isinstance(error, OriginalGone):
        return replace(ended, status=ImageStatus.DELETED)
    failure = Failure(error.code, _sentence(str(error)))
    return replace(ended, status=ImageStatus.FAILED, failure=failure)


def _processed(image: Image, turn: Turn, journey: Journey, services: Services) -> Image:
    """The image in its final status, its renditions stored, or as its end leaves it.

    Rekognition looks at the proxy while the renditions are encoded and travel to S3; where images
    may be withheld, no rendition travels before it is known whether this one is.
    """
    try:
        with ThreadPoolExecutor(max_workers=1) as pool:
            image, prepared = examine(image, journey, services)
            recognised = pool.submit(carried(recognise), image, prepared.proxy, journey, services)
            turn.give_way(prepared.pixels)
            with journey.step("render"):
                rendered = prepared.render()
            del prepared
            turn.end()
            if _may_be_withheld(image, services):
                image = recognised.result()
            renditions = store(image, rendered, journey, services)
        return completed(recognised.result(), rendered.fingerprint, renditions)
    except (PermanentError, OriginalGone) as error:
        return _ended(image, error, services)


def examine(image: Image, journey: Journey, services: Services) -> tuple[Image, "Prepared"]:
    """The image, described, and its picture, decoded. Of its fingerprint there is the bytes'.

    Raises PermanentError, OriginalGone.
    """
    from chalicelib import imaging  # noqa: PLC0415 - only here, for the same reason

    recipe = services.recipe
    with journey.step("fetch"):
        body = services.uploads.get(image.original, recipe.limits.max_bytes)
    with journey.step("inspect"):
        description = imaging.inspect(body, recipe.limits, keep_gps=recipe.keep_gps)
    with journey.step("prepare"):
        prepared = imaging.prepare(
            body,
            recipe.specs,
            recipe.limits,
            background=recipe.background,
            features=recipe.features,
        )
    notes = description.notes + prepared.notes
    return replace(
        image,
        description=replace(description, notes=notes),
        fingerprint=Fingerprint("", "", (), sha256(body).hexdigest()),
    ), prepared


def recognise(image: Image, proxy: bytes, journey: Journey, services: Services) -> Image:
    """The image with what Rekognition says of it, whose copy it is, and why it is withheld.

    Raises PermanentError where Rekognition refuses it.
    """
    first = services.catalog.first_of(image.sha256, image.original)
    if first is not None and _is_reusable(first, services):
        recognition = first.recognition
    else:
        with journey.step("recognise"):
            recognition = services.recognizer.recognize(proxy)
    rules = services.recipe.quarantine if _may_be_withheld(image, services) else ()
    return replace(
        image,
        recognition=recognition,
        withheld_for=reasons_to_withhold(recognition.moderation, rules),
        duplicates=(Duplicate(first.image_id, 0, is_exact=True),) if first else (),
    )


def _may_be_withheld(image: Image, services: Services) -> bool:
    return bool(services.recipe.quarantine) and not image.released


def store(
    image: Image, rendered: Rendered, journey: Journey, services: Services
) -> tuple[Rendition, ...]:
    """The renditions, stored where they belong: see ``recognise`` for what withholds an image."""
    from chalicelib import imaging  # noqa: PLC0415 - likewise

    with journey.step("store"), ThreadPoolExecutor(max_workers=len(rendered.renditions)) as pool:
        stored = [
            pool.submit(
                carried(services.renditions.put),
                image,
                rendition,
                imaging.content_type(rendition.format),
                imaging.extension(rendition.format),
            )
            for rendition in rendered.renditions
        ]
    return tuple(rendition.result() for rendition in stored)


def completed(image: Image, looks: Fingerprint, renditions: tuple[Rendition, ...]) -> Image:
    """The image in its final status, completed or quarantined."""
    return replace(
        image,
        status=ImageStatus.QUARANTINED if image.is_withheld else ImageStatus.COMPLETED,
        fingerprint=replace(looks, sha256=image.sha256),
        renditions=renditions,
    )


def _is_reusable(first: Image, services: Services) -> bool:
    """Whether what Rekognition has said of an image is what it would say of the same bytes now."""
    is_same_recipe = first.pipeline_version == services.recipe.version
    return services.recipe.reuse_recognition and is_same_recipe and first.status.is_processed


def settle(original: Original, lease_until: str, services: Services) -> None:
    """Settle what an execution has concluded, whose lease ends then; clear up what was overtaken.

    Raises LeaseHeld while somebody else is settling it.
    """

    def record(image: Image | None) -> Image | None:
        return image and _leased_to_settle(image, services)

    image, is_ours = _update(original.image_id, record, services)
    if not (image.status.is_final and _is_of(original, image)):
        services.renditions.tidy(image)
    elif is_ours or image.lease_until == lease_until:
        _settle(image, services)
    else:
        _require_settled(image)


def _settle(image: Image, services: Services) -> None:
    """Do what follows from a final status, then mark it done. Safe to run again.

    Each channel is told at least once: twice only when killed between that and its mark. One that
    fails keeps no other from being told, and is told when this is run again.
    """
    is_first = image.attempt == 0 or (image.attempt == 1 and image.status.is_processed)
    try:
        if services.workflow or not is_first:  # else nothing is stored but what the record names
            services.renditions.tidy(image)
        if not image.told:  # else one channel would hear of others than the one before it
            image = replace(image, duplicates=_duplicates_of(image, services))
    except Exception:
        _release(image, services)
        raise
    told, failure = _tell(image, services)
    if failure is None:
        _log_status(image)

    def mark(now: Image | None) -> Image | None:
        if now is None or (now.status, now.attempt) != (image.status, image.attempt):
            return None
        if not _is_of(image.original, now):
            return None
        marked = replace(now, lease_until=None, duplicates=image.duplicates)
        return replace(marked, announced=failure is None, told=told if failure else ())

    _update(image.image_id, mark, services)
    if failure is not None:
        raise failure


def _tell(image: Image, services: Services) -> tuple[tuple[str, ...], Exception | None]:
    """The channels that know of the present status now, and what the first that fails failed of."""
    told, failure = list(image.told), None
    announcements = announcements_of(image)
    for name, channel in services.channels.items():
        if name in told:
            continue
        try:
            for announcement in announcements:
                channel.publish(announcement)
        except Exception as error:
            logger.warning("%s was not told", name, exc_info=True)
            failure = failure or error
        else:
            told.append(name)
    return tuple(told), failure


def _duplicates_of(image: Image, services: Services) -> tuple[Duplicate, ...]:
    """The images that are there and show the same, nearest first; none that names this one so.

    Asked once the image is recorded, so that of two that come at once one sees the other, or each.
    """
    if image.fingerprint is None or not image.status.is_processed:
        return image.duplicates
    phash, distance = image.fingerprint.phash, services.recipe.duplicate_distance
    # The first with the same bytes may still be in work, and not be found by its looks.
    found = {each.image_id: each for each in image.duplicates if each.is_exact}
    for other, bits in services.catalog.similar(phash, distance, 2 * MAX_DUPLICATES):
        if image.image_id in {other.image_id, *(each.image_id for each in other.duplicates)}:
            found.pop(other.image_id, None)
        else:
            is_exact = image.sha256 == other.sha256 != ""
            found[other.image_id] = Duplicate(other.image_id, bits, is_exact)
    nearest = sorted(found.values(), key=lambda each: (not each.is_exact, each.distance))
    return tuple(nearest[:MAX_DUPLICATES])


def give_up(work: Work, error: BaseException, lease_until: datetime, services: Services) -> None:
    """Record and announce FAILED, where the image still waits, with what went wrong at last.

    ``lease_until`` is the end of this very invocation, whose own lease keeps nobody from that.

    What it had before stays, and so does its message, in the dead-letter queue.
    """

    def record(image: Image | None) -> Image | None:
        if image is None or image.status.is_final:
            return None
        if isinstance(work, Original) and not _is_of(work, image):
            return None
        if _is_at_work(image, services) and image.lease_until != timestamp(lease_until):
            return None
        return _given_up(image, services.patience.max_receives, reason_of(error), services)

    with suppress(ImageNotFound):
        image, is_ours = _update(image_id_of(work.key), record, services)
        if is_ours:
            _settle(image, services)


def put_back(work: Work, lease_until: datetime, services: Services) -> None:
    """Have the image of an execution, whose lease ends then, taken on by another one."""
    image = services.catalog.get(image_id_of(work.key))
    if image is not None and image.lease_until == timestamp(lease_until):
        _release(image, services)
    services.queue.send([Recheck(work.key)])


def _given_up(image: Image, tries: int, reason: str, services: Services) -> Image:
    sentence = _sentence(
        f"Given up after {tries} tries, the last of which ended so: {reason.rstrip('.')}. "
        "Nothing may be wrong with the picture: have it processed again once the cause is gone"
    )
    return replace(
        image,
        status=ImageStatus.FAILED,
        processed_at=timestamp(services.clock()),
        lease_until=timestamp(services.clock() + TIME_TO_SETTLE),
        lost=0,
        failure=Failure(RETRIES_EXHAUSTED, sentence),
        announced=False,
        told=(),
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."


def reprocess(image_id: str, services: Services) -> Image:
    """Have an image processed anew; it keeps what it has until the new is in place.

    One that waits already is only asked for again. Whether S3 holds another version by now is
    looked at before. Raises ImageNotFound.
    """

    def record(image: Image | None) -> Image | None:
        if image is None or image.status is ImageStatus.DELETED:
            raise ImageNotFound
        if not image.status.is_final:
            return None
        return replace(
            image, status=ImageStatus.QUEUED, lease_until=None, failure=None, announced=False
        )

    if not is_image_id(image_id):
        raise ImageNotFound
    image, _ = _update(image_id, record, services)
    if image.status is ImageStatus.QUEUED:
        services.queue.send([Recheck(image.original.key)])
    return image


def release(image_id: str, version_id: str, services: Services) -> Image:
    """Have a withheld image processed again; nothing withholds this version of it any more.

    ``version_id`` is what a reviewer has seen, or empty. Raises ImageNotFound, NotQuarantined, and
    VersionReplaced where another one has been uploaded since.
    """

    def record(image: Image | None) -> Image | None:
        if image is None or image.status is ImageStatus.DELETED:
            raise ImageNotFound
        _require_withheld(image)
        if version_id and image.original.version_id != version_id:
            raise VersionReplaced(
                "Another version has been uploaded since: look at that one first."
            )
        if not image.status.is_final:
            return None if image.released else replace(image, released=True)
        return replace(
            image,
            status=ImageStatus.QUEUED,
            released=True,
            lease_until=None,
            failure=None,
            announced=False,
        )

    if not is_image_id(image_id):
        raise ImageNotFound
    image, _ = _update(image_id, record, services)
    services.queue.send([Recheck(image.original.key)])
    return image


def delete(image_id: str, services: Services) -> Image:
    """Delete an original, and its image for all who ask; the event does the rest.

    Raises ImageNotFound.
    """
    found = find(image_id, services)
    original = _gone(found.original, services)
    services.uploads.delete(original.key)

    def record(image: Image | None) -> Image | None:
        if image is None or image.status is ImageStatus.DELETED:
            return None
        return replace(_as_held(original, image, services), lease_until=None)

    image, _ = _update(image_id, record, services)
    # It may be uploaded again by now; the client is told of what it has deleted.
    return replace(found, status=ImageStatus.DELETED, updated_at=image.updated_at)


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


def find(image_id: str, services: Services) -> Image:
    """The image of that id. Raises ImageNotFound for one that is unknown or deleted."""
    image = services.catalog.get(image_id) if is_image_id(image_id) else None
    if image is None or image.status is ImageStatus.DELETED:
        raise ImageNotFound
    return image


def find_withheld(image_id: str, services: Services) -> Image:
    """The image of that id, if it is withheld. Raises ImageNotFound, NotQuarantined."""
    image = find(image_id, services)
    _require_withheld(image)
    return image


def _require_withheld(image: Image) -> None:
    if not image.is_withheld:
        raise NotQuarantined("Nothing withholds this image: there is nothing to review.")


def find_first(image_ids: Sequence[str], services: Services) -> Image:
    """The first of these that there is. Raises ImageNotFound when there is none."""
    for image_id in image_ids:
        with suppress(ImageNotFound):
            return find(image_id, services)
    raise ImageNotFound


def find_similar(
    image_id: str, max_distance: int, limit: int, services: Services
) -> Sequence[tuple[Image, int]]:
    """The images that look like this one, nearest first, and how far each is from it, in bits.

    None for one that has not been looked at yet. Raises ImageNotFound.
    """
    image = find(image_id, services)
    if image.fingerprint is None:
        return ()
    found = services.catalog.similar(image.fingerprint.phash, max_distance, limit + 1)
    return [each for each in found if each[0].image_id != image_id][:limit]


def check_health(services: Services) -> None:
    """Raises Unhealthy when the catalog does not answer."""
    try:
        services.catalog.bookmark("health")
    except Exception as error:
        logger.exception("The catalog does not answer")
        raise Unhealthy("The catalog does not answer: try again in a moment.") from error


# ── shared ───────────────────────────────────────────────────────────────────────────────────────


def _update(
    image_id: str,
    change: Callable[[Image | None], Image | None],
    services: Services,
    known: Image | None = None,
    journey: Journey | None = None,
) -> tuple[Image, bool]:
    """Apply a change to the record as it is now, however often somebody else is faster.

    ``change`` gives the new record, or None to leave it. Gives what is recorded then, and whether
    its lease was taken by this. ``known`` is the record as it was last seen, if it was; ``journey``
    the attempt that may conclude the image. Raises ImageNotFound where nothing is.
    """
    while True:
        image = known or services.catalog.get(image_id)
        known = None
        changed = change(image)
        if changed is None:
            if image is None:
                raise ImageNotFound
            return image, False
        changed = replace(changed, updated_at=timestamp(services.clock()))
        with suppress(StaleRevision):
            saved = services.catalog.save(changed, previous=image)
            if saved.status.is_final and (image is None or saved.status is not image.status):
                (journey or services.telemetry).concluded(saved)
            return saved, bool(saved.lease_until) and not _is_same_lease(saved, image)


def _log_status(image: Image) -> None:
    logger.info("%s", image.status, extra=facts_of(image.original))


def _is_folder(original: Original) -> bool:
    """Whether it is what the S3 console makes of a folder."""
    return original.key.endswith("/") and not original.size_bytes


def _is_same_lease(image: Image, before: Image | None) -> bool:
    """Whether a write has left the lease of a record as it was."""
    return before is not None and (
        (image.original.version_id, image.status, image.lease_until)
        == (before.original.version_id, before.status, before.lease_until)
    )


def _is_current(original: Original, image: Image) -> bool:
    """Whether the record is of this version of the object, and that is not deleted."""
    return image.status is not ImageStatus.DELETED and _is_of(original, image)


def _is_of(original: Original, image: Image) -> bool:
    """Whether the record is of this version of the object, and not of a newer one."""
    recorded = image.original
    return (recorded.version_id, recorded.etag) == (original.version_id, original.etag)


def _queued(original: Original, replaced: Image | None, services: Services) -> Image:
    """A record with nothing on it yet."""
    return Image(
        original=original,
        status=ImageStatus.QUEUED,
        updated_at=timestamp(services.clock()),
        attempt=replaced.attempt if replaced else 0,
    )
