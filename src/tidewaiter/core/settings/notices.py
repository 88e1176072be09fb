"""Settings of notices: which people are told what, where, and the mail server that takes letters to them."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError
from tidewaiter.core.settings import reading

Kind = Literal["slack", "dingtalk", "feishu", "wecom", "generic", "mail"]
About = Literal["denial", "waiver", "pipeline", "pipeline-failure", "advisory"]
Severity = Literal["unknown", "low", "medium", "high", "critical"]
Language = Literal["en", "zh"]

_Text = Annotated[str, msgspec.Meta(max_length=limits.NOTICE_TEXT_CHARACTERS)]
_Some = Annotated[tuple[_Text, ...], msgspec.Meta(max_length=limits.NOTICE_LISTED)]
_NAME = r"[a-z0-9][a-z0-9._-]{0,39}"
_ADDRESS = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9.-]{1,253}"
_SERVER = r"(smtps|smtp|smtp\+plain)://([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::(\d{1,5}))?/?"


class NoticeTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[[notice]]`: a room, or people, that are told of some things in words."""

    name: _Text
    to: Kind
    url: _Text = ""
    url_file: _Text = ""
    secret_file: _Text = ""
    template: _Text = ""
    recipients: _Some = ()
    about: Annotated[tuple[About, ...], msgspec.Meta(min_length=1, max_length=limits.NOTICE_LISTED)] = (
        "denial",
        "waiver",
        "pipeline-failure",
        "advisory",
    )
    projects: _Some = ()
    environments: Annotated[
        tuple[Literal["research", "staging", "production"], ...], msgspec.Meta(max_length=limits.NOTICE_LISTED)
    ] = ()
    severity: Severity = "high"
    language: Language = "en"
    per_minute: Annotated[int, msgspec.Meta(ge=1, le=600)] = 15

    def __repr__(self) -> str:
        return f"NoticeTable({self.name!r}, …)"  # the address of a room's robot is a secret


class Mail(msgspec.Struct, frozen=True):
    """The server that takes mail, and as whom we speak to it."""

    host: str
    port: int
    tls: Literal["implicit", "starttls", "none"]
    sender: str
    user: str
    password_file: Path | None


def checked(found: tuple[NoticeTable, ...], file: Path, mail: Mail | None) -> tuple[NoticeTable, ...]:
    """The tables `[[notice]]` of `file`, which make sense one by one and together; raises `InputError`."""
    names: set[str] = set()
    for table in found:
        wrong = "a second table has this name" if table.name in names else _wrong(table, mail)
        names.add(table.name)
        if wrong:
            raise InputError(
                f"{file}: [[notice]] {table.name[:40]!a}: {wrong}",
                next_step="See `[[notice]]` in docs/reference/settings.md.",
            )
    return found


def _wrong(table: NoticeTable, mail: Mail | None) -> str:
    """What makes no sense in a table; empty when all does."""
    if not re.fullmatch(_NAME, table.name):
        return "its name is not made of a-z, 0-9, '.', '_' and '-'"
    return _wrong_letters(table, mail) if table.to == "mail" else _wrong_room(table)


def _wrong_letters(table: NoticeTable, mail: Mail | None) -> str:
    if mail is None:
        return "it is to be sent by mail, and the setting mail_server is empty"
    if table.url or table.url_file or table.secret_file or table.template or not table.recipients:
        return "mail has recipients, and nothing of what a web address has"
    bad = next((one for one in table.recipients if not re.fullmatch(_ADDRESS, one)), None)
    return "" if bad is None else f"{bad[:60]!a} is no mail address"


def _wrong_room(table: NoticeTable) -> str:
    if bool(table.url) == bool(table.url_file) or table.recipients:
        return "it has one of url and url_file, and no recipients"
    if table.secret_file and table.to not in {"dingtalk", "feishu"}:
        return "secret_file is for robots of DingTalk and Feishu"
    if table.template and table.to != "generic":
        return 'template is for to = "generic"'
    return ""


def mail(text: Callable[[str], str]) -> Mail | None:
    """The mail server that the settings name, of which `text` gives each; None without one. Raises `InputError`."""
    server, sender = text("mail_server").strip(), text("mail_from").strip()
    if not server:
        return None
    found = re.fullmatch(_SERVER, server)
    if found is None or not 0 < int(found[3] or 1) < 65536:
        raise InputError(
            # Not shown: somebody may have written a password into it.
            "mail_server is no mail server",
            next_step="Write smtps://HOST[:PORT] or smtp://HOST[:PORT]; user and password have settings of their own.",
        )
    if not re.fullmatch(_ADDRESS, sender):
        raise InputError(
            f"mail_from is {sender[:60]!a}, which is no mail address", next_step="Say from whom notices come."
        )
    password = reading.paths(text("mail_password_file"))
    kinds: dict[str, tuple[Literal["implicit", "starttls", "none"], int]] = {
        "smtps": ("implicit", 465),
        "smtp": ("starttls", 587),
        "smtp+plain": ("none", 25),
    }
    tls, port = kinds[found[1]]
    user = text("mail_user").strip()
    if bool(user) != bool(password):
        raise InputError(
            "of mail_user and mail_password_file one is empty",
            next_step="Give both, or none for a server that asks none.",
        )
    if user and tls == "none":
        raise InputError(
            "a password would be sent to the mail server in the clear", next_step="Use smtps:// or smtp://."
        )
    return Mail(found[2].strip("[]"), int(found[3] or port), tls, sender, user, password[0] if password else None)
