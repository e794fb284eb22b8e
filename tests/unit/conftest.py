"""A receiver of webhooks, for tests of all that is about them."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from chalicelib import deliveries, webhooks
from chalicelib.model import Destination
from tests.fakes import FakeServices
from tests.receiver import Receiver, listening
from tests.waiting import TIMEOUT_S


@pytest.fixture
def receiver(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver that lives at the time of the services' clock, and may take its own."""

    class Now(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            assert tz
            return services.clock()

    monkeypatch.setattr("standardwebhooks.webhooks.datetime", Now)
    for limit in ("CONNECT_TIMEOUT_S", "TOTAL_TIMEOUT_S"):
        monkeypatch.setattr(deliveries, limit, TIMEOUT_S)
    with listening() as receiver:
        yield receiver


@pytest.fixture
def destination(services: FakeServices, receiver: Receiver) -> Destination:
    """The receiver, registered for everything."""
    made = webhooks.register(receiver.url, (), (), "mine", services)
    receiver.secrets = [made.secrets[0].value]
    return made
