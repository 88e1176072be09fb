"""What secrets look like: shapes that mean one thing only, with their checksum where they have one.

Those that inspection looks for in images are taken from there, so that both agree on what a token is.
"""

import math
import re
import zlib
from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import Callable
from typing import Literal, NamedTuple

import msgspec

from tidewaiter.inspection.catalogers import secrets as images

Confidence = Literal["sure", "likely", "no"]
_ENTROPY = 3.0
"""Bits for each character that a random token has at least; words and fillers have fewer."""
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_FILLER = re.compile(
    r"example|placeholder|dummy|sample|redacted|changeme|your[-_]|x{5}|\*{3}|0{6}|1234567|abcdefg|deadbeef",
    re.IGNORECASE,
)
_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
Check = Callable[[str], Confidence]


def entropy(text: str) -> float:
    """Shannon entropy of the characters of `text`, in bits for each."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


def filler(value: str) -> bool:
    """Whether that stands where a secret would: an example, a row of the same letter, a counted row of digits."""
    return _FILLER.search(value) is not None or entropy(value) < _ENTROPY


def random(value: str) -> Confidence:
    """Whether a token of the shape is one that somebody was given."""
    return "no" if filler(value) else "sure"


def _base62(number: int) -> str:
    digits = ""
    for _ in range(6):
        number, rest = divmod(number, 62)
        digits = _DIGITS[rest] + digits
    return digits


def summed(value: str) -> Confidence:
    """Of a token whose last six characters are the CRC-32 of what follows its prefix, in base 62 (GitHub, npm)."""
    if filler(value):
        return "no"
    body = value.partition("_")[2]
    return "sure" if _base62(zlib.crc32(body[:-6].encode())) == body[-6:] else "likely"


def _github(value: str) -> Confidence:
    # How fine-grained tokens are summed is not published.
    return random(value) if value.startswith("github_pat_") else summed(value)


def _jwt(value: str) -> Confidence:
    """A JSON Web Token: its first part is a header with an algorithm."""
    head = value.partition(".")[0]
    try:
        header = msgspec.json.decode(urlsafe_b64decode(head + "=" * (-len(head) % 4)), type=dict[str, object])
    except (ValueError, RecursionError):
        return "no"
    return "likely" if "alg" in header and header["alg"] != "none" else "no"


class Shape(NamedTuple):
    """One kind of secret. The group `value` of the pattern is the secret, all of the match without one."""

    rule: str
    what: str
    """As a sentence names it."""
    marks: tuple[str, ...]
    """Texts of which one is there when the pattern matches; compared without regard to case."""
    pattern: re.Pattern[str]
    check: Check = random


def _image_shape(name: str, what: str, marks: tuple[str, ...], check: Check = random) -> Shape:
    return Shape(name, what, marks, re.compile(images.RULES[name].pattern.decode("ascii")), check)


def _shape(name: str, what: str, marks: tuple[str, ...], pattern: str, check: Check = random) -> Shape:
    return Shape(name, what, marks, re.compile(pattern), check)


SHAPES: tuple[Shape, ...] = (
    # Newlines may be escaped, as in a notebook or in the file of a Google service account. What may follow each other
    # in several ways is taken possessively (`+`): else white space alone would be tried in a million ways.
    _shape(
        "private-key",
        "a private key",
        ("private key",),
        r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,2}PRIVATE KEY(?: BLOCK)?-----(?:\s|\\[nr]){1,8}+"
        r"(?:[A-Za-z-]{1,30}+: [^\n]{1,200}+\n\s{0,4}+){0,4}+"
        r"(?P<value>(?:[A-Za-z0-9+/=]|\s|\\[nr]|\",?\s{0,100}+\"){60})",
    ),
    _image_shape("aws-access-key", "an AWS access key id", ("akia", "asia")),
    _shape(
        "aws-secret-key",
        "an AWS secret access key",
        ("secret",),
        r"(?i:aws_?secret_?(?:access_?)?key)\W{1,6}(?P<value>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])",
    ),
    _image_shape("github-token", "a GitHub token", ("gh",), _github),
    _image_shape("gitlab-token", "a GitLab token", ("glpat-",)),
    _shape(
        "gitlab-token",
        "a GitLab token",
        ("gl",),
        r"(?<![\w-])(?:gl(?:dt|rt|cbt|ptt|ft|oas|agent|ffct|soat)-[\w=-]{20,64}|glpat-[\w-]{27,300}\.[0-9a-z]{9})(?![\w-])",
    ),
    _image_shape("slack-token", "a Slack token", ("xox",)),
    _image_shape("hugging-face-token", "a Hugging Face token", ("hf_",)),
    _image_shape("google-api-key", "a Google API key", ("aiza",)),
    _image_shape("pypi-token", "a PyPI token", ("pypi-",)),
    _image_shape("npm-token", "an npm token", ("npm_",), summed),
    _shape(
        "alibaba-access-key",
        "an Alibaba Cloud access key id",
        ("ltai",),
        r"(?<![A-Za-z0-9])LTAI(?:5t[A-Za-z0-9]{18}|[A-Za-z0-9]{12})(?![A-Za-z0-9])",
    ),
    _shape(
        "tencent-secret-id",
        "a Tencent Cloud secret id",
        ("akid",),
        r"(?<![A-Za-z0-9])AKID[A-Za-z0-9]{32}(?![A-Za-z0-9])",
    ),
    _shape(
        "openai-key",
        "an OpenAI key",
        ("t3blbkfj",),
        r"(?<![\w-])sk-(?:[a-z]{4,8}-)?[\w-]{20,80}T3BlbkFJ[\w-]{20,80}(?![\w-])",
    ),
    _shape(
        "anthropic-key", "an Anthropic key", ("sk-ant-",), r"(?<![\w-])sk-ant-[a-z]{3,5}\d\d-[\w-]{80,120}AA(?![\w-])"
    ),
    _shape(
        "wandb-key",
        "a Weights & Biases key",
        ("wandb",),
        r"(?i:wandb(?:_?api)?_?key|wandb\.login\(\s{0,100}key)\W{1,6}(?P<value>[0-9a-f]{40})(?![0-9a-f])",
    ),
    _shape(
        "stripe-key", "a Stripe key", ("k_live_",), r"(?<![A-Za-z0-9_])[sr]k_live_[A-Za-z0-9]{24,99}(?![A-Za-z0-9])"
    ),
    _shape(
        "azure-storage-key",
        "an Azure storage key",
        ("accountkey=",),
        r"AccountKey=(?P<value>[A-Za-z0-9+/]{86}==)",
    ),
    _shape(
        "chat-webhook",
        "the address of a chat robot, which is a secret",
        ("oapi.dingtalk.com", "qyapi.weixin.qq.com", "/open-apis/bot/", "hooks.slack.com"),
        r"oapi\.dingtalk\.com/robot/send\?access_token=[0-9a-f]{64}"
        rf"|qyapi\.weixin\.qq\.com/cgi-bin/webhook/send\?key={_UUID}"
        rf"|open\.(?:feishu\.cn|larksuite\.com)/open-apis/bot/v2/hook/{_UUID}"
        r"|hooks\.slack\.com/services/T[A-Z0-9]{8,12}/B[A-Z0-9]{8,12}/[A-Za-z0-9]{24}",
    ),
    _shape(
        "json-web-token",
        "a signed token (JWT)",
        ("eyj",),
        r"(?<![\w.-])eyJ[\w-]{10,1000}\.eyJ[\w-]{10,8000}\.[\w-]{40,1000}(?![\w.-])",
        _jwt,
    ),
)
