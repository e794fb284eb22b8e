"""One module a service of AWS; each is handed its client and knows nothing of the others."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

T = TypeVar("T")

READ_BATCH = 100
"""BatchGetItem takes at most 100 keys."""


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of at most ``size`` items: what AWS takes in one request is limited everywhere."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def entries_at(
    client: "DynamoDBClient", table: str, keys: Iterable[Any], *, consistent: bool = False
) -> Iterator[Mapping[str, Any]]:
    """What a table has under these keys, in any order."""
    for batch in batches(keys, READ_BATCH):
        unread: Any = batch
        while unread:
            asked: Any = {"Keys": unread, "ConsistentRead": consistent}
            answer = client.batch_get_item(RequestItems={table: asked})
            yield from answer["Responses"].get(table, ())
            left = answer["UnprocessedKeys"].get(table)
            unread = left and left["Keys"]
