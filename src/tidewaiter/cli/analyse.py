"""`analyse`: the sources of a project, looked at before anything is built of them."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from tidewaiter.cli.console import emit, emit_bytes, emit_json, tell
from tidewaiter.cli.parameters import Parameter
from tidewaiter.core import project as projects
from tidewaiter.core import settings
from tidewaiter.core.project import Project
from tidewaiter.pipelines import static
from tidewaiter.pipelines.static import documents
from tidewaiter.pipelines.static.report import StaticReport

Output = Literal["text", "json", "sarif", "junit"]


def analyse(
    project: Path,
    /,
    *,
    fail_on: tuple[str, ...] = (),
    offline: Annotated[bool, Parameter(negative="")] = False,
    output: Annotated[Output, Parameter(name="--format")] = "text",
) -> int:
    """Look at the sources of a project before a build: mistakes, secrets, packages that strangers could answer for.

    Nothing of the project is run. `# tidewaiter: ignore RULE: reason`, or [[static.ignore]] in tidewaiter.toml, leaves
    a finding as it is. Exits with 1 when a finding stops a build.

    Args:
        project: folder that holds tidewaiter.toml.
        fail_on: what stops, in the place of [static] fail_on: a kind, a severity, KIND:SEVERITY, or none. Repeatable.
        offline: ask no package index.
        output: text, json, sarif or junit.
    """
    opened = projects.load(project)
    if fail_on:
        opened = _stopping(opened, fail_on)
    report = static.analyse(settings.load(), opened.directory, opened, note=lambda _text: None, asks=not offline)
    _print(report, output)
    return 1 if report.stopping else 0


def _stopping(project: Project, words: tuple[str, ...]) -> Project:
    """The project, which says that `words` stop; raises `InputError`."""
    wanted = () if words == ("none",) else words
    projects.require_stops(wanted, "--fail-on")
    section = msgspec.structs.replace(project.file.static, fail_on=wanted)
    return msgspec.structs.replace(project, file=msgspec.structs.replace(project.file, static=section))


def _print(report: StaticReport, output: Output) -> None:
    if output == "json":
        emit_json(documents.json(report))
    elif output == "sarif":
        emit_json(documents.sarif(report))
    elif output == "junit":
        emit_bytes(documents.junit(report))
    else:
        for line in documents.lines(report):
            emit(line)
        counting = [one for one in report.findings if one.ignored is None]
        ignored = len(report.findings) - len(counting)
        tell(
            f"{report.files} files, {len(counting)} findings, {len(report.stopping)} stop a build"
            + (f", {ignored} ignored" if ignored else "")
        )
