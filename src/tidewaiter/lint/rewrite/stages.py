"""Compilers in a stage of their own: the image that runs gets what pip installed, not what it took.

    FROM IMAGE AS base        all that stood above the installation, but without compilers
    FROM base AS build        compilers, and `pip install --prefix=/install`
    FROM base                 `COPY --from=build /install /usr/local`, and all that stood below

Only for the official Python images: there pip installs to /usr/local, so that each file comes to where it was before.
"""

import re

from packaging.utils import canonicalize_name

from tidewaiter.lint.dockerfile.parse import Dockerfile, Instruction
from tidewaiter.lint.dockerfile.rules.debian import packages, verb
from tidewaiter.lint.finding import Edit
from tidewaiter.lint.requirement import PipInstall, pip_install
from tidewaiter.lint.rewrite.bases import is_python
from tidewaiter.lint.rewrite.step import (
    Around,
    Step,
    before,
    has_comment,
    insertion,
    left,
    placed,
    replacement,
    without,
    word_out,
)
from tidewaiter.lint.shell import Command, Word

COMPILING = re.compile(
    r"build-essential|(?:gcc|g\+\+|clang|gfortran|make|cmake|ninja-build|rustc|cargo|bazel|pkg-config|python3-dev|libc6-dev)"
    r"(?:-\d+)?"
)
_TOOLS = frozenset({"pip", "setuptools", "wheel"})
_HARMLESS = frozenset(
    {
        *("mkdir", "chmod", "chown", "useradd", "adduser", "groupadd", "addgroup", "echo", "ln", "cp", "mv", "rm"),
        *("touch", "cat", "sed", "true", "set", "cd", "apt-get", "find", "install"),
    }
)
"""What needs no compiler and makes nothing that pip would have to see."""


class _Plan:
    """What the step works with."""

    def __init__(self, apt: Instruction, command: Command, compilers: list[Word], pip: Instruction) -> None:
        self.apt = apt
        self.command = command
        self.compilers = compilers
        self.pip = pip


def build_stage(file: Dockerfile, _around: Around) -> Step:
    """The last `RUN` with pip, and the compilers, in a stage `build`."""
    if len(file.stages) > 1:
        return Step()
    plan = _plan(file)
    if isinstance(plan, str):
        return left(f"one stage: {plan}")
    names = [word.value for word in plan.compilers]
    return Step(
        tuple(_edits(file, plan)),
        (f"{', '.join(names)} stay in a stage of their own, the image that runs gets what pip installed",),
        ("libraries that only a compiler brings along (libgomp1, libgfortran5) are not added: --prove, or try it",),
    )


def _plan(file: Dockerfile) -> _Plan | str:
    """What would be done, or why nothing is."""
    stage = file.last
    found = [
        (one, command, [word for word in packages(command) if COMPILING.fullmatch(word.value)])
        for one in stage.all_of("RUN")
        for command in one.commands
        if verb(command) == "install"
    ]
    found = [item for item in found if item[2]]
    if not found:
        return "apt installs nothing that compiles"
    if not is_python(stage.image):
        return f"where pip installs in {stage.image} is not known here"
    if len(found) > 1:
        return "compilers are installed in several places"
    apt, command, compilers = found[0]
    pips = [one for one in stage.all_of("RUN") if one.lines > apt.lines and _pips(one)]
    if len(pips) != 1:
        return "pip is called in several places" if pips else "pip installs nothing behind the compilers"
    why = _apt_odd(file, apt, command) or _pip_odd(pips[0]) or _around_odd(file, apt, pips[0])
    return why or _Plan(apt, command, compilers, pips[0])


def _pips(one: Instruction) -> list[tuple[Command, PipInstall]]:
    return [(command, pip) for command in one.commands if (pip := pip_install(command)) is not None]


def _apt_odd(file: Dockerfile, one: Instruction, command: Command) -> str:
    others = {verb(other) or other.program for other in one.commands}
    if not others <= {"update", "install", "rm", "clean", "autoremove", "set"} or not placed(one, command):
        return f"line {one.lines[0]} does more than install with apt"
    return "comments stand between the packages" if has_comment(file.text, one) else ""


def _pip_odd(one: Instruction) -> str:
    """Why a `RUN` with pip cannot be moved; empty when it can."""
    pips = _pips(one)
    others = [command for command in one.commands if pip_install(command) is None and command.words]
    if any(command.program not in {"set", "rm"} for command in others) or one.heredocs or one.json:
        return f"line {one.lines[0]} does more than install with pip"
    for command, pip in pips:
        if pip.tool != "pip" or not placed(one, command) or pip.local:
            return f"line {one.lines[0]} installs with uv, from a folder, or in quotes"
        if pip.has("-e", "--editable", "-t", "--target", "--user", "--prefix", "--root", "-U", "--upgrade"):
            return f"options of pip in line {one.lines[0]} say where or what to replace"
        if any(canonicalize_name(requirement.name) in _TOOLS for _, requirement in pip.wanted):
            return f"line {one.lines[0]} replaces pip or its tools; write that as a RUN of its own above the compilers"
    if len(pips) != 1:
        return f"line {one.lines[0]} calls pip more than once"
    return ""


def _around_odd(file: Dockerfile, apt: Instruction, pip: Instruction) -> str:
    """What else in the file would mean something else in three stages."""
    stage = file.last
    if stage.name in {"base", "build"} or stage.start.lines[0] != stage.start.lines[1]:
        return "its name, or how FROM is written, is in the way"
    for one in stage.instructions:
        above = one.lines < pip.lines
        if one.name in {"ONBUILD", "SHELL"} or (above and one.name == "USER"):
            return f"{one.name} in line {one.lines[0]} would have to hold in every stage"
        if above and one.name == "ARG":
            return f"ARG in line {one.lines[0]} holds in one stage alone"
        if above and one is not apt and one.name == "RUN" and not _pips(one):
            odd = next((c.program for c in one.commands if c.program not in _HARMLESS), "")
            if odd and one.lines > apt.lines:
                return f"{odd} in line {one.lines[0]} may need the compilers"
        if not above and one.name == "RUN" and one is not pip:
            programs = {command.program for command in one.commands}
            if not programs <= _HARMLESS | {"python", "python3"} or "setup.py" in " ".join(one.args):
                return f"line {one.lines[0]} may need the compilers"
    return ""


def _edits(file: Dockerfile, plan: _Plan) -> list[Edit]:
    text, stage = file.text, file.last
    start = stage.start
    end = text.offset(start.span.end_line, start.span.end_column)
    image = text.content[text.offset(start.span.line, start.span.column) : end]
    plain = re.split(r"\s+[aA][sS]\s+", image)[0]
    named = f" AS {start.args[2]}" if len(start.args) > 2 else ""
    edits = [replacement(text, text.offset(start.span.line, start.span.column), end, f"{plain} AS base")]
    rest = [word for word in packages(plan.command) if word not in plan.compilers]
    if rest:
        edits += [word_out(file, word) for word in plan.compilers]
    else:
        edits.append(without(text, plan.apt))
    names = " ".join(text.content[word.start : word.end] for word in plan.compilers)
    header = (
        "\nFROM base AS build\n"
        f"RUN apt-get update && apt-get install -y --no-install-recommends {names} \\\n"
        "    && rm -rf /var/lib/apt/lists/*\n"
    ).replace("\\", file.escape)
    edits.append(before(text, plan.pip, header))
    command = next(command for command, _ in _pips(plan.pip))
    word = next(word for word in command.words if word.value == "install")
    edits.append(insertion(text, word.end, " --prefix=/install"))
    last = plan.pip.lines[1]
    behind = text.offset(last, len(text.line(last)) + 1)
    edits.append(insertion(text, behind, f"\n\nFROM base{named}\nCOPY --from=build /install /usr/local"))
    return edits
