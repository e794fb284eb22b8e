"""What fell through the cracks is found and asked for again: once an hour, a little at a time.

S3 delivers its events at least once, and what a handler fails at ends in the dead-letter queue. The
sweep is for what neither saw: an event lost all the same, a worker that died at its last try, a
queue that was emptied by hand.
"""

import logging
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from chalicelib.messages import Recheck, timestamp
from chalicelib.model import Image, ImageStatus, Original
from chalicelib.services import Services

logger = logging.getLogger("image-pipeline")

GRACE = timedelta(minutes=15)
"""What has happened since may still be on its way."""

WAITS_IN_VAIN = timedelta(days=1)
"""An image that is QUEUED may be behind a long queue; after this, its message is taken for lost."""

TIME_TO_END = timedelta(seconds=20)
"""Kept free at the end of an invocation: a page is never left half done."""

BOOKMARK = "sweep"


def enqueue_strays(prefix: str, time_left: timedelta, services: Services) -> None:
    """Enqueue a recheck of every key under ``prefix`` whose record is missing, other, or stuck.

    Stuck records come from an index that holds little else, and take half of the time at most. The
    bucket is read in pages, as many as the time allows; the next sweep goes on where this one
    stopped, and begins anew at the end.
    """
    begin = services.clock()
    end = begin + time_left - TIME_TO_END
    stuck = strayed = 0
    for image in _stuck(begin + time_left / 2, services):
        services.queue.send([Recheck(image.original.key)])
        stuck += 1
    position = services.catalog.bookmark(BOOKMARK)
    for page in services.uploads.listing(prefix, position):
        found = list(_strayed(page, services))
        services.queue.send(Recheck(original.key) for original in found)
        strayed += len(found)
        position = page[-1].key if page else position
        if services.clock() > end:
            break
        services.catalog.set_bookmark(BOOKMARK, position)
    else:
        position = ""
    services.catalog.set_bookmark(BOOKMARK, position)
    logger.info("Swept: %d stuck, %d without their record.", stuck, strayed)


def _stuck(end: datetime, services: Services) -> Iterator[Image]:
    """Images with something left to do that nobody seems to be doing, as many as there is time."""
    now = services.clock()
    nothing_waits = services.queue.is_empty()
    for image in services.catalog.unsettled(before=timestamp(now - GRACE)):
        if services.clock() > end:
            return
        if is_stuck(image, now, nothing_waits=nothing_waits):
            yield image


def is_stuck(image: Image, now: datetime, *, nothing_waits: bool) -> bool:
    """Whether something is left to do for an image that nobody seems to be doing.

    ``nothing_waits`` says that the work queue is empty, so that a QUEUED image waits for nothing.
    """
    waits = image.status is ImageStatus.QUEUED and not nothing_waits
    is_late = image.updated_at < timestamp(now - (WAITS_IN_VAIN if waits else GRACE))
    return not image.is_settled and is_late and (image.lease_until or "") < timestamp(now)


def _strayed(page: Sequence[Original], services: Services) -> Iterator[Original]:
    """Objects of a page that have no record, or one of another version."""
    grace = timestamp(services.clock() - GRACE)
    records = services.catalog.get_many([original.image_id for original in page])
    for original in page:
        image = records.get(original.image_id)
        if original.uploaded_at < grace and not is_recorded(original, image):
            yield original


def is_recorded(held: Original, image: Image | None) -> bool:
    """Whether the record is of what the bucket holds; a listing does not tell versions."""
    return (
        image is not None
        and image.status is not ImageStatus.DELETED
        and image.original.etag == held.etag
        and held.version_id in ("", image.original.version_id)
    )
