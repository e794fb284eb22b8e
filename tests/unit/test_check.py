"""What counts as right: the rules of a check, without the services it asks."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from chalicelib.messages import timestamp
from chalicelib.model import Image, ImageStatus, Label, OutputFormat, Recognition, Rendition
from infrastructure.check import Kind, Tally, is_recorded, is_stuck, nobodys, row, unlisted, verdict
from tests.fakes import Clock, FakeUploads

CLOCK = Clock()
NOW = CLOCK()
ORIGINAL = FakeUploads(CLOCK).upload("uploads/cat.jpg", b"cat").original
IMAGE_ID = ORIGINAL.image_id


def rendition_key(attempt: int, name: str = "small") -> str:
    return f"thumbnails/{IMAGE_ID}/{attempt}/{name}.jpg"


def image(**changes: Any) -> Image:
    """Completed at the second attempt."""
    small = Rendition("small", rendition_key(2), OutputFormat.JPEG, 1, 1, 1)
    completed = Image(
        *(ORIGINAL, ImageStatus.COMPLETED, timestamp(NOW)),
        attempt=2,
        renditions=(small,),
        recognition=Recognition((Label("Big Cat", 90.0), Label("Pet", 80.5))),
        announced=True,
    )
    return replace(completed, **changes)


def test_original_is_recorded_when_the_record_is_of_it() -> None:
    """A listing tells no version, so the same content will do there; a tombstone never does."""
    listed = replace(ORIGINAL, version_id="", sequencer="")

    assert is_recorded(ORIGINAL, image())
    assert is_recorded(listed, image())
    assert not is_recorded(listed, None)
    assert not is_recorded(listed, image(status=ImageStatus.DELETED))
    assert not is_recorded(replace(listed, etag="other"), image())
    assert not is_recorded(replace(ORIGINAL, version_id="other"), image())


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, [2]),
        ({"status": ImageStatus.QUEUED}, [2]),
        ({"status": ImageStatus.DELETED, "renditions": ()}, []),
        ({"status": ImageStatus.PROCESSING, "attempt": 3}, [2, 3, 10]),
        ({"status": ImageStatus.PROCESSING, "attempt": 10}, [2, 10]),
        ({"status": ImageStatus.PROCESSING, "renditions": ()}, [2, 3, 10]),
    ],
)
def test_rendition_is_somebodys_when_named_or_being_made(
    changes: dict[str, Any], kept: list[int]
) -> None:
    """Those of other attempts are nobody's, unless they belong to one that is under way."""
    attempts = [1, 2, 3, 10]
    keys = [rendition_key(attempt) for attempt in attempts]

    assert nobodys(keys, image(**changes)) == [
        rendition_key(attempt) for attempt in attempts if attempt not in kept
    ]


def test_rendition_that_the_record_does_not_name_is_nobodys() -> None:
    """A specification that is no longer made, in the attempt that is served; or no record."""
    keys = [rendition_key(2), rendition_key(2, "former")]

    assert nobodys(keys, image()) == keys[1:]
    assert nobodys(keys, None) == keys


def test_label_wants_its_entry_with_what_it_says() -> None:
    """An entry that is missing or says something else is told; how a number is written is not."""
    position = f"{ORIGINAL.uploaded_at}#{IMAGE_ID}"
    cat, pet = unlisted(image(), {})
    assert [key[0].split("#")[1] for key in (cat, pet)] == ["big cat", "pet"]
    assert cat[1] == pet[1] == position

    def entry(key: tuple[str, str], cat: str) -> dict[str, Any]:
        confidences = {"big cat": {"N": cat}, "pet": {"N": "80.50"}}
        return {"pk": {"S": key[0]}, "sk": {"S": key[1]}, "confidences": {"M": confidences}}

    assert unlisted(image(), {cat: entry(cat, "90"), pet: entry(pet, "90.0")}) == []
    assert unlisted(image(), {cat: entry(cat, "90"), pet: entry(pet, "91")}) == [pet]
    assert unlisted(image(recognition=Recognition()), {}) == []


@pytest.mark.parametrize(
    ("changes", "is_so"),
    [
        ({}, False),
        ({"announced": False}, True),
        ({"announced": False, "lease_until": timestamp(NOW + timedelta(seconds=1))}, False),
        ({"announced": False, "lease_until": timestamp(NOW - timedelta(seconds=1))}, True),
        ({"announced": False, "updated_at": timestamp(NOW - timedelta(minutes=14))}, False),
        ({"status": ImageStatus.PROCESSING}, True),
        ({"status": ImageStatus.QUEUED}, False),
        ({"status": ImageStatus.QUEUED, "updated_at": timestamp(NOW - timedelta(days=2))}, True),
    ],
)
def test_image_is_stuck_when_nobody_is_at_it(
    changes: dict[str, Any],
    is_so: bool,  # noqa: FBT001 - a parameter
) -> None:
    """Something is left to do, no lease is held, and no message of the queue can be its own."""
    old = {"updated_at": timestamp(NOW - timedelta(minutes=16))}

    assert is_stuck(image(**old | changes), NOW, nothing_waits=False) is is_so


def test_waiting_image_is_stuck_when_the_queue_is_empty() -> None:
    """Its message cannot be behind others."""
    waiting = image(status=ImageStatus.QUEUED, updated_at=timestamp(NOW - timedelta(minutes=16)))

    assert is_stuck(waiting, NOW, nothing_waits=True)


def test_report_is_aligned_and_short() -> None:
    """A line has the number and the first examples, fit to be printed."""
    first = row(Kind.GONE, Tally())
    second = row(Kind.NOBODYS, Tally(1234, 0, ["a\x1b", "b", "c"]))

    assert first.endswith("        0")
    assert second.endswith("    1,234  a?, b, c, …")
    assert first.rindex("0") == second.index("1,234") + 4


@pytest.mark.parametrize(
    ("tallies", "repair", "said"),
    [
        ([Tally(), Tally()], True, "The buckets and the catalog agree."),
        ([Tally(2, 2), Tally(1, 1)], False, "3 found. Nothing was changed: --repair mends them."),
        ([Tally(2), Tally(1)], True, "3 of 3 mended, or enqueued"),
        ([Tally(2), Tally(1, 1)], True, "1 changed meanwhile: run it again."),
    ],
)
def test_verdict_says_what_is_left(
    tallies: list[Tally],
    repair: bool,  # noqa: FBT001 - a parameter
    said: str,
) -> None:
    """One sentence for who runs it."""
    assert said in verdict(tallies, repair=repair)
