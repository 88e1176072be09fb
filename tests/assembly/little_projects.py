"""Indexes that want a password, source distributions, and projects that use them."""

import base64
import io
import shutil
import subprocess
import sysconfig
import tarfile
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from little_wheels import Index, home_settings, write_rootfs

from servers import reply
from tidewaiter.assembly.bytecode import Interpreter
from tidewaiter.assembly.wheel_sources import WheelSources
from tidewaiter.core import project as projects
from tidewaiter.core.project import IndexSection, Project
from tidewaiter.transport.client import Client

USER, PASSWORD = "bob", "pass:word"
_BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

BACKEND = """\
import os, sys, zipfile
from pathlib import Path

def get_requires_for_build_wheel(settings=None):
    return {wanted}

def build_wheel(folder, settings=None, metadata=None):
    {before}
    info = "{name}-{version}.dist-info"
    files = {{"{name}/__init__.py": {content}, info + "/METADATA": {metadata},
             info + "/WHEEL": "Wheel-Version: 1.0\\nGenerator: own\\nRoot-Is-Purelib: true\\nTag: {tag}\\n"}}
    import base64, hashlib
    rows = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        rows.append(f"{{path}},sha256={{digest}},{{len(text.encode())}}\\n")
    files[info + "/RECORD"] = "".join(rows) + info + "/RECORD,,\\n"
    filename = "{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(Path(folder) / filename, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return filename
"""


def backend(
    name: str,
    version: str,
    *,
    before: str = "pass",
    content: str = '"VALUE = 1\\n"',
    wanted: str = "[]",
    tag: str = "py3-none-any",
    requires: str = "",
) -> str:
    """A build backend (PEP 517) of one file that needs nothing; `before` runs when it builds."""
    metadata = repr(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}")
    return BACKEND.format(
        name=name, version=version, before=before, content=content, wanted=wanted, tag=tag, metadata=metadata
    )


def pyproject(name: str, version: str, requires: str = "[]") -> str:
    """`pyproject.toml` of a source with `backend` in it."""
    return (
        f'[project]\nname = "{name}"\nversion = "{version}"\n'
        f'[build-system]\nrequires = {requires}\nbuild-backend = "own_backend"\nbackend-path = ["."]\n'
    )


def write_sdist(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    requires: str = "[]",
    source: str | None = None,
    files: Mapping[str, str] | None = None,
) -> Path:
    """A source distribution in `folder` that is built by its own backend, or as `files` say."""
    contents = (
        {"pyproject.toml": pyproject(name, version, requires), "own_backend.py": source or backend(name, version)}
        if files is None
        else dict(files)
    )
    target = folder / f"{name}-{version}.tar.gz"
    with tarfile.open(target, "w:gz") as archive:
        for path, text in contents.items():
            member = tarfile.TarInfo(f"{name}-{version}/{path}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return target


class Locked:
    """An index that answers nobody without the password."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.seen: list[str] = []

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        self.seen.append(handler.headers.get("Authorization") or "")
        if self.seen[-1] != _BASIC:
            reply(handler, 401, WWW_Authenticate='Basic realm="packages"')
        else:
            self.index(handler)


def extended(project: Project, more: str, *, section: str = "python") -> Project:
    """The same project with `more` in one of its sections."""
    text = project.path.read_text().replace(f"[{section}]\n", f"[{section}]\n{more}\n")
    project.path.write_text(text)
    return projects.load(project.directory)


def with_index(project: Project, url: str, *packages: str, name: str = "co") -> Project:
    """The same project with a private index for `packages`."""
    listed = ", ".join(f'"{package}"' for package in packages)
    return extended(project, f'indexes = [{{name = "{name}", url = "{url}/simple", packages = [{listed}]}}]')


def sources(client: Client, home: Path, *indexes: IndexSection) -> WheelSources:
    """Where locked files are fetched, without a mirror."""
    return WheelSources(indexes, home_settings(home), client)


def build_root(folder: Path) -> Interpreter:
    """As `write_rootfs`, with the libraries of those modules that a build needs."""
    interpreter = write_rootfs(folder)
    for name in ("zlib", "_socket", "_hashlib", "_bz2", "_lzma", "_struct"):
        for module in (Path(sysconfig.get_path("stdlib")) / "lib-dynload").glob(f"{name}.*.so"):
            listing = subprocess.run(["ldd", module], capture_output=True, text=True, check=True).stdout.split()
            for library in (Path(word) for word in listing if word.startswith("/")):
                shutil.copy(library, folder / "usr/lib/x86_64-linux-gnu" / library.name)
    return interpreter
