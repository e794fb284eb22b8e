"""Which images a backfill takes, what it says, and that it can be stopped at any time."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from chalicelib.config import read_settings
from chalicelib.messages import Recheck
from chalicelib.model import RETRIES_EXHAUSTED, Failure, Feature, Image, ImageStatus, Original
from chalicelib.sweep import enqueue_strays
from infrastructure import backfill
from infrastructure.backfill import Group, cost_usd, enqueued, group_of, paced
from infrastructure.stage import PROJECT
from tests.fakes import FakeServices

ENVIRON = {
    "STAGE": "dev",
    "UPLOADS_BUCKET": "uploads",
    "RENDITIONS_BUCKET": "renditions",
    "TABLE_NAME": "catalog",
    "WORK_QUEUE_URL": "http://queue/work",
    "WEBHOOK_QUEUE_URL": "http://queue/webhooks",
    "TOPIC_ARN": "arn:topic",
    "MAX_RECEIVE_COUNT": "5",
}
BROKEN = Failure("corrupt_image", "It is broken.")
EXHAUSTED = Failure(RETRIES_EXHAUSTED, "Given up.")
NOW, BEFORE = "1-now", "1-before"


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> FakeServices:
    """Those of a stage whose pipeline is of the version NOW."""
    services = FakeServices()
    services.recipe = replace(services.recipe, version=NOW)
    services.settings = read_settings(ENVIRON)  # type: ignore[attr-defined]
    monkeypatch.setattr(backfill, "services_of", lambda _: services)
    return services


def uploaded(services: FakeServices, name: str) -> Original:
    return services.uploads.upload(f"uploads/{name}", name.encode()).original


def recorded(services: FakeServices, name: str, **changes: Any) -> Image:
    """The record of an object that is there; COMPLETED and announced unless told otherwise."""
    fresh = Image(
        uploaded(services, name), ImageStatus.COMPLETED, "", pipeline_version=NOW, announced=True
    )
    return services.catalog.save(replace(fresh, **changes), previous=None)


def one_of_each(services: FakeServices) -> list[str]:
    """Images of all groups; gives the keys of those that a backfill takes."""
    recorded(services, "a current")
    recorded(services, "b broken", status=ImageStatus.FAILED, failure=BROKEN)
    recorded(services, "c queued", status=ImageStatus.QUEUED, pipeline_version=BEFORE)
    taken = [
        recorded(services, "d outdated", pipeline_version=BEFORE).original.key,
        recorded(services, "e given up", status=ImageStatus.FAILED, failure=EXHAUSTED).original.key,
        uploaded(services, "f unknown").key,
    ]
    services.uploads.upload("elsewhere/g.jpg", b"not an original")
    return taken


def ran(*words: str) -> int:
    """The command with these options."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--stage")
    backfill.add_arguments(parser)
    return backfill.run(parser.parse_args(["--stage", "dev", "--rate", "1000000", *words]))


# ── which ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changes", "group"),
    [
        ({}, Group.CURRENT),
        ({"pipeline_version": BEFORE}, Group.OUTDATED),
        ({"pipeline_version": None}, Group.OUTDATED),
        ({"status": ImageStatus.FAILED, "failure": BROKEN}, Group.CURRENT),
        (
            {"status": ImageStatus.FAILED, "failure": BROKEN, "pipeline_version": BEFORE},
            Group.OUTDATED,
        ),
        ({"status": ImageStatus.FAILED, "failure": EXHAUSTED}, Group.GIVEN_UP),
        ({"status": ImageStatus.QUEUED, "pipeline_version": BEFORE}, Group.WAITING),
        ({"status": ImageStatus.PROCESSING}, Group.WAITING),
        ({"status": ImageStatus.DELETED}, Group.UNRECORDED),
    ],
)
def test_record_says_what_is_to_be_done(
    services: FakeServices, changes: dict[str, Any], group: Group
) -> None:
    """Done with the version of now, or on its way to it: skipped. Anything else is taken."""
    image = recorded(services, "cat", **changes)

    assert group_of(image.original, image, NOW) is group


def test_object_without_record_of_it_is_taken(services: FakeServices) -> None:
    """Unknown to the catalog, or known in an older version whose event is still to come."""
    image = recorded(services, "cat")
    replaced = services.uploads.upload(image.original.key, b"another").original

    assert group_of(replaced, None, NOW) is Group.UNRECORDED
    assert group_of(replaced, image, NOW) is Group.UNRECORDED
    waiting = replace(image, status=ImageStatus.PROCESSING)
    assert group_of(replaced, waiting, NOW) is Group.WAITING


def test_cost_is_what_the_readme_says() -> None:
    """The prices in README.md, and each other feature of Rekognition on top."""
    costs = (PROJECT / "README.md").read_text().partition("## Costs")[2].partition("\n## ")[0]
    prices = [float(price) for price in re.findall(r"\| ([0-9.]+) \|$", costs, re.MULTILINE)]

    assert cost_usd(1000, [Feature.LABELS]) == pytest.approx(sum(prices))
    assert cost_usd(1000, Feature) == pytest.approx(sum(prices) + 4.75)
    assert cost_usd(1000, Feature, recognized=False) == pytest.approx(sum(prices) - 1)
    assert cost_usd(1000, []) == cost_usd(1000, Feature, recognized=False)
    assert cost_usd(0, Feature) == 0


# ── the command ──────────────────────────────────────────────────────────────────────────────────


def test_dry_run_counts_and_touches_nothing(
    services: FakeServices, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every group with its number, the sum and its price; no record and no queue is written."""
    one_of_each(services)
    before = dict(services.catalog.records)

    assert ran("--dry-run") == 0

    said = capsys.readouterr().out.splitlines()
    numbers = {group: number for number, group in (line.split(None, 1) for line in said[2:7])}
    assert numbers == {
        "current": "2",
        "waiting or in work": "1",
        "of an older version or other settings": "1",
        "given up": "1",
        "never registered": "1",
    }
    assert said[0] == "Pipeline version 1-now, keys under uploads/"
    assert said[-1] == "3 to process, for about 0.00 USD at list prices of us-east-1."
    assert services.catalog.records == before
    assert services.queue.sent == []


def test_cost_is_that_of_the_stage(
    services: FakeServices, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the features that it asks Rekognition for, with all that is to be processed."""
    for number in range(1000):
        uploaded(services, f"{number}.jpg")
    environ = ENVIRON | {"RECOGNITION": "labels, properties, faces all, text"}
    services.settings = read_settings(environ)  # type: ignore[attr-defined]

    assert ran("--dry-run") == 0

    assert "1,000 to process, for about 3.82 USD" in capsys.readouterr().out


def test_what_is_not_current_is_enqueued(services: FakeServices) -> None:
    """Images with a record wait from now on, unknown objects are looked at; no other one."""
    keys = one_of_each(services)
    recorded_keys = [image.original.key for image in services.catalog.records.values()]

    assert ran("--yes") == 0

    assert services.queue.sent == [Recheck(key) for key in keys]
    records = services.catalog.records.values()
    assert [image.original.key for image in records] == recorded_keys
    waiting = {image.original.key for image in records if image.status is ImageStatus.QUEUED}
    assert waiting == {"uploads/c queued", *keys} - {"uploads/f unknown"}


def test_prefix_narrows_what_is_taken(services: FakeServices) -> None:
    """Only keys that begin so are counted and enqueued."""
    one_of_each(services)

    assert ran("--yes", "--prefix", "uploads/d") == 0

    assert [work.key for work in services.queue.sent] == ["uploads/d outdated"]


def test_image_keeps_what_it_has_until_the_new_is_there(services: FakeServices) -> None:
    """Its labels and renditions stay on the record while it waits."""
    recognition = services.recognizer.recognition
    image = recorded(services, "cat", pipeline_version=BEFORE, recognition=recognition)

    ran("--yes")

    waiting = services.catalog.records[image.image_id]
    assert (waiting.status, waiting.recognition) == (ImageStatus.QUEUED, recognition)


def test_nothing_to_do_asks_nothing(
    services: FakeServices, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where all is current the command is done, whether anybody could be asked or not."""
    recorded(services, "cat")

    assert ran() == 0
    assert "0 to process" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "is_enqueued"), [("y", True), ("Yes ", True), ("", False), ("n", False)]
)
def test_person_is_asked_first(
    services: FakeServices,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    is_enqueued: bool,  # noqa: FBT001 - a parameter
) -> None:
    """Only a clear yes spends money."""
    uploaded(services, "cat")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: answer)

    assert ran() == (0 if is_enqueued else 1)
    assert bool(services.queue.sent) is is_enqueued


def test_without_a_terminal_yes_has_to_be_said(
    services: FakeServices,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A script that does not say --yes enqueues nothing, and is told why."""
    uploaded(services, "cat")
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)

    assert ran() == 1
    assert "--yes" in capsys.readouterr().err
    assert services.queue.sent == []


@pytest.mark.parametrize(
    "words",
    [
        ("--rate", "0"),
        ("--rate", "-1"),
        ("--rate", "fast"),
        ("--rate", "inf"),
        ("--rate", "nan"),
        ("--prefix", "elsewhere/"),
        ("--prefix", "uploads"),
    ],
)
@pytest.mark.usefixtures("services")
def test_option_that_makes_no_sense_is_refused(words: tuple[str, str]) -> None:
    """A rate that is none, or keys that the pipeline knows nothing of."""
    with pytest.raises(SystemExit):
        ran(*words)


# ── stopped and run again ────────────────────────────────────────────────────────────────────────


def work_off(services: FakeServices) -> None:
    """What waits is done, as far as its record tells."""
    for work in services.queue.receive():
        original = services.uploads.current(work.key)
        assert original is not None
        before = services.catalog.records.get(original.image_id)
        done = Image(original, ImageStatus.COMPLETED, "", pipeline_version=NOW, announced=True)
        services.catalog.save(done, previous=before)


@pytest.mark.parametrize("stop", [0, 1, 2, 3, 4])
def test_stopped_anywhere_it_goes_on_when_run_again(
    services: FakeServices, capsys: pytest.CaptureFixture[str], stop: int
) -> None:
    """Every image is enqueued, and no image twice."""
    keys = [
        recorded(services, f"{number}.jpg", pipeline_version=BEFORE).original.key
        for number in range(5)
    ]
    services.catalog.before("get", *[lambda: None] * stop, KeyboardInterrupt())

    with pytest.raises(KeyboardInterrupt):
        ran("--yes")
    assert f"{stop} enqueued. What is done or waits is skipped" in capsys.readouterr().out
    assert [work.key for work in services.queue.sent] == keys[:stop]
    work_off(services)

    assert ran("--yes") == 0
    assert [work.key for work in services.queue.sent] == keys[stop:]


def test_image_that_ctrl_c_caught_half_way_is_found_by_the_sweep(services: FakeServices) -> None:
    """Its record waits, its message was never sent: it is asked for once the queue is empty."""
    image = recorded(services, "cat", pipeline_version=BEFORE)
    services.queue.before("send", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        ran("--yes")
    assert services.queue.sent == []

    services.clock.forward(minutes=16)
    enqueue_strays("uploads/", timedelta(minutes=5), services)

    assert services.queue.sent == [Recheck(image.original.key)]


def test_image_deleted_meanwhile_stops_nothing(services: FakeServices) -> None:
    """Its record says so when its turn comes; the next one is taken."""
    gone = recorded(services, "a", pipeline_version=BEFORE)
    key = recorded(services, "b", pipeline_version=BEFORE).original.key
    tombstone = replace(gone, status=ImageStatus.DELETED)
    services.catalog.before("get", lambda: services.catalog.save(tombstone, previous=gone))

    ran("--yes")

    assert [work.key for work in services.queue.sent] == [key]


# ── at a rate ────────────────────────────────────────────────────────────────────────────────────


class Stopwatch:
    """A clock that only sleeping and working move."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += seconds


def moments(rate: float, work_s: Sequence[float]) -> list[float]:
    """When each thing is given, where working at it takes so long."""
    clock, given = Stopwatch(), []
    for seconds in paced(work_s, rate, clock, clock.forward):
        given.append(clock.now)
        clock.forward(seconds)
    return given


def test_things_come_at_the_rate(services: FakeServices) -> None:
    """The first at once, the others an interval apart, whatever working at them takes of it."""
    assert moments(2, [0, 0.25, 0.5, 0]) == [0, 0.5, 1.0, 1.5]

    for number in range(3):
        uploaded(services, f"{number}.jpg")
    clock = Stopwatch()
    for _ in enqueued("uploads/", 4, services, clock, clock.forward):
        pass
    assert clock.now == 0.5


def test_what_was_late_is_not_caught_up_on() -> None:
    """After a slow one the rate is the same, with no burst behind it."""
    assert moments(2, [3, 0, 0, 0]) == [0, 3, 3.5, 4.0]
