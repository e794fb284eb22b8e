"""What a client may say, declared once: read by these declarations and documented by them."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from chalicelib.errors import InvalidRequest
from chalicelib.messages import timestamp

MOST_UNKNOWN = 10
"""Names that an answer tells of those that there are not: nobody needs thousands of them."""

SIGNATURE_PREFIX = "x-amz-"
"""Parameters of a request that is signed in its query (AWS Signature Version 4); none of ours."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One thing that a client may say, in the query, the path, a header or a member of JSON.

    ``parse`` raises ValueError that says what it has to be ("is a number from 0 to 100"), and
    ``schema`` says the same as JSON Schema. ``qualifies`` names those of which it needs one: by
    itself it would be passed over.
    """

    name: str
    about: str
    example: Any
    parse: Callable[[Any], Any] = str
    schema: Mapping[str, Any]
    default: Any = None
    required: bool = False
    repeats: bool = False
    qualifies: tuple[str, ...] = ()
    where: Literal["query", "path", "header", "body"] = "query"


def read_query(
    parameters: Iterable[Parameter],
    given: Mapping[str, Sequence[str]],
    headers: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The values of these parameters, by name, from a query in which each may come several times.

    Those that are headers are read, too. Raises InvalidRequest that names each that is at fault.
    """
    parameters = list(parameters)
    declared = {parameter.name: parameter for parameter in parameters if parameter.where == "query"}
    wrong: dict[str, str] = {}
    heard: dict[str, Any] = {}
    for each in parameters:
        if each.where == "header":
            heard[each.name] = _heard(each, headers or {}, wrong)
    single: dict[str, Any] = {}
    for name, values in given.items():
        parameter = declared.get(name)
        if parameter is not None and not parameter.repeats and len(values) > 1:
            wrong[name] = "may be given once only"
        elif parameter is not None or not name.lower().startswith(SIGNATURE_PREFIX):
            single[name] = list(values) if parameter and parameter.repeats else values[0]
    return heard | _read(declared, single, wrong)


def _heard(parameter: Parameter, headers: Mapping[str, str], wrong: dict[str, str]) -> Any:
    said = headers.get(parameter.name.lower())
    try:
        return parameter.default if said is None else parameter.parse(said)
    except ValueError as error:
        wrong[parameter.name] = str(error)
        return parameter.default


def read_members(parameters: Iterable[Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of these members of a JSON object. Raises InvalidRequest that names each fault."""
    declared = {parameter.name: parameter for parameter in parameters if parameter.where == "body"}
    return _read(declared, given, {})


def _read(
    declared: Mapping[str, Parameter], given: Mapping[str, Any], wrong: dict[str, str]
) -> dict[str, Any]:
    read = {name: parameter.default for name, parameter in declared.items()}
    for name in given.keys() & declared.keys():
        try:
            read[name] = declared[name].parse(given[name])
        except (TypeError, ValueError) as error:
            wrong[name] = str(error)
    for name, parameter in declared.items():
        if parameter.required and name not in given:
            wrong[name] = "is missing"
        if name in given and parameter.qualifies and given.keys().isdisjoint(parameter.qualifies):
            others = " or ".join(parameter.qualifies)
            wrong.setdefault(name, f"is for {others}, of which there is none")
    unknown = sorted(given.keys() - declared.keys())
    for name in unknown[:MOST_UNKNOWN]:
        wrong[name[:80]] = f"is not known here; there is {', '.join(declared) or 'none'}"
    if wrong:
        raise invalid(wrong)
    return read


def invalid(wrong: Mapping[str, str]) -> InvalidRequest:
    """The error that names each parameter that is at fault, and what it has to be."""
    faults = "; ".join(f"{name!r} {fault}" for name, fault in sorted(wrong.items()))
    return InvalidRequest(f"{faults}.", wrong)


# ── parsers ──────────────────────────────────────────────────────────────────────────────────────


# RFC 3339. A "+" of a zone that nobody has percent-encoded arrives as a space.
DATE_OR_TIME = (
    r"\d{4}-\d\d-\d\d"
    r"([T ]\d\d:\d\d(:\d\d([.,]\d+)?)?(Z|[-+ ]\d\d:?\d\d)?)?"
)


def matching(pattern: str, meaning: str) -> Callable[[Any], str]:
    """Parses text that matches all of a pattern."""

    def parse(value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ValueError(meaning)
        return value

    return parse


def text(least: int, most: int) -> Callable[[Any], str]:
    """Parses text of so many characters."""

    def parse(value: Any) -> str:
        if not isinstance(value, str) or not least <= len(value) <= most:
            raise ValueError(f"is a text of {least} to {most} characters")
        if any("\ud800" <= char <= "\udfff" for char in value):
            raise ValueError("is not valid Unicode")
        return value

    return parse


def optional(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Parses what may also be null in JSON."""
    return lambda value: None if value is None else parse(value)


def several(parse: Callable[[Any], Any], most: int) -> Callable[[Any], tuple[Any, ...]]:
    """Parses each of up to so many values."""

    def parse_all(values: Sequence[Any]) -> tuple[Any, ...]:
        if len(values) > most:
            raise ValueError(f"may come up to {most} times")
        return tuple(parse(value) for value in values)

    return parse_all


def list_of(parse: Callable[[Any], Any], most: int) -> Callable[[Any], tuple[Any, ...]]:
    """Parses an array of JSON with up to so many values; each counts once."""

    def parse_all(values: Any) -> tuple[Any, ...]:
        if not isinstance(values, list) or len(values) > most:
            raise ValueError(f"is a list of up to {most}")
        try:
            return tuple(dict.fromkeys(map(parse, values)))
        except ValueError as error:
            raise ValueError(f"is a list of which each {error}") from error

    return parse_all


def whole(least: int, most: int) -> Callable[[Any], int]:
    """Parses a whole number, as text or as JSON has it."""

    def parse(value: Any) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # JSON Schema knows no difference
        shown = str(value)
        if isinstance(value, bool) or not (shown.isascii() and shown.isdecimal()):
            raise ValueError(f"is a whole number from {least} to {most}, not {shown!r:.40}")
        if len(shown) > len(str(most)) + 20 or not least <= int(shown) <= most:
            raise ValueError(f"is a whole number from {least} to {most}, not {shown!r:.40}")
        return int(shown)

    return parse


def number(least: float, most: float) -> Callable[[str], float]:
    """Parses a number, to two decimals: DynamoDB takes none as small as a float can be."""

    def parse(shown: str) -> float:
        is_number = re.fullmatch(r"-?[0-9]{1,40}(\.[0-9]{1,40})?([eE]-?[0-9]{1,3})?", shown)
        value = round(float(shown), 2) if is_number else least - 1
        if not least <= value <= most:
            raise ValueError(f"is a number from {least:g} to {most:g}, not {shown!r:.40}")
        return value

    return parse


def one_of(choices: Iterable[str]) -> Callable[[str], str]:
    """Parses one of these words, in whatever case."""
    words = {choice.casefold(): choice for choice in choices}

    def parse(shown: Any) -> str:
        if str(shown).casefold() not in words:
            raise ValueError(f"is one of {', '.join(words.values())}, not {str(shown)!r:.40}")
        return words[str(shown).casefold()]

    return parse


def moment(*, ends: bool) -> Callable[[str], str]:
    """Parses a date or a time (ISO 8601) into a timestamp; without a zone it is in UTC.

    A date is its first moment or, with ``ends``, its last.
    """

    def parse(shown: str) -> str:
        try:
            return _timestamp(shown, ends=ends)
        except (ValueError, OverflowError) as error:
            raise ValueError(
                f"is a date or time such as 2026-01-31 or 2026-01-31T09:15:00Z, not {shown!r:.40}"
            ) from error

    return parse


def _timestamp(shown: str, *, ends: bool) -> str:
    if not re.fullmatch(DATE_OR_TIME, shown, re.IGNORECASE):
        raise ValueError(shown)
    value = datetime.fromisoformat(shown[:11] + shown[11:].replace(" ", "+"))
    if ends and len(shown) == len("2026-01-31"):
        value += timedelta(days=1, milliseconds=-1)
    return timestamp(value if value.tzinfo else value.replace(tzinfo=UTC))
