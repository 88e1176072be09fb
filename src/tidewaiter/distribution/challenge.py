"""What a registry asks for when it answers 401."""

import re
from collections.abc import Mapping

import msgspec

_PARAMETER = re.compile(r'([A-Za-z][A-Za-z0-9_-]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_SCHEME = re.compile(r"(?:^|,)\s*(basic|bearer)\b", re.IGNORECASE)
_HEADER_CHARACTERS = 4096


class Challenge(msgspec.Struct, frozen=True):
    """What a registry asks for in `WWW-Authenticate`; the scheme is lower-case."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenge(header: str) -> Challenge | None:
    """The first Bearer, else the first Basic challenge in `header` (RFC 9110, section 11.6.1); None without one."""
    header = header[:_HEADER_CHARACTERS]
    found = sorted(_SCHEME.finditer(header), key=lambda match: (match[1].lower() != "bearer", match.start()))
    if not found:
        return None
    match = found[0]
    end = min((other.start() for other in found if other.start() > match.start()), default=len(header))
    parameters = {
        name.lower(): quoted.replace("\\", "") or plain
        for name, quoted, plain in _PARAMETER.findall(header, match.end(), end)
    }
    return Challenge(match[1].lower(), parameters)
