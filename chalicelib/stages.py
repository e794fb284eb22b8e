"""An image taken through the stages of a state machine, each a function of its own.

``infrastructure/workflow.yaml`` has the way from one to the next. An execution holds the image's
lease, as a worker does, and each stage may run again: what it does twice comes to the same.

AWS shows what passes from stage to stage, and keeps it for 90 days. So that is only which image it
is about (``Job``). What is known of it by then is in a draft of its record, in the attempt's folder
of the renditions bucket, one for each stage that takes it; they go when the image is settled. Where
a stage finds no draft, the image has come to its end or is somebody else's by now.
"""

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from zlib import crc32

from chalicelib import pipeline
from chalicelib.errors import LeaseHeld, OutOfTime, PipelineError, Throttled
from chalicelib.logs import bound
from chalicelib.messages import decode_work, facts_of, timestamp
from chalicelib.model import Image, ImageStatus, Original
from chalicelib.plain import from_plain, to_plain
from chalicelib.services import Journey, Services

Event = Mapping[str, Any]

EXECUTION_LASTS = timedelta(minutes=15)
"""The TimeoutSeconds of the state machine."""

NOT_NOW = (
    *(each.__name__ for each in (LeaseHeld, OutOfTime, Throttled)),
    "Lambda.TooManyRequestsException",
)
"""Errors, as Step Functions calls them, for which no image is given up."""

PROXY = "proxy.jpg"


class Found(StrEnum):
    """What there is to do for an image. ``CONCLUSION``: somebody has not come to announce it."""

    IMAGE = "image"
    FAILURE = "failure"
    REMOVAL = "removal"
    CONCLUSION = "conclusion"
    NOTHING = "nothing"


FOUND = {ImageStatus.FAILED: Found.FAILURE, ImageStatus.DELETED: Found.REMOVAL}


@dataclass(frozen=True, slots=True)
class Job:
    """What passes from stage to stage. ``lease_until`` tells the execution's lease from others."""

    found: Found
    original: Original
    attempt: int
    lease_until: str


def validate(event: Event, services: Services) -> dict[str, Any]:
    """Take the image on that an execution was started for, and see whether it is one.

    ``event``: the ``execution`` by its ARN, when it ``started_at``, and its ``work``.
    """
    work, lease_until = decode_work(json.dumps(event["work"])), _lease(event)
    with bound(**facts_of(work)), suppress(LeaseHeld):
        original = pipeline.version_of(work, services)
        image = original and _taken_on(original, lease_until, services)
        if image:
            job = Job(Found.CONCLUSION, image.original, image.attempt, timestamp(lease_until))
            if not image.status.is_final:
                job = _examined(job, pipeline.begun(image, services), services)
            plain: dict[str, Any] = to_plain(job)
            return plain
    return {"found": Found.NOTHING}


def _taken_on(original: Original, lease_until: datetime, services: Services) -> Image | None:
    """The image, leased to the execution; None where there is nothing to do."""
    known = services.catalog.get(original.image_id)
    if known is not None and known.lease_until == timestamp(lease_until):
        return known  # by a try that ended without a word
    image, is_ours = pipeline.claim(original, known, lease_until, services)
    return image if is_ours else None


def _examined(job: Job, blank: Image, services: Services) -> Job:
    def examine(journey: Journey) -> Image:
        image, prepared = pipeline.examine(blank, journey, services)
        services.renditions.keep(job.original.image_id, job.attempt, PROXY, prepared.proxy)
        return image

    draft = _done(job, blank, examine, "recognise", services)
    return replace(job, found=FOUND.get(draft.status, Found.IMAGE))


def recognise(event: Event, services: Services) -> Event:
    """Have Rekognition look at the image, unless what it has said of the same bytes will do."""
    job = from_plain(Job, event)
    draft = _draft(job, "recognise", services)
    proxy = services.renditions.kept(job.original.image_id, job.attempt, PROXY)
    if draft and proxy:
        _done(
            job,
            draft,
            lambda journey: pipeline.recognise(draft, proxy, journey, services),
            "render",
            services,
        )
    return event


def render(event: Event, services: Services) -> Event:
    """Make the renditions, and store them where they belong: it is known what is withheld."""
    job = from_plain(Job, event)
    draft = _draft(job, "render", services)
    if draft:

        def act(journey: Journey) -> Image:
            _, prepared = pipeline.examine(draft, journey, services)
            with journey.step("render"):
                rendered = prepared.render()
            renditions = pipeline.store(draft, rendered, journey, services)
            return pipeline.completed(draft, rendered.fingerprint, renditions)

        _done(job, draft, act, "store", services)
    return event


def store(event: Event, services: Services) -> Event:
    """Record the result, unless it was overtaken."""
    job = from_plain(Job, event)
    draft = _draft(job, "store", services)
    if not draft:
        return event
    with bound(**facts_of(job.original)):
        image, is_ours = pipeline.conclude(draft, None, None, services)
    return {**event, "lease_until": image.lease_until} if is_ours else event


def announce(event: Event, services: Services) -> Event:
    """Tell what became of the image, and clear up after it."""
    if "error" in event:
        return _taken_back(event, services)
    job = from_plain(Job, event)
    with bound(**facts_of(job.original)):
        pipeline.settle(job.original, job.lease_until, services)
    return event


def _taken_back(event: Event, services: Services) -> Event:
    """See to an image at which a stage has failed as often as it is tried.

    ``event`` is that of ``validate``, with the ``error`` and, where there was one, the ``job``.
    """
    job = event["job"]
    work = decode_work(json.dumps(job.get("original", event["work"])))
    lease_until, error = _lease(event), event["error"]
    with bound(**facts_of(work)):
        if error["Error"] in NOT_NOW:
            pipeline.put_back(work, lease_until, services)
            return {"status": ImageStatus.QUEUED}
        pipeline.give_up(work, PipelineError(_reason(error)), lease_until, services)
        return {"status": ImageStatus.FAILED}


def _reason(error: Mapping[str, str]) -> str:
    """What went wrong in words that may be shown to anybody: see ``reason_of``."""
    sdk = re.search(
        r"An error occurred \((\w+)\).* when calling the (\w+) operation", error["Cause"]
    )
    return f"{sdk[2]} was answered with {sdk[1]}" if sdk else error["Error"]


def _lease(event: Event) -> datetime:
    """When the lease of an execution ends, by which it knows that again.

    Two that are started for an image in the same millisecond have leases of their own.
    """
    started_at = datetime.fromisoformat(event["started_at"])
    own = timedelta(milliseconds=crc32(event["execution"].encode()) % 60_000)
    return started_at + EXECUTION_LASTS + own


def _draft(job: Job, stage: str, services: Services) -> Image | None:
    """The draft that waits for a stage."""
    body = services.renditions.kept(job.original.image_id, job.attempt, f"{stage}.json")
    return from_plain(Image, json.loads(body)) if body else None


def _done(
    job: Job, draft: Image, act: Callable[[Journey], Image], following: str, services: Services
) -> Image:
    """What a stage makes of a draft, put down for the following one, or to be stored."""
    with (
        bound(**facts_of(job.original)),
        services.telemetry.journey(job.original) as journey,
    ):
        made = pipeline.outcome(draft, lambda: act(journey), services)
    taker = "store" if made.status.is_final else following
    body = json.dumps(to_plain(made)).encode()
    services.renditions.keep(job.original.image_id, job.attempt, f"{taker}.json", body)
    return made
