"""Images to save, and what a catalog says of them: what its tests have in common."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from chalicelib.aws.catalog import Catalog
from chalicelib.aws.layout import SHARDS
from chalicelib.messages import timestamp
from chalicelib.model import Image, ImageStatus, Label, Original, Page, Query, Recognition
from tests.adapters.conftest import Operations
from tests.fakes import FakeCatalog

MOMENT = datetime.fromisoformat("2026-01-31T09:15:00.000Z")


def image(
    number: int = 0,
    *labels: Label,
    status: ImageStatus = ImageStatus.COMPLETED,
    seconds: int | None = None,
    **members: Any,
) -> Image:
    """The first record of an image; it was uploaded ``number`` seconds after the first one."""
    moment = timestamp(MOMENT + timedelta(seconds=number if seconds is None else seconds))
    original = Original(f"uploads/{number}.jpg", f"version-{number}", "etag", 1, "0" * 32, moment)
    recognition = Recognition(labels)
    return replace(Image(original, status, moment, recognition=recognition), **members)


def changed(either: Catalog | FakeCatalog, previous: Image, **members: Any) -> Image:
    """The record once it has been saved with other members."""
    return either.save(replace(previous, **members), previous)


def keys(page: Page) -> list[str]:
    return [each.original.key for each in page.images]


def numbers(page: Page) -> list[int]:
    return [int(key.removeprefix("uploads/").removesuffix(".jpg")) for key in keys(page)]


def everything(catalog: Catalog) -> list[dict[str, Any]]:
    """Every item of the table. PartiQL reads it, as the client may not scan."""
    statement = f'SELECT * FROM "{catalog.table}"'  # noqa: S608 - a name of our own
    items: list[dict[str, Any]] = []
    request = {"Statement": statement}
    while True:
        answer = catalog.client.execute_statement(**request)
        items += answer["Items"]
        if not answer.get("NextToken"):
            return items
        request["NextToken"] = answer["NextToken"]


def counts(catalog: Catalog) -> dict[str, int]:
    """How many images have each label, by the counts. They have to agree with the entries."""
    counted: Counter[str] = Counter()
    entered: Counter[str] = Counter()
    for item in everything(catalog):
        kind, _, rest = item["pk"]["S"].partition("#")
        if kind in ("COUNTS", "CHANGES"):
            numbers = item["by"]["M"] if kind == "CHANGES" else item
            counted.update(
                {
                    name[1:]: int(number["N"])
                    for name, number in numbers.items()
                    if name.startswith("=")
                }
            )
        elif kind == "LABEL":
            entered[rest.rpartition("#")[0]] += 1
    assert min(counted.values(), default=0) >= 0, counted
    present = {label: number for label, number in counted.items() if number}
    assert {label.casefold(): number for label, number in present.items()} == dict(entered)
    return present


def some_labels(number: int, name: str = "Label", confidence: float = 90) -> list[Label]:
    return [Label(f"{name} {each}", confidence) for each in range(number)]


def names(labels: Iterable[Label]) -> dict[str, int]:
    """The counts where one image has these labels."""
    return {label.name: 1 for label in labels}


def filled(either: Catalog | FakeCatalog, images: Sequence[Image]) -> list[Image]:
    """The records of these images once they are saved."""
    return [either.save(each, previous=None) for each in images]


def paged(either: Catalog | FakeCatalog, query: Query) -> Iterator[Page]:
    """Every page of a query."""
    while True:
        page = either.browse(query)
        yield page
        if page.cursor is None:
            return
        query = replace(query, cursor=page.cursor)


def scanned_by(operations: Operations) -> list[int]:
    """How many entries each query from now on has looked at."""
    scanned: list[int] = []
    operations.change_answer(
        "dynamodb.Query", lambda answer: scanned.append(answer["ScannedCount"])
    )
    return scanned


def told(either: Catalog | FakeCatalog, prefix: str = "") -> list[tuple[str, int]]:
    return [(each.name, each.images) for each in either.label_counts(prefix)]


def folded(catalog: Catalog) -> None:
    for shard in range(SHARDS):
        catalog.fold(shard)
