"""What each chat service wants to be sent, and what its answers mean.

| service | body | signed | refuses with |
|---|---|---|---|
| Slack, incoming webhook | `text`, `blocks` in mrkdwn | no: the address is secret | status; 429 when too fast |
| DingTalk, robot | `markdown`, 20,000 bytes | in the address | `errcode`; 130101 when too fast |
| Feishu, robot | `post`, 20 KB | in the body | `code`; 11232, 9499 when too fast |
| WeCom, robot | `markdown`, 4,096 bytes | no: the address is secret | `errcode`; 45009 when too fast |

What is said comes from outside in part (names of images, messages of rules), so it is written such that no service
reads mentions, links or formatting into it.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import quote_plus, urlsplit

import msgspec

from tidewaiter.core.errors import InputError
from tidewaiter.core.settings.notices import Kind, NoticeTable
from tidewaiter.pipelines.notices.notice import Level, Notice
from tidewaiter.pipelines.notices.words import say

_BYTES: dict[Kind, int] = {"slack": 12_000, "dingtalk": 18_000, "feishu": 18_000, "wecom": 4_000, "generic": 100_000}
"""Of the text, with room for what is around it."""
_SECTION = 2_900
"""Characters of one of Slack's blocks; it takes 3,000."""
_TOO_FAST = {"130101", "90030", "11232", "9499", "45009"}
_MARKS: dict[Level, str] = {"info": "ℹ️", "warning": "⚠️", "error": "⛔"}


class Request(NamedTuple):
    """What is posted, and where."""

    url: str
    body: bytes


class Answered(NamedTuple):
    """What an answer means: taken when `error` is empty; `later` says that it may be taken then."""

    error: str
    later: bool = False


def request(table: NoticeTable, url: str, secret: str, notices: Sequence[Notice], seconds: int) -> Request:
    """The request that tells a channel of these notices in one message; `seconds` is now, since 1970.

    Raises:
        InputError: the channel's template is malformed.
    """
    title, blocks = _composed(table, notices)
    if table.to == "slack":
        return Request(url, _json(_slack(title, blocks)))
    if table.to == "dingtalk":
        text = "\n\n".join([f"#### {_markdown(title)}", *("  \n".join(map(_markdown, one)) for one in blocks)])
        return Request(_signed_url(url, secret, seconds), _json(_dingtalk(title, text)))
    if table.to == "feishu":
        return Request(url, _json(_feishu(title, blocks, secret, seconds)))
    if table.to == "wecom":
        text = "\n".join([f"**{_markdown(title)}**", *(f"> {_markdown(line)}" for one in blocks for line in one)])
        return Request(url, _json({"msgtype": "markdown", "markdown": {"content": _cut(text, _BYTES["wecom"])}}))
    return Request(url, _generic(table, title, blocks, notices))


def text(table: NoticeTable, notices: Sequence[Notice]) -> tuple[str, str]:
    """Subject and text of a letter."""
    title, blocks = _composed(table, notices)
    return title, "\n\n".join("\n".join(one) for one in blocks) + "\n"


def answered(kind: Kind, status: int, body: bytes) -> Answered:
    """What a service said; some say no with a status of 200."""
    if status == 429 or status >= 500:
        return Answered(f"it answered {status}", later=True)
    if not 200 <= status < 300:
        return Answered(f"it answered {status}: {_said(body)}")
    if kind in {"slack", "generic"}:
        return Answered("")
    try:
        answer = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        answer = None
    code = (
        next((answer[name] for name in ("errcode", "code", "StatusCode") if name in answer), None)
        if isinstance(answer, dict)
        else None
    )
    if code == 0:
        return Answered("")
    return Answered(f"it answered {_said(body)}", later=code is None or str(code) in _TOO_FAST)


def _said(body: bytes) -> str:
    return ascii(body[:200].decode("utf-8", "replace"))[1:-1]


def _composed(table: NoticeTable, notices: Sequence[Notice]) -> tuple[str, list[list[str]]]:
    """A title, and the lines of each notice."""
    when = [say(table.language, "time", time=one.time) for one in notices]
    if len(notices) == 1:
        one = notices[0]
        return f"{_MARKS[one.level]} {one.title}", [[*one.lines, *filter(None, [one.url]), when[0]]]
    worst = next(level for level in ("error", "warning", "info") if any(one.level == level for one in notices))
    title = f"{_MARKS[worst]} {say(table.language, 'joined', count=len(notices))}"  # type: ignore[index]  # a level
    blocks = [
        [f"{_MARKS[one.level]} {one.title}", *one.lines, *filter(None, [one.url]), at]
        for one, at in zip(notices, when, strict=True)
    ]
    return title, blocks


def _json(document: object) -> bytes:
    return msgspec.json.encode(document)


def _cut(text: str, size: int) -> str:
    """`text` within so many bytes of UTF-8, with a mark where it was cut."""
    data = text.encode()
    return text if len(data) <= size else data[: size - 3].decode("utf-8", "ignore") + "…"


def _markdown(line: str) -> str:
    """A line in which DingTalk and WeCom find nothing to format: no link, no mention, no heading, no tag."""
    shown = line.replace("<", "‹").replace(">", "›").replace("[", "［").replace("]", "］").replace("`", "'")
    shown = shown.replace("*", "∗").replace("@", "@\u2060")
    return "\u2060" + shown if shown[:1] in "#-+!" or shown[:1].isdigit() else shown


def _slack(title: str, blocks: Sequence[Sequence[str]]) -> dict[str, Any]:
    def escaped(line: str) -> str:
        # What Slack asks for; besides, its own marks would format a name such as `my_image_2`.
        safe = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        safe = safe.replace("*", "∗").replace("_", "\u2060_\u2060").replace("`", "'").replace("~", "∼")
        return safe.replace("@", "@\u2060")  # Slack may call those whom plain text names

    bodies, left = [], _BYTES["slack"]
    for block in blocks[:40]:
        body = "\n".join(map(escaped, block))[:_SECTION]
        left -= len(body.encode())
        if left < 0:
            break
        bodies.append({"type": "section", "text": {"type": "mrkdwn", "text": body or " "}})
    head = {"type": "section", "text": {"type": "mrkdwn", "text": f"*{escaped(title)[:_SECTION]}*"}}
    return {"text": escaped(title), "blocks": [head, *bodies]}


def _dingtalk(title: str, text: str) -> dict[str, Any]:
    # Without `at` nobody is called, whatever the text says.
    return {"msgtype": "markdown", "markdown": {"title": title, "text": _cut(text, _BYTES["dingtalk"])}}


def _signed_url(url: str, secret: str, seconds: int) -> str:
    r"""DingTalk: HMAC-SHA256 of `MILLISECONDS\nSECRET` under the secret, in the address."""
    if not secret:
        return url
    moment = f"{seconds * 1000}"
    signed = hmac.digest(secret.encode(), f"{moment}\n{secret}".encode(), hashlib.sha256)
    joint = "&" if urlsplit(url).query else "?"
    return f"{url}{joint}timestamp={moment}&sign={quote_plus(base64.b64encode(signed))}"


def _feishu(title: str, blocks: Sequence[Sequence[str]], secret: str, seconds: int) -> dict[str, Any]:
    r"""A post, whose pieces of text are shown as they are; signed: HMAC-SHA256 of nothing under `SECONDS\nSECRET`."""
    lines: list[list[dict[str, str]]] = []
    left = _BYTES["feishu"]
    for line in (line for block in blocks for line in [*block, ""]):
        left -= len(line.encode()) + 40
        if left < 0:
            lines.append([{"tag": "text", "text": "…"}])
            break
        lines.append([{"tag": "text", "text": line}])
    body: dict[str, Any] = {
        "msg_type": "post",
        "content": {"post": {"zh_cn": {"title": title, "content": lines}}},
    }
    if secret:
        signed = hmac.digest(f"{seconds}\n{secret}".encode(), b"", hashlib.sha256)
        body = {"timestamp": str(seconds), "sign": base64.b64encode(signed).decode(), **body}
    return body


def _generic(table: NoticeTable, title: str, blocks: Sequence[Sequence[str]], notices: Sequence[Notice]) -> bytes:
    lines = "\n\n".join("\n".join(one) for one in blocks)
    values = {
        "title": title,
        "text": _cut(lines, _BYTES["generic"]),
        "about": notices[0].about,
        "level": notices[0].level,
        "url": notices[0].url,
        "time": notices[0].time,
        "subject": notices[0].subject,
    }
    if table.template:
        return _json(_filled(template(table), values))
    return _json({**values, "notices": notices})


def template(table: NoticeTable) -> Any:  # noqa: ANN401 - any JSON
    """The template of a table, decoded; raises `InputError` when it is no JSON."""
    try:
        return msgspec.json.decode(table.template.encode())
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"[[notice]] {table.name}: its template is no JSON: {error}",
            next_step='Write JSON with {title} and {text} in its strings, as \'{"text": "{title}: {text}"}\'.',
        ) from error


def _filled(value: Any, values: dict[str, str]) -> Any:  # noqa: ANN401 - any JSON
    """`value` with what stands in braces in its strings filled in; that is not read again, so it cannot break out."""
    if isinstance(value, dict):
        return {name: _filled(one, values) for name, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, values) for one in value]
    if not isinstance(value, str):
        return value
    pieces = value.split("{")
    said = [pieces[0]]
    for piece in pieces[1:]:
        name, end, rest = piece.partition("}")
        said.append(values[name] + rest if end and name in values else "{" + piece)
    return "".join(said)
