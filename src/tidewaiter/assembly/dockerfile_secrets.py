"""What looks like a secret in a Dockerfile: it would stay in the image's layers or history for everyone to read.

Names decide where a value is plain text, values where they have the form of a known token. Both are written so that
what is common and harmless (`TOKENIZERS_PARALLELISM`, `GPG_KEY`, a path of a key file) is let through.
"""

import re

_WORDS = {"TOKEN", "PASSWORD", "PASSWD", "PASSPHRASE", "SECRET", "CREDENTIAL", "CREDENTIALS", "APIKEY"}
_KEYS = re.compile(r"(?:^|_)(?:API|ACCESS|PRIVATE|SECRET|SIGNING|AUTH|DEPLOY|SSH|ENCRYPTION)_KEY(?:_|$)")
_ABOUT = {"FILE", "PATH", "DIR", "NAME", "ID", "TYPE", "ALGORITHM", "LENGTH", "LIMIT", "LIMITS", "MAX", "MIN", "COUNT"}
_HARMLESS = re.compile(r"|\d{1,6}|true|false|yes|no|on|off|none|null|[./~].*", re.IGNORECASE)

_TOKENS = (
    ("a private key", re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")),
    ("a GitHub token", re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})")),
    ("a GitLab token", re.compile(r"\bglpat-[A-Za-z0-9_-]{20,}")),
    ("an AWS key", re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b")),
    ("a Hugging Face token", re.compile(r"\bhf_[A-Za-z0-9]{30,}")),
    ("a PyPI token", re.compile(r"\bpypi-[A-Za-z0-9_-]{40,}")),
    ("a password in an address", re.compile(r"\b[a-z][a-z0-9+.-]*://[^/@\s:'\"$]+:[^/@\s'\"$]+@", re.IGNORECASE)),
)


def is_secret_name(name: str) -> bool:
    """Whether a variable of this name usually holds a secret, rather than something about one."""
    words = name.upper().split("_")
    if words[-1] in _ABOUT:
        return False
    return bool(_WORDS & set(words)) or _KEYS.search(name.upper()) is not None


def token_in(text: str) -> str | None:
    """What kind of secret has its unmistakable form in `text`; None when none has."""
    return next((kind for kind, form in _TOKENS if form.search(text)), None)


def found_in(name: str, value: str) -> str | None:
    """Why `NAME=value` must not stand in a Dockerfile; None when it may."""
    token = token_in(value)
    if token is not None:
        return f"{name} holds {token}"
    if is_secret_name(name) and not _HARMLESS.fullmatch(value) and not value.startswith("$"):
        return f"{name} looks like a secret"
    return None
