"""The lean package for this machine, in a process that has it and Python's own library alone."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chalice.config import Config
from chalice.deploy.packager import DependencyBuilder, LambdaDeploymentPackager
from chalice.utils import UI, OSUtils

from infrastructure import package as packages
from infrastructure.package import PackageError, build
from infrastructure.stage import PROJECT
from tests.pictures import exif, heic, photo, profile, saved

LIMIT_BYTES = 15_000_000

FUNCTION = """
import json, os, pathlib, sys

package, pictures = sys.argv[1:]
sys.path.insert(0, package)
import app
from chalicelib import imaging
from chalicelib.bootstrap import Services, services, settings
from chalicelib.model import Limits, OutputFormat, RenditionSpec, ResizeMode

specs = [
    RenditionSpec(format.value, 64, 48, mode, format, 80)
    for format in OutputFormat
    for mode in ResizeMode
]
formats = {}
for picture in pathlib.Path(pictures).iterdir():
    original = picture.read_bytes()
    imaging.inspect(original, Limits())
    rendered = imaging.render(original, specs, Limits())
    assert rendered.notes == (), rendered.notes
    formats[picture.name] = [bool(rendition.body) for rendition in rendered.renditions]

made = [name for name in vars(Services) if getattr(services(), name) is not None]
wanted = {"Bucket": "uploads", "Key": "uploads/a.jpg"}
url = services().uploads.client.generate_presigned_url("get_object", Params=wanted)

modules = {name: module for name, module in sys.modules.items() if getattr(module, "__file__", 0)}
print(json.dumps({
    "formats": formats,
    "made": made,
    "clients": sorted(services()._clients),
    "url": url,
    "elsewhere": [
        name for name, module in modules.items()
        if not module.__file__.startswith((package, os.path.dirname(os.__file__)))
    ],
    "compiled_anew": [
        name for name, module in modules.items()
        if module.__file__.startswith(package) and module.__file__.endswith(".py")
        and not os.path.exists(module.__cached__)
    ],
}))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A copy of the app, so that nobody deploys what is made here."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("app.py", "requirements.txt"):
        shutil.copy(PROJECT / name, folder)
    shutil.copytree(PROJECT / "chalicelib", folder / "chalicelib")
    return Config.create(project_dir=str(folder))


@pytest.fixture(scope="module", autouse=True)
def _fetched_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Packages for this machine share what pip fetches for the first of them."""
    install, fetched = packages._install, tmp_path_factory.mktemp("fetched")  # noqa: SLF001

    def install_once(*arguments: Any) -> None:
        *what, options, target, folder = arguments
        if options:
            install(*arguments)
            return
        if not any(fetched.iterdir()):
            install(*what, options, target, fetched)
        shutil.copytree(fetched, folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packages, "_install", install_once)
        yield


@pytest.fixture(scope="module")
def package(project: Config) -> Path:
    return build(project, local=True)


@pytest.fixture(scope="module")
def function(package: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a function says that was given pictures of every kind and made every client."""
    unpacked = tmp_path_factory.mktemp("task")
    with zipfile.ZipFile(package) as zipped:
        zipped.extractall(unpacked)
    pictures = tmp_path_factory.mktemp("pictures")
    picture = photo(320, 240)
    for name, file in {
        **{kind: saved(picture, kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")},
        "AVIF": saved(picture, "AVIF"),
        "HEIC": heic(picture),
        "TIFF, deflated": saved(picture, "TIFF", compression="tiff_adobe_deflate"),
        "JPEG of a camera": saved(picture, exif=exif(orientation=6), icc_profile=profile("p3")),
    }.items():
        (pictures / name).write_bytes(file)
    ran = subprocess.run(
        [sys.executable, "-ISB", "-c", FUNCTION, str(unpacked), str(pictures)],
        env=os.environ | {"EVENT_BUS_NAME": "image-pipeline-dev"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return dict(json.loads(ran.stdout))


def test_every_kind_of_picture_becomes_every_kind_of_rendition(function: dict[str, Any]) -> None:
    assert len(function["formats"]) == 10
    assert all(all(renditions) for renditions in function["formats"].values())


def test_every_service_of_the_app_is_there(function: dict[str, Any]) -> None:
    assert "recognizer" in function["made"]
    assert set(function["clients"]) >= {"dynamodb", "events", "rekognition", "s3", "sns", "sqs"}
    assert "X-Amz-Signature" in function["url"]


def test_nothing_comes_from_elsewhere(function: dict[str, Any]) -> None:
    assert function["elsewhere"] == []


def test_all_of_it_is_compiled(function: dict[str, Any]) -> None:
    """Lambda cannot write bytecode, and would compile at each cold start."""
    assert function["compiled_anew"] == []


def test_it_is_lean(package: Path) -> None:
    assert package.stat().st_size <= LIMIT_BYTES


def test_chalice_takes_it_for_its_own(
    package: Path, project: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is where Chalice looks for one, by the name that Chalice gives it."""
    osutils = OSUtils()
    packager = LambdaDeploymentPackager(osutils, DependencyBuilder(osutils), UI())
    made = packager.create_deployment_package(project.project_dir, project.lambda_python_version)
    assert made == str(package)
    assert "Reusing existing deployment package" in capsys.readouterr().out


def test_it_is_built_once(package: Path, project: Config) -> None:
    built = package.stat().st_mtime_ns
    assert build(project, local=True) == package
    assert package.stat().st_mtime_ns == built


def test_chalices_own_is_replaced(project: Config, package: Path) -> None:
    """Whatever lies there without our mark; and what was built anew is the same to the byte."""
    lean = package.read_bytes()
    with zipfile.ZipFile(package, "w") as fat:
        fat.writestr("app.py", "")
    assert build(project, local=True).read_bytes() == lean
    assert list(package.parent.iterdir()) == [package]


def test_what_has_no_wheel_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    """Pillow has none for the runtime of Python 3.11: here a release that was never made."""
    (tmp_path / "app.py").touch()
    (tmp_path / "requirements.txt").write_text("chalice\nsix==0.0.1\n")
    with pytest.raises(PackageError, match=r"There is no wheel of six==0\.0\.1 for Lambda's"):
        build(Config.create(project_dir=str(tmp_path)), local=False)
    assert list((tmp_path / ".chalice" / "deployments").iterdir()) == []
