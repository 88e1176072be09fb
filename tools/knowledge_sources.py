"""What the projects' own public sources say: TensorFlow's page, wheels on PyPI, NVIDIA's notes, clones with their tags.

Of a wheel only its metadata, `build_info.py` and `tflite_convert.py` are read, by HTTP ranges. What cannot be read is
an `OSError`.
"""

import ast
import html
import io
import json
import re
import subprocess
import urllib.request
import zipfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.version import Version

from tidewaiter.frameworks.tables import ConverterFlag, ServerFlag, TestedBuild, Wheel
from tidewaiter.frameworks.versions import series

OLDEST = Version("2.9")
OLDEST_SERVER = Version("1.13")
_ROW = re.compile(r"<tr>((?:<td>[^<]*</td>)+)</tr>")
_CELL = re.compile(r"<td>([^<]*)</td>")
_WHEEL = re.compile(r"tensorflow-(?P<version>[^-]+)-(?P<tag>cp(\d)(\d+))-(?P=tag)-manylinux[^-]*x86_64\.whl")
_CONVERTER = re.compile(r"tensorflow_cpu-(?P<version>[^-]+)-cp\d+-cp\d+m?-manylinux[^-]*x86_64\.whl")
_DRIVER = re.compile(r"CUDA (\d+\.\d+)(?:\.\d+)? GA[\s|]*>=\s*([\d.]+)")
_FLAG = re.compile(r"Flag\(\s*\"(\w+)\",\s*&(?:options\.)?(\w+)")
_TYPES = {"bool": "bool", "string": "string", "float": "float", "int32": "int", "int64": "int", "int": "int"}


class Ranged(io.RawIOBase):
    """A remote file of which only what is asked for is fetched."""

    def __init__(self, url: str, size: int) -> None:
        self._url, self._size, self._at = url, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  what io.RawIOBase says of it
        count = min(len(buffer), self._size - self._at)
        if count <= 0:
            return 0
        data = fetch(self._url, Range=f"bytes={self._at}-{self._at + count - 1}")
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def fetch(url: str, **headers: str) -> bytes:
    """The body at an https address; a range that was not honoured is an error."""
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        if "Range" in headers and answer.status != 206:
            raise OSError(f"{url} does not answer ranges")
        return bytes(answer.read())


def text_of(place: str, path: str) -> str:
    """Text at an address or in a local file."""
    full = f"{place}/{path}".rstrip("/")
    return fetch(full).decode() if place.startswith("https://") else Path(full).read_text()


def index_of(name: str) -> dict[str, Any]:
    """PyPI's list of a project's files."""
    body = fetch(f"https://pypi.org/simple/{name}/", Accept="application/vnd.pypi.simple.v1+json")
    return dict(json.loads(body))


def between(text: str) -> tuple[str, ...]:
    """`2.7, 3.5-3.7` as versions one by one."""
    found = []
    for part in text.replace(" ", "").split(","):
        first, _, last = part.partition("-")
        start, end = int(first.split(".")[1]), int((last or first).split(".")[1])
        found += [f"{first.split('.')[0]}.{minor}" for minor in range(start, end + 1)]
    return tuple(found)


def tested(page: str, heading: str) -> tuple[TestedBuild, ...]:
    """Rows of TensorFlow 2 in one of the two tables below `### Linux` of source.md."""
    section = (
        page.partition("### Linux")[2].partition("### macOS")[0].partition(f"#### {heading}")[2].partition("####")[0]
    )
    rows = []
    for row in _ROW.findall(section):
        name, python, compiler, bazel, *libraries = _CELL.findall(row)
        release = name.rpartition("-")[2]
        if release.startswith("2."):
            cudnn, cuda = libraries or ("", "")
            rows.append(TestedBuild(release, between(python), compiler, bazel.removeprefix("Bazel "), cuda, cudnn))
    return tuple(rows)


def wheel(release: str, files: dict[str, dict[str, Any]]) -> Wheel:
    """What the wheels of a release say; all have the same metadata but for their Python, so the newest is read."""
    pythons = sorted(files, key=Version)
    chosen = files[pythons[-1]]
    with zipfile.ZipFile(io.BufferedReader(Ranged(chosen["url"], chosen["size"]), 1 << 16)) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
        info = archive.read(next(name for name in names if name.endswith("platform/build_info.py"))).decode()
    build = dict(ast.literal_eval(info.partition("build_info = collections.OrderedDict(")[2].strip().removesuffix(")")))
    pins = {}
    for text in HeaderParser().parsestr(metadata).get_all("Requires-Dist", []):
        requirement = Requirement(text)
        if requirement.marker and requirement.marker.evaluate({"extra": "and-cuda"}) and "and-cuda" in text:
            pins[requirement.name] = str(requirement.specifier)
    return Wheel(
        release=release,
        python=tuple(pythons),
        cuda=build["cuda_version"],
        cudnn=build["cudnn_version"],
        capabilities=tuple(build["cuda_compute_capabilities"]),
        and_cuda=dict(sorted(pins.items())),
    )


def wheels() -> tuple[Wheel, ...]:
    """All releases from `OLDEST` on, newest first."""
    releases: dict[str, dict[str, dict[str, Any]]] = {}
    for file in index_of("tensorflow")["files"]:
        match = _WHEEL.fullmatch(file["filename"])
        if match and Version(match["version"]) >= OLDEST and not Version(match["version"]).is_prerelease:
            releases.setdefault(match["version"], {})[f"{match[3]}.{match[4]}"] = file
    newest = sorted(releases, key=Version, reverse=True)
    with ThreadPoolExecutor(4) as pool:
        return tuple(pool.map(lambda release: wheel(release, releases[release]), newest))


def cudnn_wheels() -> dict[str, set[int]]:
    """Minor versions of cuDNN with the majors of CUDA for which NVIDIA has wheels on PyPI."""
    found: dict[str, set[int]] = {}
    for major in (11, 12, 13):
        for version in index_of(f"nvidia-cudnn-cu{major}")["versions"]:
            if Version(version).major >= 8:
                found.setdefault(".".join(version.split(".")[:2]), set()).add(major)
    return found


def drivers(notes: str) -> dict[str, str]:
    """Linux drivers of the first release of each minor version, from NVIDIA's release notes."""
    text = re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", notes)))
    return dict(_DRIVER.findall(text))


def git(clone: str, *arguments: str) -> str:
    """What git prints; OSError when it fails, or nobody named a clone."""
    if not clone:
        raise OSError("no clone was named")
    done = subprocess.run(["git", "-C", clone, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(done.stderr.strip())
    return done.stdout


def spans(found: dict[str, list[str]], seen: list[str]) -> dict[str, tuple[str, str]]:
    """By name the first and the last minor release with it; the last is empty when the newest one has it."""
    return {name: (has[0], "" if has[-1] == seen[-1] else has[-1]) for name, has in found.items()}


def server_flags(clone: str) -> tuple[str, tuple[ServerFlag, ...]]:
    """The newest minor release of TensorFlow Serving, and the flags of `tensorflow_model_server`."""
    tags = [tag for tag in git(clone, "tag").split() if re.fullmatch(r"\d+\.\d+\.\d+", tag)]
    tags = [tag for tag in sorted(tags, key=Version) if Version(tag) >= OLDEST_SERVER]
    seen = list(dict.fromkeys(map(series, tags)))
    found: dict[str, list[str]] = {}
    types: dict[str, str] = {}
    for tag in tags:
        text = git(clone, "show", f"{tag}:tensorflow_serving/model_servers/main.cc")
        declared = text + git(clone, "show", f"{tag}:tensorflow_serving/model_servers/server.h")
        for name, variable in _FLAG.findall(text):
            has = found.setdefault(name, [])
            if series(tag) not in has:
                has.append(series(tag))
            kind = re.search(rf"\b(\w+?)(?:_t)?\s+{variable}\s*(?:=|;)", declared)
            types[name] = _TYPES[kind[1]] if kind else ""
    rows = spans(found, seen)
    return seen[-1], tuple(
        ServerFlag(name=name, type=types[name], since=since, until=until)
        for name, (since, until) in sorted(rows.items())
    )


def converter_flags() -> tuple[str, tuple[ConverterFlag, ...]]:
    """The newest minor release of TensorFlow, and the flags of `tflite_convert`, from the newest wheel of each."""
    newest: dict[str, dict[str, Any]] = {}
    files = [
        (Version(match["version"]), file)
        for file in index_of("tensorflow-cpu")["files"]
        if (match := _CONVERTER.fullmatch(file["filename"])) and not Version(match["version"]).is_prerelease
    ]
    for version, file in sorted(files, key=lambda one: one[0]):
        newest[series(str(version))] = file
    seen = list(newest)
    found: dict[str, list[str]] = {}
    values: dict[str, bool] = {}
    for minor, file in newest.items():
        with zipfile.ZipFile(io.BufferedReader(Ranged(file["url"], file["size"]), 1 << 16)) as archive:
            path = next(name for name in archive.namelist() if name.endswith("lite/python/tflite_convert.py"))
            tree = ast.parse(archive.read(path))
        for function in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
            modes = {"_get_tf1_flags": ("1",), "_get_tf2_flags": ("2",), "_get_parser": ("1", "2")}.get(function.name)
            for name, value in added(function) if modes else ():
                values[name] = value
                for mode in modes or ():
                    found.setdefault(f"{mode}{name}", []).append(minor)
    rows = spans(found, seen)
    return seen[-1], tuple(
        ConverterFlag(name=name[1:], converter=int(name[0]), value=values[name[1:]], since=since, until=until)
        for name, (since, until) in sorted(rows.items())
    )


def added(function: ast.FunctionDef) -> Iterable[tuple[str, bool]]:
    """The options that a function adds to an argument parser, without dashes, and whether they take a value."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
            actions = [ast.unparse(one.value) for one in node.keywords if one.arg == "action"]
            yield ast.literal_eval(node.args[0]).removeprefix("--"), actions != ["'store_true'"]


def serving_images(clone: str) -> dict[str, tuple[str, str]]:
    """CUDA and cuDNN of the GPU images of TensorFlow Serving, by minor release, from the newest tag of each."""
    found = {}
    tags = [tag for tag in git(clone, "tag").split() if re.fullmatch(r"\d+\.\d+\.\d+", tag)]
    for tag in sorted(tags, key=Version):
        if Version(tag) >= OLDEST:
            text = git(clone, "show", f"{tag}:tensorflow_serving/tools/docker/Dockerfile.gpu")
            cuda, cudnn = re.search(r"ENV CUDA=(\S+)", text), re.search(r"ENV CUDNN_VERSION=(\S+)", text)
            found[series(tag)] = (cuda[1] if cuda else "", series(cudnn[1]) if cudnn else "")
    return found


def build_images(clone: str) -> list[tuple[str, str, str, str]]:
    """Day of change, Python, CUDA and cuDNN of the GPU images of tensorflow/tensorflow, oldest first."""
    folder = "tensorflow_runtime_dockerfiles"
    rows: list[tuple[str, str, str, str]] = []
    for line in reversed(git(clone, "log", "--format=%H %cs", "--", folder).splitlines()):
        commit, day = line.split()
        try:
            head = git(clone, "show", f"{commit}:{folder}/gpu.Dockerfile")
            packages = git(clone, "show", f"{commit}:{folder}/gpu.packages.txt")
        except OSError:
            continue
        python = re.search(r"PYTHON_VERSION=python(\S+)", head)
        cuda = re.search(r"FROM nvidia/cuda:(\d+\.\d+)", head)
        cudnn = re.search(r"libcudnn\d+=(\d+\.\d+)", packages)
        if python and cuda and cudnn and (not rows or rows[-1][1:] != (python[1], cuda[1], cudnn[1])):
            rows.append((day, python[1], cuda[1], cudnn[1]))
    return rows
