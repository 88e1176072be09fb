"""Requirements to the text of `pylock.toml` (PEP 751): resolved by uv, wheels only, nothing of a package is run.

The same requirements and the same indexes give the same bytes: no path, no time and no index address of this run is
in it. With `[[python.indexes]]` or `[python] build`, uv asks a router (`index_router`) instead of the public index.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
import uv
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from tidewaiter.assembly import advice, options, pylock, python_lock, requirements, simple_index
from tidewaiter.assembly.index_router import Made, Router
from tidewaiter.assembly.python_lock import LockedWheel
from tidewaiter.assembly.simple_index import File
from tidewaiter.assembly.source_wheels import SourceBuild, SourceBuilder
from tidewaiter.assembly.wheel_target import Target
from tidewaiter.core import limits
from tidewaiter.core.errors import DeadlineError, InputError, MissingToolError, NetworkError, UndeterminedError
from tidewaiter.core.progress import SILENT, Progress
from tidewaiter.core.project import Project
from tidewaiter.core.settings import Settings, tool_environment
from tidewaiter.transport.client import Client

# What uv prints when it could not ask, as opposed to an answer that it did not like.
_NETWORK = re.compile(
    r"Failed to fetch|error sending request|Request failed|could not be queried|timed out|dns error|connect error"
    r"|HTTP status (?:server error|client error \((?:401|403|407|408|429))|returned an? [345]\d\d "
    r"|Connection (?:refused|reset)",
    re.IGNORECASE,
)
_NO_WHEEL = ("--no-build", "no usable wheels", "building from source is disabled", "has no wheels with a matching")
_UNBUILT = re.compile(
    r"Wheels are required for `([^`]+)`|([A-Za-z0-9][A-Za-z0-9._-]*)(?:==\S+)? ha(?:s|ve) no usable wheels"
)


def _uv() -> str:
    try:
        return uv.find_uv_bin()
    except FileNotFoundError as error:
        raise MissingToolError(
            f"uv is not installed: {error}", next_step="Install Tidewaiter again; uv comes with it."
        ) from error


def _uv_version(program: str) -> str:
    run = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=False)
    words = run.stdout.split()
    if run.returncode or len(words) < 2:
        raise MissingToolError(
            f"uv does not run here: {run.stderr.strip()[:200]}", next_step="Install Tidewaiter again for this platform."
        )
    return words[1]


def _condensed(stderr: str) -> str:
    """The reason that uv gave, in one line, without credentials: its causes and hints joined."""
    lines = [re.sub(r"^\W*(?:error:|cause:|Caused by:)?\s*", "", line) for line in stderr.splitlines()]
    text = " ".join(line.strip() for line in lines if line.strip() and not set(line.strip()) <= {"^", " "})
    text = python_lock.without_credentials(text).rstrip(".")
    return text if len(text) <= 1200 else text[:1200] + " …"


def _failed(source: Path, target: Target, stderr: str, known: str) -> InputError | UndeterminedError:
    """What uv's complaint means; `known` is the next step when the field knows one."""
    reason = _condensed(stderr)
    if _NETWORK.search(stderr):
        return NetworkError(
            f"{source} could not be resolved, because the index did not answer: {reason}",
            next_step="Check the network, the proxy and TIDEWAITER_PYTHON_INDEX, then run the command again.",
        )
    if any(words in stderr for words in _NO_WHEEL):
        found = _UNBUILT.search(stderr)
        name = next(filter(None, found.groups()), "NAME") if found else "NAME"
        return InputError(
            f"{source}: a package has no wheel for {target}: {reason}",
            next_step=known
            or f'Choose a release that has a wheel; or, if its source is pure Python, allow it by build = ["{name}"] '
            "in [python]; or put a wheel beside the requirements and name its path there. Nothing else is compiled.",
            code="no_wheel",
        )
    return InputError(
        f"{source} cannot be satisfied: {reason}",
        next_step=known or "Change the requirements named, then run the command again.",
        code="unsatisfiable",
    )


def _run(command: Sequence[str], source: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            command,
            # uv takes local wheels relative to its folder, and writes them so.
            cwd=source.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limits.RESOLVE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DeadlineError(
            f"resolving {source} took more than {limits.RESOLVE_SECONDS} s",
            next_step="Pin more of the requirements, or check the network, then run the command again.",
        ) from error


class _Resolver:
    """One run of uv for one target, with or without a router in front of the indexes."""

    def __init__(self, target: Target, settings: Settings, progress: Progress) -> None:
        self._program = _uv()
        self.uv_version = _uv_version(self._program)
        self._target = target
        self._settings = settings
        self.router: Router | None = None
        self._progress = progress

    def compile(self, source: Path, known: str = "", *, target: Target | None = None, built: bool = True) -> str:
        """The text of the lock for the requirements in the file `source`; errors as `resolve`."""
        target = target or self._target
        command = [self._program, "pip", "compile", source.name, "--format", "pylock.toml", "--no-header"]
        command += ["--python-version", target.python, "--python-platform", target.platform]
        command += ["--python", sys.executable, "--no-python-downloads", "--no-build", "--no-config"]
        command += ["--no-progress", "--color", "never"]
        # The index is not an argument, because its credentials would show in the list of processes.
        environment = tool_environment() | {"UV_DEFAULT_INDEX": self._settings.python_index}
        if self.router is not None:
            command.append("--no-cache")  # the router has another address each time
            environment |= {
                "UV_DEFAULT_INDEX": self.router.url if built else self.router.wheels_url,
                "UV_HTTP_RETRIES": "0",
            }
            environment |= {name: _loopback(environment.get(name, "")) for name in ("NO_PROXY", "no_proxy")}
        run = _run(command, source, environment)
        if self.router is not None and self.router.failure is not None:
            raise self.router.failure
        if run.returncode:
            stderr = run.stderr.decode(errors="replace")
            raise _failed(source, target, stderr, known or _private_help(self.router, stderr))
        for line in run.stderr.decode(errors="replace").splitlines():
            if line.startswith("warning:") and "is yanked" in line:
                self._progress.note(_condensed(line.removeprefix("warning:")))
        return run.stdout.decode().rstrip("\n")

    def wheels(self, lines: Iterable[str]) -> tuple[LockedWheel, ...]:
        """The wheels that satisfy the build requirements in `lines`, for this machine; errors as `resolve`.

        A source says `lines`, so they are requirements by name and nothing else: no option of uv, no address.
        """
        named = [_by_name(line) for line in lines]
        architecture = options.machine(self._target.architecture)
        target = msgspec.structs.replace(self._target, architecture=architecture)
        with tempfile.TemporaryDirectory(prefix="tidewaiter-") as folder:
            source = Path(folder) / "requirements.in"
            source.write_text("".join(f"{line}\n" for line in named))
            text = self.compile(source, target=target, built=False)
            if self.router is not None:
                text = self.router.restored(text)
            wheels = pylock.select(text.encode(), source, target)
        if self.router is not None:
            _require_named(self.router, wheels)
        return wheels


def _by_name(line: str) -> str:
    try:
        requirement = Requirement(line)
    except InvalidRequirement as error:
        raise _unusable(line) from error
    if requirement.url is not None:
        raise _unusable(line)
    return str(requirement)


def _unusable(line: str) -> InputError:
    return InputError(
        f"the build requirement {line[:200]!r} is not one by name",
        next_step="Choose a release that has a wheel, or mend requires in [build-system].",
        code="build_failed",
    )


def _private_help(router: Router | None, stderr: str) -> str:
    """What to do when a package is not in the index that it must come from; empty for others."""
    missing = re.search(r"(\S+) was not found in the package registry", stderr)
    index = router.index_of(missing[1]) if router is not None and missing else None
    if missing is None or index is None or not index.name:
        return ""
    return (
        f"{missing[1]} comes from {index.url} only: publish it there, or take it out of the packages of {index.name} "
        "in [[python.indexes]]."
    )


def _loopback(excepted: str) -> str:
    """NO_PROXY with this machine in it."""
    return ",".join(filter(None, (excepted, "127.0.0.1")))


def _require_named(router: Router, wheels: Iterable[LockedWheel]) -> None:
    """Raise unless every wheel comes from the index that is responsible for its name.

    1. A wheel of the project itself is part of its commit.
    2. One that was built must be from a source distribution of that index.
    3. Every other must be a file that the index offered, with that hash.
    """
    for wheel in wheels:
        if wheel.path is not None:
            continue
        found = wheel if wheel.built is None else wheel.built.sdist
        router.require_offered(wheel.name, found.filename, found.sha256)


_WHEELS = r'^wheels = \[\{{ url = "{url}"[^\n]*\}}\]$'


def _with_built(text: str, router: Router, made: Mapping[str, SourceBuild]) -> str:
    """`text` with source distributions, and what they gave, in the place of the router's addresses."""
    for url in re.findall(r'^wheels = \[\{ url = "([^"]+)"', text, re.MULTILINE):
        source = router.built(url)
        if source is None:
            continue
        name, version, file = source
        size = f"size = {file.size}, " if file.size else ""
        sdist = f'sdist = {{ url = {python_lock.toml(file.url)}, {size}hashes = {{ sha256 = "{file.sha256}" }} }}'
        lines = f"{sdist}\n{made[f'{name} {version}'].line()}"
        old = re.search(_WHEELS.format(url=re.escape(url)), text, re.MULTILINE)
        if old is not None:
            text = text[: old.start()] + lines + text[old.end() :]
    return text


def resolve(
    project: Project,
    target: Target | None = None,
    *,
    settings: Settings,
    client: Client,
    builder: SourceBuilder | None = None,
    progress: Progress = SILENT,
) -> bytes:
    """The text of the project's lock for `target`, resolved now against the indexes.

    `builder` is needed for `[python] build` only.

    Raises:
        NetworkError: an index could not be asked.
        InputError: no set of wheels satisfies the requirements, or a package cannot be built.
        IntegrityError: a file does not come from the index that is responsible for it.
        DeadlineError: uv took longer than `RESOLVE_SECONDS`.
    """
    target = target or python_lock.target_of(project)
    requirements.require_plain(project)
    own = requirements.of_package(project)
    with ExitStack() as stack:
        resolver = _Resolver(target, settings, progress)
        if project.python.indexes or project.python.build:
            router = stack.enter_context(_router(project, resolver, settings, client, builder))
            resolver.router = router
        with progress.task(f"Resolving {project.requirements.name} with uv {resolver.uv_version}"):
            text = resolver.compile(project.requirements, _known(project, target))
            if resolver.router is not None:
                text = _with_built(text, resolver.router, {} if builder is None else builder.made)
                text = resolver.router.restored(text)
            origin = python_lock.origin_of(project, target, resolver.uv_version)
            if own is not None:
                requires = tuple(map(python_lock.record_of, resolver.wheels(own)))
                origin = msgspec.structs.replace(origin, package_requires=requires)
    data = f"{text}\n\n{python_lock.table(origin)}".encode()
    lock = python_lock.parse(data, project, target)  # what cannot be built is not locked
    if resolver.router is not None:
        _require_named(resolver.router, lock.wheels)
    return data


def _known(project: Project, target: Target) -> str:
    lines = [line for _, data in requirements.files(project) for line in data.decode(errors="replace").splitlines()]
    return advice.about(lines, target.python)


def _router(
    project: Project, resolver: _Resolver, settings: Settings, client: Client, builder: SourceBuilder | None
) -> Router:
    def make(name: str, version: str, file: File) -> Made:
        if builder is None:
            raise InputError(
                f"{name} {version} must be built from its source, and there is no interpreter for it here",
                next_step="Lock on a machine where the base can be built.",
            )
        return builder.from_index(name, version, file, resolver.wheels)

    return Router(
        simple_index.routes(project.python.indexes, settings),
        simple_index.public(settings),
        client,
        buildable=frozenset(map(canonicalize_name, project.python.build)),
        make=make,
    )
