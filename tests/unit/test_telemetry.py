"""Metrics and traces: what one image is worth telling, exactly once, and never at its expense."""

import io
import json
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest

from chalicelib import pipeline, telemetry, worker
from chalicelib.errors import BatchFailed, CorruptImage, LeaseHeld, OriginalGone, Throttled
from chalicelib.logs import TRACE_HEADER, bound
from chalicelib.messages import Recheck
from chalicelib.model import (
    RETRIES_EXHAUSTED,
    Failure,
    Feature,
    Image,
    ImageStatus,
    Original,
    OutputFormat,
    Rendition,
    image_id_of,
)
from chalicelib.telemetry import COUNTS, DAEMON_ADDRESS, Telemetry, bytes_saved, trouble_of
from tests.emf import metrics_of, require_emf
from tests.fakes import Alone, FakeServices, Killed, Outage, message_of
from tests.pictures import photo, saved
from tests.waiting import TIMEOUT_S

KEY = "uploads/cat.jpg"
PICTURE = saved(photo(64, 48))
TEXT = b"This is no picture."
ORIGINAL = Original(KEY, "v1", "etag", 1_000, "0", "2026-01-31T09:15:00.000Z")
ROOT, PARENT = "1-5759e988-bd862e3fe1be46a994272793", "53995c3f42cd8ad8"
STEPS = ["Fetch", "Inspect", "Prepare", "Recognise", "Render", "Store", "Record", "Announce"]


def copy(name: str, side: int, size_bytes: int) -> Rendition:
    return Rendition(name, f"processed/{name}", OutputFormat.JPEG, side, side, size_bytes)


COMPLETED = Image(
    ORIGINAL,
    ImageStatus.COMPLETED,
    "",
    attempt=2,
    renditions=(copy("small", 8, 50), copy("optimized", 64, 400), copy("large", 64, 300)),
)
QUARANTINED = replace(COMPLETED, status=ImageStatus.QUARANTINED, withheld_for=("Violence",))
FAILED = replace(COMPLETED, status=ImageStatus.FAILED, failure=Failure("corrupt_image", "Broken."))
DELETED = replace(COMPLETED, status=ImageStatus.DELETED)


def told(environ: Mapping[str, str] | None = None, *features: Feature) -> Telemetry:
    return Telemetry("test", environ or {}, features or (Feature.LABELS,))


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def travel(telemetry: Telemetry, conclusion: Image | None, *steps: str) -> None:
    """An attempt that takes these steps, then concludes the image so."""
    with telemetry.journey(ORIGINAL) as journey:
        for step in steps:
            with journey.step(step):  # type: ignore[arg-type]
                pass
        if conclusion:
            journey.concluded(conclusion)


# ── metrics ──────────────────────────────────────────────────────────────────────────────────────


def test_completed_image_is_one_line_with_everything(capsys: pytest.CaptureFixture[str]) -> None:
    """Counted, with the bytes it saves, its price and its durations, by stage alone."""
    with bound(request_id="r", function="process_images"):
        travel(told(), COMPLETED, *(step.lower() for step in STEPS))

    [line] = lines(capsys)

    metrics = metrics_of(line)[("Stage",)]
    assert metrics_of(line).keys() == {("Stage",)}
    assert metrics.pop("ImagesCompleted") == (1, "Count")
    assert metrics.pop("BytesSaved") == (700, "Bytes")
    assert metrics.pop("EstimatedCost") == (pytest.approx(0.001066), "None")
    assert metrics.keys() == {f"{name}Duration" for name in [*STEPS, "Total"]}
    assert {unit for _, unit in metrics.values()} == {"Milliseconds"}
    assert all(value >= 0 for value, _ in metrics.values())
    root = require_emf(line)
    assert {root["_aws"]["CloudWatchMetrics"][0]["Namespace"]} == {"ImagePipeline"}
    assert root["Stage"] == "test"
    assert (root["image_id"], root["key"], root["version_id"]) == (image_id_of(KEY), KEY, "v1")
    assert (root["status"], root["attempt"]) == ("COMPLETED", 2)
    assert (root["request_id"], root["function"]) == ("r", "process_images")


def test_failed_image_is_counted_by_its_code_too(capsys: pytest.CaptureFixture[str]) -> None:
    """One line: by stage, and by stage and code; nothing is saved."""
    travel(told(), FAILED, "fetch")

    [line] = lines(capsys)

    assert metrics_of(line)["Stage", "Code"] == {"ImagesFailed": (1, "Count")}
    assert metrics_of(line)[("Stage",)].keys() == {
        "ImagesFailed",
        "EstimatedCost",
        "FetchDuration",
        "TotalDuration",
    }
    assert require_emf(line)["Code"] == "corrupt_image"


@pytest.mark.parametrize(
    ("image", "count"),
    [
        (COMPLETED, "ImagesCompleted"),
        (QUARANTINED, "ImagesQuarantined"),
        (FAILED, "ImagesFailed"),
        (DELETED, "ImagesDeleted"),
    ],
)
def test_image_concluded_without_an_attempt_is_counted_and_costs_nothing(
    capsys: pytest.CaptureFixture[str], image: Image, count: str
) -> None:
    """Given up or removed: there are no steps to time."""
    told().concluded(image)

    [line] = lines(capsys)

    metrics = metrics_of(line)[("Stage",)]
    assert metrics.pop(count) == (1, "Count")
    assert metrics.keys() <= {"BytesSaved"}


def test_withheld_image_saves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody is given its copies; once released it is processed again, and saves what it saves."""
    travel(told(), QUARANTINED, "fetch")
    travel(told(), replace(COMPLETED, released=True), "fetch")

    withheld, released = map(require_emf, lines(capsys))

    assert withheld["ImagesQuarantined"] == 1
    assert "BytesSaved" not in withheld
    assert released["BytesSaved"] == 700


def test_every_final_status_is_counted() -> None:
    """By a metric of its own."""
    assert {*COUNTS} == {status for status in ImageStatus if status.is_final}
    assert len({*COUNTS.values()}) == len(COUNTS)


def test_attempt_without_a_conclusion_has_only_cost_something(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its result was refused, or it failed: neither counts nor durations, but calls were made."""
    travel(told(), None, "fetch", "recognise", "render")

    [line] = lines(capsys)

    assert metrics_of(line) == {("Stage",): {"EstimatedCost": (pytest.approx(0.001066), "None")}}
    assert require_emf(line)["image_id"] == image_id_of(KEY)


def test_attempt_that_finds_nothing_to_do_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    """A duplicate message is no event of the image's life."""
    travel(told(), None)

    assert lines(capsys) == []


def test_recognition_is_paid_where_it_answered(capsys: pytest.CaptureFixture[str]) -> None:
    """Refused or throttled calls are free, each feature has its price."""
    with suppress(Throttled), told().journey(ORIGINAL) as journey:
        with journey.step("fetch"):
            pass
        with journey.step("recognise"):
            raise Throttled("Slow down.")
    travel(told(None, Feature.LABELS, Feature.PROPERTIES), None, "fetch", "recognise")
    travel(told(None, *Feature), None, "fetch", "recognise")

    throttled, both, everything = lines(capsys)

    assert require_emf(throttled)["EstimatedCost"] == pytest.approx(0.000066)
    assert require_emf(both)["EstimatedCost"] == pytest.approx(0.001816)
    assert require_emf(everything)["EstimatedCost"] == pytest.approx(0.005816)


def test_step_that_failed_has_no_duration(capsys: pytest.CaptureFixture[str]) -> None:
    """How long something takes is asked of what was done."""
    with told().journey(ORIGINAL) as journey:
        with journey.step("fetch"):
            pass
        with suppress(CorruptImage), journey.step("inspect"):
            raise CorruptImage
        journey.concluded(FAILED)

    [line] = lines(capsys)

    assert "FetchDuration" in metrics_of(line)[("Stage",)]
    assert "InspectDuration" not in line


def test_durations_are_those_of_the_clock(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In milliseconds; a clock that is set back makes no time negative."""
    ticks = iter([10.0, 11.0, 11.25, 12.0, 11.0, 13.0, 1_800_000_000.0])
    monkeypatch.setattr(telemetry, "time", lambda: next(ticks))

    travel(told(), COMPLETED, "fetch", "render")

    root = require_emf(lines(capsys)[0])
    assert (root["FetchDuration"], root["RenderDuration"], root["TotalDuration"]) == (250, 0, 3000)
    assert root["_aws"]["Timestamp"] == 1_800_000_000_000


@pytest.mark.parametrize(
    ("renditions", "saved_bytes"),
    [
        ((copy("thumbnail", 8, 10), copy("optimized", 64, 400)), 600),
        ((copy("optimized", 64, 400), copy("large", 64, 300)), 700),
        ((copy("thumbnail", 8, 10), copy("optimized", 64, 5_000)), 0),
    ],
)
def test_bytes_saved_are_those_of_the_largest_copy(
    renditions: tuple[Rendition, ...], saved_bytes: int
) -> None:
    """The one with the most pixels, of several the lightest; a heavier one saves nothing."""
    assert bytes_saved(replace(COMPLETED, renditions=renditions)) == saved_bytes


def test_metrics_tell_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    """A key may hold anything, a signed URL as well."""
    original = replace(ORIGINAL, key="uploads/https://x.example/?X-Amz-Signature=5EC4E7")

    told().concluded(replace(COMPLETED, original=original))

    [line] = lines(capsys)
    assert require_emf(line)["key"] == "uploads/https://x.example/?***"


# ── never at its expense ─────────────────────────────────────────────────────────────────────────


class Broken(io.StringIO):
    def write(self, _: str) -> int:
        raise OSError("There is no stdout.")


@pytest.mark.parametrize("image", [COMPLETED, replace(COMPLETED, renditions=())])
def test_nothing_that_goes_wrong_with_telling_goes_through(
    monkeypatch: pytest.MonkeyPatch, image: Image
) -> None:
    """Neither a broken stdout, nor an image without renditions, nor a daemon with no address."""
    monkeypatch.setattr(sys, "stdout", Broken())
    broken = told({TRACE_HEADER: f"Root={ROOT};Sampled=1", DAEMON_ADDRESS: "nowhere:at-all"})

    travel(broken, image, "fetch")
    broken.concluded(image)


def test_what_a_step_raises_goes_through(capsys: pytest.CaptureFixture[str]) -> None:
    """Telling changes no outcome: the same exception, after what it cost is told."""
    error = Outage("of S3")

    with (
        pytest.raises(Outage) as raised,
        told().journey(ORIGINAL) as journey,
        journey.step("fetch"),
    ):
        raise error

    assert raised.value is error
    assert len(lines(capsys)) == 1


# ── traces ───────────────────────────────────────────────────────────────────────────────────────


class Daemon:
    """What listens where the X-Ray daemon does."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(TIMEOUT_S)
        host, port = self.socket.getsockname()
        self.environ = {
            TRACE_HEADER: f"Root={ROOT};Parent={PARENT};Sampled=1;Lineage=1:a:0",
            DAEMON_ADDRESS: f"{host}:{port}",
        }

    def document(self) -> dict[str, Any]:
        """The next document. Fails where X-Ray's documentation says required and it is not."""
        header, _, body = self.socket.recv(65_536).decode().partition("\n")
        assert json.loads(header) == {"format": "json", "version": 1}
        document: dict[str, Any] = json.loads(body)
        assert document["type"] == "subsegment"
        assert re.fullmatch(r"1-[0-9a-f]{8}-[0-9a-f]{24}", document["trace_id"])
        assert re.fullmatch(r"[0-9a-f]{16}", document["parent_id"])
        assert all(re.fullmatch(r"[A-Za-z0-9_]+", name) for name in document["annotations"])
        for span in [document, *document["subsegments"]]:
            assert re.fullmatch(r"[0-9a-f]{16}", span["id"])
            assert re.fullmatch(r"[\w .:/%&#=+\-@]{1,200}", span["name"])
            assert span["start_time"] <= span["end_time"]
            assert {"error", "throttle", "fault", "cause"} >= span.keys() - {
                *("name", "id", "start_time", "end_time"),
                *("trace_id", "parent_id", "type", "annotations", "subsegments"),
            }
        ids = [document["id"], *(step["id"] for step in document["subsegments"])]
        assert len(set(ids)) == len(ids)
        return document

    def is_quiet(self) -> bool:
        self.socket.settimeout(0.05)
        try:
            self.socket.recv(1)
        except TimeoutError:
            return True
        return False


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    daemon = Daemon()
    yield daemon
    daemon.socket.close()


def test_journey_is_a_subsegment_of_the_function_with_its_steps_within(daemon: Daemon) -> None:
    """In the order in which they began, whoever ended first, and findable by the image's id."""
    with (
        told(daemon.environ).journey(ORIGINAL) as journey,
        journey.step("recognise"),
        journey.step("render"),
    ):
        pass

    document = daemon.document()

    assert (document["trace_id"], document["parent_id"]) == (ROOT, PARENT)
    assert document["name"] == "image"
    assert document["annotations"] == {"image_id": image_id_of(KEY)}
    assert [step["name"] for step in document["subsegments"]] == ["recognise", "render"]
    assert not {"error", "fault", "throttle"} & document.keys()


@pytest.mark.parametrize(
    ("error", "flags"),
    [
        (CorruptImage("It is broken."), {"error"}),
        (OriginalGone("It is gone."), {"error"}),
        (LeaseHeld("Another is at it.", "2026"), {"error"}),
        (Throttled("Slow down."), {"error", "throttle"}),
        (Outage("of S3"), {"fault"}),
        (Killed(), {"fault"}),
    ],
)
def test_error_is_told_in_the_terms_of_x_ray(error: BaseException, flags: set[str]) -> None:
    """Who is at fault, with type and message of what was raised."""
    trouble = trouble_of(error)

    [exception] = trouble.pop("cause")["exceptions"]
    assert trouble == dict.fromkeys(flags, True)
    assert (exception["type"], exception["message"]) == (type(error).__name__, str(error))
    assert re.fullmatch(r"[0-9a-f]{16}", exception["id"])


def test_step_that_failed_is_marked_and_so_is_what_it_ended(daemon: Daemon) -> None:
    """The step and the journey, not the step before; long messages are cut, secrets left out."""
    with suppress(Outage), told(daemon.environ).journey(ORIGINAL) as journey:
        with journey.step("fetch"):
            pass
        with journey.step("inspect"):
            raise Outage("https://example.com/?key=5EC4E7 " + "very " * 50_000)

    document = daemon.document()

    fetch, inspect = document["subsegments"]
    assert (document["fault"], inspect["fault"], "fault" in fetch) == (True, True, False)
    [exception] = inspect["cause"]["exceptions"]
    assert exception["message"].startswith("https://example.com/?*** very")
    assert len(exception["message"]) <= 500


@pytest.mark.parametrize(
    "changes",
    [
        {TRACE_HEADER: f"Root={ROOT};Parent={PARENT};Sampled=0"},
        {TRACE_HEADER: f"Root={ROOT}"},
        {TRACE_HEADER: ""},
        {DAEMON_ADDRESS: ""},
    ],
)
def test_what_is_not_traced_costs_nothing(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str]
) -> None:
    """Not sampled, or no daemon: no document is made, and no socket."""
    made: list[object] = []
    monkeypatch.setattr(telemetry, "subsegment", lambda *args: made.append(args))
    monkeypatch.setattr(telemetry.socket, "socket", lambda *args: made.append(args))

    travel(told(daemon.environ | changes), COMPLETED, "fetch")

    assert made == []
    monkeypatch.undo()
    assert daemon.is_quiet()


def test_images_side_by_side_keep_their_steps_apart(daemon: Daemon) -> None:
    """Ten at once in threads: a document each, each with its own steps."""
    side_by_side = told(daemon.environ)
    all_there = Barrier(10, timeout=TIMEOUT_S)

    def process(number: int) -> None:
        with side_by_side.journey(replace(ORIGINAL, key=f"uploads/{number}")) as journey:
            all_there.wait()
            for step in ("fetch", "inspect", "prepare")[: 1 + number % 3]:
                with journey.step(step):  # type: ignore[arg-type]
                    all_there.wait() if step == "fetch" else None

    with ThreadPoolExecutor(max_workers=10) as pool:
        list(pool.map(process, range(10)))

    documents = [daemon.document() for _ in range(10)]
    assert {
        document["annotations"]["image_id"]: len(document["subsegments"]) for document in documents
    } == {image_id_of(f"uploads/{number}"): 1 + number % 3 for number in range(10)}
    assert {(document["trace_id"], document["parent_id"]) for document in documents} == {
        (ROOT, PARENT)
    }


def test_late_worker_is_traced_as_the_invocation_that_began_it(daemon: Daemon) -> None:
    """It may end while the next invocation runs, whose trace is another."""
    environ = dict(daemon.environ)

    with told(environ).journey(ORIGINAL):
        environ[TRACE_HEADER] = f"Root=1-00000000-{'0' * 24};Parent={'0' * 16};Sampled=0"

    assert daemon.document()["trace_id"] == ROOT


# ── exactly once ─────────────────────────────────────────────────────────────────────────────────


def upload(services: FakeServices, body: bytes = PICTURE) -> Original:
    event = services.uploads.upload(KEY, body)
    pipeline.register(event, services)
    return event.original


def process(services: FakeServices, original: Original) -> None:
    pipeline.process(original, services.clock() + timedelta(seconds=90), Alone(), services)


def test_completed_image_has_taken_every_step(services: FakeServices) -> None:
    """Told once, as it was recorded."""
    process(services, upload(services))

    [journey] = services.telemetry.journeys
    assert sorted(journey.steps) == sorted(step.lower() for step in STEPS)
    [image] = services.telemetry.conclusions
    assert (image.status, image.attempt, len(image.renditions)) == ("COMPLETED", 1, 2)


@pytest.mark.parametrize(
    ("body", "trouble", "status"),
    [
        (TEXT, None, ImageStatus.FAILED),
        (PICTURE, OriginalGone("gone"), ImageStatus.DELETED),
    ],
)
def test_every_end_is_told(
    services: FakeServices, body: bytes, trouble: Exception | None, status: ImageStatus
) -> None:
    """What is no picture, and what was removed meanwhile."""
    original = upload(services, body)
    services.uploads.before("get", *([trouble] if trouble else []))

    process(services, original)

    assert services.telemetry.statuses == [status]


def test_retries_and_duplicates_tell_one_conclusion(services: FakeServices) -> None:
    """A failed attempt before, a failed announcement, and a message that comes again after it."""
    original = upload(services)
    services.renditions.before("put", Outage())
    services.topic.before("publish", Outage())

    for _ in range(4):
        with suppress(Outage):
            process(services, original)

    assert services.topic.statuses == ["COMPLETED"]
    assert services.telemetry.statuses == ["COMPLETED"]


def test_worker_whose_result_is_refused_tells_none(services: FakeServices) -> None:
    """Another worker took the image on and concluded it while this one rendered."""
    original = upload(services)

    def other_worker() -> None:
        services.clock.forward(seconds=91)
        process(services, original)

    services.renditions.before("put", other_worker)
    process(services, original)

    assert services.telemetry.statuses == ["COMPLETED"]
    assert recorded(services).attempt == 2 == services.telemetry.conclusions[0].attempt


def recorded(services: FakeServices) -> Image:
    return services.catalog.records[image_id_of(KEY)]


def test_image_given_up_is_told(services: FakeServices) -> None:
    """By the worker that received its message for the last time."""
    message = message_of(upload(services), receive_count=5)
    services.uploads.before("get", Outage())

    with pytest.raises(BatchFailed):
        worker.process_batch([message], timedelta(seconds=60), services)

    [image] = services.telemetry.conclusions
    assert image.failure is not None
    assert image.failure.code == RETRIES_EXHAUSTED


def test_image_that_kills_workers_is_told_by_the_recheck(services: FakeServices) -> None:
    """Nobody else is left to tell it; the recheck after that settles and tells nothing."""
    original = upload(services)
    for _ in range(services.patience.max_receives):
        services.uploads.before("get", Killed())
        with suppress(Killed):
            process(services, original)
        services.clock.forward(seconds=91)

    for _ in range(2):
        message = message_of(Recheck(KEY))
        worker.process_batch([message], timedelta(seconds=60), services)

    assert services.telemetry.statuses == ["FAILED"]


def test_removal_is_told_once(services: FakeServices) -> None:
    """However often its event comes, and although its announcement failed at first."""
    process(services, upload(services))
    removed = services.uploads.remove(KEY)
    services.topic.before("publish", Outage())

    for _ in range(3):
        with suppress(Outage):
            pipeline.remove(removed, services)

    assert services.topic.statuses == ["COMPLETED", "DELETED"]
    assert services.telemetry.statuses == ["COMPLETED", "DELETED"]


def test_image_processed_anew_is_told_anew(services: FakeServices) -> None:
    """It has come to its end twice."""
    process(services, upload(services))
    pipeline.reprocess(image_id_of(KEY), services)
    process(services, recorded(services).original)

    assert services.telemetry.statuses == ["COMPLETED", "COMPLETED"]


def test_telemetry_that_fails_costs_no_image(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way with nowhere to write to."""
    services.telemetry = told({TRACE_HEADER: "Sampled=1", DAEMON_ADDRESS: "no:where"})  # type: ignore[assignment]
    original = upload(services)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Broken())
        process(services, original)

    assert recorded(services).is_settled
