"""What chat services are sent, what their answers mean, and that nothing from outside speaks with our voice."""

import base64
import hashlib
import hmac
import json
import urllib.parse
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewaiter.core.errors import InputError
from tidewaiter.core.settings.notices import Kind, NoticeTable
from tidewaiter.pipelines.notices import formats
from tidewaiter.pipelines.notices.notice import Notice, plain
from tidewaiter.pipelines.notices.words import WORDS

URL = "https://robot.example/send?access_token=t"
SECONDS = 1_767_225_600
HOSTILE = '<!channel> <@U1> <at user_id="all">all</at> @all [click](https://evil.example) `x` *b* _i_ & </text> {title}'


def table(to: Kind, **more: Any) -> NoticeTable:
    return NoticeTable(name="room", to=to, url=URL, **more)


def notice(title: str = "an image is denied", *lines: str, **more: Any) -> Notice:
    values: dict[str, Any] = {"about": "denial", "level": "error", "time": "2026-01-01T00:00:00Z", "subject": "s"}
    return Notice(title=title, lines=lines, **{**values, **more})


def sent(to: Kind, *notices: Notice, secret: str = "", **more: Any) -> tuple[str, Any]:
    made = formats.request(table(to, **more), URL, secret, notices, SECONDS)
    return made.url, json.loads(made.body)


def test_dingtalk_is_signed_in_the_address() -> None:
    """`sign` is what DingTalk's documentation computes: of `timestamp + "\\n" + secret` under the secret, base64."""
    url, body = sent("dingtalk", notice(), secret="SECabc")
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(url).query)
    (moment,), (sign,) = query["timestamp"], query["sign"]
    assert moment == str(SECONDS * 1000)
    expected = hmac.new(b"SECabc", digestmod=hashlib.sha256)
    expected.update(moment.encode() + b"\n" + b"SECabc")
    assert base64.b64decode(sign) == expected.digest()
    assert query["access_token"] == ["t"]
    assert "at" not in body


def test_feishu_is_signed_in_the_body() -> None:
    """Feishu's documentation takes `timestamp + "\\n" + secret` as the key, and signs nothing."""
    _, body = sent("feishu", notice(), secret="abc")
    expected = hmac.new(f"{SECONDS}\nabc".encode(), msg=b"", digestmod=hashlib.sha256).digest()
    assert base64.b64decode(body["sign"]) == expected
    assert body["timestamp"] == str(SECONDS)
    assert "sign" not in sent("feishu", notice())[1]


def test_slack_finds_no_mention_and_no_link() -> None:
    """Everything in angle brackets is Slack's own language; nothing from outside may speak it."""
    _, body = sent("slack", notice(HOSTILE, HOSTILE))
    told = [body["text"], *(one["text"]["text"] for one in body["blocks"])]
    assert all("<" not in one and ">" not in one for one in told)
    assert "&lt;!channel&gt;" in body["text"]
    assert "@\u2060all" in sent("slack", notice("@all"))[1]["text"]


@pytest.mark.parametrize("to", ["dingtalk", "wecom"])
def test_markdown_finds_no_mention_and_no_link(to: Kind) -> None:
    """No tag, link, code or name that is called stays what it was."""
    _, body = sent(to, notice(HOSTILE, HOSTILE, "# a heading", "- a list"))
    text = body["markdown"].get("text") or body["markdown"]["content"]
    assert not any(sign in text for sign in ("<", "](", "`x`", "*b*", "@all", "[click"))
    assert "\n# a heading" not in text
    assert "evil.example" in text


def test_feishu_shows_text_as_it_is() -> None:
    """All of a post's pieces are text, of which Feishu reads nothing."""
    _, body = sent("feishu", notice(HOSTILE, HOSTILE))
    pieces = [piece for line in body["content"]["post"]["zh_cn"]["content"] for piece in line]
    assert {piece["tag"] for piece in pieces} == {"text"}
    assert HOSTILE in [piece["text"] for piece in pieces]


@pytest.mark.parametrize(
    ("to", "size"), [("slack", 40_000), ("dingtalk", 20_000), ("feishu", 20_480), ("wecom", 4_096 + 200)]
)
def test_what_is_much_is_cut(to: Kind, size: int) -> None:
    """A message is never over what its service takes, and says at its end that it was cut."""
    many = [notice("图" * 300, *(["话" * 300] * 12)) for _ in range(10)]
    made = formats.request(table(to), URL, "", many, SECONDS)
    assert len(made.body) <= size
    body = json.loads(made.body)
    if to == "wecom":
        assert len(body["markdown"]["content"].encode()) <= 4_096
        assert body["markdown"]["content"].endswith("…")
    if to == "slack":
        assert all(len(one["text"]["text"]) <= 3_000 for one in body["blocks"])
        assert len(body["blocks"]) <= 50


def test_notices_are_joined_with_the_worst_mark() -> None:
    """A message of several says how many, and has each with its title."""
    title, text = formats.text(table("generic"), [notice("one", level="info"), notice("two")])
    assert title == "⛔ 2 notices"
    assert "one" in text
    assert "two" in text


@given(st.text(max_size=60), st.text(max_size=60))
def test_nothing_breaks_out_of_a_template(title: str, line: str) -> None:
    """Whatever is told ends up in the string that its place is in, and nowhere else."""
    template = '{"text": "{title}|{text}", "n": [1, "{level} {unknown} {"], "k": {"{title}": "x"}}'
    _, body = sent("generic", notice(title, line), template=template)
    assert set(body) == {"text", "n", "k"}
    assert body["text"].startswith(f"⛔ {title}|")
    assert body["n"] == [1, "error {unknown} {"]
    assert body["k"] == {"{title}": "x"}


def test_without_a_template_everything_is_told() -> None:
    """Programs get the notices themselves beside the text."""
    _, body = sent("generic", notice("denied", "why"))
    assert body["notices"][0]["lines"] == ["why"]
    assert body["about"] == "denial"


def test_a_template_that_is_no_json_is_refused() -> None:
    """The error names the table, and shows how one is written."""
    with pytest.raises(InputError, match=r"\[\[notice\]\] room: its template is no JSON"):
        sent("generic", notice(), template="{title}")


@pytest.mark.parametrize(
    ("to", "status", "body", "error", "later"),
    [
        ("slack", 200, b"ok", "", False),
        ("slack", 429, b"", "429", True),
        ("slack", 404, b"no_service", "no_service", False),
        ("slack", 500, b"", "500", True),
        ("dingtalk", 200, b'{"errcode":0,"errmsg":"ok"}', "", False),
        ("dingtalk", 200, b'{"errcode":130101,"errmsg":"send too fast"}', "130101", True),
        ("dingtalk", 200, b'{"errcode":310000,"errmsg":"sign not match"}', "310000", False),
        ("feishu", 200, b'{"StatusCode":0,"StatusMessage":"success","code":0}', "", False),
        ("feishu", 200, b'{"code":19021,"msg":"sign match fail"}', "19021", False),
        ("feishu", 200, b'{"code":11232,"msg":"frequency limited"}', "11232", True),
        ("wecom", 200, b'{"errcode":45009,"errmsg":"freq out of limit"}', "45009", True),
        ("wecom", 200, b'{"errcode":93000,"errmsg":"invalid webhook url"}', "93000", False),
        ("wecom", 200, b"<html>login</html>", "html", True),
        ("wecom", 200, b"\xff\xfe", "ufffd", True),
        ("wecom", 200, b"[]", "[]", True),
        ("generic", 204, b"", "", False),
        ("generic", 400, b"bad", "bad", False),
    ],
)
def test_answers_mean_what_the_services_say(to: Kind, status: int, body: bytes, error: str, later: bool) -> None:
    """A refusal with a status of 200 is a refusal; what nobody understands is not taken for a yes."""
    answer = formats.answered(to, status, body)
    assert (bool(answer.error), answer.later) == (bool(error), later)
    assert error in answer.error
    assert answer.error.isascii()


def test_languages_say_the_same_things() -> None:
    """Each has the words of each, with the same values in them."""
    import string

    def places(text: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    english, chinese = WORDS["en"], WORDS["zh"]
    assert {name: places(text) for name, text in english.items()} == {
        name: places(text) for name, text in chinese.items()
    }


def test_what_comes_from_outside_is_one_plain_line() -> None:
    """Control characters, line breaks and marks that turn text around do not get through."""
    assert plain("a\x1b[31m\r\n b\u202ec\x00") == "a\ufffd[31m b\ufffdc\ufffd"
    assert len(plain("x" * 1000)) == 300
