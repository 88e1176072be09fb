"""The whole way of a project as a job of CI takes it: what was found out is kept, however far it came.

A denial, a finding in the sources and a network that is gone are answers too, which a report must show.
"""

from collections.abc import Sequence

import msgspec

from tidewaiter.advisories.finding import ScanResult
from tidewaiter.assembly.build import Build
from tidewaiter.assembly.options import Options
from tidewaiter.core.errors import TidewaiterError
from tidewaiter.core.project import Project
from tidewaiter.inspection.facts import ImageFacts
from tidewaiter.pipelines import analysed, building, clear, static
from tidewaiter.pipelines.clear import Cleared
from tidewaiter.pipelines.static import StaticReport
from tidewaiter.pipelines.trusting import Signers
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.policy.explain import Difference
from tidewaiter.policy.verdict import Verdict


class Way(msgspec.Struct, kw_only=True):
    """How far a project came; None where it did not come."""

    project: Project
    sources: StaticReport | None = None
    build: Build | None = None
    facts: ImageFacts | None = None
    scan: ScanResult | None = None
    verdict: Verdict | None = None
    beyond: Difference | None = None
    cleared: Cleared | None = None
    error: TidewaiterError | None = None
    """What ended it: a denial, too."""

    @property
    def done(self) -> Cleared:
        """What was cleared; for a way that no error ended."""
        if self.cleared is None:
            raise ValueError("the way has not come to its end")
        return self.cleared


def go(
    workshop: Workshop,
    project: Project,
    signers: Signers,
    wanted: Options,
    *,
    reports: Sequence[str] = (),
    vex: Sequence[str] = (),
) -> Way:
    """Analyse the sources of `project`, then take it the way of `clear.clear`; what that raises is in the answer."""
    way = Way(project=project)
    try:
        _go(workshop, way, signers, wanted, reports=reports, vex=vex)
    except TidewaiterError as error:
        way.error = error
    return way


def analyse(workshop: Workshop, way: Way) -> None:
    """Look at the sources; raises `RefusedError` when they hold what stops a build."""
    project = way.project
    way.sources = static.analyse(workshop.settings, project.directory, project, note=workshop.progress.note)
    static.require(way.sources)


def _go(
    workshop: Workshop, way: Way, signers: Signers, wanted: Options, *, reports: Sequence[str], vex: Sequence[str]
) -> None:
    note, project = workshop.progress.note, way.project
    clear.require(workshop, project, signers)
    note("1/6 analyse")
    analyse(workshop, way)
    note("2/6 build")
    made = way.build = building.build(workshop, project, wanted, builder=signers.builder.trusted.builder)
    note("3/6 inspect")
    seen = clear.inspected(workshop, made)
    way.facts = seen.facts
    note("4/6 match with advisories")
    found = clear.matched(workshop, made, seen, reports=reports, vex=vex)
    way.scan = found.scan
    note("5/6 decide")
    answer = clear.decided(workshop, made, seen, found, analysed.told(way.sources))
    way.verdict, way.beyond = answer.decision.verdict, answer.beyond
    clear.require_allowed(workshop, made, answer.decision, signers)
    note("6/6 sign and clear")
    vouched = clear.signed(workshop, made, found, answer.decision, signers)
    way.cleared = Cleared(
        build=made,
        facts=seen.facts,
        base=seen.base,
        scan=found.scan,
        verdict=answer.decision.verdict,
        beyond=answer.beyond,
        attached=vouched.attached,
        attested=vouched.attested,
    )
