"""Logs: one JSON object a line on stdout, with what is known of the invocation and the image.

What a line is about is bound around the work (``bound``) and not handed from call to call, so that
whoever logs (botocore, too) says it without knowing it. A thread starts with what was bound where
its work was handed over (``carried``).

Nothing that opens a door is written: neither the query of a URL, which may be a signature, nor the
credentials of a request, wherever in a line they stand.
"""

import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from datetime import UTC, datetime
from functools import partial
from traceback import format_exception
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

TRACE_HEADER = "_X_AMZN_TRACE_ID"
"""The variable in which Lambda says what each invocation is traced as."""

FACTS: ContextVar[Mapping[str, str]] = ContextVar("FACTS", default=MappingProxyType({}))

OWN_FIELDS = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}
"""What every record has; anything else was given as ``extra``."""

NAME = (
    r"(?:signature|credentials?|token|authorization|password|secret|cookie|api[_-]?key"
    r"|access[_-]?key(?:[_-]?id)?)"
)
SECRET_NAME = re.compile(rf".*{NAME}", re.IGNORECASE)

EQUALS = r"""\\*["']?\s*(?:=|:|%3d)\s*\\*["']?"""
"""Between a name and its value: in a query, a header, or JSON, perhaps escaped."""

SCHEME = r"(?:(?:basic|bearer|token|aws4-hmac-sha256)\s+)?"
VALUE = r"""[^\s"'\\,;&<>()\[\]{}]+"""

SECRETS = {
    r"""(://[^\s"<>?#]{0,2048}[?#])[^\s"<>]+""": r"\1***",  # behind the address in a URL
    r"""(://)[^\s"<>/?#]{0,2048}@""": r"\1***@",  # and in whose name it is asked for
    rf"(?i)({NAME}{EQUALS}){SCHEME}{VALUE}": r"\1***",
    rf"(?i)\b(bearer\s+){VALUE}": r"\1***",  # wherever a header is quoted
    r"\bwhsec_[\w+/=]+": "***",  # what webhooks are signed with
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b": "***",  # access keys, long-lived and temporary
}


def redacted(text: str) -> str:
    """A text without queries of URLs, their user information, signatures and credentials."""
    for pattern, shown in SECRETS.items():
        text = re.sub(pattern, shown, text)
    return text


def json_line(fields: Mapping[str, Any]) -> str:
    """An object for stdout, on one line, redacted all the way down."""
    return json.dumps(_cleaned(fields))


def _cleaned(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            str(name): "***" if SECRET_NAME.fullmatch(str(name)) else _cleaned(member)
            for name, member in value.items()
        }
    if isinstance(value, list | tuple):
        return [_cleaned(member) for member in value]
    return value if isinstance(value, int | float | None) else redacted(str(value))


class JsonLines(logging.Formatter):
    """What is bound, given as ``extra``, and raised goes into a line beside its message."""

    def format(self, record: logging.LogRecord) -> str:
        extra = {name: value for name, value in vars(record).items() if name not in OWN_FIELDS}
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(
                timespec="milliseconds"
            ),
            "level": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
            **FACTS.get(),
            **extra,
        }
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            line["exception"] = {
                "type": type(error).__name__,
                "message": str(error),
                "traceback": "".join(format_exception(error)),
            }
        return json_line(line)


def configure() -> None:
    """All loggers, and Python's warnings, on stdout; the level of others is left to the platform.

    The handler of Lambda's runtime goes, or it would write every line a second time.
    """
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    logging.getLogger().handlers[:] = [handler]
    logging.getLogger("image-pipeline").setLevel(logging.INFO)
    logging.captureWarnings(capture=True)


@contextmanager
def bound(**facts: str) -> Iterator[None]:
    """Every line that is logged within says these facts."""
    token = FACTS.set({**FACTS.get(), **facts})
    try:
        yield
    finally:
        FACTS.reset(token)


def carried(act: Callable[P, T]) -> Callable[P, T]:
    """The same act, with the facts of this thread in whichever thread it runs."""
    return partial(copy_context().run, act)


@contextmanager
def invocation(event: Any) -> Iterator[None]:
    """Bind what Lambda says of an invocation: function, request and trace id.

    ``event`` is a request or an event as Chalice hands it to a middleware. What goes wrong is
    redacted on its way out, because Lambda's runtime writes it down by itself.
    """
    context = getattr(event, "lambda_context", None) or getattr(event, "context", None)
    facts = {
        "function": getattr(context, "function_name", ""),
        "request_id": getattr(context, "aws_request_id", ""),
        "trace_id": trace_fields(os.environ).get("Root", ""),
    }
    with bound(**{name: fact for name, fact in facts.items() if fact}):
        try:
            yield
        except Exception as error:
            error.args = tuple(redacted(arg) if isinstance(arg, str) else arg for arg in error.args)
            raise


def trace_fields(environ: Mapping[str, str]) -> dict[str, str]:
    """The trace header of this invocation: ``Root``, ``Parent`` and ``Sampled``, if it has one."""
    pairs = (field.partition("=") for field in environ.get(TRACE_HEADER, "").split(";"))
    return {name: value for name, _, value in pairs if value}
