"""What a project's locks and requirements name: whether a stranger could answer for it, and whether it still stands.

1. A private name is one that a `[[python.indexes]]` has, or that the setting `private_names` calls so.
2. One that was locked from the public index is somebody else's package, whatever it is called: that is critical.
3. One that the public index knows, too, is one wrong option of pip away from that.
4. A version that its index has yanked is there for those who have it, and nobody else should take it.
5. What has no hash, or no lock, is chosen on the day of the build.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import msgspec

from tidewaiter.assembly import simple_index
from tidewaiter.assembly.python_lock import normalised
from tidewaiter.assembly.simple_index import Index
from tidewaiter.core import limits, urls
from tidewaiter.core.project import Project
from tidewaiter.core.settings import Settings
from tidewaiter.lint.requirements import parse
from tidewaiter.lint.text import Text
from tidewaiter.pipelines.static.asking_indexes import Offered, Question, ask
from tidewaiter.pipelines.static.report import Kind, NotChecked, Severity, StaticFinding
from tidewaiter.pipelines.static.sources import Read

_LOCK = re.compile(r"pylock(?:\.[^./]+)?\.toml")
_REQUIREMENTS = re.compile(r"(?:.*[-_.])?requirements(?:[-_.].*)?\.(?:txt|in)", re.IGNORECASE)
_NAME_LINE = re.compile(r"""\s*name\s*=\s*(?P<quote>["'])(?P<name>[^"']{1,200})(?P=quote)""")
_OTHER_LOCKS = frozenset({"uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "conda-lock.yml"})
_PYPI = frozenset({"pypi.org", "files.pythonhosted.org"})


class _File(msgspec.Struct):
    url: str = ""
    path: str = ""
    name: str = ""
    hashes: dict[str, str] = {}

    @property
    def filename(self) -> str:
        return self.name or urls.split(self.url).path.rpartition("/")[2] or self.path.rpartition("/")[2]


class _Vcs(msgspec.Struct, rename="kebab"):
    commit_id: str = ""


class _Package(msgspec.Struct):
    name: str
    version: str = ""
    index: str = ""
    wheels: list[_File] = []
    sdist: _File | None = None
    archive: _File | None = None
    vcs: _Vcs | None = None

    @property
    def files(self) -> list[_File]:
        return [*self.wheels, *(one for one in (self.sdist, self.archive) if one is not None)]


class _Lock(msgspec.Struct):
    packages: list[_Package] = []


class Named(NamedTuple):
    """A package that a file of the project names."""

    name: str
    """Normalised."""
    version: str
    """Empty when any will do."""
    file: str
    line: int
    filenames: tuple[str, ...] = ()
    """What a lock has of it."""
    origin: str = ""
    """Address of the index, where a lock says it."""
    urls: tuple[str, ...] = ()


def reads(filename: str) -> bool:
    """Whether a file of that name is one of locks or requirements."""
    return bool(_LOCK.fullmatch(filename) or _REQUIREMENTS.fullmatch(filename)) or filename in _OTHER_LOCKS


def _below(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def found(
    settings: Settings,
    folder: Path,
    project: Project,
    texts: Sequence[Read],
    unread: list[NotChecked],
    *,
    asks: bool,
) -> Iterator[StaticFinding]:
    """What is wrong with what the files name; what could not be found out joins `unread`.

    Args:
        settings: the indexes, and which names are private.
        folder: what is looked at.
        project: its `[[python.indexes]]` and `[python]`.
        texts: the files that it `reads`.
        unread: what could not be found out.
        asks: whether indexes are asked; without it nothing leaves this machine.
    """
    named: list[Named] = []
    for one in texts:
        filename = one.path.rpartition("/")[2]
        if _LOCK.fullmatch(filename):
            lock = _lock(one, unread)
            named += _named(one, lock)
            yield from _loose(one, lock)
        elif _REQUIREMENTS.fullmatch(filename):
            named += _required(one)
        elif filename in _OTHER_LOCKS:
            unread.append(NotChecked(one.path, "of locks only pylock.toml and requirements files are read"))
    if project.file.python is not None and not project.python_lock.exists():
        yield _finding(
            "no-lock",
            "medium",
            (_below(folder, project.requirements), 0),
            "There is no pylock.toml beside the requirements: what is built is chosen on the day of the build.",
            "Run `tidewaiter lock` and commit what it writes.",
        )
    private = _Private(settings, project)
    yield from _locked_from_public(private, named)
    questions = private.questions(named)
    if not asks:
        if questions:
            unread.append(NotChecked("package indexes", "they were not to be asked"))
        return
    if not private.asked and any(one.private for one in questions):
        unread.append(NotChecked("private names on the public index", "the setting private_names_asked says no"))
        questions = [one for one in questions if not one.private]
    answers = ask(settings, questions, unread)
    yield from _known_publicly(private, named, answers, _below(folder, project.path))
    yield from _yanked(private, named, answers)


# What the files say


def _lock(one: Read, unread: list[NotChecked]) -> _Lock:
    try:
        lock = msgspec.convert(tomllib.loads(one.content), _Lock)
    except (ValueError, RecursionError) as error:
        unread.append(NotChecked(one.path, f"it is no lock (PEP 751): {str(error)[:200]}"))
        return _Lock()
    if len(lock.packages) > limits.STATIC_PACKAGES:
        unread.append(NotChecked(one.path, f"it has over {limits.STATIC_PACKAGES} packages"))
        return _Lock()
    return lock


def _lines(one: Read) -> dict[str, int]:
    """In which line of a lock a package is named first."""
    found: dict[str, int] = {}
    for number, line in enumerate(Text(one.path, one.content).lines, 1):
        if match := _NAME_LINE.match(line):
            found.setdefault(match["name"], number)
    return found


def _named(one: Read, lock: _Lock) -> Iterator[Named]:
    lines = _lines(one)
    for package in lock.packages:
        yield Named(
            name=normalised(package.name),
            version=package.version,
            file=one.path,
            line=lines.get(package.name, 0),
            filenames=tuple(file.filename for file in package.files),
            origin=package.index,
            urls=tuple(file.url for file in package.files if file.url),
        )


def _required(one: Read) -> Iterator[Named]:
    for line in parse.parse(Text(one.path, one.content)).lines:
        if line.requirement is None or line.requirement.url:
            continue
        pins = [spec.version for spec in line.requirement.specifier if spec.operator in {"==", "==="}]
        version = pins[0] if len(pins) == 1 and not pins[0].endswith("*") else ""
        yield Named(normalised(line.requirement.name), version, one.path, line.span.line)


def _loose(one: Read, lock: _Lock) -> Iterator[StaticFinding]:
    """Packages of a lock that are not bound to bytes."""
    lines = _lines(one)
    for package in lock.packages:
        bare = [file.filename for file in package.files if not file.path and not file.hashes]
        if bare or (package.vcs is not None and not re.fullmatch(r"[0-9a-f]{40,64}", package.vcs.commit_id)):
            what = (
                f"{bare[0]} has no hash" if bare else f"{package.name} comes from a repository, and no commit is named"
            )
            yield _finding(
                "no-hash",
                "medium",
                (one.path, lines.get(package.name, 0)),
                f"{what}: whatever is there is installed.",
                "Lock again with a tool that writes hashes: `tidewaiter lock`.",
            )


def _finding(rule: str, severity: Severity, place: tuple[str, int], message: str, remedy: str) -> StaticFinding:
    kind: Kind = "confusion" if rule in {"locked-from-public", "known-publicly", "no-index"} else "dependencies"
    return StaticFinding(
        tool="tidewaiter",
        kind=kind,
        rule=f"{kind}/{rule}",
        severity=severity,
        file=place[0],
        line=place[1],
        column=1,
        message=message,
        remedy=remedy,
    )


# Private names


def _origin(url: str) -> str:
    return (urls.split(url).netloc.rpartition("@")[2]).lower()


class _Private:
    """Which names are private, and where they come from (step 1)."""

    def __init__(self, settings: Settings, project: Project) -> None:
        sections = () if project.file.python is None else project.file.python.indexes
        self._patterns = tuple(normalised(one) for one in settings.private_names)
        self.asked = settings.private_names_asked
        self.routes: dict[str, Index] = simple_index.routes(sections, settings)
        self.public = simple_index.public(settings)
        self.mirror = simple_index.mirror(settings)

    def is_private(self, name: str) -> bool:
        return name in self.routes or any(fnmatchcase(name, pattern) for pattern in self._patterns)

    def is_public(self, url: str) -> bool:
        """Whether that lies where everybody may upload."""
        hosts = {_origin(self.public.url), *_PYPI} | ({_origin(self.mirror.url)} if self.mirror else set())
        return _origin(url) in hosts - {_origin(one.url) for one in self.routes.values()}

    def index_of(self, name: str) -> Index | None:
        """Where its releases are looked up; None for a private name that no index is named for."""
        return self.routes.get(name) or (None if self.is_private(name) else self.mirror or self.public)

    def questions(self, named: Iterable[Named]) -> list[Question]:
        """What the indexes are asked, each once."""
        asked: dict[tuple[str, str], Question] = {}
        for one in named:
            index = self.index_of(one.name)
            if index is not None and one.version:
                asked[index.url, one.name] = Question(index, one.name, private=False)
        shared = {_origin(self.public.url)} & {_origin(one.url) for one in self.routes.values()}
        for name in {*self.routes, *(one.name for one in named if self.is_private(one.name))} if not shared else ():
            asked[self.public.url, name] = Question(self.public, name, private=True)
        return [asked[key] for key in sorted(asked)]


def _locked_from_public(private: _Private, named: Iterable[Named]) -> Iterator[StaticFinding]:
    """Step 2."""
    for one in named:
        if not private.is_private(one.name):
            continue
        route = private.routes.get(one.name)
        elsewhere = bool(route and one.origin) and _origin(one.origin) != _origin(route.url if route else "")
        if one.filenames and (elsewhere or any(map(private.is_public, (one.origin, *one.urls)))):
            yield _finding(
                "locked-from-public",
                "critical",
                (one.file, one.line),
                f"{one.name} is private, and the lock has it from {_origin(one.origin or one.urls[0])}.",
                "Find out who uploaded that, name the package in [[python.indexes]], and lock again.",
            )
        elif route is None and not one.filenames:
            yield _finding(
                "no-index",
                "high",
                (one.file, one.line),
                f"{one.name} is private by the setting private_names, and no [[python.indexes]] names it: it would be"
                " asked for at the public index.",
                "Name it in the packages of its index.",
            )


def _known_publicly(
    private: _Private, named: Sequence[Named], answers: dict[tuple[str, str], Offered], file_of_project: str
) -> Iterator[StaticFinding]:
    """Step 3."""
    places = {one.name: (one.file, one.line) for one in reversed(named)}
    for name in sorted({*private.routes, *places}):
        said = answers.get((private.public.url, name))
        if private.is_private(name) and said is not None and said.known:
            file, line = places.get(name, (file_of_project, 0))
            yield _finding(
                "known-publicly",
                "high",
                (file, line),
                f"{name} is private, and {_origin(private.public.url)} has a package of that name, too.",
                "Register the name there yourself, or rename the package: an install without your index takes theirs.",
            )


def _yanked(
    private: _Private, named: Iterable[Named], answers: dict[tuple[str, str], Offered]
) -> Iterator[StaticFinding]:
    """Step 4."""
    for one in dict.fromkeys(named):
        index = private.index_of(one.name)
        said = answers.get((index.url, one.name)) if index is not None else None
        if said is None or not one.version:
            continue
        reason = said.yanked_reason(one.version, one.filenames)
        if reason is not None:
            why = f": {reason[:200].rstrip('. ')}" if reason else ", and nobody says why"
            yield _finding(
                "yanked",
                "medium",
                (one.file, one.line),
                f"{one.name} {one.version} was yanked by who released it{why}.",
                "Take another version, and lock again.",
            )
