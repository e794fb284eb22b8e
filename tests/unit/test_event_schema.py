"""docs/events describes what is announced, and stands where it can be read without the code."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from chalicelib.announcements import EVENT_VERSION, FOUND, announcements_of
from chalicelib.model import Duplicate, EventKind
from tests import schemas
from tests.fakes import FakeServices, uploaded
from tests.unit import test_announcements as told

SCHEMA: dict[str, Any] = json.loads(schemas.FILE.read_text())
EVENTS = Draft202012Validator(SCHEMA)


def faults(details: dict[str, Any]) -> list[str]:
    """What is wrong with the details of an announcement, as a program gets them."""
    return [each.message for each in EVENTS.iter_errors(json.loads(json.dumps(details)))]


def test_schema_is_that_of_the_types() -> None:
    """``make schemas`` writes it."""
    assert schemas.FILE.read_text() == schemas.text()


def test_schema_is_a_schema() -> None:
    """By the specification's own, and its examples are what it describes."""
    Draft202012Validator.check_schema(SCHEMA)
    assert [faults(each) for each in SCHEMA["examples"]] == [[], []]


def test_schema_names_every_kind_and_all_that_may_be_left_out() -> None:
    """What the code adds, the types have to have, too."""
    members = SCHEMA["properties"]

    assert set(members["event_type"]["enum"]) == {f"image.{kind.lower()}" for kind in EventKind}
    assert members["event_version"]["enum"] == [EVENT_VERSION]
    assert {name for name in members if name.endswith("_omitted")} == {
        f"{name}_omitted" for name in FOUND
    }


@pytest.mark.parametrize("name", ["COMPLETED", "FAILED", "QUARANTINED", "DELETED"])
@pytest.mark.parametrize("seen", told.SEEN)
def test_every_announcement_is_as_described(name: str, seen: str) -> None:
    """Of each kind, however much of it is left out."""
    image = replace(
        getattr(told, name),
        recognition=told.SEEN[seen],
        duplicates=(Duplicate(told.FIRST, 0, is_exact=True),),
    )

    for announcement in announcements_of(image):
        assert faults(announcement.details) == []


def test_what_the_pipeline_announces_is_as_described(services: FakeServices) -> None:
    """An image from its upload on, a copy of it, one that is none, and their end."""
    for name, body in (("cat", None), ("copy", None), ("text", b"This is no picture.")):
        uploaded(services, f"uploads/{name}.jpg", *([body] if body else []))

    kinds = [each.kind for each in services.topic.published]
    assert kinds == [
        EventKind.COMPLETED,
        EventKind.COMPLETED,
        EventKind.DUPLICATE,
        EventKind.FAILED,
    ]
    assert [faults(each.details) for each in services.topic.published] == [[]] * 4


def test_details_hold_nothing_that_is_not_described() -> None:
    """A member that is added stands in the schema, too."""
    for image in (told.COMPLETED, told.FAILED, told.QUARANTINED, told.DELETED):
        [announcement] = announcements_of(image)
        assert announcement.details.keys() <= SCHEMA["properties"].keys()


BREAKS: tuple[Callable[[dict[str, Any]], object], ...] = (
    lambda details: details.pop("event_id"),
    lambda details: details.update(event_type="image.lost"),
    lambda details: details.update(status="LOST"),
    lambda details: details.update(revision=-1),
    lambda details: details.update(labels=[{"name": "Cat"}]),
    lambda details: details.update(faces_omitted=0),
)


@pytest.mark.parametrize("spoil", BREAKS)
def test_schema_refuses_what_is_none(spoil: Callable[[dict[str, Any]], object]) -> None:
    """A schema that lets everything pass describes nothing."""
    details = json.loads(json.dumps(announcements_of(told.COMPLETED)[0].details))
    spoil(details)

    assert faults(details)


def test_members_may_be_added() -> None:
    """Without another version: who checks by the schema passes over them."""
    assert faults(announcements_of(told.COMPLETED)[0].details | {"later": 1}) == []
