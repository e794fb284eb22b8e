"""A check of buckets and a table in which one thing at a time is wrong."""

import argparse
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from botocore.exceptions import ClientError

from chalicelib import worker
from chalicelib.aws.layout import SHARDS
from chalicelib.bootstrap import Services
from chalicelib.config import read_settings
from chalicelib.messages import Recheck, WorkMessage, timestamp
from chalicelib.model import (
    BoundingBox,
    Celebrity,
    Image,
    ImageStatus,
    Label,
    ModerationLabel,
    Query,
    Recognition,
    TextLine,
    image_id_of,
)
from infrastructure import check
from infrastructure.check import Kind
from localcloud.cloud import LocalCloud
from tests.adapters.conftest import Operations, error_of
from tests.fakes import FakeChannel, FakeRecognizer
from tests.pictures import photo, saved

NUMBERS = count(1)
PICTURE = saved(photo(48, 32))
LABELS = (Label("Cat", 98.5), Label("Pet", 90.0))
CAT, DOG = (
    "uploads/cat.jpg",
    "uploads/dog.jpg",
)  # of the same bytes, of which the cat has come first
BOX = BoundingBox(0.1, 0.2, 0.3, 0.4)
RICH = Recognition(
    labels=(Label("Cat", 98.5, ("Animal",)),),
    moderation=(ModerationLabel("Weapons", 91.5, "Violence"),),
    text=(TextLine("SALE", 80, BOX), TextLine("Sale now", 70, BOX)),
    celebrities=(Celebrity("Ada Lovelace", 99, BOX),),
)
UNKNOWN = image_id_of("uploads/unknown.jpg")


class Stage(Services):
    """A stage of the test's own: no function is triggered, ``work`` is its worker.

    Its clock is ahead by an hour: whatever a test does is done and over when it is checked.
    """

    def __init__(
        self, variables: dict[str, str], client_of: Callable[[str], Any], bystander: Any
    ) -> None:
        super().__init__(read_settings(variables))
        self._client = client_of
        self.bystander = bystander
        self.ahead = timedelta(hours=1)
        self.clock = lambda: datetime.now(UTC) + self.ahead
        self.recognizer = FakeRecognizer()
        self.recognizer.recognition = Recognition(LABELS)
        self.channels = {"sns": FakeChannel()}

    def upload(self, key: str, body: bytes = PICTURE) -> None:
        s3 = self.uploads.client
        s3.put_object(Bucket=self.uploads.bucket, Key=key, Body=body)

    def add(self, key: str) -> Image:
        """An image that has gone all the way."""
        self.upload(key)
        self.queue.send([Recheck(key)])
        self.work()
        return self.record(key)

    def work(self) -> None:
        """Do what the queue asks for."""
        sqs = self.queue.client
        while waiting := sqs.receive_message(QueueUrl=self.queue.url, MaxNumberOfMessages=10).get(
            "Messages"
        ):
            messages = [
                WorkMessage(each["MessageId"], each["ReceiptHandle"], each["Body"], 1)
                for each in waiting
            ]
            worker.process_batch(messages, timedelta(seconds=60), self)
            self.queue.delete(messages)

    def record(self, key: str) -> Image:
        image = self.catalog.get(image_id_of(key))
        assert image is not None
        return image

    def change(self, key: str, **changes: Any) -> Image:
        """Change a record as the pipeline would."""
        image = self.record(key)
        return self.catalog.save(replace(image, **changes), previous=image)

    def store(self, key: str) -> None:
        """Put something into the bucket of renditions."""
        s3 = self.renditions.client
        s3.put_object(Bucket=self.renditions.bucket, Key=key, Body=b"rendition")

    def stored(self) -> list[str]:
        return list(self.renditions.listing(""))

    def entries(self, prefix: str) -> list[dict[str, Any]]:
        """The entries of the table whose partition begins so."""
        return [entry for entry in self.everything() if entry["pk"]["S"].startswith(prefix)]

    def everything(self) -> list[dict[str, Any]]:
        """The whole table."""
        answer = self.bystander.scan(TableName=self.catalog.table)
        entries: list[dict[str, Any]] = answer["Items"]
        return sorted(entries, key=lambda entry: (entry["pk"]["S"], entry["sk"]["S"]))

    def put(self, entry: dict[str, Any]) -> None:
        self.catalog.client.put_item(TableName=self.catalog.table, Item=entry)

    def drop(self, entry: dict[str, Any]) -> None:
        key = {"pk": entry["pk"], "sk": entry["sk"]}
        self.catalog.client.delete_item(TableName=self.catalog.table, Key=key)


@pytest.fixture(scope="module")
def bystander(cloud: LocalCloud) -> Any:
    """A client of DynamoDB that nobody watches: it may scan."""
    return cloud.client("dynamodb")


@pytest.fixture
def stage(
    cloud: LocalCloud, client_of: Callable[[str], Any], table: str, bystander: Any
) -> Iterator[Stage]:
    """A stage with two images that are as they should be."""
    s3, sqs, name = client_of("s3"), client_of("sqs"), f"check-{next(NUMBERS)}"
    buckets = {"UPLOADS_BUCKET": f"{name}-uploads", "RENDITIONS_BUCKET": f"{name}-renditions"}
    for bucket in buckets.values():
        s3.create_bucket(Bucket=bucket)
    s3.put_bucket_versioning(
        Bucket=buckets["UPLOADS_BUCKET"], VersioningConfiguration={"Status": "Enabled"}
    )
    queue = {"WORK_QUEUE_URL": sqs.create_queue(QueueName=name)["QueueUrl"]}
    variables = cloud.variables | buckets | queue | {"TABLE_NAME": table}
    stage = Stage(variables, client_of, bystander)
    stage.add(CAT)
    stage.add(DOG)
    yield stage
    sqs.delete_queue(QueueUrl=stage.queue.url)


Ran = Callable[..., tuple[int, dict[Kind, int]]]


@pytest.fixture
def ran(
    stage: Stage,
    operations: Operations,  # noqa: ARG001 - a scan fails the test
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Ran:
    """The command: its exit status, and how many findings of which kind it reports."""
    monkeypatch.setattr(check, "services_of", lambda _: stage)

    def run(*words: str) -> tuple[int, dict[Kind, int]]:
        parser = argparse.ArgumentParser()
        parser.add_argument("--stage")
        check.add_arguments(parser)
        capsys.readouterr()
        status = check.run(parser.parse_args(["--stage", "dev", *words]))
        lines = capsys.readouterr().out.splitlines()
        numbers = {
            kind: int(line.removeprefix(kind).split()[0])
            for line in lines
            for kind in Kind
            if line.startswith(f"{kind}  ")
        }
        assert numbers.keys() == set(Kind)
        return status, {kind: number for kind, number in numbers.items() if number}

    return run


# ── what can be wrong ────────────────────────────────────────────────────────────────────────────


def nothing(_: Stage) -> dict[Kind, int]:
    return {}


def upload_without_event(stage: Stage) -> dict[Kind, int]:
    stage.upload("uploads/new.jpg")
    return {Kind.UNRECORDED: 1}


def replacement_without_event(stage: Stage) -> dict[Kind, int]:
    stage.upload(CAT, saved(photo(40, 40)))
    return {Kind.UNRECORDED: 1}


def tombstone_of_what_is_there(stage: Stage) -> dict[Kind, int]:
    stage.change(
        CAT, status=ImageStatus.DELETED, renditions=(), recognition=Recognition(), announced=True
    )
    return {Kind.UNRECORDED: 1, Kind.NOBODYS: 4}


def removal_without_event(stage: Stage) -> dict[Kind, int]:
    stage.uploads.delete(CAT)
    return {Kind.GONE: 1}


def removal_of_all_versions(stage: Stage) -> dict[Kind, int]:
    s3 = stage.uploads.client
    version = stage.record(CAT).original.version_id
    s3.delete_object(Bucket=stage.uploads.bucket, Key=CAT, VersionId=version)
    stage.upload(f"{CAT}.more")
    return {Kind.GONE: 1, Kind.UNRECORDED: 1}


def renditions_of_nobody(stage: Stage) -> dict[Kind, int]:
    cat = image_id_of(CAT)
    stage.store(f"thumbnails/{UNKNOWN}/1/small.jpg")
    stage.store(f"thumbnails/{cat}/1/former.jpg")
    stage.store(f"processed/{cat}/7/optimized.jpg")
    stage.store(f"former-folder/{cat}/1/small.jpg")
    return {Kind.NOBODYS: 4}


def missing_rendition(stage: Stage) -> dict[Kind, int]:
    stage.renditions.delete([stage.record(CAT).renditions[0].key])
    return {Kind.INCOMPLETE: 1}


def entry_of_an_unknown_image(stage: Stage) -> dict[Kind, int]:
    entry = stage.entries("LABEL#cat#")[0]
    stage.put(entry | {"sk": {"S": f"2026-01-31T09:15:00.000Z#{UNKNOWN}"}})
    return {Kind.OBSOLETE: 1}


def entry_of_a_label_that_the_image_has_not(stage: Stage) -> dict[Kind, int]:
    entry = stage.entries("LABEL#cat#")[0]
    shard = entry["pk"]["S"].rpartition("#")[2]
    stage.put(entry | {"pk": {"S": f"LABEL#horse#{shard}"}})
    change = stage.entries("CHANGES#")[0]
    stage.put(change | {"sk": {"S": "horse"}, "by": {"M": {"=Horse": {"N": "1"}}}})
    return {Kind.OBSOLETE: 1, Kind.MISCOUNTED: 1}


def missing_entries(stage: Stage) -> dict[Kind, int]:
    for entry in stage.entries("LABEL#"):
        stage.drop(entry)
    return {Kind.UNLISTED: 4}


def missing_entries_and_a_rendition(stage: Stage) -> dict[Kind, int]:
    return missing_entries(stage) | missing_rendition(stage)


def missing_entries_and_an_original(stage: Stage) -> dict[Kind, int]:
    return missing_entries(stage) | removal_without_event(stage)


def entry_that_says_something_else(stage: Stage) -> dict[Kind, int]:
    stage.put(stage.entries("LABEL#pet#")[0] | {"confidences": {"M": {"pet": {"N": "1"}}}})
    return {Kind.UNLISTED: 1}


def wrong_count(stage: Stage) -> dict[Kind, int]:
    stage.put(counter_entry(stage, "=Cat") | {"=Cat": {"N": "7"}})
    return {Kind.MISCOUNTED: 1}


def counter_entry(stage: Stage, counter: str) -> dict[str, Any]:
    """The entry that has a counter, once all changes are added."""
    for shard in range(SHARDS):
        stage.catalog.fold(shard)
    entries = [*stage.entries("COUNTS#"), *stage.entries("TOTALS")]
    return next(entry for entry in entries if counter in entry)


def missing_counts(stage: Stage) -> dict[Kind, int]:
    counter_entry(stage, "=Cat")
    for entry in stage.entries("COUNTS#"):
        stage.drop(entry)
    return {Kind.MISCOUNTED: 2}


def missing_changes(stage: Stage) -> dict[Kind, int]:
    for entry in stage.entries("CHANGES#"):
        stage.drop(entry)
    return {Kind.MISTOTALLED: 1, Kind.MISCOUNTED: 2}


def words_parents_and_copies(stage: Stage) -> dict[Kind, int]:
    """As they should be: whatever is found by more than labels, withheld, and there twice."""
    stage.change(CAT, recognition=RICH)
    withheld = {"status": ImageStatus.QUARANTINED, "withheld_for": ("Violence",)}
    assert stage.change(DOG, recognition=RICH, **withheld).duplicates
    assert len(stage.entries("WORD#")) == 4
    [first] = stage.entries("SHA256#")
    assert first["image_id"]["S"] == image_id_of(CAT)
    return {}


def copy_of_what_is_gone(stage: Stage) -> dict[Kind, int]:
    """Its first was deleted, and took its entry along: nobody is the first until the next one."""
    stage.uploads.delete(CAT)
    stage.queue.send([Recheck(CAT)])
    stage.work()
    assert stage.record(DOG).duplicates
    assert stage.entries("SHA256#") == []
    return {}


def first_beside_another(stage: Stage) -> dict[Kind, int]:
    """Neither knows of the other, and one of them is named: that is enough."""
    stage.change(DOG, duplicates=())
    return {}


def missing_words_and_parents(stage: Stage) -> dict[Kind, int]:
    words_parents_and_copies(stage)
    for partition in ("WORD#sale#", "LABEL#animal#", "LABEL#violence#", "LABEL#ada lovelace#"):
        for entry in stage.entries(partition):
            stage.drop(entry)
    return {Kind.UNLISTED: 8}


def words_and_parents_that_images_no_longer_have(stage: Stage) -> dict[Kind, int]:
    """Of an image that is not known, of a version before, and of what is not seen any more."""
    words_parents_and_copies(stage)
    entry = stage.entries("WORD#sale#")[0]
    for late in (UNKNOWN, entry["sk"]["S"].partition("#")[2]):
        stage.put(entry | {"sk": {"S": f"2026-01-31T09:15:00.000Z#{late}"}})
    above = stage.entries("LABEL#animal#")[0]
    stage.put(above | {"sk": {"S": f"2026-01-31T09:15:00.000Z#{UNKNOWN}"}})
    return {Kind.OBSOLETE: 3}


def wrong_numbers_of_what_is_withheld(stage: Stage) -> dict[Kind, int]:
    words_parents_and_copies(stage)
    stage.put(counter_entry(stage, "=Animal") | {"=Animal": {"N": "7"}})
    stage.put(counter_entry(stage, "COMPLETED") | {"QUARANTINED": {"N": "0"}})
    stage.renditions.delete([stage.record(DOG).renditions[0].key])
    return {Kind.MISCOUNTED: 1, Kind.MISTOTALLED: 1, Kind.INCOMPLETE: 1}


def missing_first(stage: Stage) -> dict[Kind, int]:
    stage.drop(stage.entries("SHA256#")[0])
    return {Kind.UNLISTED: 1}


def first_that_is_not_known(stage: Stage) -> dict[Kind, int]:
    stage.put(stage.entries("SHA256#")[0] | {"image_id": {"S": UNKNOWN}})
    return {Kind.UNLISTED: 1}


def first_that_has_other_bytes(stage: Stage) -> dict[Kind, int]:
    [entry] = stage.entries("SHA256#")
    stage.upload("uploads/bird.jpg", saved(photo(40, 40)))
    stage.queue.send([Recheck("uploads/bird.jpg")])
    stage.work()
    stage.put(entry | {"image_id": {"S": image_id_of("uploads/bird.jpg")}})
    return {Kind.UNLISTED: 1}


def missing_hashes(stage: Stage) -> dict[Kind, int]:
    for entry in stage.entries("PHASH#"):
        stage.drop(entry)
    return {Kind.UNLISTED: 8}


def hash_of_an_unknown_image(stage: Stage) -> dict[Kind, int]:
    entry = stage.entries("PHASH#2#")[0]
    phash = entry["sk"]["S"].partition("#")[0]
    stage.put(entry | {"sk": {"S": f"{phash}#{UNKNOWN}"}})
    return {Kind.OBSOLETE: 1}


def hash_that_the_image_no_longer_has(stage: Stage) -> dict[Kind, int]:
    entry = stage.entries("PHASH#3#")[0]
    stage.put(entry | {"sk": {"S": f"0000000000000000#{image_id_of(CAT)}"}})
    return {Kind.OBSOLETE: 1}


def wrong_totals(stage: Stage) -> dict[Kind, int]:
    totals = counter_entry(stage, "COMPLETED")
    stage.put(totals | {"COMPLETED": {"N": "7"}, "rendition_bytes": {"N": "1"}})
    return {Kind.MISTOTALLED: 1}


def missing_totals(stage: Stage) -> dict[Kind, int]:
    stage.drop(counter_entry(stage, "COMPLETED"))
    return {Kind.MISTOTALLED: 1}


def missing_record(stage: Stage) -> dict[Kind, int]:
    stage.drop(stage.entries(f"IMAGE#{image_id_of(CAT)}")[0])
    return {
        Kind.UNRECORDED: 1,
        Kind.NOBODYS: 4,
        Kind.MISTOTALLED: 1,
        Kind.OBSOLETE: 6,
        Kind.MISCOUNTED: 2,
    }


def result_that_nobody_announced(stage: Stage) -> dict[Kind, int]:
    stage.change(CAT, announced=False, updated_at=timestamp(stage.clock() - timedelta(hours=2)))
    return {Kind.STUCK: 1}


def worker_that_died(stage: Stage) -> dict[Kind, int]:
    over = timestamp(stage.clock() - timedelta(hours=2))
    stage.change(
        CAT, status=ImageStatus.PROCESSING, attempt=2, lost=1, lease_until=over, updated_at=over
    )
    stage.store(f"thumbnails/{image_id_of(CAT)}/2/small.jpg")
    return {Kind.STUCK: 1}


def message_that_was_lost(stage: Stage) -> dict[Kind, int]:
    stage.change(
        CAT, status=ImageStatus.QUEUED, updated_at=timestamp(stage.clock() - timedelta(hours=2))
    )
    return {Kind.STUCK: 1}


INTACT = [nothing, words_parents_and_copies, copy_of_what_is_gone, first_beside_another]
DISAGREEMENTS = [
    upload_without_event,
    replacement_without_event,
    tombstone_of_what_is_there,
    removal_without_event,
    removal_of_all_versions,
    renditions_of_nobody,
    missing_rendition,
    entry_of_an_unknown_image,
    entry_of_a_label_that_the_image_has_not,
    missing_entries,
    missing_entries_and_a_rendition,
    missing_entries_and_an_original,
    entry_that_says_something_else,
    wrong_count,
    missing_counts,
    missing_changes,
    missing_words_and_parents,
    words_and_parents_that_images_no_longer_have,
    wrong_numbers_of_what_is_withheld,
    missing_first,
    first_that_is_not_known,
    first_that_has_other_bytes,
    missing_hashes,
    hash_of_an_unknown_image,
    hash_that_the_image_no_longer_has,
    wrong_totals,
    missing_totals,
    missing_record,
    result_that_nobody_announced,
    worker_that_died,
    message_that_was_lost,
]


@pytest.mark.parametrize("plant", [*INTACT, *DISAGREEMENTS], ids=lambda plant: plant.__name__)
def test_disagreement_is_found_left_alone_and_mended(
    stage: Stage, ran: Ran, plant: Callable[[Stage], dict[Kind, int]]
) -> None:
    """Just what was planted is found; without --repair nothing changes, with it all agrees."""
    expected = plant(stage)
    before = stage.everything(), stage.stored()

    assert ran() == (1 if expected else 0, expected)
    assert (stage.everything(), stage.stored()) == before
    assert stage.queue.is_empty()

    assert ran("--repair") == (0, expected)
    stage.work()
    assert ran() == (0, {})


def test_mended_image_is_as_it_was(stage: Stage, ran: Ran) -> None:
    """Missing renditions are made anew, and a lost record comes back with its labels."""
    missing_rendition(stage)
    stage.drop(stage.entries(f"IMAGE#{image_id_of(DOG)}")[0])

    ran("--repair")
    stage.work()

    for key in (CAT, DOG):
        image = stage.record(key)
        assert (image.status, image.recognition) == (ImageStatus.COMPLETED, Recognition(LABELS))
        assert {each.key for each in image.renditions} <= set(stage.stored())
    assert len(stage.catalog.browse(Query(10, labels=("cat", "pet"))).images) == 2
    assert len(stage.stored()) == 8


def test_examples_say_which(stage: Stage, ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    """A person sees three keys of what was found, and the last line says what to do."""
    for number in range(4):
        stage.upload(f"uploads/new-{number}.jpg")
    ran()
    check.run(argparse.Namespace(stage="dev", repair=False))

    said = capsys.readouterr().out

    assert re.search(r" 4  (uploads/new-[0-3]\.jpg, ){3}…\n", said)
    assert said.endswith("4 found. Nothing was changed: --repair mends them.\n")


def test_what_is_no_rendition_is_nobodys_business(stage: Stage, ran: Ran) -> None:
    """Other objects in the bucket of renditions stay, whatever they are."""
    others = ["index.html", "thumbnails/readme.txt", f"thumbnails/{UNKNOWN}/small.jpg"]
    for key in others:
        stage.store(key)

    assert ran("--repair") == (0, {})
    assert set(others) <= set(stage.stored())


# ── what changes meanwhile ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "plant",
    [
        upload_without_event,
        replacement_without_event,
        removal_without_event,
        renditions_of_nobody,
    ],
    ids=lambda plant: plant.__name__,
)
def test_what_has_just_happened_is_left_alone(
    stage: Stage, ran: Ran, plant: Callable[[Stage], dict[Kind, int]]
) -> None:
    """Its event may be on its way, and its worker at it."""
    stage.ahead = timedelta()
    plant(stage)
    stage.change(DOG, announced=False, updated_at=timestamp(stage.clock()))
    before = stage.everything(), stage.stored()

    assert ran("--repair") == (0, {})
    assert (stage.everything(), stage.stored()) == before
    assert stage.queue.is_empty()


def test_renditions_of_a_running_attempt_stay(stage: Stage, ran: Ran) -> None:
    """They are not on the record before the worker is done, however long that takes."""
    lease = timestamp(stage.clock() + timedelta(minutes=1))
    stage.change(CAT, status=ImageStatus.PROCESSING, attempt=2, lost=1, lease_until=lease)
    stage.store(f"thumbnails/{image_id_of(CAT)}/2/small.jpg")

    assert ran("--repair") == (0, {})
    assert f"thumbnails/{image_id_of(CAT)}/2/small.jpg" in stage.stored()


def test_rendition_that_gets_its_worker_meanwhile_stays(
    stage: Stage, ran: Ran, operations: Operations
) -> None:
    """The record is read again right before: by then it is of a new attempt."""
    key = f"thumbnails/{image_id_of(CAT)}/2/small.jpg"
    stage.store(key)
    lease = timestamp(stage.clock() + timedelta(minutes=1))
    operations.before(
        "dynamodb.GetItem",
        lambda: stage.change(CAT, status=ImageStatus.PROCESSING, attempt=2, lease_until=lease),
    )

    assert ran("--repair") == (0, {})
    assert key in stage.stored()


def found_by(stage: Stage, look: str, *, repair: bool = True) -> dict[Kind, tuple[int, int]]:
    """What one pass finds: how many of a kind, and how many of these are left."""
    one = check.Check(stage, repair=repair)
    one._names = {"cat": "Cat", "pet": "Pet"}  # noqa: SLF001 - what the passes before it tell
    getattr(one, look)()
    return {kind: (tally.found, tally.left) for kind, tally in one.tallies.items() if tally.found}


def test_image_registered_meanwhile_is_no_finding(stage: Stage, operations: Operations) -> None:
    """The event of an upload came after all."""
    stage.upload("uploads/new.jpg")
    operations.before("dynamodb.GetItem", lambda: stage.add("uploads/new.jpg"))

    assert found_by(stage, "look_at_originals") == {}


def test_original_that_comes_back_meanwhile_is_not_gone(
    stage: Stage, operations: Operations
) -> None:
    """Removed and uploaded again while its record was read."""
    stage.uploads.delete(CAT)
    operations.before("dynamodb.GetItem", lambda: stage.upload(CAT))

    assert found_by(stage, "look_at_records") == {}


def test_image_processed_anew_meanwhile_is_complete(stage: Stage, operations: Operations) -> None:
    """Its former renditions are gone because there are others now."""

    def process_anew() -> None:
        stage.queue.send([stage.change(CAT, status=ImageStatus.QUEUED).original])
        stage.work()

    missing_rendition(stage)
    operations.before("dynamodb.GetItem", process_anew)

    assert found_by(stage, "look_at_records") == {}
    assert stage.record(CAT).attempt == 2


@pytest.fixture
def missing(stage: Stage) -> Image:
    """An image whose labels have no entries, and that is the only one with labels."""
    stage.change(DOG, recognition=Recognition())
    missing_entries(stage)
    return stage.record(CAT)


@pytest.mark.usefixtures("missing")
def test_labels_that_change_meanwhile_are_no_finding(stage: Stage, operations: Operations) -> None:
    """The record is not what it was when it was read: whoever wrote it sees to its entries."""
    operations.before("dynamodb.TransactGetItems", lambda: stage.change(CAT))

    assert found_by(stage, "look_at_records") == {}


@pytest.mark.usefixtures("missing")
def test_entries_that_are_just_being_written_are_no_finding(
    stage: Stage, operations: Operations
) -> None:
    """DynamoDB refuses to read what a transaction is at."""
    conflict = error_of("TransactionCanceledException", "TransactionConflict")
    operations.before("dynamodb.TransactGetItems", conflict)

    assert found_by(stage, "look_at_records") == {}


@pytest.mark.usefixtures("missing")
def test_outage_is_no_finding_either(stage: Stage, operations: Operations) -> None:
    """What a check could not read or write, it says nothing of: it ends."""
    operations.before("dynamodb.TransactGetItems", error_of("AccessDeniedException"))
    with pytest.raises(ClientError, match="AccessDenied"):
        found_by(stage, "look_at_records")

    operations.before("dynamodb.TransactWriteItems", error_of("AccessDeniedException"))
    with pytest.raises(ClientError, match="AccessDenied"):
        found_by(stage, "look_at_records")


@pytest.mark.usefixtures("missing")
def test_labels_that_change_right_before_they_are_mended_are_left(
    stage: Stage, operations: Operations
) -> None:
    """No entry is written for a record that is another by then."""
    operations.before("dynamodb.TransactWriteItems", lambda: stage.change(CAT))

    assert found_by(stage, "look_at_records") == {Kind.UNLISTED: (2, 2)}
    assert stage.entries("LABEL#") == []


def first_named(stage: Stage) -> str:
    [entry] = stage.entries("SHA256#")
    image_id: str = entry["image_id"]["S"]
    return image_id


@pytest.mark.parametrize("plant", [missing_first, first_that_is_not_known])
def test_first_that_is_named_right_before_it_is_mended_stays(
    stage: Stage, operations: Operations, plant: Callable[[Stage], object]
) -> None:
    """Somebody has come with the same bytes: one that is there is as good."""
    sha256 = stage.entries("SHA256#")[0]["pk"]["S"].partition("#")[2]
    plant(stage)
    operations.before(
        "dynamodb.TransactWriteItems",
        lambda: stage.catalog.first_of(sha256, stage.record(DOG).original),
    )

    assert found_by(stage, "look_at_records") == {Kind.UNLISTED: (1, 1)}
    assert first_named(stage) == image_id_of(DOG)
    assert found_by(stage, "look_at_records") == {}


def test_first_whose_record_changes_right_before_it_is_mended_is_left(
    stage: Stage, operations: Operations
) -> None:
    """It may have other bytes by then."""
    missing_first(stage)
    operations.before("dynamodb.TransactWriteItems", lambda: stage.change(CAT))

    assert found_by(stage, "look_at_records") == {Kind.UNLISTED: (1, 1)}
    assert stage.entries("SHA256#") == []


def test_count_of_labels_that_somebody_else_has_mended_stays(
    stage: Stage, ran: Ran, operations: Operations
) -> None:
    """Where mending an entry was refused, nobody knows what the count should be."""
    entries = stage.entries("LABEL#")
    missing_entries(stage)

    def mend() -> None:
        for entry in entries:
            stage.put(entry)
        stage.change(CAT)
        stage.change(DOG)

    operations.before("dynamodb.TransactWriteItems", mend)

    status, found = ran("--repair")

    assert (status, found.keys()) == (1, {Kind.UNLISTED})
    assert ran() == (0, {})


def test_entry_of_a_record_that_a_stale_read_misses_stays(
    stage: Stage, operations: Operations
) -> None:
    """Lists may be behind the records; both are read again, as of one moment."""

    def miss(answer: dict[str, Any]) -> None:
        found = answer["Responses"][stage.catalog.table]
        found[:] = [each for each in found if not each["pk"]["S"].startswith("IMAGE#")]

    operations.change_answer("dynamodb.BatchGetItem", miss)

    assert found_by(stage, "look_at_entries") == {}
    assert len(stage.entries("LABEL#")) == 4


def test_entry_that_is_deleted_meanwhile_is_no_finding(
    stage: Stage, operations: Operations
) -> None:
    """Its image was deleted between the two."""
    entry_of_an_unknown_image(stage)
    unknown = [each for each in stage.entries("LABEL#") if each["sk"]["S"].endswith(UNKNOWN)]
    operations.before("dynamodb.TransactGetItems", lambda: stage.drop(unknown[0]))

    assert found_by(stage, "look_at_entries") == {}


def test_entry_that_gets_its_image_right_before_it_goes_is_left(
    stage: Stage, operations: Operations
) -> None:
    """An entry is deleted only while the record is what it was."""
    entry_of_an_unknown_image(stage)
    original = replace(stage.record(CAT).original, key="uploads/unknown.jpg")
    image = Image(original, ImageStatus.QUEUED, timestamp(stage.clock()))
    operations.before(
        "dynamodb.TransactWriteItems", lambda: stage.catalog.save(image, previous=None)
    )

    assert found_by(stage, "look_at_entries") == {Kind.OBSOLETE: (1, 1)}
    assert any(each["sk"]["S"].endswith(UNKNOWN) for each in stage.entries("LABEL#"))


def test_count_that_changes_right_before_it_is_mended_is_left(
    stage: Stage, operations: Operations
) -> None:
    """What is missing is added only while nobody else does."""
    wrong_count(stage)
    counts = counter_entry(stage, "=Cat")
    operations.before("dynamodb.UpdateItem", lambda: stage.put(counts | {"=Cat": {"N": "8"}}))

    assert found_by(stage, "look_at_entries") == {Kind.MISCOUNTED: (1, 1)}
    assert counter_entry(stage, "=Cat")["=Cat"] == {"N": "8"}


def test_count_of_a_label_that_is_being_used_is_left(stage: Stage, operations: Operations) -> None:
    """Entries that are others before and after it is read say nothing of it."""
    wrong_count(stage)
    entry = stage.entries("LABEL#cat#")[0]
    one = check.Check(stage, repair=True)
    one._names = {"cat": "Cat"}  # noqa: SLF001 - what the passes before it tell
    operations.before("dynamodb.BatchGetItem", lambda: stage.drop(entry))

    one._look_at_count("cat")  # noqa: SLF001 - alone, so that its reads come in order

    assert one.tallies[Kind.MISCOUNTED].found == 0
    assert counter_entry(stage, "=Cat")["=Cat"] == {"N": "7"}


def test_totals_that_change_meanwhile_are_no_finding(stage: Stage, operations: Operations) -> None:
    """Records that are others while they are added up say nothing of them."""
    wrong_totals(stage)
    one = check.Check(stage, repair=True)
    before = stage.entries("TOTALS")
    reads = [None, lambda: stage.change(CAT, status=ImageStatus.FAILED)]
    operations.before("dynamodb.BatchGetItem", *reads)

    one.look_at_totals()

    assert one.tallies[Kind.MISTOTALLED].found == 0
    assert stage.entries("TOTALS") == before


def test_totals_that_somebody_else_has_mended_stay(stage: Stage, operations: Operations) -> None:
    """They are added to only while nobody else has."""
    wrong_totals(stage)
    [totals] = stage.entries("TOTALS")
    operations.before("dynamodb.UpdateItem", lambda: stage.put(totals | {"folds": {"N": "99"}}))

    assert found_by(stage, "look_at_totals") == {Kind.MISTOTALLED: (1, 1)}
    assert stage.entries("TOTALS") == [totals | {"folds": {"N": "99"}}]


@pytest.mark.parametrize("look", ["look_at_totals", "look_at_entries"])
def test_counters_that_are_just_being_added_to_are_left(
    stage: Stage, operations: Operations, look: str
) -> None:
    """DynamoDB refuses to read what a transaction is at."""
    wrong_count(stage)
    wrong_totals(stage)
    conflict = error_of("TransactionCanceledException", "TransactionConflict")
    operations.before("dynamodb.TransactGetItems", conflict)

    assert found_by(stage, look) == {}


def test_image_settled_meanwhile_is_not_stuck(stage: Stage, operations: Operations) -> None:
    """It was announced while the list of unsettled ones was read."""
    result_that_nobody_announced(stage)
    operations.before("dynamodb.GetItem", lambda: stage.change(CAT, announced=True))

    assert found_by(stage, "look_at_unsettled") == {}


def test_image_deleted_right_before_it_is_reprocessed_is_left(
    stage: Stage, operations: Operations
) -> None:
    """There is nothing to process any more, and nothing is enqueued."""
    missing_rendition(stage)
    operations.before(
        "dynamodb.GetItem", None, lambda: stage.change(CAT, status=ImageStatus.DELETED)
    )

    assert found_by(stage, "look_at_records") == {Kind.INCOMPLETE: (1, 1)}
    assert stage.queue.is_empty()
