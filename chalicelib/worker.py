"""A batch of messages from the work queue: side by side, within its time, and none lost."""

import logging
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from datetime import datetime, timedelta
from threading import BoundedSemaphore, Condition, Event, Lock
from typing import ParamSpec

from chalicelib import pipeline
from chalicelib.errors import (
    BatchFailed,
    LeaseHeld,
    MalformedMessage,
    NotNow,
    OutOfTime,
    TookTooLong,
)
from chalicelib.logs import bound, carried
from chalicelib.messages import MAX_POSTPONE_S, WorkMessage, facts_of
from chalicelib.services import Services

P = ParamSpec("P")

logger = logging.getLogger("image-pipeline")

TIME_TO_HAND_BACK = timedelta(seconds=5)
"""Kept free at the end of an invocation, to give the queue back what has not been finished."""

TIME_TO_START = timedelta(seconds=15)
"""An image is not begun with less than this left."""

ENOUGH = 3 / 4
"""Of an invocation. Begun with less of it left, an image that was not done is not to blame: while
Rekognition throttles, an answer alone may take half of it."""

KEPT_PIXELS = 10_000_000
"""Decoded and scaled to its renditions, an image of no more may wait for others to begin. Ten have
as many pixels as one original may have."""

GIVE_WAY_S = 2
"""An original that is long in coming does not hold the others up for longer."""

MAX_RETRY_DELAY_S = 3600


def process_batch(
    messages: Sequence[WorkMessage], time_left: timedelta, services: Services
) -> None:
    """Process the messages of one SQS batch side by side, within the time left.

    Their waiting overlaps, while ``Patience.in_flight`` of them are decoded at a time. When some
    fail, what succeeded is deleted from the queue before BatchFailed is raised for the rest:
    Chalice cannot switch on partial batch responses, and without them Lambda would bring all of
    them back. What failed comes back after a delay that grows with each receive.
    """
    end = services.clock() + time_left
    in_good_time = end - time_left * ENOUGH
    last_start = end - TIME_TO_HAND_BACK - TIME_TO_START
    slots = Slots(services.patience.in_flight, len(messages), last_start, services)
    turns = [SlotTurn(slots) for _ in messages]
    pool = ThreadPoolExecutor(len(messages))
    work = [
        pool.submit(carried(_process), message, end, turn, services)
        for message, turn in zip(messages, turns, strict=True)
    ]
    wait(work, timeout=max(0.0, (time_left - TIME_TO_HAND_BACK).total_seconds()))
    # One that has not ended by now ends at its next step, or goes on until it is done. Its lease
    # keeps others away until this invocation's end; afterwards its result is refused.
    slots.is_over = True
    pool.shutdown(wait=False, cancel_futures=True)
    failures: dict[WorkMessage, BaseException] = {}
    late: list[WorkMessage] = []
    for message, turn, outcome in zip(messages, turns, work, strict=True):
        if not outcome.done() or outcome.cancelled():
            if turn.began_by(in_good_time):
                failures[message] = TookTooLong("It was not done when the invocation ended.")
            else:
                failures[message] = OutOfTime(
                    "The invocation ended before its turn, or soon after."
                )
                if turn.began_by(end):
                    late.append(message)
        elif error := outcome.exception():
            failures[message] = error
    if failures:
        done = [message for message in messages if message not in failures]
        _logged(services.queue.delete, done)
        _hand_back(failures, end, services)
        for message in late:
            _logged(pipeline.acquit, message.work, end, services)
        raise BatchFailed(list(failures.values()), total=len(messages))


class Slots:
    """As many images of a batch as this are in memory at a time, and none is begun too late."""

    def __init__(self, count: int, images: int, last_start: datetime, services: Services) -> None:
        self.count = count
        self.free = BoundedSemaphore(count)
        self.door = Lock()  # one at a time takes its slots, so that nobody waits for half of them
        self.kept = Condition()
        self.keeping = 0  # images that have given way, and wait decoded
        self.last_start = last_start
        self.clock = services.clock
        self.all_begun = Event()
        self.is_over = False
        self._to_begin = images
        self._lock = Lock()

    def one_has_begun(self) -> None:
        """Or never will: nobody needs to give way to it any more."""
        with self._lock:
            self._to_begin -= 1
            if not self._to_begin:
                self.all_begun.set()


class SlotTurn:
    """One image's turn. ``leave`` frees what it holds, however it ended."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._held = 0
        self._is_alone = self._is_counted = self._is_kept = False
        self._begun_at: datetime | None = None

    def began_by(self, moment: datetime) -> bool:
        return self._begun_at is not None and self._begun_at <= moment

    def begin(self, *, alone: bool) -> None:
        self._is_alone = alone
        if alone:
            self._count()  # nobody gives way to it, or it would wait for them and they for it
        with self._slots.door:
            for _ in range(self._slots.count if alone else 1):
                self._slots.free.acquire()
                self._held += 1
            with self._slots.kept:
                self._slots.kept.wait_for(lambda: not (alone and self._slots.keeping))
        now = self._slots.clock()
        if now > self._slots.last_start:
            raise OutOfTime("Too little time is left to begin another image.")
        self._begun_at = now

    def give_way(self, pixels: int) -> None:
        """Rekognition gets to see all images of the batch before the first rendition is encoded.

        So the last image's answer is on its way while the others' CPU time is spent. What weighs
        more than KEPT_PIXELS goes on, and so does what is alone.
        """
        if self._slots.is_over:
            raise OutOfTime("The invocation that began this has ended.")
        self._count()
        if pixels <= KEPT_PIXELS and not self._is_alone:
            with self._slots.kept:
                self._slots.keeping += 1
                self._is_kept = True
            self._release()
            self._slots.all_begun.wait(GIVE_WAY_S)

    def end(self) -> None:
        """What is alone stays so until it is stored and settled, too."""
        if not self._is_alone:
            self.leave()

    def leave(self) -> None:
        self._count()
        self._release()
        if self._is_kept:
            with self._slots.kept:
                self._is_kept = False
                self._slots.keeping -= 1
                self._slots.kept.notify_all()

    def _release(self) -> None:
        while self._held:
            self._held -= 1
            self._slots.free.release()

    def _count(self) -> None:
        if not self._is_counted:
            self._is_counted = True
            self._slots.one_has_begun()


def _process(message: WorkMessage, end: datetime, turn: SlotTurn, services: Services) -> None:
    try:
        with bound(**_facts(message)):
            original = pipeline.version_of(message.work, services)
            if original and services.workflow:
                pipeline.start(original, services.workflow, services)
            elif original:
                pipeline.process(original, end, turn, services)
    finally:
        turn.leave()


def _facts(message: WorkMessage) -> dict[str, str]:
    facts = {"message_id": message.message_id}
    with suppress(MalformedMessage):  # then there is no image that it is about
        facts |= facts_of(message.work)
    return facts


def _hand_back(
    failures: dict[WorkMessage, BaseException], end: datetime, services: Services
) -> None:
    """See to it that each comes back in its time, or ends in the dead-letter queue.

    Whatever fails here is logged and no more: such a message comes back by itself, after the
    queue's visibility timeout.
    """
    delays: dict[WorkMessage, int] = {}
    last: dict[WorkMessage, BaseException] = {}
    for message, error in failures.items():
        with bound(**_facts(message)):
            if isinstance(error, NotNow):
                logger.warning("message %s comes back: %s", message.message_id, error)
            else:
                logger.error("message %s failed", message.message_id, exc_info=error)
        if message.receive_count >= services.patience.max_receives:
            last[message] = error
        else:
            delays[message] = delay_s(message.receive_count, error, end, services)
    _logged(services.queue.hand_back, delays)
    for message, error in last.items():
        if isinstance(error, NotNow):
            wait_s = delay_s(message.receive_count, error, end, services)
            _logged(services.queue.postpone, message, min(wait_s, MAX_POSTPONE_S))
        else:
            with bound(**_facts(message)):
                _logged(_give_up, message, error, end, services)
            # The next receive moves it to the dead-letter queue.
            _logged(services.queue.hand_back, {message: 0})


def _logged(act: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    try:
        act(*args, **kwargs)
    except Exception:
        logger.exception("This is left to the visibility timeout.")


def _give_up(message: WorkMessage, error: BaseException, end: datetime, services: Services) -> None:
    with suppress(MalformedMessage):  # then there is no image that it is about
        pipeline.give_up(message.work, error, end, services)


def delay_s(receive_count: int, error: BaseException, end: datetime, services: Services) -> int:
    """Seconds until a message shall come back.

    Half of the delay is random, so that what failed together does not come back together.
    """
    if isinstance(error, LeaseHeld | OutOfTime | TookTooLong):
        until = datetime.fromisoformat(error.until) if isinstance(error, LeaseHeld) else end
        held = max(0.0, (until - services.clock()).total_seconds())
        return int(held) + 1 + random.randint(0, services.patience.retry_delay_s)  # noqa: S311
    longest = min(services.patience.retry_delay_s * 4 ** (receive_count - 1), MAX_RETRY_DELAY_S)
    return random.randint((longest + 1) // 2, longest)  # noqa: S311 - no secret
