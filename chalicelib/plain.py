"""Dataclasses to plain JSON values and back, by their type hints.

Serves the catalog and the messages alike. Libraries for this (cattrs, pydantic) cost a cold start
more than these lines: what is stored is frozen dataclasses of strings, numbers, enums, tuples of
one type, and each other.
"""

import json
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")

type_hints = cache(get_type_hints)


def to_plain(value: object) -> Any:
    """Dicts, lists, strings, numbers and booleans.

    Fields that are None or empty are left out, but for those without a default.
    """
    if is_dataclass(value) and not isinstance(value, type):
        members = ((field, to_plain(getattr(value, field.name))) for field in fields(value))
        return {
            field.name: member
            for field, member in members
            if member not in (None, [], {}) or field.default is MISSING
        }
    if isinstance(value, tuple | list):
        return [to_plain(member) for member in value]
    return str(value) if isinstance(value, str) else value


def answered_bytes(value: Any) -> int:
    """What a JSON value takes in an answer: JSON, which Lambda hands over within JSON."""
    return len(json.dumps(json.dumps(value)))


def from_plain(kind: type[T], value: Any) -> T:
    """The dataclass that ``to_plain`` made ``value`` of. Unknown members are passed over.

    Raises TypeError or ValueError when a member is missing or of another type.
    """
    made: T = _member(kind, value)
    return made


def _member(kind: Any, value: Any) -> Any:
    if get_origin(kind) is UnionType:
        if value is None:
            return None
        kind = next(option for option in get_args(kind) if option is not type(None))
    if get_origin(kind) is tuple:
        return tuple(_member(get_args(kind)[0], member) for member in value)
    return _made(kind, value) if is_dataclass(kind) else kind(value)


def _made(kind: Any, members: Any) -> Any:
    hints = type_hints(kind)
    return kind(**{name: _member(hints[name], members[name]) for name in hints if name in members})
