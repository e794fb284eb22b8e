"""Images as a large catalog has them: what the benchmarks of the catalog write."""

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import accumulate

from chalicelib.messages import timestamp
from chalicelib.model import (
    BoundingBox,
    Description,
    Exif,
    Fingerprint,
    Image,
    ImageStatus,
    Label,
    Original,
    OutputFormat,
    Recognition,
    Rendition,
    TextLine,
)

VOCABULARY = 3_000
"""Labels that Rekognition knows, in round numbers."""

LABELS = 20
"""Of an image: the default of RECOGNITION."""

ROOTS, BRANCHES = 30, 8
"""Labels that nothing is above, and those right below one: up to three are above a label."""

WORDS = 20_000
"""That are written in pictures, the commonest on most of those with text (Zipf)."""

WORDS_A_LINE = 5

BEGIN = datetime(2026, 1, 31, tzinfo=UTC)

NAMES = [f"Label {number:04}" for number in range(VOCABULARY)]
WRITTEN = [f"w{number:05}" for number in range(WORDS)]


def some_labels(chance: random.Random, number: int = LABELS) -> list[str]:
    """Different labels, each as likely as its rank is low (Zipf): the first are on most images."""
    return _some(NAMES, chance, number)


def _some(names: list[str], chance: random.Random, number: int) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < number:
        found[chance.choices(names, cum_weights=_weights(len(names)))[0]] = None
    return list(found)


@cache
def _weights(number: int) -> list[float]:
    return list(accumulate(1 / rank for rank in range(1, number + 1)))


@cache
def above(name: str) -> tuple[str, ...]:
    """The labels above one, the nearest first."""
    rank = NAMES.index(name)
    return () if rank < ROOTS else (NAMES[rank // BRANCHES], *above(NAMES[rank // BRANCHES]))


def with_those_above(chance: random.Random, number: int) -> list[str]:
    """Labels as Rekognition mostly answers: whatever is above one is among them."""
    found: dict[str, None] = {}
    while len(found) < number:
        [name] = some_labels(chance, 1)
        found |= dict.fromkeys([name, *above(name)])
    return list(found)[:number]


def some_text(chance: random.Random, words: int) -> tuple[TextLine, ...]:
    """Lines of different words."""
    found = _some(WRITTEN, chance, words)
    box = BoundingBox(0.1234, 0.1234, 0.5, 0.1)
    lines = (found[n : n + WORDS_A_LINE] for n in range(0, words, WORDS_A_LINE))
    return tuple(TextLine(" ".join(line), 98.76, box) for line in lines)


def moment_of(number: int) -> datetime:
    """When an image was uploaded: a hundred come in a second."""
    return BEGIN + timedelta(seconds=number / 100)


def completed(
    number: int,
    chance: random.Random,
    labels: int = LABELS,
    words: int = 0,
    *,
    parents_besides: bool = False,
) -> Image:
    """A photo as it is once it has gone all the way, with all that is known of it.

    What is above its labels is among these, or (``parents_besides``) none is counted for that.
    """
    moment = timestamp(moment_of(number))
    key = f"uploads/{number:012}/IMG_{number % 10_000:04}.jpg"
    original = Original(key, f"{number:032x}", f"{number:032x}", 3_000_000, f"{number:032}", moment)
    names = (some_labels if parents_besides else with_those_above)(chance, labels)
    seen = tuple(
        Label(name, round(chance.uniform(70, 99.99), 2), above(name), ("Category",))
        for name in names
    )
    image = Image(original, ImageStatus.COMPLETED, moment, attempt=1, announced=True)
    image_id = image.image_id
    sizes = (("thumbnail", 100), ("small", 640), ("large", 1280), ("optimized", 2048))
    return replace(
        image,
        revision=4,
        processed_at=moment,
        pipeline_version="1-abcdef",
        description=Description(
            *("JPEG", 4000, 3000, 3_000_000, "RGB"),
            exif=Exif("Maker", "Model", "Lens", "2026-01-31T09:15:00", 1, 0.01, 1.8, 64, 4.25),
        ),
        fingerprint=Fingerprint(
            *(f"{chance.getrandbits(64):016x}", "A" * 32, ("#aabbcc", "#000000", "#ffffff")),
            sha256=f"{chance.getrandbits(256):064x}",
        ),
        renditions=tuple(
            Rendition(
                *(name, f"thumbnails/{image_id}/1/{name}.jpg", OutputFormat.JPEG),
                *(side, side * 3 // 4, side * 100),
            )
            for name, side in sizes
        ),
        recognition=Recognition(seen, text=some_text(chance, words)),
    )


def life_of(image: Image) -> Iterator[Image]:
    """The records that it had on its way, one after the other, and the one that it has at last."""
    began = datetime.fromisoformat(image.updated_at)
    bare = Image(image.original, ImageStatus.QUEUED, image.updated_at)
    yield bare
    lease = timestamp(began + timedelta(seconds=60))
    yield replace(
        bare,
        status=ImageStatus.PROCESSING,
        updated_at=timestamp(began + timedelta(seconds=1)),
        lease_until=lease,
        attempt=1,
        lost=1,
    )
    done = replace(image, updated_at=timestamp(began + timedelta(seconds=2)))
    yield replace(done, announced=False, lease_until=lease)
    yield replace(done, updated_at=timestamp(began + timedelta(seconds=3)))
