"""Which environment a repository or namespace belongs to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewaiter.core.environments import ENVIRONMENTS, Environment
from tidewaiter.core.errors import RefusedError
from tidewaiter.core.settings import EnvironmentTable
from tidewaiter.policy import environments
from tidewaiter.policy.environments import NOTHING_SAID, Environments, Shadowed

SAID = Environments(
    (
        EnvironmentTable("research", ("play/**", "shop/sketches"), ("play", "west/lab-*")),
        EnvironmentTable("production", ("shop/*",), ("prod-*",)),
        EnvironmentTable("staging", ("shop/**",), ("west/*",)),
    ),
    "production",
)


@pytest.mark.parametrize(
    ("name", "environment"),
    [
        ("play/a/b", "research"),
        ("play", "production"),
        ("shop/till", "production"),
        ("shop/sketches", "production"),
        ("shop/till/old", "staging"),
        ("other", "production"),
        ("registry.example.org/play/a", "research"),
        ("registry:5000/shop/till/old", "staging"),
        ("localhost/play/a", "research"),
        ("elsewhere/play/a", "production"),
    ],
)
def test_the_strictest_table_that_fits_counts(name: str, environment: str) -> None:
    """Also of a name with its host; what none fits belongs to the default."""
    assert SAID.of_repository(name) == environment


@pytest.mark.parametrize(
    ("cluster", "namespace", "environment"),
    [
        ("east", "play", "research"),
        ("west", "play", "staging"),
        ("west", "lab-1", "staging"),
        ("east", "lab-1", "production"),
        ("west", "prod-1", "production"),
    ],
)
def test_namespaces_with_and_without_their_cluster(cluster: str, namespace: str, environment: str) -> None:
    """A pattern with a slash is of cluster and namespace, one without of the namespace in every cluster."""
    assert SAID.of_namespace(cluster, namespace) == environment


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("ghcr.io/corp/**", "GHCR.IO/corp/app"),
        ("ghcr.io/corp/**", "ghcr.io:443/corp/app"),
        ("GHCR.io:443/corp/**", "ghcr.io/corp/app"),
        ("registry/**", "registry:80/corp/app"),
        ("localhost:5000/corp/**", "LOCALHOST:5000/corp/app"),
        ("docker.io/corp/**", "Index.Docker.io/corp/app"),
        ("docker.io/corp/**", "registry-1.docker.io:443/corp/app"),
        ("index.docker.io/corp/**", "docker.io/corp/app"),
    ],
)
def test_another_spelling_of_a_host_is_no_way_around(pattern: str, name: str) -> None:
    """Case and the default port do not count, and Docker Hub has one name; another port is another registry."""
    said = Environments((EnvironmentTable("production", (pattern,), ()),), "research")
    assert said.of_repository(name) == "production"
    assert said.of_repository(name.replace("/corp", ":5001/corp", 1) if ":" not in name else "x:5001/corp/app") == (
        "research"
    )


def test_nothing_said_is_no_environment() -> None:
    """Without tables and default nobody is held to anything."""
    assert NOTHING_SAID.of_repository("a") is None
    assert NOTHING_SAID.of_namespace("a", "b") is None
    environments.require(NOTHING_SAID, "a", "research")


@given(st.sampled_from(("play/a", "shop/till", "shop/a/b", "x")), st.sampled_from(ENVIRONMENTS))
def test_only_stricter_is_accepted(name: str, wanted: Environment) -> None:
    """An environment that is as strict as the repository's, or stricter, may be asked for, and no other."""
    said = SAID.of_repository(name)
    assert said is not None
    if ENVIRONMENTS.index(wanted) >= ENVIRONMENTS.index(said):
        environments.require(SAID, name, wanted)
    else:
        with pytest.raises(RefusedError, match="milder") as caught:
            environments.require(SAID, name, wanted)
        assert caught.value.code == "milder_environment"


def test_an_image_that_goes_elsewhere_is_held_to_the_stricter_of_both() -> None:
    """Where it lies and where it is pushed to both speak."""
    assert environments.least(SAID, "play/a", "registry.example.org/shop/till") == "production"
    assert environments.least(SAID, "play/a", "registry.example.org/play/a") == "research"
    assert environments.least(NOTHING_SAID, "play/a", "b") is None


def test_patterns_that_decide_nothing_are_known() -> None:
    """The same pattern in a stricter table, or one there that fits everything; and those that fit nothing known."""
    said = Environments(
        (
            EnvironmentTable("research", ("a/*", "b"), ("c",)),
            EnvironmentTable("staging", ("a/*",)),
            EnvironmentTable("production", (), ("**",)),
        )
    )
    assert said.shadowed() == (
        Shadowed("research", "a/*", "a/*", "staging"),
        Shadowed("research", "c", "**", "production"),
    )
    assert said.unused_by_repositories(["a/x", "host.example/b"]) == ()
    assert said.unused_by_repositories(["x"]) == ("a/*", "b", "a/*")
    assert said.unused_by_namespaces([("west", "d")]) == ("c",)
