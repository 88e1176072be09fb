"""Rewrites proved: what counts as the same, and what is said of it."""

import msgspec
import pytest

from tidewaiter.inspection.facts import ImageFacts
from tidewaiter.pipelines.proving import compared, plain
from tidewaiter.sbom.component import Component

NUMPY, PYTEST, PLUGGY = "pkg:pypi/numpy@1.26.4", "pkg:pypi/pytest@8.0.0", "pkg:pypi/pluggy@1.5.0"


def _component(purl: str, *requires: str) -> Component:
    name, _, version = purl.rpartition("/")[2].partition("@")
    return Component(kind="python", name=name, version=version, purl=purl, ecosystem="PyPI", requires=requires)


FACTS = ImageFacts(
    reference="a",
    digest="sha256:" + "0" * 64,  # type: ignore[arg-type]  # no image is read
    os="linux",
    architecture="amd64",
    user="",
    runs_as_root=True,
    entrypoint=(),
    cmd=("/bin/sh", "-c", "python a.py"),
    env={"PATH": "/bin"},
    labels={},
    annotations={},
    exposed_ports=(),
    working_dir="/app",
    created="",
    operating_system=None,
    components=(_component(NUMPY), _component(PYTEST, PLUGGY), _component(PLUGGY)),
    programs=(),
    layers=(),
    size=1,
    unpacked_size=1,
)


def _after(**changes: object) -> ImageFacts:
    return msgspec.structs.replace(FACTS, **changes)


def test_what_a_rewrite_is_for_is_no_difference() -> None:
    """No shell around the command, no root, and no package that is no longer asked for or required."""
    after = _after(cmd=("python", "a.py"), user="65532:65532", runs_as_root=False, components=(_component(NUMPY),))
    assert compared(FACTS, after, frozenset({"pytest"})) == ((), (PLUGGY, PYTEST))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"components": (_component(NUMPY),)}, "pkg:pypi/pytest@8.0.0 is missing"),
        ({"components": (*FACTS.components, _component("pkg:pypi/x@1"))}, "pkg:pypi/x@1 is new"),
        ({"components": (_component("pkg:pypi/numpy@1.26.5"), *FACTS.components[1:])}, "numpy@1.26.4 is missing"),
        ({"env": {}}, "env was"),
        ({"working_dir": "/"}, "working_dir was"),
        ({"cmd": ("python",)}, "cmd was"),
        ({"entrypoint": ("x",)}, "entrypoint was"),
        ({"exposed_ports": ("80/tcp",)}, "exposed_ports was"),
        ({"unread": ("var/lib/dpkg/status: odd",)}, "could not be read"),
    ],
)
def test_every_other_difference_is_said(changes: dict[str, object], said: str) -> None:
    """Packages, variables, folder, command, ports, and what could not be read."""
    differences, _ = compared(FACTS, _after(**changes), frozenset())
    assert any(said in line for line in differences), differences


def test_root_does_not_come_back() -> None:
    """A rewrite may take root away, not give it."""
    before = _after(user="1000", runs_as_root=False)
    assert compared(before, FACTS, frozenset())[0] == ("user was '1000' and is ''",)


def test_what_stays_keeps_what_it_requires() -> None:
    """A package that is no longer asked for may not go when another one requires it."""
    needs = _component(NUMPY, PLUGGY)
    before, after = _after(components=(needs, _component(PLUGGY))), _after(components=(needs,))
    assert compared(before, after, frozenset({"pluggy"}))[0] == (f"{PLUGGY} is missing",)


def test_only_a_plain_command_is_the_same_without_its_shell() -> None:
    """Quotes and variables need the shell that reads them."""
    assert plain(("/bin/sh", "-c", "python a.py")) == ("python", "a.py")
    for line in ("python $A", "a && b", "echo 'a  b"):
        assert plain(("/bin/sh", "-c", line)) == ("/bin/sh", "-c", line)
