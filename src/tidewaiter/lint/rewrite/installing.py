"""What is installed: nothing of it kept twice, and nothing that only tests need."""

from pathlib import PurePosixPath

from packaging.utils import canonicalize_name

from tidewaiter.lint.dockerfile.parse import Dockerfile, Instruction, Stage
from tidewaiter.lint.dockerfile.rules.debian import packages, verb
from tidewaiter.lint.dockerfile.rules.python import installs
from tidewaiter.lint.finding import Edit
from tidewaiter.lint.requirement import pip_install
from tidewaiter.lint.rewrite.bases import runs_as_root
from tidewaiter.lint.rewrite.step import Around, Step, has_comment, insertion, placed, source, word_out

_RECOMMENDED = {"git": "ca-certificates", "curl": "ca-certificates", "wget": "ca-certificates", "gcc": "libc6-dev"}
"""Packages that Debian and Ubuntu recommend with these, and without which these rarely do what they are for."""
ROOTS_CACHE = str(PurePosixPath("/", "root", ".cache"))
"""In the image, where root's programs keep what they download."""
_PIP_CACHE = f"{ROOTS_CACHE}/pip"


def no_recommends(file: Dockerfile, _around: Around) -> Step:
    """`--no-install-recommends`, and by name what most people need of the recommended packages."""
    edits: list[Edit] = []
    done, left = [], []
    for stage in file.stages:
        for one in stage.all_of("RUN"):
            for command in one.commands:
                options = " ".join(command.arguments)
                if verb(command) != "install" or "no-install-recommends" in options or "Install-Recommends" in options:
                    continue
                names = [word.value for word in packages(command)]
                if not placed(one, command) or not names or "python3-pip" in names:
                    left.append(
                        f"apt in line {one.lines[0]} installs recommended packages, too: pip may need compilers"
                    )
                    continue
                more = sorted({_RECOMMENDED[name] for name in names if name in _RECOMMENDED} - set(names))
                word = next(word for word in command.words if word.value == "install")
                edits.append(insertion(file.text, word.end, " ".join([" --no-install-recommends", *more])))
                done.append(f"apt installs no recommended packages{f', but {chr(32).join(more)}' if more else ''}")
    return Step(tuple(edits), tuple(done), tuple(left))


def apt_lists(file: Dockerfile, _around: Around) -> Step:
    """A `RUN` that fetches apt's lists and installs ends with their removal."""
    edits: list[Edit] = []
    left = []
    for stage in file.stages:
        for one in stage.all_of("RUN"):
            verbs = {verb(command) for command in one.commands}
            if not {"update", "install"} <= verbs or any("/var/lib/apt" in word for word in _words(one)):
                continue
            if any("/var/lib/apt" in mount for mount in one.flags.get("mount", ())):
                continue
            line = source(file.text, one)
            if one.json or one.heredocs or "#" in line.rpartition("\n")[2] or line.endswith((";", "&", "|", "\\", "`")):
                left.append(f"apt's lists stay in line {one.lines[0]}: its end is not understood")
                continue
            last = one.lines[1]
            end = file.text.offset(last, len(file.text.line(last).rstrip()) + 1)
            edits.append(insertion(file.text, end, f" {file.escape}\n    && rm -rf /var/lib/apt/lists/*"))
    return Step(tuple(edits), ("apt's package lists are removed where they are fetched",) if edits else (), tuple(left))


def _words(one: Instruction) -> list[str]:
    return [word for command in one.commands for word in command.arguments]


def pip_mounts(file: Dockerfile, _around: Around) -> Step:
    """A cache mount for each `RUN` that installs with pip as root, in the place of `--no-cache-dir`."""
    edits: list[Edit] = []
    left = []
    for stage in file.stages:
        for one in stage.all_of("RUN"):
            found = [(command, pip) for command in one.commands if (pip := pip_install(command)) and pip.tool == "pip"]
            if not found or one.flags.get("mount"):
                continue
            why = _no_mount(stage, one)
            if why:
                left.append(f"pip in line {one.lines[0]} has no cache mount: {why}")
                continue
            text = file.text
            at = text.offset(one.lines[0], one.span.column + len(one.name))
            edits.append(insertion(text, at, f" --mount=type=cache,target={_PIP_CACHE}"))
            for command, _ in found:
                edits += [word_out(file, word) for word in command.words if word.value == "--no-cache-dir"]
    return Step(tuple(edits), ("pip keeps what it downloads in a cache of the builder",) if edits else (), tuple(left))


def _no_mount(stage: Stage, one: Instruction) -> str:
    if one.json or one.heredocs or not all(placed(one, command) for command in one.commands if command.words):
        return "its words are quoted"
    users = [user for user in stage.inherited("USER") if user.lines < one.lines]
    if (users and users[-1].args != ["root"]) or (not users and not runs_as_root(stage.image)):
        return "it may not run as root"
    said = " ".join(arg for other in stage.inherited("ENV", "ARG") for arg in other.args) + " ".join(one.args)
    if "PIP_NO_CACHE_DIR" in said or "PIP_CACHE_DIR" in said or "--cache-dir" in said or "HOME=" in said:
        return "PIP_NO_CACHE_DIR, PIP_CACHE_DIR or HOME say otherwise"
    if any("cache" in word for word in _words(one) if word != "--no-cache-dir"):
        return "it looks after caches itself"
    return ""


def test_packages(file: Dockerfile, around: Around) -> Step:
    """Packages that only tests or notebooks need are not installed where the image runs."""
    from tidewaiter.lint.dockerfile.rules.python import test_packages as rule  # the same question

    del around
    wanted = {(found.span.line, found.span.column) for found in rule(file)}
    edits: list[Edit] = []
    done, left = [], []
    for one, command, pip in installs(file.runtime):
        odd = [word for word, _ in pip.wanted if file.text.place(word.start) in wanted]
        names = {canonicalize_name(requirement.name): word for word, requirement in pip.wanted if word in odd}
        for name, word in names.items():
            if len(odd) == len(pip.wanted) and not pip.files:
                left.append(f"{name} stays: nothing else is installed by that command")
            elif not placed(one, command) or has_comment(file.text, one):
                left.append(f"{name} stays: its words are quoted, or comments stand between them")
            elif _used(file, one, name):
                left.append(f"{name} stays: another step names it")
            else:
                edits.append(word_out(file, word))
                done.append(f"{name} is not installed where the image runs")
    return Step(tuple(edits), tuple(done), tuple(left))


def _used(file: Dockerfile, install: Instruction, name: str) -> bool:
    return any(
        name in canonicalize_name(" ".join([*one.args, *one.heredocs]))
        for one in file.instructions
        if one is not install and one.name in {"RUN", "CMD", "ENTRYPOINT", "HEALTHCHECK"}
    )
