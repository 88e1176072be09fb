"""A private key that a command keeps: a client of a key service or a hardware module, or a script around one.

The command is started without a shell, in a session of its own, with the environment of a tool and the variables that
the hook names. It gets the SHA-256 digest of what is to be signed (32 bytes), or these bytes themselves, on its input,
and answers the signature on its output: ASN.1 DER, plain or as base64. What it answers counts only when it verifies.

A hook is written as a command, which is called with `public-key` or `sign` as its last argument, or as a file:

    sign = ["aws", "kms", "sign", "--message", "fileb:///dev/stdin", "--message-type", "DIGEST", …]
    public_key = "release.pub"              # a file beside this one, or a command that answers PEM or base64 DER
    stdin = "digest"                        # or "data"
    environment = ["AWS_PROFILE"]           # variables that the commands need besides PATH, HOME, proxies and CAs
    seconds = 30
"""

import base64
import binascii
import contextlib
import hashlib
import os
import selectors
import shlex
import signal
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from tidewaiter.core import limits, settings
from tidewaiter.core.errors import DeadlineError, InputError, MissingToolError, UndeterminedError
from tidewaiter.signing import key_folder, keys
from tidewaiter.signing.keys import PublicKey

FAILED = "key_hook_failed"

_CHUNK = 1 << 16
_DER_SEQUENCE = 0x30
_Command = Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a hook file may say."""

    sign: _Command
    public_key: str | _Command
    stdin: Literal["digest", "data"] = "digest"
    environment: tuple[str, ...] = ()
    seconds: Annotated[float, msgspec.Meta(gt=0, le=limits.KEY_HOOK_SECONDS_AT_MOST)] = limits.KEY_HOOK_SECONDS


class Hook(msgspec.Struct, frozen=True):
    """How a key is used that a command keeps."""

    sign: tuple[str, ...]
    public_key: Path | tuple[str, ...]
    """The file that holds it, or the command that answers it."""
    folder: Path
    """Where the commands run."""
    digested: bool = True
    """Whether `sign` gets the SHA-256 digest rather than the bytes themselves."""
    environment: tuple[str, ...] = ()
    seconds: float = limits.KEY_HOOK_SECONDS


class HookSigner:
    """A `Signer` whose private half a command keeps."""

    def __init__(self, hook: Hook) -> None:
        """Learn the public key.

        Raises:
            UndeterminedError: the command did not answer, or something else than a public key.
            InputError: the file is no public key, or the hook asks for variables that it must not get.
        """
        self._hook = hook
        if isinstance(hook.public_key, Path):
            self.public = keys.load_public(hook.public_key)
        else:
            self.public = _public_key(_answer(hook, hook.public_key, b""), hook.public_key[0])

    def sign(self, data: bytes) -> bytes:
        """Signature of SHA-256 of `data` in ASN.1 DER, which verifies.

        Raises:
            UndeterminedError: the command did not answer, or something else than a signature by its key.
        """
        hook = self._hook
        answer = _answer(hook, hook.sign, hashlib.sha256(data).digest() if hook.digested else data)
        signature = _der(answer)
        if signature is None or not self.public.holds(signature, data):
            raise _failed(hook.sign[0], f"it answered {len(answer)} bytes that are no signature by its public key")
        return signature


def parse(text: str) -> Hook:
    """The hook that `text` describes: a command, or the path of a file that ends with `.toml`.

    Raises:
        NotFoundError: there is no such file.
        InputError: there is no command, or the file is malformed.
    """
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise InputError(f"the key hook is no command: {error}", next_step="Close its quotes.") from error
    if not words:
        raise InputError("the key hook names no command", next_step="Write hook:COMMAND or hook:FILE.toml.")
    if len(words) == 1 and words[0].endswith(".toml"):
        return _read(Path(words[0]))
    return Hook(sign=(*words, "sign"), public_key=(*words, "public-key"), folder=Path.cwd())


def _read(path: Path) -> Hook:
    try:
        document = tomllib.loads(key_folder.read_file(path).decode())
        said = msgspec.convert(document, _File)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no key hook: {error}", next_step="Mend what is named.") from error
    folder = path.absolute().parent
    return Hook(
        sign=said.sign,
        public_key=folder / said.public_key if isinstance(said.public_key, str) else said.public_key,
        folder=folder,
        digested=said.stdin == "digest",
        environment=said.environment,
        seconds=said.seconds,
    )


def _failed(program: str, reason: str) -> UndeterminedError:
    return UndeterminedError(
        f"the key hook {program} failed: {reason}",
        next_step="Run its command by hand, mend what it says, then try again; nothing was signed.",
        code=FAILED,
    )


def _der(answer: bytes) -> bytes | None:
    """ASN.1 DER in the answer, plain or as base64; None when it is neither."""
    if answer[:1] == bytes([_DER_SEQUENCE]):
        return answer
    try:
        return base64.b64decode(b"".join(answer.split()), validate=True)
    except (binascii.Error, ValueError):
        return None


def _public_key(answer: bytes, program: str) -> PublicKey:
    pem = answer
    if b"-----BEGIN" not in answer:
        # `encodebytes` ends its last line too.
        pem = b"-----BEGIN PUBLIC KEY-----\n%b-----END PUBLIC KEY-----\n" % base64.encodebytes(_der(answer) or b"")
    try:
        return keys.parse_public(pem, source=f"what {program} answered")
    except InputError as error:
        raise _failed(program, error.message) from error


def _answer(hook: Hook, command: Sequence[str], sent: bytes) -> bytes:
    """What the command writes to its output when it gets `sent`; raises `UndeterminedError` and `InputError`."""
    environment = settings.hook_environment(hook.environment)
    deadline = time.monotonic() + hook.seconds
    with tempfile.TemporaryFile() as stdin:
        stdin.write(sent)
        stdin.seek(0)
        try:
            process = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                cwd=hook.folder,
                # So that a late one ends with all that it started.
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise MissingToolError(
                f"the key hook {command[0]} cannot be started: {error}", next_step="Install it, or mend the hook."
            ) from error
    with process:
        try:
            answer, complaint = _outputs(process, deadline, command[0])
            status = process.wait(max(0.0, deadline - time.monotonic()))
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, (TimeoutError, subprocess.TimeoutExpired)):
                raise DeadlineError(
                    f"the key hook {command[0]} did not answer within {hook.seconds:g} s",
                    next_step="See why it waits (it gets no terminal), or give it more `seconds` in a hook file.",
                ) from error
            raise
    if status != 0:
        said = "".join(c if c.isprintable() else " " for c in complaint.decode(errors="replace")).strip()
        raise _failed(command[0], f"it ended with status {status}: {said[-300:] or 'it said nothing'}")
    return answer


def _outputs(process: "subprocess.Popen[bytes]", deadline: float, program: str) -> tuple[bytes, bytes]:
    """All that the process writes to its output, and to its error output.

    Raises:
        TimeoutError: it has not closed both until `deadline`.
        UndeterminedError: it wrote more than `KEY_HOOK_BYTES` to one of them.
    """
    assert process.stdout is not None and process.stderr is not None  # noqa: S101,PT018  # asked for
    taken = {pipe.fileno(): bytearray() for pipe in (process.stdout, process.stderr)}
    with selectors.DefaultSelector() as selector:
        for number in taken:
            selector.register(number, selectors.EVENT_READ)
        while selector.get_map():
            left = deadline - time.monotonic()
            ready = selector.select(left) if left > 0 else []
            if not ready:
                raise TimeoutError
            for key, _ in ready:
                part = os.read(key.fd, _CHUNK)
                taken[key.fd] += part
                if not part:
                    selector.unregister(key.fd)
                elif len(taken[key.fd]) > limits.KEY_HOOK_BYTES:
                    raise _failed(program, f"it writes over {limits.KEY_HOOK_BYTES} bytes")
    out, complaint = taken.values()
    return bytes(out), bytes(complaint)
