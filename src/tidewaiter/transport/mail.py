"""A letter handed to a mail server: SMTP (RFC 5321) with TLS that is verified, and a bound on every wait."""

from typing import TYPE_CHECKING

from tidewaiter.core import limits
from tidewaiter.core.errors import NetworkError, RefusedError
from tidewaiter.core.settings.notices import Mail
from tidewaiter.transport.tls import Trust

if TYPE_CHECKING:
    import smtplib
    from email.message import EmailMessage


def send(server: Mail, password: str, trust: Trust, letter: "EmailMessage") -> None:
    """Hand `letter` to the server, which takes it for all of its recipients or for none.

    Raises:
        NetworkError: it cannot be reached, is late, or says that it cannot take it now; later it may.
        RefusedError: it takes no such letter, whoever tries how often; or it is not who it should be.
    """
    import smtplib
    import ssl

    where = f"mail server {server.host}:{server.port}"
    try:
        with _opened(server, trust) as session:
            if server.tls == "starttls":
                session.starttls(context=trust.context(None))
                session.ehlo_or_helo_if_needed()
            if server.user:
                session.login(server.user, password)
            _hand_over(session, server.sender, letter)
    except smtplib.SMTPNotSupportedError as error:
        raise _refused(where, 554, f"it does not offer what this needs: {error}") from error
    except smtplib.SMTPResponseException as error:
        raise _refused(where, error.smtp_code, _text(error.smtp_error)) from error
    except ssl.SSLCertVerificationError as error:
        raise RefusedError(
            f"{where}: its certificate is not trusted: {error.verify_message}",
            next_step="Name the authority in the setting ca_file.",
            code="mail_refused",
        ) from error
    except (smtplib.SMTPException, OSError, UnicodeError) as error:  # UnicodeError: the name is none of a host
        why = str(error) or type(error).__name__
        raise NetworkError(
            f"{where}: {why[:200]}", next_step="Check the setting mail_server, and that it runs."
        ) from error


def _opened(server: Mail, trust: Trust) -> "smtplib.SMTP":
    import smtplib

    if server.tls == "implicit":
        return smtplib.SMTP_SSL(
            server.host, server.port, timeout=limits.WEBHOOK_ANSWER_SECONDS, context=trust.context(None)
        )
    return smtplib.SMTP(server.host, server.port, timeout=limits.WEBHOOK_ANSWER_SECONDS)


def _hand_over(session: "smtplib.SMTP", sender: str, letter: "EmailMessage") -> None:
    """Not `send_message`: that is content when one of the recipients is taken."""
    import smtplib
    from email import policy

    session.ehlo_or_helo_if_needed()
    for recipient in (None, *(one.addr_spec for one in letter["To"].addresses)):
        code, said = session.mail(sender) if recipient is None else session.rcpt(recipient)
        if code not in {250, 251}:
            raise smtplib.SMTPResponseException(code, f"{recipient or sender}: {_text(said)}")
    code, said = session.data(letter.as_bytes(policy=policy.SMTP))
    if code != 250:
        raise smtplib.SMTPResponseException(code, said)


def _text(said: bytes | str) -> str:
    return (said.decode("utf-8", "replace") if isinstance(said, bytes) else said)[:200]


def _refused(where: str, code: int, said: str) -> NetworkError | RefusedError:
    """4xx may pass by itself, 5xx does not (RFC 5321, 4.2.1)."""
    message = f"{where} answered {code}: {said}"
    if 400 <= code < 500:
        return NetworkError(message, next_step="It is tried again.")
    return RefusedError(
        message, next_step="Mend what it says: the login, mail_from, or the recipients.", code="mail_refused"
    )
