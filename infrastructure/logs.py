"""Show what the functions of a stage log, as it comes, or of a while ago.

Lines of one image, of one level, or with a word in them can be picked out. Without --follow it ends
when all has been shown.
"""

import argparse
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from boto3 import Session

from chalicelib.messages import printable
from infrastructure.deployed import API_HANDLER
from infrastructure.stack import Stack
from infrastructure.stage import stack_name

POLL_S = 2.0
OVERLAP_MS = 10_000
"""Lambda hands lines in a little late: this far back is looked at again."""

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
FACTS = ("image_id", "key", "code", "message_id", "attempt")
"""What is shown of a line beside its message. ``--json`` shows all of it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--follow", action="store_true", help="go on until Ctrl-C")
    parser.add_argument(
        "--since", type=_seconds, default=600, help="how far back: 90s, 10m, 2h, 1d (default: 10m)"
    )
    parser.add_argument("--image", default="", help="of one image: its id, or a part of its key")
    parser.add_argument("--level", choices=LEVELS, default="DEBUG", help="of this level and above")
    parser.add_argument("--function", default="", help="of one function, as app.py names it")
    parser.add_argument("--json", action="store_true", help="lines as they were logged")


def run(options: argparse.Namespace) -> int:
    session = Session()
    groups = log_groups(Stack(session.client("cloudformation"), stack_name(options.stage)))
    functions = {group: function_of(group, options.stage) for group in groups}
    chosen = [group for group in groups if options.function in ("", functions[group])]
    if not chosen:
        print(f"No function of {options.stage} is called {options.function}.")
        return 1
    since_ms = int((time.time() - options.since) * 1000)
    for group, message in events(
        session.client("logs"), chosen, since_ms, follow=options.follow, sleep=time.sleep
    ):
        line = parsed(message)
        if is_wanted(line, message, options):
            print(
                message.rstrip() if options.json else shown(functions[group], line, message),
                flush=True,
            )
    return 0


def log_groups(stack: Stack) -> list[str]:
    """The log groups of a stage's functions."""
    return [
        resource["PhysicalResourceId"]
        for resource in stack.resources()
        if resource["ResourceType"] == "AWS::Logs::LogGroup"
        and resource["PhysicalResourceId"].startswith("/aws/lambda/")
    ]


def function_of(group: str, stage: str) -> str:
    """The function that a log group is of, as app.py names it."""
    return group.removeprefix(f"/aws/lambda/{stack_name(stage)}").removeprefix("-") or API_HANDLER


def events(
    client: Any,
    groups: Sequence[str],
    since_ms: int,
    *,
    follow: bool,
    sleep: Callable[[float], None],
) -> Iterator[tuple[str, str]]:
    """Group and line of all that was logged since, oldest first, each once."""
    seen: set[tuple[str, int, str]] = set()
    while True:
        found = []
        for group in groups:
            for page in client.get_paginator("filter_log_events").paginate(
                logGroupName=group, startTime=since_ms
            ):
                found += [(event, group) for event in page["events"]]
        found.sort(key=lambda each: each[0]["timestamp"])
        for event, group in found:
            if _identity(event) not in seen:
                yield group, event["message"]
        seen = {_identity(event) for event, _ in found}
        if not follow:
            return
        if found:
            since_ms = max(since_ms, found[-1][0]["timestamp"] - OVERLAP_MS)
        sleep(POLL_S)


def _identity(event: Mapping[str, Any]) -> tuple[str, int, str]:
    return event["logStreamName"], event["timestamp"], event["message"]


def parsed(message: str) -> Mapping[str, Any]:
    """A line of the app's; empty for one of Lambda's own, or of something that broke."""
    try:
        line = json.loads(message)
    except ValueError:
        return {}
    return line if isinstance(line, dict) else {}


def is_wanted(line: Mapping[str, Any], message: str, options: argparse.Namespace) -> bool:
    """Whether a line is to be shown. Metrics are, of an image that is asked for."""
    if not line:  # START, END and REPORT, and what the runtime says of a crash
        is_noise = re.match(r"(START|END|REPORT|INIT_START)\b", message)
        return not (is_noise or options.image)
    if options.image and options.image not in (line.get("image_id"), *_words(line)):
        return False
    if "_aws" in line:
        return bool(options.json or options.image)
    level = line.get("level", "INFO")
    return level not in LEVELS or LEVELS.index(level) >= LEVELS.index(options.level)


def _words(line: Mapping[str, Any]) -> Iterator[Any]:
    key = str(line.get("key", ""))
    yield from {key, *key.split("/")}


def shown(function: str, line: Mapping[str, Any], message: str) -> str:
    """A line for people to read."""
    if not line:
        return f"{function:<15} {_printable(message)}"
    if "_aws" in line:
        return f"{function:<15} {'METRICS':<8} {_metrics(line)}"
    facts = "  ".join(f"{name}={printable(str(line[name]))}" for name in FACTS if name in line)
    said = printable(str(line.get("message", "")))
    text = f"{function:<15} {line.get('level', ''):<8} {said}  {facts}".rstrip()
    trace = line.get("exception") or {}
    stack = trace.get("traceback", "") if isinstance(trace, dict) else trace
    return f"{line.get('timestamp', '')} {text}" + (f"\n{_printable(stack)}" if stack else "")


def _printable(text: str) -> str:
    return "\n".join(map(printable, text.rstrip().splitlines()))


def _metrics(line: Mapping[str, Any]) -> str:
    names = [
        metric["Name"]
        for directive in line["_aws"]["CloudWatchMetrics"]
        for metric in directive["Metrics"]
    ]
    return "  ".join(f"{name}={line[name]:g}" for name in dict.fromkeys(names) if name in line)


def _seconds(text: str) -> int:
    if match := re.fullmatch(r"(\d+)([smhd])", text):
        return int(match[1]) * UNITS_S[match[2]]
    raise argparse.ArgumentTypeError(f"is 90s, 10m, 2h or 1d, not {text!r}")
