"""One module a service of AWS; each is handed its client and knows nothing of the others."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of at most ``size`` items: what AWS takes in one request is limited everywhere."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
