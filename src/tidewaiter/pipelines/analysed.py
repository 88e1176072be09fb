"""What the analysis of an image's sources found, as rules are told of it."""

from collections import Counter

from tidewaiter.catalog import questions
from tidewaiter.oci.digest import Digest
from tidewaiter.pipelines import asking
from tidewaiter.pipelines.static.report import SEVERITIES, StaticReport
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.policy.input import NOT_ANALYSED, AnalysedInput, AnalysisInput

_NOT_CHECKED = 20
_CHARACTERS = 300


def told(report: StaticReport | None) -> AnalysisInput:
    """What rules are told of a report; without one, that nobody knows."""
    if report is None:
        return NOT_ANALYSED
    counted = Counter((one.kind, one.severity) for one in report.findings if one.ignored is None)
    return AnalysisInput(
        ran=True,
        findings=tuple(
            AnalysedInput(kind=kind, severity=severity, count=count)
            for (kind, severity), count in sorted(
                counted.items(), key=lambda item: (item[0][0], SEVERITIES.index(item[0][1]))
            )
        ),
        not_checked=tuple(f"{one.what}: {one.reason}"[:_CHARACTERS] for one in report.not_checked[:_NOT_CHECKED]),
    )


def known(workshop: Workshop, digest: Digest) -> AnalysisInput:
    """What the catalog knows since the image was built and decided here; else that nobody knows."""
    with workshop.catalog.database.reading() as connection:
        documents = questions.kept(connection, digest)
    found = (asking.shared(one).analysis for one in documents)
    return next((one for one in found if one.ran), NOT_ANALYSED)
