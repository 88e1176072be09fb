"""A Markdown summary for a merge request: the verdict, what to change, and what is new since the target branch.

Names in it come out of images and repositories: each is written so that it can be nothing but text.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from tidewaiter.advisories.reports.report import address
from tidewaiter.catalog.records import SEVERITIES
from tidewaiter.core import limits
from tidewaiter.pipelines.continuous.comparison import Changed, Comparison, Known
from tidewaiter.pipelines.continuous.surroundings import NAMES, Surroundings
from tidewaiter.pipelines.continuous.way import Way
from tidewaiter.policy.verdict import Verdict, Violation

_ROWS = 50
_EVIDENCE = 10


def write(way: Way, around: Surroundings | None, compared: Comparison | str) -> bytes:
    """The summary; `compared` is what changed, or why that is not known."""
    lines = [*_head(way, around), *_stopped(way), *_verdict(way), *_changes(compared), *_findings(way), *_sources(way)]
    text = "\n".join(lines) + "\n"
    if len(text) > limits.SUMMARY_CHARACTERS:
        text = (
            text[: limits.SUMMARY_CHARACTERS].rpartition("\n")[0] + "\n\nCut here; the other reports have the rest.\n"
        )
    return text.encode()


def plain(text: str) -> str:
    """`text` as Markdown shows it letter by letter, on one line."""
    line = text.replace("\n", " ")[: limits.SUMMARY_TEXT]
    shown = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in line)
    escaped = re.sub(r"([\\`*_{}\[\]()<>#!|~&@$])", r"\\\1", shown)
    # A colon or `www.` would make a link of an address, wherever it leads.
    return re.sub(r"(https?|ftp|www)([:.])", "\\1\N{ZERO WIDTH NON-JOINER}\\2", escaped, flags=re.IGNORECASE)


def told(text: str) -> str:
    """As `plain`, what stands between back-ticks as code: so our own remedies write commands."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # one is left over
        return plain(text)
    return "".join(_code(one) if at % 2 else plain(one) for at, one in enumerate(parts) if one)


def _code(text: str) -> str:
    """`text` as code; a back-tick or a line break cannot end it."""
    shown = "".join(one if one.isprintable() and one not in "`|" else "\N{REPLACEMENT CHARACTER}" for one in text)
    return f"`{shown[: limits.SUMMARY_TEXT] or ' '}`"


def size(count: int) -> str:
    """Bytes for people, with the sign of what is less: `12.3 MB`."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(amount) < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def _head(way: Way, around: Surroundings | None) -> Iterator[str]:
    section, made = way.project.file.image, way.build
    word = _answer(way)
    yield f"## {plain(section.name)}: {word} for {section.environment}"
    yield ""
    if made is not None:
        total = sum(part.info.size for part in made.parts)
        yield f"{_code(made.reference)}, {_code(made.image.digest)}, {size(total)} in {len(made.parts)} layers"
    where = "" if around is None else f", {NAMES[around.system]}"
    if around is not None and around.pipeline_url:
        where = f", [{NAMES[around.system]}](<{around.pipeline_url}>)"
    if made is not None:
        by = f" by {plain(made.source.author)}" if made.source.author else ""
        branch = f" of {_code(made.source.branch)}" if made.source.branch else ""
        yield f"Commit {_code(made.source.commit[:12])}{branch}{by}{where}"


def _answer(way: Way) -> str:
    if way.cleared is not None:
        return "allowed"
    if way.error is not None and way.error.exit_code == 1:
        return "denied"
    if way.error is not None and way.error.exit_code == 2:
        return "not built"
    return "could not be decided, so not allowed" if way.error is not None else "built"


def _stopped(way: Way) -> Iterator[str]:
    if way.error is not None and (way.verdict is None or way.verdict.allowed):
        yield from ("", f"**Stopped:** {plain(way.error.message)}", "", f"Next: {told(way.error.next_step)}")


def _verdict(way: Way) -> Iterator[str]:
    verdict = way.verdict
    if verdict is None:
        return
    yield from _rules("What denies it", verdict.violations)
    yield from _rules("Warnings", verdict.warnings)
    yield from _waived(verdict)
    if way.beyond is not None and way.beyond.violations:
        rules = ", ".join(_code(one.rule) for one in way.beyond.violations)
        yield from ("", f"Production would demand beyond that: {rules}.")


def _rules(title: str, items: Sequence[Violation]) -> Iterator[str]:
    if not items:
        return
    yield from ("", f"### {title}", "")
    for one in items:
        yield f"- {_code(one.rule)} ({plain(one.severity)}): {plain(one.message)}"
        yield from (f"  - found: {plain(line)}" for line in one.evidence[:_EVIDENCE])
        if len(one.evidence) > _EVIDENCE:
            yield f"  - found: {len(one.evidence) - _EVIDENCE} more"
        yield f"  - **change:** {told(one.remedy)}"


def _waived(verdict: Verdict) -> Iterator[str]:
    if not verdict.waived:
        return
    yield from ("", "### Waived", "")
    for one in verdict.waived:
        until = f"{plain(one.waiver)} until {plain(one.expires_at)}"
        yield f"- {_code(one.violation.rule)} by {until}: {plain(one.reason)} ({plain(one.owner)})"


def _changes(compared: Comparison | str) -> Iterator[str]:
    if isinstance(compared, str):
        yield from ("", "### Changes: not known", "", told(compared))
        return
    before = compared.before
    yield from ("", f"### Since {_code(compared.branch)}", "")
    commit = f" of commit {_code(before.commit[:12])}" if before.commit else ""
    yield f"Compared with {_code(before.reference)}{commit}."
    yield ""
    grown = (
        "no change of size" if not compared.size else f"size {'+' if compared.size > 0 else ''}{size(compared.size)}"
    )
    counts = Counter(
        "added" if not one.before else "removed" if not one.after else "changed" for one in compared.packages
    )
    said = ", ".join(f"{counts[word]} {word}" for word in ("added", "removed", "changed") if counts[word])
    yield f"- packages: {said or 'the same'}; {grown}"
    yield f"- findings: {len(compared.new)} new, {len(compared.gone)} gone"
    yield from _packages(compared.packages)
    yield from _known("New findings", compared.new)
    yield from _known("Findings that are gone", compared.gone)


def _packages(items: Sequence[Changed]) -> Iterator[str]:
    if not items:
        return
    yield from ("", "| package | before | after |", "|---|---|---|")
    for one in items[:_ROWS]:
        versions = (_code(", ".join(side)) if side else "not there" for side in (one.before, one.after))
        yield f"| {_code(one.name)} ({plain(one.kind)}) | {' | '.join(versions)} |"
    if len(items) > _ROWS:
        yield f"| {len(items) - _ROWS} more | | |"


def _known(title: str, items: Sequence[Known]) -> Iterator[str]:
    if not items:
        return
    yield from ("", f"**{title}**", "")
    worst = sorted(items, key=lambda one: (SEVERITIES.index(one.severity), one))
    for one in worst[:_ROWS]:
        package = _code(f"{one.name} {one.version}")
        yield f"- [{plain(one.advisory)}](<{address(one.advisory)}>) in {package}, {one.severity}"
    if len(items) > _ROWS:
        yield f"- {len(items) - _ROWS} more"


def _findings(way: Way) -> Iterator[str]:
    if way.scan is None:
        return
    counts = Counter(one.severity for one in way.scan.findings)
    said = ", ".join(f"{counts[level]} {level}" for level in SEVERITIES if counts[level]) or "none known"
    yield from ("", "### Findings", "", f"- known vulnerabilities: {said}")
    if way.scan.suppressed:
        yield f"- not counted, by VEX: {len(way.scan.suppressed)}"
    gaps = Counter((one.ecosystem, one.reason) for one in way.scan.not_checked)
    for (where, reason), count in sorted(gaps.items()):
        yield f"- **not checked:** {count} packages{f' of {plain(where)}' if where else ''}: {plain(reason)}"
    for one in way.scan.coverage:
        yield f"- advisories for {plain(one.ecosystem)} as of {plain(one.as_of[:10])}"


def _sources(way: Way) -> Iterator[str]:
    if way.sources is None:
        return
    counting = [one for one in way.sources.findings if one.ignored is None]
    stopping = way.sources.stopping
    yield from ("", "### Sources", "")
    yield f"- {way.sources.files} files, {len(counting)} findings, {len(stopping)} of them stop a build"
    for one in (stopping or counting)[:_ROWS]:
        place = f"{one.file}:{one.line}" if one.line else one.file
        yield f"- {_code(place)} {one.severity}: {plain(one.message)} {told(one.remedy)} ({_code(one.rule)})"
    for lack in way.sources.not_checked:
        yield f"- **not checked:** {plain(lack.what)}: {plain(lack.reason)}"
