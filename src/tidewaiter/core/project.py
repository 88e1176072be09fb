"""`tidewaiter.toml`: what a project says about its image. Every error names file, line and the nearest valid key."""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from tidewaiter.core import environments, limits
from tidewaiter.core.errors import InputError, ProjectError
from tidewaiter.core.files import open_regular

FILE_NAME = "tidewaiter.toml"

Environment = environments.Environment
Purpose = Literal["training", "serving", "notebook", "base"]
# distribution-spec, repository name grammar
_REPOSITORY = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
_INDEX = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?"
_INDEX_URL = r"https?://[^\s/?#@\\]+(?:/[^\s?#\\]*)?"
# Core metadata, Name
_PACKAGE = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,198}[A-Za-z0-9])?"
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]{0,199}"
_STAGE = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}"
_PYTHON = r"3\.\d{1,2}"
_SHA256 = r"sha256:[0-9a-f]{64}"
_STATIC = (
    r"(?:(?:lint|secrets|confusion|dependencies):)?(?:critical|high|medium|low|info)"
    r"|lint|secrets|confusion|dependencies"
)
_LOGIN = r"https?://[^/?#]*@|[A-Za-z][A-Za-z0-9+.-]*://[^/?#@]*:[^/?#]*@"
_USER = r"(?:\d{1,10}|[a-z_][a-z0-9_-]{0,31})(?::(?:\d{1,10}|[a-z_][a-z0-9_-]{0,31}))?"


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class ImageSection(_Section, frozen=True):
    """`[image]`: name in the registry, what it is for, and the policy environment it must satisfy."""

    name: str
    purpose: Purpose
    environment: Environment
    source: str | None = None
    """URL of the source repository, for `org.opencontainers.image.source`."""


class TakeSection(_Section, frozen=True):
    """`[[base.take]]`: files of another image (by digest), put onto the base with the libraries that they need."""

    image: str
    paths: tuple[str, ...]


class BaseSection(_Section, frozen=True):
    """`[base]`: a recipe's name, or an image by digest (`docker://HOST/REPO@sha256:…`)."""

    use: str
    take: tuple[TakeSection, ...] = ()

    @property
    def is_image(self) -> bool:
        """Whether `use` names an image; names of recipes have no colon."""
        return ":" in self.use


class IndexSection(_Section, frozen=True):
    """`[[python.indexes]]`: where the named packages come from, and nothing else; credentials lie elsewhere."""

    name: str
    url: str
    packages: tuple[str, ...]


class PythonSection(_Section, frozen=True):
    """`[python]`: minor version of the base's interpreter, and the requirements that are locked."""

    version: str
    requirements: str
    indexes: tuple[IndexSection, ...] = ()
    build: tuple[str, ...] = ()
    """Packages that may be built from their source distribution; nothing else is."""


class SystemSection(_Section, frozen=True):
    """`[system]`: further Debian packages, locked in `base.lock` beside those of the recipe."""

    packages: tuple[str, ...]


class AppSection(_Section, frozen=True):
    """`[app]`: files and folders (relative to the project) that go to `/app`, and what the image runs."""

    include: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    package: bool = False
    """Whether the project's own wheel is built and installed."""
    user: str | None = None
    """`UID`, `UID:GID` or a name of the base; the base's own user when nothing is said."""


class ModelSection(_Section, frozen=True):
    """`[[models]]`: a SavedModel folder (relative to the project) that goes to `/models/NAME/VERSION`, a layer each."""

    name: str
    path: str
    version: int = 1
    digest: str | None = None
    """Content digest of the model, for one that is not in Git; the build refuses another content."""


class BuildSection(_Section, frozen=True):
    """`[build]`: a Dockerfile whose result stands in the place of a base, built by BuildKit or buildah."""

    dockerfile: str
    context: str = "."
    target: str | None = None
    arguments: dict[str, str] = {}
    secrets: dict[str, str] = {}
    """By the ID of `RUN --mount=type=secret`, the environment variable of the builder that holds the value."""


class LintIgnore(_Section, frozen=True):
    """`[[lint.ignore]]`: a rule (or a pattern of rules, `dockerfile/*`) that is left as it is, and why."""

    rule: str
    reason: Annotated[str, msgspec.Meta(min_length=1)]
    paths: tuple[str, ...] = ()
    """Patterns of paths; everywhere when there are none."""


class LintSection(_Section, frozen=True):
    """`[lint]`: what `tidewaiter lint` leaves out, and how bad a rule is here."""

    exclude: tuple[str, ...] = ()
    """Patterns of paths below the folders that are looked at."""
    ignore: tuple[LintIgnore, ...] = ()
    severity: dict[str, Literal["error", "warning", "info", "off"]] = {}
    """By rule."""
    smoke: str = ""
    """What `--prove` runs in both images when `--smoke` says nothing."""
    taints: tuple[str, ...] | None = None
    """Keys of the taints of the cluster's GPU nodes; none when the list is empty, unknown without it."""


class StaticSection(_Section, frozen=True):
    """`[static]`: which findings of the analysis stop a build, and which are left as they are."""

    fail_on: tuple[str, ...] = ("secrets:high", "confusion", "critical")
    """Each a kind, a severity, or both as `KIND:SEVERITY`."""
    ignore: tuple[LintIgnore, ...] = ()


class ProjectFile(_Section, frozen=True):
    """The whole of `tidewaiter.toml`."""

    image: ImageSection
    base: BaseSection | None = None
    python: PythonSection | None = None
    system: SystemSection | None = None
    app: AppSection = AppSection()
    models: tuple[ModelSection, ...] = ()
    build: BuildSection | None = None
    lint: LintSection = LintSection()
    static: StaticSection = StaticSection()


class Project(msgspec.Struct, frozen=True):
    """A project folder and what its file says."""

    directory: Path
    file: ProjectFile

    @property
    def path(self) -> Path:
        return self.directory / FILE_NAME

    @property
    def base(self) -> BaseSection:
        """`[base]`; raises `ProjectError` when the project has none, as with a Dockerfile."""
        if self.file.build is not None:
            raise ProjectError(
                f"{self.path}: [build] stands in the place of [base], so there is nothing to lock or to look up",
                next_step="Run `tidewaiter build PROJECT`; images of the Dockerfile are pinned by their digests.",
            )
        if self.file.base is None:
            raise ProjectError(
                f"{self.path}: [base] is missing", next_step='Add [base] with use = "debian12-python3.11".'
            )
        return self.file.base

    @property
    def python(self) -> PythonSection:
        """`[python]`; raises `ProjectError` when the project has none."""
        if self.file.python is None:
            raise _missing(self.path, "python", PythonSection)
        return self.file.python

    @property
    def requirements(self) -> Path:
        return self.directory / self.python.requirements

    @property
    def python_lock(self) -> Path:
        """`pylock.toml` beside the requirements (PEP 751)."""
        return self.requirements.parent / "pylock.toml"

    def python_lock_for(self, architecture: str) -> Path:
        """The lock of one architecture: `pylock.toml` for amd64, `pylock.ARCHITECTURE.toml` for another."""
        name = "pylock.toml" if architecture == "amd64" else f"pylock.{architecture}.toml"
        return self.requirements.parent / name

    @property
    def base_lock(self) -> Path:
        return self.directory / "base.lock"

    def base_lock_for(self, architecture: str) -> Path:
        """Lock of the base's packages for an architecture; that for amd64 has no word in its name."""
        return self.base_lock if architecture == "amd64" else self.directory / f"base.{architecture}.lock"

    @property
    def system_packages(self) -> tuple[str, ...]:
        """Debian packages that the project adds to its base."""
        return () if self.file.system is None else self.file.system.packages


def _line_of(text: str, table: str, key: str | None) -> int:
    """Line (from 1) of `key` in `[table]`, else of the table's header, else 1."""
    current, header = "", 1
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        match = re.match(r"\[+\s*([^\]]+?)\s*\]+", stripped)
        if match:
            current = match[1].replace('"', "").replace(" ", "")
            if current == table:
                header = number
                if key is None:
                    return number
            elif not table and key == current.split(".")[0]:
                return number
        elif key is not None and re.match(rf"""["']?{re.escape(key)}["']?\s*(=|\.)""", stripped):
            if current == table:
                return number
        elif key is None and not current and re.match(rf"""["']?{re.escape(table)}["']?\s*(=|\.)""", stripped):
            return number
    return header


_SECTIONS: dict[str, type[_Section]] = {
    "image": ImageSection,
    "base": BaseSection,
    "base.take": TakeSection,
    "python": PythonSection,
    "python.indexes": IndexSection,
    "system": SystemSection,
    "app": AppSection,
    "models": ModelSection,
    "build": BuildSection,
    "static": StaticSection,
}


def _known_keys(table: str) -> tuple[str, ...]:
    return _SECTIONS.get(table, ProjectFile).__struct_fields__


def _explain(path: Path, text: str, error: msgspec.ValidationError) -> ProjectError:
    message = str(error)
    where = re.search(r" - at `\$\.?([^`]*)`", message)
    location = re.sub(r"\[[^\]]*\]", "", where[1]) if where else ""
    message = re.sub(r" - at `[^`]*`", "", message)
    unknown = re.search(r"unknown field `([^`]*)`", message)
    missing = re.search(r"missing required field `([^`]*)`", message)
    table, _, key = location.rpartition(".")
    if (location in _SECTIONS and (unknown or missing)) or not table:
        table, key = location, ""
    if unknown:
        known = _known_keys(table)
        import difflib  # for an error only

        near = difflib.get_close_matches(unknown[1], known, 1, 0.0)
        place = f"[{table}] " if table else ""
        return ProjectError(
            f"{path}:{_line_of(text, table, unknown[1])}: unknown key {place}{unknown[1]}",
            next_step=f"Did you mean {near[0]}? Valid here: {', '.join(known)}.",
        )
    if missing:
        place = f"[{table}] {missing[1]}" if table else f"[{missing[1]}]"
        return ProjectError(
            f"{path}:{_line_of(text, table, None) if table else 1}: {place} is missing",
            next_step=f"Add it (docs/reference/project-file.md). Valid here: {', '.join(_known_keys(table))}.",
        )
    return ProjectError(
        f"{path}:{_line_of(text, table, key or None)}: [{table}] {key}: {message}",
        next_step="Write the value as docs/reference/project-file.md shows it.",
    )


def _inside(path: Path, text: str, table: str, key: str, value: str) -> None:
    parts = Path(value).parts
    if not value or "\0" in value or Path(value).is_absolute() or ".." in parts:
        raise ProjectError(
            f"{path}:{_line_of(text, table, key)}: [{table}] {key}: {value!r} is not a path inside the project",
            next_step="Name a file or folder below the project folder, without `..`.",
        )


def _check_values(path: Path, text: str, content: ProjectFile) -> None:
    if not re.fullmatch(_REPOSITORY, content.image.name) or len(content.image.name) > 255:
        raise ProjectError(
            f"{path}:{_line_of(text, 'image', 'name')}: [image] name: {content.image.name!r} is not a repository name",
            next_step="Use lower-case words joined by `/`, `.`, `_` or `-`, for example team/model; no tag.",
        )
    if content.image.source is not None and re.match(_LOGIN, content.image.source):
        raise ProjectError(
            f"{path}:{_line_of(text, 'image', 'source')}: [image] source has a user or a password in it",
            next_step="Write the address alone: it stands in the image, for everybody to read.",
        )
    if content.build is None:
        _check_assembled(path, text, content)
    else:
        _inside(path, text, "build", "dockerfile", content.build.dockerfile)
        _inside(path, text, "build", "context", content.build.context)
        _check_build(path, text, content)
    if content.python is not None:
        if not re.fullmatch(_PYTHON, content.python.version):
            raise ProjectError(
                f"{path}:{_line_of(text, 'python', 'version')}: [python] version is {content.python.version!r}",
                next_step='Write for example version = "3.11".',
            )
        _inside(path, text, "python", "requirements", content.python.requirements)
        _check_indexes(path, text, content.python.indexes)
    for model in content.models:
        _inside(path, text, "models", "path", model.path)
        if not re.fullmatch(_REPOSITORY, model.name) or "/" in model.name or model.version < 0:
            raise ProjectError(
                f"{path}:{_line_of(text, 'models', 'name')}: [[models]] {model.name!r} {model.version} is no name and "
                "version of a model",
                next_step='Write for example name = "mnist" and version = 1.',
            )
        if model.digest is not None and not re.fullmatch(_SHA256, model.digest):
            raise ProjectError(
                f"{path}:{_line_of(text, 'models', 'digest')}: [[models]] digest: {model.digest[:100]!r} is no SHA-256",
                next_step="Leave it out once: `tidewaiter build` says what to write.",
            )
    if content.base is not None:
        _check_takes(path, text, content.base)
    _check_static(path, text, content)
    _check_app(path, text, content)


def _check_static(path: Path, text: str, content: ProjectFile) -> None:
    try:
        require_stops(content.static.fail_on, "[static] fail_on")
    except InputError as error:
        raise ProjectError(
            f"{path}:{_line_of(text, 'static', 'fail_on')}: {error.message}", next_step=error.next_step
        ) from error


def require_stops(words: tuple[str, ...], name: str) -> None:
    """Raise `InputError`, in which they are called `name`, unless each of `words` says what stops a build."""
    for word in words:
        if not re.fullmatch(_STATIC, word):
            raise InputError(
                f"{name}: {word[:100]!r} is nothing that stops a build",
                next_step="Write a kind (lint, secrets, confusion, dependencies), a severity (critical, high, medium, "
                "low, info), or both as secrets:high.",
            )


def _check_app(path: Path, text: str, content: ProjectFile) -> None:
    for name in content.app.include:
        _inside(path, text, "app", "include", name)
    if content.app.user is not None and not re.fullmatch(_USER, content.app.user):
        raise ProjectError(
            f"{path}:{_line_of(text, 'app', 'user')}: [app] user: {content.app.user[:100]!r} is no user",
            next_step='Write UID or UID:GID, for example "65532:65532"; of a name Kubernetes cannot tell what it is.',
        )
    words = content.app.entrypoint
    if any("\0" in word for word in words) or (words and not words[0]):
        raise ProjectError(
            f"{path}:{_line_of(text, 'app', 'entrypoint')}: [app] entrypoint {'has a NUL' if words[0] else 'is empty'}",
            next_step='Name the program and its arguments, for example ["python", "/app/train.py"].',
        )


def _check_takes(path: Path, text: str, base: BaseSection) -> None:
    for take in base.take:
        wrong = [one for one in take.paths if not one.startswith("/") or ".." in one.split("/") or "\0" in one]
        if wrong or not take.paths:
            raise ProjectError(
                f"{path}:{_line_of(text, 'base.take', 'paths')}: [[base.take]] paths: "
                f"{wrong[0][:100] if wrong else 'none'!r} is no absolute path",
                next_step='Name files and folders of the image, for example ["/usr/bin/tensorflow_model_server"].',
            )


def _check_build(path: Path, text: str, content: ProjectFile) -> None:
    section = content.build
    if section is None:
        return
    for name in ("base", "python", "system"):
        if getattr(content, name) is not None:
            raise ProjectError(
                f"{path}:{_line_of(text, name, None)}: [{name}] does not go together with [build]",
                next_step="Let the Dockerfile install what the image needs, or take [build] out.",
            )
    if content.app.package:
        raise ProjectError(
            f"{path}:{_line_of(text, 'app', 'package')}: [app] package does not go together with [build]",
            next_step="Let the Dockerfile install the project's wheel, or take [build] out.",
        )
    for key, pairs in (("arguments", section.arguments), ("secrets", section.secrets)):
        for name, value in pairs.items():
            if (
                not re.fullmatch(_VARIABLE, name)
                or "\0" in value
                or (key == "secrets" and not re.fullmatch(_VARIABLE, value))
            ):
                raise ProjectError(
                    f"{path}:{_line_of(text, 'build', key)}: [build] {key}: {name} = {value!r} is no pair of names",
                    next_step='Write arguments = { VERSION = "1.2" } and secrets = { ID = "ENVIRONMENT_VARIABLE" }.',
                )
    if section.target is not None and not re.fullmatch(_STAGE, section.target):
        raise ProjectError(
            f"{path}:{_line_of(text, 'build', 'target')}: [build] target: {section.target!r} is no name of a stage",
            next_step="Name a stage as `FROM … AS NAME` does.",
        )


def _check_indexes(path: Path, text: str, indexes: tuple[IndexSection, ...]) -> None:
    seen, owners = set[str](), dict[str, str]()
    for index in indexes:
        problem = ""
        if not re.fullmatch(_INDEX, index.name) or index.name.lower() in seen:
            problem = f"name {index.name!r} is used twice or has other characters than letters, digits and `-`"
        elif not re.fullmatch(_INDEX_URL, index.url):
            problem = f"url of {index.name} is not the http(s) address of a package index, or has credentials in it"
        elif not index.packages:
            problem = f"{index.name} names no packages"
        for name in index.packages:
            normalised = re.sub(r"[-_.]+", "-", name).lower()
            if not re.fullmatch(_PACKAGE, name):
                problem = problem or f"{name!r} is not the name of a package"
            elif owners.setdefault(normalised, index.name) != index.name:
                problem = problem or f"{name} is named by {owners[normalised]} and by {index.name}"
        if problem:
            raise ProjectError(
                f"{path}:{_line_of(text, 'python.indexes', None)}: [[python.indexes]] {problem}",
                next_step="Give each index a name, its address without user and password, and the packages that come "
                "from it; credentials go into TIDEWAITER_INDEX_NAME_USERNAME and _PASSWORD.",
            )
        seen.add(index.name.lower())  # the variables of their credentials would be the same


def _missing(path: Path, table: str, section: type[_Section]) -> ProjectError:
    return ProjectError(
        f"{path}:1: [{table}] is missing",
        next_step=f"Add it (docs/reference/project-file.md). Valid here: {', '.join(section.__struct_fields__)}.",
    )


def _check_assembled(path: Path, text: str, content: ProjectFile) -> None:
    """What an image that is put together here must say; one from a Dockerfile may leave it out."""
    if content.base is None:
        raise _missing(path, "base", BaseSection)
    own = content.base.is_image
    if content.python is None and not own and "python" in content.base.use:
        raise _missing(path, "python", PythonSection)
    if content.app == AppSection() and not own:
        raise _missing(path, "app", AppSection)
    if not own and not content.app.entrypoint:
        raise ProjectError(
            f"{path}:{_line_of(text, 'app', 'entrypoint')}: [app] entrypoint is empty",
            next_step='Name the program and its arguments, for example ["python", "/app/train.py"].',
        )


def load(directory: Path) -> Project:
    """The project in `directory`.

    Raises:
        ProjectError: the file is missing, is not TOML, has an unknown key or a wrong value.
    """
    path = directory / FILE_NAME
    try:
        with open_regular(path) as file:
            data = file.read(limits.PROJECT_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise ProjectError(
            f"{path}: there is no such file",
            next_step="Name the folder that holds tidewaiter.toml; examples/mnist is one to copy.",
        ) from error
    except NotADirectoryError as error:
        raise ProjectError(f"{directory} is not a folder", next_step="Name the project's folder.") from error
    if len(data) > limits.PROJECT_FILE_BYTES:
        raise ProjectError(
            f"{path}:1: the file is over {limits.PROJECT_FILE_BYTES} bytes",
            next_step="Keep only settings in it.",
        )
    try:
        text = data.decode()
        content = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise ProjectError(f"{path}:1: not UTF-8: {error}", next_step="Save the file as UTF-8.") from error
    except (ValueError, RecursionError) as error:  # no TOML, a number too long, nested too deep
        line = re.search(r"line (\d+)", str(error))
        raise ProjectError(
            f"{path}:{line[1] if line else 1}: not TOML: {error}", next_step="Mend the syntax at this line."
        ) from error
    try:
        parsed = msgspec.convert(content, ProjectFile)
    except msgspec.ValidationError as error:
        raise _explain(path, text, error) from error
    _check_values(path, text, parsed)
    return Project(directory=directory.absolute(), file=parsed)
