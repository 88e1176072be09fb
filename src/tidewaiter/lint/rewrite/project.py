"""A `tidewaiter.toml` for the assembled build, from what a Dockerfile does, and what is not carried over."""

import json
import posixpath
import re
from collections.abc import Iterator

import msgspec

from tidewaiter.core.errors import RefusedError
from tidewaiter.lint.dockerfile.parse import Dockerfile, Instruction
from tidewaiter.lint.dockerfile.rules.debian import packages, verb
from tidewaiter.lint.requirement import pip_install
from tidewaiter.lint.rewrite.stages import COMPILING

_RECIPES = {"3.11": "debian12-python3.11", "3.13": "debian13-python3.13"}
"""Recipes by minor version of Python."""
_VERSION = re.compile(r"(?:.*/)?python:(?P<version>3\.\d+)(?:[.-].*)?")
_UNSAFE = re.compile(r"[*?\[$]|^/|\.\.|://|^<<")


class Proposal(msgspec.Struct, frozen=True):
    """What would stand in `tidewaiter.toml`, and what a person must look after."""

    content: str
    left: tuple[str, ...]


def propose(file: Dockerfile, name: str, entries: tuple[str, ...]) -> Proposal:
    """The project file for the image that the last stage makes.

    Args:
        file: the Dockerfile.
        name: of the image.
        entries: files and folders of the build context that are no caches, for `COPY . .`.

    Raises:
        RefusedError: it stands on something that no recipe takes the place of.
    """
    image = file.last.image
    found = _VERSION.fullmatch(image.partition("@")[0])
    if found is None or found["version"] not in _RECIPES:
        raise RefusedError(
            f"{file.text.path}: no recipe takes the place of {image}",
            next_step=f"Recipes have Python {' and '.join(_RECIPES)}; or let [build] dockerfile name the Dockerfile.",
        )
    left: list[str] = []
    requirements, system = _installed(file, left)
    included = list(dict.fromkeys(_included(file, entries, left)))
    lines = [
        "[image]",
        f"name = {json.dumps(name)}",
        f'purpose = "{"serving" if file.last.inherited("EXPOSE") else "training"}"',
        'environment = "research"',
        *("", "[base]", f'use = "{_RECIPES[found["version"]]}"'),
    ]
    if requirements:
        lines += ["", "[python]", f'version = "{found["version"]}"', f"requirements = {json.dumps(requirements)}"]
    if system:
        lines += ["", "[system]", f"packages = {json.dumps(system)}"]
    lines += ["", "[app]", f"include = {json.dumps(included, ensure_ascii=False)}"]
    words = _started(file, included, left)
    if words:
        lines.append(f"entrypoint = {json.dumps(words, ensure_ascii=False)}")
    left += _other(file)
    return Proposal("\n".join(lines) + "\n", tuple(dict.fromkeys(left)))


def _installed(file: Dockerfile, left: list[str]) -> tuple[str, list[str]]:
    """The requirements file, and Debian packages."""
    files: list[str] = []
    named: list[str] = []
    system: list[str] = []
    for stage in file.stages:
        for one in stage.all_of("RUN"):
            for command in one.commands:
                pip = pip_install(command)
                if pip is not None:
                    files += [path.rpartition("/")[2] for path in pip.files]
                    named += [word.value for word, _ in pip.wanted]
                    left += [f"line {one.lines[0]} installs {word.value}" for word in pip.local]
                elif verb(command) == "install":
                    system += [word.value for word in packages(command)] if stage in file.runtime else []
                elif not verb(command) and command.program not in {"rm", "mkdir", "set", "true"}:
                    left.append(f"line {one.lines[0]} runs {command.program}: nothing runs in an assembled build")
    kept = [one for one in dict.fromkeys(system) if not COMPILING.fullmatch(one) and re.fullmatch(r"[a-z0-9+.-]+", one)]
    left += [f"apt installs {one}, which is not carried over" for one in system if one not in kept]
    if named:
        left.append(f"add to {files[0] if files else 'a requirements file'}: {' '.join(dict.fromkeys(named))}")
    left += [
        f"{one} is a second requirements file; name it in {files[0]} with -r"
        for one in dict.fromkeys(files)
        if one != files[0]
    ]
    return (files[0] if files else ""), kept


def _included(file: Dockerfile, entries: tuple[str, ...], left: list[str]) -> Iterator[str]:
    """What goes to `/app`."""
    for one in file.last.inherited("COPY", "ADD"):
        for source in one.args[:-1]:
            path = posixpath.normpath(one.expand(source))
            if one.flags.get("from") or one.heredocs or _UNSAFE.search(path):
                left.append(f"line {one.lines[0]} copies {source}")
            elif path == ".":
                yield from entries
            elif not re.fullmatch(r"(?:.*/)?(?:requirements|constraints)[^/]*\.(?:txt|in)", path):
                yield path


def _started(file: Dockerfile, included: list[str], left: list[str]) -> list[str]:
    """What the image runs, files of `/app` by their whole path."""
    words: list[str] = []
    for name in ("ENTRYPOINT", "CMD"):
        found: list[Instruction] = file.last.inherited(name)
        if not found:
            continue
        one = found[-1]
        commands = one.commands
        if not one.json and (len(commands) != 1 or re.search(r"[$&|;<>`*]", " ".join(one.args))):
            left.append(f"line {one.lines[0]} needs a shell, which the base has not")
            continue
        words += one.args if one.json else [word.value for word in commands[0].words]
    tops = {path.split("/")[0] for path in included}
    return [
        f"/app/{posixpath.normpath(word)}"
        if posixpath.normpath(word).split("/")[0] in tops and word[0] != "/"
        else word
        for word in words
    ]


def _other(file: Dockerfile) -> Iterator[str]:
    for one in file.last.inherited("ENV", "EXPOSE", "VOLUME", "HEALTHCHECK", "STOPSIGNAL", "SHELL", "ONBUILD"):
        yield f"line {one.lines[0]}: {one.name} is not carried over; say it where the container starts"
