"""The analysis of a project as a user runs it: what stops, what is ignored, what could not be checked."""

import json
import sys
import time
import zlib
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from servers import Serve, reply
from tidewaiter.core import settings
from tidewaiter.core.errors import LimitError, RefusedError
from tidewaiter.core.project import load
from tidewaiter.pipelines import static
from tidewaiter.pipelines.static import dependencies, tools
from tidewaiter.pipelines.static.report import NotChecked, StaticReport
from tidewaiter.pipelines.static.sources import Read
from workplace import Done, commit, run

LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
BODY = "Rk3vQ9ZtB7mXw1LsNc5HpYd2Jf8Ga4"


def token() -> str:
    """A token in GitHub's shape with its checksum; it was never given to anybody."""
    left, digits = zlib.crc32(BODY.encode()), ""
    for _ in range(6):
        left, rest = divmod(left, 62)
        digits = LETTERS[rest] + digits
    return f"ghp_{BODY}{digits}"


PROJECT = """\
[image]
name = "team/small"
purpose = "training"
environment = "staging"

[base]
use = "debian12-python3.11"

[python]
version = "3.11"
requirements = "requirements.in"
{indexes}
[app]
include = ["main.py"]
entrypoint = ["python", "/app/main.py"]
{more}"""
INDEXES = """
[[python.indexes]]
name = "company"
url = "{url}/private"
packages = ["company-tools", "company-models"]
"""
LOCK = """\
lock-version = "1.0"

[[packages]]
name = "six"
version = "1.17.0"
wheels = [{{ url = "https://pypi.org/six-1.17.0-py2.py3-none-any.whl", hashes = {{ sha256 = "{hash}" }} }}]

[[packages]]
name = "company-tools"
version = "2.0"
wheels = [{{ url = "{tools}/company_tools-2.0-py3-none-any.whl", hashes = {{ sha256 = "{hash}" }} }}]
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A committed project without requirements that anybody must be asked about."""
    write(tmp_path / "project")
    return tmp_path


def write(folder: Path, *, indexes: str = "", more: str = "", **files: str) -> Path:
    """A project in a repository, with these files; `__` in their names is a folder, `_dot_` a dot."""
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "tidewaiter.toml").write_text(PROJECT.format(indexes=indexes, more=more))
    (folder / "requirements.in").write_text("")
    (folder / "pylock.toml").write_text('lock-version = "1.0"\n')
    (folder / "main.py").write_text("print('hello')\n")
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    commit(folder)
    return folder


def analyse(place: Path, *words: object, extra: dict[str, str] | None = None) -> Done:
    return run(place / "home", "analyse", place / "project", *words, extra=extra)


def found(done: Done) -> list[tuple[str, str, str]]:
    return [(one["rule"], one["severity"], one["file"]) for one in done.json["findings"]]


def test_a_clean_project(place: Path) -> None:
    """A project without mistakes is let through, and what could not be checked is said."""
    done = analyse(place, "--format", "json")
    assert done.code == 0, done.err
    assert done.json["findings"] == []
    assert done.json["files"] == 4
    assert done.json["stopping"] == 0


def test_a_secret_stops_and_is_never_shown(place: Path) -> None:
    """A token ends the analysis with 1 in every format, and stands in none of them."""
    write(place / "project", main_dot_py=f"TOKEN = '{token()}'\nprint(TOKEN)\n")
    for output in ("text", "json", "sarif", "junit"):
        done = analyse(place, "--format", output)
        assert done.code == 1, done.err
        assert "secrets/github-token" in done.out
        assert BODY[:12] not in done.out + done.err


def test_what_git_ignores_is_nobodys_source(place: Path) -> None:
    """A file that Git ignores is not looked at, unless it goes into the image."""
    write(place / "project", _dot_gitignore=".env\nlocal/\n")
    (place / "project" / ".env").write_text(f"TOKEN={token()}\n")
    (place / "project" / "local").mkdir()
    (place / "project" / "local" / "key.txt").write_text(token())
    assert analyse(place).code == 0
    text = (place / "project" / "tidewaiter.toml").read_text()
    (place / "project" / "tidewaiter.toml").write_text(text.replace('"main.py"]', '"main.py", "local"]', 1))
    done = analyse(place, "--format", "json")
    assert done.code == 1
    assert ("secrets/github-token", "high", "local/key.txt") in found(done)


def test_a_reason_lets_it_stand(place: Path) -> None:
    """A comment with a reason, or [[static.ignore]], takes a finding out; without a reason it does not."""
    line = f"T = '{token()}'"
    write(place / "project", main_dot_py=f"# tidewaiter: ignore secrets/github-token: revoked long ago\n{line}\n")
    done = analyse(place, "--format", "json")
    assert done.code == 0, done.out
    assert [one["ignored"] for one in done.json["findings"]] == ["revoked long ago"]
    write(place / "project", main_dot_py=f"{line}  # tidewaiter: ignore secrets/github-token\n")
    assert analyse(place).code == 1
    more = '[[static.ignore]]\nrule = "secrets/*"\nreason = "revoked"\npaths = ["main.*"]\n'
    write(place / "project", main_dot_py=f"{line}\n", more=more)
    assert analyse(place).code == 0


def test_the_comment_is_no_mistake_for_lint(place: Path) -> None:
    """`lint` does not call a comment unused that speaks of a rule of the analysis."""
    line = f"T = '{token()}'  # tidewaiter: ignore secrets/github-token: revoked long ago\n"
    write(place / "project", main_dot_py=line)
    assert run(place / "home", "lint", place / "project" / "main.py", "--fail-on", "info").code == 0


@pytest.mark.parametrize(
    ("fail_on", "code"),
    [([], 0), (["secrets"], 1), (["secrets:critical"], 0), (["medium"], 1), (["confusion", "lint:high"], 0)],
)
def test_the_project_says_what_stops(place: Path, fail_on: list[str], code: int) -> None:
    """`[static] fail_on` takes kinds, severities and both."""
    more = f"[static]\nfail_on = {json.dumps(fail_on)}\n"
    write(place / "project", more=more, main_dot_py=f"T = '{token()}'\n")
    assert analyse(place).code == code


def test_the_command_says_what_stops(place: Path) -> None:
    """`--fail-on` counts in the place of the project's word, and a wrong word is wrong usage."""
    write(place / "project", main_dot_py=f"T = '{token()}'\n")
    assert analyse(place, "--fail-on", "none").code == 0
    assert analyse(place, "--fail-on", "lint", "--fail-on", "secrets:low").code == 1
    wrong = analyse(place, "--fail-on", "secrets:dreadful", "--format", "json")
    assert wrong.code == 2
    assert "secrets:dreadful" in wrong.json["error"]["message"]


def test_a_server_can_be_stricter(place: Path) -> None:
    """The setting `static_fail_on` stops although the project says that nothing does; a wrong word is refused."""
    write(place / "project", more="[static]\nfail_on = []\n", main_dot_py=f"T = '{token()}'\n")
    assert analyse(place).code == 0
    assert analyse(place, extra={"TIDEWAITER_STATIC_FAIL_ON": "secrets:high, confusion"}).code == 1
    assert analyse(place, extra={"TIDEWAITER_STATIC_FAIL_ON": "sometimes"}).code == 2


def test_the_project_may_lie_in_a_folder(place: Path) -> None:
    """Findings name files from the folder that is looked at, and secrets beside the project are found."""
    write(place / "project")
    (place / "project" / "pylock.toml").unlink()
    (place / "beside.py").write_text(f"T = '{token()}'\n")
    project = load(place / "project")
    home = settings.load({"TIDEWAITER_HOME": str(place / "home")})
    report = static.analyse(home, place, project, note=lambda _: None, asks=False)
    assert {(one.rule, one.file) for one in report.findings} == {
        ("secrets/github-token", "beside.py"),
        ("dependencies/no-lock", "project/requirements.in"),
    }


def test_bounds_are_said(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is beyond the bound on bytes is "not checked"; more files than the bound are an error."""
    monkeypatch.setattr("tidewaiter.core.limits.STATIC_BYTES", 5)
    assert [one.what for one in report_of(place).not_checked if one.what.startswith("all")] == ["all after main.py"]
    monkeypatch.setattr("tidewaiter.core.limits.STATIC_FILES", 3)
    with pytest.raises(LimitError, match="over 3"):
        report_of(place)


def test_a_wrong_word_names_its_line(place: Path) -> None:
    """A wrong `fail_on` in the project file is an error with file and line."""
    write(place / "project", more='[static]\nfail_on = ["sometimes"]\n')
    done = analyse(place)
    assert done.code == 2
    assert "tidewaiter.toml:17: [static] fail_on: 'sometimes'" in done.err


def test_other_unreadable_things_are_said(place: Path) -> None:
    """A file that is too large, and a lock that is none, are "not checked", not "nothing found"."""
    write(place / "project", pylock_dot_toml="packages = 7\n", poetry_dot_lock="")
    (place / "project" / "big.txt").write_text("x" * (4 << 20) + "y")
    done = analyse(place, "--format", "json")
    assert {one["what"] for one in done.json["not_checked"]} >= {"big.txt", "pylock.toml", "poetry.lock"}


def _index(asked: list[str], known: dict[str, list[dict[str, Any]]]) -> Any:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        files = known.get(handler.path)
        if files is None:
            reply(handler, 404)
            return
        body = json.dumps({"meta": {"api-version": "1.1"}, "files": files}).encode()
        reply(handler, 200, body, Content_Type="application/vnd.pypi.simple.v1+json")

    return answer


def _file(name: str, *, yanked: bool | str = False) -> dict[str, Any]:
    return {"filename": name, "url": name, "hashes": {"sha256": "0" * 64}, "yanked": yanked}


def test_dependencies_are_asked_about(tmp_path: Path, serve: Serve) -> None:
    """A private name that the public index has stops; what is yanked is named with the reason; answers are kept."""
    asked: list[str] = []
    known = {
        "/simple/six/": [_file("six-1.17.0-py2.py3-none-any.whl", yanked="breaks everything.")],
        "/simple/company-tools/": [_file("company_tools-99.0-py3-none-any.whl")],
        "/private/company-tools/": [_file("company_tools-2.0-py3-none-any.whl")],
    }
    url = serve(_index(asked, known))
    lock = LOCK.format(tools="https://packages.example.com", hash="0" * 64)
    write(tmp_path / "project", indexes=INDEXES.format(url=url.replace("127.0.0.1", "localhost")), pylock_dot_toml=lock)
    extra = {"TIDEWAITER_PYTHON_INDEX": f"{url}/simple"}
    done = analyse(tmp_path, "--format", "json", extra=extra)
    assert done.code == 1, done.err
    assert found(done) == [
        ("confusion/known-publicly", "high", "pylock.toml"),
        ("dependencies/yanked", "medium", "pylock.toml"),
    ]
    rows = done.json["findings"]
    assert [one["line"] for one in rows] == [9, 4]
    assert "breaks everything." in rows[1]["message"]
    assert sorted(asked) == [
        "/private/company-tools/",
        "/simple/company-models/",
        "/simple/company-tools/",
        "/simple/six/",
    ]
    assert analyse(tmp_path, "--format", "json", extra=extra).json["findings"] == rows
    assert len(asked) == 4


def test_a_mirror_is_asked_in_the_place_of_the_public_index(place: Path, serve: Serve) -> None:
    """Where a mirror stands in for the public index, it says what is yanked."""
    asked: list[str] = []
    known = {"/mirror/six/": [_file("six-1.17.0-py2.py3-none-any.whl", yanked=True)]}
    url = serve(_index(asked, known))
    write(place / "project", requirements_dot_in="six==1.17\n")
    extra = {"TIDEWAITER_PYTHON_INDEX": f"{url}/simple", "TIDEWAITER_PYTHON_MIRROR": f"{url}/mirror"}
    done = analyse(place, "--format", "json", extra=extra)
    assert found(done) == [("dependencies/yanked", "medium", "requirements.in")]
    assert asked == ["/mirror/six/"]


def test_private_names_can_be_kept(tmp_path: Path, serve: Serve) -> None:
    """With `private_names_asked` = no the public index does not learn them; offline nobody is asked anything."""
    asked: list[str] = []
    url = serve(_index(asked, {}))
    lock = LOCK.format(tools="https://packages.example.com", hash="0" * 64)
    write(tmp_path / "project", indexes=INDEXES.format(url=url.replace("127.0.0.1", "localhost")), pylock_dot_toml=lock)
    extra = {"TIDEWAITER_PYTHON_INDEX": f"{url}/simple", "TIDEWAITER_PRIVATE_NAMES_ASKED": "no"}
    assert analyse(tmp_path, "--offline", extra=extra).code == 0
    assert asked == []
    done = analyse(tmp_path, "--format", "json", extra=extra)
    assert done.code == 0, done.out
    assert "private names on the public index" in {one["what"] for one in done.json["not_checked"]}
    assert sorted(asked) == ["/private/company-tools/", "/simple/six/"]


def test_a_private_name_from_the_public_index(tmp_path: Path, serve: Serve) -> None:
    """A lock that has a private name from where everybody uploads is critical, also without asking anybody."""
    url = serve(_index([], {}))
    lock = LOCK.format(tools="https://files.pythonhosted.org/packages", hash="0" * 64)
    write(tmp_path / "project", indexes=INDEXES.format(url=url), pylock_dot_toml=lock)
    done = analyse(tmp_path, "--offline", "--format", "json")
    assert done.code == 1, done.err
    assert found(done) == [("confusion/locked-from-public", "critical", "pylock.toml")]


def test_private_names_without_index(place: Path) -> None:
    """A name that the setting calls private, and that no index is named for, would be asked for publicly."""
    write(place / "project", requirements_dot_in="Company.Secret-Tools==1.0\nsix==1.17.0\n")
    done = analyse(place, "--offline", "--format", "json", extra={"TIDEWAITER_PRIVATE_NAMES": "company-*"})
    assert done.code == 1, done.err
    assert found(done) == [("confusion/no-index", "high", "requirements.in")]


def test_a_silent_index_is_not_a_yes(tmp_path: Path, serve: Serve) -> None:
    """An index that does not answer leaves its names unchecked; it is asked once, not for each of them."""
    asked: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        reply(handler, 500)

    url = serve(answer)
    names = "".join(f"package-{number}==1.0\n" for number in range(40))
    write(tmp_path / "project", requirements_dot_in=names)
    done = analyse(tmp_path, "--format", "json", extra={"TIDEWAITER_PYTHON_INDEX": f"{url}/simple"})
    assert done.code == 0, done.err
    lacks = [one for one in done.json["not_checked"] if one["what"].startswith("40 names")]
    assert len(lacks) == 1
    assert "500" in lacks[0]["reason"]
    assert len(asked) <= 8


def test_what_is_not_bound_to_bytes(place: Path) -> None:
    """A lock without hashes, requirements without versions, and no lock at all are named."""
    lock = '[[packages]]\nname = "six"\nversion = "1.0"\nwheels = [{ url = "https://h.org/six.whl" }]\n'
    write(place / "project", pylock_dot_toml=lock, requirements_dot_txt="six\nattrs\n")
    done = analyse(place, "--offline", "--format", "json")
    assert ("dependencies/no-hash", "medium", "pylock.toml") in found(done)
    assert ("requirements/unpinned", "low", "requirements.txt") in found(done)
    (place / "project" / "pylock.toml").unlink()
    done = analyse(place, "--offline", "--format", "json")
    assert ("dependencies/no-lock", "medium", "requirements.in") in found(done)


def test_an_address_that_is_none_is_no_way_around(place: Path) -> None:
    """A lock with a bracket that is not closed in an address is judged like others."""
    bad = "https://[bad"
    lock = f'[[packages]]\nname = "six"\nversion = "1"\nindex = "{bad}"\nwheels = [{{ url = "{bad}/six.whl" }}]\n'
    write(place / "project", pylock_dot_toml=lock, requirements_dot_txt=f"--extra-index-url {bad}\nsix\n")
    done = analyse(place, "--offline", "--format", "json")
    assert ("dependencies/no-hash", "medium", "pylock.toml") in found(done)


def test_a_large_lock_costs_little(place: Path) -> None:
    """The lines of all packages are found in one go, and are those that name them."""
    lock = 'lock-version = "1.0"\n' + "".join(
        f'[[packages]]\nname = "p{number}"\nversion = "1"\n{filler}[[packages.wheels]]\n'
        f'url = "https://x.example/p{number}-1-py3-none-any.whl"\n'
        for number, filler in enumerate(["#\n" * 30] * 2000)
    )
    folder = write(place)
    began = time.monotonic()
    found = dependencies.found(settings.load(), folder, load(folder), [Read("pylock.toml", lock)], [], asks=False)
    assert [one.line for one in found if one.rule.endswith("no-hash")] == [3 + 35 * one for one in range(2000)]
    assert time.monotonic() - began < 20


def test_ruff_is_run_and_reads_no_configuration(place: Path) -> None:
    """ruff finds what is undefined, whatever the project's own configuration says."""
    write(place / "project", main_dot_py="print(undefined)\n", ruff_dot_toml='exclude = ["*"]\n[lint]\nselect = []\n')
    done = analyse(place, "--format", "json")
    assert ("ruff/f821", "medium", "main.py") in found(done)


FAKE = """\
#!{python}
import sys, time, pathlib
{body}
"""


def _fake(folder: Path, name: str, body: str) -> None:
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(FAKE.format(python=sys.executable, body=body))
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("sys.exit(3)", "it ended with 3"),
        ("pass", "it wrote no report"),
        ("pathlib.Path(sys.argv[sys.argv.index('--output-file') + 1]).write_text('{')", "malformed"),
        ("pathlib.Path(sys.argv[sys.argv.index('--output-file') + 1]).write_text('[' * 3000)", "over 2000 bytes"),
        ("time.sleep(60)", "took over 1 s"),
    ],
)
def test_a_tool_that_fails_found_nothing_out(
    place: Path, monkeypatch: pytest.MonkeyPatch, body: str, reason: str
) -> None:
    """A tool that crashes, hangs or writes nonsense is "not checked", with the reason."""
    _fake(place / "bin", "ruff", body)
    monkeypatch.setenv("PATH", str(place / "bin"))
    monkeypatch.setattr("tidewaiter.core.limits.ANALYSER_SECONDS", 1)
    monkeypatch.setattr("tidewaiter.core.limits.ANALYSER_BYTES", 2000)
    unread: list[NotChecked] = []
    assert list(tools.found(place / "project", [place / "project" / "main.py"], unread)) == []
    lack = next(one for one in unread if one.what == "ruff")
    assert reason in lack.reason


def test_no_program_of_the_project_is_run(place: Path) -> None:
    """A program named ruff that lies in the checkout is never started."""
    mark = place / "started"
    _fake(place / "project" / ".venv", "ruff", f"pathlib.Path({str(mark)!r}).touch()")
    _fake(place / "project" / "bin", "ruff", f"pathlib.Path({str(mark)!r}).touch()")
    assert analyse(place).code == 0
    assert not mark.exists()


def test_bandits_report_is_read(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What bandit finds comes with its severity; its words about passwords, which quote them, do not."""
    rows = [
        {"filename": str(place / "project" / "main.py"), "line_number": 1, "col_offset": 4, "issue_severity": severity,
         "issue_text": text, "test_id": code, "test_name": name, "more_info": "https://bandit.example"}
        for severity, text, code, name in (
            ("HIGH", "shell", "B602", "subprocess_popen_with_shell_equals_true"),
            ("LOW", "Possible hardcoded password: 'hunter2'", "B105", "hardcoded_password_string"),
        )
    ]  # fmt: skip
    report = json.dumps({"results": rows, "errors": [{"filename": "x.py", "reason": "syntax"}]})
    _fake(place / "bin", "bandit", f"pathlib.Path(sys.argv[sys.argv.index('--output') + 1]).write_text({report!r})")
    monkeypatch.setenv("PATH", str(place / "bin"))
    unread: list[NotChecked] = []
    project = place / "project"
    said = [one for one in tools.found(project, [project / "main.py"], unread) if one.tool == "bandit"]
    assert [(one.rule, one.severity, one.column) for one in said] == [
        ("bandit/b602", "high", 5),
        ("bandit/b105", "low", 5),
    ]
    assert "hunter2" not in said[1].message
    assert NotChecked("bandit: x.py", "syntax") in unread


def report_of(place: Path) -> StaticReport:
    project = load(place / "project")
    home = settings.load({"TIDEWAITER_HOME": str(place / "home")})
    return static.analyse(home, project.directory, project, note=lambda _: None, asks=False)


def test_the_step_stops_a_build(place: Path) -> None:
    """`require` raises for a report with something that stops, names the place, and is silent otherwise."""
    static.require(report_of(place))
    write(place / "project", main_dot_py=f"\nT = '{token()}'\n")
    with pytest.raises(RefusedError, match=r"main\.py:2: A GitHub token") as error:
        static.require(report_of(place))
    assert error.value.code == "analysis_failed"


def test_sarif_and_junit_are_what_readers_expect(place: Path) -> None:
    """SARIF has levels and suppressed results, JUnit failures and what was not checked."""
    line = f"T = '{token()}'"
    ignored = f"{line}  # tidewaiter: ignore secrets/*: known\n"
    write(place / "project", main_dot_py=f"{line}\n", other_dot_py=ignored)
    log = json.loads(analyse(place, "--format", "sarif").out)
    assert log["version"] == "2.1.0"
    results = {
        one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]: one for one in log["runs"][0]["results"]
    }
    assert results["main.py"]["level"] == "error"
    assert "suppressions" not in results["main.py"]
    assert results["other.py"]["suppressions"][0]["justification"] == "known"
    suite = ET.fromstring(analyse(place, "--format", "junit").out)
    assert suite.get("failures") == "1"
    assert int(suite.get("tests", "0")) == len(suite)
    assert {case.get("name") for case in suite if case.find("skipped") is not None} >= {"other.py:1"}


def test_outside_of_a_repository(tmp_path: Path) -> None:
    """A folder that is in no repository is looked at whole, but for what tools keep there."""
    folder = tmp_path / "project"
    (folder / ".venv").mkdir(parents=True)
    (folder / "tidewaiter.toml").write_text(PROJECT.format(indexes="", more=""))
    (folder / "main.py").write_text("")
    (folder / "requirements.in").write_text("")
    (folder / ".venv" / "x.py").write_text(f"T = '{token()}'\n")
    (folder / "link.py").symlink_to(folder / ".venv" / "x.py")
    assert analyse(tmp_path, "--offline", "--format", "json").json["files"] == 3
