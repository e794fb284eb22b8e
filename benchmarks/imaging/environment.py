"""The peers, each in a place of its own under ``.bench/``, and what they are fed.

Nothing of this goes into the project's environment: pyvips and pillow-simd would shadow Pillow's
libraries, and sharp needs Node.js.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image

from tests.pictures import heic, photo, saved

HOME = Path(".bench")
OURS = ("Pillow==13.0.0", "pillow-heif==1.8.1", "thash==1.2.1")
PEERS = ("pyvips==3.2.0", "pyvips-binary==8.18.7", "numpy", "scikit-image==0.26.0")
SIMD = ("pillow-simd==12.1.1.post0", "thash==1.2.1")
SHARP = "sharp@0.35.5"


def python() -> Path:
    """An interpreter with Pillow and pyvips."""
    return _venv("python", [*OURS, *PEERS])


def simd_python() -> Path | None:
    """One with pillow-simd in Pillow's place, compiled here; None where that is not possible."""
    try:
        return _venv("simd", list(SIMD))
    except subprocess.CalledProcessError:
        print("pillow-simd does not compile here (libjpeg-dev and zlib1g-dev needed): left out")
        return None


def node_modules() -> Path | None:
    """Where sharp is installed; None where there is no Node.js."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        print("no Node.js here: sharp is left out")
        return None
    folder = HOME / "node"
    if not (folder / "node_modules" / "sharp").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true}\n')
        subprocess.run([npm, "install", "--silent", SHARP], cwd=folder, check=True)
    return folder


def _venv(name: str, packages: list[str]) -> Path:
    folder = HOME / name
    interpreter = folder / "bin" / "python"
    if not (folder / "installed").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        install = [interpreter, "-m", "pip", "install", "--quiet", *packages]
        # Only pillow-simd compiles anything; AVX2 is what makes it fast.
        subprocess.run(install, check=True, env={**os.environ, "CC": "cc -mavx2"})
        (folder / "installed").touch()
    return interpreter


def originals() -> dict[str, Path]:
    """The pictures, made once: sizes of common cameras, at the quality phones save with."""
    makers = {
        "jpeg-12mp.jpg": lambda: saved(photo(4000, 3000), quality=90),
        "jpeg-24mp.jpg": lambda: saved(photo(6000, 4000), quality=90),
        "headline.jpg": lambda: saved(photo(2725, 2225), quality=90),
        "png-12mp.png": lambda: saved(photo(4000, 3000), "PNG"),
        "webp-12mp.webp": lambda: saved(photo(4000, 3000), "WEBP", quality=85),
        "heic-12mp.heic": lambda: heic(photo(4000, 3000), quality=70),
        "jpeg-50mp.jpg": lambda: saved(
            photo(866, 577).resize((8660, 5774), Image.Resampling.NEAREST), quality=90
        ),
    }
    folder = HOME / "originals"
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in makers.items():
        path = folder / name
        if not path.exists():
            path.write_bytes(make())
    return {name.rpartition(".")[0]: folder / name for name in makers}
