"""What an image's config says in words, with what looks like a secret masked: variables, labels, commands.

A value is a secret by the name before it (`API_TOKEN=`, `--password`), as user and password in a URL, or by the rules
for files (`catalogers.secrets`). The texts are hostile: every pattern passes over them once.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from tidewaiter.inspection.catalogers import secrets
from tidewaiter.inspection.paths import readable

MASK = "****"
_SECRET = re.compile(
    r"TOKEN|PASSWORD|PASSWD|PASSPHRASE|SECRET|KEY|CREDENTIAL|AUTH(?!OR)|(?:^|[_-])PASS$|[_-]PWD$", re.IGNORECASE
)
_USERINFO = re.compile(r"((?<![a-z0-9+.\-])[a-z][a-z0-9+.\-]*://)[^/\s]+@", re.IGNORECASE)
_ASSIGNED = re.compile(r"""(?<![\w.-])([\w.-]+)=("[^"]*"|'[^']*'|[^\s;"']+)""")
_OPTION = re.compile(r"--?[A-Za-z][\w.-]*")
_PRIVATE = "PRIVATE KEY-----"
_WORDS = re.compile(r"(\s+)")
_SECRET_OPTION = re.compile(r"TOKEN|PASSWORD|PASSWD|PASSPHRASE|SECRET|CREDENTIAL|API-?KEY", re.IGNORECASE)


def _assigned(match: re.Match[str]) -> str:
    return f"{match[1]}={MASK}" if _SECRET.search(match[1]) else match[0]


def _inside(text: str) -> str:
    """`text` with secrets masked that can be told without the name in front of it."""
    if _PRIVATE in text or secrets.found(text.encode(errors="surrogatepass")):
        return MASK
    return _ASSIGNED.sub(_assigned, _USERINFO.sub(rf"\1{MASK}@", text))


def _is_option(word: str) -> bool:
    return _OPTION.fullmatch(word) is not None and _SECRET_OPTION.search(word) is not None


def masked(variables: Iterable[str]) -> dict[str, str]:
    """`NAME=value` texts as a mapping; values of secret-looking names, and secrets in others, are `****`."""
    named = (variable.partition("=")[::2] for variable in variables)
    return masked_labels({readable(name): value for name, value in named})


def masked_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels, masked as variables are."""
    return {name: MASK if value and _SECRET.search(name) else _inside(value) for name, value in labels.items()}


def masked_words(words: Sequence[str]) -> tuple[str, ...]:
    """The words of a command; what follows `--password` and its like is `****`."""
    return tuple(
        MASK if at and _is_option(words[at - 1]) and not word.startswith("-") else _inside(word)
        for at, word in enumerate(words)
    )


def masked_text(command: str) -> str:
    """A command in one text, masked as `masked_words` does."""
    if _PRIVATE in command:  # one secret of many words
        return MASK
    words = _WORDS.split(_ASSIGNED.sub(_assigned, command))  # values in quotes may hold spaces
    for at in range(2, len(words), 2):  # every second is the space between two
        if _is_option(words[at - 2]) and not words[at].startswith("-"):
            words[at] = MASK
    return "".join(word if at % 2 else _inside(word) for at, word in enumerate(words))
