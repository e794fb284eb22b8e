"""The project in another folder, where a deployment may write, and the commands run there."""

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from infrastructure.stage import PROJECT

IMPATIENT = {"PYTHONPATH": str(PROJECT / "tests" / "impatient")}
"""Variables for a command that polls an emulator."""

FOLDERS = (".chalice", "chalicelib", "infrastructure", "localcloud", "tests")
IGNORED = shutil.ignore_patterns(".*cache", "__pycache__", "deployments", "deployed")
CHALICE = "import sys; from chalice.cli import main; sys.exit(main())"
TIMEOUT_S = 420


def clone(folder: Path) -> Path:
    """The project as a clone has it, for functions that run on this machine's architecture."""
    for name in FOLDERS:
        shutil.copytree(PROJECT / name, folder / name, ignore=IGNORED)
    for path in (*PROJECT.glob("*.py"), *PROJECT.glob("requirements*.txt"), PROJECT / "Makefile"):
        shutil.copy(path, folder)
    path = folder / ".chalice" / "config.json"
    config = json.loads(path.read_text())
    config["lambda_architecture"] = "arm64" if platform.machine() == "aarch64" else "x86_64"
    path.write_text(json.dumps(config, indent=2))
    return folder


def chalice(
    project: Path, environ: Mapping[str, str], *words: str
) -> subprocess.CompletedProcess[str]:
    """Chalice's own command in a project."""
    return python(project, environ, "-c", CHALICE, *words)


def python(
    project: Path, environ: Mapping[str, str], *words: str
) -> subprocess.CompletedProcess[str]:
    """A Python command in a project, to its end, whatever its exit status."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=project,
        env=dict(environ) | IMPATIENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
