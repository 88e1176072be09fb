"""`.dockerignore`, from what lies in the folder: what no image needs, and nothing that a step or a program names."""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tidewaiter.core import limits
from tidewaiter.lint import files
from tidewaiter.lint.dockerfile.parse import Dockerfile

NAME = ".dockerignore"
_ALWAYS = (".git", ".gitignore", ".dockerignore", "**/__pycache__", "**/*.pyc")
_IF_THERE = (
    *(".hg", ".svn", ".github", ".gitlab-ci.yml", ".venv", "venv", ".tox", ".nox", "node_modules", ".idea", ".vscode"),
    *(".mypy_cache", ".ruff_cache", ".pytest_cache", ".ipynb_checkpoints", ".coverage", "htmlcov", ".DS_Store"),
)
_SECRETS = (".env", ".netrc", ".pypirc", ".aws", ".ssh", ".kube", "id_rsa", "id_ed25519", "credentials.json")
_HEAVY = (
    *("data", "datasets", "dataset", "checkpoints", "ckpt", "logs", "runs", "wandb", "mlruns", "outputs", "notebooks"),
    *("models", "saved_models", "artifacts", "tests", "test"),
)
"""Left out when nothing names them."""
_READS = re.compile(r".*\.(?:py|sh|toml|cfg|ini|ya?ml|json|txt|ipynb)|[^.]*", re.IGNORECASE)
_VERSION_FROM_GIT = re.compile(r"setuptools[-_]scm|hatch-vcs|versioneer|git (?:describe|rev-parse|log)|pbr\b")
_KEPT_FILES = 2000
"""Files that are looked through for names."""


class Ignoring(msgspec.Struct, frozen=True):
    """What would be written, and why lines are or are not in it."""

    content: str
    left: tuple[str, ...]


def propose(folder: Path, file: Dockerfile) -> Ignoring:
    """What `folder`, the build context, should not send to the builder."""
    said = "\n".join(
        " ".join([*one.args, *one.heredocs, *(value for values in one.flags.values() for value in values)])
        for one in file.instructions
    )
    words = said + "\n" + "\n".join(_texts(folder))
    names = sorted(path.name for path in folder.iterdir())
    lines, left = [], []
    reads_git = re.search(r"(?<![\w.])\.git\b", said) or _VERSION_FROM_GIT.search(words)
    for name in _ALWAYS:
        if name.startswith(".git") and reads_git:
            left.append(f"{name} stays: a step reads it")
        else:
            lines.append(name)
    lines += [name for name in _IF_THERE if name in names and not _named(name, said)]
    for name in names:
        if name in _SECRETS or re.fullmatch(r"\.env\.\w+|.*\.(?:pem|p12|pfx)", name):
            lines.append(name)
            if _named(name, said):
                left.append(f"{name} is left out of the context and a step copies it: mount it as a secret")
    for name in _HEAVY:
        if name not in names or not (folder / name).is_dir():
            continue
        if _named(name, words):
            left.append(f"{name}/ stays: a step or a program names it")
        else:
            lines.append(name)
    return Ignoring("".join(f"{line}\n" for line in dict.fromkeys(lines)), tuple(left))


def entries(folder: Path) -> tuple[str, ...]:
    """What lies in `folder` and belongs to a program: no hidden files, caches, data, Dockerfiles or requirements."""
    out = {*_IF_THERE, *_HEAVY, *_SECRETS, "__pycache__", "tidewaiter.toml", "pylock.toml", "base.lock"}
    odd = re.compile(r"\..*|.*[Dd]ockerfile.*|requirements.*|constraints.*|docker-compose.*")
    return tuple(sorted(one.name for one in folder.iterdir() if one.name not in out and not odd.fullmatch(one.name)))


def _named(name: str, said: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", said) is not None


def _texts(folder: Path) -> Iterator[str]:
    """The texts of programs and settings below the folder, but not of what would be left out."""
    out = {*_IF_THERE, *_HEAVY, ".git"}
    todo, count = [folder], 0
    while todo:
        for path in sorted(todo.pop().iterdir()):
            if path.is_symlink() or path.name in out:
                continue
            if path.is_dir():
                todo.append(path)
            elif path.is_file() and _READS.fullmatch(path.name) and path.stat().st_size <= limits.LINTED_BYTES:
                count += 1
                if count > _KEPT_FILES:
                    yield " ".join(_HEAVY)  # too many to know: all of them may be named
                    return
                yield files.read(path) or ""


def context(dockerfile: Path, file: Dockerfile) -> Path | None:
    """The folder that the Dockerfile is built in: the first, its own or above, that has all that it copies.

    None when none has, or when nothing is copied that could tell.
    """
    sources = [
        one.expand(source)
        for one in file.instructions
        if one.name in {"COPY", "ADD"} and not one.flags.get("from")
        for source in one.args[:-1]
        if "://" not in source and not source.startswith("<<")
    ]
    named = [source.lstrip("/") for source in sources if not re.search(r"[*?\[$]", source)]
    folder = dockerfile.resolve().parent
    tried = [folder] if any(source in {".", "./"} for source in sources) else [folder, *list(folder.parents)[:3]]
    if not sources or any(part == ".." for source in named for part in source.split("/")):
        return None
    return next((one for one in tried if all((one / source).exists() for source in named)), None)
