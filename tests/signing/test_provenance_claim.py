"""What a provenance claims: builder, source and commit, in one reading only."""

from typing import Any

import pytest
from negative_corpus_world import COMMIT, SOURCE, provenance

from tidewaiter.core.errors import InputError
from tidewaiter.signing import provenance_claim


def test_our_own_provenance_is_read() -> None:
    """Builder, repository without its commit, commit, run, and that nothing differed."""
    claim = provenance_claim.parse(provenance())
    assert (claim.builder, claim.source, claim.commit) == ("urn:tidewaiter:builder:ci", SOURCE, COMMIT)
    assert (claim.run, claim.dirty) == ("run-1", False)
    assert claim.is_by("ci")
    assert claim.is_by("urn:tidewaiter:builder:ci")
    assert not claim.is_by("c")
    assert not claim.is_by("urn:tidewaiter:builder:")


def test_a_dirty_tree_is_told() -> None:
    """Whatever stands at `dirty` but false means that files differed."""
    for mark, dirty in ((True, True), (False, False), ("no", True), (None, True)):
        assert provenance_claim.parse(provenance(annotations={"dirty": mark})).dirty is dirty


def test_a_repository_without_a_remote_has_no_url() -> None:
    """A commit is enough when both sides name no repository."""
    claim = provenance_claim.parse(
        provenance(
            external={"source": {"digest": {"gitCommit": COMMIT}}},
            dependencies=[{"name": "git", "digest": {"gitCommit": COMMIT}}],
        )
    )
    assert (claim.source, claim.commit) == ("", COMMIT)


@pytest.mark.parametrize(
    "source",
    [
        "https://git.example/a/b",
        "https://git.example:8443/a/b.git",
        "ssh://git@git.example/a/b.git",
        "ssh://git.example/~user/b",
        "http://10.0.0.1/a",
        "https://git.example/a/b/",
    ],
)
def test_plain_urls_are_read(source: str) -> None:
    """The repository's URL is what stands before the revision."""
    assert provenance_claim.parse(provenance(source=source)).source == source


@pytest.mark.parametrize(
    "source",
    [
        "https://user@git.example/a",
        "https://git.example/a/../b",
        "https://git.example/./b",
        "https://git.example/%2e%2e/b",
        "https://git.example\\@evil.example/b",
        "https://git.example/a b",
        "https://git.example/a\n",
        "https://git.example//a",
        "https://git.example/a?x=1",
        "https://git.example/a#x",
        "https://[::1]/a",
        "git.example/a",
        "HTTPS://git.example/a",
    ],
)
def test_other_urls_are_refused(source: str) -> None:
    """A name that two readers could take for two places is not read at all."""
    with pytest.raises(InputError):
        provenance_claim.parse(provenance(source=source))


def test_other_commits_among_the_dependencies_do_not_matter() -> None:
    """A submodule is a dependency with a commit of its own."""
    module = {"uri": f"git+https://git.example/vision/module@{'e' * 40}", "digest": {"gitCommit": "e" * 40}}
    own = {"uri": f"git+{SOURCE}@{COMMIT}", "digest": {"gitCommit": COMMIT}}
    assert provenance_claim.parse(provenance(dependencies=[module, own])).commit == COMMIT


@pytest.mark.parametrize("commit", ["a" * 40, "a" * 64])
def test_commits_of_both_lengths_are_read(commit: str) -> None:
    """SHA-1 and SHA-256 repositories."""
    assert provenance_claim.parse(provenance(commit=commit)).commit == commit


@pytest.mark.parametrize("commit", ["a" * 39, "a" * 41, "A" * 40, "", "a" * 40 + "\n", "main"])
def test_other_commits_are_refused(commit: str) -> None:
    """A commit is 40 or 64 lower-case hexadecimal digits."""
    with pytest.raises(InputError):
        provenance_claim.parse(provenance(commit=commit))


@pytest.mark.parametrize(
    "external",
    [
        {"source": {"uri": 5}},
        {"source": {"uri": f"git+{SOURCE}", "digest": {"gitCommit": 5}}},
        {"source": {"uri": f"git+{SOURCE}", "digest": [COMMIT]}},
        {"workflow": {"repository": [SOURCE]}},
        {"source": {"uri": f"git+{SOURCE}@{'f' * 40}", "digest": {"gitCommit": COMMIT}}},
        {},
    ],
    ids=str,
)
def test_a_source_that_is_not_named_is_refused(external: dict[str, Any]) -> None:
    """What was asked for must name the repository that the dependencies hold."""
    with pytest.raises(InputError):
        provenance_claim.parse(provenance(external=external))
