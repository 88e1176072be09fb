"""Docker's credential helpers: programs named `docker-credential-NAME` that hand out passwords.

Protocol: the registry's address on standard input, a JSON object with `Username` and `Secret` on standard output.
"""

import os
import re
import selectors
import shutil
import subprocess
import time

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, MissingToolError, UndeterminedError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NOTHING_STORED = "credentials not found"


class Secret(msgspec.Struct, frozen=True, rename="pascal"):
    """What a helper knows; the user name `<token>` says that the secret is an identity token."""

    username: str
    secret: str


def get(name: str, server: str) -> Secret | None:
    """What the helper `name` has stored for `server`; None when it says that it has nothing.

    Raises:
        InputError: `name` is no helper's name.
        MissingToolError: the helper is not installed or cannot be started.
        UndeterminedError: it failed, took too long or answered something else. Its output is not shown.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name[:64]!r} is not the name of a credential helper",
            next_step="Mend `credsStore` or `credHelpers` in Docker's config.json.",
        )
    program = f"docker-credential-{name}"
    path = shutil.which(program)
    if path is None:
        raise MissingToolError(
            f"{program}, which Docker's config.json names for {server}, is not installed",
            next_step="Install it, or take it out of `credsStore` and `credHelpers` and log in again.",
        )
    try:
        process = subprocess.Popen(
            [path, "get"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError as error:
        raise MissingToolError(
            f"{program} cannot be started: {error.strerror}", next_step="Check its permissions."
        ) from error
    try:
        output = _converse(process, server, program)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
    if process.returncode == 0:
        try:
            return msgspec.json.decode(output, type=Secret)
        except (ValueError, RecursionError):
            # The cause could show the password.
            raise _failed(program, server, "answered something that is not Docker's protocol") from None
    if _NOTHING_STORED in output.decode(errors="replace").lower():
        return None
    raise _failed(program, server, f"ended with exit code {process.returncode}")


def _converse(process: "subprocess.Popen[bytes]", server: str, program: str) -> bytes:
    if process.stdin is None or process.stdout is None:
        raise _failed(program, server, "has no pipes")
    deadline = time.monotonic() + limits.CREDENTIAL_HELPER_SECONDS
    try:
        process.stdin.write(server.encode())  # far below what a pipe holds
        process.stdin.close()
    except BrokenPipeError:
        pass  # its exit code will tell
    output = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise _failed(program, server, f"did not answer within {limits.CREDENTIAL_HELPER_SECONDS:.0f} s")
            data = os.read(process.stdout.fileno(), limits.KIB)
            if not data:
                break
            output += data
            if len(output) > limits.TOKEN_BYTES:
                raise _failed(program, server, f"answered more than {limits.TOKEN_BYTES} bytes")
    try:
        process.wait(timeout=max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired as error:
        raise _failed(program, server, "does not end") from error
    return output


def _failed(program: str, server: str, what: str) -> UndeterminedError:
    return UndeterminedError(
        f"{program} {what} when asked for {server}",
        next_step=f"Try `echo {server} | {program} get` yourself, or log in without the helper.",
        code="credential_helper",
    )
