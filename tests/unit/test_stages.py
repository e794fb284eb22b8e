"""Images through the state machine: the same end as by the worker, whatever happens on the way."""

import json
import re
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from chalicelib import errors, pipeline, stages, worker
from chalicelib.errors import LeaseHeld, NotNow, RecognitionRefused, Throttled
from chalicelib.messages import Recheck, Work, encode_work
from chalicelib.model import (
    RETRIES_EXHAUSTED,
    Duplicate,
    Image,
    ModerationLabel,
    Original,
    QuarantineRule,
    Recognition,
    image_id_of,
)
from infrastructure.template import read_template
from tests.fakes import (
    CAT,
    PICTURE,
    RECIPE,
    Alone,
    FakeServices,
    FakeWorkflow,
    Killed,
    Outage,
    message_of,
)
from tests.machine import DEFINITION, STAGES, WORKFLOW, Execution, stage_of
from tests.pictures import photo, saved

KEY = "uploads/cat.jpg"
IMAGE_ID = image_id_of(KEY)
TEXT = b"This is no picture."
OTHER = saved(photo(48, 64, seed=2))
VIOLENT = Recognition(labels=(CAT,), moderation=(ModerationLabel("Violence", 92.5),))
STRICT = replace(RECIPE, quarantine=(QuarantineRule("Violence", 80),))
KINDS = {"picture": "COMPLETED", "flagged": "QUARANTINED", "text": "FAILED", "gone": "DELETED"}
FAKES = ("catalog", "uploads", "renditions", "recognizer", "topic", "queue")


def staged() -> FakeServices:
    """A stage whose worker starts executions."""
    return FakeServices(workflow=FakeWorkflow(), recipe=STRICT)


@pytest.fixture
def services() -> FakeServices:
    return staged()


def upload(services: FakeServices, kind: str = "picture", key: str = KEY) -> Original:
    """What is there to be processed, registered."""
    if kind == "flagged":
        services.recognizer.recognition = VIOLENT
    event = services.uploads.upload(key, TEXT if kind == "text" else PICTURE)
    pipeline.register(event, services)
    services.queue.receive()
    if kind == "gone":
        services.uploads.remove_version(event.original)
    return event.original


def execute(services: FakeServices, work: Work) -> Execution:
    return Execution(services, work).run()


def recorded(services: FakeServices, key: str = KEY) -> Image:
    return services.catalog.records[image_id_of(key)]


def assert_clean(services: FakeServices) -> None:
    """Nothing is stored but what records name, and nothing that is withheld lies elsewhere."""
    images = services.catalog.records.values()
    named = {each.key for image in images for each in image.renditions}
    assert set(services.renditions.stored) == named
    for image in images:
        places = {each.key.startswith("quarantine/") for each in image.renditions}
        assert places <= {image.is_withheld}


# ── the same as by the worker ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", KINDS)
def test_ends_as_by_the_worker(services: FakeServices, kind: str) -> None:
    """Record, renditions and announcements are the same."""
    inline = FakeServices(recipe=STRICT)
    for each in (services, inline):
        original = upload(each, kind)
    execute(services, original)
    pipeline.process(original, inline.clock() + timedelta(seconds=60), Alone(), inline)

    assert recorded(services).status == KINDS[kind]
    assert replace(recorded(services), revision=0) == replace(recorded(inline), revision=0)
    assert services.renditions.stored == inline.renditions.stored
    assert [each.text for each in services.topic.published] == [
        each.text for each in inline.topic.published
    ]
    assert services.telemetry.statuses == inline.telemetry.statuses


@pytest.mark.parametrize(
    ("kind", "states"),
    [
        ("picture", ["Validate", "WhatIsIt", "Recognise", "Render", "Store", "Announce"]),
        ("flagged", ["Validate", "WhatIsIt", "Recognise", "Render", "Store", "Announce"]),
        ("text", ["Validate", "WhatIsIt", "Store", "Announce"]),
        ("gone", ["Validate", "WhatIsIt", "Store", "Announce"]),
    ],
)
def test_states_show_what_was_found(services: FakeServices, kind: str, states: list[str]) -> None:
    assert execute(services, upload(services, kind)).states == states


def test_history_says_nothing_of_the_picture(services: FakeServices) -> None:
    """It is kept for 90 days, whoever deletes the image, and read by whoever may see executions."""
    run = Execution(services, upload(services, "flagged"))
    while run.next:
        run.step()
        assert len(json.dumps(run.passed)) < 1000
        for word in ("Cat", "Violence", "sha256", "JPEG"):
            assert word not in json.dumps(run.passed)


def test_reused_recognition_is_not_asked_for(services: FakeServices) -> None:
    services.recipe = replace(STRICT, reuse_recognition=True)
    execute(services, upload(services))
    services.recognizer.calls.clear()

    execute(services, upload(services, key="uploads/copy.jpg"))

    copy = recorded(services, "uploads/copy.jpg")
    assert services.recognizer.calls == []
    assert copy.recognition.labels == (CAT,)
    assert copy.duplicates == (Duplicate(IMAGE_ID, 0, is_exact=True),)


def test_refusal_by_rekognition_is_recorded(services: FakeServices) -> None:
    """The stages in between find no draft and do nothing."""
    services.recognizer.before("recognize", RecognitionRefused("Too dark to see."))

    execute(services, upload(services))

    image = recorded(services)
    assert image.failure is not None
    assert (image.status, image.failure.code) == ("FAILED", "recognition_refused")
    assert (image.description, image.renditions) == (None, ())
    assert services.topic.statuses == ["FAILED"]
    assert_clean(services)


# ── what happens on the way ──────────────────────────────────────────────────────────────────────


def calls_of(kind: str) -> list[tuple[str, str, str, int]]:
    """Every call that an execution makes, and how many of the same are before it."""
    services = staged()
    original = upload(services, kind)
    for fake in FAKES:
        getattr(services, fake).calls.clear()
    execute(services, original)
    return [
        (kind, fake, call, passed)
        for fake in FAKES
        for call, times in Counter(getattr(services, fake).calls).items()
        for passed in range(times)
    ]


EVERY_CALL = [step for kind in KINDS for step in calls_of(kind)]


def go_on() -> None:
    """Nothing happens before this call."""


@pytest.mark.parametrize(("kind", "fake", "call", "passed"), EVERY_CALL)
def test_stage_that_fails_once_is_retried_to_the_same_end(
    services: FakeServices, kind: str, fake: str, call: str, passed: int
) -> None:
    """Whichever call fails."""
    original = upload(services, kind)
    getattr(services, fake).forget()
    getattr(services, fake).before(call, *[go_on] * passed, Outage())

    execute(services, original)

    assert (recorded(services).status, recorded(services).announced) == (KINDS[kind], True)
    assert set(services.topic.statuses) == {KINDS[kind]}
    assert_clean(services)


@pytest.mark.parametrize(("kind", "fake", "call", "passed"), EVERY_CALL)
def test_stage_that_dies_once_is_retried_to_the_same_end(
    services: FakeServices, kind: str, fake: str, call: str, passed: int
) -> None:
    """It knows its own lease again, and goes on with the same attempt."""
    original = upload(services, kind)
    getattr(services, fake).before(call, *[go_on] * passed, Killed())

    run = Execution(services, original)
    while run.next:
        state, passed_on = run.next, run.passed
        try:
            run.step()
        except Killed:
            run.next, run.passed = state, passed_on
            if state == "Announce":  # whose settling has a lease of its own
                services.clock.forward(seconds=61)

    image = recorded(services)
    assert (image.status, image.announced, image.attempt) == (KINDS[kind], True, 1)
    assert set(services.topic.statuses) == {KINDS[kind]}
    assert_clean(services)


@pytest.mark.parametrize("stage", ["Validate", "Recognise", "Render", "Store"])
def test_what_fails_for_good_is_given_up_and_said(services: FakeServices, stage: str) -> None:
    """FAILED, announced, and the execution failed: the alarm goes off."""
    fake, call, times = {
        "Validate": ("uploads", "get", 5),
        "Recognise": ("recognizer", "recognize", 5),
        "Render": ("renditions", "put", 10),  # two at a time
        "Store": ("catalog", "save", 5),
    }[stage]
    original = upload(services)
    run = Execution(services, original)
    while run.next != stage:
        run.step()
    getattr(services, fake).before(call, *[Outage()] * times)
    run.run()

    image = recorded(services)
    assert run.states[-3:] == ["TakeBack", "WasItGivenUp", "GivenUp"]
    assert run.output is None
    assert image.failure is not None
    assert (image.status, image.failure.code) == ("FAILED", RETRIES_EXHAUSTED)
    assert "Outage" in image.failure.message
    assert services.topic.statuses == ["FAILED"]
    assert_clean(services)


def test_what_is_throttled_for_long_is_never_given_up(services: FakeServices) -> None:
    """Another execution takes it on, once the queue brings it again."""
    original = upload(services)
    services.recognizer.before("recognize", *[Throttled("Not now.")] * 8)

    run = execute(services, original)

    assert run.states[-3:] == ["TakeBack", "WasItGivenUp", "WaitsAgain"]
    assert (recorded(services).status, recorded(services).lease_until) == ("QUEUED", None)
    assert services.queue.receive() == [Recheck(KEY)]
    assert services.topic.published == []

    execute(services, Recheck(KEY))
    assert recorded(services).status == "COMPLETED"
    assert_clean(services)


def test_release_beside_an_execution_is_kept(services: FakeServices) -> None:
    """What a reviewer has released while it was processed again is processed once more."""
    execute(services, upload(services, "flagged"))
    pipeline.reprocess(IMAGE_ID, services)
    services.queue.receive()
    run = Execution(services, recorded(services).original)
    while run.next != "Store":
        run.step()
    pipeline.release(IMAGE_ID, "", services)
    services.queue.receive()
    run.run()

    assert run.states[-1] == "WaitsAgain"
    execute(services, *services.queue.receive())
    assert (recorded(services).status, recorded(services).released) == ("COMPLETED", True)
    assert_clean(services)


@pytest.mark.parametrize("state", ["Validate", "Recognise", "Render", "Store", "Announce"])
@pytest.mark.parametrize("change", ["replaced", "removed"])
def test_overtaken_execution_changes_nothing(
    services: FakeServices, state: str, change: str
) -> None:
    """Whatever happens to the object while it runs counts, and nothing is left of it."""
    original = upload(services)
    run = Execution(services, original)
    while run.next != state:
        run.step()
    if change == "replaced":
        newer = services.uploads.upload(KEY, OTHER)
        pipeline.register(newer, services)
    else:
        pipeline.remove(services.uploads.remove(KEY), services)
    run.run()
    if change == "replaced":
        execute(services, newer.original)

    expected = "COMPLETED" if change == "replaced" else "DELETED"
    assert recorded(services).status == expected
    assert recorded(services).announced
    assert_clean(services)


def test_repeated_execution_changes_nothing(services: FakeServices) -> None:
    original = upload(services)
    execute(services, original)
    before = recorded(services)

    assert execute(services, original).states == ["Validate", "WhatIsIt", "NothingToDo"]
    assert execute(services, Recheck(KEY)).states == ["Validate", "WhatIsIt", "NothingToDo"]
    assert recorded(services) == before
    assert len(services.topic.published) == 1


def test_two_executions_at_once_are_one(services: FakeServices) -> None:
    """Even if they were started in the same millisecond."""
    original = upload(services)
    first, second = Execution(services, original), Execution(services, Recheck(KEY))
    first.step()
    second.run()
    first.run()

    assert second.states == ["Validate", "WhatIsIt", "NothingToDo"]
    assert recorded(services).status == "COMPLETED"
    assert len(services.topic.published) == 1


def test_execution_that_died_is_found_by_the_sweep(services: FakeServices) -> None:
    """Once its lease is over, another takes the image on; its drafts go."""
    run = Execution(services, upload(services))
    for _ in range(4):
        run.step()
    services.clock.forward(minutes=17)

    execute(services, Recheck(KEY))

    assert (recorded(services).status, recorded(services).attempt) == ("COMPLETED", 2)
    assert_clean(services)
    run.run()  # as if it had only slept
    assert len(services.topic.published) == 1


def test_event_alone_makes_an_image(services: FakeServices) -> None:
    """An execution that EventBridge has started finds no record yet."""
    services.uploads.upload(KEY, PICTURE)

    execute(services, Recheck(KEY))

    assert recorded(services).status == "COMPLETED"


def test_what_somebody_left_unsettled_is_settled(services: FakeServices) -> None:
    original = upload(services)
    execute(services, original)
    services.catalog.records[IMAGE_ID] = replace(recorded(services), announced=False)

    run = execute(services, original)

    assert run.states == ["Validate", "WhatIsIt", "Announce"]
    assert recorded(services).announced


# ── how the worker starts them ───────────────────────────────────────────────────────────────────


def take(services: FakeServices, work: Work) -> dict[str, Original]:
    """The executions that there are once the worker has taken a message."""
    worker.process_batch([message_of(work)], timedelta(seconds=60), services)
    assert services.workflow is not None
    return dict(services.workflow.executions)


def test_message_that_comes_twice_starts_one_execution(services: FakeServices) -> None:
    original = upload(services)
    started = take(services, original)

    assert list(started.values()) == [original]
    assert take(services, original) == started
    assert take(services, Recheck(KEY)) == started
    assert services.recognizer.calls == []
    [name] = started
    assert re.fullmatch(r"[a-z2-7]{26}-[a-z2-7]{26}-\d+", name)
    assert len(name) <= 80


def test_message_that_meets_an_execution_comes_back(services: FakeServices) -> None:
    """As one that meets another worker."""
    original = upload(services)
    run = Execution(services, original)
    run.step()

    with pytest.raises(LeaseHeld):
        pipeline.start(original, FakeWorkflow(), services)
    run.run()
    assert take(services, original) == {}


def test_each_time_it_is_asked_for_has_a_name_of_its_own(services: FakeServices) -> None:
    original = upload(services)
    take(services, original)
    execute(services, original)
    pipeline.reprocess(IMAGE_ID, services)

    assert len(take(services, Recheck(KEY))) == 2


def test_name_of_an_execution_that_ended_without_a_word_is_not_waited_for(
    services: FakeServices,
) -> None:
    original = upload(services)
    [name] = take(services, original)
    assert services.workflow is not None
    services.workflow.ended.add(name)

    assert len(take(services, Recheck(KEY))) == 2


def test_message_of_an_image_nobody_has_recorded_starts_one(services: FakeServices) -> None:
    original = services.uploads.upload(KEY, PICTURE).original

    assert list(take(services, original).values()) == [original]


def test_busy_step_functions_is_no_reason_to_give_an_image_up(services: FakeServices) -> None:
    """At the last receive a fresh copy takes the message's place."""
    original = upload(services)
    assert services.workflow is not None
    services.workflow.before("start", Throttled("Not now."))

    with pytest.raises(errors.BatchFailed):
        worker.process_batch([message_of(original, 5)], timedelta(seconds=60), services)

    assert recorded(services).status == "QUEUED"
    assert len(services.queue.postponed) == 1


# ── the definition ───────────────────────────────────────────────────────────────────────────────


def states(kind: str) -> dict[str, Any]:
    return {name: state for name, state in DEFINITION["States"].items() if state["Type"] == kind}


def test_every_stage_has_its_state_and_function() -> None:
    assert {stage_of(state) for state in states("Task").values()} == {*STAGES}
    suffixes = read_template(WORKFLOW)["Mappings"]["Functions"].values()
    assert {each["Suffix"].removeprefix("-") for each in suffixes} == {*STAGES}


def test_lease_lasts_as_long_as_an_execution() -> None:
    assert stages.EXECUTION_LASTS.total_seconds() == DEFINITION["TimeoutSeconds"]


def test_what_is_put_back_was_waited_for() -> None:
    """The errors that no image is given up for are the first retrier's, in every state."""
    assert {*stages.NOT_NOW} - {"Lambda.TooManyRequestsException"} == {
        each.__name__ for each in NotNow.__subclasses__()
    }
    for state in states("Task").values():
        patient, other = state["Retry"]
        assert tuple(patient["ErrorEquals"]) == stages.NOT_NOW
        assert other["ErrorEquals"] == ["States.ALL"]
        assert other["MaxAttempts"] + 1 == 5  # MaxReceiveCount, unless that is changed


def test_choice_knows_all_that_can_be_found() -> None:
    choice = DEFINITION["States"]["WhatIsIt"]
    chosen = {each["StringEquals"] for each in choice["Choices"]}
    assert chosen == {*stages.Found} - {stages.Found.NOTHING}


def test_work_of_an_event_is_what_a_message_holds() -> None:
    """EventBridge makes the input by a template of text."""
    rule = read_template(WORKFLOW)["Resources"]["Uploaded"]["Properties"]
    made = rule["Targets"][0]["InputTransformer"]["InputTemplate"].replace("<key>", json.dumps(KEY))
    assert json.loads(made) == json.loads(encode_work(Recheck(KEY)))


def test_reason_gives_nothing_away() -> None:
    """Of an answer of AWS its code and operation; of anything else its name."""
    cause = (
        '{"errorMessage": "An error occurred (AccessDenied) when calling the PutObject operation: '
        'User: arn:aws:sts::123456789012:assumed-role/x is not authorized"}'
    )
    known = {"Error": "ClientError", "Cause": cause}
    assert stages._reason(known) == "PutObject was answered with AccessDenied"  # noqa: SLF001
    other = {"Error": "States.Timeout", "Cause": "Task timed out"}
    assert stages._reason(other) == "States.Timeout"  # noqa: SLF001
