"""Dockerfiles written anew: each step, what it leaves, and that nothing is left to do afterwards."""

from pathlib import Path, PurePosixPath

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidewaiter.core.errors import RefusedError
from tidewaiter.core.project import LintSection, ProjectFile
from tidewaiter.lint import fixing
from tidewaiter.lint.check import check
from tidewaiter.lint.dockerfile.parse import parse
from tidewaiter.lint.files import Source
from tidewaiter.lint.rewrite import dockerignore, project
from tidewaiter.lint.rewrite.installing import ROOTS_CACHE
from tidewaiter.lint.rewrite.rewriting import Rewritten, rewrite
from tidewaiter.lint.rewrite.step import Around
from tidewaiter.lint.text import Text

ALL = LintSection()
DIGEST = "sha256:" + "a" * 64
CONTEXT = {"requirements.txt": "numpy==1.26.4\n-r more.txt\n", "more.txt": "pandas==2.2.2  # tables\n"}


def again(content: str, files: dict[str, str] | None = None, wanted: LintSection = ALL, digest: str = "") -> Rewritten:
    around = Around(read=(CONTEXT if files is None else files).get, digest=lambda _image: digest or None)
    return rewrite(Source("Dockerfile", "dockerfile", content), wanted, around)


def test_compilers_go_to_a_stage_of_their_own() -> None:
    """The whole of it: stages, cache, user, exec form, digest; comments stay where they stood."""
    made = again(
        "# syntax=docker/dockerfile:1\n"
        "FROM python:3.11-slim\n"
        "# for what has no wheel\n"
        "RUN apt-get update && apt-get install -y --no-install-recommends gcc libgomp1\n"
        "WORKDIR /app\n"
        "COPY . .\n"
        "# all that is pinned\n"
        "RUN pip install --no-cache-dir -r requirements.txt\n"
        "EXPOSE 8501\n"
        "CMD python serve.py --port 8501\n",
        digest=DIGEST,
    )
    assert made.mended.content == (
        "# syntax=docker/dockerfile:1\n"
        f"FROM python:3.11-slim@{DIGEST} AS base\n"
        "# for what has no wheel\n"
        "RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 \\\n"
        "    && rm -rf /var/lib/apt/lists/*\n"
        "WORKDIR /app\n"
        "COPY requirements.txt ./\n"
        "COPY more.txt ./\n"
        "\n"
        "FROM base AS build\n"
        "RUN apt-get update && apt-get install -y --no-install-recommends gcc \\\n"
        "    && rm -rf /var/lib/apt/lists/*\n"
        "# all that is pinned\n"
        f"RUN --mount=type=cache,target={ROOTS_CACHE}/pip pip install --prefix=/install -r requirements.txt\n"
        "\n"
        "FROM base\n"
        "COPY --from=build /install /usr/local\n"
        "COPY --chown=65532:65532 . .\n"
        "EXPOSE 8501\n"
        "USER 65532:65532\n"
        'CMD ["python", "serve.py", "--port", "8501"]\n'
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("FROM python:3\nCOPY . .\nRUN python setup.py build && pip install -r requirements.txt\n", "may need them"),
        ("FROM python:3\nCOPY . .\nRUN pip install -r other.txt\n", "other.txt cannot be read"),
        ("FROM python:3\nCOPY . .\nRUN pip install -r requirements.txt -e .\n", "pip installs sources"),
        ("FROM python:3\nCOPY . /a\nRUN pip install -r /b/requirements.txt\n", "does not come with it"),
        ("FROM python:3\nRUN apt-get install -y gcc\nARG A\nRUN pip install a==1\n", "ARG in line 3"),
        ("FROM python:3\nRUN apt-get install -y gcc\nRUN pip install a==1\nRUN make\n", "line 4 may need the comp"),
        ("FROM ubuntu\nRUN apt-get install -y gcc\nRUN pip install a==1\n", "where pip installs in ubuntu"),
        ("FROM python:3\nRUN apt-get install -y gcc\nRUN pip install -U pip\n", "replace"),
        ('FROM python:3\nENTRYPOINT python a.py\nCMD ["b"]\n', "given CMD as arguments"),
        ("FROM python:3\nCMD python $NAME\n", "the shell fills in"),
        ("FROM python:3\nCMD cd /a\n", "cd is the shell's own"),
        ('FROM python:3\nEXPOSE 80\nCMD ["a"]\n', "port 80 may need root"),
        (f'FROM python:3\nWORKDIR {PurePosixPath(ROOTS_CACHE).parent}/app\nCMD ["a"]\n', "uses root's home"),
        ('FROM python:3\nWORKDIR $HOME/app\nCMD ["a"]\n', "uses root's home"),
        ('FROM python:3\nONBUILD RUN apt-get update\nCMD ["a"]\n', "ONBUILD in line 2"),
        ("FROM python:3 AS a\nONBUILD USER 1\nFROM a\nRUN pip install b==1\n", "ONBUILD in line 2 acts in the stage"),
        ('FROM nginx:1\nCMD ["a"]\n', "nobody here knows what nginx:1"),
        ("FROM python:3\nRUN a\n", "starts nothing"),
        ("FROM python:3\n", "digest is not known"),
        ('FROM python:3\nRUN pip install pytest==8.0.0\nCMD ["a"]\n', "pytest stays"),
        ("FROM python:3\nRUN apt-get install -y python3-pip\n", "pip may need compilers"),
        ("FROM python:3\nENV PIP_CACHE_DIR=/c\nRUN pip install a==1\n", "no cache mount"),
    ],
)
def test_what_is_not_understood_is_left_and_said(content: str, why: str) -> None:
    """A step that is not sure changes nothing of what it is for, and says why."""
    made = again(content)
    assert any(why in line for line in made.left), made.left
    assert "AS build" not in made.mended.content


def test_local_requirements_are_not_taken_apart() -> None:
    """A requirements file that installs sources of the project needs these sources."""
    made = again("FROM python:3\nCOPY . .\nRUN pip install -r requirements.txt\n", {"requirements.txt": "-e .\n"})
    assert "COPY . .\nRUN" in made.mended.content


@pytest.mark.parametrize(
    ("given", "then"),
    [
        ("RUN pip install a==1 pytest==8 b==2\n", "pip install a==1 b==2\n"),
        ("RUN pip install a==1 \\\n    pytest==8 \\\n    b==2\n", "pip install a==1 \\\n    b==2\n"),
        ("RUN pip install a==1 \\\n    pytest==8\n", "pip install a==1\n"),
    ],
)
def test_test_packages_go_with_their_lines(given: str, then: str) -> None:
    """What only tests need is taken out, and no line goes on to nothing."""
    content = again(f'FROM python:3\n{given}CMD ["python", "a.py"]\n').mended.content
    assert then in content
    parse(Text("Dockerfile", content))


def test_recommended_packages_that_matter_are_named() -> None:
    """git without certificates clones nothing: they are named when recommended packages are not installed."""
    content = again("FROM debian:12\nRUN apt-get update && apt-get install -y git gcc\n").mended.content
    assert "install --no-install-recommends ca-certificates libc6-dev -y git gcc" in content


def test_ignored_rules_keep_their_step_away() -> None:
    """What somebody wants as it is stays, and a rule that is turned off does nothing."""
    content = "FROM python:3\n# tidewaiter: ignore dockerfile/shell-form: it needs a shell\nCMD python a.py\n"
    made = again(content)
    assert "CMD python a.py" in made.mended.content
    assert any("it needs a shell" in line for line in made.left)
    off = again(content, wanted=LintSection(severity={"dockerfile/root-user": "off"}))
    assert "USER" not in off.mended.content


LINES = st.sampled_from(
    [
        "RUN apt update && apt install -y gcc g++ libgomp1",
        "RUN apt-get update && apt-get install -y \\\n    cmake \\\n    git \\\n && rm -rf /var/lib/apt/lists/*",
        "RUN apt-get install gcc; echo done # end",
        "RUN pip install -r requirements.txt",
        "RUN pip install --no-cache-dir \\\n  pytest==8 \\\n  # a comment\n  numpy==1.26.4",
        "RUN pip install numpy==1 \\\n  --no-cache-dir",
        "RUN --mount=type=cache,target=/x pip install scipy==1",
        "RUN <<EOF\npip install a==1\nEOF",
        "COPY . .",
        "COPY . /app/",
        "ADD . /app",
        "COPY requirements.txt .",
        "WORKDIR /app",
        "ENV A=b",
        "ARG V=1",
        "USER root",
        "USER app",
        "EXPOSE 8080",
        "CMD python a.py",
        "CMD python a.py && b",
        "ENTRYPOINT python b.py",
        "FROM python:3.12-slim AS other",
        "FROM other",
        "# a comment",
        "# tidewaiter: ignore dockerfile/*: a reason",
        "ONBUILD RUN x",
        'SHELL ["/bin/bash", "-c"]',
    ]
)


@given(st.lists(LINES, max_size=14), st.sampled_from(["\n", "\r\n"]))
@settings(max_examples=50, deadline=None)
def test_any_file_stays_parsable_no_worse_and_is_done_at_once(lines: list[str], newline: str) -> None:
    """The result parses, no rule finds more, comments are kept, line ends too, and a second rewrite does nothing."""
    content = "\n".join(["FROM python:3.11-slim", *lines, ""]).replace("\n", newline)
    made = again(content)
    result = made.mended.content
    before, after = (check(Source("Dockerfile", "dockerfile", one), ALL) for one in (content, result))
    assert not fixing.is_worse(before, after)
    assert again(result).mended.content == result
    assert result.count("\n") == result.count(newline)
    for line in content.split("\n"):
        assert not line.lstrip().startswith("#") or line in result


def test_dockerignore_names_what_nothing_uses(tmp_path: Path) -> None:
    """Version control, caches and secrets are left out, data only when no step and no program names it."""
    for name in (".git", "data", "checkpoints", "src", ".venv"):
        (tmp_path / name).mkdir()
    (tmp_path / "src/app.py").write_text("load('data/train.csv')\n")
    (tmp_path / ".env").write_text("A=b\n")
    (tmp_path / "Dockerfile").write_text("FROM python:3\nCOPY . .\n")
    file = parse(Text("Dockerfile", "FROM python:3\nCOPY . .\n"))
    assert dockerignore.context(tmp_path / "Dockerfile", file) == tmp_path
    made = dockerignore.propose(tmp_path, file)
    assert {".git", "checkpoints", ".venv", ".env"} <= set(made.content.split())
    assert "data" not in made.content.split()
    assert any("data/ stays" in line for line in made.left)


def test_a_version_from_git_keeps_it(tmp_path: Path) -> None:
    """`.git` stays in the context when the build asks it for the version."""
    (tmp_path / "pyproject.toml").write_text('[build-system]\nrequires = ["setuptools_scm"]\n')
    file = parse(Text("Dockerfile", "FROM python:3\nCOPY . .\n"))
    assert ".git" not in dockerignore.propose(tmp_path, file).content.split()


def test_the_context_is_where_all_sources_are(tmp_path: Path) -> None:
    """A Dockerfile in a folder of its own is built from the folder above, when that has what it copies."""
    (tmp_path / "docker").mkdir()
    (tmp_path / "app.py").write_text("")
    file = parse(Text("Dockerfile", "FROM python:3\nCOPY app.py /\n"))
    assert dockerignore.context(tmp_path / "docker/Dockerfile", file) == tmp_path
    none = parse(Text("Dockerfile", "FROM python:3\nCOPY nowhere-at-all.py /\n"))
    assert dockerignore.context(tmp_path / "docker/Dockerfile", none) is None


def test_a_project_file_is_proposed() -> None:
    """Base, requirements, packages, files and command are carried over; the rest is said."""
    file = parse(
        Text(
            "Dockerfile",
            "FROM python:3.11-slim\nRUN apt-get update && apt-get install -y gcc libgomp1\nWORKDIR /srv\n"
            "COPY . .\nRUN pip install -r requirements.txt scipy==1.13.0\nENV A=b\nCMD python serve.py --port 1\n",
        )
    )
    made = project.propose(file, "team/x", ("serve.py", "lib"))
    decoded = msgspec.toml.decode(made.content, type=ProjectFile)
    assert decoded.base is not None
    assert decoded.base.use == "debian12-python3.11"
    assert decoded.python is not None
    assert (decoded.python.version, decoded.python.requirements) == ("3.11", "requirements.txt")
    assert decoded.system is not None
    assert decoded.system.packages == ("libgomp1",)
    assert decoded.app.include == ("serve.py", "lib")
    assert decoded.app.entrypoint == ("python", "/app/serve.py", "--port", "1")
    for said in ("gcc, which is not carried over", "scipy==1.13.0", "ENV is not carried over"):
        assert any(said in line for line in made.left), made.left


def test_nothing_is_proposed_where_no_recipe_fits() -> None:
    """A base that no recipe replaces is refused."""
    with pytest.raises(RefusedError, match="no recipe takes the place"):
        project.propose(parse(Text("Dockerfile", "FROM nvidia/cuda:12.4.1-base\n")), "team/x", ())
