"""What is stored and sent comes back the same."""

import json
import math
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.model import Fingerprint, Image, ImageStatus, Original
from chalicelib.plain import from_plain, to_plain


def anything_of(kind: Any) -> st.SearchStrategy[Any]:
    """Every value that a field of this type can have. No NaN: nothing equals it."""
    if get_origin(kind) is UnionType:
        return st.one_of(
            st.none() if option is type(None) else anything_of(option) for option in get_args(kind)
        )
    if get_origin(kind) is tuple:
        return st.lists(anything_of(get_args(kind)[0]), max_size=3).map(tuple)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return st.builds(
            kind, **{field.name: anything_of(hints[field.name]) for field in fields(kind)}
        )
    if issubclass(kind, StrEnum):
        return st.sampled_from(list(kind))
    plain: dict[Any, st.SearchStrategy[Any]] = {
        str: st.text(max_size=20),
        int: st.integers(),
        float: st.floats(allow_nan=False, allow_infinity=False),
        bool: st.booleans(),
    }
    return plain[kind]


@settings(max_examples=100, deadline=None)
@given(anything_of(Image))
def test_every_image_comes_back_from_json(image: Image) -> None:
    """Whatever an image holds, empty members included, JSON and back gives the same image."""
    assert from_plain(Image, json.loads(json.dumps(to_plain(image)))) == image


def test_empty_member_without_a_default_is_kept() -> None:
    """A picture that is transparent all over has no colours, and can be read again."""
    blank = Fingerprint(phash="0" * 16, placeholder="", colors=())

    assert from_plain(Fingerprint, to_plain(blank)) == blank


def test_empty_members_with_a_default_are_left_out() -> None:
    """They cost bytes and say nothing; a number or a boolean says something, 0 and False too."""
    original = Original("k", "v", "e", 1, "s", "2026-01-31T09:15:00.000Z")
    image = Image(original, ImageStatus.QUEUED, "2026-01-31T09:15:00.000Z", revision=1)

    plain = to_plain(image)

    assert plain == {
        "original": to_plain(original),
        "status": "QUEUED",
        "updated_at": "2026-01-31T09:15:00.000Z",
        "revision": 1,
        "attempt": 0,
        "lost": 0,
        "released": False,
        "announced": False,
    }
    assert type(plain["status"]) is str


def test_null_is_nothing() -> None:
    """A member that is null, as other writers of JSON have it, is None."""
    original = Original("k", "v", "e", 1, "s", "2026-01-31T09:15:00.000Z")
    image = Image(original, ImageStatus.QUEUED, "2026-01-31T09:15:00.000Z", revision=1)

    assert from_plain(Image, to_plain(image) | {"failure": None, "processed_at": None}) == image


def test_enum_of_an_unknown_value_is_refused() -> None:
    """A status that this version does not know is an error and not a guess."""
    plain = {"original": {}, "status": "LOST", "revision": 1, "updated_at": ""}

    with pytest.raises((TypeError, ValueError)):
        from_plain(Image, plain)


@pytest.mark.parametrize("value", [None, 3, "text", [], ["key"], {}, {"key": "k"}])
def test_anything_else_is_refused(value: Any) -> None:
    """What is no such dataclass is a TypeError or a ValueError, and nothing else."""
    with pytest.raises((TypeError, ValueError)):
        from_plain(Original, value)


def test_unknown_member_is_passed_over() -> None:
    """What a newer version of the pipeline has stored can be read by an older one."""

    @dataclass(frozen=True)
    class Newer:
        value: float
        more: str = "x"

    @dataclass(frozen=True)
    class Older:
        value: float

    assert from_plain(Older, to_plain(Newer(math.pi))) == Older(math.pi)
