"""What `pip install` was asked for: its options, requirements and files."""

import re
from functools import lru_cache
from typing import NamedTuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from tidewaiter.lint.shell import Command, Word

_WITH_VALUE = frozenset(
    {
        *("-r", "--requirement", "-c", "--constraint", "-e", "--editable", "-i", "--index-url", "--extra-index-url"),
        *("-f", "--find-links", "-t", "--target", "--prefix", "--root", "--platform", "--python-version", "--abi"),
        *("--implementation", "--proxy", "--retries", "--timeout", "--trusted-host", "--cert", "--client-cert"),
        *("--cache-dir", "--log", "--progress-bar", "--no-binary", "--only-binary", "--src", "--upgrade-strategy"),
        *("--config-settings", "-C", "--global-option", "--report", "--root-user-action", "--use-feature", "--python"),
        *(
            "--use-deprecated",
            "--exists-action",
            "--index",
            "--default-index",
            "--index-strategy",
            "--extra",
            "--group",
        ),
    }
)
_PIP = re.compile(r"pip(?:\d(?:\.\d+)?)?")
_PYTHON = re.compile(r"(?:python|pypy)(?:\d(?:\.\d+)?)?")
_REDIRECTED = re.compile(r"[<>]=?\d[\w.*]*(?:,(?:[<>]=?|[!=~]=)\d[\w.*]*)*")
PINNED = frozenset({"==", "==="})
TOOLS = frozenset({"pip", "setuptools", "wheel", "uv", "pipenv", "poetry"})
"""What installs others: whoever wants the newest of it has reasons."""
FOR_DEVELOPERS = frozenset(
    {
        *("pytest", "pytest-cov", "coverage", "tox", "nox", "hypothesis", "mock", "flake8", "pylint", "black", "ruff"),
        *("mypy", "isort", "autopep8", "yapf", "pre-commit", "ipdb", "sphinx", "twine"),
    }
)
"""What tests, formats, checks or publishes."""
NOT_AT_RUN_TIME = FOR_DEVELOPERS | {"ipython", "ipykernel", "jupyter", "jupyterlab", "notebook", "seaborn"}
"""Besides, what shows notebooks and draws for people."""
_BUILT_FROM_SOURCE = {
    ("tensorflow", "2.15.0", "and-cuda"): (
        "tensorflow[and-cuda]==2.15.0 asks for tensorrt 8.6.1, whose parts have no wheels on PyPI.",
        "tensorflow[and-cuda]==2.15.1",
    ),
    ("wandb", "0.15.0", ""): (
        "wandb==0.15.0 asks for pathtools, which has no wheel and is built from source.",
        "wandb>=0.15.11, pinned",
    ),
}


class PipInstall(NamedTuple):
    """One call of `pip install` (or `uv pip install`)."""

    tool: str
    options: dict[str, list[str]]
    """By name as written; an empty value where there is none."""
    wanted: tuple[tuple[Word, Requirement], ...]
    """Requirements that are named in it."""
    files: tuple[str, ...]
    """Behind `-r` and `--requirement`."""
    local: tuple[Word, ...]
    """Folders, wheels, URLs."""

    def has(self, *names: str) -> bool:
        return any(name in self.options for name in names)


def pip_install(command: Command) -> PipInstall | None:
    """What a command installs with pip; None when it is something else."""
    if not command.program.startswith(("pip", "py", "uv")):
        return None
    names = [word.value for word in command.words]
    at = next((index for index, value in enumerate(names) if value.rpartition("/")[2] == command.program), 0)
    rest = list(command.words[at:])
    tool = "pip"
    if _PYTHON.fullmatch(command.program) and [word.value for word in rest[1:3]] == ["-m", "pip"]:
        rest = rest[2:]
    elif command.program == "uv" and len(rest) > 1 and rest[1].value == "pip":
        rest, tool = rest[1:], "uv"
    elif not _PIP.fullmatch(command.program):
        return None
    words = rest[1:]
    while words and words[0].value.startswith("-"):
        words = words[2 if words[0].value in _WITH_VALUE else 1 :]
    if not words or words[0].value != "install":
        return None
    return _parsed(tool, words[1:])


def _parsed(tool: str, words: list[Word]) -> PipInstall:
    options: dict[str, list[str]] = {}
    wanted: list[tuple[Word, Requirement]] = []
    local: list[Word] = []
    index = 0
    while index < len(words):
        word = words[index]
        index += 1
        if word.value.startswith("-") and word.value != "-":
            name, sign, value = word.value.partition("=")
            if not sign and name in _WITH_VALUE and index < len(words):
                value = words[index].value
                index += 1
            elif not name.startswith("--") and len(name) > 2 and name[:2] in {"-r", "-c", "-e"}:
                name, value = name[:2], name[2:]
            options.setdefault(name, []).append(value)
            continue
        requirement = _requirement(word.value)
        if requirement is None:
            local.append(word)
        else:
            wanted.append((word, requirement))
    files = tuple(options.get("-r", [])) + tuple(options.get("--requirement", []))
    return PipInstall(tool, options, tuple(wanted), files, tuple(local))


@lru_cache(maxsize=1024)  # the same few names stand in most files
def _requirement(text: str) -> Requirement | None:
    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def redirected(text: str, word: Word) -> str:
    """The file that a shell writes to, or reads from, when a requirement's version stands behind it without quotes.

    `pip install numba>=0.57` is `pip install numba` with its output in the file `=0.57`.

    Args:
        text: all of the file that the word stands in.
        word: a requirement, as the shell cuts it.

    Returns:
        The operator and the file, `>=0.57`; empty when nothing is redirected.
    """
    found = None if word.quoted else _REDIRECTED.match(text, word.end)
    return found[0] if found else ""


def lost_to(requirement: Requirement, lost: str) -> str:
    """A sentence about what a shell does with a version that is redirected."""
    if lost[0] == "<":
        return f"The shell looks for a file {lost.lstrip('<')} to read here, and stops when there is none."
    return f"This installs the newest {requirement.name}; {lost} is a file to the shell."


def is_pinned(requirement: Requirement) -> bool:
    """Whether it names one version, or the place that it comes from."""
    if requirement.url:
        return True
    return any(one.operator in PINNED and "*" not in one.version for one in requirement.specifier)


def newest(requirement: Requirement) -> str:
    """A sentence about what is installed for a requirement that is not pinned."""
    what = f"the newest version that {requirement.specifier} lets in" if requirement.specifier else "whatever is newest"
    return f"{requirement.name} is installed as {what}."


def source_build(requirement: Requirement) -> tuple[str, str] | None:
    """Why that version needs a compiler or fails, and what to write instead; None when nothing is known against it."""
    for (name, version, extra), found in _BUILT_FROM_SOURCE.items():
        if canonicalize_name(requirement.name) == name and _names(requirement, version):
            return found if not extra or extra in requirement.extras else None
    return None


def _names(requirement: Requirement, version: str) -> bool:
    for one in requirement.specifier:
        try:
            if one.operator == "==" and Version(one.version) == Version(version):
                return True
        except InvalidVersion:
            continue
    return False
