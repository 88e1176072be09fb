"""`--fix`: what it changes, what it leaves, how it writes."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidewaiter.core.errors import IntegrityError
from tidewaiter.core.project import LintIgnore, LintSection
from tidewaiter.lint import files, fixing
from tidewaiter.lint.check import check
from tidewaiter.lint.files import Source
from tidewaiter.lint.fixing import Mended, mend
from tidewaiter.lint.rule import RULES

BAD = """\
# syntax=docker/dockerfile:1
FROM python:3.11-slim
# what the wheels need
RUN apt update && apt install -y libgomp1  # OpenMP
ADD app.py /app/
RUN pip install numpy==1.26.4 \\
    # for tables
    pandas==2.2.2
CMD ["python", "/app/app.py"]
"""
GOOD = """\
# syntax=docker/dockerfile:1
FROM python:3.11-slim
# what the wheels need
RUN apt-get update && apt-get install -y libgomp1  # OpenMP
COPY app.py /app/
RUN pip install --no-cache-dir numpy==1.26.4 \\
    # for tables
    pandas==2.2.2
CMD ["python", "/app/app.py"]
"""
ALL = LintSection()


def source(content: str, path: str = "Dockerfile") -> Source:
    return Source(path, "dockerfile", content)


def _read(path: Path) -> Source:
    content = files.read(path)
    assert content is not None
    return source(content, path.as_posix())


def test_edits_of_all_rules_are_put_in_and_the_rest_stays() -> None:
    """What rules can mend is mended over several rounds, and no other character changes."""
    mended = mend(source(BAD), ALL)
    assert mended.content == GOOD
    assert set(mended.rules) == {
        "dockerfile/apt-for-people",
        "dockerfile/add-for-copy",
        "dockerfile/pip-cache",
    }
    assert not mend(source(GOOD), ALL).changed


def test_ignored_findings_are_left_as_they_are() -> None:
    """Neither a comment's nor the project file's ignored finding is mended."""
    said = "# tidewaiter: ignore dockerfile/add-for-copy: the build service asks for it\n"
    kept = mend(source(BAD.replace("ADD", f"{said}ADD")), ALL)
    assert f"{said}ADD app.py" in kept.content
    settled = LintSection(ignore=(LintIgnore(rule="dockerfile/pip-*", reason="a proxy"),))
    assert "--no-cache-dir" not in mend(source(BAD), settled).content
    off = LintSection(severity={"dockerfile/add-for-copy": "off"})
    assert "ADD app.py" in mend(source(BAD), off).content


def test_line_ends_and_byte_order_mark_stay(tmp_path: Path) -> None:
    """A file of Windows keeps its line ends and its mark, also in what is put in."""
    path = tmp_path / "Dockerfile"
    path.write_bytes(b"\xef\xbb\xbf" + BAD.replace("\n", "\r\n").encode())
    fixing.write(mend(_read(path), ALL))
    assert path.read_bytes() == b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode()


def test_mode_links_and_neighbours_stay(tmp_path: Path) -> None:
    """The file behind a link is replaced, with its mode; the link stays, and nothing is left beside it."""
    path, link = tmp_path / "real", tmp_path / "Dockerfile"
    path.write_text(BAD)
    path.chmod(0o640)
    link.symlink_to("real")
    fixing.write(mend(_read(link), ALL))
    assert path.read_text() == GOOD
    assert path.stat().st_mode & 0o777 == 0o640
    assert link.is_symlink()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["Dockerfile", "real"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_owner_stays(tmp_path: Path) -> None:
    """What root mends still belongs to whom it belonged."""
    path = tmp_path / "Dockerfile"
    path.write_text(BAD)
    os.chown(path, 1234, 2345)
    fixing.write(mend(_read(path), ALL))
    status = path.stat()
    assert (status.st_uid, status.st_gid) == (1234, 2345)


def test_a_file_that_changed_meanwhile_is_refused(tmp_path: Path) -> None:
    """What somebody wrote after the file was read is not lost."""
    path = tmp_path / "Dockerfile"
    path.write_text(BAD)
    mended = mend(_read(path), ALL)
    path.write_text("FROM scratch\n")
    with pytest.raises(IntegrityError, match="changed while"):
        fixing.write(mended)
    assert path.read_text() == "FROM scratch\n"
    assert [one.name for one in tmp_path.iterdir()] == ["Dockerfile"]


@pytest.mark.parametrize("ending", ["", "\n"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_git_applies_the_difference(tmp_path: Path, ending: str, newline: str) -> None:
    """The unified diff makes the old file the new one, with any line ends and without a last one."""
    before = (BAD.rstrip("\n") + ending).replace("\n", newline)
    path = tmp_path / "Dockerfile"
    path.write_bytes(before.encode())
    mended = mend(source(before), ALL)
    diff = "\n".join(fixing.difference(mended)) + "\n"
    subprocess.run(["git", "apply", "-"], input=diff.encode(), cwd=tmp_path, check=True)
    assert path.read_bytes() == mended.content.encode()


@given(
    st.lists(
        st.sampled_from(
            [
                "RUN apt update && apt install vim",
                "RUN apt-get update; \\\n # a comment\n apt-get install gcc",
                "RUN pip install a b==1 \\\n  --user",
                'RUN ["pip", "install", "a"]',
                "RUN bash -c 'pip install a && apt install b'",
                "RUN <<EOF\napt-get install x\npip3 install y\nEOF",
                "ADD a b",
                "ADD https://example.org/x.tgz /",
                'MAINTAINER me "x" <a@b>',
                "ENV PIP_NO_CACHE_DIR=1",
                "# a comment",
                "# tidewaiter: ignore dockerfile/*: a reason",
                'RUN echo $(pip install z) | tee "x',
                "FROM a AS b",
                "CMD pip install q",
            ]
        ),
        max_size=12,
    ),
    st.sampled_from(["\n", "\r\n"]),
)
@settings(max_examples=150, deadline=None)
def test_a_mended_file_is_never_worse_and_stays(lines: list[str], newline: str) -> None:
    """Of any file the result parses as before, no rule finds more, ignored ones stay, a second run does nothing."""
    before = source("\n".join(["FROM python:3", *lines, ""]).replace("\n", newline))
    mended = mend(before, ALL)
    after = source(mended.content)
    old, new = check(before, ALL), check(after, ALL)
    assert not fixing.is_worse(old, new)
    assert sum(one.ignored is not None for one in old) == sum(one.ignored is not None for one in new)
    assert not mend(after, ALL).changed
    assert all(one.left for one in new if one.ignored is None and one.rule in RULES and RULES[one.rule].mends)
    assert mended.content.count("\n") == mended.content.count(newline)


def test_nothing_to_mend_changes_nothing() -> None:
    """A file without findings that bring edits is the same, and has no difference."""
    mended = mend(source("FROM scratch\nCOPY a /\n"), ALL)
    assert mended == Mended(mended.source, mended.source.content)
    assert not list(fixing.difference(mended))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("RUN apk update && apk add git\n", "RUN apk update --no-cache && apk add --no-cache git\n"),
        ("RUN apk update && apk add --no-cache git\n", "RUN apk update --no-cache && apk add --no-cache git\n"),
        (
            "RUN apk update && apk upgrade\nRUN apk add git && apk del x\n",
            "RUN apk update --no-cache && apk upgrade --no-cache\nRUN apk add --no-cache git && apk del x\n",
        ),
        ("RUN <<A\napk update\napk add git\nA\n", "RUN <<A\napk update --no-cache\napk add --no-cache git\nA\n"),
        ('RUN ["pip", "install", "a==1"]\n', 'RUN ["pip", "install", "--no-cache-dir", "a==1"]\n'),
        ('RUN ["/bin/sh", "-c", "a && apk add b"]\n', 'RUN ["/bin/sh", "-c", "a && apk add --no-cache b"]\n'),
        ('RUN ["apk", "add", "git"]\n', 'RUN ["apk", "add", "--no-cache", "git"]\n'),
        ('RUN ["apt-get", "install", "a"]\n', 'RUN ["apt-get", "install", "-y", "a"]\n'),
        ('RUN ["useradd", "-u", "1234567", "a"]\n', 'RUN ["useradd", "-l", "-u", "1234567", "a"]\n'),
        ("RUN pip install a>=1,<2 b\n", 'RUN pip install --no-cache-dir "a>=1,<2" b\n'),
    ],
)
def test_nothing_is_left_of_what_is_mended(before: str, after: str) -> None:
    """Every part of a finding is mended, so that none is left and no other rule finds more."""
    mended = mend(source(f"FROM x/y:1\n{before}CMD a\n"), ALL)
    assert mended.content == f"FROM x/y:1\n{after}CMD a\n"
    assert not [one for one in check(source(mended.content), ALL) if RULES[one.rule].mends]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('RUN ["/bin/sh", "-c", "echo \\"a\\" && pip install a==1"]\n', "no place for a change"),
        ('RUN ["/bin/sh", "-c", "echo \\"a\\" && apk add git"]\n', "its words are quoted"),
        ("RUN apk update && apk search git\n", "asks apk for more than packages"),
        ("RUN apk update\nRUN apk upgrade\n", "line 3 reads the index"),
        ("RUN apk update\nRUN apk add git && rm -rf /var/cache/apk/*\n", "line 3 reads the index"),
        ("RUN apk update\n", "images that are built FROM this one"),
        ("MAINTAINER $A\n", "fill in the variable"),
        ("FROM tensorflow/tensorflow:2.13.0-gpu-cuda11.8\n", "for a person to say"),
    ],
)
def test_what_is_left_says_why(content: str, why: str) -> None:
    """A finding of a rule that is mended elsewhere stays as it is where that is not surely safe, with the reason."""
    before = f"FROM x/y:1\n{content}"
    assert mend(source(before), ALL).content == before
    assert why in next(one.left for one in check(source(before), ALL) if RULES[one.rule].mends)


def test_what_would_make_another_finding_is_left() -> None:
    """A finding whose change is not made, as a rule would find more after it, is said to be left."""
    found = check(source("FROM x/y:1\nADD a b\n"), ALL)
    (one,) = [one for one in fixing.left(found) if RULES[one.rule].mends]
    assert (one.left, one.edits) == ("a rule would find more than before", ())
