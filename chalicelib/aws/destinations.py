"""DynamoDB: who is told by webhooks, how each of them fares, and what it was told.

All of it lies in the catalog's table (``layout``). A record is only written as it was read, by the
revision that it had then.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from chalicelib.aws import entries_at
from chalicelib.aws.layout import (
    ABSENT,
    CIRCUIT,
    DESTINATIONS,
    NEWEST,
    UNCHANGED,
    circuit_key,
    cursor_of,
    deliveries_partition,
    delivery_key,
    deserialize,
    destination_key,
    position_at,
    right_below,
    serialize,
)
from chalicelib.errors import StaleRevision
from chalicelib.model import Circuit, Delivery, DeliveryPage, Destination
from chalicelib.plain import from_plain, to_plain

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

DELIVERY_TTL = timedelta(days=30)
"""How long after its event a delivery is remembered."""


@dataclass(frozen=True, slots=True)
class Destinations:
    client: "DynamoDBClient"
    table: str

    def listed(self, configured: Iterable[Destination]) -> list[Destination]:
        """These and then those that are registered, oldest first, each with how it fares."""
        pages = self.client.get_paginator("query").paginate(
            TableName=self.table,
            KeyConditionExpression="pk = :destinations",
            ExpressionAttributeValues={":destinations": {"S": DESTINATIONS}},
            ConsistentRead=True,
        )
        registered: list[Destination] = []
        circuits: dict[str, Circuit] = {}
        for entry in (entry for page in pages for entry in page["Items"]):
            destination_id = entry["sk"]["S"]
            if destination_id.endswith(CIRCUIT):
                circuits[destination_id.removesuffix(CIRCUIT)] = _loaded(Circuit, entry)
            else:
                registered.append(_loaded(Destination, entry))
        return [
            replace(each, circuit=circuits.get(each.destination_id, Circuit()))
            for each in (*configured, *sorted(registered, key=lambda each: each.created_at))
        ]

    def save(self, destination: Destination, previous: Destination | None) -> Destination:
        """Write a destination, but for how it fares. Raises StaleRevision."""
        saved = replace(destination, revision=previous.revision + 1 if previous else 1)
        entry = _stored(saved) | destination_key(saved.destination_id)
        del entry["circuit"]
        _put(self.client, self.table, entry, previous)
        return saved

    def remove(self, destination_id: str) -> None:
        for key in (destination_key(destination_id), circuit_key(destination_id)):
            self.client.delete_item(TableName=self.table, Key=key)

    def circuit(self, destination_id: str) -> Circuit:
        """How a destination fares, as it is now (a consistent read)."""
        answer = self.client.get_item(
            TableName=self.table, Key=circuit_key(destination_id), ConsistentRead=True
        )
        return _loaded(Circuit, answer["Item"]) if "Item" in answer else Circuit()

    def save_circuit(self, destination_id: str, circuit: Circuit, previous: Circuit) -> Circuit:
        """Write how a destination fares. Raises StaleRevision."""
        saved = replace(circuit, revision=previous.revision + 1)
        entry = _stored(saved) | circuit_key(destination_id)
        _put(self.client, self.table, entry, previous if previous.revision else None)
        return saved


@dataclass(frozen=True, slots=True)
class Deliveries:
    client: "DynamoDBClient"
    table: str

    def get(self, destination_id: str, event_id: str) -> Delivery | None:
        """The delivery as it is now (a consistent read), or None."""
        answer = self.client.get_item(
            TableName=self.table, Key=delivery_key(destination_id, event_id), ConsistentRead=True
        )
        return _loaded(Delivery, answer["Item"]) if "Item" in answer else None

    def save(self, delivery: Delivery, previous: Delivery | None) -> Delivery:
        """Write a delivery. Raises StaleRevision."""
        saved = replace(delivery, revision=previous.revision + 1 if previous else 1)
        expires_at = datetime.fromisoformat(saved.event_time) + DELIVERY_TTL
        entry = _stored(saved) | delivery_key(saved.destination_id, saved.event_id)
        entry |= {
            "listing": {"S": deliveries_partition(saved.destination_id)},
            "listed_at": {"S": f"{saved.event_time}#{saved.event_id}"},
            "expires_at": {"N": str(int(expires_at.timestamp()))},
        }
        _put(self.client, self.table, entry, previous)
        return saved

    def page(self, destination_id: str, limit: int, cursor: str | None) -> DeliveryPage:
        """What a destination was told, newest first, ``limit`` (100 at most) at a time.

        Raises InvalidRequest for a cursor that is not ours.
        """
        answer = self.client.query(
            TableName=self.table,
            IndexName="listing",
            KeyConditionExpression="listing = :deliveries AND listed_at <= :before",
            ExpressionAttributeValues={
                ":deliveries": {"S": deliveries_partition(destination_id)},
                ":before": {"S": right_below(position_at(cursor)) if cursor else NEWEST},
            },
            ScanIndexForward=False,
            Limit=limit,
        )
        listed = [entry["listed_at"]["S"] for entry in answer["Items"]]
        keys = [{"pk": entry["pk"], "sk": entry["sk"]} for entry in answer["Items"]]
        found = [_loaded(Delivery, entry) for entry in entries_at(self.client, self.table, keys)]
        return DeliveryPage(
            tuple(
                sorted(
                    (replace(each, payload=b"") for each in found),
                    key=lambda each: (each.event_time, each.event_id),
                    reverse=True,
                )
            ),
            cursor_of(listed[-1]) if "LastEvaluatedKey" in answer else None,
        )


def _stored(record: Destination | Circuit | Delivery) -> dict[str, Any]:
    return {name: serialize(value) for name, value in to_plain(record).items()}


def _loaded(kind: Any, entry: Any) -> Any:
    return from_plain(kind, {name: deserialize(value) for name, value in entry.items()})


def _put(
    client: "DynamoDBClient",
    table: str,
    entry: Any,
    previous: Destination | Circuit | Delivery | None,
) -> None:
    condition: Any = {"ConditionExpression": ABSENT}
    if previous:
        revision = {":revision": {"N": str(previous.revision)}}
        condition = {"ConditionExpression": UNCHANGED, "ExpressionAttributeValues": revision}
    try:
        client.put_item(TableName=table, Item=entry, **condition)
    except client.exceptions.ConditionalCheckFailedException as error:
        raise StaleRevision("The record has changed since it was read.") from error
