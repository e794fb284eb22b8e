"""A receiver of webhooks, for tests of all that is about them."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from chalicelib import webhooks
from chalicelib.model import Destination
from tests.fakes import FakeServices
from tests.receiver import Receiver, listening


@pytest.fixture
def receiver(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver that lives at the time of the services' clock."""

    class Now(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            assert tz
            return services.clock()

    monkeypatch.setattr("standardwebhooks.webhooks.datetime", Now)
    with listening() as receiver:
        yield receiver


@pytest.fixture
def destination(services: FakeServices, receiver: Receiver) -> Destination:
    """The receiver, registered for everything."""
    made = webhooks.register(receiver.url, (), (), "mine", services)
    receiver.secrets = [made.secrets[0].value]
    return made
