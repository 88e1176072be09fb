"""Tokens and keys of repositories: read where the settings say, when they are needed, and shown nowhere.

They reach Git through the environment of that one process, and ssh through an agent that lives as long as the fetch:
not by its arguments, which every user of the machine can read, not by an address, and not by a file.
"""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tidewaiter.core import limits
from tidewaiter.core import settings as all_settings
from tidewaiter.core.errors import DeadlineError, InputError, MissingToolError, UndeterminedError
from tidewaiter.core.settings import Settings, SourceTable
from tidewaiter.pipelines.sources.places import Place

_HOOK_SECONDS = 30.0
_AGENT_SECONDS = 10.0
FAILED = "source_credential"
# Git asks with `get`; what it would store or erase is nobody's business. Bash's and dash's `printf` are built in.
_HELPER = '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n" "$SOURCE_USER" "$SOURCE_TOKEN"; }; f'


class Secret:
    """A token or a key; it is not shown."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __repr__(self) -> str:
        return "Secret(…)"

    @property
    def text(self) -> str:
        """As one line. Raises `UndeterminedError` when it is none."""
        try:
            found = self.data.decode().strip()
        except UnicodeDecodeError as error:
            raise _failed("it is no text") from error
        if not found or not found.isprintable():
            raise _failed("it is empty, or more than one line")
        return found


def _failed(why: str) -> UndeterminedError:
    return UndeterminedError(
        f"the credential or secret of a source cannot be used: {why}",
        next_step="Mend `credential` or `secret` of its [[source]].",
        code=FAILED,
    )


def read(settings: Settings, where: str) -> Secret:
    """What lies at `file:PATH`, in `env:VARIABLE`, or is answered by `hook:COMMAND`.

    Raises:
        UndeterminedError: it is not there, cannot be read or is too long.
        DeadlineError: the command does not answer.
        MissingToolError: there is no such command.
    """
    kind, _, name = where.partition(":")
    if kind == "env":
        value = all_settings.source_variable(name)
        if not value:
            raise _failed(f"the variable {name} is not set")
        return Secret(os.fsencode(value))
    if kind == "file":
        try:
            with settings.home.path.joinpath(Path(name).expanduser()).open("rb") as file:
                data = file.read(limits.SOURCE_CREDENTIAL_BYTES + 1)
        except OSError as error:
            raise _failed(f"{name} cannot be read: {error.strerror}") from error
    else:
        data = _answer(name)
    if len(data) > limits.SOURCE_CREDENTIAL_BYTES:
        raise _failed(f"it is over {limits.SOURCE_CREDENTIAL_BYTES} bytes")
    if not data.strip():
        raise _failed(f"{kind} gives nothing")
    return Secret(data)


def _answer(command: str) -> bytes:
    """What a command writes. What it says beside is not passed on: it may be the secret."""
    try:
        words = shlex.split(command)
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=all_settings.tool_environment(),
            timeout=_HOOK_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DeadlineError(
            f"the command that gives a source's credential did not answer within {_HOOK_SECONDS:.0f} s",
            next_step="See why it waits; it gets no terminal.",
        ) from None  # the command line may hold secrets
    except (OSError, ValueError, IndexError) as error:
        raise MissingToolError(
            "the command that gives a source's credential cannot be started",
            next_step="Mend hook:COMMAND in `credential` of its [[source]].",
        ) from error
    if done.returncode:
        raise _failed(f"its command ended with status {done.returncode}")
    return done.stdout


def of(settings: Settings, table: SourceTable | None) -> Secret | None:
    """The credential of a source; None when it has none. Raises as `read`."""
    return read(settings, table.credential) if table is not None and table.credential else None


@contextmanager
def for_git(place: Place, table: SourceTable | None, secret: Secret | None) -> Iterator[dict[str, str]]:
    """Variables with which Git may fetch from the place, and from no other host.

    Raises `TidewaiterError`: the key cannot be used.
    """
    if place.scheme == "ssh":
        with _ssh(table, secret) as command:
            yield command
        return
    if secret is None or place.scheme == "file":
        yield {}
        return
    user = table.username if table is not None else "oauth2"
    yield {
        "SOURCE_USER": user,
        "SOURCE_TOKEN": secret.text,
        "SOURCE_HELPER_FOR": f"credential.{place.scheme}://{place.host}.helper",
    }


def configured(variables: dict[str, str]) -> list[tuple[str, str]]:
    """Git's settings that belong to `variables` of `for_git`; the helper is asked for that host alone."""
    name = variables.get("SOURCE_HELPER_FOR", "")
    return [("credential.helper", ""), (name, _HELPER)] if name else [("credential.helper", "")]


@contextmanager
def _ssh(table: SourceTable | None, secret: Secret | None) -> Iterator[dict[str, str]]:
    ssh = shutil.which("ssh", path=all_settings.tool_environment().get("PATH"))
    if ssh is None:
        raise MissingToolError(
            "ssh is not installed, and the repository's address is one of ssh",
            next_step="Install OpenSSH's client, or use an https address.",
        )
    options = ["-F", "/dev/null", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ForwardAgent=no"]
    options += ["-o", "UpdateHostKeys=no", "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15"]
    if table is not None and table.known_hosts:
        known = Path(table.known_hosts).expanduser().absolute()
        options += ["-o", f'UserKnownHostsFile="{known}"', "-o", "GlobalKnownHostsFile=/dev/null"]
    if secret is None:
        line = shlex.join([ssh, *options, "-o", "IdentityAgent=none", "-o", "PreferredAuthentications=none"])
        yield {"GIT_SSH_COMMAND": line, "GIT_SSH_VARIANT": "ssh"}
        return
    with _agent(secret) as socket:
        options += ["-o", f"IdentityAgent={socket}", "-o", "PreferredAuthentications=publickey"]
        yield {"GIT_SSH_COMMAND": shlex.join([ssh, *options]), "GIT_SSH_VARIANT": "ssh"}


@contextmanager
def _agent(secret: Secret) -> Iterator[str]:
    """The socket of an agent that holds the key, which is written nowhere."""
    environment = all_settings.tool_environment()
    with tempfile.TemporaryDirectory(prefix="tw-") as folder:
        socket = f"{folder}/agent"
        try:
            agent = subprocess.Popen(
                ["ssh-agent", "-D", "-a", socket],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise MissingToolError(
                "ssh-agent cannot be started", next_step="Install OpenSSH's client, which brings it."
            ) from error
        try:
            _add(secret, socket, agent, environment)
            yield socket
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(agent.pid, signal.SIGTERM)
            agent.wait()


def _add(secret: Secret, socket: str, agent: "subprocess.Popen[bytes]", environment: dict[str, str]) -> None:
    deadline = time.monotonic() + _AGENT_SECONDS
    while not Path(socket).exists():
        if agent.poll() is not None or time.monotonic() > deadline:
            raise _failed("ssh-agent does not start")
        time.sleep(0.01)
    key = secret.data.replace(b"\r\n", b"\n").strip() + b"\n"  # ssh-add wants the end of the last line
    no_terminal = {"SSH_AUTH_SOCK": socket, "SSH_ASKPASS_REQUIRE": "never"}
    try:
        added = subprocess.run(
            ["ssh-add", "-q", "-"],
            input=key,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment | no_terminal,
            timeout=_AGENT_SECONDS,
            check=False,
            start_new_session=True,
        )
    except (OSError, subprocess.TimeoutExpired):
        raise _failed("ssh-add does not take it") from None
    if added.returncode:
        raise _failed("it is no private SSH key, or one with a password")


def redacted(text: str, secret: Secret | None) -> str:
    """`text` without the secret, should some server say it back."""
    if secret is None:
        return text
    whole = secret.data.decode(errors="replace").strip()
    for one in (whole, *whole.splitlines()):
        if len(one) >= 4:  # a shorter one would hide half of the text
            text = text.replace(one, "…")
    return text


def hook_secret(settings: Settings, table: SourceTable) -> str:
    """The secret of a source's webhooks.

    Raises:
        InputError: it has none, or one that can be guessed.
        TidewaiterError: as `read`.
    """
    if not table.secret:
        raise InputError(f"source {table.name} takes no webhooks", next_step="Give it a `secret` in its [[source]].")
    found = read(settings, table.secret).text
    if len(found) < limits.HOOK_SECRET_CHARACTERS_LEAST:
        raise _failed(f"it has under {limits.HOOK_SECRET_CHARACTERS_LEAST} characters")
    return found
