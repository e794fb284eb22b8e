"""``make demo``: pictures through the whole pipeline, and what became of each."""

import json
import shlex
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Any

from chalicelib.config import UPLOADS_PREFIX
from chalicelib.model import image_id_of
from localcloud.cloud import INBOX, LocalCloud
from localcloud.emulator import CloudFailed

PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png")
"""Real photographs that scikit-image ships: a face, a cat, a cup, a rocket, a motorcycle."""

NEWS_TIMEOUT_S = 120
"""How long no picture may finish before the demo gives the rest up."""

MARKS = {"COMPLETED": "✓", "FAILED": "✗"}


@dataclass
class Result:
    """What became of one file: the row that is printed, and the object written for programs."""

    file: str
    key: str
    status: str = "UPLOADING"
    error_code: str | None = None
    error_message: str | None = None
    width: int | None = None
    height: int | None = None
    format: str | None = None
    labels: list[dict[str, Any]] = field(default_factory=list)
    renditions: list[dict[str, Any]] = field(default_factory=list)
    seconds: float | None = None

    @property
    def as_json(self) -> dict[str, Any]:
        row = dict(vars(self))
        return {"file": row.pop("file"), "key": row.pop("key"), "image_id": self.image_id} | row

    @property
    def image_id(self) -> str:
        return image_id_of(self.key)

    def fail(self, code: str, message: str) -> None:
        self.status, self.error_code, self.error_message = "FAILED", code, message


def sample_photos() -> list[Path]:
    import skimage.data  # noqa: PLC0415 - not needed for pictures of one's own

    folder = Path(skimage.data.__file__).parent
    return [folder / name for name in PHOTOS]


def split_paths(text: str) -> list[Path]:
    """What ``IMAGES="…"`` names: one path as it stands, or several, with quotes and wildcards."""
    if not text.strip() or Path(text).exists():
        return [Path(text)] if text.strip() else []
    paths: list[Path] = []
    for word in shlex.split(text):
        found = glob(word, recursive=True)  # noqa: PTH207 - absolute patterns, too
        paths += [Path(path) for path in sorted(found)] or [Path(word)]
    return paths


def find_files(arguments: Sequence[Path]) -> list[tuple[Path, str]]:
    """Every file that the arguments name or hold, with a key of its own.

    Files of a folder keep their path below it; a name that is there already gets a number.
    """
    found: list[tuple[Path, str]] = []
    keys: set[str] = set()
    for argument in arguments:
        for path in sorted(argument.rglob("*")) if argument.is_dir() else [argument]:
            if path.is_dir():
                continue
            name = path.relative_to(argument) if argument.is_dir() else Path(path.name)
            key, number = _key_of(name), 2
            while key in keys:
                key = _key_of(name.with_stem(f"{name.stem} ({number})"))
                number += 1
            keys.add(key)
            found.append((path, key))
    return found


def _key_of(name: Path) -> str:
    """The object key of a file; bytes of its name that are no UTF-8 become question marks."""
    return UPLOADS_PREFIX + name.as_posix().encode(errors="replace").decode()


def run(arguments: Sequence[Path], json_path: Path | None, out: Path) -> int:
    """The demo. 0 when every picture completed, 1 when one did not, 2 when there was none."""
    files = find_files(arguments or sample_photos())
    if not files:
        print("There is no file in what IMAGES names.", file=sys.stderr)
        return 2
    out.mkdir(parents=True, exist_ok=True)
    if json_path:
        json_path.touch()  # what cannot be written is said before the work, not after it
    began = time.monotonic()
    print("Starting the cloud …", flush=True)
    with LocalCloud() as cloud:
        print(f"Cloud ready in {time.monotonic() - began:.1f} s: the API is at {cloud.api_url}")
        results, announcement = Demo(cloud, out).run(files)
    if announcement:
        print("\nThe last announcement, as a queue subscribed to the topic has it:\n")
        print(textwrap.indent(announcement, "  │ ") + "\n")
    completed = sum(result.status == "COMPLETED" for result in results)
    took = time.monotonic() - began
    print(f"{completed} of {len(results)} completed, {took:.1f} s in all. Renditions are in {out}/")
    if json_path:
        json_path.write_text(json.dumps([result.as_json for result in results], indent=2) + "\n")
        print(f"For programs: {json_path}")
    return 0 if completed == len(results) else 1


class Demo:
    """Uploads, waits for the announcements, fetches the renditions."""

    def __init__(self, cloud: LocalCloud, out: Path) -> None:
        self._s3 = cloud.client("s3")
        self._sqs = cloud.client("sqs")
        self._uploads = cloud.outputs["UploadsBucket"]
        self._renditions = cloud.outputs["RenditionsBucket"]
        self._inbox = self._sqs.get_queue_url(QueueName=INBOX)["QueueUrl"]
        self._out = out
        self._cloud = cloud
        self._started: dict[str, float] = {}

    def run(self, files: Sequence[tuple[Path, str]]) -> tuple[list[Result], str]:
        """The results in the order of the files, and the text of the last announcement."""
        results = {key: Result(str(path), key) for path, key in files}
        announcement = ""
        with ThreadPoolExecutor(max_workers=2) as pool:
            for path, key in files:
                pool.submit(self._upload, path, results[key])
            for row, details, text in self._finished(results):
                self._take(row, details)
                announcement = text or announcement
                self._print(row)
        return list(results.values()), announcement

    def _upload(self, path: Path, result: Result) -> None:
        self._started[result.key] = time.monotonic()
        try:
            self._s3.upload_file(str(path), self._uploads, result.key)
        except OSError as error:
            result.fail("unreadable_file", f"{path} cannot be read: {error.strerror or error}")
        except Exception as error:  # noqa: BLE001 - one bad upload must not cost the others
            result.fail("upload_failed", f"{path} was not uploaded: {error}")

    def _finished(self, results: dict[str, Result]) -> Iterator[tuple[Result, dict[str, Any], str]]:
        """Each picture once, as it finishes: its row, its details, its announcement's text."""
        waiting = dict(results)
        deadline = time.monotonic() + NEWS_TIMEOUT_S
        while waiting:
            news = self._receive()
            for key in [key for key, row in waiting.items() if row.status == "FAILED"]:
                yield waiting.pop(key), {}, ""  # it did not get as far as the bucket
            for details, text in news:
                if details["key"] in waiting:
                    deadline = time.monotonic() + NEWS_TIMEOUT_S
                    yield waiting.pop(details["key"]), details, text
            self._show_progress(len(results) - len(waiting), len(results))
            if ended := self._cloud.failed_children():
                raise CloudFailed("Part of the cloud has ended:\n" + "\n".join(ended))
            if time.monotonic() > deadline:
                for row in waiting.values():
                    row.fail("timed_out", f"Nothing was heard of it for {NEWS_TIMEOUT_S} s.")
                    yield row, {}, ""
                return

    def _receive(self) -> list[tuple[dict[str, Any], str]]:
        answer = self._sqs.receive_message(
            QueueUrl=self._inbox, MaxNumberOfMessages=10, WaitTimeSeconds=1
        )
        news = []
        for message in answer.get("Messages", ()):
            self._sqs.delete_message(QueueUrl=self._inbox, ReceiptHandle=message["ReceiptHandle"])
            envelope = json.loads(message["Body"])
            details = json.loads(envelope["Message"])
            news.append((details, _show(envelope, details)))
        return news

    def _take(self, row: Result, details: dict[str, Any]) -> None:
        """Fill the row in from the details, and fetch the renditions."""
        if not details:
            return
        row.seconds = round(time.monotonic() - self._started[row.key], 2)
        row.status = details["status"]
        if details["error"]:
            row.error_code, row.error_message = (
                details["error"]["code"],
                details["error"]["message"],
            )
        row.width, row.height, row.format = (
            details["width"],
            details["height"],
            details["format"],
        )
        row.labels = [
            {"name": label["name"], "confidence": label["confidence"]}
            for label in details["labels"]
        ]
        folder = self._out / row.key.removeprefix(UPLOADS_PREFIX)
        for rendition in details["renditions"]:
            path = folder / Path(rendition["key"]).name
            path.parent.mkdir(parents=True, exist_ok=True)
            self._s3.download_file(self._renditions, rendition["key"], str(path))
            row.renditions.append(
                {
                    "name": rendition["name"],
                    "width": rendition["width"],
                    "height": rendition["height"],
                    "format": rendition["format"],
                    "bytes": rendition["size_bytes"],
                    "path": str(path),
                }
            )

    def _print(self, row: Result) -> None:
        size = f"{row.width}×{row.height} {row.format}" if row.width else ""
        took = f"{row.seconds:.2f} s" if row.seconds is not None else ""
        mark = MARKS.get(row.status, "?")
        print(f"{mark} {row.key.removeprefix(UPLOADS_PREFIX)}  {row.status}  {size}  {took}")
        if row.error_code:
            print(f"    {row.error_code}: {row.error_message}")
        else:
            labels = ", ".join(
                f"{label['name']} {label['confidence']:.0f} %" for label in row.labels
            )
            print(f"    labels      {labels or 'none'}")
        for rendition in row.renditions:
            print(
                f"    {rendition['name']:<11} {rendition['width']}×{rendition['height']} "
                f"{rendition['format']}, {rendition['bytes']:,} bytes"
            )

    def _show_progress(self, done: int, total: int) -> None:
        if sys.stdout.isatty() and done < total:
            print(f"\r{done} of {total} done …", end="\r", flush=True)


def _show(envelope: dict[str, Any], details: dict[str, Any]) -> str:
    """A message of the topic in a few lines: its subject, its attributes, the start of its JSON."""
    attributes = envelope.get("MessageAttributes", {})
    body = textwrap.wrap(json.dumps(details, ensure_ascii=False), 96, max_lines=8)
    return "\n".join(
        [
            f"Subject: {envelope.get('Subject', '')}",
            *(f"{name}: {attribute['Value']}" for name, attribute in attributes.items()),
            *body,
        ]
    )
