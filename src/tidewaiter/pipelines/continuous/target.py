"""The image of the branch that a change shall be merged into: in this home, or in a registry by the branch's commits.

Both images are matched with the advisories of this moment, so that what differs comes from the images alone.
"""

import re
import subprocess

from tidewaiter.advisories.finding import Finding, ScanResult
from tidewaiter.catalog import inventory
from tidewaiter.catalog.answers import ImageRecord
from tidewaiter.core import clock, limits, settings
from tidewaiter.core.errors import DeadlineError, NotFoundError, TidewaiterError
from tidewaiter.core.project import Project
from tidewaiter.inspection.facts import ImageFacts
from tidewaiter.oci import digest as digests
from tidewaiter.oci import reference as references
from tidewaiter.oci.reference import RegistryReference
from tidewaiter.pipelines import images, looking
from tidewaiter.pipelines.continuous.comparison import Comparison, Known, Side, compare, packages
from tidewaiter.pipelines.continuous.surroundings import Surroundings
from tidewaiter.pipelines.continuous.way import Way
from tidewaiter.pipelines.workshop import Workshop

_SECONDS = 60


def side(facts: ImageFacts, scan: ScanResult, *, commit: str = "") -> Side:
    """An image that was inspected and matched here."""
    return Side(
        reference=facts.reference,
        digest=facts.digest,
        commit=commit,
        size=facts.size,
        packages=packages((one.kind, one.name, one.version) for one in facts.components),
        findings=tuple(sorted({Known(one.advisory, one.name, one.version, one.severity) for one in scan.findings})),
    )


def recorded(record: ImageRecord, reference: str, *, commit: str = "") -> Side:
    """An image as a catalog knows it, whose findings are those of its newest advisories."""
    return Side(
        reference=reference,
        digest=record.summary.digest,
        commit=commit,
        size=record.summary.size,
        packages=packages((one.kind, one.name, one.version) for one in record.components),
        findings=tuple(sorted({Known(one.advisory, one.name, one.version, one.severity) for one in record.findings})),
    )


def scanned(record: ImageRecord, revision: str) -> ScanResult:
    """The scan of an image as another catalog tells it, with advisories of that revision."""
    known = {one.purl: one for one in record.components}
    findings = tuple(
        Finding(
            advisory=one.advisory,
            aliases=one.aliases,
            component_purl=one.purl,
            name=one.name,
            version=one.version,
            kind=known[one.purl].kind if one.purl in known else "",
            ecosystem=known[one.purl].ecosystem if one.purl in known else "",
            severity=one.severity,
            score=one.score,
            vector=one.vector,
            fixed_in=one.fixed_in,
            found_as=one.found_as,
            published=clock.rfc3339(one.published) if one.published else "",
            modified=clock.rfc3339(one.modified) if one.modified else "",
        )
        for one in record.findings
    )
    return ScanResult(
        findings=findings,
        not_checked=record.not_checked,
        coverage=(),
        revision=digests.parse(revision),
        oldest_as_of="",
    )


def find(workshop: Workshop, project: Project, branch: str, *, commit: str, against: str = "") -> Side:
    """The newest image of `branch` that is not of `commit` itself.

    Args:
        workshop: its catalog is asked, and the registry that `against` names.
        project: whose image.
        branch: that the change goes to.
        commit: that the change is.
        against: where images of the project lie: an image, or HOST/REPO whose tags begin with their commits.

    Raises:
        NotFoundError: there is no image of the branch.
        TidewaiterError: it could not be read.
    """
    if against:
        name, found = _in_registry(workshop, project, branch, commit, against)
        facts = looking.inspect(workshop, images.open_named(workshop, name))
        return side(facts, looking.scan(workshop, facts), commit=found)
    name = project.file.image.name
    with workshop.catalog.database.reading() as connection:
        part = inventory.builds(connection, repository=name, branch=branch, rows=limits.TARGET_BUILDS)
    builds = [one for one in part.items if one.repository == name and one.commit != commit and not one.dirty]
    if not builds:
        raise NotFoundError(
            f"no image of the target branch {branch} is known here",
            next_step="Build that branch with this home or server, or name where its images lie with --against.",
        )
    newest = builds[0]
    record = workshop.catalog.image(f"{name}@{newest.digest}")
    return recorded(record, f"{name}@{newest.digest}", commit=newest.commit)


def _in_registry(workshop: Workshop, project: Project, branch: str, commit: str, against: str) -> tuple[str, str]:
    """Reference of the image of the branch's newest commit that has one, and that commit."""
    given = references.parse(against)
    if not isinstance(given, RegistryReference) or given.tag or given.digest:
        return against, ""
    tags = set(images.connect(workshop, given).tags())
    for one in _commits(project, branch):
        if one != commit and one[:12] in tags:
            return f"{given.host}/{given.repository}:{one[:12]}", one
    raise NotFoundError(
        f"{against} has no image of the target branch {branch or '(none is known)'}",
        next_step="Push images of that branch there; a shallow clone knows few of its commits.",
    )


def _commits(project: Project, branch: str) -> list[str]:
    """Commits of the branch as this clone knows it, the newest first; none when it does not."""
    for name in (f"refs/remotes/origin/{branch}", f"refs/heads/{branch}"):
        command = ["git", "-C", str(project.directory), "rev-list", f"--max-count={limits.TARGET_COMMITS}", name, "--"]
        environment = {**settings.tool_environment(), "LC_ALL": "C"}
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env=environment, timeout=_SECONDS
            )
        except subprocess.TimeoutExpired as error:
            raise DeadlineError(f"git took over {_SECONDS} s", next_step="Look for a hanging disk.") from error
        if not done.returncode:
            return re.findall(r"^(?:[0-9a-f]{40}|[0-9a-f]{64})$", done.stdout, re.MULTILINE)
    return []


def since(workshop: Workshop, way: Way, around: Surroundings | None, *, against: str = "") -> Comparison | str:
    """What the image changes since that of its target branch, or why that is not known, in words for a report."""
    if way.build is None or way.facts is None or way.scan is None:
        return "There is no image to compare: it was not built, or not looked into."
    branch = around.compared_with if around is not None else ""
    if not branch and not against:
        return "No target branch is known: this is no merge request, and nobody named an image with --against."
    commit = way.build.source.commit
    try:
        before = find(workshop, way.project, branch, commit=commit, against=against)
    except TidewaiterError as error:
        return f"{error.message}. {error.next_step}"
    return compare(branch or against, before, side(way.facts, way.scan, commit=commit))
