"""Wheels made on the fly, a little index that serves them, and a root file system around this test's own Python."""

import base64
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from servers import reply
from tidewaiter.assembly.bytecode import Interpreter
from tidewaiter.assembly.python_lock import LockedWheel
from tidewaiter.core import project, settings
from tidewaiter.core.project import Project
from tidewaiter.core.settings import Settings

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
SITE = f"usr/local/lib/python{VERSION}/dist-packages"


def record_hash(data: bytes) -> str:
    """A hash as RECORD writes it."""
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def write_wheel(
    folder: Path,
    name: str = "sample",
    version: str = "1.0",
    files: Mapping[str, bytes | str] | None = None,
    *,
    tag: str = "py3-none-any",
    requires: Sequence[str] = (),
    record: Mapping[str, str | None] | None = None,
    modes: Mapping[str, int] | None = None,
    raw: Sequence[tuple[str, bytes]] = (),
    without: Sequence[str] = (),
    metadata_name: str | None = None,
    method: int = zipfile.ZIP_DEFLATED,
) -> Path:
    """A wheel in `folder`. `record` overrides rows (None drops one), `raw` adds members that RECORD does not know."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {metadata_name or name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {one}\n" for one in requires)
    contents: dict[str, bytes | str] = {f"{name}/__init__.py": "VALUE = 1\n"} if files is None else dict(files)
    contents[f"{info}/METADATA"] = metadata
    contents[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n"
    encoded = {path: data.encode() if isinstance(data, str) else data for path, data in contents.items()}
    rows: dict[str, str | None] = {path: f"{record_hash(data)},{len(data)}" for path, data in encoded.items()}
    rows |= {f"{info}/RECORD": ","} | dict(record or {})
    encoded[f"{info}/RECORD"] = "".join(f"{path},{row}\n" for path, row in rows.items() if row is not None).encode()
    target = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(target, "w", method) as archive:
        for path, data in [*((path, data) for path, data in encoded.items() if path not in without), *raw]:
            member = zipfile.ZipInfo(path)
            member.compress_type = method
            member.external_attr = (modes or {}).get(path, stat.S_IFREG | 0o644) << 16
            archive.writestr(member, data)
    return target


def locked(path: Path, *, url: str | None = None) -> LockedWheel:
    """What a lock would say of the wheel at `path`."""
    name, version, *_ = path.name.split("-")
    data = path.read_bytes()
    return LockedWheel(
        name=name.replace("_", "-").lower(),
        version=version,
        filename=path.name,
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        url=url,
        path=None if url else path,
    )


class Index:
    """A package index over the files of a folder: PEP 691 (JSON, with sizes) or PEP 503 (HTML, without)."""

    def __init__(self, folder: Path, *, html: bool = False) -> None:
        self.folder = folder
        self.html = html
        self.asked: list[str] = []

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        self.asked.append(handler.path)
        kind, _, name = handler.path.strip("/").partition("/")
        if kind == "files" and (self.folder / name).is_file():
            reply(handler, 200, (self.folder / name).read_bytes())
        elif kind == "simple" and (found := sorted(self.folder.glob(f"{name.replace('-', '_')}-*"))):
            hashes = {one: hashlib.sha256(one.read_bytes()).hexdigest() for one in found}
            if self.html:
                links = "".join(f'<a href="/files/{one.name}#sha256={hashes[one]}">{one.name}</a>' for one in found)
                page = f"<!DOCTYPE html><html><body>{links}</body></html>".encode()
                reply(handler, 200, page, Content_Type="text/html")
                return
            files = [
                {
                    "filename": one.name,
                    "url": f"/files/{one.name}",
                    "hashes": {"sha256": hashes[one]},
                    "size": one.stat().st_size,
                }
                for one in found
            ]
            page = json.dumps({"meta": {"api-version": "1.1"}, "name": name, "files": files}).encode()
            reply(handler, 200, page, Content_Type="application/vnd.pypi.simple.v1+json")
        else:
            reply(handler, 404)


def write_project(folder: Path, requirements: str, *, python: str = VERSION) -> Project:
    """A project with these requirements."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tidewaiter.toml").write_text(
        '[image]\nname = "team/sample"\npurpose = "training"\nenvironment = "staging"\n'
        '[base]\nuse = "debian12-python3.11"\n'
        f'[python]\nversion = "{python}"\nrequirements = "requirements.in"\n'
        '[app]\ninclude = ["train.py"]\nentrypoint = ["python", "/app/train.py"]\n'
    )
    (folder / "requirements.in").write_text(requirements)
    return project.load(folder)


def home_settings(home: Path, *, index: str = "http://127.0.0.1:9/simple") -> Settings:
    """Settings of a home of its own, with this package index."""
    return settings.load({"TIDEWAITER_HOME": str(home), "TIDEWAITER_PYTHON_INDEX": index})


def write_rootfs(folder: Path) -> Interpreter:
    """A root file system in `folder` whose interpreter is this test's own Python with its own libraries."""
    program = Path(os.path.realpath(sys.executable))
    listing = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout.split()
    libraries = {Path(word).name: Path(word) for word in listing if word.startswith("/")}
    target = folder / "usr/lib/x86_64-linux-gnu"
    target.mkdir(parents=True)
    for name, path in libraries.items():
        shutil.copy(path, target / name)
    # As Debian lays it out: an absolute symlink, which must not lead to the loader of this machine.
    (folder / "lib64").mkdir()
    (folder / "lib64/ld-linux-x86-64.so.2").symlink_to("/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")
    (folder / "usr/bin").mkdir()
    shutil.copy(program, folder / f"usr/bin/python{VERSION}")
    standard = Path(sysconfig.get_path("stdlib"))
    unused = ("__pycache__", "test", "site-packages", "dist-packages", "idlelib", "tkinter", "lib2to3", "config-*")
    shutil.copytree(standard, folder / f"usr/lib/python{VERSION}", ignore=shutil.ignore_patterns(*unused, "ensurepip"))
    return Interpreter(rootfs=folder, version=VERSION, identity="sha256:" + "0" * 64)
