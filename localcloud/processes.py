"""Child processes that end when their parent does."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

STOP_TIMEOUT_S = 30
"""A child that keeps its state writes it at its end."""

PR_SET_PDEATHSIG = 1


class PortTaken(Exception):
    """Something else listens on the port that was asked for."""


def free_port() -> int:
    """One that nobody else is given for a minute: so long its connection is in TIME_WAIT.

    Whoever asks for it by its number, with SO_REUSEADDR as servers do, can listen on it at once.
    """
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        address: tuple[str, int] = server.getsockname()
        with socket.create_connection(address) as client:
            server.accept()[0].close()  # it is the one that closes first that waits
            client.recv(1)
    return address[1]


def require_port(port: int, option: str) -> int:
    """The port, if nobody listens on it. Raises PortTaken that names the option to change it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            reason = "is taken: stop what listens on it" if port in range(1, 65_536) else "is none"
            raise PortTaken(
                f"Port {port} {reason}, or choose another one: make run {option}=…"
            ) from error
    return port


class Child:
    """A process in a group of its own, so that what it starts ends with it.

    Ctrl-C reaches only the parent, which then stops its children in order.
    """

    def __init__(
        self, command: Sequence[str], environ: Mapping[str, str], log: Path, cwd: Path
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                env=environ,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509
            )

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def stop(self) -> None:
        """Ask it to end, wait, then end whatever of its group is left."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_TIMEOUT_S)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def last_words(self, lines: int = 15) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def _end_with_parent() -> None:
    """Linux sends the child SIGTERM when the thread that started it dies, even of SIGKILL.

    So children are started from the main thread.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
