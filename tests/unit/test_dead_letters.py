"""What the doctor of the dead-letter queue makes of its messages, and what it does about them."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

import app
from chalicelib import pipeline, worker
from chalicelib.aws.queue import WorkQueue
from chalicelib.errors import SettingsError
from chalicelib.messages import Recheck, WorkMessage, encode_work
from chalicelib.model import Failure, Image, ImageStatus, Original, image_id_of
from infrastructure.dead_letters import (
    DeadLetterQueue,
    Finding,
    Letter,
    Remedy,
    dead_letters_arn,
    diagnosed,
    discard,
    listing,
    redrive,
)
from infrastructure.destinations import asynchronous_functions
from tests.fakes import FakeServices, Scripted
from tests.pictures import photo, saved

WORK, DEAD = "https://sqs.example/1/work", "https://sqs.example/1/dead"
FUNCTION = "arn:aws:lambda:eu-west-1:1:function:image-pipeline-dev-handle_upload:$LATEST"
CAT = Original(
    "uploads/cat.jpg", "v1", "e1", 100, sequencer="1", uploaded_at="2026-01-31T09:15:00.000Z"
)


@dataclass
class FakeSqs(Scripted):
    """Queues by their URL. ``refused`` are bodies and receipt handles that batches do not take."""

    queues: dict[str, list[str]] = field(default_factory=lambda: {WORK: [], DEAD: []})
    hidden: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        Scripted.__init__(self)

    @property
    def visible(self) -> list[str]:
        return [body for body in self.queues[DEAD] if body not in self.hidden]

    def receive_message(self, **request: Any) -> dict[str, list[Any]]:
        self._step("receive")
        assert request["QueueUrl"] == DEAD
        most = min(request["MaxNumberOfMessages"], 3)  # SQS may give fewer than there are
        bodies = self.visible[:most]
        self.hidden |= set(bodies)
        messages = [
            {
                "MessageId": f"id of {body}",
                "ReceiptHandle": body,
                "Body": body,
                "Attributes": {"SentTimestamp": "1769850900000"},
            }
            for body in bodies
        ]
        return {"Messages": messages} if messages else {}

    def send_message_batch(self, **request: Any) -> dict[str, list[Any]]:
        self._step("send")
        queue = self.queues[request["QueueUrl"]]
        return self._each(request["Entries"], "MessageBody", queue.append, self.refused)

    def delete_message_batch(self, **request: Any) -> dict[str, list[Any]]:
        self._step("delete")
        queue = self.queues[request["QueueUrl"]]
        return self._each(request["Entries"], "ReceiptHandle", queue.remove, self.refused)

    def change_message_visibility_batch(self, **request: Any) -> dict[str, list[Any]]:
        assert request["QueueUrl"] == DEAD
        assert {entry["VisibilityTimeout"] for entry in request["Entries"]} == {0}
        return self._each(request["Entries"], "ReceiptHandle", self.hidden.discard, set())

    def _each(
        self,
        entries: list[Any],
        member: str,
        action: Callable[[str], object],
        refused: set[str],
    ) -> dict[str, list[Any]]:
        assert 1 <= len(entries) <= 10
        answer: dict[str, list[Any]] = {}
        for entry in entries:
            if entry[member] in refused:
                failed = {"Id": entry["Id"], "Code": "InternalError", "SenderFault": False}
                answer.setdefault("Failed", []).append(failed)
            else:
                action(entry[member])
                answer.setdefault("Successful", []).append({"Id": entry["Id"]})
        return answer


@pytest.fixture
def sqs() -> FakeSqs:
    return FakeSqs()


def work_queue(sqs: FakeSqs) -> WorkQueue:
    return WorkQueue(sqs, WORK)  # type: ignore[arg-type]


def dead_letters(sqs: FakeSqs) -> DeadLetterQueue:
    return DeadLetterQueue(sqs, DEAD)  # type: ignore[arg-type]


def letter(body: str) -> Letter:
    return Letter(f"id of {body}", body, body, "2026-01-31T09:15:00.000Z")


def work_of(number: int) -> str:
    return encode_work(replace(CAT, key=f"uploads/{number}.jpg"))


def findings_of(letters: list[Letter]) -> list[Finding]:
    return diagnosed(letters, FakeServices().catalog, "dev")


def diagnosis(body: str, image: Image | None = None) -> Finding:
    """The finding of one message, with that image (or none) in the catalog."""
    services = FakeServices()
    if image is not None:
        services.catalog.records[image.image_id] = image
    [finding] = diagnosed([letter(body)], services.catalog, "dev")
    return finding


def record_of(payload: Any, answer: Any = None, arn: str = FUNCTION) -> str:
    """What Lambda sends to the destination of a function that failed."""
    context = {"functionArn": arn, "condition": "RetriesExhausted", "approximateInvokeCount": 3}
    record = {"version": "1.0", "requestContext": context, "requestPayload": payload}
    return json.dumps(record | ({"responsePayload": answer} if answer is not None else {}))


def s3_event(*keys: str) -> dict[str, Any]:
    return {
        "Records": [
            {
                "eventName": "ObjectRemoved:Delete",
                "eventTime": "2026-01-31T09:15:00.000Z",
                "s3": {"object": {"key": key, "sequencer": "0A"}},
            }
            for key in keys
        ]
    }


# ── what is wrong ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (ImageStatus.QUEUED, "still_queued"),
        (ImageStatus.PROCESSING, "still_processing"),
        (ImageStatus.COMPLETED, "done_meanwhile: COMPLETED"),
        (ImageStatus.FAILED, "done_meanwhile: FAILED"),
        (ImageStatus.DELETED, "deleted"),
    ],
)
def test_cause_of_work_is_what_became_of_its_image(status: ImageStatus, cause: str) -> None:
    """The catalog knows whether the image still waits, was done by another message, or is gone."""
    image = Image(CAT, status, updated_at="2026-01-31T10:00:00.000Z")

    finding = diagnosis(encode_work(CAT), image)

    assert (finding.cause, finding.key, finding.remedy) == (cause, CAT.key, Remedy.SEND)
    assert "2026-01-31T10:00:00.000Z" in finding.reason


def test_work_nobody_recorded_is_an_unknown_image() -> None:
    """Whoever emptied the table, the message alone is enough to process the image."""
    assert diagnosis(encode_work(CAT)).cause == "unknown_image"


def test_work_on_another_version_is_overtaken() -> None:
    """The same key was uploaded again since."""
    newer = replace(CAT, version_id="v2", etag="e2")
    image = Image(newer, ImageStatus.COMPLETED, updated_at="2026-01-31T10:00:00.000Z")

    assert diagnosis(encode_work(CAT), image).cause == "overtaken"


def test_given_up_image_tells_what_ended_its_last_try(services: FakeServices) -> None:
    """The cause is the reason alone, so that a hundred images with the same are one line."""
    event = services.uploads.upload("uploads/cat.jpg", b"pixels")
    pipeline.register(event, services)
    pipeline.give_up(event.original, TimeoutError("5.0.0.1:443"), services.clock(), services)

    [finding] = diagnosed([letter(encode_work(event.original))], services.catalog, "dev")

    assert finding.cause == "retries_exhausted: TimeoutError"
    assert finding.reason.startswith("Given up after 5 tries")


def test_recheck_has_no_version_to_be_overtaken() -> None:
    """A message that names a key alone is told by what became of the key."""
    image = Image(CAT, ImageStatus.QUEUED, updated_at="2026-01-31T10:00:00.000Z")

    finding = diagnosis(encode_work(Recheck(CAT.key)), image)

    assert (finding.cause, finding.remedy) == ("recheck", Remedy.SEND)


def test_recheck_of_a_given_up_image_is_redriven_as_its_version(services: FakeServices) -> None:
    """A recheck would leave it FAILED; named by its version, it is really processed."""
    original = services.uploads.upload(CAT.key, saved(photo(24, 24))).original
    pipeline.register(services.uploads.created(CAT.key), services)
    services.queue.receive()
    pipeline.give_up(Recheck(CAT.key), TimeoutError("5.0.0.1:443"), services.clock(), services)

    [finding] = diagnosed([letter(encode_work(Recheck(CAT.key)))], services.catalog, "dev")

    assert finding.cause == "retries_exhausted: TimeoutError"
    assert finding.reason.startswith("Given up after 5 tries")
    assert (finding.key, finding.remedy) == (CAT.key, Remedy.SEND)
    assert finding.bodies == (encode_work(original),)
    [message] = [WorkMessage("id", "receipt", body, 1) for body in finding.bodies]
    worker.process_batch([message], timedelta(seconds=60), services)
    assert services.topic.statuses == ["FAILED", "COMPLETED"]


@pytest.mark.parametrize(
    "image",
    [
        None,
        *(Image(CAT, status, CAT.uploaded_at) for status in ImageStatus),
        Image(
            CAT, ImageStatus.FAILED, CAT.uploaded_at, failure=Failure("corrupt_image", "Broken.")
        ),
    ],
    ids=repr,
)
def test_recheck_of_anything_else_goes_back_as_it_came(image: Image | None) -> None:
    """What S3 holds by then decides."""
    body = encode_work(Recheck(CAT.key))

    finding = diagnosis(body, image)

    assert (finding.cause, finding.bodies) == ("recheck" if image else "unknown_image", (body,))


def test_event_that_a_function_failed_at_is_told_by_function_and_error() -> None:
    """Its keys are looked at again, each once, decoded as S3 encodes them."""
    answer = {"errorType": "ClientError", "errorMessage": "Throttled\n  by DynamoDB"}
    keys = ("uploads/a+b.jpg", "uploads/a+b.jpg", "uploads/%C3%BC.jpg")

    finding = diagnosis(record_of(s3_event(*keys), answer))

    assert finding.cause == "handle_upload: ClientError"
    assert finding.reason == "Throttled\n  by DynamoDB"
    assert finding.key == "uploads/a b.jpg"
    assert finding.bodies == (
        encode_work(Recheck("uploads/a b.jpg")),
        encode_work(Recheck("uploads/ü.jpg")),
    )


@pytest.mark.parametrize("answer", [None, "not an object", {}])
def test_event_that_grew_too_old_has_no_error(answer: Any) -> None:
    """Lambda says why it gave up where the function has not answered at all."""
    assert diagnosis(record_of(s3_event("a"), answer)).cause == "handle_upload: RetriesExhausted"


def test_failed_sweep_needs_no_redrive() -> None:
    """The next one does what it has not done."""
    arn = FUNCTION.replace("handle_upload:$LATEST", "sweep")
    event = {"detail-type": "Scheduled Event", "source": "aws.events"}

    finding = diagnosis(record_of(event, {"errorType": "Sandbox.Timedout"}, arn))

    assert finding.cause == "sweep: Sandbox.Timedout"
    assert (finding.remedy, finding.bodies) == (Remedy.REMOVE, ())


@pytest.mark.parametrize(
    "payload", [{"Records": [{"s3": {}}]}, {"Records": 5}, {"Records": []}, {}, None, [], "text"]
)
def test_event_without_keys_is_kept(payload: Any) -> None:
    """Nothing can be made of it, so nobody but a person removes it."""
    finding = diagnosis(record_of(payload, {"errorType": "KeyError"}))

    assert finding.cause == "unreadable_event: handle_upload: KeyError"
    assert finding.remedy is Remedy.KEEP


@pytest.mark.parametrize(
    "body",
    [
        *("", "hello", "5", "null", "[]", '"recheck"', "{}", '{"recheck": "\\ud800"}'),
        *('{"requestContext": 1}', '{"requestContext": {"functionArn": "a"}}'),
        record_of({}, arn="no arn"),
    ],
)
def test_what_is_not_ours_is_malformed_and_kept(body: str) -> None:
    """Whatever somebody put there is shown, and neither redriven nor removed."""
    finding = diagnosis(body)

    assert (finding.cause, finding.remedy) == ("malformed", Remedy.KEEP)


# ── what is shown ────────────────────────────────────────────────────────────────────────────────


def test_listing_counts_by_cause_and_shows_the_oldest() -> None:
    """The most frequent cause comes first; its example is whole enough to look it up."""
    letters = [letter(work_of(number)) for number in range(3)] + [
        letter("hello\x1b[2J" + "x" * 999)
    ]
    oldest = replace(letters[1], sent_at="2026-01-30T00:00:00.000Z")
    findings = findings_of([letters[0], oldest, *letters[2:]])

    lines = list(listing(findings, findings, DEAD))

    assert lines[0] == "4 in dead, the oldest sent at 2026-01-30T00:00:00.000Z."
    assert lines[2] == "    3  unknown_image"
    assert "id of" in lines[3]
    shown = "\n".join(lines)
    assert f"       image    {image_id_of('uploads/1.jpg')}, uploads/1.jpg" in lines
    assert shown.index("unknown_image") < shown.index("malformed")
    assert "\x1b" not in shown
    assert max(len(line) for line in lines) <= 100
    assert DEAD in lines[-1]


def test_listing_of_one_cause_counts_the_others() -> None:
    """Nobody takes a part for the whole."""
    findings = findings_of([letter(work_of(1)), letter("hello")])

    lines = list(listing(findings, findings[:1], DEAD))

    assert "1 of other causes." in lines
    assert not any("malformed" in line for line in lines)


# ── what is done ─────────────────────────────────────────────────────────────────────────────────


def test_looking_changes_nothing(sqs: FakeSqs) -> None:
    """All is received, beyond one batch, and all is visible again afterwards."""
    sqs.queues[DEAD] = [work_of(number) for number in range(25)]

    with dead_letters(sqs) as dead:
        assert [each.body for each in dead.receive(1000)] == sqs.queues[DEAD]
        assert sqs.visible == []

    assert len(sqs.visible) == 25
    assert "delete" not in sqs.calls


def test_one_empty_answer_is_not_the_end(sqs: FakeSqs) -> None:
    """SQS may ask a server that holds nothing while another holds a message."""
    late = work_of(1)
    sqs.before("receive", lambda: None, lambda: sqs.queues[DEAD].append(late))

    with dead_letters(sqs) as dead:
        assert [each.body for each in dead.receive(1000)] == [late]


def test_no_more_is_received_than_the_limit(sqs: FakeSqs) -> None:
    """What is beyond the limit is not even hidden."""
    sqs.queues[DEAD] = [work_of(number) for number in range(25)]

    with dead_letters(sqs) as dead:
        assert len(dead.receive(11)) == 11
        assert len(sqs.visible) == 14


def test_work_goes_back_as_it_came(sqs: FakeSqs) -> None:
    """The same bodies are in the work queue, and nothing is left."""
    bodies = [work_of(number) for number in range(25)]
    sqs.queues[DEAD] = list(bodies)

    with dead_letters(sqs) as dead:
        removed = redrive(findings_of(dead.receive(1000)), dead, work_queue(sqs))

    assert len(removed) == 25
    assert sqs.queues == {WORK: bodies, DEAD: []}


def test_each_body_is_sent_before_its_letter_is_removed(sqs: FakeSqs) -> None:
    """Killed in between, the work is there twice and never lost."""
    sqs.queues[DEAD] = [work_of(number) for number in range(25)]

    with dead_letters(sqs) as dead:
        redrive(findings_of(dead.receive(1000)), dead, work_queue(sqs))

    assert [call for call in sqs.calls if call != "receive"] == ["send", "delete"] * 3


def test_what_the_work_queue_refuses_stays(
    sqs: FakeSqs, capsys: pytest.CaptureFixture[str]
) -> None:
    """One entry that SQS did not take keeps its letter; the others go, and a line says why."""
    refused, taken = work_of(1), work_of(2)
    sqs.queues[DEAD], sqs.refused = [refused, taken], {refused}

    with dead_letters(sqs) as dead:
        removed = redrive(findings_of(dead.receive(1000)), dead, work_queue(sqs))

    assert [each.body for each in removed] == [taken]
    assert sqs.queues == {WORK: [taken], DEAD: [refused]}
    assert sqs.visible == [refused]
    assert f"id of {refused}: InternalError" in capsys.readouterr().err


def test_event_of_several_keys_goes_when_all_are_asked_for(sqs: FakeSqs) -> None:
    """A record of which one recheck was refused stays whole."""
    record = record_of(s3_event("uploads/1", "uploads/2"))
    sqs.queues[DEAD], sqs.refused = [record], {encode_work(Recheck("uploads/2"))}

    with dead_letters(sqs) as dead:
        assert redrive(findings_of(dead.receive(1000)), dead, work_queue(sqs)) == []

    assert sqs.visible == [record]


def test_letter_that_cannot_be_removed_is_not_counted(sqs: FakeSqs) -> None:
    """It is in both queues then, which does no harm, and is still listed."""
    body = work_of(1)
    sqs.queues[DEAD] = [body]

    with dead_letters(sqs) as dead:
        findings = findings_of(dead.receive(1000))
        sqs.before("delete", lambda: sqs.refused.add(body))
        assert redrive(findings, dead, work_queue(sqs)) == []

    assert sqs.queues[WORK] == sqs.visible == [body]


@pytest.mark.parametrize("error", [OSError("no route"), KeyboardInterrupt()])
def test_interrupted_redrive_gives_the_rest_back(sqs: FakeSqs, error: BaseException) -> None:
    """After an error or Ctrl-C half-way, what was not sent is visible at once."""
    bodies = [work_of(number) for number in range(25)]
    sqs.queues[DEAD] = list(bodies)
    sqs.before("send", lambda: None, error)

    with pytest.raises(type(error)), dead_letters(sqs) as dead:
        redrive(findings_of(dead.receive(1000)), dead, work_queue(sqs))

    assert sqs.queues[WORK] == bodies[:10]
    assert sqs.visible == bodies[10:]


def test_interrupted_look_gives_back_what_it_has(sqs: FakeSqs) -> None:
    """Ctrl-C while receiving hides nothing for longer."""
    sqs.queues[DEAD] = [work_of(number) for number in range(25)]
    sqs.before("receive", lambda: None, KeyboardInterrupt())

    with pytest.raises(KeyboardInterrupt), dead_letters(sqs) as dead:
        dead.receive(1000)

    assert len(sqs.visible) == 25


def test_only_what_can_be_redriven_is_touched(sqs: FakeSqs) -> None:
    """A malformed message stays, a failed sweep goes without a message in its place."""
    sweep = record_of({"detail-type": "Scheduled Event"})
    sqs.queues[DEAD] = ["hello", sweep]

    with dead_letters(sqs) as dead:
        redrive(findings_of(dead.receive(1000)), dead, work_queue(sqs))

    assert sqs.queues == {WORK: [], DEAD: ["hello"]}
    assert sqs.visible == ["hello"]


def test_discarding_prints_whole_what_it_removes(
    sqs: FakeSqs, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is gone from the queue can be put back from the screen."""
    body = "hello\n" + "x" * 5000
    sqs.queues[DEAD] = [body, "another"]

    with dead_letters(sqs) as dead:
        findings = findings_of(dead.receive(1000))
        discard(findings[:1], dead)

    assert json.loads(capsys.readouterr().out)["body"] == body
    assert sqs.visible == ["another"]


# ── where it is ──────────────────────────────────────────────────────────────────────────────────


def test_work_queue_without_redrive_policy_is_named() -> None:
    """A queue that loses its dead letters is no queue of this stack."""

    class Bare:
        def get_queue_attributes(self, **_: Any) -> dict[str, Any]:
            return {}  # as SQS answers where an attribute is not set

    with pytest.raises(SettingsError, match=WORK):
        dead_letters_arn(WorkQueue(Bare(), WORK))  # type: ignore[arg-type]


def test_functions_nobody_waits_for_have_a_destination() -> None:
    """S3 and the schedule hand events over; SQS keeps its own, callers of the API wait."""
    assert asynchronous_functions(app.app) == ["handle_upload", "handle_removal", "sweep"]
