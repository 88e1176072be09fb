"""What a run says is read by many: secrets that this worker holds, and what has the form of one, are taken out."""

import re

from tidewaiter.core import settings as settings_module
from tidewaiter.core.settings import Settings

GONE = "[secret]"
_LEAST = 6
"""Characters: anything shorter stands in too many words."""
_FORMS = re.compile(
    r"(?P<before>\b[a-z][a-z0-9+.-]*://)[^/@\s'\"]+@"  # user and password of an address
    r"|(?P<header>(?i:authorization:\s*(?:basic|bearer)\s+))\S+"
    r"|\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,}|glpat-[A-Za-z0-9_-]{20,}|hf_[A-Za-z0-9]{30,}"
    r"|pypi-[A-Za-z0-9_-]{40,}|(?:AKIA|ASIA)[A-Z0-9]{16})"
    r"|-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*",
    re.DOTALL,
)


class Redactor:
    """Takes out what a worker with these settings knows and must not say."""

    def __init__(self, settings: Settings) -> None:
        known = {*settings_module.secret_values()}
        if settings.key_password:
            known.add(settings.key_password.decode(errors="replace"))
        longest_first = sorted((one for one in known if len(one) >= _LEAST), key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def __call__(self, text: str) -> str:
        """`text` without them."""
        if self._known is not None:
            text = self._known.sub(GONE, text)
        return _FORMS.sub(lambda found: f"{found['before'] or found['header'] or ''}{GONE}", text)
