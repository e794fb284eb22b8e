"""Lines of the log: JSON all of them, with what they are about, and nothing that opens a door."""

import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest

from chalicelib import logs, pipeline, worker
from chalicelib.errors import BatchFailed
from chalicelib.logs import TRACE_HEADER, bound, carried, invocation, redacted
from tests.fakes import FakeServices, Outage, message_of
from tests.pictures import photo, saved

Said = Callable[[], list[dict[str, Any]]]
LOG = logging.getLogger("image-pipeline")

SECRETS = {
    "signed URL": "https://b.s3.amazonaws.com/k.jpg?X-Amz-Expires=60&X-Amz-Signature=5EC4E7",
    "signed URL of old": "https://b.s3.amazonaws.com/k?Expires=1&Signature=5EC4E7%3D",
    "any query": "http://example.com/cat.jpg?key=5EC4E7",
    "query with quotes": "http://example.com/?name=it's&key=5EC4E7",
    "query of any letters": "http://example.com/é/?é=ü&key=5EC4E7",
    "fragment": "https://example.com/#key=5EC4E7",
    "user information": "https://somebody:5EC4E7@example.com/cat.jpg",
    "password with an at sign": "https://somebody:p@5EC4E7@example.com/cat.jpg",
    "request line": "GET /b/k.jpg?X-Amz-Date=1&X-Amz-Signature=5EC4E7 HTTP/1.1",
    "credential": "X-Amz-Credential=5EC4E7/20261121/us-east-1/s3/aws4_request",
    "canonical string": "host:example.com\nx-amz-security-token:5EC4E7//8=\n",
    "quoted parameter": "url=https%3A%2F%2Fx%2Fy%3FX-Amz-Signature%3D5EC4E7",
    "authorization": "Authorization: AWS4-HMAC-SHA256 Credential=5EC4E7/s3, Signature=5EC4E7",
    "bearer": "{'Authorization': 'Bearer 5EC4E7.x.y'}",
    "token scheme": "Authorization: Token 5EC4E7",
    "quoted header": "Malformed header 'Bearer 5EC4E7' was sent",
    "key of an API": "X-Api-Key: 5EC4E7",
    "cookie": "Cookie: session=5EC4E7",
    "access key": "InvalidAccessKeyId: AKIAIOSFODNN75EC4E77",
    "temporary key": "ASIAIOSFODNN75EC4E77 is expired",
    "environment": "AWS_SECRET_ACCESS_KEY=5EC4E7/x+y AWS_SESSION_TOKEN=5EC4E7",
    "answer of STS": '{"SecretAccessKey": "5EC4E7", "SessionToken": "5EC4E7=="}',
    "JSON within JSON": json.dumps(json.dumps({"SecretAccessKey": "5EC4E7"})),
    "representation": "{'aws_secret_access_key': '5EC4E7'}",
}


@pytest.fixture
def out(monkeypatch: pytest.MonkeyPatch) -> Iterator[StringIO]:
    """The stdout of a process that has configured its logs."""
    root, out = logging.getLogger(), StringIO()
    before = root.handlers[:]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        logs.configure()
    yield out
    root.handlers[:] = before


@pytest.fixture
def said(out: StringIO) -> Said:
    """What has been logged since it was asked last. Fails at a line that is no JSON."""

    def read() -> list[dict[str, Any]]:
        lines = out.getvalue().split("\n")
        out.seek(0)
        out.truncate()
        return [json.loads(line) for line in lines if line]

    return read


# ── lines ────────────────────────────────────────────────────────────────────────────────────────


def test_line_says_when_how_grave_what_and_who(said: Said) -> None:
    """Time in UTC, level, message and logger are in every line, and the app's own begin at INFO."""
    before = datetime.now(UTC)
    LOG.debug("not told")
    LOG.info("%d of %d", 2, 3)

    [line] = said()

    moment = datetime.fromisoformat(line.pop("timestamp"))
    assert moment.utcoffset() == timedelta(0)
    assert before - timedelta(milliseconds=1) <= moment <= datetime.now(UTC)
    assert line == {"level": "INFO", "message": "2 of 3", "logger": "image-pipeline"}


def test_what_is_given_beside_the_message_is_a_field(said: Said) -> None:
    """``extra`` goes into the line as it is, and as text where JSON has no word for it."""
    LOG.info(
        "done", extra={"attempt": 2, "sizes": (1, 2), "when": datetime(2026, 1, 31, tzinfo=UTC)}
    )

    [line] = said()

    assert (line["attempt"], line["sizes"]) == (2, [1, 2])
    assert line["when"] == "2026-01-31 00:00:00+00:00"


def test_exception_is_told_with_type_message_and_traceback(said: Said) -> None:
    """What an exception was raised from is in its traceback."""
    try:
        fail_at("S3")
    except Outage:
        LOG.exception("failed")

    [line] = said()

    exception = line["exception"]
    assert (exception["type"], exception["message"]) == ("Outage", "while asking S3 for it")
    assert "ConnectionError: S3" in exception["traceback"]
    assert "test_logs.py" in exception["traceback"]


@pytest.mark.parametrize("text", ["two\nlines", "\r\x85\u2028\x00", "\udcff", '"', "東京 🦊"])
def test_every_record_is_one_line(out: StringIO, text: str) -> None:
    """Whatever a message holds: line breaks of all kinds, quotes, half characters."""
    LOG.info("%s", text)

    assert out.getvalue().splitlines() == [out.getvalue().rstrip("\n")]
    assert json.loads(out.getvalue())["message"] == text


def test_all_loggers_and_warnings_are_told_alike(
    out: StringIO, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's warnings and botocore's are lines like the pipeline's own."""
    logging.getLogger("botocore.retries").warning("again")
    with warnings.catch_warnings():
        logging.captureWarnings(capture=False)  # pytest has its own way of showing them
        monkeypatch.setattr(sys, "stdout", out)
        logs.configure()
        warnings.simplefilter("always")
        warnings.warn("bombs", UserWarning, stacklevel=1)

    first, second = said()

    assert (first["logger"], first["level"]) == ("botocore.retries", "WARNING")
    assert (second["logger"], "bombs" in second["message"]) == ("py.warnings", True)


def test_no_line_is_told_twice_under_lambda_s_runtime(
    out: StringIO, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runtime has put a handler on the root logger, before the app is imported."""

    class RuntimeHandler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            out.write(f"[{record.levelname}]\t{self.format(record)}\n")

    monkeypatch.setattr(sys, "stdout", out)
    logging.getLogger().handlers[:] = [RuntimeHandler()]
    LOG.info("before")
    assert out.getvalue() == "[INFO]\tbefore\n"
    out.truncate(0)
    out.seek(0)

    logs.configure()
    logs.configure()
    LOG.info("after")

    assert [line["message"] for line in said()] == ["after"]


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────


def fail_at(secret: str) -> None:
    """Raise an error of an error, both with the secret in their messages."""
    try:
        raise ConnectionError(secret)  # noqa: TRY301
    except ConnectionError as error:
        raise Outage(f"while asking {secret} for it") from error


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS.keys())
def test_secret_is_told_nowhere(out: StringIO, secret: str) -> None:
    """Not in a message, an exception, what it was raised from, a field, or what is bound."""
    with bound(key=secret):
        try:
            fail_at(secret)
        except Outage:
            LOG.exception("asked %s", secret, extra={"request": {"sent": [f"a {secret} b"]}})

    assert "5EC4E7" not in out.getvalue()
    assert json.loads(out.getvalue())["exception"]["type"] == "Outage"


def test_secret_of_a_field_goes_by_its_name(said: Said) -> None:
    """A value that says nothing of itself, under a name that does; numbers are no secrets."""
    LOG.info("asked", extra={"headers": {"Authorization": "5EC4E7", "X-Amz-Date": "now"}, "n": 1})

    [line] = said()

    assert line["headers"] == {"Authorization": "***", "X-Amz-Date": "now"}
    assert line["n"] == 1


@pytest.mark.parametrize(
    "text",
    [
        "uploads/what?.jpg is 3 bytes",
        "See https://example.com/a/b.jpg? It is there.",
        "InvalidSignatureException: Signature expired",
        "arn:aws:sns:us-east-1:123456789012:images",
        "mail to somebody@example.com",
        "uploads/tokens.jpg",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    """Names, ARNs and sentences are told as they are."""
    assert redacted(text) == text


def test_address_of_a_url_stays() -> None:
    """Who does not answer is worth knowing."""
    assert redacted("no answer of https://u:p@host:8/path?a=b, again") == (
        "no answer of https://***@host:8/path?*** again"
    )


# ── what it is about ─────────────────────────────────────────────────────────────────────────────


def test_facts_are_told_within_and_not_after(said: Said) -> None:
    """Bound facts add up, the inner ones go first, and all end with their block."""
    with bound(function="f", key="a"):
        with bound(key="b"):
            LOG.info("inner")
        LOG.info("outer")
    LOG.info("after")

    inner, outer, after = said()

    assert (inner["function"], inner["key"], outer["key"]) == ("f", "b", "a")
    assert not {"function", "key"} & set(after)


def test_thread_tells_the_facts_of_who_gave_it_its_work(said: Said) -> None:
    """A thread of a pool says what its present work is about, and nothing of its last."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        for name in "ab":
            with bound(key=name):
                pool.submit(carried(LOG.info), name).result()
        pool.submit(LOG.info, "none").result()

    assert [line.get("key") for line in said()] == ["a", "b", None]


def test_lines_of_images_side_by_side_say_which_is_which(
    services: FakeServices, said: Said
) -> None:
    """Ten in one batch: their own lines, and those of libraries in threads within threads."""
    events = [
        services.uploads.upload(f"uploads/{number}.jpg", saved(photo(64, 48)))
        for number in range(10)
    ]
    for event in events:
        pipeline.register(event, services)
    said()

    def warn() -> None:
        logging.getLogger("botocore").warning("slow")

    services.recognizer.before("recognize", *[warn] * 10)
    services.renditions.before("put", *[warn] * 20)
    with bound(request_id="r"):
        messages = [message_of(event.original) for event in events]
        worker.process_batch(messages, timedelta(seconds=60), services)

    lines = said()
    assert len([line for line in lines if line["logger"] == "botocore"]) == 30
    for event, message in zip(events, messages, strict=True):
        about = [line for line in lines if line["image_id"] == event.original.image_id]
        assert len(about) == 4
        assert {line["message_id"] for line in about} == {message.message_id}
        assert {line["key"] for line in about} == {event.original.key}
        assert {line["version_id"] for line in about} == {event.original.version_id}
    assert {line["request_id"] for line in lines} == {"r"}


def test_failure_of_a_message_says_of_which_image(services: FakeServices, said: Said) -> None:
    """Logged after the batch, outside of the image's thread; foreign messages have an id alone."""
    event = services.uploads.upload("uploads/cat.jpg", saved(photo(64, 48)))
    pipeline.register(event, services)
    services.uploads.before("get", Outage("down"))
    said()
    message = message_of(event.original)
    foreign = worker.WorkMessage("foreign", "receipt", "{}", 1)

    with pytest.raises(BatchFailed):
        worker.process_batch([message, foreign], timedelta(seconds=60), services)

    failed, malformed = (line for line in said() if line["level"] == "ERROR")
    assert failed["image_id"] == event.original.image_id
    assert failed["exception"]["message"] == "down"
    assert (malformed["message_id"], "image_id" in malformed) == ("foreign", False)


@pytest.mark.parametrize("attribute", ["context", "lambda_context"])
def test_invocation_is_told(said: Said, monkeypatch: pytest.MonkeyPatch, attribute: str) -> None:
    """Of events and requests, which call Lambda's context differently."""
    monkeypatch.setenv(TRACE_HEADER, "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0")
    context = SimpleNamespace(function_name="sweep", aws_request_id="r-1")

    with invocation(SimpleNamespace(**{attribute: context})):
        LOG.info("within")

    [line] = said()
    assert (line["function"], line["request_id"]) == ("sweep", "r-1")
    assert line["trace_id"] == "1-5759e988-bd862e3fe1be46a994272793"


def test_what_is_not_known_of_an_invocation_is_left_out(said: Said) -> None:
    """Chalice knows no request where API Gateway sends something else."""
    assert TRACE_HEADER not in os.environ

    with invocation(None):
        LOG.info("within")

    assert not {"function", "request_id", "trace_id"} & set(said()[0])


def test_what_an_invocation_ends_with_is_redacted_too() -> None:
    """Lambda's runtime writes it by itself, past all loggers; its type and number stay."""
    with (
        pytest.raises(Outage) as raised,
        invocation(None),
    ):
        raise Outage("no answer of https://example.com/?key=5EC4E7", 7)

    assert raised.value.args == ("no answer of https://example.com/?***", 7)
