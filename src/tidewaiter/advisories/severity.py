"""How bad an advisory is, by its CVSS vectors, else by the word of its database. Nothing is guessed."""

from functools import lru_cache
from typing import Literal

import msgspec

Level = Literal["critical", "high", "medium", "low", "none", "unknown"]

LEVELS: tuple[Level, ...] = ("unknown", "none", "low", "medium", "high", "critical")
"""From the least to the worst. What is not known is last: any fact says more."""

_WORDS: dict[str, Level] = {
    "critical": "critical",
    "high": "high",
    "important": "high",  # Red Hat and those who rebuild it
    "moderate": "medium",
    "medium": "medium",
    "low": "low",
    "negligible": "low",  # Ubuntu
    "unimportant": "none",  # Debian: no security problem of its packages
    "none": "none",
}


class Severity(msgspec.Struct, frozen=True):
    """A level, and the base score and CVSS vector that it comes from (None and empty for a database's word)."""

    level: Level
    score: float | None = None
    vector: str = ""


UNKNOWN = Severity("unknown")


def rank(severity: Severity) -> tuple[int, float, str]:
    """Sort key: worse is greater."""
    return LEVELS.index(severity.level), -1.0 if severity.score is None else severity.score, severity.vector


@lru_cache(20_000)
def of_vector(vector: str) -> Severity:
    """Base severity of a CVSS 2, 3.x or 4.0 vector; `UNKNOWN` when it is not a valid one."""
    from cvss import CVSS2, CVSS3, CVSS4
    from cvss.exceptions import CVSSError

    try:
        if vector.startswith("CVSS:4"):
            scored = CVSS4(vector)
            word, score = scored.severity, scored.base_score
        elif vector.startswith("CVSS:3"):
            scored = CVSS3(vector)
            word, score = scored.severities()[0], scored.base_score
        else:
            scored = CVSS2(vector)
            word, score = scored.severities()[0], scored.base_score
    except CVSSError:
        return UNKNOWN
    return Severity(_WORDS[str(word).lower()], float(score), vector)


def of(vectors: tuple[str, ...], rating: str) -> Severity:
    """The worst of the valid `vectors`, CVSS 2 only where nothing newer is valid; else the database's `rating`."""
    scored = [severity for severity in map(of_vector, vectors) if severity.level != "unknown"]
    current = [severity for severity in scored if severity.vector.startswith("CVSS:")]
    if scored:
        return max(current or scored, key=rank)
    return Severity(_WORDS.get(rating.lower(), "unknown"))
