"""The wire protocol (awsJson1.1) over HTTP/1.1 with connections kept alive.

``POST /`` with ``X-Amz-Target: RekognitionService.<Operation>`` is the service.
``GET`` and ``PUT /_local/faults`` read and set the Faults, as JSON of the same names.
"""

import json
import logging
import sys
import uuid
from collections.abc import Callable
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any, ClassVar, cast

from localcloud.rekognition import protocol
from localcloud.rekognition.detectors import Detectors
from localcloud.rekognition.errors import ServiceError
from localcloud.rekognition.faces import detect_faces, recognize_celebrities
from localcloud.rekognition.faults import FaultInjector, Faults
from localcloud.rekognition.labels import detect_labels
from localcloud.rekognition.moderation import Rules, detect_moderation_labels
from localcloud.rekognition.picture import TEXT_VIEW_SIDE, view
from localcloud.rekognition.text import Reader, detect_text

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectRequestTypeDef

FAULTS_PATH = "/_local/faults"
MAX_S3_OBJECT_BYTES = 15 * 1024 * 1024
_JSON = "application/x-amz-json-1.1"

_log = logging.getLogger(__name__)


class Server(ThreadingMixIn, TCPServer):
    """Listens on 127.0.0.1 from construction on; ``serve_forever`` answers.

    ``moderation_rules``: see moderation.py. Raises BrokenRules.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        port: int = 0,
        faults: Faults | None = None,
        moderation_rules: Path | None = None,
    ) -> None:
        self.faults = FaultInjector(faults or Faults())
        self.detectors = Detectors()
        self.reader = Reader()
        self.rules = Rules(moderation_rules)
        protocol.service()
        super().__init__(("127.0.0.1", port), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @cached_property
    def s3(self) -> "S3Client":
        # A quarter of a second, for those who send objects instead of bytes only.
        from boto3.session import Session  # noqa: PLC0415

        return Session().client("s3")

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Silence for callers that hang up: it is their right."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def answer(self, target: str, body: bytes) -> dict[str, Any]:
        """What the service answers to this request. Raises ServiceError."""
        operation = protocol.operation_of(target)
        self.faults.strike(operation)
        handle = self._operations.get(operation)
        if handle is None:
            raise ServiceError("UnknownOperationException")
        try:
            asked = json.loads(body)
        except ValueError:
            raise ServiceError("SerializationException") from None
        request = protocol.read(operation, asked)
        return handle(self, request, self._file(request["Image"]))

    def _detect_labels(self, request: dict[str, Any], file: bytes) -> dict[str, Any]:
        return detect_labels(self.detectors, request, view(file))

    def _detect_faces(self, _request: dict[str, Any], file: bytes) -> dict[str, Any]:
        return detect_faces(self.detectors, view(file))

    def _detect_text(self, request: dict[str, Any], file: bytes) -> dict[str, Any]:
        return detect_text(self.reader, request, view(file, TEXT_VIEW_SIDE))

    def _detect_moderation_labels(self, request: dict[str, Any], file: bytes) -> dict[str, Any]:
        return detect_moderation_labels(self.rules, request, view(file))

    def _recognize_celebrities(self, _request: dict[str, Any], file: bytes) -> dict[str, Any]:
        return recognize_celebrities(self.detectors, view(file))

    _operations: ClassVar[
        dict[str, Callable[["Server", dict[str, Any], bytes], dict[str, Any]]]
    ] = {
        "DetectFaces": _detect_faces,
        "DetectLabels": _detect_labels,
        "DetectModerationLabels": _detect_moderation_labels,
        "DetectText": _detect_text,
        "RecognizeCelebrities": _recognize_celebrities,
    }

    def _file(self, image: dict[str, Any]) -> bytes:
        match image:
            case {"Bytes": bytes(file), **other} if not other:
                return file
            case {"S3Object": {"Bucket": str(_), "Name": str(_)} as where, **other} if not other:
                return self._fetch(where)
        raise ServiceError("InvalidParameterException")

    def _fetch(self, where: dict[str, str]) -> bytes:
        from botocore.exceptions import ClientError  # noqa: PLC0415

        asked: GetObjectRequestTypeDef = {"Bucket": where["Bucket"], "Key": where["Name"]}
        if "Version" in where:
            asked["VersionId"] = where["Version"]
        try:
            answer = self.s3.get_object(**asked)
        except ClientError:
            raise ServiceError("InvalidS3ObjectException") from None
        with answer["Body"] as body:
            if answer["ContentLength"] > MAX_S3_OBJECT_BYTES:
                raise ServiceError("ImageTooLargeException", "Image size is too large")
            return body.read()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = self._body()
        try:
            answer = self._server.answer(self.headers.get("X-Amz-Target", ""), body)
        except ServiceError as error:
            self._send(error.status, error.body)
        except Exception:  # noqa: BLE001 a service answers what it did not foresee, and goes on
            _log.exception("%s failed", self.headers.get("X-Amz-Target"))
            unforeseen = ServiceError("InternalServerError")
            self._send(unforeseen.status, unforeseen.body)
        else:
            self._send(HTTPStatus.OK, answer)

    def do_GET(self) -> None:
        if self.path == FAULTS_PATH:
            self._send(HTTPStatus.OK, self._server.faults.state())
        else:
            self._send(HTTPStatus.NOT_FOUND, ServiceError("UnknownOperationException").body)

    def do_PUT(self) -> None:
        body = self._body()
        if self.path != FAULTS_PATH:
            self._send(HTTPStatus.NOT_FOUND, {"message": f"only {FAULTS_PATH} can be put"})
            return
        try:
            self._server.faults.set(Faults(**json.loads(body)))
        except (TypeError, ValueError) as error:
            self._send(HTTPStatus.BAD_REQUEST, {"message": str(error)})
        else:
            self._send(HTTPStatus.OK, self._server.faults.state())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing: a line a call would be all there is to read."""

    @property
    def _server(self) -> Server:
        return cast("Server", self.server)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _send(self, status: HTTPStatus, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", _JSON)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-amzn-RequestId", str(uuid.uuid4()))
        self.end_headers()
        self.wfile.write(body)
