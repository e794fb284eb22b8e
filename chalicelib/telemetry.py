"""What the pipeline tells of itself: metrics in its log, and traces for X-Ray.

A worker's attempt at an image is a journey of steps. At its end it is one line of CloudWatch's
embedded metric format, from which CloudWatch makes the metrics, and one document for the X-Ray
daemon of the Lambda sandbox, where the invocation is traced. Nothing is kept between journeys, so
that any number of them run side by side in threads.

No library: Powertools keeps the metrics of a process and the X-Ray SDK the steps of a thread in one
place, which mixes images that are processed side by side; and they cost a cold start more than
these lines (benchmarks/README.md).
"""

import os
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from time import time
from typing import Any

from chalicelib.errors import PipelineError, Throttled
from chalicelib.logs import FACTS, json_line, trace_fields
from chalicelib.model import Feature, Image, ImageStatus, Original
from chalicelib.prices import cost_usd
from chalicelib.services import Step

NAMESPACE = "ImagePipeline"

DAEMON_ADDRESS = "AWS_XRAY_DAEMON_ADDRESS"
DAEMON_HEADER = '{"format": "json", "version": 1}'

MAX_CAUSE = 500
"""Characters of an error's message in a trace: a document is at most 64 KB."""

COUNTS = {
    ImageStatus.COMPLETED: "ImagesCompleted",
    ImageStatus.QUARANTINED: "ImagesQuarantined",
    ImageStatus.FAILED: "ImagesFailed",
    ImageStatus.DELETED: "ImagesDeleted",
}


@dataclass(frozen=True, slots=True)
class Span:
    """A step, or the whole journey, from when to when (Unix time in seconds).

    ``trouble`` is what X-Ray is told of the error it ended with, empty where it ended well.
    """

    name: str
    begin: float
    end: float
    trouble: Mapping[str, Any]

    @property
    def duration_ms(self) -> float:
        return max(0.0, round(1000 * (self.end - self.begin), 1))


@dataclass(slots=True)
class Journey:
    """One attempt at an image, as far as it came."""

    original: Original
    spans: list[Span] = field(default_factory=list)
    image: Image | None = None

    @contextmanager
    def step(self, name: Step) -> Iterator[None]:
        """Time a step, in any thread; what it raises goes through."""
        begin, trouble = time(), dict[str, Any]()
        try:
            yield
        except BaseException as error:
            trouble = trouble_of(error)  # not the error: its traceback would keep the picture
            raise
        finally:
            self.spans.append(Span(name, begin, time(), trouble))

    def concluded(self, image: Image) -> None:
        """The image has come to a final status, recorded by this attempt."""
        self.image = image


class Telemetry:
    """Where journeys are told. Whatever goes wrong with telling, processing goes on."""

    def __init__(self, stage: str, environ: Mapping[str, str], features: Sequence[Feature]) -> None:
        self._stage = stage
        self._environ = environ
        self._features = features

    @contextmanager
    def journey(self, original: Original) -> Iterator[Journey]:
        """Tell of an attempt once it is over, however it ended."""
        journey = Journey(original)
        trace = trace_fields(self._environ)  # of this invocation: a late worker outlives it
        try:
            with journey.step("total"):
                yield journey
        finally:
            # A metric that is lost is no reason to fail an image that is not; neither is a trace.
            with suppress(Exception):
                metrics = journey_metrics(journey, self._features)
                self._write(journey.image or original, metrics)
            with suppress(Exception):
                self._send(journey, trace)

    def concluded(self, image: Image) -> None:
        """Count an image that has come to a final status without an attempt at it."""
        with suppress(Exception):  # for the same reason
            self._write(image, conclusion_metrics(image))

    def _write(self, subject: Image | Original, metrics: Mapping[str, float]) -> None:
        if metrics:
            line = json_line(metric_line(self._stage, time(), subject, metrics))
            sys.stdout.write(f"{line}\n")  # in one call, or threads would mix their lines

    def _send(self, journey: Journey, trace: Mapping[str, str]) -> None:
        address = self._environ.get(DAEMON_ADDRESS)
        if address and trace.get("Sampled") == "1":
            host, _, port = address.rpartition(":")
            document = json_line(subsegment(journey, trace["Root"], trace["Parent"]))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                udp.settimeout(0)
                udp.sendto(f"{DAEMON_HEADER}\n{document}".encode(), (host, int(port)))


# ── metrics ──────────────────────────────────────────────────────────────────────────────────────


def journey_metrics(journey: Journey, features: Sequence[Feature]) -> dict[str, float]:
    """What an attempt cost and, where it concluded the image, what came of it and how long it took.

    An attempt that did not conclude, or whose result was refused, has only cost something.
    """
    done = {span.name: span for span in journey.spans if not span.trouble}
    metrics: dict[str, float] = {}
    if any(span.name in {"fetch", "recognise"} for span in journey.spans):
        cost = cost_usd(1, features, recognized="recognise" in done)
        metrics["EstimatedCost"] = round(cost, 6)
    if journey.image is not None:
        metrics |= conclusion_metrics(journey.image)
        for span in done.values():
            metrics[f"{span.name.capitalize()}Duration"] = span.duration_ms
    return metrics


def conclusion_metrics(image: Image) -> dict[str, float]:
    """An image in a final status, counted once.

    One that is withheld saves nothing yet: nobody is given the copy.
    """
    metrics: dict[str, float] = {COUNTS[image.status]: 1}
    if image.status is ImageStatus.COMPLETED:
        metrics["BytesSaved"] = bytes_saved(image)
    return metrics


def bytes_saved(image: Image) -> int:
    """How many bytes less than the original its optimised copy has, never below 0.

    That copy is the rendition with the most pixels: the one that can stand in for the original. Of
    several, the lightest.
    """
    sizes = ((-each.width * each.height, each.size_bytes) for each in image.renditions)
    _, size_bytes = min(sizes)
    return max(0, image.original.size_bytes - size_bytes)


def unit_of(metric: str) -> str:
    """The unit, as CloudWatch calls it; it has none for money."""
    if metric.endswith("Duration"):
        return "Milliseconds"
    return {"BytesSaved": "Bytes", "EstimatedCost": "None"}.get(metric, "Count")


def metric_line(
    stage: str, now: float, subject: Image | Original, metrics: Mapping[str, float]
) -> dict[str, Any]:
    """Metrics of one image in the embedded metric format, by stage, and failures by their code too.

    Dimensions are few, since each combination is billed as a metric of its own; what else is known
    of the image are properties, which CloudWatch Logs Insights can ask for.
    """
    line: dict[str, Any] = {"Stage": stage, **FACTS.get(), **properties(subject), **metrics}
    directives = [_directive(["Stage"], metrics)]
    if "Code" in line:
        directives.append(_directive(["Stage", "Code"], ["ImagesFailed"]))
    return {"_aws": {"Timestamp": int(1000 * now), "CloudWatchMetrics": directives}, **line}


def _directive(dimensions: Sequence[str], metrics: Iterable[str]) -> dict[str, Any]:
    return {
        "Namespace": NAMESPACE,
        "Dimensions": [dimensions],
        "Metrics": [{"Name": name, "Unit": unit_of(name)} for name in metrics],
    }


def properties(subject: Image | Original) -> dict[str, Any]:
    """What a metric line says of its image beside its metrics."""
    if isinstance(subject, Original):
        facts = {"image_id": subject.image_id, "key": subject.key}
        return {**facts, "version_id": subject.version_id}
    said = properties(subject.original)
    said |= {"status": str(subject.status), "attempt": subject.attempt}
    return said | ({"Code": subject.failure.code} if subject.failure else {})


# ── traces ───────────────────────────────────────────────────────────────────────────────────────


def subsegment(journey: Journey, trace_id: str, parent_id: str) -> dict[str, Any]:
    """A journey as a document for X-Ray, its steps within it, below the segment of the function.

    Only the journey is annotated: X-Ray indexes 50 annotations a trace, and a batch of ten images
    in all their steps would be more.
    """
    *steps, total = journey.spans
    return {
        "trace_id": trace_id,
        "parent_id": parent_id,
        "type": "subsegment",
        **_timed(total, "image"),
        "annotations": {"image_id": journey.original.image_id},
        "subsegments": [
            _timed(step, step.name) for step in sorted(steps, key=lambda step: step.begin)
        ],
    }


def _timed(span: Span, name: str) -> dict[str, Any]:
    times = {"start_time": span.begin, "end_time": span.end}
    return {"name": name, "id": _new_id(), **times, **span.trouble}


def trouble_of(error: BaseException) -> dict[str, Any]:
    """An error in X-Ray's terms.

    ``error`` where the picture, its removal or its time is at fault (like HTTP's 4xx), with
    ``throttle`` where it was a quota (429); ``fault`` for all else, which is ours or AWS's (5xx).
    """
    flags = {"error": True} if isinstance(error, PipelineError) else {"fault": True}
    if isinstance(error, Throttled):
        flags["throttle"] = True
    exception = {"id": _new_id(), "type": type(error).__name__, "message": str(error)[:MAX_CAUSE]}
    return {**flags, "cause": {"exceptions": [exception]}}


def _new_id() -> str:
    """16 hex digits."""
    return os.urandom(8).hex()
