"""Dockerfiles pinned and looked through, before any builder sees them."""

from pathlib import Path

import pytest

from tidewaiter.assembly import dockerfile_text
from tidewaiter.assembly.dockerfile_text import Prepared
from tidewaiter.assembly.options import AMD64
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError, ProjectError, TidewaiterError
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.reference import RegistryReference

DIGEST = Digest("sha256:" + "1" * 64)
OTHER = "sha256:" + "2" * 64
PATH = Path("Dockerfile")


def prepare(text: str, arguments: dict[str, str] | None = None, asked: list[str] | None = None) -> Prepared:
    """The Dockerfile with every tag resolved to `DIGEST`; what is resolved is noted in `asked`."""

    def resolve(reference: RegistryReference) -> Digest:
        if asked is not None:
            asked.append(str(reference))
        return DIGEST

    return dockerfile_text.prepare(PATH, text, arguments=arguments or {}, platform=AMD64, resolve=resolve)


def test_every_image_is_pinned_and_asked_for_once() -> None:
    """FROM, COPY --from and RUN --mount name digests afterwards; stages, numbers and scratch stay."""
    asked: list[str] = []
    done = prepare(
        "ARG VERSION=3.11\n"
        "FROM --platform=$BUILDPLATFORM python:${VERSION} AS build\n"
        "FROM python:3.11\n"
        "FROM scratch AS empty\n"
        f"FROM registry.example.com/team/base:1@{OTHER} as Last\n"
        "COPY --from=build /a /a\n"
        "COPY --chown=1 --from=0 /a /a\n"
        "COPY --from=tools.example.com/uv:2 /uv /uv\n"
        "RUN --mount=type=bind,from=Build,target=/b --mount=type=bind,from=busybox,target=/c true\n",
        asked=asked,
    )
    assert asked == ["docker.io/library/python:3.11", "tools.example.com/uv:2", "docker.io/library/busybox"]
    assert done.text == (
        "ARG VERSION=3.11\n"
        f"FROM --platform=$BUILDPLATFORM docker.io/library/python@{DIGEST} AS build\n"
        f"FROM docker.io/library/python@{DIGEST}\n"
        "FROM scratch AS empty\n"
        f"FROM registry.example.com/team/base@{OTHER} as Last\n"
        "COPY --from=build /a /a\n"
        "COPY --chown=1 --from=0 /a /a\n"
        f"COPY --from=tools.example.com/uv@{DIGEST} /uv /uv\n"
        "RUN --mount=type=bind,from=Build,target=/b "
        f"--mount=type=bind,from=docker.io/library/busybox@{DIGEST},target=/c true\n"
    )
    assert [(one.name, one.pinned) for one in done.origins] == [
        ("docker.io/library/python:3.11", False),
        (f"registry.example.com/team/base:1@{OTHER}", True),
        ("tools.example.com/uv:2", False),
        ("docker.io/library/busybox", False),
    ]


def test_lines_keep_their_numbers() -> None:
    """A FROM over several lines is replaced by as many, so that the builder's messages name the right line."""
    done = prepare("FROM \\\n  python:3 \\\n  AS x\nRUN <<EOF\nFROM fake\nEOF\n")
    assert done.text == f"FROM docker.io/library/python@{DIGEST} AS x\n#\n#\nRUN <<EOF\nFROM fake\nEOF\n"
    assert len(done.origins) == 1


def test_arguments_of_the_project_reach_from() -> None:
    """A value of [build] arguments comes before the default of ARG."""
    asked: list[str] = []
    prepare('ARG BASE="old:1"\nFROM ${BASE:-none}\n', {"BASE": "new:2"}, asked)
    assert asked == ["docker.io/library/new:2"]


def test_epoch_is_wanted_only_when_declared() -> None:
    """The commit's time is handed over to a Dockerfile that asks for it."""
    assert not prepare("FROM scratch\nENV SOURCE_DATE_EPOCH=1\n").wants_epoch
    assert prepare("FROM scratch\nARG OTHER SOURCE_DATE_EPOCH\n").wants_epoch


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("FROM scratch\nENV DB_PASSWORD=hunter22\n", "Dockerfile:2: DB_PASSWORD looks like"),
        ("FROM scratch\nENV A=b \\\n  API_TOKEN='abcdefgh'\n", "Dockerfile:2: API_TOKEN looks like"),
        ("FROM scratch\nARG API_KEY=abcdefgh\n", "Dockerfile:2: API_KEY looks like"),
        (f"FROM scratch\nRUN curl -H 'x: ghp_{'a' * 36}' x\n", "RUN holds a GitHub token"),
        ("FROM scratch\nRUN <<EOF\npip install -i https://u:p@h/simple x\nEOF\n", "RUN holds a password"),
        ("FROM scratch\nCOPY <<EOF /k\n-----BEGIN PRIVATE KEY-----\nEOF\n", "COPY holds a private key"),
    ],
)
def test_secrets_in_the_text_are_refused(text: str, where: str) -> None:
    """What would stay in the image for everyone to read is an error with its line and the way out."""
    with pytest.raises(InputError, match=where) as caught:
        prepare(text)
    assert caught.value.code == "secret_in_build"
    assert "--mount=type=secret" in caught.value.next_step


def test_secrets_in_arguments_are_refused() -> None:
    """Build arguments are in the history of the image, so they cannot carry secrets."""
    with pytest.raises(InputError, match="TOKEN looks like a secret"):
        prepare("FROM scratch\nARG TOKEN\n", {"TOKEN": "abcdefgh"})


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "there is no FROM"),
        ("RUN true\n", "there is no FROM"),
        ("FROM a b\n", "is no FROM"),
        ("FROM $UNKNOWN\n", "is no image of a registry"),
        ("FROM oci:folder\n", "is no image of a registry"),
        ("FROM docker://a/b\n", "is no image of a registry"),
        ("FROM UPPER:1\n", "is not a repository name"),
        ("FROM scratch\nCOPY --from=$X a b\n", "has a variable"),
        ("FROM scratch\nRUN <<EOF\nnever ends\n", "unterminated heredoc"),
        ("FROM scratch\nNONSENSE x\n", "unknown instruction"),
    ],
)
def test_what_cannot_be_read_names_its_line(text: str, what: str) -> None:
    """A Dockerfile that is wrong is refused here, with file and line."""
    with pytest.raises(InputError, match=r"^Dockerfile:\d+: .*" + what):
        prepare(text)


def test_file_must_be_there_and_readable(tmp_path: Path) -> None:
    """Missing, binary and overlong Dockerfiles are errors about the file."""
    with pytest.raises(ProjectError, match="no such file"):
        dockerfile_text.read(tmp_path / "Dockerfile")
    (tmp_path / "binary").write_bytes(b"FROM \xff")
    with pytest.raises(ProjectError, match="UTF-8"):
        dockerfile_text.read(tmp_path / "binary")
    (tmp_path / "long").write_bytes(b"#" * (limits.DOCKERFILE_BYTES + 1))
    with pytest.raises(LimitError):
        dockerfile_text.read(tmp_path / "long")
    (tmp_path / "whole").write_bytes(b"#" * limits.DOCKERFILE_BYTES)
    assert len(dockerfile_text.read(tmp_path / "whole")) == limits.DOCKERFILE_BYTES


def test_deep_nesting_is_an_error_and_no_crash() -> None:
    """Thousands of nested variables do not end in a stack overflow."""
    with pytest.raises(TidewaiterError):
        prepare("FROM " + "${a:-" * 20_000 + "x" + "}" * 20_000 + "\n")


def test_frontend_is_an_image_where_it_is_used() -> None:
    """The image of `# syntax=` is pinned for BuildKit, and left alone for a builder that ignores the line."""
    text = "# escape=\\\n# syntax = docker/dockerfile:1\nFROM scratch\n# syntax=other/one\n"
    asked: list[str] = []

    def resolve(reference: RegistryReference) -> Digest:
        asked.append(str(reference))
        return DIGEST

    done = dockerfile_text.prepare(PATH, text, arguments={}, platform=AMD64, resolve=resolve, frontend=True)
    assert done.text.splitlines()[1] == f"# syntax=docker.io/docker/dockerfile@{DIGEST}"
    assert asked == ["docker.io/docker/dockerfile:1"]
    assert [one.name for one in done.origins] == asked
    assert prepare(text).text == text
