"""The order of Alpine package versions, as apk-tools compares them (3.0; apk-package(5)).

A version is `digits{.digits}[letter]{_suffix[digits]}[~commit][-rdigits]`. A part that one version has and the other
lacks makes it newer, except a suffix of a pre-release; the sooner a part stands in that pattern, the newer it makes.
"""

import re

Key = tuple[tuple[int, int, str], ...]
"""Compares as apk-tools compares; each part is its rank among the kinds of parts, its number, its text."""

_BEFORE = {"alpha": 0, "beta": 1, "pre": 2, "rc": 3}
_AFTER = {"cvs": 0, "svn": 1, "git": 2, "hg": 3, "p": 4}
# What may stand where another version ends or goes on otherwise, from the oldest to the newest.
_PRE_RELEASE, _END, _REVISION, _COMMIT, _NUMBER, _POST_RELEASE, _LETTER, _DIGITS = range(8)
_LONGEST = 1000
_VERSION = re.compile(
    r"(?P<first>\d+)(?P<digits>(?:\.\d+)*)(?P<letter>[a-z]?)(?P<suffixes>(?:_[a-z]+\d*)*)"
    r"(?:~(?P<commit>[0-9a-f]+))?(?:-r(?P<revision>\d+))?",
    re.ASCII,
)
_SUFFIX = re.compile(r"_([a-z]+)(\d*)", re.ASCII)


def _digits(text: str) -> tuple[int, int, str]:
    # Where one of two numbers starts with 0, their texts are compared, so that such a number is the smaller one.
    return (_DIGITS, -1, text) if text.startswith("0") else (_DIGITS, int(text), "")


def key(version: str) -> Key:
    """Sort key of `version`; equal keys are equal versions.

    Raises:
        ValueError: the text is no Alpine version.
    """
    match = _VERSION.fullmatch(version)
    if match is None or len(version) > _LONGEST:
        raise ValueError(f"{version[:100]!r} is no Alpine version")
    parts = [(_DIGITS, int(match["first"]), "")]
    parts.extend(_digits(digits) for digits in match["digits"].split(".")[1:])
    if match["letter"]:
        parts.append((_LETTER, 0, match["letter"]))
    for name, number in _SUFFIX.findall(match["suffixes"]):
        if name in _BEFORE:
            parts.append((_PRE_RELEASE, _BEFORE[name], ""))
        elif name in _AFTER:
            parts.append((_POST_RELEASE, _AFTER[name], ""))
        else:
            raise ValueError(f"{version[:100]!r} is no Alpine version: _{name[:40]} is no suffix that apk knows")
        if number:
            parts.append((_NUMBER, int(number), ""))
    if match["commit"]:
        parts.append((_COMMIT, 0, match["commit"]))
    if match["revision"]:
        parts.append((_REVISION, int(match["revision"]), ""))
    return (*parts, (_END, 0, ""))
