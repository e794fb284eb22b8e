"""Telling other systems what became of an image, signed, at least once; and people.

An announcement arrives on the webhook queue and becomes a message for each destination that it is
for; each of these is one signed POST (Standard Webhooks 1.0), or one mail. What is not taken comes
back through the visibility of its message, over a day, so that no destination waits for another.
The log of deliveries says what was sent, and keeps it from being sent again; two workers at once
are kept apart by its lease. A destination that fails again and again is left alone for a while: its
circuit (``circuits``).

Records are only written as they were read, so each step reads, decides, writes, and starts again
when somebody was faster.
"""

import base64
import hmac
import json
import logging
import random
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING, Any

from chalicelib import circuits
from chalicelib.errors import (
    BatchFailed,
    InvalidRequest,
    MalformedMessage,
    NotDelivered,
    NotMailed,
    OutOfTime,
    StaleRevision,
    TookTooLong,
    Unreachable,
)
from chalicelib.logs import bound, carried
from chalicelib.messages import MAX_POSTPONE_S, WorkMessage, timestamp
from chalicelib.model import (
    GONE,
    MAILTO,
    Attempt,
    Circuit,
    Delivery,
    DeliveryState,
    Destination,
    Secret,
    is_image_id,
    term_of,
)
from chalicelib.services import Services

if TYPE_CHECKING:
    from http.client import HTTPResponse

    from chalicelib.outbound import Policy

logger = logging.getLogger("image-pipeline")

TEST = "webhook.test"
"""The type of an event that is about no image: it is tried once, whatever the circuit says."""

RETRY_DELAYS_S = (5, 300, 1_800, 7_200, 18_000, 28_800, 28_800)
"""Until each next try, 24 hours in all; a fifth more or less, so that not all come at once."""

MAX_TRIES = len(RETRY_DELAYS_S) + 1
"""After as many receives SQS moves a message to the dead-letter queue: its redrive policy."""

GIVEN_UP_AFTER = timedelta(days=2)
"""So long it is tried as often, where it was held back in between."""

MAX_DELAY_S = 12 * 3600 - 60
"""SQS hides a message for 12 hours at most, what it was worked on included."""

TIME_TO_HAND_BACK = timedelta(seconds=3)
"""Kept free at the end of an invocation, to give the queue back what was not taken."""

TIME_TO_DELIVER = timedelta(seconds=12)
"""A delivery is not begun with less than this left, beside the time to hand back."""

CONNECT_TIMEOUT_S = 3
TOTAL_TIMEOUT_S = 10

ANSWER_BYTES = 4096
"""What of an answer is read at most: its status says all."""

MAX_ATTEMPTS_KEPT = 20

WITHOUT_LABELS = ("FAILED", "DELETED")
"""Nothing is known of what these show: labels keep nobody from being told."""


@dataclass(frozen=True, slots=True)
class Job:
    """A message for one destination. ``replayed_at``: when somebody has asked for it again."""

    destination_id: str
    details: Mapping[str, Any]
    replayed_at: str = ""

    @property
    def event_id(self) -> str:
        return str(self.details["event_id"])

    @property
    def is_test(self) -> bool:
        return bool(self.details["event_type"] == TEST)

    @property
    def body(self) -> str:
        members = {"destination": self.destination_id, "details": self.details}
        return _json(members | ({"replayed_at": self.replayed_at} if self.replayed_at else {}))


# ── a batch ──────────────────────────────────────────────────────────────────────────────────────


def deliver_batch(
    messages: Sequence[WorkMessage], time_left: timedelta, services: Services
) -> None:
    """Fan out and deliver the messages of one SQS batch side by side, within the time left.

    When some have to come back, the others are deleted from the queue before BatchFailed is raised:
    Chalice cannot switch on partial batch responses. Each comes back in its own time.
    """
    end = services.clock() + time_left - TIME_TO_HAND_BACK
    pool = ThreadPoolExecutor(len(messages) + 1)
    directory = pool.submit(carried(directory_of), services)
    work = [pool.submit(carried(_handle), each, directory, end, services) for each in messages]
    wait(work, timeout=max(0.0, (end - services.clock()).total_seconds()))
    pool.shutdown(wait=False, cancel_futures=True)
    failures: dict[WorkMessage, BaseException] = {}
    for message, outcome in zip(messages, work, strict=True):
        if not outcome.done():
            failures[message] = TookTooLong("It was not done when the invocation ended.")
        elif (error := outcome.exception()) and not _has_started_over(message, error, services):
            failures[message] = error
    if failures:
        services.webhook_queue.delete([each for each in messages if each not in failures])
        services.webhook_queue.hand_back(
            {message: _comes_back_s(message, error) for message, error in failures.items()}
        )
        raise BatchFailed(list(failures.values()), total=len(messages))


def _has_started_over(message: WorkMessage, error: BaseException, services: Services) -> bool:
    """Whether another message has taken the place of one that failed."""
    if not (isinstance(error, NotDelivered) and error.starts_over):
        return False
    try:
        services.webhook_queue.postpone(message, error.delay_s)
    except Exception:  # it is kept for who looks into the dead-letter queue
        logger.exception("message %s has got no successor", message.message_id)
        return False
    return True


def _comes_back_s(message: WorkMessage, error: BaseException) -> int:
    """Seconds until a message that failed comes back; the last time to the dead-letter queue."""
    with bound(message_id=message.message_id):
        if isinstance(error, NotDelivered | OutOfTime):
            logger.warning("message %s comes back: %s", message.message_id, error)
        else:
            logger.error("message %s failed", message.message_id, exc_info=error)
    if message.receive_count >= MAX_TRIES:
        return 0
    return error.delay_s if isinstance(error, NotDelivered) else delay_s(message.receive_count)


def delay_s(tries: int) -> int:
    """Seconds until the next of so many tries."""
    usual_s = RETRY_DELAYS_S[min(tries, len(RETRY_DELAYS_S)) - 1]
    return round(usual_s * random.uniform(0.8, 1.2))  # noqa: S311 - no secret


def _handle(
    message: WorkMessage,
    directory: "Future[Mapping[str, Destination]]",
    end: datetime,
    services: Services,
) -> None:
    if services.clock() > end - TIME_TO_DELIVER:
        raise OutOfTime("Too little time is left to begin another delivery.")
    job = _job_of(message.body)
    destinations = directory.result()
    if isinstance(job, Job):
        with bound(destination_id=job.destination_id, event_id=job.event_id):
            destination = destinations.get(job.destination_id)
            if destination is None:
                logger.info("The destination is no longer there")
            else:
                _deliver(job, message.receive_count, destination, services)
        return
    jobs = [Job(each.destination_id, job) for each in destinations.values() if wants(each, job)]
    services.webhook_queue.send_bodies(each.body for each in jobs)


def _job_of(body: str) -> Job | Mapping[str, Any]:
    """What a message asks for: a delivery or, of an announcement's details, to be fanned out."""
    try:
        members = json.loads(body)
        if "event_id" in members:
            return _event(members)
        destination_id, replayed_at = members["destination"], members.get("replayed_at", "")
        return Job(str(destination_id), _event(members["details"]), str(replayed_at))
    except (ValueError, TypeError, KeyError) as error:
        raise MalformedMessage(f"This is no message of webhooks: {body:.200}") from error


def _event(details: Mapping[str, Any]) -> Mapping[str, Any]:
    """Raises ValueError, TypeError or KeyError for what is none of ours."""
    datetime.fromisoformat(details["event_time"])
    if not (is_image_id(details["event_id"]) and isinstance(details["event_type"], str)):
        raise ValueError(details["event_id"])
    return details


def directory_of(services: Services) -> Mapping[str, Destination]:
    """All destinations by id: those that are configured, then those registered, oldest first."""
    listed = services.destinations.listed(services.webhook_terms.configured)
    return {each.destination_id: each for each in listed}


def wants(destination: Destination, details: Mapping[str, Any]) -> bool:
    """Whether a destination is to be told of an event."""
    status = str(details["event_type"]).rpartition(".")[2].upper()
    if destination.is_disabled or status not in (destination.statuses or (status,)):
        return False
    wanted = {term_of(label) for label in destination.labels}
    return not wanted or status in WITHOUT_LABELS or not wanted.isdisjoint(_shown(details))


def _shown(details: Mapping[str, Any]) -> set[str]:
    """What an image shows, by whatever name it is also found under, as one searches it."""
    names: set[str] = set()
    for label in details.get("labels", ()):
        names |= {label["name"], *label.get("parents", ())}
    for label in details.get("moderation_labels", ()):
        names |= {label["name"], label.get("parent", "")}
    names |= {each["name"] for each in details.get("celebrities", ())}
    return {term_of(name) for name in names}


# ── a delivery ───────────────────────────────────────────────────────────────────────────────────


def _deliver(job: Job, receive_count: int, destination: Destination, services: Services) -> None:
    """Send what has not been taken yet, if the destination's circuit lets it.

    Raises NotDelivered for what has to come back.
    """
    is_last = receive_count >= MAX_TRIES
    delivery = _taken_on(job, services, is_last=job.is_test or is_last)
    if delivery is None:
        return
    circuit, is_probe = Circuit(), True  # a test finds out whatever the circuit says
    if not job.is_test:
        circuit, is_probe = circuits.gate(job.destination_id, services)
    if circuit.disabled_for:
        _record(delivery, _held("The webhook is disabled", services), services)
        return
    is_over = is_last and _age(job, services) >= GIVEN_UP_AFTER
    is_owed = is_over and not _tries(job, delivery.attempts)  # nothing is given up untried
    if circuit.paused_until and not (is_probe or is_owed):
        attempt = _held(f"Held back: the webhook is paused until {circuit.paused_until}", services)
    else:
        attempt, retry_after_s = _tried(job, destination, services)
        if attempt.is_taken or job.is_test or attempt.status == HTTPStatus.GONE:
            _record(delivery, attempt, services)
            if attempt.is_taken:
                circuits.resume(job.destination_id, services)
            elif attempt.status == HTTPStatus.GONE:
                circuits.switch(job.destination_id, GONE, services)
            return
        circuit = circuits.failed(job.destination_id, retry_after_s, services, is_probe=is_probe)
    tries = _tries(job, (*delivery.attempts, attempt))
    usual_s = 0 if attempt.is_held else delay_s(tries)
    later_s = max(usual_s, _left_s(circuit.paused_until, services))
    starts_over = is_last and tries < MAX_TRIES and not is_over
    if starts_over:
        later_s = min(later_s, MAX_POSTPONE_S)
    _record(delivery, attempt, services, None if is_last and not starts_over else later_s)
    told = attempt.error or f"It was answered with {attempt.status}"
    raise NotDelivered(told, later_s, starts_over=starts_over)


def _tries(job: Job, attempts: Iterable[Attempt]) -> int:
    """How often it was sent since it happened, or was asked for again."""
    return sum(not each.is_held and each.at >= job.replayed_at for each in attempts)


def _age(job: Job, services: Services) -> timedelta:
    """How long ago it happened, or was asked for again."""
    since = job.replayed_at or job.details["event_time"]
    return services.clock() - datetime.fromisoformat(since)


def _taken_on(job: Job, services: Services, *, is_last: bool) -> Delivery | None:
    """The delivery, leased; None for one that was taken already. Raises NotDelivered if leased.

    What is tried for the last time is given up beforehand, in case nobody is left to say so.
    """
    now = services.clock()
    details = job.details
    while True:
        known = services.deliveries.get(job.destination_id, job.event_id)
        if known and _was_taken(known, since=job.replayed_at):
            return None
        if known and (known.leased_until or "") > timestamp(now):
            told = "Another worker is at this delivery."
            raise NotDelivered(told, _left_s(known.leased_until, services))
        delivery = known or Delivery(
            destination_id=job.destination_id,
            event_id=job.event_id,
            event_type=details["event_type"],
            event_time=details["event_time"],
            image_id=str(details.get("image_id", "")),
            payload=zlib.compress(_json(details).encode()),
        )
        leased = replace(
            delivery,
            state=_state_of(delivery, comes_back=not is_last),
            next_try_at=None,
            leased_until=timestamp(now + circuits.LEASE),
        )
        with suppress(StaleRevision):
            return services.deliveries.save(leased, previous=known)


def _record(
    delivery: Delivery,
    attempt: Attempt,
    services: Services,
    later_s: int | None = None,
) -> None:
    """Log what came of an attempt. What does not come back, and was not taken, is given up."""
    now = services.clock()
    while True:
        with suppress(StaleRevision):
            # Somebody else may have delivered it since, where the lease was over.
            attempts = (*delivery.attempts, attempt)[-MAX_ATTEMPTS_KEPT:]
            tried = replace(delivery, attempts=attempts)
            recorded = replace(
                tried,
                state=_state_of(tried, comes_back=later_s is not None),
                leased_until=None,
                next_try_at=None
                if later_s is None
                else timestamp(now + timedelta(seconds=later_s)),
            )
            services.deliveries.save(recorded, previous=delivery)
            return
        known = services.deliveries.get(delivery.destination_id, delivery.event_id)
        if known is None:
            return
        delivery = known


def _was_taken(delivery: Delivery, since: str = "") -> bool:
    """Whether the destination has taken it, at that time or later."""
    is_known = not since and delivery.state is DeliveryState.DELIVERED  # attempts are forgotten
    return is_known or any(each.is_taken and each.at >= since for each in delivery.attempts)


def _state_of(delivery: Delivery, *, comes_back: bool) -> DeliveryState:
    """What was taken stays so, whatever comes of a replay."""
    if _was_taken(delivery):
        return DeliveryState.DELIVERED
    return DeliveryState.WAITING if comes_back else DeliveryState.GIVEN_UP


def _held(told: str, services: Services) -> Attempt:
    """An attempt that nobody was called in."""
    return Attempt(timestamp(services.clock()), error=told, is_held=True)


def _tried(job: Job, destination: Destination, services: Services) -> tuple[Attempt, int]:
    """What came of sending it, and how many seconds the destination wants to be left alone."""
    at, begun = timestamp(services.clock()), monotonic()
    status, error, retry_after_s = None, None, 0
    try:
        if destination.is_mailed:
            status = _mail(job, destination, services)
        else:
            status, retry_after_s = _post(job, destination, services)
    except (Unreachable, NotMailed, InvalidRequest) as refusal:
        error = str(refusal)
    duration_ms = round((monotonic() - begun) * 1000)
    logger.info("webhook: %s", error or status, extra={"duration_ms": duration_ms})
    return Attempt(at, duration_ms, status, error), retry_after_s


def _mail(job: Job, destination: Destination, services: Services) -> int:
    """Send a mail, with the thumbnail where it is still there. Raises NotMailed."""
    from chalicelib.mails import mail_of, thumbnail_of  # noqa: PLC0415 - as below

    sender = services.webhook_terms.mail_from
    if not sender:
        raise NotMailed("MAIL_FROM is not set: nobody sends mails")
    thumbnail = thumbnail_of(job.details)
    picture = services.renditions.get(thumbnail["key"]) if thumbnail else None
    recipient = destination.url.removeprefix(MAILTO)
    services.mailer.send(sender, recipient, mail_of(job.details, sender, recipient, picture))
    return HTTPStatus.OK


def _post(job: Job, destination: Destination, services: Services) -> tuple[int, int]:
    """The status of the answer, and its Retry-After in seconds.

    Raises Unreachable, and InvalidRequest for a URL of the settings that cannot be read.
    """
    # Only here: other functions call nobody.
    from chalicelib.outbound import answer_of, parse  # noqa: PLC0415

    now = services.clock()
    payload = {
        "type": job.details["event_type"],
        "timestamp": job.details["event_time"],
        "data": job.details,
    }
    body = _json(payload).encode()
    sent_at = str(int(now.timestamp()))
    keys = [each.value for each in valid(destination.secrets, now)]
    headers = {
        "Content-Type": "application/json",
        "webhook-id": job.event_id,
        "webhook-timestamp": sent_at,
        "webhook-signature": " ".join(signature(key, job.event_id, sent_at, body) for key in keys),
    }
    policy = policy_of(services)
    deadline = monotonic() + TOTAL_TIMEOUT_S
    target = parse(destination.url)
    with answer_of("POST", target, policy, deadline, headers=headers, body=body) as response:
        return response.status, _retry_after_s(response, now)


def policy_of(services: Services) -> "Policy":
    """Who may be called by webhooks."""
    from chalicelib.outbound import Policy  # noqa: PLC0415

    return Policy(
        max_bytes=ANSWER_BYTES,
        connect_timeout_s=CONNECT_TIMEOUT_S,
        total_timeout_s=TOTAL_TIMEOUT_S,
        allowed_networks=services.webhook_terms.allowed_networks,
        public_schemes=("https",),
    )


def valid(known: Iterable[Secret], now: datetime) -> list[Secret]:
    """Those that messages are signed with now."""
    return [each for each in known if each.until is None or each.until > timestamp(now)]


def signature(secret: str, event_id: str, sent_at: str, body: bytes) -> str:
    """As Standard Webhooks 1.0 has it, over id, time in Unix seconds, and body."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{event_id}.{sent_at}.".encode() + body
    return f"v1,{base64.b64encode(hmac.digest(key, signed, 'sha256')).decode()}"


def _retry_after_s(response: "HTTPResponse", now: datetime) -> int:
    """Seconds that a busy destination asks for (RFC 9110, 10.2.3), a date or a number of them."""
    asked = response.headers["retry-after"] or ""
    if response.status not in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        return 0
    if re.fullmatch(r"[0-9]{1,9}", asked):
        return min(int(asked), MAX_DELAY_S)
    with suppress(ValueError, TypeError, OverflowError):  # no date, or one without a zone
        left_s = (parsedate_to_datetime(asked) - now).total_seconds()
        return max(0, min(int(left_s), MAX_DELAY_S))
    return 0


def _left_s(until: str | None, services: Services) -> int:
    """Seconds until a time, if any, and up to a fifth more, so that not all come back at once."""
    if until is None:
        return 0
    left_s = (datetime.fromisoformat(until) - services.clock()).total_seconds()
    return min(int(max(0.0, left_s) * random.uniform(1, 1.2)) + 1, MAX_DELAY_S)  # noqa: S311


def _json(members: Mapping[str, Any]) -> str:
    return json.dumps(members, separators=(",", ":"))
