"""The package that Lambda gets, without what the app never uses of its libraries.

It lies where Chalice would put its own, so that ``chalice deploy`` says "Reusing existing
deployment package" and uploads it. Libraries come as the wheels for the Lambda runtime, and all
has its bytecode: Lambda can write none where it unpacks a package, and would compile at each start.
"""

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from fnmatch import fnmatch
from importlib.metadata import distributions
from io import BytesIO
from math import inf
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import ClassVar

from chalice.config import Config
from chalice.deploy.packager import DependencyBuilder, LambdaDeploymentPackager
from chalice.utils import UI, OSUtils
from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

from chalicelib.errors import PipelineError

MAX_ZIPPED_MB = 50
MAX_UNPACKED_MB = 250
"""What Lambda takes (its quotas for a package that is uploaded directly)."""

MACHINES = {"x86_64": ("x86_64", "EM_X86_64"), "arm64": ("aarch64", "EM_AARCH64")}
"""Lambda's architectures, as wheels and as ELF headers call them."""

AMAZON_LINUX_2 = {"GLIBC": (2, 26), "GLIBCXX": (3, 4, 24)}
AMAZON_LINUX_2023 = {"GLIBC": (2, 34), "GLIBCXX": (3, 4, 29)}
"""The newest symbols that the C and C++ libraries there have."""

OF_THE_RUNTIME = re.compile(
    r"(libc|libm|libmvec|libdl|librt|libpthread|libz|libgcc_s|libstdc\+\+|ld-linux-.+)\.so\.\d+"
)
"""Libraries that a wheel may expect of any Linux (PEP 600). The others it has to bring."""

ELF_MAGIC = b"\x7fELF"
LIBRARY = re.compile(r".+\.(so(\.[\d.]+)?|dylib|pyd)")

UNUSED = (
    "bin/*",
    "*__pycache__/*",
    "*.pyi",
    "*/py.typed",
    "*/tests/*",
    "boto3/examples/*",
    "botocore/data/*/examples-1.json",
    "PIL/_imagingft.*",  # fonts: with FreeType and HarfBuzz, a tenth of the package
    "PIL/_imagingtk.*",
)
LICENCES = ("licen[cs]e*", "notice*", "copying*", "authors*")
"""What of a library's metadata goes along with it: the law asks for it, the app for none."""

REPRODUCIBLY = ("--invalidation-mode", "unchecked-hash", "-s")
"""Bytecode without the time of its source, and without the folder that follows."""


class PackageError(PipelineError):
    """There is no package that Lambda could run. Says why, a line for each reason."""

    code: ClassVar[str] = "package_error"


def build(config: Config, *, local: bool) -> Path:
    """The lean package of a Chalice project, where ``chalice deploy`` looks for one.

    What was built of the same things before is used again, and the same things give the same
    bytes. ``local`` is for functions that run on this machine, under this Python: the libraries are
    those for it, and nothing is verified. ``set_aside`` such a package afterwards. Raises
    PackageError.
    """
    project = Path(config.project_dir)
    architecture, python = config.lambda_architecture, config.lambda_python_version
    osutils = OSUtils()
    packager = LambdaDeploymentPackager(osutils, DependencyBuilder(osutils), UI(), architecture)
    # Chalice counts the bytecode beside the sources among what the name is made of: so all of it
    # is there before the name is asked for, and none comes when ``chalice deploy`` loads the app.
    _compile(project / "chalicelib")
    package = Path(packager.deployment_package_filename(str(project), python))
    options = [] if local else wheel_options(architecture, python)
    constraints = _installed_versions()
    target = "this machine" if local else f"Lambda's {python} on {architecture}"
    made_of = "\n".join([*options, constraints, Path(__file__).read_text()])
    mark = b"lean " + hashlib.sha256(made_of.encode()).hexdigest().encode()
    if local and mark_of(_aside(package)) == mark:
        _aside(package).replace(package)
    if mark_of(package) == mark:
        return package
    package.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=package.parent) as folder:
        staging, zipped = Path(folder, "package"), Path(folder, "package.zip")
        _install(project / "requirements.txt", constraints, options, target, staging)
        if (project / "vendor").is_dir():
            shutil.copytree(project / "vendor", staging, dirs_exist_ok=True)
        chalice, app = _app_files(packager, project)
        _copy(chalice, staging)
        prune(staging, aws_services(project / "chalicelib" / "bootstrap.py"))
        _compile(staging, "-b", *REPRODUCIBLY, str(staging))
        for bytecode in staging.rglob("*.pyc"):
            bytecode.with_suffix(".py").unlink(missing_ok=True)
        _copy(app, staging)
        _compile(staging, *REPRODUCIBLY, str(staging))
        zip_folder(staging, zipped, mark)
        if not local:
            verify(zipped, architecture, python)
        zipped.replace(package)
    return package


def set_aside(package: Path) -> None:
    """Take away a package that is for this machine: ``chalice deploy`` would take it to AWS."""
    package.replace(_aside(package))


def _aside(package: Path) -> Path:
    return package.with_suffix(".local")


# ── what is in it ────────────────────────────────────────────────────────────────────────────────


def aws_services(bootstrap: Path) -> set[str]:
    """The services that the app makes clients of: what ``_client`` is called with."""
    return {
        str(argument.value)
        for node in ast.walk(ast.parse(bootstrap.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "_client"
        for argument in node.args
        if isinstance(argument, ast.Constant)
    }


def is_used(path: str, services: AbstractSet[str]) -> bool:
    """Whether an app with clients of these services can have use for a file of its libraries."""
    if any(fnmatch(path, pattern) for pattern in UNUSED):
        return False
    match PurePosixPath(path).parts:
        case folder, *inside if folder.endswith(".dist-info"):
            return any(fnmatch(part.lower(), name) for part in inside for name in LICENCES)
        case "boto3" | "botocore", "data", service, _, *_:
            return service in services
    return True


def prune(folder: Path, services: AbstractSet[str]) -> None:
    """Remove what is of no use, then the shared libraries that nothing there needs any more.

    Of botocore's endpoints.json the other services go: it is parsed at the first client, and took
    a tenth of a cold start.
    """
    for path in _files(folder):
        if not is_used(path.relative_to(folder).as_posix(), services):
            path.unlink()
    endpoints = folder / "botocore" / "data" / "endpoints.json"
    known = json.loads(endpoints.read_text())
    for partition in known["partitions"]:
        partition["services"] = {
            name: where for name, where in partition["services"].items() if name in services
        }
    endpoints.write_text(json.dumps(known))
    brought = {path.name: path for path in folder.glob("*.libs/*")}
    binaries = [path for path in _files(folder) if path not in brought.values()]
    needed: set[str] = set()
    while binaries:
        with binaries.pop().open("rb") as file:
            is_binary = file.read(len(ELF_MAGIC)) == ELF_MAGIC
            found = _needed_libraries(ELFFile(file)) - needed if is_binary else set()
        needed |= found
        binaries += [brought[name] for name in found & brought.keys()]
    for name in brought.keys() - needed:
        brought[name].unlink()


def zip_folder(folder: Path, zipped: Path, mark: bytes) -> None:
    """The same bytes for the same files, whatever their times and permissions."""
    with zipfile.ZipFile(zipped, "w", compresslevel=9) as package:
        package.comment = mark
        for path in _files(folder):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix())
            entry.create_system = 3  # Unix, where the next line means something
            entry.external_attr = 0o644 << 16  # Lambda reads it as another user
            package.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)


def mark_of(package: Path) -> bytes:
    """Says what a package of ours was made of. Chalice's own bear no mark, nor does half a one."""
    try:
        with zipfile.ZipFile(package) as zipped:
            return zipped.comment
    except (FileNotFoundError, zipfile.BadZipFile):
        return b""


def _app_files(
    packager: LambdaDeploymentPackager, project: Path
) -> tuple[dict[str, str], dict[str, str]]:
    """What a function has of Chalice, and the app: names in the package → where they are."""
    found = {
        name: path
        for path, name in packager._iter_app_filenames(str(project))  # noqa: SLF001 - Chalice's list
        if "__pycache__" not in name
    }
    chalice = {name: path for name, path in found.items() if name.startswith("chalice/")}
    return chalice, {name: path for name, path in found.items() if name not in chalice}


def _copy(files: Mapping[str, str], folder: Path) -> None:
    for name, path in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)


def _compile(folder: Path, *options: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "compileall", "-q", *options, str(folder)],
        env=os.environ | {"PYTHONHASHSEED": "0"},  # for the order of sets
        capture_output=True,
        check=False,  # what cannot be compiled stays a source
    )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


# ── libraries ────────────────────────────────────────────────────────────────────────────────────


def wheel_options(architecture: str, python: str) -> list[str]:
    """What has pip take the wheels that Lambda's ``python3.12`` on ``arm64``, say, can load."""
    machine, _ = MACHINES[architecture]
    _, newest = _newest_symbols(python)["GLIBC"]
    return [
        "--implementation=cp",
        f"--python-version={python.removeprefix('python')}",
        *(f"--platform=manylinux_2_{minor}_{machine}" for minor in range(newest, 16, -1)),
        f"--platform=manylinux2014_{machine}",
    ]


def _install(
    requirements: Path, constraints: str, options: Sequence[str], target: str, folder: Path
) -> None:
    """The libraries, as wheels alone, without Chalice: what that needs is for deploying."""
    wanted = [
        line
        for line in requirements.read_text().splitlines()
        if not re.match(r"chalice\b", line, re.IGNORECASE)
    ]
    with TemporaryDirectory() as lists:
        wanted_list, constraint_list = Path(lists, "wanted.txt"), Path(lists, "constraints.txt")
        wanted_list.write_text("\n".join(wanted))
        constraint_list.write_text(constraints)
        pip = subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--no-compile"),
                *("--disable-pip-version-check", "--no-warn-conflicts", "--only-binary=:all:"),
                *("-r", str(wanted_list), "-c", str(constraint_list), "--target", str(folder)),
                *options,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    if unfit := re.search(r"(?:distribution found for|Cannot install) (\S+)", pip.stderr):
        raise PackageError(f"There is no wheel of {unfit[1]} for {target}")
    if pip.returncode:
        raise PackageError(f"The libraries cannot be fetched: {pip.stderr.strip()}")


def _installed_versions() -> str:
    """Constraints that have a package made of what is installed here, and so was tested."""
    versions = {found.name: found.version for found in distributions()}
    return "\n".join(sorted(f"{name}=={version}" for name, version in versions.items()))


# ── what Lambda can run ──────────────────────────────────────────────────────────────────────────


def verify(package: Path, architecture: str, python: str) -> None:
    """Raises PackageError unless Lambda takes this package and can load every binary in it.

    ``architecture`` and ``python`` are Lambda's names, ``arm64`` and ``python3.12``. Where Chalice
    finds no wheel it compiles one, against what is on this machine and not on Lambda: that too is
    found here.
    """
    with zipfile.ZipFile(package) as zipped:
        contents = {name: zipped.read(name) for name in zipped.namelist()}
    sizes = (
        ("zipped", package.stat().st_size, MAX_ZIPPED_MB),
        ("unpacked", sum(map(len, contents.values())), MAX_UNPACKED_MB),
    )
    problems = [
        f"{size / 1e6:.1f} MB {how} are over the limit of {limit} MB"
        for how, size, limit in sizes
        if size > limit * 1e6
    ]
    brought = {PurePosixPath(name).name for name in contents}
    for name, content in contents.items():
        if name.endswith(".dist-info/WHEEL") and b"-linux_" in content:
            problems.append(f"{name.split('-')[0]} was compiled on this machine, for this machine")
        if content.startswith(ELF_MAGIC) or LIBRARY.fullmatch(name):
            found = _misfits(name, content, brought, architecture, python)
            problems += [f"{name} {problem}" for problem in found]
    if problems:
        raise PackageError("\n".join(problems))


def _misfits(
    name: str, binary: bytes, brought: AbstractSet[str], architecture: str, python: str
) -> Iterator[str]:
    """Why Lambda cannot load a binary."""
    abi = re.search(r"\.cpython-(\d+)", name)
    if abi and abi[1] != python.removeprefix("python").replace(".", ""):
        yield f"is not for {python}"
    try:
        elf = ELFFile(BytesIO(binary))
    except ELFError:
        yield "is not for Linux"
        return
    _, machine = MACHINES[architecture]
    if elf["e_machine"] != machine:
        yield f"is for {elf['e_machine']}, not for {architecture}"
    for library in sorted(_needed_libraries(elf)):
        if library not in brought and not OF_THE_RUNTIME.fullmatch(library):
            yield f"needs {library}, which is not in the package"
    for symbol in sorted(_needed_symbols(elf)):
        kind, _, version = symbol.partition("_")
        newest = _newest_symbols(python).get(kind)
        if newest and _numbers(version) > newest:
            yield f"needs {symbol}, newer than {'.'.join(map(str, newest))} on Lambda"


def _needed_libraries(elf: ELFFile) -> set[str]:
    return {
        tag.needed  # type: ignore[attr-defined]  # it is named after the tag
        for segment in elf.iter_segments()
        if isinstance(segment, DynamicSegment)
        for tag in segment.iter_tags("DT_NEEDED")
    }


def _needed_symbols(elf: ELFFile) -> set[str]:
    """Versions of what it takes from other libraries, like GLIBC_2.17 and GLIBCXX_3.4.21."""
    return {
        need.name
        for section in elf.iter_sections()
        if isinstance(section, GNUVerNeedSection)
        for _, needs in section.iter_versions()
        for need in needs
    }


def _newest_symbols(python: str) -> dict[str, tuple[int, ...]]:
    return (
        AMAZON_LINUX_2023 if _numbers(python.removeprefix("python")) >= (3, 12) else AMAZON_LINUX_2
    )


def _numbers(version: str) -> tuple[float, ...]:
    return tuple(int(part) if part.isdigit() else inf for part in version.split("."))
