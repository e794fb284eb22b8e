"""A batch of the work queue: side by side, within its time, and whatever fails comes back."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any

import pytest

from chalicelib import imaging, pipeline, worker
from chalicelib.errors import (
    BatchFailed,
    LeaseHeld,
    MalformedMessage,
    OutOfTime,
    StaleRevision,
    Throttled,
    TookTooLong,
)
from chalicelib.messages import Recheck, Work, WorkMessage, timestamp
from chalicelib.model import Image, ImageStatus, Original, Rendered, image_id_of
from tests.fakes import Alone, FakeServices, Killed, Outage, message_of
from tests.pictures import photo, saved
from tests.waiting import TIMEOUT_S

PICTURE = saved(photo(64, 48, seed=1))
TEXT = b"This is no picture."
LAST = 5
"""The receive after which SQS moves a message to the dead-letter queue."""


def upload(services: FakeServices, key: str = "uploads/cat.jpg", body: bytes = PICTURE) -> Original:
    """A new object, registered; its message is off the queue."""
    event = services.uploads.upload(key, body)
    pipeline.register(event, services)
    services.queue.receive()
    return event.original


def go_on() -> None:
    """The action that lets a call through."""


def batch(services: FakeServices, size: int, receive_count: int = 1) -> list[WorkMessage]:
    """Messages of as many images."""
    return [
        message_of(upload(services, f"uploads/{number}.jpg"), receive_count)
        for number in range(size)
    ]


def run(services: FakeServices, messages: Sequence[WorkMessage], seconds: float = 60) -> None:
    worker.process_batch(messages, timedelta(seconds=seconds), services)


def fail(
    services: FakeServices, messages: Sequence[WorkMessage], seconds: float = 60
) -> tuple[BaseException, ...]:
    """The failures of a batch that has some."""
    with pytest.raises(BatchFailed) as raised:
        run(services, messages, seconds)
    return raised.value.failures


def recorded(services: FakeServices, work: Work | WorkMessage) -> Image:
    work = work.work if isinstance(work, WorkMessage) else work
    return services.catalog.records[image_id_of(work.key)]


def stored_of(image: Image) -> set[str]:
    return {rendition.key for rendition in image.renditions}


# ── a batch ──────────────────────────────────────────────────────────────────────────────────────


def test_good_batch_is_left_to_lambda(services: FakeServices) -> None:
    """When all goes well nothing is deleted or handed back by us: Lambda deletes the batch."""
    messages = batch(services, 5)

    run(services, messages)

    assert {recorded(services, message).status for message in messages} == {"COMPLETED"}
    assert not {"delete", "hand_back", "postpone"} & set(services.queue.calls)


def test_bad_image_does_not_cost_its_neighbours(services: FakeServices) -> None:
    """What succeeded is deleted, what did not comes back, and the error names every cause."""
    messages = batch(services, 3)
    messages.append(replace(messages[0], message_id="foreign", body="{}"))
    held = recorded(services, messages[1])
    lease = timestamp(services.clock.now + timedelta(seconds=60))
    services.catalog.records[held.image_id] = replace(
        held, status=ImageStatus.PROCESSING, lease_until=lease
    )

    with pytest.raises(BatchFailed) as raised:
        run(services, messages)

    assert services.queue.deleted == [messages[0], messages[2]]
    assert services.queue.handed_back.keys() == {messages[1], messages[3]}
    assert [type(failure) for failure in raised.value.failures] == [LeaseHeld, MalformedMessage]
    assert str(raised.value).startswith("2 of 4 messages failed: LeaseHeld: uploads/1.jpg is")
    assert "MalformedMessage: This is no work message: {}" in str(raised.value)


def test_file_that_is_no_picture_is_no_failure_of_the_batch(services: FakeServices) -> None:
    """A permanent failure is consumed like a success."""
    text = upload(services, body=TEXT)

    run(services, [*batch(services, 2), message_of(text)])

    assert recorded(services, text).status is ImageStatus.FAILED
    assert services.topic.statuses.count("COMPLETED") == 2


def test_batch_that_fails_as_a_whole_deletes_nothing(services: FakeServices) -> None:
    """With nothing done, everything comes back."""
    messages = batch(services, 2)
    services.uploads.before("get", Outage("slow down"), Outage("slow down"))

    with pytest.raises(BatchFailed, match="2 of 2 messages failed: Outage: slow down; Outage"):
        run(services, messages)

    assert services.queue.deleted == []
    assert services.queue.handed_back.keys() == set(messages)


def test_what_comes_back_is_done_at_its_next_try(services: FakeServices) -> None:
    """A failure that passes costs the image a delay and nothing else."""
    messages = batch(services, 2)
    services.recognizer.before("recognize", Outage(), Outage())
    fail(services, messages)

    run(services, messages)

    for message in messages:
        assert recorded(services, message).status is ImageStatus.COMPLETED
    assert services.topic.statuses == ["COMPLETED"] * 2


def test_worker_thread_that_dies_is_a_failure_like_any_other(services: FakeServices) -> None:
    """Its message comes back and its neighbour's is deleted."""
    messages = batch(services, 2)
    services.uploads.before("get", Killed())

    [failure] = fail(services, messages)

    assert isinstance(failure, Killed)
    [back] = services.queue.handed_back
    assert services.queue.deleted == [message for message in messages if message != back]


# ── how many at a time ───────────────────────────────────────────────────────────────────────────


class Meeting:
    """Counts who is inside at once; the first to come wait until all that may be are there."""

    def __init__(self, size: int) -> None:
        self._barrier = threading.Barrier(size, timeout=TIMEOUT_S)
        self._lock = threading.Lock()
        self._first = size
        self._inside = 0
        self.most = 0

    def enter(self) -> None:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
            self._first -= 1
            waits = self._first >= 0
        if waits:
            self._barrier.wait()

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1


@pytest.mark.parametrize("kept_pixels", [0, worker.KEPT_PIXELS], ids=["large", "small"])
@pytest.mark.parametrize("in_flight", [1, 2, 3])
def test_no_more_images_are_in_memory_than_allowed(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch, in_flight: int, kept_pixels: int
) -> None:
    """Until one gives way, or is encoded; while all wait for Rekognition at once."""
    monkeypatch.setattr(worker, "KEPT_PIXELS", kept_pixels)
    services.patience = replace(services.patience, in_flight=in_flight)
    messages = batch(services, 6)
    meeting = Meeting(in_flight)
    give_way, render = worker.SlotTurn.give_way, imaging.Prepared.render

    def leave_and_give_way(turn: worker.SlotTurn, pixels: int) -> None:
        meeting.leave()
        give_way(turn, pixels)

    def render_and_leave(prepared: imaging.Prepared) -> Rendered:
        rendered = render(prepared)
        meeting.leave()
        return rendered

    if kept_pixels:
        monkeypatch.setattr(worker.SlotTurn, "give_way", leave_and_give_way)
    else:
        monkeypatch.setattr(imaging.Prepared, "render", render_and_leave)
    services.uploads.before("get", *[meeting.enter] * 6)
    all_are_here = threading.Barrier(6, timeout=TIMEOUT_S)
    services.recognizer.before("recognize", *[all_are_here.wait] * 6)

    run(services, messages)

    assert meeting.most == in_flight
    assert not all_are_here.broken
    assert {recorded(services, message).status for message in messages} == {"COMPLETED"}


class NotedEvent(threading.Event):
    """Keeps whether each wait for it was in time."""

    def __init__(self) -> None:
        super().__init__()
        self.was_in_time: list[bool] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.was_in_time.append(super().wait(timeout))
        return self.was_in_time[-1]


@pytest.fixture
def slots(monkeypatch: pytest.MonkeyPatch) -> list[worker.Slots]:
    """The slots of each batch; nobody is in such a hurry that a slow machine matters."""
    made: list[worker.Slots] = []

    class Watched(worker.Slots):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.all_begun = NotedEvent()
            made.append(self)

    monkeypatch.setattr(worker, "Slots", Watched)
    monkeypatch.setattr(worker, "GIVE_WAY_S", TIMEOUT_S)
    return made


def nobody_waited_in_vain(slots: worker.Slots) -> bool:
    """Whether all that have given way went on because all had begun."""
    assert isinstance(slots.all_begun, NotedEvent)
    return slots.all_begun.is_set() and all(slots.all_begun.was_in_time)


def free_slots(slots: worker.Slots) -> int:
    """How many are free; they are taken by this."""
    return next(number for number in count() if not slots.free.acquire(blocking=False))


def before_rendering(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    """An action before the renditions of each image are encoded."""
    render = imaging.Prepared.render

    def act_and_render(prepared: imaging.Prepared) -> Rendered:
        action()
        return render(prepared)

    monkeypatch.setattr(imaging.Prepared, "render", act_and_render)


@pytest.mark.usefixtures("slots")
@pytest.mark.parametrize("in_flight", [1, 2])
def test_rekognition_sees_the_whole_batch_before_anything_is_encoded(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch, in_flight: int
) -> None:
    """However few slots there are, it is asked about the last image before the first is encoded."""
    services.patience = replace(services.patience, in_flight=in_flight)
    messages = batch(services, 4)
    all_are_asked_about = threading.Event()
    was_so: list[bool] = []

    def asked() -> None:
        if len(services.recognizer.calls) == 4:
            all_are_asked_about.set()

    services.recognizer.before("recognize", *[asked] * 4)
    # The question is on its way by then; only its thread may still have to come to it.
    before_rendering(monkeypatch, lambda: was_so.append(all_are_asked_about.wait(TIMEOUT_S)))
    services.renditions.before("put", *[lambda: was_so.append(all_are_asked_about.is_set())] * 8)

    run(services, messages)

    assert was_so == [True] * 12
    assert {recorded(services, message).status for message in messages} == {"COMPLETED"}


@pytest.mark.parametrize(
    ("kept_pixels", "expected"),
    [
        (8 * 8 + 24 * 18, ["begun", "begun", "begun", "encoded", "encoded", "encoded"]),
        (8 * 8 + 24 * 18 - 1, ["begun", "encoded", "begun", "encoded", "begun", "encoded"]),
    ],
    ids=["small", "large"],
)
def test_large_image_keeps_its_slot_until_it_is_encoded(
    services: FakeServices,
    monkeypatch: pytest.MonkeyPatch,
    slots: list[worker.Slots],
    kept_pixels: int,
    expected: list[str],
) -> None:
    """Only what has few enough pixels waits for the others; nobody waits for what is larger."""
    monkeypatch.setattr(worker, "KEPT_PIXELS", kept_pixels)
    services.patience = replace(services.patience, in_flight=1)
    messages = batch(services, 3)
    happened: list[str] = []
    services.uploads.before("get", *[lambda: happened.append("begun")] * 3)
    before_rendering(monkeypatch, lambda: happened.append("encoded"))

    run(services, messages)

    assert happened == expected
    assert nobody_waited_in_vain(slots[0])
    assert {recorded(services, message).status for message in messages} == {"COMPLETED"}


def test_image_counts_as_begun_once(services: FakeServices) -> None:
    """Giving way, the end of its turn and the end of its message are one beginning."""
    slots = worker.Slots(1, 2, services.clock(), services)
    first, second = worker.SlotTurn(slots), worker.SlotTurn(slots)

    first.begin(alone=False)
    first.give_way(worker.KEPT_PIXELS + 1)
    first.end()
    first.leave()
    assert not slots.all_begun.is_set()

    second.leave()
    assert slots.all_begun.is_set()


@pytest.mark.parametrize("pixels", [worker.KEPT_PIXELS, worker.KEPT_PIXELS + 1])
def test_turn_gives_its_slot_back_once(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch, pixels: int
) -> None:
    """A small image when it gives way, a large one at its end; no step frees anything twice."""
    monkeypatch.setattr(worker, "GIVE_WAY_S", 0)
    slots = worker.Slots(2, 2, services.clock(), services)
    turn, other = worker.SlotTurn(slots), worker.SlotTurn(slots)
    other.begin(alone=False)

    turn.begin(alone=False)
    turn.give_way(pixels)
    is_free = slots.free.acquire(blocking=False)
    if is_free:
        slots.free.release()
    for _ in range(2):
        turn.end()
        turn.leave()

    assert is_free == (pixels <= worker.KEPT_PIXELS)
    assert free_slots(slots) == 1


def test_turn_that_is_alone_keeps_all_slots_until_it_leaves(services: FakeServices) -> None:
    """Neither giving way nor the end of its pixels lets anybody in."""
    slots = worker.Slots(3, 2, services.clock(), services)
    turn = worker.SlotTurn(slots)
    turn.begin(alone=True)

    turn.give_way(0)
    turn.end()
    assert free_slots(slots) == 0

    turn.leave()
    assert free_slots(slots) == 3


def test_turn_that_comes_too_late_has_not_begun(services: FakeServices) -> None:
    """What it has taken by then is given back when it leaves."""
    late = services.clock() - timedelta(seconds=1)
    slots = worker.Slots(2, 1, late, services)
    turn = worker.SlotTurn(slots)

    with pytest.raises(OutOfTime):
        turn.begin(alone=True)
    turn.leave()

    assert not turn.began_by(services.clock())
    assert free_slots(slots) == 2


def test_turn_is_taken_back_when_the_invocation_has_ended(services: FakeServices) -> None:
    """What Lambda thaws much later does not go on where it was."""
    slots = worker.Slots(1, 1, services.clock(), services)
    turn = worker.SlotTurn(slots)
    turn.begin(alone=False)
    slots.is_over = True

    with pytest.raises(OutOfTime):
        turn.give_way(0)


# ── what workers may have died of ────────────────────────────────────────────────────────────────


def suspect(services: FakeServices, *messages: WorkMessage) -> None:
    """As if a worker had died at each of these."""
    for message in messages:
        image = recorded(services, message)
        services.catalog.records[image.image_id] = replace(image, lost=1)


class Story:
    """What happens to which image of a batch, in order, as the services see it."""

    def __init__(self, services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[tuple[str, str]] = []
        get, save = services.uploads.get, services.catalog.save

        def noted_get(original: Original, max_bytes: int) -> bytes:
            self.told.append(("begun", original.key))
            return get(original, max_bytes)

        def noted_save(image: Image, previous: Image | None) -> Image:
            if image.announced:
                self.told.append(("settled", image.original.key))
            return save(image, previous)

        monkeypatch.setattr(services.uploads, "get", noted_get)
        monkeypatch.setattr(services.catalog, "save", noted_save)

    def between(self, key: str) -> list[tuple[str, str]]:
        """What happened from the beginning of an image until it was settled."""
        begin, end = (self.told.index((step, key)) for step in ("begun", "settled"))
        return self.told[begin + 1 : end]


@pytest.mark.parametrize("in_flight", [1, 2, 3])
@pytest.mark.parametrize("suspects", [(0, 1), (2, 3), (0, 3), (1, 2), (0, 1, 2, 3)])
def test_nothing_begins_while_what_workers_may_have_died_of_is_at_it(
    services: FakeServices,
    monkeypatch: pytest.MonkeyPatch,
    slots: list[worker.Slots],
    suspects: tuple[int, ...],
    in_flight: int,
) -> None:
    """Each has the worker to itself until it is settled; nobody waits for half of the slots."""
    monkeypatch.setattr(worker, "GIVE_WAY_S", 0.05)  # to whom one gives way may stand behind it
    services.patience = replace(services.patience, in_flight=in_flight)
    messages = batch(services, 4)
    suspect(services, *[messages[number] for number in suspects])
    story = Story(services, monkeypatch)

    run(services, messages)

    for number in suspects:
        others = story.between(f"uploads/{number}.jpg")
        assert "begun" not in {step for step, _ in others}
    assert {recorded(services, message).status for message in messages} == {"COMPLETED"}
    assert {recorded(services, message).lost for message in messages} == {0}
    assert free_slots(slots[0]) == in_flight
    assert services.topic.statuses == ["COMPLETED"] * 4


def test_what_workers_may_have_died_of_waits_until_all_slots_are_free(
    services: FakeServices,
    monkeypatch: pytest.MonkeyPatch,
    slots: list[worker.Slots],
) -> None:
    """A large neighbour that has begun is encoded first, and whoever comes later waits."""
    monkeypatch.setattr(worker, "KEPT_PIXELS", 0)
    messages = batch(services, 2)
    suspect(services, messages[1])
    story = Story(services, monkeypatch)
    is_waiting = threading.Event()
    begin = worker.SlotTurn.begin

    def noted_begin(turn: worker.SlotTurn, *, alone: bool) -> None:
        if alone:
            assert has_begun.wait(TIMEOUT_S)
            is_waiting.set()
        begin(turn, alone=alone)

    has_begun = threading.Event()
    happened: list[str] = []
    monkeypatch.setattr(worker.SlotTurn, "begin", noted_begin)

    def first_get() -> None:
        has_begun.set()
        assert is_waiting.wait(TIMEOUT_S)

    services.uploads.before("get", first_get, lambda: happened.append("begun"))
    before_rendering(monkeypatch, lambda: happened.append("encoded"))

    run(services, messages)

    assert happened == ["encoded", "begun", "encoded"]
    assert [key for step, key in story.told if step == "begun"] == [
        "uploads/0.jpg",
        "uploads/1.jpg",
    ]
    assert free_slots(slots[0]) == 2


def run_until_killed(
    services: FakeServices, messages: Sequence[WorkMessage], killers: set[str]
) -> bool:
    """One delivery to a worker whose process is gone once it reads one of the killers.

    What its other threads do after that has not happened. Gives whether it was killed.
    """
    remains: list[dict[str, Image]] = []
    get, lock = services.uploads.get, threading.Lock()

    def deadly_get(original: Original, max_bytes: int) -> bytes:
        with lock:
            if original.key in killers and not remains:
                remains.append(dict(services.catalog.records))
        if original.key in killers:
            raise Killed
        return get(original, max_bytes)

    with pytest.MonkeyPatch.context() as patch, suppress(BatchFailed):
        patch.setattr(services.uploads, "get", deadly_get)
        run(services, messages)
    if remains:
        services.catalog.records = remains[0]
    services.clock.forward(seconds=91)
    return bool(remains)


@pytest.mark.usefixtures("slots")
@pytest.mark.parametrize("killers", [1, 2])
@pytest.mark.parametrize("in_flight", [1, 2, 3])
def test_killers_do_not_drag_their_neighbours_along(
    services: FakeServices, in_flight: int, killers: int
) -> None:
    """However often a batch comes back to them, only they are given up; the others end well."""
    services.patience = replace(services.patience, in_flight=in_flight)
    messages = batch(services, 4)
    deadly = {message.work.key for message in messages[:killers]}
    waiting = list(messages)
    dragged = 0

    for _ in range(40):  # a message that is received too often is brought back by the sweep
        if not waiting:
            break
        run_until_killed(services, waiting, deadly)
        dragged = max(dragged, *(recorded(services, each).lost for each in messages[killers:]))
        for message in waiting:
            with suppress(LeaseHeld):
                pipeline.recheck(message.work.key, services)
        waiting = [each for each in waiting if not recorded(services, each).is_settled]

    assert waiting == []
    assert {recorded(services, each).status for each in messages[killers:]} == {"COMPLETED"}
    assert all(recorded(services, each).is_given_up for each in messages[:killers])
    assert dragged <= killers


def malformed(_: FakeServices) -> WorkMessage:
    return replace(message_of(Recheck("x")), body="no work message")


def finished(services: FakeServices) -> WorkMessage:
    message = message_of(upload(services, "uploads/first.jpg"))
    run(services, [message])
    return message


def taken(services: FakeServices) -> WorkMessage:
    original = upload(services, "uploads/first.jpg")
    held(services, original)
    return message_of(original)


def neither_here_nor_there(_: FakeServices) -> WorkMessage:
    return message_of(Recheck("uploads/first.jpg"))


def no_picture(services: FakeServices) -> WorkMessage:
    return message_of(upload(services, "uploads/first.jpg", TEXT))


@pytest.mark.parametrize("first", [malformed, finished, taken, neither_here_nor_there, no_picture])
def test_message_that_comes_to_no_rendition_holds_nobody_up(
    services: FakeServices,
    slots: list[worker.Slots],
    first: Callable[[FakeServices], WorkMessage],
) -> None:
    """Its neighbours give way to it no longer than until it has ended."""
    message = first(services)
    neighbours = batch(services, 2)

    with suppress(BatchFailed):
        run(services, [message, *neighbours])

    assert nobody_waited_in_vain(slots[-1])
    assert {recorded(services, neighbour).status for neighbour in neighbours} == {"COMPLETED"}


def test_same_message_twice_in_a_batch_holds_nobody_up(
    services: FakeServices, slots: list[worker.Slots]
) -> None:
    """One of the two finds the other at work, or the image done."""
    messages = batch(services, 2)

    with suppress(BatchFailed):
        run(services, [*messages, replace(messages[0], message_id="copy")])

    assert nobody_waited_in_vain(slots[0])
    assert {recorded(services, message).status for message in messages} == {"COMPLETED"}
    assert services.recognizer.calls == ["recognize"] * 2


def test_original_that_is_long_in_coming_holds_nobody_up(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its neighbours are announced while S3 has not answered yet."""
    monkeypatch.setattr(worker, "GIVE_WAY_S", 0.05)
    messages = batch(services, 3)
    neighbours_are_done = threading.Event()
    was_so: list[bool] = []
    services.uploads.before("get", lambda: was_so.append(neighbours_are_done.wait(TIMEOUT_S)))
    services.topic.before("publish", lambda: None, neighbours_are_done.set)

    run(services, messages)

    assert was_so == [True]
    assert {recorded(services, message).status for message in messages} == {"COMPLETED"}


def broken_prepare(_: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(*_: object, **__: object) -> None:
        raise Outage

    monkeypatch.setattr(imaging, "prepare", prepare)


def broken_render(_: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    def render(_: imaging.Prepared) -> None:
        raise Outage

    monkeypatch.setattr(imaging.Prepared, "render", render)


def broken_call(services: FakeServices, _: pytest.MonkeyPatch, fake: str, call: str) -> None:
    getattr(services, fake).before(call, *[Outage()] * 6)


def killed(services: FakeServices, _: pytest.MonkeyPatch) -> None:
    services.uploads.before("get", *[Killed()] * 3)


def suspected(services: FakeServices, _: pytest.MonkeyPatch) -> None:
    suspect(services, *(message_of(image.original) for image in services.catalog.records.values()))
    services.renditions.before("put", *[Outage()] * 6)


def too_late(_: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "TIME_TO_START", timedelta(seconds=60))


@pytest.mark.parametrize("kept_pixels", [0, worker.KEPT_PIXELS])
@pytest.mark.parametrize(
    "trouble",
    [
        broken_prepare,
        broken_render,
        partial(broken_call, fake="uploads", call="get"),
        partial(broken_call, fake="recognizer", call="recognize"),
        partial(broken_call, fake="renditions", call="put"),
        killed,
        suspected,
        too_late,
    ],
    ids=["prepare", "render", "get", "recognize", "put", "killed", "suspected", "too late"],
)
def test_slots_are_free_again_whatever_fails(
    services: FakeServices,
    monkeypatch: pytest.MonkeyPatch,
    slots: list[worker.Slots],
    trouble: Callable[[FakeServices, pytest.MonkeyPatch], None],
    kept_pixels: int,
) -> None:
    """Each that has begun gives its slot back, once; nobody is waited for any more."""
    monkeypatch.setattr(worker, "KEPT_PIXELS", kept_pixels)
    messages = batch(services, 3)
    trouble(services, monkeypatch)

    assert len(fail(services, messages)) == 3

    assert free_slots(slots[0]) == services.patience.in_flight
    assert nobody_waited_in_vain(slots[0])


# ── when it comes back ───────────────────────────────────────────────────────────────────────────


def delays(services: FakeServices, receive_count: int, error: BaseException) -> list[int]:
    """The delay as often as it takes to see its bounds."""
    end = services.clock() + timedelta(seconds=60)
    return [worker.delay_s(receive_count, error, end, services) for _ in range(400)]


@pytest.mark.parametrize("error", [Outage(), Throttled(), MalformedMessage(), StaleRevision()])
@pytest.mark.parametrize(
    ("receive_count", "longest"),
    [(1, 30), (2, 120), (3, 480), (4, 1920), (5, 3600), (6, 3600), (1000, 3600)],
)
def test_delay_grows_with_each_receive_up_to_an_hour(
    services: FakeServices, error: BaseException, receive_count: int, longest: int
) -> None:
    """Four times as long each time, and half of it random, lest all come back together."""
    drawn = delays(services, receive_count, error)

    assert longest / 2 <= min(drawn) < longest * 0.6
    assert longest * 0.9 < max(drawn) <= longest
    assert len(set(drawn)) > 10


def test_delay_may_be_none_at_all(services: FakeServices) -> None:
    """A stage without patience has everything back at once."""
    services.patience = replace(services.patience, retry_delay_s=0)

    assert set(delays(services, 3, Outage())) == {0}


@pytest.mark.parametrize("receive_count", [1, 4])
def test_delay_after_a_held_lease_ends_after_it(services: FakeServices, receive_count: int) -> None:
    """Sooner would be in vain; and not all at the same moment."""
    until = timestamp(services.clock.now + timedelta(seconds=42, milliseconds=500))

    drawn = delays(services, receive_count, LeaseHeld("held", until))

    assert min(drawn) == 43
    assert 43 < max(drawn) <= 43 + 30


def test_delay_after_a_lease_that_is_over_is_short(services: FakeServices) -> None:
    """Over by now, it is waited for no longer."""
    until = timestamp(services.clock.now - timedelta(seconds=42))

    assert max(delays(services, 4, LeaseHeld("held", until))) <= 31


@pytest.mark.parametrize("error", [OutOfTime("too late"), TookTooLong("too slow")])
@pytest.mark.parametrize("receive_count", [1, 4])
def test_delay_of_what_ran_out_of_time_ends_after_the_invocation(
    services: FakeServices, receive_count: int, error: Exception
) -> None:
    """One that may still be at it has ended by then."""
    drawn = delays(services, receive_count, error)

    assert min(drawn) == 61
    assert max(drawn) <= 61 + 30


@pytest.mark.parametrize(("receive_count", "longest"), [(1, 30), (2, 120), (4, 1920)])
def test_failed_message_comes_back_after_its_delay(
    services: FakeServices, receive_count: int, longest: int
) -> None:
    """The count that the message brings is the one that counts."""
    [message] = batch(services, 1, receive_count)
    services.uploads.before("get", Outage())

    fail(services, [message])

    assert longest / 2 <= services.queue.handed_back[message] <= longest
    assert recorded(services, message).status is ImageStatus.QUEUED


def test_message_of_an_image_that_another_is_at_comes_back_after_its_lease(
    services: FakeServices,
) -> None:
    """As the record tells the time."""
    [message] = batch(services, 1)
    image = recorded(services, message)
    services.catalog.records[image.image_id] = replace(
        image,
        status=ImageStatus.PROCESSING,
        lease_until=timestamp(services.clock.now + timedelta(seconds=600)),
    )

    fail(services, [message])

    assert 601 <= services.queue.handed_back[message] <= 631


# ── at the last receive ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("receive_count", [LAST, LAST + 1])
def test_last_failure_is_recorded_and_announced(services: FakeServices, receive_count: int) -> None:
    """FAILED with what went wrong at last, and the message goes to the dead-letter queue."""
    messages = [
        message_of(upload(services, "uploads/first.jpg"), 1),
        message_of(upload(services, "uploads/last.jpg"), receive_count),
    ]
    services.recognizer.before("recognize", *[ConnectionError("arn:aws:secret")] * 2)

    fail(services, messages)

    image = recorded(services, messages[1])
    assert (image.status, image.announced) == ("FAILED", True)
    assert image.failure is not None
    assert image.failure.code == "retries_exhausted"
    assert "Given up after 5 tries" in image.failure.message
    assert "ended so: ConnectionError." in image.failure.message
    assert "secret" not in image.failure.message
    assert services.queue.handed_back[messages[1]] == 0
    assert services.queue.postponed == {}
    assert services.topic.statuses == ["FAILED"]
    assert recorded(services, messages[0]).status is ImageStatus.QUEUED
    assert services.queue.handed_back[messages[0]] >= 15


def held(services: FakeServices, original: Original) -> None:
    image = recorded(services, original)
    until = timestamp(services.clock.now + timedelta(hours=2))
    services.catalog.records[image.image_id] = replace(
        image, status=ImageStatus.PROCESSING, lease_until=until
    )


def throttled(services: FakeServices, _: Original) -> None:
    services.recognizer.before("recognize", Throttled("Rekognition takes no more calls."))


def late(services: FakeServices, _: Original) -> None:
    services.catalog.before("get", lambda: services.clock.forward(seconds=50))


@pytest.mark.parametrize("trouble", [held, throttled, late])
@pytest.mark.parametrize("receive_count", [LAST, LAST + 1])
def test_what_nobody_can_help_is_never_given_up(
    services: FakeServices,
    trouble: Callable[[FakeServices, Original], None],
    receive_count: int,
) -> None:
    """At its last receive a copy takes the message's place, and the count begins anew."""
    original = upload(services)
    trouble(services, original)
    message = message_of(original, receive_count)

    fail(services, [message])

    assert services.queue.postponed.keys() == {message}
    assert 0 < services.queue.postponed[message] <= 900, "SQS takes no longer delay of a new one"
    assert services.queue.handed_back == {}
    assert services.queue.deleted == []
    assert not recorded(services, original).status.is_final
    assert services.topic.statuses == []


def test_what_nobody_can_help_comes_back_before_its_last_receive(services: FakeServices) -> None:
    """While receives are left, the message itself comes back."""
    original = upload(services)
    throttled(services, original)
    message = message_of(original, LAST - 1)

    fail(services, [message])

    assert services.queue.postponed == {}
    assert services.queue.handed_back.keys() == {message}


def test_malformed_message_ends_in_the_dead_letter_queue(services: FakeServices) -> None:
    """It comes back like any other until its last receive; there is no image to record it on."""
    first = replace(message_of(Recheck("x")), body="no work message")
    last = replace(message_of(Recheck("x"), LAST), body="no work message")

    fail(services, [first, last])

    assert 15 <= services.queue.handed_back[first] <= 30
    assert services.queue.handed_back[last] == 0
    assert services.catalog.records == {}
    assert services.topic.statuses == []


# ── recheck ──────────────────────────────────────────────────────────────────────────────────────


def test_recheck_takes_a_lost_upload_all_the_way(services: FakeServices) -> None:
    """An object without a record is recorded and processed by the same message."""
    services.uploads.upload("uploads/lost.jpg", PICTURE)

    run(services, [message_of(Recheck("uploads/lost.jpg"))])

    image = services.catalog.records[image_id_of("uploads/lost.jpg")]
    assert (image.status, image.announced) == ("COMPLETED", True)
    assert set(services.renditions.stored) == stored_of(image)


def test_recheck_takes_a_lost_removal_all_the_way(services: FakeServices) -> None:
    """What is no longer there is deleted and not processed."""
    original = upload(services)
    run(services, [message_of(original)])
    services.uploads.remove(original.key)

    run(services, [message_of(Recheck(original.key))])

    assert recorded(services, original).status is ImageStatus.DELETED
    assert services.renditions.stored == {}
    assert services.recognizer.calls == ["recognize"]


@pytest.mark.parametrize("state", ["unknown", "completed"])
def test_recheck_with_nothing_to_do_is_consumed(services: FakeServices, state: str) -> None:
    """Neither here nor there, or done: nothing changes and nothing comes back."""
    if state == "completed":
        run(services, [message_of(upload(services))])
    before = dict(services.catalog.records)

    run(services, [message_of(Recheck("uploads/cat.jpg"))])

    assert services.catalog.records == before


def test_recheck_of_an_image_that_a_worker_is_at_comes_back(services: FakeServices) -> None:
    """Whether that worker lives, its lease will tell."""
    original = upload(services)
    held(services, original)
    message = message_of(Recheck(original.key))

    [failure] = fail(services, [message])

    assert isinstance(failure, LeaseHeld)
    assert services.queue.handed_back[message] > 7200


@pytest.mark.parametrize(("fake", "call"), [("uploads", "current"), ("recognizer", "recognize")])
def test_recheck_that_fails_to_the_last_is_given_up_like_any_other(
    services: FakeServices, fake: str, call: str
) -> None:
    """Who asked may have no other message on its way: FAILED says so, and can be asked for anew."""
    original = upload(services)
    getattr(services, fake).before(call, Outage())
    message = message_of(Recheck(original.key), LAST)

    fail(services, [message])

    assert services.queue.handed_back == {message: 0}
    image = recorded(services, original)
    assert (image.is_given_up, image.announced) == (True, True)
    assert services.topic.statuses == ["FAILED"]
    run(services, [message_of(original)])
    assert services.topic.statuses == ["FAILED", "COMPLETED"]


def test_recheck_of_what_is_not_recorded_leaves_no_record_when_it_fails(
    services: FakeServices,
) -> None:
    """There is nothing to give up; the key stays in the dead-letter queue and with the sweep."""
    services.uploads.upload("uploads/lost.jpg", PICTURE)
    services.uploads.before("current", Outage())
    message = message_of(Recheck("uploads/lost.jpg"), LAST)

    fail(services, [message])

    assert services.queue.handed_back == {message: 0}
    assert services.catalog.records == {}
    assert services.topic.statuses == []


def test_recheck_that_fails_to_the_last_leaves_a_finished_image_as_it_is(
    services: FakeServices,
) -> None:
    """What is COMPLETED is not given up because a look at S3 failed."""
    original = upload(services)
    run(services, [message_of(original)])
    before = recorded(services, original)
    services.uploads.before("current", Outage())

    fail(services, [message_of(Recheck(original.key), LAST)])

    assert recorded(services, original) == before
    assert services.topic.statuses == ["COMPLETED"]


# ── time ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("in_flight", [1, 2])
def test_nothing_is_begun_with_too_little_time(services: FakeServices, in_flight: int) -> None:
    """All come back, unread, and their leases are free for whoever is next."""
    services.patience = replace(services.patience, in_flight=in_flight)
    messages = batch(services, 3)

    failures = fail(services, messages, seconds=19.9)

    assert [type(failure) for failure in failures] == [OutOfTime] * 3
    assert "get" not in services.uploads.calls
    for message in messages:
        image = recorded(services, message)
        assert (image.status, image.lease_until, image.lost) == ("QUEUED", None, 0)
        assert 20 <= services.queue.handed_back[message] <= 50


def test_enough_time_is_enough(services: FakeServices) -> None:
    """At the very limit an image is begun."""
    messages = batch(services, 2)

    run(services, messages, seconds=20)

    assert {recorded(services, message).status for message in messages} == {"COMPLETED"}


def test_what_has_waited_too_long_for_its_turn_comes_back(services: FakeServices) -> None:
    """One image takes nearly all the time: it is done, and the other is not begun."""
    services.patience = replace(services.patience, in_flight=1)
    messages = batch(services, 2)
    services.uploads.before("get", lambda: services.clock.forward(seconds=45))

    [failure] = fail(services, messages)

    assert isinstance(failure, OutOfTime)
    assert services.uploads.calls.count("get") == 1
    [back] = services.queue.handed_back
    [done] = services.queue.deleted
    assert {back, done} == set(messages)
    assert recorded(services, done).status is ImageStatus.COMPLETED
    assert (recorded(services, back).status, recorded(services, back).lease_until) == (
        "QUEUED",
        None,
    )


@contextmanager
def hanging(
    services: FakeServices, fake: str = "recognizer", call: str = "recognize"
) -> Iterator[None]:
    """The next such call hangs until this is left; whoever hangs has ended by then.

    No invocation is over before that: nothing but the call takes an image's time.
    """
    others = set(threading.enumerate())
    hangs, has_given_way, go_on = threading.Event(), threading.Event(), threading.Event()
    wait, give_way = worker.wait, worker.SlotTurn.give_way

    def hang() -> None:
        if fake == "recognizer":  # a thread of its own looks while the image's gives way
            assert has_given_way.wait(TIMEOUT_S)
        hangs.set()
        go_on.wait(TIMEOUT_S)

    def noted_give_way(turn: worker.SlotTurn, pixels: int) -> None:
        give_way(turn, pixels)
        has_given_way.set()

    def wait_once_it_hangs(work: Any, timeout: float) -> object:
        assert hangs.wait(TIMEOUT_S)
        return wait(work, timeout=timeout)

    getattr(services, fake).before(call, hang)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "wait", wait_once_it_hangs)
        patch.setattr(worker.SlotTurn, "give_way", noted_give_way)
        try:
            yield
        finally:
            go_on.set()
            for thread in set(threading.enumerate()) - others:
                thread.join(TIMEOUT_S)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Invocations of a moment, which keep nothing free at their end."""
    monkeypatch.setattr(worker, "TIME_TO_HAND_BACK", timedelta(0))
    monkeypatch.setattr(worker, "TIME_TO_START", timedelta(0))


@pytest.mark.usefixtures("hasty")
def test_image_that_is_not_done_in_time_is_handed_back_before_the_end(
    services: FakeServices,
) -> None:
    """The invocation says so while the image still hangs; until its end the lease holds."""
    [slow] = batch(services, 1)

    with hanging(services):
        [failure] = fail(services, [slow], seconds=0.1)

        assert isinstance(failure, TookTooLong)
        assert services.queue.handed_back.keys() == {slow}
        assert services.queue.deleted == []
        image = recorded(services, slow)
        assert image.status is ImageStatus.PROCESSING
        assert image.lease_until == timestamp(services.clock() + timedelta(seconds=0.1))


@pytest.mark.usefixtures("hasty")
def test_image_that_one_invocation_is_too_short_for_is_given_up_at_last(
    services: FakeServices,
) -> None:
    """It would be so each time; its message goes to the dead-letter queue and it says why."""
    slow = message_of(upload(services), LAST)

    with hanging(services):
        [failure] = fail(services, [slow], seconds=0.1)

        assert isinstance(failure, TookTooLong)
        assert services.queue.handed_back == {slow: 0}
        assert services.queue.postponed == {}
        image = recorded(services, slow)
        assert (image.is_given_up, image.announced) == (True, True)
        assert image.failure is not None
        assert "not done when the invocation ended" in image.failure.message
        assert services.topic.statuses == ["FAILED"]


@pytest.mark.usefixtures("hasty")
def test_image_that_began_late_is_not_given_up(services: FakeServices) -> None:
    """While Rekognition throttles, what is left of an invocation may be too short for any image."""
    late = message_of(upload(services), LAST)
    services.catalog.before("get", lambda: services.clock.forward(seconds=0.3))

    with hanging(services):
        [failure] = fail(services, [late], seconds=1)

        assert isinstance(failure, OutOfTime)
        assert services.queue.postponed.keys() == {late}
        image = recorded(services, late)
        until = timestamp(services.clock() + timedelta(seconds=0.7))
        assert (image.status, image.lease_until, image.lost) == ("PROCESSING", until, 0)

    services.clock.forward(seconds=1)
    assert recorded(services, late).lost == 0


@pytest.mark.usefixtures("hasty")
def test_image_that_began_late_again_and_again_is_not_lost(services: FakeServices) -> None:
    """Nobody died of it, whatever it is asked for by, and nobody has it to himself for that."""
    original = upload(services)
    with ExitStack() as frozen:
        for receive in range(1, LAST + 1):
            services.catalog.before("get", lambda: services.clock.forward(seconds=0.3))
            frozen.enter_context(hanging(services))
            [failure] = fail(services, [message_of(original, receive)], seconds=1)
            assert isinstance(failure, OutOfTime)
            services.clock.forward(seconds=1)

        run(services, [message_of(Recheck(original.key))])

        image = recorded(services, original)
        assert (image.status, image.attempt, image.lost) == ("COMPLETED", LAST + 1, 0)

    assert recorded(services, original) == image


@pytest.mark.usefixtures("hasty")
def test_image_that_never_began_is_not_given_up(services: FakeServices) -> None:
    """That it stood behind one that hangs is nothing against it: a copy takes its place."""
    services.patience = replace(services.patience, in_flight=1)
    messages = [message_of(upload(services, f"uploads/{name}.jpg"), LAST) for name in ("a", "b")]

    with hanging(services, "uploads", "get"):
        failures = fail(services, messages, seconds=0.1)
        services.clock.forward(seconds=1)

        assert {type(failure) for failure in failures} == {TookTooLong, OutOfTime}
        [waits] = services.queue.postponed
        image = recorded(services, waits)
        assert (image.status, image.lease_until, image.lost) == ("QUEUED", None, 0)

    assert recorded(services, waits) == image
    assert services.uploads.calls.count("get") == 1


@pytest.mark.usefixtures("hasty")
def test_what_goes_on_after_its_invocation_ends_at_its_next_step(services: FakeServices) -> None:
    """It takes no CPU time from whoever is next, and gives its lease back."""
    [slow] = batch(services, 1)

    with hanging(services, "uploads", "get"):
        fail(services, [slow], seconds=0.1)

    image = recorded(services, slow)
    assert (image.status, image.lease_until, image.lost) == ("QUEUED", None, 0)
    assert services.renditions.calls == []
    run(services, [slow])
    assert services.topic.statuses == ["COMPLETED"]


def test_time_to_hand_back_is_kept_free(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long an image hangs, the last seconds of the invocation are not waited away."""
    waits: list[float] = []
    wait = worker.wait

    def noted(work: Sequence[object], timeout: float) -> object:
        waits.append(timeout)
        return wait(work, timeout=timeout)  # type: ignore[type-var]

    monkeypatch.setattr(worker, "wait", noted)

    run(services, batch(services, 1), seconds=60)
    fail(services, batch(services, 1), seconds=3)

    assert waits == [55, 0]


def test_neighbours_of_an_image_that_hangs_are_done(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are deleted, and it alone comes back."""
    slow = message_of(upload(services, "uploads/slow.jpg"))
    quick = message_of(upload(services, "uploads/text.jpg", TEXT))
    monkeypatch.setattr(worker, "wait", partial(futures.wait, return_when=futures.FIRST_COMPLETED))

    with hanging(services):
        fail(services, [slow, quick])

        assert services.queue.deleted == [quick]
        assert services.queue.handed_back.keys() == {slow}


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("second", ["done", "at it"])
def test_what_goes_on_after_its_invocation_overwrites_nobody(
    services: FakeServices, second: str
) -> None:
    """Lambda may thaw it at any time: by then another worker's result counts."""
    [slow] = batch(services, 1)
    seen: list[Image] = []

    with hanging(services):
        fail(services, [slow], seconds=0.1)
        services.clock.forward(seconds=1)
        if second == "done":
            run(services, [slow])
        else:
            services.uploads.before("get", Killed())
            fail(services, [slow])
        seen.append(recorded(services, slow))

    assert [recorded(services, slow)] == seen
    services.clock.forward(seconds=91)
    run(services, [slow])
    image = recorded(services, slow)
    assert (image.status, image.announced) == ("COMPLETED", True)
    assert set(services.renditions.stored) == stored_of(image)
    assert services.topic.statuses == ["COMPLETED"]


@pytest.mark.usefixtures("hasty")
def test_what_goes_on_after_its_invocation_may_finish_what_nobody_has_taken_on(
    services: FakeServices,
) -> None:
    """Then its result is as good as any, and the message finds it done."""
    [slow] = batch(services, 1)

    with hanging(services):
        fail(services, [slow], seconds=0.1)

    run(services, [slow])
    assert recorded(services, slow).status is ImageStatus.COMPLETED
    assert services.recognizer.calls == ["recognize"]
    assert services.topic.statuses == ["COMPLETED"]


def test_image_taken_on_and_given_back_by_another_comes_back(services: FakeServices) -> None:
    """Where nobody holds the lease any more, its neighbours are deleted as ever."""
    slow = message_of(upload(services, "uploads/slow.jpg"))
    quick = message_of(upload(services, "uploads/text.jpg", TEXT))

    is_settling = threading.Event()
    services.topic.before("publish", is_settling.set)

    def taken_on_and_given_back() -> None:
        assert is_settling.wait(TIMEOUT_S)  # else it would be too late to begin the quick one
        services.clock.forward(seconds=61)
        services.uploads.before("get", Outage())
        original = recorded(services, slow).original
        until = services.clock() + timedelta(seconds=60)
        with pytest.raises(Outage):
            pipeline.process(original, until, Alone(), services)

    services.recognizer.before("recognize", taken_on_and_given_back)

    [failure] = fail(services, [slow, quick])

    assert isinstance(failure, LeaseHeld)
    assert services.queue.deleted == [quick]
    assert 0 <= services.queue.handed_back[slow] <= 31


# ── trouble with trouble ─────────────────────────────────────────────────────────────────────────


def test_messages_that_cannot_be_handed_back_come_back_by_themselves(
    services: FakeServices,
) -> None:
    """After the visibility timeout; what was done is deleted all the same."""
    bad = replace(message_of(Recheck("x")), body="no work message")
    [good] = batch(services, 1)
    services.queue.before("hand_back", Outage("of SQS"))

    [failure] = fail(services, [bad, good])

    assert isinstance(failure, MalformedMessage)
    assert services.queue.deleted == [good]


def test_giving_up_that_fails_costs_nobody_else(services: FakeServices) -> None:
    """The message still goes to the dead-letter queue, and the sweep settles the image."""
    [good] = batch(services, 1)
    bad = message_of(upload(services), LAST)
    foreign = replace(message_of(Recheck("x")), body="no work message")
    run(services, [good])
    services.uploads.before("get", Outage())
    services.topic.before("publish", Outage("of SNS"))

    fail(services, [bad, foreign, good])

    assert services.queue.deleted == [good]
    assert services.queue.handed_back[bad] == 0
    assert services.queue.handed_back[foreign] >= 15
    assert recorded(services, bad).is_given_up
    assert not recorded(services, bad).announced
    services.clock.forward(seconds=61)
    run(services, [message_of(Recheck("uploads/cat.jpg"))])
    assert services.topic.statuses == ["COMPLETED", "FAILED"]


def test_message_that_cannot_be_postponed_comes_back_by_itself(services: FakeServices) -> None:
    """It is neither given up nor deleted; SQS has it still."""
    original = upload(services)
    throttled(services, original)
    message = message_of(original, LAST)
    services.queue.before("postpone", Outage("of SQS"))

    [failure] = fail(services, [message])

    assert isinstance(failure, Throttled)
    assert services.queue.deleted == []
    assert services.queue.handed_back == {}
    assert recorded(services, original).status is ImageStatus.QUEUED


def test_what_succeeded_leaves_the_queue_before_anything_else(services: FakeServices) -> None:
    """An invocation that ends while it gives up its failures has the least of it to do again."""
    good, busy = upload(services, "uploads/good.jpg"), upload(services, "uploads/busy.jpg")
    held(services, busy)
    last = upload(services, "uploads/last.jpg")
    services.uploads.remove(last.key)
    services.uploads.before("current", Outage())
    messages = [
        message_of(Recheck(last.key), LAST),
        message_of(busy, LAST),
        replace(message_of(Recheck("x")), body="no work message"),
        message_of(good),
    ]
    told: list[list[str]] = []
    # The first announcement is that of what succeeded, the second that of what is given up.
    services.topic.before("publish", go_on, lambda: told.append(list(services.queue.calls)))
    services.queue.calls.clear()

    fail(services, messages)

    assert services.queue.deleted == messages[3:]
    assert services.queue.calls[:2] == ["delete", "hand_back"]
    assert sorted(services.queue.calls[2:]) == ["hand_back", "postpone"]
    assert [calls[:2] for calls in told] == [["delete", "hand_back"]]


def test_done_work_that_cannot_be_deleted_is_found_done(services: FakeServices) -> None:
    """What failed is handed back all the same; what was done costs nothing again."""
    messages = batch(services, 2)
    services.recognizer.before("recognize", Outage("of Rekognition"))
    services.queue.before("delete", Outage("of SQS"))

    [failure] = fail(services, messages)
    assert str(failure) == "of Rekognition"
    assert len(services.queue.handed_back) == 1
    run(services, messages)

    assert {recorded(services, message).status for message in messages} == {"COMPLETED"}
    assert services.recognizer.calls == ["recognize"] * 3
    assert services.topic.statuses == ["COMPLETED"] * 2
