"""The lean package: what stays in it, what it is known by, and what Lambda could not load."""

import ast
import json
import os
import platform
import re
import sys
import zipfile
from pathlib import Path
from shutil import copytree

import botocore
import PIL
import pytest
from botocore.loaders import JSONFileLoader
from botocore.regions import EndpointResolver

from infrastructure.package import (
    PackageError,
    aws_services,
    is_used,
    mark_of,
    prune,
    verify,
    wheel_options,
    zip_folder,
)
from infrastructure.stage import PROJECT

BOOTSTRAP = PROJECT / "chalicelib" / "bootstrap.py"
SERVICES = {"s3", "sqs"}
SITE = Path(PIL.__file__).parent.parent
HERE = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
ELSEWHERE = {"x86_64": "arm64", "arm64": "x86_64"}.get(HERE, "")
E_MACHINE = slice(18, 20)

of_linux = pytest.mark.skipif(sys.platform != "linux", reason="wheels of Linux are looked into")


def test_the_app_makes_clients_of_these_services() -> None:
    """Their models stay in the package, and no others."""
    assert aws_services(BOOTSTRAP) == {
        *("s3", "sqs", "sns", "events", "sesv2", "dynamodb", "rekognition", "stepfunctions"),
    }


def test_every_client_of_the_app_is_made_where_it_is_looked_for() -> None:
    """``_client`` is called with names, and nothing else makes clients."""
    for path in (PROJECT / "chalicelib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr == "_client":
                    assert isinstance(node.args[0], ast.Constant)
                assert node.func.attr not in {"client", "resource"} or path == BOOTSTRAP


@pytest.mark.parametrize(
    "path",
    [
        "botocore/client.py",
        "botocore/cacert.pem",
        "botocore/data/endpoints.json",
        "botocore/data/_retry.json",
        "botocore/data/s3/2006-03-01/service-2.json.gz",
        "botocore/data/s3/2006-03-01/waiters-2.json",
        "boto3/data/s3/2006-03-01/resources-1.json",
        "PIL/_imaging.cpython-312-x86_64-linux-gnu.so",
        "pillow-13.0.0.dist-info/licenses/LICENSE",
        "botocore-1.43.106.dist-info/LICENSE.txt",
        "botocore-1.43.106.dist-info/NOTICE",
        "six.py",
    ],
)
def test_what_is_used_stays(path: str) -> None:
    assert is_used(path, SERVICES)


@pytest.mark.parametrize(
    "path",
    [
        "bin/jp.py",
        "boto3/data/ec2/2016-11-15/resources-1.json",
        "boto3/examples/s3.rst",
        "botocore/data/ec2/2016-11-15/service-2.json.gz",
        "botocore/data/s3/2006-03-01/examples-1.json",
        "pillow-13.0.0.dist-info/METADATA",
        "pillow-13.0.0.dist-info/RECORD",
        "pillow-13.0.0.dist-info/sboms/auditwheel.cdx.json",
        "PIL/_imagingft.cpython-312-x86_64-linux-gnu.so",
        "PIL/_imaging.pyi",
        "PIL/py.typed",
        "PIL/__pycache__/Image.cpython-311.pyc",
        "__pycache__/six.cpython-311.pyc",
        "dateutil/tests/test_tz.py",
    ],
)
def test_what_is_not_used_goes(path: str) -> None:
    assert not is_used(path, SERVICES)


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pillow and botocore as they are installed here, after pruning."""
    folder = tmp_path_factory.mktemp("pruned")
    for name in ("PIL", "pillow.libs"):
        if (SITE / name).is_dir():
            copytree(SITE / name, folder / name)
    copytree(Path(botocore.__file__).parent / "data", folder / "botocore" / "data")
    prune(folder, SERVICES)
    return folder


@of_linux
def test_a_library_that_nothing_needs_any_more_goes(pruned: Path) -> None:
    """FreeType is there for fonts alone, libjpeg for pictures."""
    left = " ".join(path.name for path in (pruned / "pillow.libs").iterdir())
    assert "libjpeg" in left
    assert "liblzma" in left  # needed by libtiff, which is needed by Pillow
    assert "freetype" not in left
    assert "harfbuzz" not in left  # needed by FreeType alone, and FreeType by it


def test_endpoints_of_what_stays_are_what_they_were(pruned: Path) -> None:
    """In every region that botocore knows."""
    whole, left = (
        EndpointResolver(JSONFileLoader().load_file(str(folder / "botocore/data/endpoints")))
        for folder in (Path(botocore.__file__).parent.parent, pruned)
    )
    assert whole.get_available_partitions() == left.get_available_partitions()
    for partition in whole.get_available_partitions():
        for service in sorted(SERVICES):
            regions = whole.get_available_endpoints(service, partition)
            assert left.get_available_endpoints(service, partition) == regions
            for region in regions:
                assert left.construct_endpoint(service, region, partition) == (
                    whole.construct_endpoint(service, region, partition)
                )
    assert not left.get_available_endpoints("ec2")


def test_the_same_files_are_the_same_package(tmp_path: Path) -> None:
    """Whatever order they were written in, when, by whom and with which permissions."""
    contents = {"app.py": "import b", "lib/b.py": "", "lib/a.json": json.dumps(list(range(99)))}
    for number, names in enumerate((sorted(contents), sorted(contents, reverse=True))):
        for name in names:
            path = tmp_path / str(number) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(contents[name])
            path.chmod(0o600 + 0o055 * number)
            os.utime(path, (10**9 * number, 10**9 * number))
        zip_folder(tmp_path / str(number), tmp_path / f"{number}.zip", b"lean")
    assert (tmp_path / "0.zip").read_bytes() == (tmp_path / "1.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "0.zip") as package:
        assert package.namelist() == ["app.py", "lib/a.json", "lib/b.py"]
        assert {entry.external_attr >> 16 for entry in package.infolist()} == {0o644}


def test_only_a_package_of_ours_bears_a_mark(tmp_path: Path) -> None:
    """Chalice's own has none, nor has one that was never finished, nor none at all."""
    package = tmp_path / "package.zip"
    assert mark_of(package) == b""
    with zipfile.ZipFile(package, "w") as chalices:
        chalices.writestr("app.py", "")
    assert mark_of(package) == b""
    zip_folder(tmp_path, tmp_path / "ours.zip", b"lean 1")
    assert mark_of(tmp_path / "ours.zip") == b"lean 1"
    package.write_bytes((tmp_path / "ours.zip").read_bytes()[:50])
    assert mark_of(package) == b""


def test_wheels_are_those_that_the_runtime_can_load() -> None:
    """With glibc 2.34 from Python 3.12 on, 2.26 before; wheels call architectures otherwise."""
    options = wheel_options("arm64", "python3.12")
    assert "--python-version=3.12" in options
    assert "--platform=manylinux_2_34_aarch64" in options
    assert "--platform=manylinux_2_28_aarch64" in options
    assert "--platform=manylinux2014_aarch64" in options
    assert "--platform=manylinux_2_35_aarch64" not in options
    assert "--platform=manylinux_2_28_x86_64" not in wheel_options("x86_64", "python3.11")


# ── what Lambda could not run ────────────────────────────────────────────────────────────────────


@pytest.fixture
def binaries(pruned: Path) -> dict[str, bytes]:
    """Pillow's, under names that fit any Python: a package that is right."""
    return {
        re.sub(r"\.cpython-[^.]+", "", path.relative_to(pruned).as_posix()): path.read_bytes()
        for folder in ("PIL", "pillow.libs")
        for path in (pruned / folder).iterdir()
        if ".so" in path.suffixes
    }


def verified(contents: dict[str, bytes], folder: Path, architecture: str = HERE) -> None:
    package = folder / "package.zip"
    with zipfile.ZipFile(package, "w") as zipped:
        for name, content in contents.items():
            zipped.writestr(name, content)
    verify(package, architecture, "python3.12")


def core_of(binaries: dict[str, bytes]) -> bytes:
    return binaries["PIL/_imaging.so"]


@of_linux
def test_a_wheels_binaries_are_right(binaries: dict[str, bytes], tmp_path: Path) -> None:
    wheel = {"pillow-13.dist-info/WHEEL": b"Tag: cp312-cp312-manylinux_2_28_x86_64\n"}
    verified(binaries | wheel, tmp_path)


@of_linux
def test_another_architecture_is_refused(binaries: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=rf"PIL/_imaging\.so is for EM_\w+, not for {ELSEWHERE}"):
        verified(binaries, tmp_path, ELSEWHERE)


@of_linux
def test_another_pythons_binary_is_refused(binaries: dict[str, bytes], tmp_path: Path) -> None:
    name = "PIL/_imaging.cpython-311-x86_64-linux-gnu.so"
    with pytest.raises(PackageError, match=r"linux-gnu\.so is not for python3\.12"):
        verified(binaries | {name: core_of(binaries)}, tmp_path)


@of_linux
def test_a_newer_c_library_is_refused(binaries: dict[str, bytes], tmp_path: Path) -> None:
    """As what is compiled on a recent laptop asks for."""
    symbol = re.findall(rb"GLIBC_2\.\d\d\0", core_of(binaries))[0]
    newer = core_of(binaries).replace(symbol, b"GLIBC_2.99\0")
    with pytest.raises(PackageError, match=r"so needs GLIBC_2\.99, newer than 2\.34 on Lambda"):
        verified(binaries | {"PIL/_imaging.so": newer}, tmp_path)


@of_linux
def test_a_library_of_this_machine_alone_is_refused(
    binaries: dict[str, bytes], tmp_path: Path
) -> None:
    """A wheel brings its libraries; what is compiled here expects the machine's."""
    with pytest.raises(PackageError, match=r"needs libjpeg\S+, which is not in the package"):
        verified({"PIL/_imaging.so": core_of(binaries)}, tmp_path)


@pytest.mark.parametrize("name", ["PIL/_imaging.so", "lib/libjpeg.so.62", "lib/z.dylib", "z.pyd"])
def test_a_binary_of_another_system_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=f"{name} is not for Linux"):
        verified({name: b"\xcf\xfa\xed\xfe of a Mac"}, tmp_path)


def test_what_was_compiled_here_is_refused(tmp_path: Path) -> None:
    """Its tag says so, even if it could be loaded."""
    with pytest.raises(PackageError, match="pillow was compiled on this machine"):
        verified({"pillow-13.0.0.dist-info/WHEEL": b"Tag: cp312-cp312-linux_x86_64\n"}, tmp_path)


def test_all_that_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(PackageError) as refused:
        verified({"a.so": b"", "b.so": b""}, tmp_path)
    assert str(refused.value).splitlines() == ["a.so is not for Linux", "b.so is not for Linux"]


def test_a_package_that_lambda_would_not_take_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infrastructure.package.MAX_ZIPPED_MB", 0.5)
    monkeypatch.setattr("infrastructure.package.MAX_UNPACKED_MB", 1.5)
    with pytest.raises(PackageError) as refused:
        verified({"a": bytes(1_000_000), "b": bytes(600_000)}, tmp_path)
    assert str(refused.value).splitlines() == [
        "1.6 MB zipped are over the limit of 0.5 MB",
        "1.6 MB unpacked are over the limit of 1.5 MB",
    ]
