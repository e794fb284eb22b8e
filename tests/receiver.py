"""A system that is told by webhooks: a real HTTP server, which verifies all that it gets."""

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from tests.waiting import TIMEOUT_S


@dataclass(frozen=True)
class Received:
    path: str
    headers: dict[str, str]
    body: bytes
    payload: Any


Answer = int | tuple[int, dict[str, str]] | Callable[["Conversation"], object]
"""A status, a status with headers, or whatever is done instead of answering."""


class Receiver(ThreadingHTTPServer):
    """``answers`` are given one after the other, then ``otherwise``.

    ``secrets`` are those that it knows: each message has to be signed with every one of them.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Conversation)
        self.answers: deque[Answer] = deque()
        self.otherwise: Answer = 200
        self.secrets: list[str] = []
        self.received: list[Received] = []
        self.refused: list[str] = []
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook"

    def hang(self, _conversation: "Conversation") -> None:
        self.over.wait(TIMEOUT_S)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hangs up is what some tests are about."""


@contextmanager
def listening() -> Iterator[Receiver]:
    """One that takes calls until the block ends."""
    with Receiver() as receiver:
        threading.Thread(target=receiver.serve_forever, args=(0.01,), daemon=True).start()
        yield receiver
        receiver.over.set()
        receiver.shutdown()


class Conversation(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            for secret in self.server.secrets:
                Webhook(secret).verify(body, headers)
        except WebhookVerificationError as error:
            self.server.refused.append(str(error))
            self.answer(401)
            return
        self.server.received.append(Received(self.path, headers, body, json.loads(body)))
        answers = self.server.answers
        answer = answers.popleft() if answers else self.server.otherwise
        if callable(answer):
            answer(self)
        else:
            self.answer(*answer) if isinstance(answer, tuple) else self.answer(answer)

    def answer(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": "2"} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"ok")

    def say(self, *parts: bytes, every_s: float = 0) -> None:
        """These bytes, one part after the other."""
        for part in parts:
            self.wfile.write(part)
            self.wfile.flush()
            self.server.over.wait(every_s)

    def log_message(self, *_: object) -> None:
        """Tests say what they need to."""
