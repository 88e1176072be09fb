"""What proves to the server who asks.

1. `TIDEWAITER_TOKEN`.
2. The file that the setting `token_file` names, which nobody but its owner may read.
3. In a job of GitLab, the OIDC token in `TIDEWAITER_ID_TOKEN`; in one of GitHub Actions the one that GitHub gives it,
   made out to the server's address.

It is held in a `Token`, which shows itself nowhere.
"""

import contextlib
import os
import re
import stat
from pathlib import Path
from urllib.parse import quote

import msgspec

from tidewaiter.core import limits, settings
from tidewaiter.core.errors import InputError, UndeterminedError
from tidewaiter.core.settings import Settings
from tidewaiter.transport import address
from tidewaiter.transport.client import Client

_TOKEN = re.compile(r"[!-~]+")


class Token:
    """A secret that may be sent, and is not shown: not when it is printed, nor in a traceback."""

    __slots__ = ("_text",)

    def __init__(self, text: str, where: str) -> None:
        """Take the token that stands in `where`; raises `InputError` when it cannot be one."""
        clean = text.strip()
        if len(clean) > limits.TOKEN_CHARACTERS or not _TOKEN.fullmatch(clean):
            raise InputError(
                f"what stands in {where} is no token", next_step="Put the token there, as the server printed it."
            )
        self._text = clean

    def __repr__(self) -> str:
        return "Token(…)"

    @property
    def header(self) -> str:
        """What stands in `Authorization`."""
        return f"Bearer {self._text}"


class _GitHubAnswer(msgspec.Struct, frozen=True):
    value: str


def find(client: Client, loaded: Settings) -> Token:
    """The token for the server of the settings.

    Raises:
        InputError: there is none, what is there is no token, or others may read the file.
        UndeterminedError: GitHub did not give one.
    """
    # 1.
    if text := settings.api_token():
        return Token(text, "TIDEWAITER_TOKEN")
    # 2.
    if loaded.token_file is not None:
        return Token(_read(loaded.token_file), str(loaded.token_file))
    # 3.
    if text := settings.job_token():
        return Token(text, "TIDEWAITER_ID_TOKEN")
    url, secret = settings.github_token_request()
    if url and secret:
        return _of_github(client, url, secret, loaded.server)
    raise InputError(
        f"{loaded.server} has to know who asks, and there is no token",
        next_step="Set TIDEWAITER_TOKEN, or `token_file` in settings.toml; `tidewaiter token create` on the server "
        "makes one.",
    )


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(limits.TOKEN_CHARACTERS + 2)
    except OSError as error:
        raise InputError(
            f"the token cannot be read from {path}: {error.strerror}", next_step="Correct the setting token_file."
        ) from error
    if stat.S_IMODE(mode) & 0o077:
        raise InputError(
            f"{path} holds a token, and others may read it", next_step=f"Run `chmod 600 {path}`, and renew the token."
        )
    return data.decode(errors="replace")


def _of_github(client: Client, url: str, secret: str, server: str) -> Token:
    where = address.parse(url)
    if where.scheme != "https" and not address.is_loopback(where.host):
        raise InputError("ACTIONS_ID_TOKEN_REQUEST_URL is not https", next_step="Run this in a job of GitHub Actions.")
    asked = f"{url}{'&' if '?' in url else '?'}audience={quote(server, safe='')}"
    headers = {"Authorization": Token(secret, "ACTIONS_ID_TOKEN_REQUEST_TOKEN").header}
    answer = client.request("GET", asked, headers=headers, limit=limits.TOKEN_ANSWER_BYTES)
    given = None
    if answer.status == 200 and address.origin(answer.url) == address.origin(asked):
        with contextlib.suppress(ValueError):  # which would show the answer, that may hold a token
            given = msgspec.json.decode(answer.body, type=_GitHubAnswer)
    if given is None:
        raise UndeterminedError(
            f"GitHub gave this job no token: it answered {answer.status}",
            next_step="Give the job `permissions: id-token: write`, and run it again.",
        )
    return Token(given.value, "GitHub's answer")
