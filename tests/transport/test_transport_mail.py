"""Letters: handed to a real SMTP server, over TLS that is verified, and refused in two ways that differ."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword, Session

from authority import Authority
from tidewaiter.core.errors import InputError, NetworkError, RefusedError
from tidewaiter.core.settings import notices
from tidewaiter.core.settings.notices import Mail
from tidewaiter.transport import mail
from tidewaiter.transport.tls import Trust


class Box:
    """Takes letters; `says` is what it answers to them."""

    def __init__(self) -> None:
        self.letters: list[Envelope] = []
        self.says = "250 OK"

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:  # noqa: N802  # aiosmtpd's name
        if self.says.startswith("250"):
            self.letters.append(envelope)
        return self.says

    async def handle_RCPT(  # noqa: N802  # aiosmtpd's name
        self, server: Any, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.startswith("nobody@"):
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"


@contextmanager
def serving(box: Box, **options: Any) -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=port, **options)
    controller.start()
    try:
        yield port
    finally:
        controller.stop()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


def context(authority: Authority) -> ssl.SSLContext:
    pair = authority.issue("server")
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(pair.certificate, pair.key)
    return made


def server(port: int, tls: Any = "none", user: str = "") -> Mail:
    return Mail("127.0.0.1", port, tls, "tide@mail.example", user, None)


def letter(to: str = "a@mail.example") -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "tide@mail.example", to, "⛔ 未获准"
    made.set_content("why\n")
    return made


def test_a_letter_arrives(tmp_path: Path) -> None:
    """With its sender, its recipients and its text."""
    box = Box()
    with serving(box) as port:
        mail.send(server(port), "", Trust(), letter("a@mail.example, b@mail.example"))
    (got,) = box.letters
    assert got.mail_from == "tide@mail.example"
    assert got.rcpt_tos == ["a@mail.example", "b@mail.example"]
    assert b"why" in (got.content if isinstance(got.content, bytes) else b"")


def _accept(server: Any, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
    ok = isinstance(data, LoginPassword) and (data.login, data.password) == (b"tide", b"secret")
    return AuthResult(success=ok, handled=False)


def test_a_login_goes_over_tls_only(authority: Authority) -> None:
    """STARTTLS comes before the password; a wrong one is refused for good."""
    box = Box()
    options = {"tls_context": context(authority), "authenticator": _accept, "auth_require_tls": True}
    trust = Trust(authorities=authority.certificate)
    with serving(box, **options) as port:
        mail.send(server(port, "starttls", "tide"), "secret", trust, letter())
        with pytest.raises(RefusedError, match="535"):
            mail.send(server(port, "starttls", "tide"), "wrong", trust, letter())
    assert len(box.letters) == 1


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_a_server_that_nobody_vouches_for_gets_nothing(authority: Authority, tls: str) -> None:
    """A certificate of an unknown authority is a refusal, with TLS from the start or later."""
    box = Box()
    made = context(authority)
    options = {"tls_context": made} if tls == "starttls" else {"ssl_context": made}
    with serving(box, **options) as port, pytest.raises(RefusedError, match="not trusted"):
        mail.send(server(port, tls), "", Trust(), letter())
    assert box.letters == []


def test_a_server_without_starttls_gets_nothing() -> None:
    """What should be enciphered is not sent in the clear instead."""
    box = Box()
    with serving(box) as port, pytest.raises(RefusedError, match="STARTTLS"):
        mail.send(server(port, "starttls"), "", Trust(), letter())
    assert box.letters == []


@pytest.mark.parametrize(("says", "error"), [("451 later", NetworkError), ("554 never", RefusedError)])
def test_for_now_and_for_ever_are_told_apart(says: str, error: type[Exception]) -> None:
    """4xx is tried again, 5xx is not."""
    box = Box()
    box.says = says
    with serving(box) as port, pytest.raises(error, match=says[:3]):
        mail.send(server(port), "", Trust(), letter())


def test_recipients_that_nobody_knows_are_refused() -> None:
    """A letter that reaches none of its recipients is refused."""
    box = Box()
    with serving(box) as port, pytest.raises(RefusedError, match=r"nobody@mail\.example: no such user"):
        mail.send(server(port), "", Trust(), letter("nobody@mail.example"))


def test_no_server_is_a_matter_of_the_network() -> None:
    """Nobody listens: that may change."""
    with pytest.raises(NetworkError, match=r"127\.0\.0\.1:9"):
        mail.send(server(9), "", Trust(), letter())


def test_half_of_the_recipients_is_not_all() -> None:
    """A letter goes to all of its recipients or to none: else nobody would learn of the one who did not get it."""
    box = Box()
    with serving(box) as port, pytest.raises(RefusedError, match=r"nobody@mail\.example"):
        mail.send(server(port), "", Trust(), letter("a@mail.example, nobody@mail.example"))
    assert box.letters == []


def test_a_server_whose_name_is_none_is_not_reached() -> None:
    """A name that no host can have is an error as any other, not a crash of the sender."""
    letter = EmailMessage()
    letter["To"] = "somebody@example.com"
    for host in ("a..b", "a" * 70 + ".example"):
        with pytest.raises(NetworkError):
            mail.send(Mail(host, 25, "none", "a@example.com", "", None), "", Trust(), letter)


def test_settings_with_a_password_in_the_address_do_not_show_it() -> None:
    """Whoever writes a login into `mail_server` is told what is wrong, and the log is told no password."""
    values = {"mail_server": "smtp://somebody:verysecret@mail.example", "mail_from": "a@example.com"}
    with pytest.raises(InputError) as raised:
        notices.mail(lambda name: values.get(name, ""))
    assert "verysecret" not in raised.value.message
