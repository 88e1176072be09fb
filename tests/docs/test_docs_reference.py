"""The reference pages say what the program does."""

import inspect
import re
from pathlib import Path

import documents
import msgspec
import pytest

from tidewaiter.advisories import finding, importing
from tidewaiter.catalog import answers, browsing, model_versions, owners, resemblance, synced, verdicts_at, workloads
from tidewaiter.catalog.audit import entries as audit
from tidewaiter.catalog.audit import verify as audit_verify
from tidewaiter.catalog.reach import affected, fixes
from tidewaiter.catalog.reach import images as affected_images
from tidewaiter.catalog.reach import versions as affected_versions
from tidewaiter.catalog.trace import graph as trace_graph
from tidewaiter.cli import app
from tidewaiter.core import errors, project, settings
from tidewaiter.inspection import facts
from tidewaiter.pipelines import rebuilding, tracing, whatif
from tidewaiter.pipelines.audit import auditing
from tidewaiter.pipelines.backup import backing_up, restoring
from tidewaiter.pipelines.doctor import check, examine
from tidewaiter.pipelines.static import report as static_report
from tidewaiter.pipelines.sync import syncing
from tidewaiter.pipelines.sync import taking as sync_taking
from tidewaiter.policy import input as policy_input
from tidewaiter.policy import pack, reasons, scope, testing, verdict, waivers, weighing
from tidewaiter.sbom import component

REFERENCE = documents.ROOT / "docs" / "reference"
COMMANDS = (REFERENCE / "commands.md").read_text()
CALLS = [*app.COMMANDS, *(f"{group} {name}" for group, (_, commands) in app.GROUPS.items() for name in commands)]


def _options(page: str) -> set[str]:
    """Options that a help page prints, without those of every command and the negations that are derived."""
    found = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", page)) - {"--help", "--version"}
    return {option for option in found if re.sub(r"^--(no|empty)-", "--", option) not in found - {option}}


def test_a_section_for_each_command() -> None:
    """commands.md has a section for every command and group, and for nothing else."""
    titles = [title.strip("`") for level, title in documents.headings(COMMANDS) if level in {2, 3}]
    written = [title.removeprefix("tidewaiter ") for title in titles if title.startswith("tidewaiter ")]
    assert sorted(written) == sorted([*CALLS, *app.GROUPS])


@pytest.mark.parametrize("call", CALLS)
def test_section_has_every_option(call: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The table of a command's section lists the options that its help prints, no more and no fewer."""
    assert app.run([*call.split(), "--help"]) == 0
    printed = _options(capsys.readouterr().out)
    section = documents.section(COMMANDS, f"`tidewaiter {call}`")
    rows = [line for line in section.splitlines() if line.startswith("| `--")]
    assert {row.split("`")[1].split()[0] for row in rows} == printed


@pytest.mark.parametrize("page", documents.pages(), ids=documents.name)
def test_commands_that_pages_name_exist(page: Path) -> None:
    """Every `tidewaiter COMMAND` that stands in code is a command of the program."""
    text = page.read_text()
    code = [block for _, block in documents.code_blocks(text)] + re.findall(
        r"`([^`\n]+)`", documents.FENCE.sub("", text)
    )
    known = {*app.COMMANDS, *app.GROUPS, "COMMAND"}
    for block in code:
        for line in block.splitlines():
            called = re.match(r"(?:\$ )?(?:[A-Z_]+=\S+ )*tidewaiter ([A-Za-z]+)(?: ([a-z][a-z-]*))?", line)
            if called is None:
                continue
            assert called[1] in known, line
            if called[1] in app.GROUPS and called[2]:
                assert called[2] in app.GROUPS[called[1]][1], line


def _error_classes() -> list[type[errors.TidewaiterError]]:
    found = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    return [kind for kind in found if issubclass(kind, errors.TidewaiterError)]


def test_every_error_class_is_listed() -> None:
    """exit-codes-and-errors.md lists the code and the exit code of every error class."""
    page = (REFERENCE / "exit-codes-and-errors.md").read_text()
    rows = documents.table(documents.section(page, "Codes of the error classes"))
    assert {(row[0], row[1]) for row in rows} == {(kind.default_code, str(kind.exit_code)) for kind in _error_classes()}


def test_further_error_codes_are_those_of_the_code() -> None:
    """The list of further codes holds every `code=` that an error is raised with, and no other."""
    page = (REFERENCE / "exit-codes-and-errors.md").read_text()
    listed = {row[0] for row in documents.table(documents.section(page, "Further codes"))}
    used: set[str] = set()
    for path in (documents.ROOT / "src" / "tidewaiter").rglob("*.py"):
        text = path.read_text()
        constants = dict(re.findall(r'^([A-Z_]+) = "([a-z_]+)"$', text, re.MULTILINE))
        for quoted, named in re.findall(r'\bcode=(?:"([a-z_]+)"|([A-Z_]+)\b)', text):
            used.add(quoted or constants[named])
    assert listed == used - {kind.default_code for kind in _error_classes()}


SECTIONS: dict[str, type[msgspec.Struct]] = {
    "[image]": project.ImageSection,
    "[base]": project.BaseSection,
    "[[base.take]]": project.TakeSection,
    "[python]": project.PythonSection,
    "[[python.indexes]]": project.IndexSection,
    "[system]": project.SystemSection,
    "[app]": project.AppSection,
    "[[models]]": project.ModelSection,
    "[build]": project.BuildSection,
    "[lint]": project.LintSection,
    "[[lint.ignore]]": project.LintIgnore,
    "[static]": project.StaticSection,
}


def test_project_file_examples_load(tmp_path: Path) -> None:
    """Every example of project-file.md that is a whole project file is a valid one."""
    page = (REFERENCE / "project-file.md").read_text()
    examples = [text for language, text in documents.code_blocks(page) if language == "toml" and "[image]" in text]
    assert examples
    for example in examples:
        (tmp_path / project.FILE_NAME).write_text(example)
        project.load(tmp_path)


@pytest.mark.parametrize("heading", SECTIONS)
def test_project_file_keys_are_those_of_the_code(heading: str) -> None:
    """Each section of project-file.md lists every key of its table, and no other."""
    page = (REFERENCE / "project-file.md").read_text()
    rows = {row[0] for row in documents.table(documents.section(page, f"`{heading}`"))}
    assert rows == {field.encode_name for field in msgspec.structs.fields(SECTIONS[heading])}


def test_rules_are_those_of_the_default_pack() -> None:
    """The table of rules is the manifest of the default pack, in its order."""
    page = (documents.ROOT / "docs" / "concepts" / "policy-and-verdicts.md").read_text()
    rows = documents.table(documents.section(page, "The rules of the default pack"))
    assert rows == [
        [rule.id, rule.title, rule.severity, rule.levels.research, rule.levels.staging, rule.levels.production]
        for rule in pack.default_pack().rules
    ]


def _fields(schema: dict[str, object], name: str) -> set[str]:
    definitions = schema["$defs"]
    assert isinstance(definitions, dict)
    return set(definitions[name]["properties"])


def test_policy_input_lists_every_field() -> None:
    """policy-input.md has a section for each object of the schema, with exactly its fields."""
    page = (REFERENCE / "policy-input.md").read_text()
    schema = policy_input.json_schema()
    definitions = schema["$defs"]
    assert isinstance(definitions, dict)
    titles = [title for level, title in documents.headings(page) if level == 2 and title.startswith("`input")]
    written = [{row[0] for row in documents.table(documents.section(page, title))} for title in titles]
    assert sorted(map(sorted, written)) == sorted(sorted(_fields(schema, name)) for name in definitions)


@pytest.mark.parametrize(
    ("title", "kind"),
    [
        ("analyse", static_report.StaticReport),
        ("analyse", static_report.StaticFinding),
        ("analyse", static_report.NotChecked),
        ("rebuild", rebuilding.Rebuilt),
        ("inspect", facts.ImageFacts),
        ("inspect", facts.LayerSummary),
        ("inspect", facts.Program),
        ("inspect", component.Component),
        ("scan", finding.Finding),
        ("scan", finding.NotChecked),
        ("Verdict", verdict.Verdict),
        ("Verdict", verdict.Violation),
        ("Verdict", policy_input.NotCheckedInput),
        ("Verdict", verdict.Waived),
        ("Verdict", weighing.RefusedWaiver),
        ("check --all", whatif.WhatIf),
        ("check --all", whatif.Outcome),
        ("catalog sync", syncing.SyncedPlace),
        ("catalog sync", synced.MovedTag),
        ("catalog sync", sync_taking.Problem),
        ("catalog list", answers.ImageSummary),
        ("catalog list", browsing.ImagePage),
        ("catalog list", browsing.TagMove),
        ("catalog list", resemblance.Resemblances),
        ("catalog list", resemblance.Group),
        ("catalog list", resemblance.Alike),
        ("catalog show", browsing.Whereabouts),
        ("catalog show", browsing.Referrer),
        ("affected", affected.Concerned),
        ("affected", affected.OwnerShare),
        ("affected", affected.Totals),
        ("affected", affected_images.ConcernedImage),
        ("affected", affected_images.ImageTag),
        ("affected", affected_versions.ConcernedVersion),
        ("affected", affected_versions.Hit),
        ("affected", affected_versions.Gap),
        ("affected", fixes.Fix),
        ("trace", trace_graph.Trace),
        ("trace", trace_graph.Node),
        ("trace", trace_graph.Edge),
        ("trace", trace_graph.Cut),
        ("verdicts", tracing.Stood),
        ("verdicts", verdicts_at.VerdictAt),
        ("workload list", workloads.Workload),
        ("workload list", workloads.Sighting),
        ("model list", model_versions.ModelVersion),
        ("owner list", owners.Ownership),
        ("waiver show", waivers.Waiver),
        ("waiver show", scope.Scope),
        ("audit verify", audit_verify.Verification),
        ("audit verify", audit_verify.Problem),
        ("audit export", auditing.Exported),
        ("audit list", audit.Entry),
        ("backup create", backing_up.BackedUp),
        ("backup restore", restoring.Restored),
        ("doctor", examine.Diagnosis),
        ("doctor", check.Check),
        ("advisories import", importing.ImportResult),
        ("policy test", testing.TestResult),
        ("policy explain", reasons.Reason),
        ("policy explain", reasons.Value),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_json_shapes_name_every_field(title: str, kind: type[msgspec.Struct]) -> None:
    """The section of a JSON shape names every field of the value that is printed."""
    section = documents.section((REFERENCE / "json-shapes.md").read_text(), title)
    named = set(re.findall(r"`([a-z_]+)`", section))
    assert {field.encode_name for field in msgspec.structs.fields(kind)} <= named


def test_settings_of_examples_are_known() -> None:
    """Every setting that a TOML example in the guides sets is one that the program knows."""
    known = {setting.name for setting in settings.SETTINGS}
    text = (documents.ROOT / "docs" / "guide" / "running-offline.md").read_text()
    found = {
        line.partition("=")[0].strip()
        for language, block in documents.code_blocks(text)
        if language == "toml"
        for line in block.splitlines()
        if "=" in line
    }
    assert found
    assert found <= known
