"""Requirements copied and installed before the sources, so that a changed line does not install TensorFlow again."""

import posixpath
import re

from packaging.requirements import InvalidRequirement, Requirement

from tidewaiter.lint.dockerfile.parse import Dockerfile, Instruction, Stage
from tidewaiter.lint.dockerfile.rules.debian import verb
from tidewaiter.lint.finding import Edit
from tidewaiter.lint.requirement import PipInstall, pip_install
from tidewaiter.lint.rewrite.step import Around, Step, behind, replacement, source

_BETWEEN = frozenset({"RUN", "ENV", "ARG", "LABEL", "EXPOSE"})
_WHOLE = frozenset({".", "./"})
_FILES = 20
"""Requirements files that name one another."""
_NEEDS_NOTHING = frozenset({"rm", "mkdir", "true", "echo", "set", "apt-key"})


class _NotUnderstoodError(Exception):
    """The step leaves the file as it is; the message says why."""


def requirements_first(file: Dockerfile, around: Around) -> Step:
    """`COPY . .` goes behind the installation, which gets the requirements alone."""
    edits: list[Edit] = []
    done, why_left = [], []
    for stage in file.stages:
        copy = next(
            (
                one
                for one in stage.all_of("COPY", "ADD")
                if not one.flags.get("from") and len(one.args) == 2 and one.args[0] in _WHOLE
            ),
            None,
        )
        if copy is None:
            continue
        try:
            last, files = _installed(stage, copy, around)
            if last is None:
                continue
            edits += _moved(file, copy, last, files)
            done.append(f"{' and '.join(files)} copied first, and the sources behind the installation")
        except _NotUnderstoodError as error:
            why_left.append(f"line {copy.lines[0]} copies all sources first: {error}")
    return Step(tuple(edits), tuple(done), tuple(why_left))


def _installed(stage: Stage, copy: Instruction, around: Around) -> tuple[Instruction | None, list[str]]:
    """The last `RUN` behind `copy` that needs nothing but requirements, and these files; None without one."""
    last: Instruction | None = None
    files: list[str] = []
    for one in stage.instructions[stage.instructions.index(copy) + 1 :]:
        if one.name not in _BETWEEN:
            break
        if one.name != "RUN":
            continue
        pips = [pip for command in one.commands if (pip := pip_install(command)) is not None]
        if not any(pip.files for pip in pips):
            if not pips and _is_apt(one):
                continue
            break
        for command in one.commands:
            if pip_install(command) is None and command.program not in _NEEDS_NOTHING and not verb(command):
                raise _NotUnderstoodError(f"{command.program} in line {one.lines[0]} may need them")
        for pip in pips:
            files += [path for path in _files(stage, copy, one, pip, around) if path not in files]
        last = one
    return last, files


def _is_apt(one: Instruction) -> bool:
    return all(verb(command) or command.program in _NEEDS_NOTHING for command in one.commands)


def _files(stage: Stage, copy: Instruction, run: Instruction, pip: PipInstall, around: Around) -> list[str]:
    """The files of the context that a `pip install` reads, relative to it."""
    if pip.local or pip.has("-e", "--editable", "--find-links", "-f"):
        raise _NotUnderstoodError(f"pip installs sources in line {run.lines[0]}")
    todo = [
        _in_context(stage, copy, path)
        for name in ("-r", "--requirement", "-c", "--constraint")
        for path in pip.options.get(name, ())
    ]
    found: list[str] = []
    while todo:
        path = todo.pop(0)
        if path in found:
            continue
        content = around.read(path)
        if content is None:
            raise _NotUnderstoodError(f"{path} cannot be read here")
        if len(found) == _FILES:
            raise _NotUnderstoodError(f"over {_FILES} requirements files name one another")
        found.append(path)
        todo += _named(path, content)
    return found


def _named(path: str, content: str) -> list[str]:
    """Files that a requirements file names."""
    files = []
    for line in content.replace("\\\n", " ").splitlines():
        words = re.split(r"(?:^|\s+)#", line, maxsplit=1)[0].split()
        if not words:
            continue
        option, _, value = words[0].partition("=")
        if option in {"-r", "--requirement", "-c", "--constraint"}:
            value = value or (words[1] if len(words) > 1 else "")
            files.append(posixpath.normpath(posixpath.join(posixpath.dirname(path), value)))
            continue
        if words[0].startswith("-"):
            if option not in {"-i", "--index-url", "--extra-index-url", "--pre", "--no-binary"}:
                raise _NotUnderstoodError(f"{path} has the option {option}")
            continue
        try:
            if (url := Requirement(" ".join(words).partition(" --")[0]).url) and url.startswith("file:"):
                raise _NotUnderstoodError(f"{path} installs sources")
        except InvalidRequirement:
            raise _NotUnderstoodError(f"{path} names {words[0][:60]}, which is no requirement") from None
    return files


def _in_context(stage: Stage, copy: Instruction, path: str) -> str:
    """Where a file that pip reads in the container lies in the context."""
    folder = "/"
    for one in stage.inherited("WORKDIR"):
        if one.lines < copy.lines and one.args:
            folder = posixpath.join(folder, one.expand(one.args[0]).strip("\"'"))
    target = posixpath.normpath(posixpath.join(folder, copy.expand(copy.args[-1])))
    wanted = posixpath.normpath(posixpath.join(folder, path))
    if "$" in wanted + target or "://" in path or not wanted.startswith(target.rstrip("/") + "/"):
        raise _NotUnderstoodError(f"{path} does not come with it")
    return wanted[len(target.rstrip("/")) + 1 :]


def _moved(file: Dockerfile, copy: Instruction, last: Instruction, files: list[str]) -> list[Edit]:
    text = file.text
    line = source(text, copy)
    if "\n" in line or copy.heredocs or any(" " in path or "$" in path for path in files):
        raise _NotUnderstoodError("it, or a name, is written in several parts")
    target = copy.args[-1].rstrip("/")
    flags = "".join(f" --{name}={value}" for name, values in copy.flags.items() for value in values)
    lines = [
        f"COPY{flags} {path} {posixpath.join(target, posixpath.dirname(path)).rstrip('/') or ''}/" for path in files
    ]
    return [
        replacement(text, text.offset(copy.lines[0], copy.span.column), text.offset(*_end(copy)), "\n".join(lines)),
        behind(text, last, line),
    ]


def _end(one: Instruction) -> tuple[int, int]:
    return one.span.end_line, one.span.end_column
