"""What ``logs`` shows of what functions log: which lines, how, and each once."""

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from chalicelib.model import Failure, Image, ImageStatus, Original
from chalicelib.telemetry import conclusion_metrics, metric_line
from infrastructure import logs
from infrastructure.logs import OVERLAP_MS, POLL_S, events, function_of, is_wanted, parsed, shown

WORKER = "/aws/lambda/image-pipeline-dev-process_images"
API = "/aws/lambda/image-pipeline-dev"

CAT = Original("uploads/holiday/cat.jpg", "v1", "e1", 100, "1", "2026-01-31T09:15:00.000Z")
LINE = {
    "timestamp": "2026-01-31T09:15:00.123+00:00",
    "level": "INFO",
    "message": "COMPLETED",
    "logger": "image-pipeline",
    "image_id": CAT.image_id,
    "key": CAT.key,
    "attempt": 2,
}
PLATFORM = (
    "START RequestId: 8f5-1 Version: $LATEST\n",
    "END RequestId: 8f5-1\n",
    "REPORT RequestId: 8f5-1\tDuration: 102.25 ms\tMax Memory Used: 90 MB\n",
    "INIT_START Runtime Version: python:3.13.v29\n",
)
CRASHES = (
    "[ERROR] Runtime.ImportModuleError: Unable to import module 'app': No module named 'PIL'\n",
    "Traceback (most recent call last):\n  File ...\nMemoryError\n",
    "2026-01-31T09:15:00Z 8f5-1 Task timed out after 60.00 seconds\n",
    "STARTLING, but nothing of Lambda's\n",
)


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    logs.add_arguments(parser)
    return parser.parse_args(words)


def wanted(message: str | Mapping[str, Any], *words: str) -> bool:
    """Whether a line is shown under these options."""
    text = message if isinstance(message, str) else json.dumps(message)
    return is_wanted(parsed(text), text, options(*words))


def metrics() -> dict[str, Any]:
    """A line of the app's own in the embedded metric format."""
    broken = Image(CAT, ImageStatus.FAILED, "", failure=Failure("corrupt_image", "It is broken."))
    return metric_line("dev", 0.0, broken, conclusion_metrics(broken))


# ── which ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("message", [*PLATFORM, *CRASHES, "", "[1, 2]", "17", '"word"', "{"])
def test_what_is_no_object_is_no_line_of_the_app(message: str) -> None:
    """Lambda's runtime writes text, and a crash may leave anything."""
    assert parsed(message) == {}


def test_line_of_the_app_is_read_whole() -> None:
    """With the newline behind it that Lambda hands over."""
    assert parsed(json.dumps(LINE) + "\n") == LINE


@pytest.mark.parametrize("message", PLATFORM)
@pytest.mark.parametrize("words", [(), ("--level", "ERROR"), ("--json",)])
def test_what_lambda_says_of_each_invocation_is_noise(message: str, words: tuple[str]) -> None:
    """Three lines an invocation say nothing that status and dashboard do not."""
    assert not wanted(message, *words)


@pytest.mark.parametrize("message", CRASHES)
def test_crash_is_shown_whatever_the_level(message: str) -> None:
    """What breaks before the app logs has no level, and is what somebody looks for."""
    assert wanted(message)
    assert wanted(message, "--level", "CRITICAL")


@pytest.mark.parametrize("message", CRASHES)
def test_crash_belongs_to_no_image(message: str) -> None:
    """It does not say which it was at."""
    assert not wanted(message, "--image", CAT.image_id)


@pytest.mark.parametrize(
    ("level", "shown_levels"),
    [
        ("DEBUG", ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]),
        ("INFO", ["INFO", "WARNING", "ERROR", "CRITICAL"]),
        ("WARNING", ["WARNING", "ERROR", "CRITICAL"]),
        ("CRITICAL", ["CRITICAL"]),
    ],
)
def test_level_is_the_least_that_is_shown(level: str, shown_levels: list[str]) -> None:
    """Those above it are graver."""
    assert [
        each for each in logs.LEVELS if wanted(LINE | {"level": each}, "--level", level)
    ] == shown_levels


def test_level_that_nobody_knows_is_shown_and_none_is_info() -> None:
    """A library may have levels of its own: rather a line too much than one too few."""
    assert wanted(LINE | {"level": "NOTICE"}, "--level", "ERROR")
    without = {name: value for name, value in LINE.items() if name != "level"}
    assert wanted(without, "--level", "INFO")
    assert not wanted(without, "--level", "WARNING")


@pytest.mark.parametrize("image", [CAT.image_id, CAT.key, "cat.jpg", "holiday"])
def test_image_is_known_by_id_key_and_the_words_of_its_key(image: str) -> None:
    """A file's name is what whoever uploaded it knows."""
    assert wanted(LINE, "--image", image)
    assert not wanted(LINE | {"image_id": "another", "key": "uploads/dog.jpg"}, "--image", image)


@pytest.mark.parametrize("image", ["at.jpg", "cat", "uploads/holiday", CAT.image_id[:8]])
def test_half_a_word_is_no_image(image: str) -> None:
    """Or the cat would bring the bobcat."""
    assert not wanted(LINE, "--image", image)


def test_line_without_an_image_is_not_of_one() -> None:
    """``sweep`` speaks of none."""
    assert not wanted({"level": "INFO", "message": "nothing to do"}, "--image", "cat.jpg")


def test_level_counts_among_lines_of_an_image() -> None:
    """Both options hold."""
    assert not wanted(LINE, "--image", "cat.jpg", "--level", "WARNING")


def test_metrics_are_shown_of_an_image_that_is_asked_for_and_as_json() -> None:
    """Among the lines of all images they are a line too much each."""
    line = metrics()

    assert not wanted(line)
    assert wanted(line, "--json")
    assert wanted(line, "--image", CAT.key)
    assert not wanted(line, "--image", "dog.jpg")


# ── how ──────────────────────────────────────────────────────────────────────────────────────────


def test_line_is_shown_with_when_who_how_grave_what_and_of_what() -> None:
    """The facts are those by which a line is found again; the logger is none of them."""
    text = shown("process_images", LINE, json.dumps(LINE))

    assert text.split() == [
        *("2026-01-31T09:15:00.123+00:00", "process_images", "INFO", "COMPLETED"),
        *(f"image_id={CAT.image_id}", f"key={CAT.key}", "attempt=2"),
    ]


def test_function_behind_the_api_has_a_name() -> None:
    """On Lambda it is called like the stage alone."""
    assert function_of(API, "dev") == "api_handler"


def test_function_is_named_as_the_app_names_it_whatever_the_stage() -> None:
    """A stage may have a dash in its name, too."""
    assert (
        function_of("/aws/lambda/image-pipeline-dev-eu-handle_upload", "dev-eu") == "handle_upload"
    )


def test_traceback_stands_below_its_line() -> None:
    """As it was raised, and not as JSON has it."""
    trace = "Traceback (most recent call last):\n  File ...\nValueError: no\n"
    line = LINE | {"level": "ERROR", "exception": {"type": "ValueError", "traceback": trace}}

    first, *below = shown("process_images", line, json.dumps(line)).splitlines()

    assert "ERROR" in first
    assert below == trace.splitlines()


def test_exception_that_is_text_is_shown_as_it_is() -> None:
    """Chalice logs a view that breaks in its own way."""
    line = LINE | {"exception": "ValueError: no"}

    assert shown("process_images", line, json.dumps(line)).endswith("\nValueError: no")


def test_keys_do_nothing_to_a_terminal() -> None:
    """A key is a stranger's: its control characters are shown and not obeyed."""
    line = LINE | {"key": "uploads/\x1b[2Jcat.jpg"}

    assert "\x1b" not in shown("process_images", line, json.dumps(line))


def test_metrics_are_shown_as_names_and_numbers() -> None:
    """Each once, however many dimensions it is counted in."""
    line = metrics()

    text = shown("process_images", line, json.dumps(line))

    assert text.split() == ["process_images", "METRICS", "ImagesFailed=1"]


@pytest.mark.parametrize("message", CRASHES)
def test_what_is_no_line_of_the_app_is_shown_as_it_came(message: str) -> None:
    """Behind the function that wrote it."""
    assert shown("process_images", {}, message) == f"process_images  {message.rstrip()}"


# ── since when ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86_400)]
)
def test_since_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert options("--since", text).since == seconds


def test_since_is_ten_minutes_unless_said_otherwise() -> None:
    assert options().since == 600


@pytest.mark.parametrize("text", ["", "10", "m", "10 m", "1.5h", "-1h", "1w", "1h30m", "10M"])
def test_since_that_is_none_is_refused_with_examples(text: str) -> None:
    with pytest.raises(argparse.ArgumentError, match=f"is 90s, 10m, 2h or 1d, not '{text}'"):
        options(f"--since={text}")


# ── each once ────────────────────────────────────────────────────────────────────────────────────

T0 = 1_769_850_900_000


class FakeLogs:
    """Log groups, in pages of two. ``asked`` is from when each group was asked for."""

    def __init__(self, *groups: str) -> None:
        self.groups: dict[str, list[dict[str, Any]]] = {group: [] for group in groups}
        self.asked: list[tuple[str, int]] = []

    def log(self, group: str, at_ms: int, message: str, stream: str = "s") -> None:
        event = {"logStreamName": stream, "timestamp": T0 + at_ms, "message": message}
        self.groups[group].append(event)

    def get_paginator(self, operation: str) -> "FakeLogs":
        assert operation == "filter_log_events"
        return self

    def paginate(self, **request: Any) -> Iterator[dict[str, Any]]:
        group, start = request.pop("logGroupName"), request.pop("startTime")
        assert not request
        self.asked.append((group, start))
        found = [event for event in self.groups[group] if event["timestamp"] >= start]
        for begin in range(0, len(found) or 1, 2):
            yield {"events": found[begin : begin + 2]}


class Polls:
    """What happens between two looks; after the last of them nobody looks any more."""

    def __init__(self, *happenings: Sequence[tuple[str, int, str]]) -> None:
        self.happenings = list(happenings)
        self.slept: list[float] = []

    def of(self, client: FakeLogs, since_ms: int = T0) -> list[str]:
        """The messages that are shown until Ctrl-C."""
        told: list[str] = []

        def sleep(seconds: float) -> None:
            self.slept.append(seconds)
            if not self.happenings:
                raise KeyboardInterrupt
            for group, at_ms, message in self.happenings.pop(0):
                client.log(group, at_ms, message)

        stream: Iterable[tuple[str, str]] = events(
            client, tuple(client.groups), since_ms, follow=True, sleep=sleep
        )
        with pytest.raises(KeyboardInterrupt):
            told.extend(message for _, message in stream)
        return told


def never(_: float) -> None:
    pytest.fail("Without --follow nobody waits.")


def test_lines_of_all_functions_are_told_in_the_order_of_time() -> None:
    """And over more than one page of each."""
    client = FakeLogs(WORKER, API)
    for at_ms in (1, 4, 5):
        client.log(WORKER, at_ms, f"worker {at_ms}")
    client.log(API, 2, "api 2")

    told = list(events(client, (WORKER, API), T0, follow=False, sleep=never))

    assert told == [
        *((WORKER, "worker 1"), (API, "api 2")),
        *((WORKER, "worker 4"), (WORKER, "worker 5")),
    ]


def test_what_was_logged_before_is_not_told() -> None:
    client = FakeLogs(WORKER)
    client.log(WORKER, -1, "before")
    client.log(WORKER, 0, "since")

    told = list(events(client, (WORKER,), T0, follow=False, sleep=never))

    assert [message for _, message in told] == ["since"]


def test_following_tells_each_line_once() -> None:
    """However often it is looked at again, and waits between two looks."""
    client = FakeLogs(WORKER)
    client.log(WORKER, 0, "a")
    polls = Polls([(WORKER, 10, "b")], [], [(WORKER, 20_000, "c")], [(WORKER, 20_001, "d")])

    assert polls.of(client) == ["a", "b", "c", "d"]
    assert polls.slept == [POLL_S] * 5


def test_line_that_is_handed_in_late_is_told() -> None:
    """Lambda is a little late: what lies within the overlap behind the newest is still found."""
    client = FakeLogs(WORKER, API)
    client.log(WORKER, 30_000, "early bird")
    late = 30_000 - OVERLAP_MS
    polls = Polls([(API, late, "late")], [(API, late + 1, "later")])

    assert polls.of(client) == ["early bird", "late", "later"]


def test_following_does_not_read_all_of_it_again() -> None:
    """Each look begins an overlap before the newest line, and never before what was asked for."""
    client = FakeLogs(WORKER)
    client.log(WORKER, 5_000, "a")

    Polls([(WORKER, 60_000, "b")], []).of(client)

    assert [start - T0 for _, start in client.asked] == [0, 0, 60_000 - OVERLAP_MS]


def test_following_goes_on_where_nothing_was_logged_yet() -> None:
    client = FakeLogs(WORKER)

    assert Polls([], [(WORKER, 1, "first")]).of(client) == ["first"]


def test_lines_that_are_alike_are_told_each() -> None:
    """Two of one millisecond are two."""
    client = FakeLogs(WORKER)
    for _ in range(2):
        client.log(WORKER, 0, "throttled")

    told = list(events(client, (WORKER,), T0, follow=False, sleep=never))

    assert [message for _, message in told] == ["throttled", "throttled"]
