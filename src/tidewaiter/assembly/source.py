"""Which commit a project is built from, and whether its inputs are those of the commit."""

import hashlib
import os
import re
import stat
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from tidewaiter.core import limits, settings
from tidewaiter.core.errors import DeadlineError, InputError, IntegrityError, MissingToolError, ProjectError
from tidewaiter.core.project import Project

_SECONDS = 60
_CHUNK = 1 << 20
_SUBMODULE = "160000"
_STAGED = ("ls-files", "-z", "--stage")
_BRANCHES = "refs/heads/"
_STATUS = (
    *("status", "--porcelain=v2", "--branch", "--no-ahead-behind", "-z"),
    *("--ignore-submodules=none", "--no-renames"),
)
_BEFORE_PATH = {"1": 8, "u": 10, "?": 1}
"""Words before the path in a line of `_STATUS`, by its kind."""
# A repository's own configuration must not run programs of its choice.
_SAFE = (
    *("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.untrackedCache=false"),
    *("-c", "log.showSignature=false"),
)
# A path of the project file means that path, never a pattern; a commit is the one that its ID hashes.
_LITERAL = {"GIT_LITERAL_PATHSPECS": "1", "GIT_NO_REPLACE_OBJECTS": "1", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
IGNORED_NAMES = frozenset({".git", "__pycache__", ".DS_Store"})
"""Names below `include` that never enter an image."""


class Source(msgspec.Struct, frozen=True):
    """Where the inputs come from. All from `branch` on is for the record, never for the image's content."""

    commit: str
    """Full hexadecimal commit ID."""
    committed: int
    """Unix time of the commit in seconds."""
    dirty: bool
    branch: str
    remote: str
    """URL of `origin` without user and password; empty when there is none."""
    author: str = ""
    """Name of whoever wrote the commit, as it says itself."""
    run: Mapping[str, str] = {}
    """What the CI says of the job that builds: a claim, by name."""
    folder: str = "."
    """Where the project lies in its repository."""
    submodules: bool = False
    """Whether files of submodules are among the inputs; not said of inputs that differ from the commit."""
    lfs: bool = False
    """Whether files are among the inputs of which the commit holds pointers of Git LFS; said as `submodules` is."""

    def tag_for(self, architecture: str) -> str:
        """Tag of the image: 12 digits of the commit, the architecture unless it is amd64, `-dirty` if inputs differ."""
        return (
            self.commit[:12]
            + ("" if architecture == "amd64" else f"-{architecture}")
            + ("-dirty" if self.dirty else "")
        )


class _Held(msgspec.Struct, frozen=True):
    """What was found out about inputs that lie beside what the commit holds of them."""

    dirty: bool = False
    submodules: bool = False
    lfs: bool = False


_DIFFERS = _Held(dirty=True)


class _Answer(msgspec.Struct, frozen=True):
    """What one git command printed; `refused` when it ended badly."""

    text: str
    refused: subprocess.CalledProcessError | None

    @property
    def required(self) -> str:
        """The text; raises `CalledProcessError` when git refused."""
        if self.refused is not None:
            raise self.refused
        return self.text

    @property
    def first(self) -> str:
        """First line, empty when git refused."""
        return "" if self.refused is not None else self.text.strip().partition("\n")[0]


class _Asked:
    """Commands of git that run."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.running: list[subprocess.Popen[bytes]] = []
        self.ended = False

    def answers(self) -> list[_Answer]:
        """What they printed, when they have ended; raises `DeadlineError`."""
        return _answers(self._directory, self.running)

    def end(self) -> None:
        """Nobody wants to know any more."""
        self.ended = True
        for process in self.running:
            process.kill()  # does nothing to those that have ended


@contextmanager
def _asking(directory: Path, *commands: Sequence[str]) -> Iterator[_Asked]:
    """Ask git `commands`, which run at the same time and beside the block.

    Raises:
        MissingToolError: git is not installed.
        DeadlineError: it took too long once it was waited for.
    """
    environment = {**settings.tool_environment(), **_LITERAL}
    asked = _Asked(directory)
    with ExitStack() as stack:
        try:
            for command in commands:
                line = ["git", *_SAFE, "-C", str(directory), *command]
                try:
                    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
                except FileNotFoundError as error:
                    raise MissingToolError(
                        "git is not installed", next_step="Install git, then run the command again."
                    ) from error
                asked.running.append(stack.enter_context(process))
            yield asked
        finally:
            asked.end()


def _answers(directory: Path, running: Sequence["subprocess.Popen[bytes]"]) -> list[_Answer]:
    deadline = time.monotonic() + _SECONDS
    answers = []
    try:
        for process in running:
            out, errors = process.communicate(timeout=max(0.0, deadline - time.monotonic()))
            refused = None
            if process.returncode:
                refused = subprocess.CalledProcessError(process.returncode, process.args, out, errors)
            answers.append(_Answer(out.decode(errors="surrogateescape"), refused))
    except subprocess.TimeoutExpired as error:
        raise DeadlineError(
            f"git took over {_SECONDS} s in {directory}", next_step="Look for a hanging file system or a huge tree."
        ) from error
    return answers


def _ask(directory: Path, *commands: Sequence[str]) -> list[_Answer]:
    """What git answers to each of `commands`, which run at the same time; errors as in `_asking`."""
    with _asking(directory, *commands) as asked:
        return asked.answers()


def _git(directory: Path, *arguments: str) -> str:
    """What git answers; raises `CalledProcessError`, otherwise as `_ask`."""
    return _ask(directory, arguments)[0].required


def _without_credentials(url: str) -> str:
    # Up to the last `@` before the path: a password may hold one itself.
    return re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/?#]*@", r"\1", url)


def _name(text: str) -> str:
    """A person's name as Git prints it, without what cannot be shown; at most `limits.AUTHOR_CHARACTERS`."""
    return "".join(one for one in text if one.isprintable())[: limits.AUTHOR_CHARACTERS]


def walk(start: Path) -> Iterator[Path]:
    """Every file, link and other thing at or below `start`, by bytes of the name, but what never enters an image."""
    if not start.is_symlink() and start.is_dir():
        try:
            children = sorted(start.iterdir(), key=lambda path: os.fsencode(path.name))
        except OSError as error:
            raise InputError(f"{start} cannot be read: {error.strerror}", next_step="Mend its permissions.") from error
        for child in children:
            if child.name not in IGNORED_NAMES and child.suffix != ".pyc":
                yield from walk(child)
    else:
        yield start


def included(project: Project) -> Iterator[Path]:
    """Every file and link below `[app] include`; a name that does not exist is given as it is."""
    for name in project.file.app.include:
        yield from walk(project.directory / name)


def _folders(project: Project) -> list[str]:
    """The app, and models whose content the project file does not pin itself."""
    return [*project.file.app.include, *(model.path for model in project.file.models if model.digest is None)]


def _inputs(project: Project) -> list[Path]:
    """The files that decide what the image contains, besides those of the app."""
    python = [] if project.file.python is None else [project.requirements, project.python_lock]
    build = [] if project.file.build is None else [project.directory / project.file.build.dockerfile]
    # Locks for other architectures count when they are there.
    others = sorted(project.directory.glob("base.*.lock"))
    if python:
        others += sorted(project.requirements.parent.glob("pylock.*.toml"))
    return [project.path, *python, project.base_lock, *others, *build]


def tracked(project: Project, names: Sequence[str], listed: str | None = None) -> dict[str, tuple[str, str]]:
    """Mode and object ID by path (from the project's folder) of what Git's index holds below `names`.

    `listed` is what git said to the question, when it was asked already.
    """

    def entries(listed: str) -> list[tuple[str, str, str]]:
        fields = (record.partition("\t")[::2] for record in listed.split("\0") if record)
        return [(path, about.split(" ")[0], about.split(" ")[1]) for about, path in fields]

    found = entries(_git(project.directory, *_STAGED, "--", *names) if listed is None else listed)
    if any(mode == _SUBMODULE for _, mode, _ in found):
        found = entries(_git(project.directory, *_STAGED, "--recurse-submodules", "--", *names))
    return {path: (mode, name) for path, mode, name in found}


def would_track(directory: Path) -> list[str] | None:
    """Paths (from `directory`) that Git tracks below it, or would add; None when it is in no repository."""
    try:
        listed = _git(directory, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    except subprocess.CalledProcessError:
        return None
    return [path for path in listed.split("\0") if path]


def object_of(path: Path, algorithm: str) -> tuple[str, str]:
    """Mode and object ID that Git would give the file as it lies there, unfiltered; raises `OSError`."""
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        target = os.fsencode(path.readlink())
        return "120000", hashlib.new(algorithm, b"blob %d\0%s" % (len(target), target)).hexdigest()
    found = hashlib.new(algorithm, b"blob %d\0" % status.st_size)
    with path.open("rb") as content:
        while data := content.read(_CHUNK):
            found.update(data)
    return "100755" if status.st_mode & stat.S_IXUSR else "100644", found.hexdigest()


def is_held(path: Path, held: tuple[str, str], algorithm: str) -> bool:
    """Whether the file is, mode and all, what Git holds: the file itself, or the pointer of Git LFS to it."""
    return _held_as(path, held, algorithm) is not None


def _held_as(path: Path, held: tuple[str, str], algorithm: str) -> str | None:
    """`file` or `pointer`, as which Git holds the file; None when it holds something else. Raises `OSError`."""
    found = object_of(path, algorithm)
    if found == held:
        return "file"
    if stat.S_ISLNK(path.lstat().st_mode):
        return None
    with path.open("rb") as content:
        oid = hashlib.file_digest(content, "sha256").hexdigest()
    # The canonical form that the specification of pointers asks for: it pins every byte of the file.
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:%b\nsize %d\n" % (
        oid.encode(),
        path.stat().st_size,
    )
    named = (found[0], hashlib.new(algorithm, b"blob %d\0%b" % (len(pointer), pointer)).hexdigest())
    return "pointer" if named == held else None


def _context_held(project: Project, context: str, algorithm: str) -> _Held:
    """How what Git tracks in the context of a Dockerfile lies beside what the commit holds; raises `OSError`.

    Nothing else reaches the builder, so untracked files do not count.
    """
    if _changed(_git(project.directory, *_STATUS, "--untracked-files=no", "--", context)):
        return _DIFFERS
    listed = _git(project.directory, *_STAGED, "--", context)
    files = {project.directory / path: known for path, known in tracked(project, [context], listed).items()}
    return _files_held(files, algorithm, submodules=_has_submodule(listed))


def _has_submodule(listed: str) -> bool:
    """Whether what `_STAGED` lists has a submodule in it."""
    return any(record.startswith(_SUBMODULE) for record in listed.split("\0"))


def _files_held(files: Mapping[Path, tuple[str, str]], algorithm: str, *, submodules: bool) -> _Held:
    """The same of single files, of which `submodules` says whether some are in one; raises `OSError`."""
    lfs = False
    for path, known in files.items():
        how = _held_as(path, known, algorithm)
        if how is None:
            return _DIFFERS
        lfs = lfs or how == "pointer"
    return _Held(submodules=submodules, lfs=lfs)


def _at(status: str) -> str:
    """The commit that `_STATUS` compared with; empty when there is none."""
    return next((one.rpartition(" ")[2] for one in status.split("\0") if one.startswith("# branch.oid ")), "")


def _changed(status: str) -> list[str]:
    """Paths that `_STATUS` lists, from the root of the repository."""
    found = []
    for record in status.split("\0"):
        kind, _, _ = record.partition(" ")
        if record and kind != "#":
            found.append(record.split(" ", _BEFORE_PATH.get(kind, 0))[-1])
    return found


def _asked(project: Project) -> list[str]:
    """What Git is asked about: everything that the image depends on."""
    return [str(path.relative_to(project.directory)) for path in _inputs(project)] + _folders(project)


def _held(project: Project, commit: str, names: Sequence[str], status: str, listed: str) -> _Held:
    """Whether an input is not, to the byte and to the executable bit, what the commit holds; and how it holds it.

    `status` and `listed` are what Git says of the inputs, of which it was asked by `names`.

    `git status` alone would not do: it trusts what it was told to overlook (assumed-unchanged and sparse paths,
    ignored modes, ignored files of submodules), and takes a file for unchanged that a filter or another line
    ending made differ, so that one commit would give two images.
    """
    if any(not set(Path(path).parts) & IGNORED_NAMES for path in _changed(status)):
        return _DIFFERS
    folders = (path for name in _folders(project) for path in walk(project.directory / name))
    here = {path for path in (*_inputs(project), *folders) if path.is_symlink() or path.exists()}
    known = {
        path: held
        for path, held in tracked(project, names, listed).items()
        if not set(Path(path).parts) & IGNORED_NAMES and not any(part.endswith(".pyc") for part in Path(path).parts)
    }
    if {str(path.relative_to(project.directory)) for path in here} != set(known):
        return _DIFFERS
    algorithm = "sha1" if len(commit) == 40 else "sha256"
    files = {path: known[str(path.relative_to(project.directory))] for path in here}
    try:
        found = _files_held(files, algorithm, submodules=_has_submodule(listed))
        if found.dirty:
            return found
        build = project.file.build
        whole = "." if project.file.app.package else ""  # the project's own wheel is made of all that Git tracks
        context = whole or ("" if build is None else build.context)
        if not context:
            return found
        around = _context_held(project, context, algorithm)
        return _Held(around.dirty, found.submodules or around.submodules, found.lfs or around.lfs)
    except OSError:
        return _DIFFERS  # gone or unreadable meanwhile: it is not what the commit holds


def _require_repository(directory: Path) -> None:
    """Raise when Git has no work tree there, or does not trust it."""
    try:
        _git(directory, "rev-parse", "--show-toplevel")
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip()
        if "dubious ownership" in reason:
            raise InputError(
                f"git does not trust {directory}: it belongs to another user",
                next_step=f"Run `git config --global --add safe.directory {directory}` if you trust it.",
            ) from error
        raise ProjectError(
            f"{directory} is not in a Git repository, and an image is named after its commit",
            next_step="Run `git init && git add . && git commit -m 'first'` there, then build again.",
        ) from error


def moved(directory: Path) -> IntegrityError:
    """The project was not one commit for long enough."""
    return IntegrityError(
        f"{directory} changed while it was read", next_step="Let the checkout finish, then build again."
    )


def read(project: Project) -> Source:
    """The commit that `project` is at; errors as in `reading`."""
    with reading(project) as found:
        return found()


class Look:
    """What Git is asked of a project while something else is done. Called, it waits for the answer, or raises."""

    def __init__(self, project: Project, asked: _Asked, names: Sequence[str], first: "Look | None") -> None:
        self._project = project
        self._asked = asked
        self._first = first
        self._failed: BaseException | None = None
        self._source: Source | None = None
        self.names = names
        self.listed = ""
        """What the index held of the inputs."""
        self._looking = threading.Thread(target=self._look, name="git")
        self._looking.start()

    def __call__(self) -> Source:
        self.end()
        if self._failed is not None:
            raise self._failed
        assert self._source is not None  # noqa: S101  # whoever breaks a look off asks no more
        return self._source

    def end(self) -> None:
        """Wait until nobody looks any more."""
        self._looking.join()

    def _look(self) -> None:
        try:
            answers = self._asked.answers()
            if self._asked.ended:
                return  # what Git says of a question that was broken off would make us ask it why
            if self._first is None:
                self.listed, self._source = answers[2].text, _source(self._project, answers)
            else:
                self.listed, self._source = self._first.listed, self._again(self._first, answers[0].required)
        except BaseException as error:  # noqa: BLE001  # raised where the answer is waited for
            self._failed = error

    def _again(self, first: "Look", status: str) -> Source:
        """What was found first, with the commit as it is now, and the files as they lie beside what that held."""
        before, commit = first(), _at(status)
        if before.dirty or commit != before.commit:
            return msgspec.structs.replace(before, commit=commit)
        held = _held(self._project, commit, self.names, status, first.listed)
        return msgspec.structs.replace(before, dirty=held.dirty, submodules=held.submodules, lfs=held.lfs)


@contextmanager
def reading(project: Project, first: Look | None = None) -> Iterator[Look]:
    """Ask Git which commit `project` is at, while the block does something else; what is yielded waits for the answer.

    Files are compared as soon as Git has answered, whenever that is waited for.
    After a `first` look Git says only which commit it is by now, and what differs from it; files are compared with what
    the index held then.

    Raises:
        ProjectError: the folder is in no Git repository, or the repository has no commit.
        IntegrityError: it came to another commit while Git was asked.
    """
    names = _asked(project) if first is None else first.names
    commands: list[Sequence[str]] = [(*_STATUS, "--", *names)]
    if first is None:
        commands += [
            ("log", "-1", "--format=%H %ct %an", "HEAD"),
            (*_STAGED, "--", *names),
            ("rev-parse", "--show-prefix", "--symbolic-full-name", "HEAD"),
            ("config", "--get", "remote.origin.url"),
        ]
    with _asking(project.directory, *commands) as asked:
        look = Look(project, asked, names, first)
        try:
            yield look
        except BaseException:
            asked.end()  # whoever was interrupted, or failed, does not wait for a Git that hangs
            raise
        finally:
            look.end()


def _source(project: Project, answers: Sequence[_Answer]) -> Source:
    """What Git's answers to the questions of a first look say, beside the files as they lie there now."""
    directory = project.directory
    status, head, listed, place, remote = answers
    commit, committed, author = (*head.first.split(" ", 2), "", "")[:3]
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", commit):
        _require_repository(directory)
        raise ProjectError(
            f"the Git repository of {directory} has no commit yet",
            next_step="Commit the project, then build again.",
        )
    if not status.refused and _at(status.text) != commit:
        raise moved(directory)
    try:
        held = _held(project, commit, _asked(project), status.required, listed.required)
    except subprocess.CalledProcessError:
        _require_repository(directory)  # a bare one has commits, but no files
        raise
    folder, _, named = place.text.removesuffix("\n").rpartition("\n")
    return Source(
        commit=commit,
        committed=int(committed),
        dirty=held.dirty,
        branch=named.removeprefix(_BRANCHES) if named.startswith(_BRANCHES) else "",
        remote=_without_credentials(remote.first),
        author=_name(author),
        folder=folder.rstrip("/") or ".",
        submodules=held.submodules,
        lfs=held.lfs,
    )
