"""Git as a child process that trusts nothing: no configuration but ours, no hooks, few ways out, bounds on all it does.

1. Its environment: PATH, proxies and authorities; an empty home, so that no `.gitconfig`, `.netrc` or key counts.
2. Its configuration comes by variables and wins over what stands in a repository.
3. Ways out are those that the place needs. What it gets is checked object by object (`fsckObjects`).
4. Limits on memory, on each file it writes, and on time; it ends with all that it started.
"""

import contextlib
import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path

from tidewaiter.core import limits
from tidewaiter.core import settings as all_settings
from tidewaiter.core.errors import (
    DeadlineError,
    LimitError,
    MissingToolError,
    NetworkError,
    TidewaiterError,
    UndeterminedError,
)
from tidewaiter.core.settings import Settings
from tidewaiter.pipelines.sources import credentials
from tidewaiter.pipelines.sources.credentials import Secret

Note = Callable[[str], None]
"""Takes a line of the log. What it raises ends the work."""
_LOOK_SECONDS = 5.0
_OLDEST = (2, 31)
"""Which takes configuration from variables; an older one would silently do without it."""
_CHUNK = 1 << 16
_COMPLAINT_BYTES = 64 * limits.KIB
_TOLD_CHARACTERS = 400
# POSIX shells count in blocks of 512 bytes and in KiB; a limit that is set after the start would come too late.
_BOUNDED = 'ulimit -c 0; ulimit -f "$1"; ulimit -v "$2"; shift 2; exec "$@"'
_CONFIGURATION = (
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.untrackedCache", "false"),
    ("core.attributesFile", "/dev/null"),
    ("core.excludesFile", "/dev/null"),
    ("core.autocrlf", "false"),
    ("core.eol", "lf"),
    ("core.symlinks", "true"),
    ("core.protectHFS", "true"),
    ("core.protectNTFS", "true"),
    ("core.askPass", ""),
    ("transfer.fsckObjects", "true"),
    ("fetch.fsckObjects", "true"),
    ("fetch.unpackLimit", "1"),  # one file, which has a limit, in the place of many
    ("fetch.writeCommitGraph", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("pack.threads", "2"),
    ("advice.detachedHead", "false"),
    ("log.showSignature", "false"),
    ("http.followRedirects", "initial"),
    ("http.lowSpeedLimit", str(limits.SLOWEST_BYTES_PER_SECOND)),
    ("http.lowSpeedTime", str(int(limits.READ_SECONDS))),
    ("protocol.version", "2"),
    ("submodule.recurse", "false"),
    ("safe.directory", "*"),  # folders that this program made itself, whoever runs it
)
_DENIED = re.compile(
    r"authentication failed|could not read (?:username|password)|permission denied|access denied|returned error: 40[13]"
    r"|host key verification failed|terminal prompts disabled",
    re.IGNORECASE,
)
_AWAY = re.compile(
    r"could not resolve host|failed to connect|connection (?:timed out|refused|reset)|early eof"
    r"|returned error: (?:5\d\d|429)|tls|hung up",
    re.IGNORECASE,
)


class GitError(UndeterminedError):
    """Git ended badly; `complaint` is what it said."""

    default_code = "source_git"

    def __init__(self, message: str, *, next_step: str, code: str | None = None, complaint: str = "") -> None:
        super().__init__(message, next_step=next_step, code=code)
        self.complaint = complaint


class Git:
    """Runs git commands until a deadline.

    Args:
        settings: proxies and authorities.
        home: an empty folder of one's own.
        note: called at least every few seconds while Git works; what it raises ends Git.
        seconds: for all commands together.
    """

    def __init__(self, settings: Settings, home: Path, note: Note, *, seconds: float) -> None:
        self._home = home
        self._note = note
        self.deadline = time.monotonic() + seconds
        self._seconds = seconds
        self._authorities = str(settings.ca_file) if settings.ca_file else all_settings.authority_variables()[0]

    def require_version(self) -> None:
        """Return when Git is new enough to take its configuration from us; raises `MissingToolError`."""
        said = self.ask(self._home, "version").decode(errors="replace")
        found = re.search(r"(\d+)\.(\d+)", said)
        if found is None or (int(found[1]), int(found[2])) < _OLDEST:
            raise MissingToolError(
                f"{said.strip()[:60]!a} is too old to fetch sources safely",
                next_step=f"Install Git {_OLDEST[0]}.{_OLDEST[1]} or newer.",
            )

    def environment(
        self, *, protocols: Sequence[str] = (), reaching: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Everything that Git finds in its environment; `reaching` is of `credentials.for_git`."""
        kept = {
            name: value
            for name, value in all_settings.tool_environment().items()
            if name in {"PATH", "TMPDIR"} or name.lower().endswith("_proxy")
        }
        given = dict(reaching or {})
        configuration = [*_CONFIGURATION, *credentials.configured(given)]
        given.pop("SOURCE_HELPER_FOR", None)
        if self._authorities:
            configuration.append(("http.sslCAInfo", self._authorities))
        said = {"GIT_CONFIG_COUNT": str(len(configuration))}
        for number, (name, value) in enumerate(configuration):
            said |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
        return {
            **kept,
            **said,
            "HOME": str(self._home),
            "XDG_CONFIG_HOME": str(self._home),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "/bin/false",
            "SSH_ASKPASS": "/bin/false",
            "GIT_ALLOW_PROTOCOL": ":".join(protocols) or "none",
            "GIT_PROTOCOL_FROM_USER": "0",
            "GIT_LITERAL_PATHSPECS": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_LFS_SKIP_SMUDGE": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            "LC_ALL": "C",
            **given,
        }

    def late(self, what: str) -> DeadlineError:
        """The error for `what`, which was not done in time."""
        return DeadlineError(
            f"{what} was not done when {self._seconds:.0f} s were over",
            next_step="See whether the server is slow or the repository is huge; then try again.",
        )

    def ask(
        self,
        folder: Path,
        *arguments: str,
        protocols: Sequence[str] = (),
        reaching: Mapping[str, str] | None = None,
        secret: Secret | None = None,
        given: bytes = b"",
        doing: str = "",
        most: int | None = None,
    ) -> bytes:
        """What Git answers in `folder`, at most `limits.SOURCE_ANSWER_BYTES`.

        Args:
            folder: a work tree or a bare repository.
            arguments: the command.
            protocols: over which it may reach out.
            reaching: how it may say who it is.
            secret: what must not be in an error.
            given: its input.
            doing: what the log is told while it takes long.
            most: bytes that each file may have which it writes; None: `limits.SOURCE_PACK_BYTES`.

        Raises:
            GitError: it ended badly.
            NetworkError: it could not reach the server, or was not let in.
            DeadlineError: the time is over.
            LimitError: its answer is too long.
            MissingToolError: Git is not installed.
        """
        answer = bytearray()
        for part in self.stream(
            folder,
            *arguments,
            protocols=protocols,
            reaching=reaching,
            secret=secret,
            given=given,
            doing=doing,
            most=most,
        ):
            answer += part
            if len(answer) > limits.SOURCE_ANSWER_BYTES:
                raise LimitError(
                    f"git {arguments[0]} answers over {limits.SOURCE_ANSWER_BYTES} bytes",
                    next_step="Look at the repository; it is not made for builds.",
                )
        return bytes(answer)

    def stream(
        self,
        folder: Path,
        *arguments: str,
        protocols: Sequence[str] = (),
        reaching: Mapping[str, str] | None = None,
        secret: Secret | None = None,
        given: bytes = b"",
        doing: str = "",
        most: int | None = None,
    ) -> Generator[bytes, None, None]:
        """The same, in pieces; whoever closes it ends Git. Errors come with the last piece."""
        most = limits.SOURCE_PACK_BYTES if most is None else most
        bounds = (str(most // 512), str(limits.GIT_PROCESS_BYTES // limits.KIB))
        try:
            process = subprocess.Popen(
                ["/bin/sh", "-c", _BOUNDED, "git", *bounds, "git", "-C", str(folder), *arguments],
                stdin=subprocess.PIPE if given else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self.environment(protocols=protocols, reaching=reaching),
                start_new_session=True,
            )
        except OSError as error:
            raise MissingToolError("/bin/sh cannot be started", next_step="Mend this machine.") from error
        complaint = bytearray()
        try:
            with process:
                try:
                    yield from self._pieces(process, complaint, given, doing)
                    status = process.wait(max(0.0, self.deadline - time.monotonic()))
                except BaseException:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    raise
        except (TimeoutError, subprocess.TimeoutExpired):
            raise self.late(f"git {arguments[0]}") from None
        if status:
            raise _failure(arguments[0], status, complaint.decode(errors="replace"), secret)

    def _pieces(
        self, process: "subprocess.Popen[bytes]", complaint: bytearray, given: bytes, doing: str
    ) -> Iterator[bytes]:
        """What the process writes, while it is given its input; raises `TimeoutError`."""
        assert process.stdout is not None and process.stderr is not None  # noqa: S101,PT018  # asked for
        began = time.monotonic()
        told = began
        rest = memoryview(given)
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            selector.register(process.stderr, selectors.EVENT_READ)
            if process.stdin is not None:
                os.set_blocking(process.stdin.fileno(), False)
                selector.register(process.stdin, selectors.EVENT_WRITE)
            while selector.get_map():
                now = time.monotonic()
                if now >= self.deadline:
                    raise TimeoutError
                if now - told >= _LOOK_SECONDS:
                    told = now
                    self._note(f"{doing or 'git works'} ({now - began:.0f} s)")
                for key, _ in selector.select(min(self.deadline - now, _LOOK_SECONDS)):
                    if key.fileobj is process.stdin:
                        rest = _fed(process, rest)
                        if not rest:
                            selector.unregister(key.fileobj)
                            _close(process)
                        continue
                    part = os.read(key.fd, _CHUNK)
                    if not part:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is process.stdout:
                        yield part
                    else:
                        complaint += part
                        del complaint[:-_COMPLAINT_BYTES]


def _fed(process: "subprocess.Popen[bytes]", rest: memoryview) -> memoryview:
    """What is left of the input after the process took some of it."""
    assert process.stdin is not None  # noqa: S101  # it was registered
    try:
        return rest[os.write(process.stdin.fileno(), rest[:_CHUNK]) :]
    except BlockingIOError:
        return rest
    except BrokenPipeError:
        return rest[len(rest) :]  # it ended; its status says why


def _close(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdin is not None  # noqa: S101  # it was registered
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()


def _failure(command: str, status: int, said: str, secret: Secret | None) -> TidewaiterError:
    """The error for what Git said, of which parts come from the server."""
    plain = "".join(c if c.isprintable() else " " for c in credentials.redacted(said, secret))
    lines = " ".join(re.sub(r"://[^/\s@]*@", "://", plain).split())
    told = lines[-_TOLD_CHARACTERS:] or f"it ended with status {status}"
    if status in {126, 127}:
        return MissingToolError("git cannot be started", next_step="Install Git 2.31 or newer.")
    if _DENIED.search(lines):
        return NetworkError(
            f"git {command} is not let in: {told}",
            next_step="Check the `credential` and `username` of the [[source]], and what they may read.",
            code="source_credential",
        )
    if _AWAY.search(lines):
        return NetworkError(f"git {command} failed: {told}", next_step="Try again later; check address and proxy.")
    return GitError(f"git {command} failed: {told}", next_step="Mend what Git says; then try again.", complaint=lines)
