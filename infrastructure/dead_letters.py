"""List what is in the dead-letter queue by cause, and give it back to the work queue.

Nothing is changed without --redrive or --discard; then only what the listing shows is. While it
runs, the messages are hidden from others. The exit status is 0 when the queue is empty or all of it
was dealt with, and 1 when something is left in it.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from textwrap import wrap
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.aws import batches
from chalicelib.aws.queue import BATCH, WorkQueue
from chalicelib.config import parse_count
from chalicelib.errors import MalformedMessage, SettingsError
from chalicelib.messages import (
    Recheck,
    Work,
    decode_work,
    encode_work,
    object_events,
    printable,
    timestamp,
)
from chalicelib.model import Image, ImageStatus, image_id_of
from chalicelib.services import Catalog
from infrastructure.stage import services_of, stack_name

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

HIDDEN_S = 900
"""How long a message stays hidden; it comes back after this even if the doctor is killed."""

EMPTY_ANSWERS = 2
"""After as many the queue is taken for empty: one may miss what another server of SQS holds."""

WIDTH = 100


class Remedy(StrEnum):
    """What a redrive does about a message."""

    SEND = "is sent to the work queue again"
    RECHECK = "its key is looked at again, whichever event was lost"
    REMOVE = "is removed: the next run makes up for it"
    KEEP = "nothing can be sent for it, it stays"


@dataclass(frozen=True, slots=True)
class Letter:
    """One message of the dead-letter queue. ``sent_at`` is when it was first sent anywhere."""

    message_id: str
    receipt_handle: str
    body: str
    sent_at: str


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a letter is dead, and what is sent to the work queue in its place.

    ``key`` is empty where the letter is not about one object.
    """

    letter: Letter
    cause: str
    reason: str
    key: str
    remedy: Remedy
    bodies: tuple[str, ...] = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cause", default="", help="only what has this cause: a name as listed, or its beginning"
    )
    actions = parser.add_mutually_exclusive_group()
    actions.add_argument(
        "--redrive", action="store_true", help="do what the listing says of a redrive"
    )
    actions.add_argument(
        "--discard", action="store_true", help="print and remove; a --cause has to be given"
    )
    parser.add_argument(
        "--limit", type=parse_count, default=1000, help="messages looked at (default: 1000)"
    )


def run(options: argparse.Namespace) -> int:
    if options.discard and not options.cause:
        print("--discard removes messages for good: name their --cause.", file=sys.stderr)
        return 2
    services = services_of(options.stage)
    with DeadLetterQueue.of(services.queue) as dead:
        letters = dead.receive(options.limit + 1)  # one more tells whether there are more
        if not letters:
            return _nothing_to_see(dead)
        findings = diagnosed(letters[: options.limit], services.catalog, options.stage)
        chosen = [finding for finding in findings if finding.cause.startswith(options.cause)]
        print("\n".join(listing(findings, chosen, dead.url)))
        if len(letters) > options.limit:
            print(f"There are more than these {options.limit} (--limit).")
        if options.redrive:
            done = redrive(chosen, dead, services.queue)
        elif options.discard:
            done = discard(chosen, dead)
        else:
            print("Nothing was changed. --redrive does what the listing says.")
            return 1
        print(f"{len(done)} of {len(findings)} dealt with.")
        return 0 if len(done) == len(letters) else 1


def _nothing_to_see(dead: "DeadLetterQueue") -> int:
    if hidden := dead.hidden():
        print(f"SQS counts {hidden} that are hidden: somebody else may be looking at them.")
        return 1
    print("The dead-letter queue is empty.")
    return 0


# ── what is wrong ────────────────────────────────────────────────────────────────────────────────


def diagnosed(letters: Sequence[Letter], catalog: Catalog, stage: str) -> list[Finding]:
    """A finding for each letter; those about images have them looked up in the catalog."""
    works = [work_of(letter.body) for letter in letters]
    images = catalog.get_many(sorted({image_id_of(work.key) for work in works if work}))
    return [
        finding_of_work(letter, work, images.get(image_id_of(work.key)))
        if work
        else finding_of_event(letter, stage)
        for letter, work in zip(letters, works, strict=True)
    ]


def work_of(body: str) -> Work | None:
    """What a message of the work queue asks for; None where it is none."""
    try:
        work = decode_work(body)
        work.key.encode()
    except (MalformedMessage, UnicodeEncodeError):  # JSON can say half a character, keys cannot
        return None
    return work


def finding_of_work(letter: Letter, work: Work, image: Image | None) -> Finding:
    """Of a message of the work queue, from what the catalog says of its image (None: nothing)."""
    cause, reason = _cause_of_work(work, image)
    # A recheck leaves alone what was given up; only its version by name is tried again.
    is_given_up = isinstance(work, Recheck) and image is not None and image.is_given_up
    body = encode_work(image.original) if image and is_given_up else letter.body
    return Finding(letter, cause, reason, work.key, Remedy.SEND, (body,))


def _cause_of_work(  # noqa: PLR0911 - one a cause
    work: Work, image: Image | None
) -> tuple[str, str]:
    if image is None:
        return "unknown_image", "The catalog knows nothing of it; a redrive records it."
    since = f"since {image.updated_at}"
    if isinstance(work, Recheck) and image.failure and image.is_given_up:
        return f"retries_exhausted: {last_reason(image.failure.message)}", image.failure.message
    if isinstance(work, Recheck):
        return "recheck", f"Looking at the key has failed; its image is {image.status} {since}."
    if image.status is ImageStatus.DELETED:
        return "deleted", f"The image is gone {since}; the worker only tidies up after it."
    version = image.original
    if (version.version_id, version.etag) != (work.version_id, work.etag):
        return "overtaken", f"Another version of the object is recorded {since}."
    if image.failure and image.is_given_up:
        return f"retries_exhausted: {last_reason(image.failure.message)}", image.failure.message
    if image.status.is_final:
        return f"done_meanwhile: {image.status}", f"The image is {image.status} {since}."
    return (
        f"still_{image.status.lower()}",
        f"The image is {image.status} {since}: its worker has died, or is at it just now.",
    )


def last_reason(message: str) -> str:
    """What ended the last try, from the sentence that the pipeline records when it gives up."""
    reason = message.partition("ended so: ")[2].partition(". Nothing may be wrong")[0]
    return reason or message


def finding_of_event(letter: Letter, stage: str) -> Finding:
    """Of the record that Lambda makes of an event a function failed at, or of anything else."""
    try:
        record = json.loads(letter.body)
        arn = record["requestContext"]["functionArn"]
        function = arn.split(":")[6].removeprefix(f"{stack_name(stage)}-")
        payload = record["requestPayload"]
        answer = record.get("responsePayload")
        told = answer if isinstance(answer, dict) else {}
        condition = record["requestContext"].get("condition", "failed")
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return Finding(letter, "malformed", f"Not ours: {letter.body}", "", Remedy.KEEP)
    error = f"{function}: {told.get('errorType') or condition}"
    reason = str(told.get("errorMessage") or f"Lambda has given it up: {condition}.")
    if isinstance(payload, dict) and payload.get("detail-type") == "Scheduled Event":
        return Finding(letter, error, reason, "", Remedy.REMOVE)
    if keys := _keys_of(payload):
        bodies = tuple(encode_work(Recheck(key)) for key in keys)
        return Finding(letter, error, reason, keys[0], Remedy.RECHECK, bodies)
    return Finding(letter, f"unreadable_event: {error}", reason, "", Remedy.KEEP)


def _keys_of(payload: Any) -> list[str]:
    """The keys of an S3 event, each once; none where it is no such event."""
    try:
        return list(dict.fromkeys(event.original.key for event in object_events(payload)))
    except (MalformedMessage, AttributeError, TypeError):
        return []


# ── what is shown ────────────────────────────────────────────────────────────────────────────────


def listing(findings: Sequence[Finding], chosen: Sequence[Finding], url: str) -> Iterator[str]:
    """Lines about those that were chosen, the most frequent cause first."""
    oldest = min(finding.letter.sent_at for finding in findings)
    yield f"{len(findings)} in {url.rpartition('/')[2]}, the oldest sent at {oldest}."
    yield ""
    by_cause: dict[str, list[Finding]] = defaultdict(list)
    for finding in sorted(chosen, key=lambda finding: finding.letter.sent_at):
        by_cause[finding.cause].append(finding)
    for cause, group in sorted(by_cause.items(), key=lambda pair: -len(pair[1])):
        yield from _lines(f"{len(group):5}  ", cause)
        for name, text in _about(group[0]):
            yield from _lines(f"       {name:<9}", text)
        yield ""
    if others := len(findings) - len(chosen):
        yield f"{others} of other causes."
    if any(finding.remedy is Remedy.KEEP for finding in chosen):
        yield "--discard --cause NAME prints and removes what a redrive leaves. To see it before:"
        yield f"  aws sqs receive-message --visibility-timeout 0 --queue-url {url}"


def _about(finding: Finding) -> Iterator[tuple[str, str]]:
    """The oldest of a cause, as an example of it."""
    yield "oldest", f"{finding.letter.sent_at}, message {finding.letter.message_id}"
    if finding.key:
        yield "image", f"{image_id_of(finding.key)}, {finding.key}"
    yield "reason", finding.reason
    yield "redrive", finding.remedy


def _lines(margin: str, text: str) -> Iterator[str]:
    """Text beside a margin, whatever control characters it holds; three lines at most."""
    shown = printable(text.replace("\n", " ")).encode(errors="replace").decode()
    lines = wrap(shown, WIDTH - len(margin), max_lines=3, placeholder=" …") or [""]
    yield margin + lines[0]
    yield from (" " * len(margin) + line for line in lines[1:])


# ── what is done ─────────────────────────────────────────────────────────────────────────────────


def redrive(
    findings: Sequence[Finding], dead: "DeadLetterQueue", work_queue: WorkQueue
) -> list[Letter]:
    """Send what stands for each letter to the work queue, then remove it; gives those removed.

    A letter goes only after SQS has confirmed all that was sent for it: killed in between, the
    work is asked for twice, which does no harm.
    """
    removed: list[Letter] = []
    for batch in batches((each for each in findings if each.remedy is not Remedy.KEEP), BATCH):
        refused = _send(batch, work_queue)
        removed += dead.remove([each.letter for each in batch if each.letter not in refused])
    return removed


def _send(findings: Sequence[Finding], work_queue: WorkQueue) -> set[Letter]:
    """The letters of which SQS has not confirmed everything."""
    bodies = [(finding.letter, body) for finding in findings for body in finding.bodies]
    refused: set[Letter] = set()
    for batch in batches(bodies, BATCH):
        answer = work_queue.client.send_message_batch(
            QueueUrl=work_queue.url,
            Entries=[
                {"Id": str(index), "MessageBody": body} for index, (_, body) in enumerate(batch)
            ],
        )
        refused |= _unconfirmed([letter for letter, _ in batch], answer)
    return refused


def discard(findings: Sequence[Finding], dead: "DeadLetterQueue") -> list[Letter]:
    """Remove letters for good, each printed whole before; gives those removed."""
    for finding in findings:
        print(json.dumps({"message_id": finding.letter.message_id, "body": finding.letter.body}))
    return dead.remove([finding.letter for finding in findings])


class DeadLetterQueue:
    """Holds what it has received; on leaving, all that was not removed is given back at once."""

    def __init__(self, client: "SQSClient", url: str) -> None:
        self.url = url
        self._client = client
        self._held: dict[str, Letter] = {}

    @classmethod
    def of(cls, work_queue: WorkQueue) -> Self:
        """The queue that a work queue's redrive policy names. Raises SettingsError for none."""
        *_, account, name = dead_letters_arn(work_queue).split(":")
        answer = work_queue.client.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)
        return cls(work_queue.client, answer["QueueUrl"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._give_back()
        except (BotoCoreError, ClientError) as failure:
            print(f"They come back in {HIDDEN_S // 60} minutes: {failure}", file=sys.stderr)

    def receive(self, most: int) -> list[Letter]:
        """Everything there is, up to so many."""
        empty_answers = 0
        while len(self._held) < most and empty_answers < EMPTY_ANSWERS:
            answer = self._client.receive_message(
                QueueUrl=self.url,
                MaxNumberOfMessages=min(BATCH, most - len(self._held)),
                VisibilityTimeout=HIDDEN_S,
                WaitTimeSeconds=1,
                MessageSystemAttributeNames=["SentTimestamp"],
            )
            messages = answer.get("Messages", [])
            self._held |= {message["MessageId"]: _letter(message) for message in messages}
            empty_answers = 0 if messages else empty_answers + 1
        return list(self._held.values())

    def remove(self, letters: Sequence[Letter]) -> list[Letter]:
        """Take these off the queue; gives those of which SQS has confirmed it."""
        removed: list[Letter] = []
        for batch in batches(letters, BATCH):
            answer = self._client.delete_message_batch(
                QueueUrl=self.url,
                Entries=[
                    {"Id": str(index), "ReceiptHandle": letter.receipt_handle}
                    for index, letter in enumerate(batch)
                ],
            )
            refused = _unconfirmed(batch, answer)
            removed += [letter for letter in batch if letter not in refused]
        for letter in removed:
            del self._held[letter.message_id]
        return removed

    def hidden(self) -> int:
        """How many messages somebody has received and not given back, as far as SQS knows."""
        answer = self._client.get_queue_attributes(
            QueueUrl=self.url, AttributeNames=["ApproximateNumberOfMessagesNotVisible"]
        )
        return int(answer["Attributes"]["ApproximateNumberOfMessagesNotVisible"])

    def _give_back(self) -> None:
        for batch in batches(self._held.values(), BATCH):
            self._client.change_message_visibility_batch(
                QueueUrl=self.url,
                Entries=[
                    {
                        "Id": str(index),
                        "ReceiptHandle": letter.receipt_handle,
                        "VisibilityTimeout": 0,
                    }
                    for index, letter in enumerate(batch)
                ],
            )


def dead_letters_arn(work_queue: WorkQueue) -> str:
    """Where the messages of a work queue end up. Raises SettingsError where nowhere is set."""
    answer = work_queue.client.get_queue_attributes(
        QueueUrl=work_queue.url, AttributeNames=["RedrivePolicy"]
    )
    policy = answer.get("Attributes", {}).get("RedrivePolicy")
    if policy is None:
        raise SettingsError(f"{work_queue.url} has no redrive policy: apply resources.yaml.")
    arn: str = json.loads(policy)["deadLetterTargetArn"]
    return arn


def _letter(message: Mapping[str, Any]) -> Letter:
    sent_ms = int(message["Attributes"]["SentTimestamp"])
    return Letter(
        message_id=message["MessageId"],
        receipt_handle=message["ReceiptHandle"],
        body=message["Body"],
        sent_at=timestamp(datetime.fromtimestamp(sent_ms / 1000, UTC)),
    )


def _unconfirmed(letters: Sequence[Letter], answer: Mapping[str, Any]) -> set[Letter]:
    """The letters that a batch operation of SQS did not confirm; says why."""
    confirmed = {int(entry["Id"]) for entry in answer.get("Successful", ())}
    for entry in answer.get("Failed", ()):
        letter = letters[int(entry["Id"])]
        print(f"SQS refused message {letter.message_id}: {entry['Code']}", file=sys.stderr)
    return {letter for index, letter in enumerate(letters) if index not in confirmed}
