"""Requests read and checked by botocore's own model of the service.

So every operation that is added gets the real constraints without a line of code.
"""

import base64
import binascii
import re
from collections.abc import Callable
from functools import cache
from typing import Any

from botocore.loaders import Loader
from botocore.model import OperationNotFoundError, ServiceModel, Shape

from localcloud.rekognition.errors import ServiceError

_TARGET_PREFIX = "RekognitionService."
_NUMBERS = ("integer", "long", "float")


@cache
def service() -> ServiceModel:
    return ServiceModel(Loader().load_service_model("rekognition", "service-2"), "rekognition")


def operation_of(target: str) -> str:
    """The operation an ``X-Amz-Target`` names. Raises UnknownOperationException."""
    name = target.removeprefix(_TARGET_PREFIX)
    try:
        service().operation_model(name)
    except OperationNotFoundError:
        raise ServiceError("UnknownOperationException") from None
    return name


def read(operation: str, body: Any) -> dict[str, Any]:
    """The request's members that the model knows, blobs as bytes.

    Raises SerializationException for a wrong type and ValidationException, which names every
    constraint that is broken, as the real service does before it looks at the picture.
    """
    request: dict[str, Any] = checked(service().operation_model(operation).input_shape, body)
    return request


def checked(shape: Any, value: Any) -> Any:
    """What the model knows of a value of that shape. Raises as ``read`` does."""
    broken: list[str] = []
    known = _read(shape, value, "", broken)
    if broken:
        errors = "error" if len(broken) == 1 else "errors"
        raise ServiceError(
            "ValidationException",
            f"{len(broken)} validation {errors} detected: {'; '.join(broken)}",
        )
    return known


def _read(shape: Any, value: Any, path: str, broken: list[str]) -> Any:
    return _READERS[shape.type_name](shape, value, path, broken)


def _structure(shape: Any, value: Any, path: str, broken: list[str]) -> dict[str, Any]:
    _expect(isinstance(value, dict), path)
    broken += [
        f"Value null at '{_member(path, name)}' failed to satisfy constraint: "
        "Member must not be null"
        for name in shape.required_members
        if value.get(name) is None
    ]
    return {
        name: _read(member, value[name], _member(path, name), broken)
        for name, member in shape.members.items()
        if value.get(name) is not None
    }


def _list(shape: Any, value: Any, path: str, broken: list[str]) -> list[Any]:
    _expect(isinstance(value, list), path)
    _check_range(shape, len(value), value, path, broken)
    return [
        _read(shape.member, member, f"{path}.{number}.member", broken)
        for number, member in enumerate(value, 1)
    ]


def _string(shape: Any, value: Any, path: str, broken: list[str]) -> str:
    _expect(isinstance(value, str), path)
    _check_range(shape, len(value), value, path, broken)
    if shape.enum and value not in shape.enum:
        _add(value, path, f"satisfy enum value set: [{', '.join(shape.enum)}]", broken)
    pattern = shape.metadata.get("pattern")
    if pattern and not re.fullmatch(pattern, value):
        _add(value, path, f"satisfy regular expression pattern: {pattern}", broken)
    return str(value)


def _blob(shape: Any, value: Any, path: str, broken: list[str]) -> bytes:
    _expect(isinstance(value, str), path)
    try:
        blob = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        _expect(holds=False, path=path)
    size = len(blob)
    shown = f"java.nio.HeapByteBuffer[pos=0 lim={size} cap={size}]"
    _check_range(shape, size, shown, path, broken)
    return blob


def _number(shape: Any, value: Any, path: str, broken: list[str]) -> float:
    integral = shape.type_name != "float"
    _expect(
        not isinstance(value, bool) and isinstance(value, int if integral else int | float), path
    )
    _check_range(shape, value, value, path, broken)
    return int(value) if integral else float(value)


def _boolean(_shape: Shape, value: Any, path: str, _broken: list[str]) -> bool:
    _expect(isinstance(value, bool), path)
    return bool(value)


_READERS: dict[str, Callable[[Any, Any, str, list[str]], Any]] = {
    "structure": _structure,
    "list": _list,
    "string": _string,
    "blob": _blob,
    "integer": _number,
    "long": _number,
    "float": _number,
    "boolean": _boolean,
}


def _check_range(shape: Shape, size: float, value: Any, path: str, broken: list[str]) -> None:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    what = "value" if shape.type_name in _NUMBERS else "length"
    if low is not None and size < low:
        _add(value, path, f"have {what} greater than or equal to {low}", broken)
    if high is not None and size > high:
        _add(value, path, f"have {what} less than or equal to {high}", broken)


def _add(value: Any, path: str, rule: str, broken: list[str]) -> None:
    broken.append(f"Value '{value}' at '{path}' failed to satisfy constraint: Member must {rule}")


def _member(path: str, name: str) -> str:
    camel = name[0].lower() + name[1:]
    return f"{path}.{camel}" if path else camel


def _expect(holds: bool, path: str) -> None:  # noqa: FBT001
    if not holds:
        raise ServiceError("SerializationException", f"The value of '{path}' has a wrong type")
