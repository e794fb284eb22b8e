"""The work queue, as SQS keeps it."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from chalicelib.aws.queue import WorkQueue
from chalicelib.messages import Recheck, Work, WorkMessage, encode_work
from chalicelib.model import Original
from localcloud.cloud import LocalCloud
from tests.adapters.conftest import Operations
from tests.fakes import Killed
from tests.waiting import eventually

NUMBERS = count(1)
ORIGINAL = Original(
    key='uploads/ "é" + % 🦊.jpg',
    version_id="version-1",
    etag="etag",
    size_bytes=12,
    sequencer="0" * 32,
    uploaded_at="2026-01-31T09:15:00.000Z",
)
REFUSAL = {"Id": "0", "SenderFault": False, "Code": "InternalError", "Message": "try again"}


def new_queue(client_of: Callable[[str], Any], **attributes: str) -> WorkQueue:
    """A queue that no function reads."""
    sqs, name = client_of("sqs"), f"adapters-work-{next(NUMBERS)}"
    return WorkQueue(sqs, sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])


@pytest.fixture
def queue(client_of: Callable[[str], Any]) -> Iterator[WorkQueue]:
    queue = new_queue(client_of)
    yield queue
    queue.client.delete_queue(QueueUrl=queue.url)


@pytest.fixture
def operations(queue: WorkQueue) -> Iterator[Operations]:
    """What is asked of SQS."""
    with Operations(queue.client) as operations:
        yield operations


def receive(queue: WorkQueue, wait_s: int = 0) -> list[WorkMessage]:
    """A few of the messages that wait, hidden from others now."""
    answer = queue.client.receive_message(
        QueueUrl=queue.url,
        MaxNumberOfMessages=10,
        WaitTimeSeconds=wait_s,
        AttributeNames=["ApproximateReceiveCount"],
    )
    return [
        WorkMessage(
            each["MessageId"],
            each["ReceiptHandle"],
            each["Body"],
            int(each["Attributes"]["ApproximateReceiveCount"]),
        )
        for each in answer.get("Messages", ())
    ]


def received(queue: WorkQueue, number: int) -> list[WorkMessage]:
    """So many messages, as they come."""
    messages: list[WorkMessage] = []
    while len(messages) < number:
        messages += eventually(lambda: receive(queue, wait_s=5))
    return messages


def held(queue: WorkQueue) -> dict[str, int]:
    """How many messages wait, are being worked on, and are delayed."""
    names = {
        "ApproximateNumberOfMessages": "waiting",
        "ApproximateNumberOfMessagesNotVisible": "in flight",
        "ApproximateNumberOfMessagesDelayed": "delayed",
    }
    answer = queue.client.get_queue_attributes(QueueUrl=queue.url, AttributeNames=list(names))
    numbers = {names[name]: int(value) for name, value in answer["Attributes"].items()}
    return {name: number for name, number in numbers.items() if number}


def some_work(number: int) -> list[Work]:
    return [replace(ORIGINAL, size_bytes=each) for each in range(number)]


# ── sending and deleting ─────────────────────────────────────────────────────────────────────────


def test_message_brings_the_work(queue: WorkQueue) -> None:
    """What was sent is what is received, whatever the key holds."""
    asked: list[Work] = [ORIGINAL, Recheck('uploads/ "é" + % 🦊\n.jpg')]

    queue.send(asked)

    messages = received(queue, 2)
    assert sorted((message.work for message in messages), key=repr) == sorted(asked, key=repr)
    assert [message.receive_count for message in messages] == [1, 1]


def test_work_is_sent_in_batches(queue: WorkQueue, operations: Operations) -> None:
    """More than SQS takes at once, as it is made, each asked for once; nothing asks nothing."""
    asked = [*some_work(13), *(Recheck(f"uploads/{number}.jpg") for number in range(12))]

    queue.send(work for work in asked)

    assert operations.made == ["SendMessageBatch"] * 3
    works = [message.work for message in received(queue, 25)]
    assert sorted(works, key=repr) == sorted(asked, key=repr)

    operations.clear()
    queue.send([])
    assert operations.made == []


def test_bodies_are_sent_as_many_at_a_time_as_sqs_takes(
    queue: WorkQueue, operations: Operations
) -> None:
    """256 KB together; in bytes, not in characters."""
    sent = ["é" * 50_000, "a" * 100_000, "b" * 60_000, "c" * 200_000, "d" * 62_144, "e"]

    queue.send_bodies(sent)

    assert operations.made == ["SendMessageBatch"] * 3
    assert sorted(each.body for each in received(queue, 6)) == sorted(sent)


def test_work_that_sqs_does_not_take_is_an_error(queue: WorkQueue, operations: Operations) -> None:
    """SQS answers 200 even if it took only a part; what it refused must not be forgotten."""
    operations.change_answer(
        "sqs.SendMessageBatch", lambda answer: answer.update({"Failed": [REFUSAL]})
    )

    with pytest.raises(OSError, match="InternalError"):
        queue.send([ORIGINAL])


def test_deleted_messages_do_not_come_back(queue: WorkQueue, operations: Operations) -> None:
    """More than SQS deletes at once; what was not deleted stays."""
    queue.send(some_work(13))
    messages = received(queue, 13)
    kept = messages.pop(5)
    operations.clear()

    queue.delete(messages)

    assert operations.made == ["DeleteMessageBatch"] * 2
    assert held(queue) == {"in flight": 1}
    queue.hand_back({kept: 0})
    assert [message.work for message in received(queue, 1)] == [kept.work]


def test_message_that_sqs_does_not_delete_is_no_error(
    queue: WorkQueue, operations: Operations
) -> None:
    """It comes back and finds its work done; the others must not come back for it."""
    operations.change_answer(
        "sqs.DeleteMessageBatch", lambda answer: answer.update({"Failed": [REFUSAL]})
    )
    queue.send(some_work(12))

    queue.delete(received(queue, 12))

    assert held(queue) == {}


def test_deleting_nothing_asks_nothing(queue: WorkQueue, operations: Operations) -> None:
    """SQS refuses an empty batch, so none is sent."""
    queue.delete([])

    assert operations.made == []


# ── coming back ──────────────────────────────────────────────────────────────────────────────────


def test_message_comes_back_after_its_delay(queue: WorkQueue) -> None:
    """Not before, and counted as received once more."""
    queue.send([ORIGINAL])
    [message] = received(queue, 1)
    start = time.monotonic()

    queue.hand_back({message: 1})

    [again] = received(queue, 1)
    assert time.monotonic() - start >= 1
    assert (again.message_id, again.body) == (message.message_id, message.body)
    assert again.receive_count == 2


def test_each_message_comes_back_in_its_own_time(queue: WorkQueue, operations: Operations) -> None:
    """More than SQS takes at once; those of a long delay stay hidden."""
    queue.send(some_work(13))
    messages = received(queue, 13)
    operations.clear()

    queue.hand_back(
        {message: 600 if number in {0, 11} else 0 for number, message in enumerate(messages)}
    )

    assert operations.made == ["ChangeMessageVisibilityBatch"] * 2
    soon = {message.message_id for message in messages} - {
        messages[0].message_id,
        messages[11].message_id,
    }
    assert {message.message_id for message in received(queue, 11)} == soon
    assert receive(queue) == []
    assert held(queue) == {"in flight": 13}


def test_handing_back_nothing_asks_nothing(queue: WorkQueue, operations: Operations) -> None:
    """SQS refuses an empty batch, so none is sent."""
    queue.hand_back({})

    assert operations.made == []


def test_message_that_is_not_taken_back_is_an_error(
    queue: WorkQueue, operations: Operations
) -> None:
    """SQS answers 200 even if some messages come back in another time."""
    queue.send([ORIGINAL])
    [message] = received(queue, 1)
    operations.change_answer(
        "sqs.ChangeMessageVisibilityBatch", lambda answer: answer.update({"Failed": [REFUSAL]})
    )

    with pytest.raises(OSError, match="InternalError"):
        queue.hand_back({message: 0})


def test_message_that_was_never_received_cannot_be_handed_back(queue: WorkQueue) -> None:
    """A receipt that is none is refused in the answer, not by an exception of boto3."""
    with pytest.raises(OSError, match="ReceiptHandle"):
        queue.hand_back({WorkMessage("id", "no receipt", "{}", 1): 0})


def test_postponed_message_begins_anew(queue: WorkQueue) -> None:
    """A copy comes after the delay, received for the first time; the original is gone."""
    queue.send([ORIGINAL])
    queue.hand_back(dict.fromkeys(received(queue, 1), 0))
    [message] = received(queue, 1)
    assert message.receive_count == 2
    start = time.monotonic()

    queue.postpone(message, 1)

    [copy] = received(queue, 1)
    assert time.monotonic() - start >= 1
    assert (copy.body, copy.receive_count) == (message.body, 1)
    assert copy.message_id != message.message_id
    assert held(queue) == {"in flight": 1}


def test_message_is_not_lost_when_killed_while_it_is_postponed(
    queue: WorkQueue, operations: Operations
) -> None:
    """The copy is there before the original goes."""
    queue.send([ORIGINAL])
    [message] = received(queue, 1)
    operations.before("sqs.DeleteMessage", Killed())

    with pytest.raises(Killed):
        queue.postpone(message, 600)

    assert held(queue) == {"in flight": 1, "delayed": 1}


# ── what is in the queue ─────────────────────────────────────────────────────────────────────────


def test_queue_is_empty_when_nothing_is_there_in_any_state(queue: WorkQueue) -> None:
    """What waits, what is being worked on and what is delayed all count."""
    assert queue.is_empty()

    queue.send([ORIGINAL])
    assert held(queue) == {"waiting": 1}
    assert not queue.is_empty()

    [message] = received(queue, 1)
    assert held(queue) == {"in flight": 1}
    assert not queue.is_empty()

    queue.postpone(message, 600)
    assert held(queue) == {"delayed": 1}
    assert not queue.is_empty()

    queue.client.purge_queue(QueueUrl=queue.url)
    assert queue.is_empty()


# ── dead letters ─────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def with_dead_letters(client_of: Callable[[str], Any]) -> Iterator[Sequence[WorkQueue]]:
    """A queue whose messages are received twice at most, and the queue where they go then."""
    dead = new_queue(client_of)
    answer = dead.client.get_queue_attributes(QueueUrl=dead.url, AttributeNames=["QueueArn"])
    policy = {"deadLetterTargetArn": answer["Attributes"]["QueueArn"], "maxReceiveCount": 2}
    queue = new_queue(client_of, RedrivePolicy=json.dumps(policy))
    yield queue, dead
    for each in (queue, dead):
        each.client.delete_queue(QueueUrl=each.url)


def test_message_handed_back_at_its_last_receive_is_a_dead_letter(
    with_dead_letters: Sequence[WorkQueue],
) -> None:
    """Handed back at once, the next receive moves it; until then it stays in the queue."""
    queue, dead = with_dead_letters
    queue.send([ORIGINAL])
    for receive_count in (1, 2):
        [message] = received(queue, 1)
        assert message.receive_count == receive_count
        assert held(dead) == {}
        queue.hand_back({message: 0})

    assert receive(queue, wait_s=1) == []

    [letter] = received(dead, 1)
    assert letter.body == encode_work(ORIGINAL)
    assert queue.is_empty()


def test_postponed_message_is_no_dead_letter(with_dead_letters: Sequence[WorkQueue]) -> None:
    """However often it was not its turn, it has all its receives before it again."""
    queue, dead = with_dead_letters
    queue.send([ORIGINAL])
    for _ in range(2):
        [message] = received(queue, 1)
        queue.hand_back({message: 0})
        [message] = received(queue, 1)
        queue.postpone(message, 0)

    assert [message.receive_count for message in received(queue, 1)] == [1]
    assert held(dead) == {}


def test_functions_know_how_often_a_message_is_received(
    cloud: LocalCloud, client_of: Callable[[str], Any]
) -> None:
    """The deployed queue moves a message after as many receives as the setting says."""
    answer = client_of("sqs").get_queue_attributes(
        QueueUrl=cloud.outputs["WorkQueueUrl"], AttributeNames=["RedrivePolicy"]
    )

    policy = json.loads(answer["Attributes"]["RedrivePolicy"])
    assert int(policy["maxReceiveCount"]) == int(cloud.variables["MAX_RECEIVE_COUNT"])
    assert policy["deadLetterTargetArn"].endswith("-dead-letters")
