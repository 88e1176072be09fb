"""One message on its way to the people of a channel."""

import time
from collections.abc import Sequence
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from tidewaiter.catalog.outbox import Attempt
from tidewaiter.core import clock, limits
from tidewaiter.core.errors import InputError, NetworkError, RefusedError, TidewaiterError
from tidewaiter.core.settings import Settings
from tidewaiter.core.settings.notices import NoticeTable
from tidewaiter.pipelines.notices import formats
from tidewaiter.pipelines.notices.notice import Notice
from tidewaiter.pipelines.notifying import endpoints
from tidewaiter.pipelines.notifying.endpoints import Tried
from tidewaiter.transport import address, mail, retry
from tidewaiter.transport.client import Client, Timeouts
from tidewaiter.transport.tls import Trust

_SECRET_CHARACTERS = 6
"""What is shorter in an address is none, and would be found in any sentence."""


class Channels:
    """Sends notices; safe from many threads. Use as a context manager."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.tables = {one.name: one for one in settings.notices}
        self._trust = Trust(authorities=settings.ca_file, hosts=settings.certificates)
        waits = Timeouts(connect=limits.WEBHOOK_CONNECT_SECONDS, read=limits.WEBHOOK_ANSWER_SECONDS)
        self._client = Client(timeouts=waits, attempts=1, trust=self._trust)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def interrupt(self) -> None:
        """End what is on its way."""
        self._client.interrupt()

    def send(self, table: NoticeTable, name: str, notices: Sequence[Notice]) -> Tried:
        """Try once to have one message taken; whatever happens is in the answer.

        Args:
            table: the channel.
            name: of the message: the same whenever it is tried, so that a reader of mail sees it once.
            notices: what it says, one or more.
        """
        began, at = time.monotonic(), clock.now()
        status, asked, error, later = 0, None, "", False
        try:
            if table.to == "mail":
                self._post_letter(table, name, notices)
            else:
                status, asked, (error, later) = self._post(table, notices, int(at.timestamp()))
        except NetworkError as failure:
            error, later = failure.message, True
        except TidewaiterError as failure:
            error = failure.message
        attempt = Attempt(at=at, status=status, error=error[:500], seconds=round(time.monotonic() - began, 3))
        return Tried(attempt, unable=bool(error) and later, gone=status == 410, asked=asked)

    def _post(
        self, table: NoticeTable, notices: Sequence[Notice], seconds: int
    ) -> tuple[int, float | None, formats.Answered]:
        url = table.url or secret(table.url_file, "url_file")
        try:
            there = address.parse(url)
        except InputError:
            raise InputError(
                "url or url_file holds no address", next_step="Give one that starts with https:// and a host name."
            ) from None  # which shows it
        if there.scheme != "https" and not endpoints.named(self._settings, url):
            raise RefusedError(
                f"notices are not sent to {there.host[:100]}: it is not https",
                next_step="Name the host in the setting webhook_hosts when it is meant.",
                code="webhook_address",
            )
        made = formats.request(table, url, secret(table.secret_file, "secret_file"), notices, seconds)
        headers = {"Content-Type": "application/json; charset=utf-8"}
        try:
            answer = self._client.request(
                "POST", made.url, headers=headers, content=made.body, limit=limits.NOTICE_ANSWER_BYTES
            )
        except TidewaiterError as error:
            error.message = _hidden(error.message, url)
            raise error from None  # its cause says the address, too
        body = _hidden(answer.body.decode("utf-8", "replace"), url).encode()
        return answer.status, retry.requested_wait(answer.headers), formats.answered(table.to, answer.status, body)

    def _post_letter(self, table: NoticeTable, name: str, notices: Sequence[Notice]) -> None:
        server = self._settings.mail
        if server is None:
            raise InputError("no mail server is named", next_step="Set mail_server and mail_from.")
        subject, text = formats.text(table, notices)
        letter = EmailMessage()
        letter["From"], letter["To"] = server.sender, ", ".join(table.recipients)
        letter["Subject"] = subject
        letter["Date"] = format_datetime(clock.now())
        letter["Message-ID"] = f"<{name}@{server.sender.rpartition('@')[2]}>"
        letter["Auto-Submitted"] = "auto-generated"
        letter.set_content(text)
        password = secret(str(server.password_file), "mail_password_file") if server.password_file else ""
        mail.send(server, password, self._trust, letter)


def _hidden(said: str, url: str) -> str:
    """What an error or a server says, without the address of the room, which is a secret."""
    place, _, query = url.partition("://")[2].partition("?")
    path = place.partition("/")[2]
    for part in (f"{path}?{query}", path, query):
        if len(part) >= _SECRET_CHARACTERS:
            said = said.replace(part, "…")
    return said


def secret(path: str, what: str) -> str:
    """What a file says, without blanks around it; empty without a file. Raises `InputError`."""
    if not path:
        return ""
    try:
        with Path(path).expanduser().open("rb") as file:
            data = file.read(limits.NOTICE_SECRET_BYTES + 1)
        text = data.decode().strip()
    except (OSError, ValueError) as error:
        raise InputError(
            f"{what}: {path} cannot be read: {error}", next_step="Check the path, and who may read it."
        ) from error
    if not text or len(data) > limits.NOTICE_SECRET_BYTES or not text.isprintable():
        raise InputError(f"{what}: {path} holds no single line", next_step="Put only the value into it.")
    return text
