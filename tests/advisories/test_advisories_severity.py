from typing import Any

import pytest
from osv_feed import affected, entry, parsed

from tidewaiter.advisories import severity
from tidewaiter.advisories.severity import Severity

HIGH_2 = "AV:N/AC:L/Au:N/C:P/I:P/A:P"
CRITICAL_3 = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
MEDIUM_3 = "CVSS:3.0/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N"
NONE_3 = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N"
CRITICAL_4 = "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"


@pytest.mark.parametrize(
    ("vector", "level", "score"),
    [
        (HIGH_2, "high", 7.5),
        (CRITICAL_3, "critical", 9.8),
        (MEDIUM_3, "medium", 6.1),
        (NONE_3, "none", 0.0),
        (CRITICAL_4, "critical", 9.3),
    ],
)
def test_vectors_of_every_version_are_scored(vector: str, level: str, score: float) -> None:
    """Published example vectors of CVSS 2, 3 and 4 get their published base scores."""
    found = severity.of((vector,), "")
    assert (found.level, found.score, found.vector) == (level, score, vector)


def test_the_worst_vector_counts_and_version_2_only_alone() -> None:
    """Several vectors give the worst; a CVSS 2 score does not outdo a newer one."""
    assert severity.of((MEDIUM_3, CRITICAL_4, CRITICAL_3), "low").vector == CRITICAL_3
    assert severity.of((HIGH_2, MEDIUM_3), "").vector == MEDIUM_3
    assert severity.of((HIGH_2,), "").level == "high"


@pytest.mark.parametrize("broken", ["", "CVSS:3.1/AV:N", "CVSS:4.0/nonsense", "CVSS:9.9/AV:N/AC:L", "x", "AV:N/AC:L"])
def test_a_broken_vector_says_nothing(broken: str) -> None:
    """Without a valid vector the database's word counts, and without that the severity is not known."""
    assert severity.of((broken,), "MODERATE") == Severity("medium")
    assert severity.of((broken,), "") == severity.UNKNOWN
    assert severity.of((), "not yet assigned") == severity.UNKNOWN


def test_any_fact_outranks_not_knowing() -> None:
    """The order is unknown, none, low, medium, high, critical, then the score."""
    ascending = [
        severity.UNKNOWN,
        severity.of_vector(NONE_3),
        Severity("low"),
        Severity("medium"),
        severity.of_vector(MEDIUM_3),
        severity.of_vector(HIGH_2),
        Severity("critical"),
        severity.of_vector(CRITICAL_3),
    ]
    assert [severity.rank(item) for item in ascending] == sorted(map(severity.rank, ascending))


@pytest.mark.parametrize(
    ("item", "level"),
    [
        ({"ecosystem_specific": {"urgency": "low"}}, "low"),
        ({"ecosystem_specific": {"urgency": "unimportant"}}, "none"),
        ({"ecosystem_specific": {"urgency": "not yet assigned"}}, "unknown"),
        ({"severity": [{"type": "Ubuntu", "score": "negligible"}]}, "low"),
        ({"severity": [{"type": "Ubuntu", "score": "critical"}]}, "critical"),
        ({"database_specific": {"severity": "Important"}}, "high"),
        ({"ecosystem_specific": {"severity": "MODERATE", "urgency": "high"}}, "medium"),
    ],
)
def test_the_words_of_distributions_are_understood(item: dict[str, Any], level: str) -> None:
    """Debian's urgency, Ubuntu's priority and Red Hat's words count where there is no vector."""
    (read,) = parsed(entry("X-1", affected("thing", ("introduced", "0"), ecosystem="Debian:12", **item))).affected
    assert severity.of(read.vectors, read.rating).level == level
