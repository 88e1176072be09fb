"""`lint`: mistakes in Dockerfiles, manifests, requirements and scripts."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from tidewaiter.cli.console import emit, emit_json, tell
from tidewaiter.cli.lint_fixing import Fixing, proposed
from tidewaiter.cli.parameters import Parameter
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, ProjectError
from tidewaiter.core.files import open_regular
from tidewaiter.core.project import FILE_NAME, LintSection
from tidewaiter.lint import files, fixing
from tidewaiter.lint.check import counting
from tidewaiter.lint.finding import Finding, Severity
from tidewaiter.lint.many import check_all
from tidewaiter.lint.reports import documents
from tidewaiter.lint.reports import text as plain
from tidewaiter.lint.text import Text

Output = Literal["text", "json", "sarif", "gitlab", "github"]


def _wanted(first: Path) -> LintSection:
    """`[lint]` of the nearest project file above the first path; the file need not describe an image."""
    folder = first.resolve()
    for parent in (folder, *folder.parents):
        path = parent / FILE_NAME
        if path.is_file():
            return _section(path)
    return LintSection()


def _section(path: Path) -> LintSection:
    with open_regular(path) as file:
        data = file.read(limits.PROJECT_FILE_BYTES + 1)
    if len(data) > limits.PROJECT_FILE_BYTES:
        raise ProjectError(f"{path}: it is over {limits.PROJECT_FILE_BYTES} bytes", next_step="Shorten it.")
    try:
        return msgspec.convert(tomllib.loads(data.decode()).get("lint", {}), LintSection)
    except (ValueError, RecursionError) as error:
        raise ProjectError(f"{path}: [lint]: {error}", next_step="Mend the section.") from error


def lint(
    *paths: Path,
    fail_on: Severity = "warning",
    why: bool = False,
    fix: bool = False,
    rewrite: bool = False,
    pin: bool = False,
    prove: bool = False,
    smoke: str = "",
    dry_run: bool = False,
    propose: bool = False,
    output: Annotated[Output, Parameter(name="--format")] = "text",
) -> int:
    """Find mistakes in Dockerfiles, Kubernetes and Compose YAML, requirements, shell and Python scripts.

    Nothing that is read is run, but by --prove. Exits with 1 when something at least as bad as --fail-on is found.
    `# tidewaiter: ignore RULE: reason` leaves one as it is; [lint] in tidewaiter.toml leaves out more.

    Args:
        paths: files, and folders to look below; the present folder when none is given.
        fail_on: error, warning or info.
        why: say with each finding why it matters.
        fix: mend what can be mended without changing what works, show the difference, report what is left.
        rewrite: with --fix, make Dockerfiles multi-stage, cached, small and without root, and write .dockerignore.
        pin: with --rewrite, ask registries for the digests of bases and pin them.
        prove: with --rewrite, build both with buildah and keep the old one where they are not shown to be the same.
        smoke: with --prove, a command that must succeed in both images; `smoke` of [lint] without it.
        dry_run: with --fix, write nothing.
        propose: print a tidewaiter.toml that assembles the image of the one Dockerfile that is named, and no findings.
        output: text, json, sarif, gitlab (code quality) or github (annotations).
    """
    given = paths or (Path(),)
    if propose:
        return proposed(given)
    wanted = _wanted(given[0])
    findings: list[Finding] = []
    texts: dict[str, Text] = {}
    doing = _doing(
        fix=fix,
        rewrite=rewrite,
        pin=pin,
        prove=prove,
        smoke=smoke or (wanted.smoke if prove else ""),
        dry_run=dry_run,
        output=output,
    )
    sources = files.find(given, exclude=wanted.exclude)
    if doing is not None:
        sources = (doing.fixed(one, wanted) for one in sources)
    for source, found in check_all(sources, wanted):
        texts[source.path] = Text(source.path, source.content)
        findings += found if doing is None or source.path in doing.refused else fixing.left(found)
    _print(findings, texts, doing, output=output, why=why)
    return 1 if counting(findings, fail_on) or (doing is not None and doing.refused) else 0


def _doing(
    *, fix: bool, rewrite: bool, pin: bool, prove: bool, smoke: str, dry_run: bool, output: Output
) -> Fixing | None:
    """What changes files; None when nothing does. Raises `InputError` when an option says nothing without another."""
    needed = {"--rewrite": (rewrite, fix, "--fix"), "--dry-run": (dry_run, fix, "--fix")} | {
        "--pin": (pin, rewrite, "--rewrite"),
        "--prove": (prove, rewrite, "--rewrite"),
        "--smoke": (bool(smoke), prove, "--prove"),
    }
    for name, (given, other, what) in needed.items():
        if given and not other:
            raise InputError(f"{name} says nothing without {what}", next_step=f"Add {what}.")
    if not fix:
        return None
    return Fixing(rewrite=rewrite, pin=pin, prove=prove, smoke=smoke, dry_run=dry_run, show=output == "text")


def _print(findings: list[Finding], texts: dict[str, Text], doing: Fixing | None, *, output: Output, why: bool) -> None:
    if output == "json":
        emit_json(documents.json(findings, len(texts), doing.proofs if doing is not None else ()))
    elif output == "sarif":
        emit_json(documents.sarif(findings, texts))
    elif output == "gitlab":
        emit_json(documents.gitlab(findings, texts))
    elif output == "github":
        for line in documents.github(findings):
            emit(line)
    else:
        for line in plain.lines(findings, texts, reasons=why, fixed=doing is not None):
            emit(line)
        counted = [one for one in findings if one.ignored is None]
        ignored = len(findings) - len(counted)
        left = sum(bool(one.left) for one in counted) if doing is not None else 0
        tell(
            f"{len(texts)} files, {len(counted)} findings"
            + (f", {left} of them of rules that --fix mends elsewhere" if left else "")
            + (f", {ignored} ignored" if ignored else "")
        )
