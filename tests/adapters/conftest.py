"""Resources of the adapters' own in the local cloud, so that no function is triggered by them."""

from collections.abc import Callable, Iterator
from functools import cache
from itertools import count
from typing import Any, Self

import pytest
from botocore.awsrequest import AWSResponse

from chalicelib.aws.catalog import Catalog
from localcloud.cloud import LocalCloud
from localcloud.emulator import Emulator
from tests.tables import create_table_like

NUMBERS = count(1)

Action = BaseException | Callable[[], object] | dict[str, Any] | None
"""Before a call: raise this, answer with this error (or the one that this gives), or nothing."""


@pytest.fixture(scope="session")
def client_of(cloud: LocalCloud) -> Callable[[str], Any]:
    """The client of a service, one for all tests: making one takes longer than most of them."""
    return cache(cloud.client)


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    """An AWS with nothing in it but what the tests of a module put there."""
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def table(cloud: LocalCloud, client_of: Callable[[str], Any]) -> Iterator[str]:
    """A fresh table with the keys and indexes of the template's."""
    dynamodb = client_of("dynamodb")
    name = f"adapters-{next(NUMBERS)}"
    create_table_like(dynamodb, cloud.outputs["TableName"], name)
    yield name
    dynamodb.delete_table(TableName=name)


class Operations:
    """The calls that a client makes, in order, and ways to change what goes and what comes.

    A context manager; when it ends, the client is as it was.
    """

    def __init__(self, client: Any) -> None:
        self.made: list[str] = []
        self._events = client.meta.events
        self._registered: list[tuple[str, Callable[..., Any]]] = []
        self._register("provide-client-params", self._note)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for event, handler in self._registered:
            self._events.unregister(event, handler)

    def _register(self, event: str, handler: Callable[..., Any]) -> None:
        self._registered.append((event, handler))
        self._events.register(event, handler)

    def _note(self, model: Any, **_: object) -> None:
        self.made.append(model.name)
        assert model.name != "Scan", "the catalog is read by queries"

    def clear(self) -> None:
        self.made.clear()

    def requests(self, operation: str) -> list[dict[str, Any]]:
        """The parameters of every request of ``service.Operation`` from now on."""
        made: list[dict[str, Any]] = []
        self._register(
            f"provide-client-params.{operation}", lambda params, **_: made.append(params)
        )
        return made

    def before(self, operation: str, *actions: Action) -> None:
        """An action before each of the next calls of ``service.Operation``."""
        waiting = iter(actions)

        def act(**_: object) -> object:
            action = next(waiting, None)
            if isinstance(action, BaseException):
                raise action
            error = action() if callable(action) else action
            return (AWSResponse("", 400, {}, None), error) if isinstance(error, dict) else None

        self._register(f"before-call.{operation}", act)

    def answer(self, operation: str, make: Callable[[], AWSResponse]) -> None:
        """What comes over the network for ``service.Operation``, in place of the local cloud's."""
        self._register(f"before-send.{operation}", lambda **_: make())

    def change_answer(self, operation: str, change: Callable[[dict[str, Any]], object]) -> None:
        """Change the parsed answers of ``service.Operation``."""
        self._register(f"after-call.{operation}", lambda parsed, **_: change(parsed))

    def add_parameters(self, operation: str, **parameters: object) -> None:
        """Add parameters to the requests of ``service.Operation``."""
        self._register(
            f"provide-client-params.{operation}", lambda params, **_: params | parameters
        )


def error_of(code: str, *reasons: str, message: str = "") -> dict[str, Any]:
    """An answer of AWS that refuses a call; reasons are those of a cancelled transaction."""
    answer: dict[str, Any] = {"Error": {"Code": code, "Message": message}}
    if reasons:
        answer["CancellationReasons"] = [{"Code": reason} for reason in reasons]
    return answer


@pytest.fixture
def catalog(client_of: Callable[[str], Any], table: str) -> Catalog:
    return Catalog(client_of("dynamodb"), table)


@pytest.fixture
def operations(catalog: Catalog) -> Iterator[Operations]:
    """What the catalog asks of DynamoDB. A scan fails the test."""
    with Operations(catalog.client) as operations:
        yield operations
