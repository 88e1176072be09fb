"""Runs inside the sandbox of `isolated_build`, by the image's own interpreter: standard library only.

Arguments: `describe`, `requires` or `build`; the greatest number of files and of bytes that the source may unpack to;
the memory of each process. The answer is one line of JSON on standard output, after it the wheel if there is one; what
the build itself prints goes to standard error.
"""

import importlib
import json
import os
import resource
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

SOURCE = Path("/tidewaiter/source")
WORK = Path("/build/source")
WHEELS = Path("/build/wheel")
LEGACY: dict[str, Any] = {
    "requires": ["setuptools >= 40.8.0"],
    "build-backend": "setuptools.build_meta:__legacy__",
}


def unpack(members: int, size: int) -> Path:
    """The one folder that the source distribution holds, unpacked."""
    WORK.mkdir(parents=True)
    count = total = 0
    if tarfile.is_tarfile(SOURCE):
        with tarfile.open(SOURCE) as archive:
            # The sandbox holds whatever an interpreter without this filter lets through.
            archive.extraction_filter = getattr(tarfile, "data_filter", None)
            for member in archive:
                count, total = count + 1, total + member.size
                if count > members or total > size:
                    raise ValueError(f"the source has more than {members} files or {size} bytes")
                archive.extract(member, WORK)
    else:
        with zipfile.ZipFile(SOURCE) as archive:
            infos = archive.infolist()
            if len(infos) > members or sum(info.file_size for info in infos) > size:
                raise ValueError(f"the source has more than {members} files or {size} bytes")
            archive.extractall(WORK)  # noqa: S202  # bounded above, and by the sandbox
    folders = [path for path in WORK.iterdir() if path.is_dir()]
    if len(folders) != 1:
        raise ValueError(f"the source has {len(folders)} folders at its top instead of one")
    return folders[0]


def build_system(source: Path) -> dict[str, Any]:
    """`[build-system]` of the source (PEP 517, PEP 518), or what stands for it."""
    path = source / "pyproject.toml"
    table = tomllib.loads(path.read_text(encoding="utf-8")).get("build-system") if path.is_file() else None
    if table is None:
        return LEGACY
    return {
        "requires": list(table["requires"]),
        "build-backend": table.get("build-backend", LEGACY["build-backend"]),
        "backend-path": list(table.get("backend-path", [])),
    }


def backend_of(system: dict[str, Any], source: Path) -> Any:  # noqa: ANN401  # a module, or any object in one
    """The object with the hooks of PEP 517."""
    inside = [str((source / part).resolve()) for part in system.get("backend-path", ())]
    if any(not Path(path).is_relative_to(source.resolve()) for path in inside):
        raise ValueError("backend-path leaves the source")
    sys.path[:0] = inside
    module, _, names = str(system["build-backend"]).partition(":")
    found: Any = importlib.import_module(module)
    for name in filter(None, names.split(".")):
        found = getattr(found, name)
    return found


def answer(out: int, about: dict[str, object], wheel: Path | None = None) -> None:
    """Write the answer to the descriptor `out`."""
    with os.fdopen(out, "wb") as stream:
        stream.write(json.dumps(about).encode() + b"\n")
        if wheel is not None:
            with wheel.open("rb") as file:
                while data := file.read(1 << 20):
                    stream.write(data)


def main() -> None:
    """Do what the arguments say."""
    out = os.dup(1)
    os.dup2(2, 1)
    task, members, size, memory = sys.argv[1], *map(int, sys.argv[2:5])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    try:
        source = unpack(members, size)
        os.chdir(source)
        system = build_system(source)
        if task == "describe":
            answer(out, {"requires": system["requires"]})
            return
        backend = backend_of(system, source)
        wanted: list[str] = getattr(backend, "get_requires_for_build_wheel", lambda _: [])({})
        if task == "requires":
            answer(out, {"requires": [*system["requires"], *wanted]})
            return
        WHEELS.mkdir()
        name = backend.build_wheel(str(WHEELS), {})
    except BaseException as error:  # a setup script may raise anything, SystemExit too
        answer(out, {"error": f"{type(error).__name__}: {error}"[:2000]})
        raise
    answer(out, {"wheel": name}, WHEELS / name)


main()
