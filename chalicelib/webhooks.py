"""Webhooks: who is told what became of an image, by which secret they know that it is true.

How they are told is in ``deliveries``. Records are only written as they were read, so each change
reads, decides, writes, and starts again when somebody was faster.
"""

import base64
import json
import secrets
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from time import monotonic

from chalicelib.circuits import switch
from chalicelib.deliveries import TEST, TOTAL_TIMEOUT_S, Job, directory_of, policy_of, valid
from chalicelib.errors import (
    DeliveryNotFound,
    DestinationIsConfigured,
    DestinationNotFound,
    InvalidRequest,
    StaleRevision,
    TooManyDestinations,
    TooManyRotations,
    Unreachable,
)
from chalicelib.messages import timestamp
from chalicelib.model import (
    BY_HAND,
    MAX_DESCRIPTION_LENGTH,
    MAX_WEBHOOK_LABEL_LENGTH,
    MAX_WEBHOOK_LABELS,
    Delivery,
    DeliveryPage,
    Destination,
    EventKind,
    Secret,
    digest,
    is_image_id,
)
from chalicelib.plain import answered_bytes
from chalicelib.services import Services

SECRET_LASTS = timedelta(hours=24)
"""How long messages are signed with a secret, too, once there is a newer one."""

MAX_SECRETS = 5
"""At once: each is a signature in the header of every message."""

MAX_DESTINATIONS = 100
MAX_ANSWERED_BYTES = 45_000
"""Of the texts of one, so that the list of all stays below the 6 MB that Lambda answers with."""


def listed(services: Services) -> Sequence[Destination]:
    """All destinations: those that are configured, then those registered, oldest first."""
    return [*directory_of(services).values()]


def find(destination_id: str, services: Services) -> Destination:
    """Raises DestinationNotFound."""
    destination = directory_of(services).get(destination_id)
    if destination is None:
        raise DestinationNotFound
    return destination


def register(
    url: str,
    statuses: Sequence[str],
    labels: Sequence[str],
    description: str,
    services: Services,
) -> Destination:
    """A destination that is told from now on, with its secret.

    Raises InvalidRequest, also for a host that has no public address, and TooManyDestinations; of
    several that come at once, one or another may be one too many.
    """
    now = services.clock()
    destination = Destination(
        destination_id=digest(secrets.token_hex()),
        url=url,
        secrets=(_new_secret(),),
        statuses=tuple(statuses),
        labels=tuple(labels),
        description=description,
        created_at=timestamp(now),
    )
    _check(destination)
    _check_url(url, services)
    if sum(not each.is_configured for each in listed(services)) >= MAX_DESTINATIONS:
        raise TooManyDestinations(
            f"There are {MAX_DESTINATIONS} webhooks already: remove one first."
        )
    return services.destinations.save(destination, previous=None)


def change(
    destination_id: str,
    services: Services,
    *,
    url: str | None = None,
    statuses: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    description: str | None = None,
) -> Destination:
    """Change what is given. Raises DestinationNotFound, DestinationIsConfigured, InvalidRequest."""
    if url is not None:
        _check_url(url, services)

    def changed(now: Destination) -> Destination:
        destination = replace(
            now,
            url=now.url if url is None else url,
            statuses=now.statuses if statuses is None else tuple(statuses),
            labels=now.labels if labels is None else tuple(labels),
            description=now.description if description is None else description,
        )
        _check(destination)
        return destination

    return _change(destination_id, changed, services)


def rotate(destination_id: str, services: Services) -> Destination:
    """Sign with a new secret, and for 24 hours with those before it, too.

    Raises DestinationNotFound, DestinationIsConfigured, TooManyRotations.
    """
    now = services.clock()
    new = _new_secret()

    def rotated(known: Destination) -> Destination:
        ends_at = timestamp(now + SECRET_LASTS)
        old = [replace(each, until=each.until or ends_at) for each in valid(known.secrets, now)]
        if len(old) >= MAX_SECRETS:
            raise TooManyRotations(
                f"There were {MAX_SECRETS - 1} rotations within 24 hours, too many for another: "
                f"wait until {old[-1].until}."
            )
        return replace(known, secrets=(new, *old))

    return _change(destination_id, rotated, services)


def remove(destination_id: str, services: Services) -> None:
    """What still waits for it is dropped. Raises DestinationNotFound, DestinationIsConfigured."""
    _require_registered(find(destination_id, services))
    services.destinations.remove(destination_id)


def disable(destination_id: str, services: Services) -> Destination:
    """Tell it nothing any more, until it is resumed. Raises DestinationNotFound."""
    find(destination_id, services)
    switch(destination_id, BY_HAND, services)
    return find(destination_id, services)


def resume(destination_id: str, services: Services) -> Destination:
    """Tell it again, whatever has kept it from being told. Raises DestinationNotFound."""
    find(destination_id, services)
    switch(destination_id, "", services)
    return find(destination_id, services)


def send_test(destination_id: str, services: Services) -> str:
    """Have a message of the type ``webhook.test`` sent, even while nothing else is; its event id.

    Raises DestinationNotFound.
    """
    find(destination_id, services)
    event_id = digest(secrets.token_hex())
    details = {
        "event_id": event_id,
        "event_type": TEST,
        "event_version": "1",
        "event_time": timestamp(services.clock()),
    }
    services.webhook_queue.send_bodies([Job(destination_id, details).body])
    return event_id


def deliveries(
    destination_id: str, limit: int, cursor: str | None, services: Services
) -> DeliveryPage:
    """What a destination was told within 30 days. Raises DestinationNotFound, InvalidRequest."""
    find(destination_id, services)
    return services.deliveries.page(destination_id, limit, cursor)


def replay(destination_id: str, event_id: str, services: Services) -> Delivery:
    """Have the very same message sent again, whatever became of it.

    Raises DestinationNotFound, DeliveryNotFound.
    """
    find(destination_id, services)
    delivery = services.deliveries.get(destination_id, event_id) if is_image_id(event_id) else None
    if delivery is None:
        raise DeliveryNotFound
    details = json.loads(zlib.decompress(delivery.payload))
    job = Job(destination_id, details, replayed_at=timestamp(services.clock()))
    services.webhook_queue.send_bodies([job.body])
    return delivery


def _change(
    destination_id: str, change: Callable[[Destination], Destination], services: Services
) -> Destination:
    while True:
        known = find(destination_id, services)
        _require_registered(known)
        with suppress(StaleRevision):
            return services.destinations.save(change(known), previous=known)


def _require_registered(destination: Destination) -> None:
    if destination.is_configured:
        raise DestinationIsConfigured


def _check(destination: Destination) -> None:
    """Raises InvalidRequest."""
    problems: dict[str, str] = {}
    if not {*destination.statuses} <= {*EventKind}:
        problems["statuses"] = f"are of {', '.join(EventKind)}"
    labels = destination.labels
    if len(labels) > MAX_WEBHOOK_LABELS or not all(
        0 < len(each) <= MAX_WEBHOOK_LABEL_LENGTH for each in labels
    ):
        problems["labels"] = (
            f"are up to {MAX_WEBHOOK_LABELS}, of 1 to {MAX_WEBHOOK_LABEL_LENGTH} characters each"
        )
    if len(destination.description) > MAX_DESCRIPTION_LENGTH:
        problems["description"] = f"has up to {MAX_DESCRIPTION_LENGTH} characters"
    size_bytes = answered_bytes((destination.url, destination.description, *labels))
    if not problems and size_bytes > MAX_ANSWERED_BYTES:
        problems["labels"] = (
            f"take up to {MAX_ANSWERED_BYTES} bytes with url and description, "
            f"where each character other than ASCII takes 7 or 14; these take {size_bytes}"
        )
    if problems:
        told = "; ".join(f"{name} {problem}" for name, problem in problems.items())
        raise InvalidRequest(f"The webhook cannot be so: {told}.", problems)


def _check_url(url: str, services: Services) -> None:
    """Raises InvalidRequest for a URL that nothing could be sent to, as it resolves now."""
    from chalicelib.outbound import parse, require_callable  # noqa: PLC0415

    try:
        require_callable(parse(url), policy_of(services), monotonic() + TOTAL_TIMEOUT_S)
    except Unreachable as error:
        told = f"{error}: give one that starts with https:// and leads to a public host, port 443."
        raise InvalidRequest(told, {"url": "leads to no public host over https"}) from error


def _new_secret() -> Secret:
    return Secret(f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}")
