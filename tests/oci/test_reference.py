from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewaiter.core.errors import InputError
from tidewaiter.oci.digest import parse as parse_digest
from tidewaiter.oci.reference import (
    ArchiveReference,
    LayoutReference,
    Reference,
    RegistryReference,
    StoreReference,
    check_repository,
    check_tag,
    parse,
    parse_registry,
)

D = parse_digest("sha256:" + "a" * 64)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("store:vision/mnist:1.0", StoreReference("vision/mnist", "1.0")),
        ("vision/mnist:1.0", StoreReference("vision/mnist", "1.0")),
        ("vision/mnist", StoreReference("vision/mnist")),
        (f"mnist@{D}", StoreReference("mnist", None, D)),
        ("oci:/tmp/x:1", LayoutReference(Path("/tmp/x"), "1")),
        ("oci:/tmp/x:team/model:1", LayoutReference(Path("/tmp/x"), "team/model:1")),
        ("oci:/tmp/x", LayoutReference(Path("/tmp/x"))),
        ("oci:x", LayoutReference(Path("x"))),
        ("docker-archive:/tmp/x.tar", ArchiveReference(Path("/tmp/x.tar"), "docker-archive")),
        ("oci-archive:x.tar", ArchiveReference(Path("x.tar"), "oci-archive")),
        ("oci-archive:x.tar:1.0", ArchiveReference(Path("x.tar"), "oci-archive", "1.0")),
        ("oci-archive:/tmp/x.tar:team/it:1.0", ArchiveReference(Path("/tmp/x.tar"), "oci-archive", "team/it:1.0")),
        (
            "docker-archive:x.tar:r.example:5000/it:1",
            ArchiveReference(Path("x.tar"), "docker-archive", "r.example:5000/it:1"),
        ),
        ("docker-archive:x.tar:it", ArchiveReference(Path("x.tar"), "docker-archive", "it")),
        ("docker://python:3.11", RegistryReference("docker.io", "library/python", "3.11")),
        ("docker://team/x", RegistryReference("docker.io", "team/x")),
        ("docker.io/team/x:1", RegistryReference("docker.io", "team/x", "1")),
        ("index.docker.io/team/x:1", RegistryReference("docker.io", "team/x", "1")),
        ("localhost/x", RegistryReference("localhost", "x")),
        ("localhost:5000/a/b:1", RegistryReference("localhost:5000", "a/b", "1")),
        (f"r.example.com/a:1@{D}", RegistryReference("r.example.com", "a", "1", D)),
        (f"[::1]:5000/a@{D}", RegistryReference("[::1]:5000", "a", None, D)),
    ],
)
def test_names_are_read_as_the_field_reads_them(text: str, reference: Reference) -> None:
    """Every form that skopeo and docker users write means what it means there."""
    assert parse(text) == reference


@pytest.mark.parametrize(
    "text",
    [
        "", "UPPER/x", "a//b", "a/", "/a", "a:", "a:b:c", "a@sha256:12", "a@", "-a", "a..b", "a___b", "a b", "x\n",
        "\x00", "host.example/UPPER", "docker://", "docker://host.example:port/x", "docker://ho_st.example/x",
        "a" * 300, "a:" + "t" * 129, "a" * 5000, "oci-archive:x.tar:", "oci-archive:x.tar:a b", "docker-archive:x:A:1",
        "docker-archive:x:", "docker-archive:x:@0",
        f"docker-archive:x:it@{D}", "docker-archive:x:docker://it",
    ],
)  # fmt: skip
def test_what_is_no_name_is_refused(text: str) -> None:
    """Nonsense is bad input, and the error says what to write."""
    with pytest.raises(InputError) as caught:
        parse(text)
    assert caught.value.next_step


def test_a_file_with_a_colon_in_its_name_is_that_file(tmp_path: Path) -> None:
    """What is there under the full text is meant; else the path ends at the first colon."""
    written = f"oci-archive:{tmp_path}/x.tar:1.0"
    assert parse(written) == ArchiveReference(tmp_path / "x.tar", "oci-archive", "1.0")
    (tmp_path / "x.tar:1.0").touch()
    assert parse(written) == ArchiveReference(tmp_path / "x.tar:1.0", "oci-archive")
    assert parse(written + ":2") == ArchiveReference(tmp_path / "x.tar", "oci-archive", "1.0:2")
    assert parse("docker-archive:" + "a" * 3000) == ArchiveReference(Path("a" * 3000), "docker-archive")


@pytest.mark.parametrize("text", ["./x.tar", "../x.tar", "/abs/x.tar"])
def test_a_path_is_told_how_to_write_it(text: str) -> None:
    """Whoever forgot the transport is told which there are, with the path."""
    with pytest.raises(InputError, match="is a path") as caught:
        parse(text)
    assert f"docker-archive:{text} " in caught.value.next_step
    assert f"oci-archive:{text} " in caught.value.next_step


def test_a_reference_prints_without_its_transport() -> None:
    """In output a reference is what the user named, without the transport."""
    assert str(parse("store:a/b:1")) == "a/b:1"
    assert str(parse(f"localhost:5000/a:1@{D}")) == f"localhost:5000/a:1@{D}"
    assert str(parse("oci:/x:1")) == "/x:1"
    assert str(parse("oci-archive:/x.tar")) == "/x.tar"


def test_docker_hub_answers_under_another_name() -> None:
    """The host that is asked differs from the name for Docker Hub only."""
    assert parse_registry("python").api_host == "registry-1.docker.io"
    assert parse_registry("ghcr.io/a/b").api_host == "ghcr.io"


def test_the_target_is_the_digest_then_the_tag_then_latest() -> None:
    """What the manifest endpoint is asked for."""
    assert parse_registry(f"a:1@{D}").target == D
    assert parse_registry("a:1").target == "1"
    assert parse_registry("a").target == "latest"


def test_bounds_of_repository_and_tag() -> None:
    """255 and 128 characters are accepted, one more is not."""
    assert check_repository("a" * 255)
    assert check_tag("t" * 128)
    with pytest.raises(InputError):
        check_repository("a" * 256)
    with pytest.raises(InputError):
        check_tag("t" * 129)


_word = st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True)


@given(
    st.sampled_from(["r.example.com", "localhost:5000", "[::1]:5000"]),
    st.lists(_word, min_size=1, max_size=3),
    st.none() | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True),
    st.booleans(),
)
def test_a_printed_registry_reference_reads_back(host: str, parts: list[str], tag: str | None, by_digest: bool) -> None:
    """Printing and reading are inverse."""
    reference = RegistryReference(host, "/".join(parts), tag, D if by_digest else None)
    assert parse_registry(str(reference)) == reference
    assert parse(str(reference)) == reference
