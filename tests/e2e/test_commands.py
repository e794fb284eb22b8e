"""``make demo`` and ``make run`` as a person uses them, in processes of their own."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

from chalicelib.model import image_id_of
from infrastructure.stage import PROJECT
from localcloud.processes import free_port, require_port
from tests.pictures import photo, saved
from tests.waiting import TIMEOUT_S, eventually


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "localcloud", *words]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """A command to its end, whatever its exit status."""
    return subprocess.run(
        command(*words),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def test_demo_reports_good_and_bad_files_alike(tmp_path: Path) -> None:
    """Every file has its entry; renditions are on disk; one that failed makes the exit status 1."""
    pictures = tmp_path / "my pictures"
    pictures.mkdir()
    (pictures / "good one.jpg").write_bytes(saved(photo(800, 600)))
    (pictures / "bad.jpg").write_text("no picture")
    result = tmp_path / "result.json"

    ran = run("demo", "--json", str(result), "--out", str(tmp_path / "out"), str(pictures))

    assert ran.returncode == 1, ran.stderr
    assert "1 of 2 completed" in ran.stdout
    bad, good = json.loads(result.read_text())
    assert (
        set(good)
        == set(bad)
        == {
            *(
                "file",
                "key",
                "image_id",
                "status",
                "error_code",
                "error_message",
                "width",
                "height",
            ),
            *("format", "labels", "renditions", "seconds"),
        }
    )
    assert (bad["status"], bad["error_code"]) == ("FAILED", "unsupported_format")
    assert (good["status"], good["width"], good["height"]) == ("COMPLETED", 800, 600)
    assert good["image_id"] == image_id_of("uploads/good one.jpg")
    for rendition in good["renditions"]:
        assert Path(rendition["path"]).stat().st_size == rendition["bytes"]


def test_demo_without_a_file_says_so(tmp_path: Path) -> None:
    """An empty folder is an exit status of 2 and one line."""
    ran = run("demo", str(tmp_path))
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)


@contextmanager
def running(api_port: int, cloud_port: int, state: Path) -> Iterator[str]:
    """``make run`` until the end of the block, then Ctrl-C. Gives the API's URL."""
    process = subprocess.Popen(
        command(
            *("run", "--state", str(state)),
            *("--api-port", str(api_port), "--cloud-port", str(cloud_port)),
        ),
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        welcome = ""
        while "Ctrl-C stops everything" not in welcome:
            line = process.stdout.readline()
            assert line, f"it ended early: {welcome}"
            welcome += line
        assert f"http://127.0.0.1:{cloud_port}" in welcome
        yield f"http://127.0.0.1:{api_port}"
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0


def processes_of(state: Path) -> list[str]:
    """The command lines of processes that have to do with this state folder."""
    listing = subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True, check=True)
    return [line for line in listing.stdout.splitlines() if str(state) in line]


def completed(api: str, name: str) -> bool:
    with urlopen(f"{api}/images/uploads/{name}/status", timeout=TIMEOUT_S) as answer:
        return bool(json.load(answer)["status"] == "COMPLETED")


def test_running_cloud_keeps_its_state_and_leaves_no_process(tmp_path: Path) -> None:
    """What was uploaded before Ctrl-C is there after a restart; nothing runs in between."""
    ports = free_port(), free_port()
    with running(*ports, tmp_path) as api:
        upload = Request(f"{api}/images?name=kept.jpg", saved(photo(640, 480)), method="POST")
        with urlopen(upload, timeout=TIMEOUT_S) as answer:
            assert answer.status == 202
        eventually(lambda: completed(api, "kept.jpg"))
        assert processes_of(tmp_path)
    eventually(lambda: not processes_of(tmp_path))
    assert all(require_port(port, "PORT") == port for port in ports)  # nobody listens

    with running(*ports, tmp_path) as api:
        assert completed(api, "kept.jpg")


def test_busy_port_is_one_clear_line(tmp_path: Path) -> None:
    """A port that is taken is named, with the option that chooses another."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ports = ("--api-port", str(port), "--cloud-port", str(free_port()))
        ran = run("run", "--state", str(tmp_path), *ports)
    assert ran.returncode == 1
    assert ran.stderr.count("\n") == 1
    assert str(port) in ran.stderr
    assert "API_PORT" in ran.stderr


def test_two_clouds_never_share_a_state_folder(tmp_path: Path) -> None:
    """A second one on the same folder is refused in one line, and the first goes on unharmed."""
    with running(free_port(), free_port(), tmp_path) as api:
        ports = ("--api-port", str(free_port()), "--cloud-port", str(free_port()))
        ran = run("run", "--state", str(tmp_path), *ports)
        assert (ran.returncode, ran.stderr.count("\n")) == (1, 1)
        upload = Request(f"{api}/images?name=first.jpg", saved(photo(320, 240)), method="POST")
        with urlopen(upload, timeout=TIMEOUT_S) as answer:
            assert answer.status == 202
        eventually(lambda: completed(api, "first.jpg"))
