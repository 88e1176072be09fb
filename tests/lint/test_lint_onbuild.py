"""What ONBUILD puts off is looked at where it runs: in the stages and images that stand on this one."""

import json
import subprocess
from pathlib import Path

import pytest

from servers import Tool
from tidewaiter.core.project import LintSection
from tidewaiter.lint import kinds
from tidewaiter.lint.check import check
from tidewaiter.lint.dockerfile import onbuild
from tidewaiter.lint.dockerfile.parse import parse
from tidewaiter.lint.files import Source
from tidewaiter.lint.finding import Finding
from tidewaiter.lint.fixing import left, mend
from tidewaiter.lint.rule import RULES
from tidewaiter.lint.text import Text

FILE = "FROM python:3.11-slim\n  ONBUILD  RUN pip install \\\n    pandas\nONBUILD COPY . .\nUSER 65532\n"
# What images for others to build on hold, in the wild: python:onbuild, node:onbuild, and a base with build tools.
OFFICIAL = """\
FROM python:3.11-slim
RUN mkdir -p /usr/src/app
WORKDIR /usr/src/app
USER 65532
ONBUILD COPY . /usr/src/app
ONBUILD RUN pip install --no-cache-dir -r requirements.txt
"""
MISTAKES = """\
FROM python:3.11-slim
WORKDIR /app
ONBUILD RUN pip install pandas && cd /x
ONBUILD RUN apt-get update && apt-get install curl
ONBUILD RUN apt install -y curl
ONBUILD RUN sudo ls
ONBUILD RUN yum install x
ONBUILD RUN useradd -u 1234567 x
ONBUILD RUN apk add git
ONBUILD ADD a.py /app/
ONBUILD COPY a b /app
ONBUILD ENV A=/opt B=$A/bin
ONBUILD ARG API_TOKEN
ONBUILD USER root
ONBUILD CMD python x.py
USER 1000
CMD ["python"]
"""


def found(content: str) -> list[Finding]:
    return check(Source("Dockerfile", "dockerfile", content), LintSection())


def at(content: str) -> set[tuple[str, int]]:
    return {(one.rule.partition("/")[2], one.span.line) for one in found(content)}


def test_pip_behind_onbuild_is_found_in_its_place() -> None:
    """The package without a version, and the cache that is kept; the message says in which images."""
    those = {one.rule: one for one in found(FILE)}
    assert (those["dockerfile/pip-unpinned"].span.line, those["dockerfile/pip-unpinned"].span.column) == (3, 5)
    assert those["dockerfile/pip-cache"].span.line == 2
    assert those["dockerfile/pip-cache"].message.endswith(onbuild.OUTSIDE)


def test_every_rule_sees_what_is_put_off() -> None:
    """RUN, ADD, COPY, ENV, ARG, USER and CMD behind ONBUILD are found as they would be in the build that runs them."""
    assert at(MISTAKES) >= {
        ("pip-unpinned", 3),
        ("pip-cache", 3),
        ("cd-for-workdir", 3),
        ("apt-asks", 4),
        ("apt-lists", 4),
        ("apt-recommends", 4),
        ("apt-for-people", 5),
        ("sudo", 6),
        ("yum-asks", 7),
        ("large-user-number", 8),
        ("apk-cache", 9),
        ("add-for-copy", 10),
        ("copy-many-to-file", 11),
        ("env-own-variable", 12),
        ("secret-in-image", 13),
        ("root-user", 14),
        ("shell-form", 15),
    }


def test_sources_before_packages_in_an_image_to_build_on() -> None:
    """What python:onbuild did is found: every build on it installs all packages again after any change."""
    (one,) = (one for one in found(OFFICIAL) if one.rule == "dockerfile/copy-before-install")
    assert (one.span.line, one.message.endswith(onbuild.OUTSIDE)) == (5, True)


def test_it_is_mended_in_its_place() -> None:
    """Words are put in behind ONBUILD, which stays, and nothing is left that --fix mends."""
    mended = mend(Source("Dockerfile", "dockerfile", FILE), LintSection()).content
    assert "  ONBUILD  RUN pip install --no-cache-dir \\\n    pandas\n" in mended
    mended = mend(Source("Dockerfile", "dockerfile", MISTAKES), LintSection()).content
    for line in (
        "ONBUILD RUN pip install --no-cache-dir pandas && cd /x",
        "ONBUILD RUN apt-get update && apt-get install -y curl",
        "ONBUILD RUN apt-get install -y curl",
        "ONBUILD RUN yum install -y x",
        "ONBUILD RUN useradd -l -u 1234567 x",
        "ONBUILD RUN apk add --no-cache git",
        "ONBUILD COPY a.py /app/",
    ):
        assert f"\n{line}\n" in mended
    assert not [one for one in left(found(mended)) if RULES[one.rule].mends]


def test_it_is_no_instruction_of_this_image() -> None:
    """RUN and COPY behind ONBUILD are `later`, not among the stage's own; what no build takes is neither."""
    stage = parse(Text("Dockerfile", FILE + "ONBUILD NONSENSE x\nONBUILD COPY\n")).last
    assert [one.name for one in stage.later] == ["RUN", "COPY"]
    assert not list(stage.all_of("RUN", "COPY"))
    # A user, a folder and a shell that are put off change nothing here.
    here = 'FROM nginx\nONBUILD USER 1\nONBUILD WORKDIR /app\nONBUILD SHELL ["/bin/bash", "-o", "pipefail", "-c"]\n'
    assert {("copy-without-workdir", 5), ("pipe-without-pipefail", 6), ("root-user", 7)} <= at(
        here + "COPY a ./\nRUN curl a | tar x\nUSER root\n"
    )


def test_it_runs_in_the_stages_that_stand_on_it() -> None:
    """What a stage puts off runs first in those FROM it, not in itself, not in theirs, and is said once."""
    file = onbuild.parse(
        Text(
            "Dockerfile",
            "FROM python:3 AS a\nENV P=/a\nONBUILD ENV Q=$P/b\nONBUILD WORKDIR $Q\nONBUILD RUN sudo x\n"
            "FROM a AS b\nRUN y\nFROM b AS c\nFROM a\n",
        )
    )
    names = [[one.name for one in stage.instructions] for stage in file.stages]
    assert names == [["ENV", *["ONBUILD"] * 3], ["ENV", "WORKDIR", "RUN", "RUN"], [], ["ENV", "WORKDIR", "RUN"]]
    (folder,) = file.stages[2].inherited("WORKDIR")
    assert folder.expand(folder.args[0]) == "/a/b"
    assert not file.outside
    (one,) = (one for one in found(file.text.content) if one.rule == "dockerfile/sudo")
    assert (one.span.line, one.span.column, one.message.endswith(onbuild.HERE)) == (5, 13, True)


def test_the_state_of_this_image_holds_where_it_runs() -> None:
    """The build that runs it stands on all of this image: its WORKDIR, SHELL and ENV, also those below ONBUILD."""
    below = 'ENV PIP_NO_CACHE_DIR=1\nWORKDIR /app\nSHELL ["/bin/bash", "-o", "pipefail", "-c"]\n'
    put_off = "ONBUILD COPY a b/\nONBUILD RUN curl https://a.example | tar x\nONBUILD RUN pip install a==1\n"
    assert {one for one in at(f"FROM example.org/x:1\n{put_off}{below}") if one[1] < 5} == {("base-without-digest", 1)}
    assert {"pip-cache", "copy-without-workdir", "pipe-without-pipefail"} <= {
        rule for rule, _ in at(f"FROM debian:12\n{put_off}")
    }


def test_what_the_other_file_decides_is_not_said() -> None:
    """Its stages, its context, its health check, and what it installs are not known here."""
    content = (
        "FROM example.org/x:1\nWORKDIR /a\nONBUILD COPY --from=build /a /a\nONBUILD COPY requirements.txt ./\n"
        "ONBUILD EXPOSE 80\nONBUILD COPY . .\n"
    )
    source = Source("Dockerfile", "dockerfile", content, frozenset({".git"}))
    assert {one.rule for one in check(source, LintSection())} == {"dockerfile/base-without-digest"}


def test_a_requirements_file_that_is_installed_later_is_used() -> None:
    """This image copies it, and ONBUILD installs it."""
    content = (
        "FROM python:3\nWORKDIR /a\nCOPY requirements.txt ./\n{}RUN pip install --no-cache-dir -r requirements.txt\n"
    )
    assert ("requirements-unused", 3) not in at(content.format("ONBUILD "))
    assert ("requirements-unused", 3) in at(content.partition("{}")[0])


@pytest.mark.parametrize(
    ("said", "refused"),
    [
        ("ONBUILD FROM b", "FROM isn't allowed as an ONBUILD trigger"),
        ("onbuild maintainer b", "MAINTAINER isn't allowed as an ONBUILD trigger"),
        ("ONBUILD ONBUILD RUN b", "isn't allowed"),
        ("ONBUILD", "at least one argument"),
        ("ONBUILD ENV A", "ENV must have two arguments"),
        ("ONBUILD NONSENSE x", ""),
        ("ONBUILD COPY x", ""),
        ("ONBUILD RUN <<A\nFROM b\nA", ""),
        ("ONBUILD COPY <<A /x\nNONSENSE\nA\nRUN a", ""),
        ("ONBUILD \\\n  # said\n\n RUN x", ""),
        ("ONBUILD\\\n RUN x", ""),
    ],
)
def test_what_buildkit_refuses_is_refused(said: str, refused: str) -> None:
    """The verdicts of BuildKit's parser, which the test below asks."""
    (message,) = [one.message for one in found(f"FROM a\n{said}\n") if one.rule == "dockerfile/syntax"] or [""]
    assert refused in message
    assert bool(refused) == bool(message)


@pytest.mark.interop
def test_buildkit_says_the_same(tmp_path: Path, tool: Tool) -> None:
    """The table above is what BuildKit's own parser answers."""
    (mark,) = (one for one in test_what_buildkit_refuses_is_refused.pytestmark if one.name == "parametrize")  # type: ignore[attr-defined]  # pytest's own attribute
    paths = [tmp_path / str(number) for number in range(len(mark.args[1]))]
    for path, (said, _) in zip(paths, mark.args[1], strict=True):
        path.write_text(f"FROM a\n{said}\n")
    answers = subprocess.run(
        [tool("dockerfile-parse")],
        input="".join(f"{path}\n" for path in paths),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert [not line.endswith("\tok") for line in answers] == [bool(refused) for _, refused in mark.args[1]]


def test_places_behind_ends_of_lines_and_heredocs_are_right() -> None:
    """Comments, other escapes and here-documents between ONBUILD and what is wrong do not shift its place."""
    content = "# escape=`\nFROM a:1\nONBUILD `\n  # said\n\n  RUN sudo x\nONBUILD RUN <<A\nls\nsudo y\nA\nUSER 1\n"
    places = {(one.span.line, one.span.column) for one in found(content) if one.rule == "dockerfile/sudo"}
    assert places == {(6, 7), (9, 1)}


def test_what_no_build_takes_is_said() -> None:
    """This build passes with it, and each that stands on it fails; nothing else is said of it."""
    assert at("FROM a:1@sha256:" + "0" * 64 + "\nONBUILD NONSENSE\nONBUILD COPY a\nONBUILD ADD\nUSER 1\n") == {
        ("onbuild-broken", line) for line in (2, 3, 4)
    }


@pytest.mark.interop
def test_hadolint_finds_nothing_more(tmp_path: Path, tool: Tool) -> None:
    """Each of its rules that has one of ours, and that it finds behind ONBUILD, is found in the same line."""
    kinds.parser("dockerfile")
    path = tmp_path / "Dockerfile"
    path.write_text(MISTAKES)
    said = json.loads(
        subprocess.run(
            [tool("hadolint"), "--no-fail", "--format", "json", path], capture_output=True, check=True
        ).stdout
    )
    theirs = {(one["code"], one["line"]) for one in said if 2 < one["line"] < 16}
    ours = {(code, one.span.line) for one in found(MISTAKES) for code in RULES[one.rule].hadolint}
    with_ours = {code for rule in RULES.values() for code in rule.hadolint}
    assert len({code for code, _ in theirs if code in with_ours}) > 7
    assert {(code, line) for code, line in theirs if code in with_ours} <= ours
