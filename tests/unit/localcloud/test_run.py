"""``make run`` shows what the functions log to people."""

import json

import pytest

from chalicelib.model import Original
from chalicelib.telemetry import metric_line
from localcloud.run import readable


def test_line_is_shown_with_its_level_message_and_key_facts() -> None:
    """Not with all that a program may want of it."""
    fields = {"timestamp": "2026-01-31T09:15:00.000+00:00", "level": "INFO", "message": "COMPLETED"}

    shown = readable(json.dumps(fields | {"image_id": "abc", "key": "uploads/a.jpg"}))

    assert shown == "INFO     COMPLETED  key=uploads/a.jpg  image_id=abc"


def test_traceback_is_shown_as_python_would() -> None:
    """On lines of its own, below what was said."""
    fields = {"level": "ERROR", "message": "failed", "exception": {"traceback": "Traceback\n  x\n"}}

    assert readable(json.dumps(fields)) == "ERROR    failed\nTraceback\n  x"


def test_metrics_are_shown_as_names_and_values() -> None:
    """Without the directives that are CloudWatch's."""
    original = Original("uploads/cat.jpg", "v1", "etag", 1_000, "0", "2026-01-31T09:15:00.000Z")
    line = metric_line("local", 0, original, {"EstimatedCost": 0.00107})

    shown = readable(json.dumps(line))

    assert shown.startswith("METRICS  EstimatedCost=0.00107  key=uploads/cat.jpg")


def test_keys_do_nothing_to_the_terminal() -> None:
    """S3 allows control characters in them."""
    assert readable('{"level": "INFO", "message": "QUEUED", "key": "\\u001b[2J"}') == (
        "INFO     QUEUED  key=?[2J"
    )


@pytest.mark.parametrize("line", ["[ERROR] Outage: of S3", "7", '{"half', '["a"]'])
def test_what_is_no_line_of_ours_is_shown_as_it_is(line: str) -> None:
    """Lambda has lines of its own."""
    assert readable(f"{line}\n") == line
