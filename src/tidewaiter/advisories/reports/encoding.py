"""The formats by name."""

from collections.abc import Callable
from typing import Literal

from tidewaiter.advisories.reports import cyclonedx_vex, gitlab, junit, openvex, sarif
from tidewaiter.advisories.reports.report import Report

ReportFormat = Literal["sarif", "cyclonedx-vex", "openvex", "gitlab", "junit"]
_ENCODERS: dict[ReportFormat, Callable[[Report], bytes]] = {
    "sarif": sarif.encode,
    "cyclonedx-vex": cyclonedx_vex.encode,
    "openvex": openvex.encode,
    "gitlab": gitlab.encode,
    "junit": junit.encode,
}


def encode(report: Report, name: ReportFormat) -> bytes:
    """The document: the same report gives the same bytes."""
    return _ENCODERS[name](report)
