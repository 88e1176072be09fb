"""Images of different make for comparing what is found in them, put together from what public archives publish.

Every input is pinned by its digest. Downloads and finished layouts stay in `workplace.CACHE`, so that a machine makes
them once.
"""

import fcntl
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

from image_builder import put_image
from servers import Tool
from tidewaiter.oci.layout import Layout
from workplace import CACHE

_TABLE = Path(__file__).with_suffix(".toml")
_KEPT = CACHE / "many-makes"
_MAVEN_CENTRAL = "https://repo.maven.apache.org/maven2/"
_TRIVY = "github.com/aquasecurity/trivy@v0.59.1"
"""Folder in the archive of Trivy's source, whose test data are real images and real metadata of conda."""

# Run with rattler on the path: `CHANNEL PREFIX`.
_INSTALL_CONDA_PACKAGES = """
import asyncio, sys
from pathlib import Path
import rattler
from rattler.index import index_fs

async def main(channel, prefix):
    await index_fs(channel)
    records = []
    for part in ("noarch", "linux-64"):
        data = rattler.RepoData.from_path(channel / part / "repodata.json")
        records += data.into_repo_data(rattler.Channel(channel.as_uri()))
    await rattler.install(records, prefix, cache_dir=channel / "cache", show_progress=False,
                          platform=rattler.Subdir("linux-64"))

asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
"""


def _entries(group: str) -> list[dict[str, str]]:
    return [entry for entry in tomllib.loads(_TABLE.read_text())["inputs"] if entry["group"] == group]


def _group(name: str) -> list[Path]:
    """The inputs of a group in the table's order, downloaded once and compared with their digests."""
    found = []
    for entry in _entries(name):
        path = _KEPT / "inputs" / entry["sha256"] / entry["url"].rpartition("/")[2]
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with urllib.request.urlopen(entry["url"], timeout=120) as answer:
                data = answer.read()
            assert sha256(data).hexdigest() == entry["sha256"], f"{entry['url']} is not what it was"
            part = path.with_name(f"part.{os.getpid()}")
            part.write_bytes(data)
            part.rename(path)
        found.append(path)
    return found


def maven_archives() -> Iterator[tuple[str, str, str, Path]]:
    """Group, artifact, version and file of each Java archive, as its place in Maven Central says."""
    for path, entry in zip(_group("jars"), _entries("jars"), strict=True):
        *group, artifact, version, _ = entry["url"].removeprefix(_MAVEN_CENTRAL).split("/")
        yield ".".join(group), artifact, version, path


def _packed(folder: Path) -> bytes:
    """A layer of everything in `folder`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path in sorted(folder.rglob("*")):
            tar.add(path, str(path.relative_to(folder)), recursive=False)
    return buffer.getvalue()


def _pip(*arguments: object) -> None:
    """Run pip, which asks no index."""
    command = ["install", "-q", "--no-index", "--no-compile", "--ignore-installed", "--root-user-action=ignore"]
    subprocess.run([sys.executable, "-m", "pip", *command, *map(str, arguments)], check=True)


def _pip_for_311(target: Path, group: str) -> None:
    """What pip installs into `target` for Python 3.11 on Linux, whatever runs this test."""
    _pip(
        "--no-deps", "--target", target, "--platform=manylinux2014_x86_64", "--platform=manylinux_2_28_x86_64",
        "--python-version=3.11", "--only-binary=:all:", *_group(group),
    )  # fmt: skip


def _npm(archive: Path, folder: Path) -> None:
    """A package of npm's registry, unpacked where npm would put it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as tar:
        tar.extractall(folder.parent, filter="data")
    (folder.parent / "package").rename(folder)


def _of_trivy(member: str) -> bytes:
    """A file of Trivy's source."""
    with zipfile.ZipFile(_group("trivy-source")[0]) as source:
        return source.read(f"{_TRIVY}/{member}")


def _layers_of_trivy(image: str) -> list[bytes]:
    """The layers of an image among Trivy's test data, a Docker archive."""
    with tarfile.open(fileobj=io.BytesIO(_of_trivy(f"pkg/fanal/test/testdata/{image}.tar.gz"))) as archive:

        def member(name: str) -> bytes:
            file = archive.extractfile(name)
            assert file is not None
            return file.read()

        return [member(layer) for layer in json.loads(member("manifest.json"))[0]["Layers"]]


def _debian(work: Path, tool: Tool) -> list[bytes]:
    """Debian 12 with Debian's Python packages; above it pip's, an editable one, and eggs as a file and as a folder."""
    buffer = io.BytesIO()
    status = []
    with tarfile.open(fileobj=buffer, mode="w") as rootfs:
        for deb in _group("debian"):
            fields = subprocess.run([tool("dpkg-deb"), "--field", deb], check=True, capture_output=True, text=True)
            first, rest = fields.stdout.split("\n", 1)
            status.append(f"{first}\nStatus: install ok installed\n{rest}\n")
            contents = subprocess.run([tool("dpkg-deb"), "--fsys-tarfile", deb], check=True, capture_output=True).stdout
            with tarfile.open(fileobj=io.BytesIO(contents)) as tar:
                for member in tar:
                    rootfs.addfile(member, tar.extractfile(member) if member.isreg() else None)
        database = "".join(status).encode()
        info = tarfile.TarInfo("var/lib/dpkg/status")
        info.size = len(database)
        rootfs.addfile(info, io.BytesIO(database))
    site = work / "usr/local/lib/python3.11/dist-packages"
    _pip_for_311(site, "debian-pip")
    project = work / "srv/ours"
    project.mkdir(parents=True)
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["flit_core"]\nbuild-backend = "flit_core.buildapi"\n'
        '[project]\nname = "ours-in-the-making"\nversion = "0.3"\ndescription = "x"\n'
    )
    (project / "ours_in_the_making.py").write_text("")
    backend = _group("debian-pip-build")[0].parent
    _pip("--find-links", backend, "--root", work, "--prefix=/usr/local", "--editable", project)
    for egg in _group("debian-egg"):
        shutil.copy(egg, site / egg.name)
    for egg in _group("debian-egg-unpacked"):
        shutil.unpack_archive(egg, site / egg.name, "zip")
    return [buffer.getvalue(), _packed(work)]


def _conda(work: Path, tool: Tool) -> list[bytes]:
    """An environment that rattler installed from whl2conda's packages and records of Anaconda's; above it pip's."""
    tools, channel, image = work / "tools", work / "channel", work / "image"
    for part in ("noarch", "linux-64"):
        (channel / part).mkdir(parents=True)
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--target", tools, *_group("conda-tools")], check=True
    )
    environment = {**os.environ, "PYTHONPATH": str(tools), "HOME": str(work)}
    for wheel in _group("conda"):
        subprocess.run(
            [sys.executable, tools / "bin/whl2conda", "convert", wheel, "--out-dir", channel / "noarch",
             "--format=V2", "-q", "--batch", "--yes"],
            check=True, env=environment, capture_output=True,
        )  # fmt: skip
    _python_for_conda(channel / "linux-64/python-3.11.2-0.tar.bz2", work, tool)
    subprocess.run(
        [sys.executable, "-c", _INSTALL_CONDA_PACKAGES, channel, image / "opt/conda"], check=True, env=environment
    )
    records = image / "opt/conda/envs/testenv/conda-meta"
    records.mkdir(parents=True)
    for name in ("openssl-1.1.1q-h7f8727e_0.json", "pip-22.2.2-py38h06a4308_0.json"):
        folder = "integration/testdata/fixtures/repo/conda/miniconda3/envs/testenv/conda-meta"
        (records / name).write_bytes(_of_trivy(f"{folder}/{name}"))
    _pip_for_311(work / "above/opt/conda/lib/python3.11/site-packages", "conda-pip")
    return [_packed(image), _packed(work / "above")]


def _python_for_conda(package: Path, work: Path, tool: Tool) -> None:
    """Write a conda package of Debian's Python, for which rattler installs the others."""
    deb = next(path for path in _group("debian") if path.name.startswith("python3.11-minimal_"))
    subprocess.run([tool("dpkg-deb"), "--extract", deb, work / "python"], check=True)
    program = (work / "python/usr/bin/python3.11").read_bytes()
    path = {"_path": "bin/python3.11", "path_type": "hardlink", "sha256": sha256(program).hexdigest(),
            "size_in_bytes": len(program)}  # fmt: skip
    index = {"name": "python", "version": "3.11.2", "build": "0", "build_number": 0, "depends": [],
             "subdir": "linux-64", "license": "PSF-2.0"}  # fmt: skip
    files = {
        "info/index.json": json.dumps(index).encode(),
        "info/paths.json": json.dumps({"paths_version": 1, "paths": [path]}).encode(),
        "info/files": b"bin/python3.11\n",
        "bin/python3.11": program,
    }
    with tarfile.open(package, "w:bz2") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755
            tar.addfile(info, io.BytesIO(data))


def _alpine(work: Path, _tool: Tool) -> list[bytes]:
    """Alpine 3.11 as it was published; above it npm with all that it brings, an application, and pip's packages."""
    _npm(_group("alpine-npm")[0], work / "usr/local/lib/node_modules/npm")
    modules = work / "srv/app/node_modules"
    for archive in _group("alpine-app"):
        name, _, version = archive.stem.rpartition("-")
        # As pnpm keeps them: one folder per version, and links to those that the application asks for.
        _npm(archive, modules / f".pnpm/{name}@{version}/node_modules/{name}")
        (modules / name).symlink_to(f".pnpm/{name}@{version}/node_modules/{name}")
    (work / "srv/app/package.json").write_text('{"name": "shop-window", "version": "2.0.1", "private": true}')
    (work / "srv/app/package-lock.json").write_text(
        '{"name": "shop-window", "version": "2.0.1", "lockfileVersion": 3, "packages": {'
        '"": {"name": "shop-window", "version": "2.0.1", "dependencies": {"left-pad": "1.3.0"}},'
        '"node_modules/left-pad": {"version": "1.3.0"}}}'
    )
    _pip_for_311(work / "usr/lib/python3.11/site-packages", "alpine-pip")
    return [*_layers_of_trivy("alpine-311"), _packed(work)]


def _programs(work: Path, tool: Tool) -> list[bytes]:
    """A distroless Debian; above it programs of Go and Rust as others publish them, and Java archives of many kinds."""
    for archive in _group("natives"):
        if archive.suffix == ".deb":
            subprocess.run([tool("dpkg-deb"), "--extract", archive, work], check=True)
        else:
            _npm(archive, work / "opt/node_modules/@esbuild/linux-x64")
    _pip_for_311(work / "opt/tools", "natives-wheels")
    (work / "opt/rust").mkdir(parents=True)
    program = work / "opt/rust/auditable"
    program.write_bytes(_of_trivy("pkg/dependency/parser/rust/binary/testdata/test.elf"))
    program.chmod(0o755)
    (work / "srv/java").mkdir(parents=True)
    for archive in _group("jars"):
        shutil.copy(archive, work / "srv/java" / archive.name)
    return [*_layers_of_trivy("distroless"), _packed(work)]


MAKES: dict[str, Callable[[Path, Tool], list[bytes]]] = {
    "debian": _debian,
    "conda": _conda,
    "alpine": _alpine,
    "programs": _programs,
}


def layout(name: str, tool: Tool) -> Path:
    """The layout of the image `name` of `MAKES`, tagged `image`; made again when its recipe has changed."""
    recipe = sha256(Path(__file__).read_bytes() + _TABLE.read_bytes()).hexdigest()[:16]
    folder = _KEPT / f"{name}-{recipe}"
    _KEPT.mkdir(parents=True, exist_ok=True)
    with (_KEPT / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            for old in _KEPT.glob(f"{name}-*"):
                shutil.rmtree(old)
            work, made = _KEPT / f"{name}-work", _KEPT / f"{name}-made"
            for path in (work, made):
                shutil.rmtree(path, ignore_errors=True)
            work.mkdir()
            tars = MAKES[name](work, tool)
            put_image(Layout(made), tars, blobs=[gzip.compress(tar, 1, mtime=0) for tar in tars], name="image")
            shutil.rmtree(work)
            made.rename(folder)
    return folder
